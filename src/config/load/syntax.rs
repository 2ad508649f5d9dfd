//! Reports the syntax errors of a file.

use std::ops::Range;
use std::sync::Arc;

use super::Layers;
use crate::config::problem::Problem;
use crate::config::source_text::SourceText;

/// A syntax error: the message, and its place if it is known.
type SyntaxError = (String, Option<Range<usize>>);

/// Number of syntax errors up to which all are reported; see [`worth_reporting`].
const MAX_ERRORS: usize = 4;

/// Hint for a file that is not in TOML.
const TOML_HINT: &str = "write it in TOML, such as `[models.small]` with a line `path = \"small.gguf\"`; `llama-mcp-server config init` prints an example";

impl Layers {
    /// Reports the syntax errors of `source`: once for a file in another format, and once for a Windows path in double quotes, which causes
    /// several errors. Returns whether the file is in TOML.
    pub(super) fn report_syntax(&mut self, source: &Arc<SourceText>) -> bool {
        if let (Some((_, place)), Some(format)) =
            (source.syntax.first(), other_format(&source.text))
        {
            let message = format!("the file is in {format}, but the configuration is in TOML");
            let mut problem = Problem::of_syntax(source, &message, place.clone());
            problem.hint = Some(TOML_HINT.into());
            self.problems.push(problem);
            return false;
        }
        let mut path_line = None;
        for (message, place) in worth_reporting(&source.syntax) {
            let line = place
                .as_ref()
                .map(|place| line_at(&source.text, place.start));
            let is_path = line.is_some_and(|line| has_windows_path(&source.text[line.0..line.1]));
            if is_path && path_line == line {
                continue;
            }
            let mut problem = Problem::of_syntax(source, message, place.clone());
            if is_path {
                path_line = line;
                problem.hint = Some(
                    "`\\` begins an escape in double quotes: write a Windows path in single quotes ('C:\\…'), or with `/`"
                        .into(),
                );
            }
            self.problems.push(problem);
        }
        true
    }
}

/// Returns the `errors` to report. An unclosed bracket causes errors in the lines after it, and then an error that says `unclosed`. If there
/// are more than [`MAX_ERRORS`], those between the first one and the last `unclosed` one are omitted.
fn worth_reporting(errors: &[SyntaxError]) -> impl Iterator<Item = &SyntaxError> {
    let mut rest = errors.iter();
    let unclosed = rest.rposition(|(message, _)| message.starts_with("unclosed "));
    let omitted = match unclosed {
        Some(unclosed) if errors.len() > MAX_ERRORS => 1..unclosed,
        _ => 0..0,
    };
    let numbered = errors.iter().enumerate();
    numbered
        .filter(move |(at, _)| !omitted.contains(at))
        .map(|(_, error)| error)
}

/// Returns the format of `text` if it is JSON or YAML instead of TOML. The first line that is neither empty nor a comment shows it.
fn other_format(text: &str) -> Option<&'static str> {
    let mut lines = text.trim_start_matches('\u{feff}').lines().map(str::trim);
    let first = lines.find(|line| !line.is_empty() && !line.starts_with('#') && *line != "---")?;
    let is_name = |key: &str| {
        !key.is_empty()
            && key
                .chars()
                .all(|c| c.is_alphanumeric() || matches!(c, '_' | '-' | '.'))
    };
    let key = first.split_once(':').map(|(key, _)| key.trim());
    match key {
        _ if first.starts_with('{') => Some("JSON"),
        Some(key) if is_name(key) => Some("YAML"),
        _ => None,
    }
}

/// Returns the offsets at which the line around the offset `at` of `text` begins and ends.
fn line_at(text: &str, at: usize) -> (usize, usize) {
    let before = text.get(..at).unwrap_or(text);
    let start = before.rfind('\n').map_or(0, |at| at + 1);
    let end = text[start..]
        .find('\n')
        .map_or(text.len(), |end| start + end);
    (start, end)
}

/// Returns whether `line` has a path such as `C:\models` or `\\server\models` in double quotes.
fn has_windows_path(line: &str) -> bool {
    line.split('"').skip(1).step_by(2).any(|text| {
        let drive = text.split_once(":\\").map(|(drive, _)| drive);
        text.starts_with("\\\\")
            || drive.is_some_and(|drive| drive.len() == 1 && drive.starts_with(char::is_alphabetic))
    })
}

#[cfg(test)]
mod tests {
    use super::{has_windows_path, other_format, worth_reporting};

    #[test]
    fn a_bracket_that_is_not_closed_hides_the_errors_that_it_causes() {
        let errors = |messages: &[&str]| {
            messages
                .iter()
                .map(|text| ((*text).to_owned(), None))
                .collect::<Vec<_>>()
        };
        let reported = |messages: &[&str]| {
            let errors = errors(messages);
            let reported = worth_reporting(&errors).map(|(message, _)| message.clone());
            reported.collect::<Vec<_>>()
        };
        let many = ["missing comma", "a", "b", "c", "unclosed array", "d"];
        assert_eq!(reported(&many), ["missing comma", "unclosed array", "d"]);
        assert_eq!(reported(&many[..4]), many[..4]);
        assert_eq!(reported(&["a", "unclosed table"]), ["a", "unclosed table"]);
        assert_eq!(reported(&[]), [""; 0]);
    }

    #[test]
    fn the_first_line_shows_the_format_of_a_file() {
        let cases = [
            ("{\n  \"models\": {}\n}", Some("JSON")),
            ("# models\n---\nmodels:\n  small:\n", Some("YAML")),
            ("transport: http\n", Some("YAML")),
            ("[models.small]\npath = \"a:b.gguf\n", None),
            ("path = 'C:\\m.gguf'", None),
            ("", None),
        ];
        for (text, format) in cases {
            assert_eq!(other_format(text), format, "{text}");
        }
    }

    #[test]
    fn a_windows_path_is_recognised_in_double_quotes_only() {
        assert!(has_windows_path(r#"path = "C:\Users\me\model.gguf""#));
        assert!(has_windows_path(r#"path = "\\server\models\m.gguf""#));
        assert!(!has_windows_path(r"path = 'C:\Users\me\model.gguf'"));
        assert!(!has_windows_path(r#"prompt = "Text:\n{{ text }}""#));
    }
}
