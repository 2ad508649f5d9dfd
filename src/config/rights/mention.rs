//! Where a file with a syntax error may still name a token or a key of `[server]`: pure, and line by line, since the parser loses what is
//! behind an error.
//!
//! In case of doubt, a line counts: the token or key then keeps the rights that it has.

use crate::config::token::AUTH;

/// Returns whether a line of the TOML text `text` may define the token `name`.
pub(super) fn may_have_token(text: &str, name: &str) -> bool {
    if name == AUTH {
        return [AUTH, "auth_file"]
            .iter()
            .any(|key| may_have_key(text, key));
    }
    lines(text).any(|(table, code)| {
        let is_among_tokens = matches!(table.as_slice(), ["server"] | ["server", "tokens"])
            || places(&code, "tokens").next().is_some();
        has_part(&code, "tokens", name) || (is_among_tokens && sets(&code, name))
    })
}

/// Returns whether a line of the TOML text `text` may set `key` of `[server]`.
pub(super) fn may_have_key(text: &str, key: &str) -> bool {
    lines(text).any(|(table, code)| match table.as_slice() {
        ["server"] => sets(&code, key),
        _ => {
            has_part(&code, "server", key)
                || (places(&code, "server").next().is_some() && sets(&code, key))
        }
    })
}

/// Returns the lines of `text` without comments, quotes and blanks, each with the parts of the last table header up to it.
fn lines(text: &str) -> impl Iterator<Item = (Vec<&str>, String)> {
    let mut table = Vec::new();
    text.lines().map(move |line| {
        let line = without_comment(line);
        let code: String = line.chars().filter(|c| !is_quote_or_blank(*c)).collect();
        let is_header = code.starts_with('[') && !code.ends_with(',');
        if is_header || (code.starts_with("server") && code.ends_with(']') && !code.contains('=')) {
            let name = line.split(['[', ']']).find(|part| !part.trim().is_empty());
            let parts = name.unwrap_or_default().split('.');
            table = parts
                .map(|part| part.trim_matches(is_quote_or_blank))
                .collect();
        }
        (table.clone(), code)
    })
}

fn is_quote_or_blank(c: char) -> bool {
    c.is_whitespace() || c == '"' || c == '\''
}

/// Returns `line` up to the first `#` outside quotes.
fn without_comment(line: &str) -> &str {
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
    let is_part = |c: char| c.is_alphanumeric() || c == '_' || c == '-';
    let length = word.len();
    let found = code.match_indices(word);
    found
        .map(move |(at, _)| (&code[..at], &code[at + length..]))
        .filter(move |(before, after)| !before.ends_with(is_part) && !after.starts_with(is_part))
}

/// Returns whether `code` has a value, or a table, of this name.
fn sets(code: &str, name: &str) -> bool {
    places(code, name).any(|(_, after)| after.starts_with(['=', '.']))
}

/// Returns whether `code` has `TABLE.KEY`.
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
    fn a_token_is_named_only_where_a_token_can_stand() {
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
    fn the_token_of_auth_is_named_by_its_keys() {
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
    fn a_key_of_the_server_is_not_one_of_a_token() {
        let text = "[server]\nport = 1\n[server.tokens.bob]\nmax_calls = 3\n[x";
        assert!(!may_have_key(text, "max_calls"));
        assert!(may_have_key("[server]\nmax_calls = 3\n[x", "max_calls"));
    }
}
