//! Tests of revocation by rejected configurations.

use super::*;
use crate::config::{Config, Transport};
use crate::process::Cpus;

const BEFORE: &str = "[server]
transport = \"http\"
auth = \"roots\"
allowed_hosts = [\"a.example\", \"b.example\"]
max_calls = 50
[server.tokens.alice]
token = \"alices\"
[server.tokens.small]
token = \"smalls\"
[models.small]
path = \"tests/models/tiny-crab-chat.Q8_0.gguf\"
";

fn around() -> Surroundings {
    Surroundings {
        program: None,
        cpus: Cpus::single(1),
        variables: std::collections::BTreeMap::new(),
        folders: Vec::new(),
    }
}

/// Returns the active configuration with this text.
fn active(text: &str) -> HttpConfig {
    let typed = Overrides {
        config: Some("-".into()),
        config_text: Some(text.into()),
        ..Overrides::default()
    };
    match Config::load(&typed, &around()).map(|(config, _)| config.transport) {
        Ok(Transport::Http(http)) => *http,
        other => panic!("{other:?}"),
    }
}

/// Returns the rights of [`BEFORE`] that the rejected configuration with this text leaves.
fn narrowed(text: &str) -> HttpConfig {
    let text = text.to_owned();
    let rights = Rights::of_text(&Overrides::default(), &around(), Path::new("x.toml"), text);
    rights.unwrap().narrow(&active(BEFORE), &[])
}

/// Returns the names of the tokens that still work.
fn working(http: &HttpConfig) -> Vec<&str> {
    let tokens = http.tokens.iter().filter(|token| token.secret.is_ok());
    tokens.map(|token| token.name.as_str()).collect()
}

fn alice(text: &str) -> TokenConfig {
    let http = narrowed(&BEFORE.replace("\"alices\"\n", &format!("\"alices\"\n{text}\n")));
    let mut tokens = http.tokens.iter();
    let alice = tokens.find(|token| token.name == "alice").unwrap();
    TokenConfig::clone(alice)
}

#[test]
fn a_token_with_an_unreadable_list_of_tools_gets_none() {
    for tools in [
        "\"small\"",
        "[\"small\", 1]",
        "\"\"",
        "false",
        "{}",
        "3",
        "[\"small\"",
        "[\"${env:GONE}\"]",
    ] {
        let alice = alice(&format!("tools = {tools}"));
        assert_eq!(alice.tools, Some(Arc::default()), "{tools}");
        assert!(!alice.is_scraper, "{tools}");
    }
}

#[test]
fn an_unreadable_limit_is_its_number_or_no_calls() {
    for (key, max_calls, calls_per_minute) in [
        ("max_calls = 0", Some(0), None),
        ("max_calls = \"2\"", Some(2), None),
        ("max_calls = \"two\"", Some(0), None),
        ("max_calls = -1", Some(0), None),
        ("calls_per_minute = 0", Some(0), None),
        ("calls_per_minute = \"2\"", None, Some(2)),
        ("calls_per_minute = []", Some(0), None),
        ("calls_per_minute = ", Some(0), None),
    ] {
        let alice = alice(key);
        let found = (alice.max_calls, alice.calls_per_minute);
        assert_eq!(found, (max_calls, calls_per_minute), "{key}");
    }
}

#[test]
fn values_removed_from_the_server_are_revoked_despite_a_syntax_error() {
    let removed = BEFORE.replace("allowed_hosts = [\"a.example\", \"b.example\"]\n", "");
    let fewer = BEFORE.replace(", \"b.example\"]", "]").replace("50", "3");
    for error in ["[x\n", "x = = 1\n", "\"\n"] {
        let removed = narrowed(&format!("{removed}{error}"));
        assert_eq!(removed.allowed_hosts, [], "{error}");
        let fewer = narrowed(&format!("{fewer}{error}"));
        assert_eq!(fewer.allowed_hosts, [Host::Name("a.example".into())]);
        assert_eq!(fewer.limits.max_calls, 3, "{error}");
    }
    // A value that the parser did not reach stays.
    let before = active(BEFORE);
    for hidden in ["[server", "\"\n[server]"] {
        let edited = format!(
            "models.other.path = 'x'\n{}",
            BEFORE.replace("[server]", hidden)
        );
        assert_eq!(narrowed(&edited).allowed_hosts, before.allowed_hosts);
    }
}

#[test]
fn an_unrelated_syntax_error_revokes_no_token() {
    for (from, to) in [
        ("[server]", "[server"),
        ("[server.tokens.alice]", "\"\n[server.tokens.alice]"),
        ("transport = \"http\"", "host = \"\"\"127.0.0.1"),
        ("transport", "<<<<<<< HEAD\ntransport"),
        ("[server.tokens.small]", "=======\n[server.tokens.small]"),
    ] {
        let http = narrowed(&BEFORE.replace(from, to));
        assert_eq!(working(&http), ["auth", "alice", "small"], "{to}");
    }
}

#[test]
fn a_token_file_that_a_syntax_error_hides_is_not_revoked() {
    for (from, to) in [
        ("[server]", "[server"),
        ("transport = \"http\"", "host = \"\"\"127.0.0.1"),
        ("transport", "<<<<<<< HEAD\ntransport"),
    ] {
        let text = BEFORE.replace("auth = \"roots\"", "auth_file = \"root.tok\"");
        let http = narrowed(&text.replace(from, to));
        assert_eq!(working(&http), ["auth", "alice", "small"], "{to}");
    }
}

#[test]
fn a_removed_token_is_revoked_even_if_its_name_occurs_elsewhere_in_a_file_with_a_syntax_error() {
    let text = BEFORE.replace("[server.tokens.small]\ntoken = \"smalls\"\n", "");
    for error in [
        "# small left",
        "[tools.x]\ndescription = \"made by small\"",
        "",
    ] {
        let http = narrowed(&format!("{text}{error}\n[x\n"));
        assert_eq!(working(&http), ["auth", "alice"], "{error}");
    }
}

#[test]
fn the_rights_in_an_empty_or_binary_file_or_an_invalid_server_table_are_unknown() {
    for text in ["", "server = 3", "[server]\ntokens = 3", "a\0l\0i\0c\0e\0"] {
        let rights = Rights::of_text(
            &Overrides::default(),
            &around(),
            Path::new("x.toml"),
            text.into(),
        );
        assert!(rights.is_none(), "{text:?}");
    }
}
