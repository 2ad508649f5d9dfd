//! Interpolates `${env:NAME}`, `${env:NAME:-default}` and `${file:PATH}` in the strings of a file. `$${` is a literal `${`.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use super::paths;

/// Maximum size of a configuration or an interpolated file, in bytes. Templates and prompts have some kilobytes.
const MAX_FILE: u64 = 1 << 20;

/// Reads the text of a file of the configuration.
///
/// # Errors
/// The file is missing or too long, or is not a regular file: a pipe might never end.
pub(crate) fn read_text(path: &Path) -> io::Result<String> {
    check_length(path)?;
    into_text(std::fs::read(path)?)
}

/// Message for a model that is given as a configuration.
const IS_MODEL: &str = "it is a model; use `--model`, or name it as the `path` of a model";

/// Returns whether a file that begins with `bytes` is a GGUF file.
fn is_model(bytes: &[u8]) -> bool {
    bytes.starts_with(b"GGUF")
}

/// Returns `bytes` as text.
///
/// # Errors
/// They are not UTF-8.
fn into_text(bytes: Vec<u8>) -> io::Result<String> {
    String::from_utf8(bytes).map_err(|error| {
        let bytes = error.as_bytes();
        let what = if is_model(bytes) {
            IS_MODEL.to_owned()
        } else if bytes.starts_with(b"\xff\xfe") || bytes.starts_with(b"\xfe\xff") {
            "it is in UTF-16; save it in UTF-8".to_owned()
        } else {
            let valid = String::from_utf8_lossy(&bytes[..error.utf8_error().valid_up_to()]);
            let line = 1 + valid.matches('\n').count();
            format!("line {line} is not UTF-8; save the file in UTF-8")
        };
        io::Error::new(io::ErrorKind::InvalidInput, what)
    })
}

/// Reads the text of a file of the configuration like [`read_text`], but replaces bytes that are not UTF-8.
///
/// # Errors
/// Those of [`read_text`], except for the encoding.
pub(crate) fn read_lossy(path: &Path) -> io::Result<String> {
    check_length(path)?;
    Ok(String::from_utf8_lossy(&std::fs::read(path)?).into_owned())
}

/// Checks that `path` is a regular file that is not too long.
fn check_length(path: &Path) -> io::Result<()> {
    let metadata = std::fs::metadata(path)?;
    let invalid = |text: String| Err(io::Error::new(io::ErrorKind::InvalidInput, text));
    if metadata.is_dir() {
        return invalid("it is a folder; name a file in it".into());
    }
    if !metadata.is_file() {
        return invalid("it is a pipe or a device; save its text to a file".into());
    }
    if metadata.len() > MAX_FILE {
        let mut start = [0; 4];
        File::open(path)?.read_exact(&mut start)?;
        return invalid(if is_model(&start) {
            IS_MODEL.into()
        } else {
            too_long()
        });
    }
    Ok(())
}

/// Reads the text of a configuration from a pipe, up to its end.
///
/// # Errors
/// The text is too long or not UTF-8, or the pipe fails.
pub(crate) fn read_pipe(pipe: impl Read) -> io::Result<String> {
    let mut bytes = Vec::new();
    pipe.take(MAX_FILE + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_FILE {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, too_long()));
    }
    into_text(bytes)
}

fn too_long() -> String {
    format!("it has more than {MAX_FILE} bytes; shorten it")
}

/// Variables and files that `${…}` can refer to, and a record of those that it did.
#[derive(Debug)]
pub(crate) struct Scope<'around> {
    /// Environment variables.
    pub variables: &'around BTreeMap<String, String>,
    /// Folder that relative paths start from.
    pub folder: &'around Path,
    /// Files that were referred to, in order, whether or not they could be read.
    pub files: Vec<PathBuf>,
    /// Variables that were referred to, in order.
    pub read: Vec<String>,
}

/// Error of an interpolation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct InterpolationError {
    /// The error message.
    pub message: String,
    /// How to fix it.
    pub hint: Option<String>,
}

impl InterpolationError {
    fn new(message: String, hint: &str) -> Self {
        Self {
            message,
            hint: Some(hint.into()),
        }
    }
}

