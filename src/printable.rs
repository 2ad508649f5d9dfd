//! Sanitises foreign text for a line of a log, an error message or a terminal.
//!
//! Model files and worker processes are untrusted. People, terminals and the models of clients read their texts, so escape sequences,
//! forged lines and invisible characters must be removed.

use std::sync::LazyLock;

use regex::Regex;

/// End of a text that was truncated.
const ELLIPSIS: char = '…';

/// Returns `text` as one printable line of at most `max_chars` characters.
///
/// Each run of control characters or line ends becomes one space. Characters that change the writing direction and invisible tag
/// characters, which disguise text, are removed. White space at both ends is trimmed. Text that is too long is truncated and ends in
/// `…`.
///
/// ```text
/// printable("two\r\nlines\x1b[31m", 64) == "two lines [31m"
/// printable("too long", 4) == "too…"
/// ```
pub(crate) fn printable(text: &str, max_chars: usize) -> String {
    let text = text.trim_matches(|c: char| c.is_whitespace() || is_break(c) || is_hidden(c));
    let mut line = String::new();
    let mut length = 0;
    for c in text.chars().filter(|c| !is_hidden(*c)) {
        if is_break(c) && line.ends_with(' ') {
            continue;
        }
        if length == max_chars {
            if line.pop().is_some() {
                line.push(ELLIPSIS);
            }
            break;
        }
        line.push(if is_break(c) { ' ' } else { c });
        length += 1;
    }
    line
}

/// Shortens every path in `text` to its file name, because clients must not learn where the server keeps its files.
///
/// A path begins with a slash or a drive letter. In backticks, it may contain spaces, and may be the relative path of a `.gguf` file.
///
/// ```text
/// without_folders("`/srv/my models/crab.gguf` is truncated") == "`crab.gguf` is truncated"
/// without_folders("/build/src/ggml.c:1234: failed") == "ggml.c:1234: failed"
/// ```
pub(crate) fn without_folders(text: &str) -> String {
    static QUOTED: LazyLock<Regex> =
        LazyLock::new(|| pattern(r"`(?:[A-Za-z]:)?[/\\][^`]*[/\\]|`[^`]*[/\\]([^`/\\]+\.gguf`)"));
    static PLAIN: LazyLock<Regex> =
        LazyLock::new(|| pattern(r#"(^|[\s('"=:|\[])(?:[A-Za-z]:)?[/\\](?:[^/\\\s`'"|]+[/\\])+"#));
    let text = QUOTED.replace_all(text, "`$1");
    PLAIN.replace_all(&text, "$1").into_owned()
}

fn pattern(pattern: &str) -> Regex {
    Regex::new(pattern).expect("the pattern is valid, as tests show")
}

/// Returns whether `c` is a control character, or ends a line or a paragraph.
fn is_break(c: char) -> bool {
    c.is_control() || matches!(c, '\u{2028}' | '\u{2029}')
}

/// Returns whether `c` changes the direction of text, or is an invisible character that no script needs.
fn is_hidden(c: char) -> bool {
    matches!(c, '\u{61c}' | '\u{200b}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}' | '\u{e0000}'..='\u{e007f}')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn paths_are_shortened_to_file_names() {
        for (text, expected) in [
            (
                "the model file `/srv/my models/crab.gguf` is truncated",
                "the model file `crab.gguf` is truncated",
            ),
            ("`models/a/crab.gguf`: broken", "`crab.gguf`: broken"),
            (r"`C:\Users\me\crab.gguf` is gone", "`crab.gguf` is gone"),
            (
                "signal 6; last output: /build/src/ggml.c:12: GGML_ASSERT(a/b) failed",
                "signal 6; last output: ggml.c:12: GGML_ASSERT(a/b) failed",
            ),
            ("a | /x/y/z.cpp:1 | at /a/b", "a | z.cpp:1 | at b"),
            (
                "`allow` and/or `image/png`, 3 / 4, https://a.example/b/c",
                "`allow` and/or `image/png`, 3 / 4, https://a.example/b/c",
            ),
        ] {
            assert_eq!(without_folders(text), expected);
        }
    }

    #[test]
    fn ordinary_text_is_unchanged() {
        for text in ["", "tiny crab 0.5B", "grüße, 世界 👩‍🔬", "two  spaces"] {
            assert_eq!(printable(text, 64), text);
        }
    }

    #[test]
    fn a_run_of_controls_or_line_ends_becomes_one_space() {
        assert_eq!(printable("a\r\n\u{85}\u{2028}b \n\tc\0", 64), "a b c");
        assert_eq!(
            printable("\u{1b}]0;title\u{7}\u{1b}[31mred", 64),
            "]0;title [31mred"
        );
    }

    #[test]
    fn characters_that_hide_or_reorder_text_are_removed() {
        assert_eq!(
            printable("safe\u{202e}gpj.\u{2066}\u{200f}exe\u{e0041}", 64),
            "safegpj.exe"
        );
    }

    #[test]
    fn a_long_text_is_truncated_and_ends_in_an_ellipsis() {
        assert_eq!(printable("grüße", 5), "grüße");
        assert_eq!(printable("grüße\n\n", 5), "grüße");
        assert_eq!(printable("grüße!", 5), "grüß…");
        assert_eq!(printable("text", 0), "");
    }

    proptest! {
        #[test]
        fn any_text_becomes_one_short_line_and_a_second_pass_changes_nothing(text in any::<String>(), max in 0_usize..20) {
            let line = printable(&text, max);
            prop_assert!(line.chars().count() <= max);
            prop_assert!(!line.chars().any(|c| is_break(c) || is_hidden(c)));
            prop_assert_eq!(printable(&line, max), line);
        }
    }
}
