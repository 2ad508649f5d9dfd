//! Expands `~/` in paths, and gives hints for notations that only a shell or another program understands.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::Path;

/// Returns the home directory; `None` if the environment does not name one in UTF-8.
pub(crate) fn home(variables: &BTreeMap<String, String>) -> Option<&str> {
    let variable = if cfg!(windows) { "USERPROFILE" } else { "HOME" };
    let home = variables.get(variable)?;
    // A home directory that is not UTF-8 was read with replacement characters, and would name a different folder.
    Some(home.as_str())
        .filter(|home| !home.is_empty() && !home.contains(char::REPLACEMENT_CHARACTER))
}

/// Returns `path` with `home` in place of a leading `~`.
pub(crate) fn at_home<'path>(path: &'path str, home: Option<&str>) -> Cow<'path, str> {
    let separators: &[char] = if cfg!(windows) { &['/', '\\'] } else { &['/'] };
    let rest = path.strip_prefix('~');
    let rest = rest.filter(|rest| rest.is_empty() || rest.starts_with(separators));
    match (rest, home) {
        (Some(rest), Some(home)) => format!("{}{rest}", home.trim_end_matches(separators)).into(),
        _ => path.into(),
    }
}

/// Returns a hint for a shell variable in `path`.
pub(crate) fn shell_variable_hint(path: &str) -> Option<String> {
    let mut parts = path.split(['/', '\\']);
    parts.find_map(|part| {
        let name = part
            .strip_prefix("$env:")
            .or_else(|| part.strip_prefix('$'))
            .or_else(|| part.strip_prefix('%')?.strip_suffix('%'))?;
        let is_name = |letter: char| letter.is_ascii_alphanumeric() || letter == '_';
        (!name.is_empty() && name.chars().all(is_name)).then(|| {
            let home = match name {
                "HOME" | "USERPROFILE" => ", or `~/…`",
                _ => "",
            };
            format!("shell variables are not expanded: write `${{env:{name}}}/…`{home} in the file")
        })
    })
}

/// Returns a hint for a leading `~` in `path` that `home` cannot replace.
pub(crate) fn tilde_hint(path: &str, home: Option<&str>) -> Option<String> {
    (path.starts_with('~') && at_home(path, home) == path).then(|| unexpanded(path))
}

/// Returns the hint for a `~` at the beginning of `part` that was not replaced.
fn unexpanded(part: &str) -> String {
    let variable = if cfg!(windows) { "USERPROFILE" } else { "HOME" };
    if part == "~" || part.starts_with("~/") {
        return format!(
            "`~` stands for the home directory, and `{variable}` is not set, or is not UTF-8: write the full path"
        );
    }
    "only `~/` at the beginning stands for the home directory: write the full path".to_owned()
}

/// Returns the reference `${file:…}` for `text` if it looks like the path of a text file.
pub(crate) fn file_reference(text: &str) -> Option<String> {
    const ENDS: [&str; 7] = [
        ".jinja", ".jinja2", ".j2", ".txt", ".md", ".json", ".prompt",
    ];
    let has_start = ["~/", "./", "../"]
        .iter()
        .any(|begin| text.starts_with(begin));
    let lower = text.to_lowercase();
    let is_path = has_start
        || ENDS
            .iter()
            .any(|end| lower.ends_with(end) && lower.len() > end.len());
    let is_plain = !text.contains(|c: char| c.is_whitespace() || "{}\"'".contains(c));
    (is_path && is_plain).then(|| format!("${{file:{text}}}"))
}