/// Returns `text` with each `${…}` replaced. Returns `None` if `text` has no `${`. For example, `${env:MODELS}/small.gguf` becomes
/// `/data/small.gguf` if `MODELS=/data`.
///
/// # Errors
/// A variable is not set, a file cannot be read, or a `${…}` is neither.
pub(crate) fn interpolate(
    text: &str,
    scope: &mut Scope<'_>,
) -> Result<Option<String>, InterpolationError> {
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
            InterpolationError::new(
                "missing `}` after `${`".into(),
                "write `$${` for a literal `${`",
            )
        })?;
        if after[..end].contains("${") {
            let message = "`${…}` cannot be nested".into();
            let hint = "use plain text as the default";
            return Err(InterpolationError::new(message, hint));
        }
        result.push_str(before);
        result.push_str(&value_of(&after[..end], scope)?);
        rest = &after[end + 1..];
    }
    result.push_str(rest);
    Ok(Some(result))
}

/// Returns the value that replaces `${name}`.
fn value_of(name: &str, scope: &mut Scope<'_>) -> Result<String, InterpolationError> {
    match name.split_once(':') {
        Some(("env", variable)) => {
            let (variable, default) = match variable.split_once(":-") {
                Some((variable, default)) => (variable, Some(default)),
                None => (variable, None),
            };
            scope.read.push(variable.to_owned());
            let value = scope
                .variables
                .get(variable)
                .filter(|value| !value.is_empty() || default.is_none());
            value
                .map(String::as_str)
                .or(default)
                .map(str::to_owned)
                .ok_or_else(|| {
                    let hint = format!("set it, or give a default: `${{env:{variable}:-…}}`");
                    InterpolationError::new(
                        format!("the environment variable `{variable}` is not set"),
                        &hint,
                    )
                })
        }
        Some(("file", path)) => {
            let path = paths::at_home(path, paths::home(scope.variables));
            let path = scope.folder.join(&*path);
            // Recorded even if it is missing, since it may appear later.
            scope.files.push(path.clone());
            let text = read_text(&path).map_err(|error| InterpolationError {
                message: format!("could not read `{}`: {error}", path.display()),
                hint: None,
            })?;
            // Editors end files with a line break, which is not a part of a token or a template.
            let trimmed = text.strip_suffix('\n').unwrap_or(&text);
            Ok(trimmed.strip_suffix('\r').unwrap_or(trimmed).to_owned())
        }
        _ => Err(InterpolationError::new(
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

    fn interpolated(text: &str) -> Result<Option<String>, String> {
        let variables = [("HOME_DIR", "/data"), ("EMPTY", "")];
        let variables = variables
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into();
        let mut scope = Scope {
            variables: &variables,
            folder: Path::new("tests/models"),
            files: Vec::new(),
            read: Vec::new(),
        };
        interpolate(text, &mut scope).map_err(|error| error.message)
    }

    #[test]
    fn variables_and_defaults_are_interpolated() {
        let text = |text: &str| interpolated(text).unwrap().unwrap();
        assert_eq!(text("${env:HOME_DIR}/m.gguf"), "/data/m.gguf");
        assert_eq!(text("${env:NONE:-7}"), "7");
        assert_eq!(text("${env:EMPTY:-7}"), "7");
        assert_eq!(text("${env:EMPTY}"), "");
        assert_eq!(text("a $${b} ${env:HOME_DIR}"), "a ${b} /data");
        assert_eq!(interpolated("cost: $5"), Ok(None));
    }

    #[test]
    fn errors_name_the_reference_that_cannot_be_resolved() {
        let error = |text: &str| interpolated(text).unwrap_err();
        assert_eq!(
            error("${env:NONE}"),
            "the environment variable `NONE` is not set"
        );
        assert_eq!(error("${env:HOME_DIR"), "missing `}` after `${`");
        assert_eq!(
            error("${x}"),
            "`${x}` is neither `${env:NAME}` nor `${file:PATH}`"
        );
        assert_eq!(
            error("${file:none.txt}"),
            "could not read `tests/models/none.txt`: No such file or directory (os error 2)"
        );
    }
}
