//! Finds lines that may define a token or a key of `[server]`, in a file with a syntax error. Pure.
//!
//! Reads line by line, since the parser loses everything after an error. In case of doubt, a line counts, and the token or key keeps its
//! rights.

use crate::config::address::Address;
use crate::config::token::AUTH;

/// Returns whether a line of the TOML text `text` may define the token `name`.
pub(super) fn may_have_token(text: &str, name: &str) -> bool {
    if name == AUTH {
        return [AUTH, "auth_file"]
            .iter()
            .any(|key| may_have_key(text, key));
    }
    lines(text).any(|line| {
        if line.is_header {
            return line.table.starts_with(&["server", "tokens", name]);
        }
        let is_among_tokens = matches!(line.table.as_slice(), ["server"] | ["server", "tokens"])
            || places(&line.code, "tokens").next().is_some();
        has_part(&line.code, "tokens", name) || (is_among_tokens && sets(&line.code, name))
    })
}

/// Returns whether a line of the TOML text `text` may set `key` of `[server]`.
pub(super) fn may_have_key(text: &str, key: &str) -> bool {
    lines(text).any(|line| match line.table.as_slice() {
        ["server"] => sets(&line.code, key),
        _ => {
            has_part(&line.code, "server", key)
                || (places(&line.code, "server").next().is_some() && sets(&line.code, key))
        }
    })
}

/// Returns the keys whose values may contain one of the `errors`, given as offsets: those on the same line of `text`, and those on the line
/// before if it leaves a bracket open.
pub(super) fn keys_at(text: &str, errors: impl Iterator<Item = usize>) -> Vec<Address> {
    let lines: Vec<Line<'_>> = lines(text).collect();
    let ends: Vec<usize> = text.match_indices('\n').map(|(at, _)| at).collect();
    let key = |line: &Line<'_>| {
        let end = line.code.find(|c| !is_name(c)).unwrap_or(line.code.len());
        (end > 0).then(|| Address::new(line.table.iter().copied()).join(&line.code[..end]))
    };
    let is_open =
        |line: &&Line<'_>| line.code.matches('[').count() > line.code.matches(']').count();
    let at_error = |error: usize| {
        let number = ends.partition_point(|end| *end < error);
        let before = number.checked_sub(1).and_then(|before| lines.get(before));
        [before.filter(is_open), lines.get(number)]
    };
    let found = errors.flat_map(at_error).flatten();
    found.filter_map(key).collect()
}

/// A line of a TOML file.
struct Line<'text> {
    /// Parts of the last table header before or on the line.
    table: Vec<&'text str>,
    /// The line without comments, quotes, whitespace and quoted values.
    code: String,
    is_header: bool,
}

fn lines(text: &str) -> impl Iterator<Item = Line<'_>> {
    let mut table = Vec::new();
    text.lines().map(move |line| {
        let line = without_comment(line);
        let code = code_of(line);
        let is_header = (code.starts_with('[') && !code.ends_with(','))
            || (code.starts_with("server") && code.ends_with(']') && !code.contains('='));
        if is_header {
            let name = line.split(['[', ']']).find(|part| !part.trim().is_empty());
            let parts = name.unwrap_or_default().split('.');
            table = parts
                .map(|part| part.trim_matches(is_quote_or_blank))
                .collect();
        }
        Line {
            table: table.clone(),
            code,
            is_header,
        }
    })
}

/// Returns `line` without whitespace, quotes and quoted values. A quoted text is a value if no `.` or `=` follows.
fn code_of(line: &str) -> String {
    let is_header = line.trim_start().starts_with('[');
    let mut code = String::new();
    let mut rest = line;
    while let Some(at) = rest.find(['"', '\'']) {
        code.push_str(&rest[..at]);
        let quote = &rest[at..=at];
        let after = &rest[at + 1..];
        let (text, behind) = after.split_once(quote).unwrap_or((after, ""));
        if is_header || behind.trim_start().starts_with(['.', '=']) {
            code.push_str(text);
        }
        rest = behind;
    }
    code.push_str(rest);
    code.retain(|c| !c.is_whitespace());
    code
}

fn is_name(c: char) -> bool {
    c.is_alphanumeric() || c == '_' || c == '-'
}

fn is_quote_or_blank(c: char) -> bool {
    c.is_whitespace() || c == '"' || c == '\''
}

/// Returns `line` up to the first `#` outside quotes. A line that begins like a comment of another language is a comment, too.
fn without_comment(line: &str) -> &str {
    if line.trim_start().starts_with("//") || line.trim_start().starts_with(';') {
        return "";
    }
    let mut quote = None;
    for (at, c) in line.char_indices() {
        match (c, quote) {
            ('#', None) => return &line[..at],
            ('"' | '\'', None) => quote = Some(c),
            (c, Some(open)) if c == open => quote = None,
            _ => {}
        }
    }
    line
}

