//! Tests of the settings for HTTP.

use super::*;
use crate::config::{Config, ConfigError, Overrides, Surroundings, Transport};
use crate::process::Cpus;

fn resolve(flags: &[(&str, &str)], token: Option<&str>) -> Result<HttpConfig, ConfigError> {
    let flags = [&[("transport", "http")], flags].concat();
    let typed = Overrides {
        models: vec!["tests/models/tiny-crab-chat.Q8_0.gguf".into()],
        flags: flags
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).into()))
            .collect(),
        ..Overrides::default()
    };
    let around = Surroundings {
        program: None,
        cpus: Cpus::single(1),
        variables: token
            .map(|token| (AUTH_VARIABLE.to_owned(), token.to_owned()))
            .into_iter()
            .collect(),
        folders: Vec::new(),
    };
    match Config::load(&typed, &around) {
        Ok((config, _)) => match config.transport {
            Transport::Http(http) => Ok(*http),
            Transport::Stdio => panic!("http was asked for"),
        },
        Err(rejected) => Err(rejected.error),
    }
}

#[test]
fn an_edit_that_removes_the_last_token_closes_the_server() {
    let open = resolve(&[], None).unwrap();
    for host in ["127.0.0.1", "0.0.0.0"] {
        let mut running = resolve(&[("host", host), ("auth", "token")], None).unwrap();
        let with_token = running.tokens.clone();
        running.tokens = running.tokens_after(&open);
        let [auth] = &running.tokens[..] else {
            panic!("the token stays in the list")
        };
        assert!(!auth.matches(b"token") && auth.secret.is_err());
        // Further edits leave it closed until one has a token.
        assert_eq!(running.tokens_after(&open), running.tokens);
        let granted = HttpConfig {
            tokens: with_token.clone(),
            ..running.clone()
        };
        assert_eq!(running.tokens_after(&granted), with_token);
    }
    assert_eq!(open.tokens_after(&open), []);
}

#[test]
fn the_documented_address_is_the_default() {
    let config = resolve(&[], None).unwrap();
    assert_eq!(config.addresses, ["127.0.0.1:8080".parse().unwrap()]);
    assert_eq!(config.tokens, []);
}

#[test]
fn a_flag_overrides_the_variable() {
    for (flags, token) in [([("auth", "flag")].as_slice(), "flag"), (&[], "variable")] {
        let config = resolve(flags, Some("variable")).unwrap();
        let [auth] = &config.tokens[..] else {
            panic!("there is one token")
        };
        assert!(auth.matches(token.as_bytes()) && !auth.matches(b"other"));
        assert_eq!(format!("{:?}", auth.secret), "Ok(***)");
    }
}

#[test]
fn an_address_beyond_loopback_requires_a_token_or_allow_unauthenticated() {
    let exposed = |flags: &[(&str, &str)]| {
        let error = resolve(flags, None).err().map(|error| error.to_string());
        error.is_some_and(|error| error.contains("is reachable from other machines"))
    };
    for host in ["0.0.0.0", "::", "[::]", "192.0.2.1"] {
        assert!(exposed(&[("host", host)]), "{host}");
        assert!(!exposed(&[("host", host), ("auth", "token")]), "{host}");
        assert!(
            !exposed(&[("host", host), ("allow_unauthenticated", "true")]),
            "{host}"
        );
    }
    for host in ["127.0.0.1", "127.1.2.3", "::1", "[::1]", "localhost"] {
        assert!(!exposed(&[("host", host)]), "{host}");
    }
}

#[test]
fn max_held_must_be_at_least_four_times_max_body() {
    let told = |flags| resolve(flags, None).unwrap_err().to_string();
    let small = told(&[("max_held", "15MiB")]);
    let expected =
        "`--max_held`: must be at least 16.0 MiB (four times `max_body`), found 15.0 MiB";
    assert!(small.contains(expected), "{small}");
    assert!(resolve(&[("max_held", "16MiB")], None).is_ok());
    let limits = resolve(&[("max_body", "1GiB")], None).unwrap().limits;
    assert_eq!(limits.max_held, 4 << 30);
}

#[test]
fn a_token_that_no_header_can_carry_is_rejected_without_being_shown() {
    for token in ["", "two words", "schlüssel", "a\nb"] {
        let text = resolve(&[], Some(token)).unwrap_err().to_string();
        assert!(
            text.starts_with("error[config_token]: `LLAMA_MCP_AUTH`: the token must"),
            "{text}"
        );
        assert!(token.is_empty() || !text.contains(token), "{text}");
    }
}
