//! Reports the syntax errors of a file.

use std::sync::Arc;

use super::Layers;
use crate::config::problem::Problem;
use crate::config::source_text::SourceText;

impl Layers {
    /// Reports the syntax errors of `source`. A Windows path in double quotes has several errors, and is reported once, with a hint.
    pub(super) fn report_syntax(&mut self, source: &Arc<SourceText>) {
        let mut path_line = None;
        for (message, place) in &source.syntax {
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
    use super::has_windows_path;

    #[test]
    fn a_windows_path_is_recognised_in_double_quotes_only() {
        assert!(has_windows_path(r#"path = "C:\Users\me\model.gguf""#));
        assert!(has_windows_path(r#"path = "\\server\models\m.gguf""#));
        assert!(!has_windows_path(r"path = 'C:\Users\me\model.gguf'"));
        assert!(!has_windows_path(r#"prompt = "Text:\n{{ text }}""#));
    }
}