/// Returns the texts before and after each place where `word` is a whole word of `code`.
fn places<'code>(code: &'code str, word: &str) -> impl Iterator<Item = (&'code str, &'code str)> {
    let length = word.len();
    let found = code.match_indices(word);
    found
        .map(move |(at, _)| (&code[..at], &code[at + length..]))
        .filter(move |(before, after)| !before.ends_with(is_name) && !after.starts_with(is_name))
}

/// Returns whether `code` sets a value or a table of this name.
fn sets(code: &str, name: &str) -> bool {
    places(code, name).any(|(_, after)| after.starts_with(['=', '.']))
}

/// Returns whether `code` contains `table.key`.
fn has_part(code: &str, table: &str, key: &str) -> bool {
    places(code, key).any(|(before, _)| {
        let before = before.strip_suffix('.');
        before.is_some_and(|before| before.ends_with(table))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_found_only_where_a_token_can_be_defined() {
        for absent in [
            "# [server.tokens.bob]",
            "  \t#[server.tokens.bob]\n",
            "[server.tokens.alice] # bob.token left",
            "[server.tokens.bobby]",
            "[server.tokens.bob-2]",
            "[models.bob]\npath = \"x\"",
            "[models]\nbob.path = \"x\"",
            "models.bob.path = \"x\"",
            "[tools.x]\ndescription = \"made by bob\"\nmax_tokens = 3",
            "[server.tokens.alice]\ntools = [\"bob\"]",
            "[server]\nallowed_hosts = [\"bob\"]",
            "[server]\nauth_file = \"bob.tok\"\nallowed_origins = [\"https://bob.example\"]",
            "#[server.tokens.bob]\n[server]\ntoken_file = \"sec/bob.tok\"",
            "; [server.tokens.bob]",
            "// [server.tokens.bob]",
            "[old.server.tokens.bob]",
            "[tokens.bob]",
            "[models.x]\nsystem = \"see [server.tokens.bob]\"",
            "",
        ] {
            assert!(!may_have_token(absent, "bob"), "{absent}");
        }
        for present in [
            "[server.tokens.bob]",
            "[server.tokens.\"bob\"",
            "[ server . tokens . bob ]",
            "server.tokens.bob]",
            "server = { tokens = { alice = {}, bob = { token = ",
            "[server]\ntokens.bob = { token = 'x' }",
            "[server]\ntokens = {\n bob = { token = 'x' }",
            "[server.tokens]\n# bob\n  bob.token = = 1",
            "[server.tokens\nbob = { token_file = 'x' }",
            "\"\n[server.tokens.bob]",
            "<<<<<<< HEAD\n[server.tokens.bob]",
        ] {
            assert!(may_have_token(present, "bob"), "{present}");
        }
    }

    #[test]
    fn the_token_of_auth_is_found_by_its_keys() {
        for present in [
            "[server\nauth_file = \"root.tok\"",
            "[server]\nallowed_hosts = [\n  \"a\",\n]\nauth = \"x",
            "server.auth_file = \"root.tok\"",
            "server = { auth = 'x'",
        ] {
            assert!(may_have_token(present, AUTH), "{present}");
        }
        for absent in [
            "[server]\n# auth_file = \"root.tok\"",
            "[server]\nport = 1",
            "[tools.auth]\nprompt = \"auth\"",
        ] {
            assert!(!may_have_token(absent, AUTH), "{absent}");
        }
    }

    #[test]
    fn the_key_of_a_line_with_an_error_is_found() {
        let text = "[server.tokens.bob]\ntools = [small]\nmax_calls = 1\n";
        let key = |key| Address::new(["server", "tokens", "bob", key]);
        let (tools, calls) = (vec![key("tools")], vec![key("max_calls")]);
        assert_eq!(keys_at(text, text.find("small]").into_iter()), tools);
        assert_eq!(keys_at(text, text.find("= 1").into_iter()), calls);
        let open = "[server.tokens.bob]\ntools = [\"small\"\nmax_calls = 1\n";
        let both = [tools, calls].concat();
        assert_eq!(keys_at(open, open.find("= 1").into_iter()), both);
        assert!(keys_at("", [0].into_iter()).is_empty());
    }

    #[test]
    fn a_key_of_a_token_is_not_taken_for_one_of_the_server() {
        let text = "[server]\nport = 1\n[server.tokens.bob]\nmax_calls = 3\n[x";
        assert!(!may_have_key(text, "max_calls"));
        assert!(may_have_key("[server]\nmax_calls = 3\n[x", "max_calls"));
    }
}
