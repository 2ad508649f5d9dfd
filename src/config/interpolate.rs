//! `${env:NAME}`, `${env:NAME:-default}` and `${file:PATH}` in the texts of a file; `$${` is `${` itself.

use std::collections::BTreeMap;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use super::paths;

/// The longest file that is put into a text: templates and prompts have some kilobytes.
const MAX_FILE: u64 = 1 << 20;

/// Reads the text of a file of the configuration.
///
/// # Errors
/// The file is missing or too long, or is a folder, or a pipe, which might never end.
pub(crate) fn read_text(path: &Path) -> io::Result<String> {
    check_length(path)?;
    std::fs::read_to_string(path)
}

/// Reads the text of a file of the configuration like [`read_text`], but replaces bytes that are not UTF-8.
///
/// # Errors
/// Those of [`read_text`], except for the encoding.
pub(crate) fn read_lossy(path: &Path) -> io::Result<String> {
    check_length(path)?;
    Ok(String::from_utf8_lossy(&std::fs::read(path)?).into_owned())
}

/// Checks that the file at `path` can be read as a text.
fn check_length(path: &Path) -> io::Result<()> {
    let metadata = std::fs::metadata(path)?;
    let wrong = |text: String| Err(io::Error::new(io::ErrorKind::InvalidInput, text));
    if metadata.is_dir() {
        return wrong("it is a folder; name a file in it".into());
    }
    if !metadata.is_file() {
        return wrong("it is a pipe or a device; save its text to a file".into());
    }
    if metadata.len() > MAX_FILE {
        return wrong(too_long(metadata.len()));
    }
    Ok(())
}

/// Reads the text of a configuration from a pipe, up to its end.
///
/// # Errors
/// The text is too long or not UTF-8, or the pipe fails.
pub(crate) fn read_pipe(pipe: impl Read) -> io::Result<String> {
    let mut text = String::new();
    pipe.take(MAX_FILE + 1).read_to_string(&mut text)?;
    match text.len() as u64 {
        ..=MAX_FILE => Ok(text),
        length => Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            too_long(length),
        )),
    }
}

fn too_long(bytes: u64) -> String {
    format!("it has {bytes} bytes or more, and at most {MAX_FILE} are read")
}

/// What texts may name.
#[derive(Debug)]
pub(crate) struct Names<'around> {
    /// The environment.
    pub variables: &'around BTreeMap<String, String>,
    /// Where relative paths start.
    pub folder: &'around Path,
    /// The named files, in order, whether or not they could be read.
    pub files: Vec<PathBuf>,
    /// The variables that were read, in order.
    pub read: Vec<String>,
}

/// A text that could not be made, and the way out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Unresolved {
    /// What is wrong.
    pub message: String,
    /// The way out.
    pub hint: Option<String>,
}

impl Unresolved {
    fn new(message: String, hint: &str) -> Self {
        Self {
            message,
            hint: Some(hint.into()),
        }
    }
}

/// `text` with everything put in; none where there is nothing to put in.
///
/// # Errors
/// An unknown variable, a file that cannot be read, or a `${` that is neither.
pub(crate) fn interpolate(text: &str, names: &mut Names<'_>) -> Result<Option<String>, Unresolved> {
    if !text.contains("${") {
        return Ok(None);
    }
    let mut result = String::new();
    let mut rest = text;
    while let Some(at) = rest.find("${") {
        let (before, after) = (&rest[..at], &rest[at + 2..]);
        if let Some(before) = before.strip_suffix('$') {
            result.push_str(before);
            result.push_str("${");
            rest = after;
            continue;
        }
        let end = after.find('}').ok_or_else(|| {
            Unresolved::new("`${` has no `}`".into(), "write `$${` for a literal `${`")
        })?;
        if after[..end].contains("${") {
            let message = "a `${…}` stands inside another one".into();
            return Err(Unresolved::new(
                message,
                "give a default that is plain text",
            ));
        }
        result.push_str(before);
        result.push_str(&value_of(&after[..end], names)?);
        rest = &after[end + 1..];
    }
    result.push_str(rest);
    Ok(Some(result))
}

fn value_of(name: &str, names: &mut Names<'_>) -> Result<String, Unresolved> {
    match name.split_once(':') {
        Some(("env", variable)) => {
            let (variable, default) = match variable.split_once(":-") {
                Some((variable, default)) => (variable, Some(default)),
                None => (variable, None),
            };
            names.read.push(variable.to_owned());
            let value = names
                .variables
                .get(variable)
                .filter(|value| !value.is_empty() || default.is_none());
            value
                .map(String::as_str)
                .or(default)
                .map(str::to_owned)
                .ok_or_else(|| {
                    let hint = format!("set it, or give a default: `${{env:{variable}:-…}}`");
                    Unresolved::new(
                        format!("the environment variable `{variable}` is not set"),
                        &hint,
                    )
                })
        }
        Some(("file", path)) => {
            let path = paths::at_home(path, paths::home(names.variables));
            let path = names.folder.join(&*path);
            // A missing file may appear later.
            names.files.push(path.clone());
            let text = read_text(&path).map_err(|error| Unresolved {
                message: format!("could not read `{}`: {error}", path.display()),
                hint: None,
            })?;
            // Editors end files by a line break, which is not part of a token or a template.
            let trimmed = text.strip_suffix('\n').unwrap_or(&text);
            Ok(trimmed.strip_suffix('\r').unwrap_or(trimmed).to_owned())
        }
        _ => Err(Unresolved::new(
            format!("`${{{name}}}` is neither `${{env:NAME}}` nor `${{file:PATH}}`"),
            &format!(
                "write `${{env:{name}}}` for the variable `{name}`, or `$${{` for a literal `${{`"
            ),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(text: &str) -> Result<Option<String>, String> {
        let variables = [("HOME_DIR", "/data"), ("EMPTY", "")];
        let variables = variables
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into();
        let mut names = Names {
            variables: &variables,
            folder: Path::new("tests/models"),
            files: Vec::new(),
            read: Vec::new(),
        };
        interpolate(text, &mut names).map_err(|error| error.message)
    }

    #[test]
    fn variables_defaults_and_literals_are_put_in() {
        let text = |text: &str| made(text).unwrap().unwrap();
        assert_eq!(text("${env:HOME_DIR}/m.gguf"), "/data/m.gguf");
        assert_eq!(text("${env:NONE:-7}"), "7");
        assert_eq!(text("${env:EMPTY:-7}"), "7");
        assert_eq!(text("${env:EMPTY}"), "");
        assert_eq!(text("a $${b} ${env:HOME_DIR}"), "a ${b} /data");
        assert_eq!(made("cost: $5"), Ok(None));
    }

    #[test]
    fn what_cannot_be_put_in_is_told() {
        let refusal = |text: &str| made(text).unwrap_err();
        assert_eq!(
            refusal("${env:NONE}"),
            "the environment variable `NONE` is not set"
        );
        assert_eq!(refusal("${env:HOME_DIR"), "`${` has no `}`");
        assert_eq!(
            refusal("${x}"),
            "`${x}` is neither `${env:NAME}` nor `${file:PATH}`"
        );
        assert_eq!(
            refusal("${file:none.txt}"),
            "could not read `tests/models/none.txt`: No such file or directory (os error 2)"
        );
    }
}