/// Returns a hint for the `path` of a model if no file is there.
pub(crate) fn model_hint(path: &Path) -> Option<String> {
    let text = path.to_string_lossy();
    let parts = || text.split(['/', '\\']);
    if let Some(hint) = shell_variable_hint(&text) {
        return Some(hint);
    }
    if let Some(part) = parts().find(|part| part.starts_with('~')) {
        return Some(unexpanded(part));
    }
    let is_remote = |part: &str| {
        let part = part.to_lowercase();
        let schemes = [
            "hf:",
            "huggingface:",
            "https:",
            "http:",
            "ollama:",
            "docker:",
        ];
        part == "hf.co"
            || part == "huggingface.co"
            || schemes.iter().any(|scheme| part.starts_with(scheme))
    };
    if parts().any(is_remote) || is_repository(&text) {
        return Some(
            "models must be files on this machine: download the .gguf file, then write its path here"
                .into(),
        );
    }
    let name = path.file_name()?.to_string_lossy();
    let (model, tag) = name.split_once(':')?;
    (!model.is_empty() && !tag.is_empty() && !name.ends_with(".gguf")).then(|| {
        format!(
            "write the path of a .gguf file; if `{name}` is a model of Ollama, `ollama show --modelfile {name}` prints the path after `FROM`"
        )
    })
}

/// Returns whether `path` ends like a quantization in a repository of Hugging Face, such as `unsloth/Qwen3-4B-GGUF:Q4_K_M`.
fn is_repository(path: &str) -> bool {
    path.rsplit_once(':').is_some_and(|(repository, tag)| {
        let tag = tag.to_uppercase();
        let is_quantization = ["Q", "IQ", "UD-", "F16", "BF16", "F32", "MXFP"];
        repository.contains('/')
            && repository.to_lowercase().contains("gguf")
            && is_quantization.iter().any(|start| tag.starts_with(start))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_string_that_looks_like_a_path_is_recognised() {
        for text in ["~/system", "./a", "answer.schema.json", "Prompts/A.TXT"] {
            assert_eq!(file_reference(text), Some(format!("${{file:{text}}}")));
        }
        for text in [
            "/no_think",
            "Read a.txt",
            "json",
            ".md",
            "Be brief.",
            "{\"a\":1}.json",
        ] {
            assert_eq!(file_reference(text), None);
        }
    }

    #[test]
    fn a_leading_tilde_is_the_home_directory() {
        let path = |path: &'static str| at_home(path, Some("/home/me/")).into_owned();
        assert_eq!(path("~/m.gguf"), "/home/me/m.gguf");
        assert_eq!(path("~"), "/home/me");
        for other in ["~me/m.gguf", "a/~/m.gguf", "m~.gguf", ""] {
            assert_eq!(path(other), other);
        }
        assert_eq!(tilde_hint("~/m.gguf", Some("/home/me")), None);
        assert!(tilde_hint("~/m.gguf", None).unwrap().contains("is not set"));
        assert!(tilde_hint("~me/m.gguf", Some("/home/me")).is_some());
        assert_eq!(at_home("~/m.gguf", None), "~/m.gguf");
    }

    #[test]
    fn names_of_models_in_other_programs_get_a_hint() {
        let hint = |path: &str| model_hint(Path::new(path)).unwrap_or_default();
        assert!(hint("/etc/$HOME/m.gguf").contains("`${env:HOME}/…`, or `~/…`"));
        assert!(hint("/etc/%MODELS%/m.gguf").contains("`${env:MODELS}/…`"));
        assert!(hint("/etc/~me/m.gguf").contains("the full path"));
        for remote in [
            "/etc/hf:org/repo:Q4_K_M",
            "/etc/https://example.com/m.gguf",
            "hf.co/org/repo",
            "/etc/unsloth/Qwen3-4B-GGUF:Q4_K_M",
            "/etc/huggingface://org/repo/m.gguf",
        ] {
            assert!(hint(remote).contains("download the .gguf file"), "{remote}");
        }
        assert!(hint("/etc/llama3.2:3b").contains("ollama show --modelfile llama3.2:3b"));
        for plain in [
            "/models/m.gguf",
            "m-00001-of-00002.gguf",
            "a:b.gguf",
            "100%.gguf",
            "$",
        ] {
            assert_eq!(model_hint(Path::new(plain)), None, "{plain}");
        }
    }
}
