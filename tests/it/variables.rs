//! Environment variables: values, and warnings about unknown names.

use crate::support::config::{Folder, ONE_MODEL, text};
use crate::support::http::HttpServer;
use crate::support::program;

#[test]
fn a_failed_start_warns_about_unknown_variables() {
    let folder = Folder::empty("unknown-variables");
    let commands: [&[&str]; 3] = [&[], &["config", "check"], &["config", "show"]];
    for (variable, meant) in [
        ("LLAMA_MCP_MODEL", "LLAMA_MCP_MODELS__NAME__PATH"),
        (
            "LLAMA_MCP_MODELS_SMALL_PATH",
            "LLAMA_MCP_MODELS__SMALL__PATH",
        ),
    ] {
        for command in commands {
            let output = folder.run(command, &[(variable, "/models/x.gguf")]);
            assert_eq!(output.status.code(), Some(2));
            let stderr = text(output.stderr);
            assert!(stderr.starts_with("error[no_model]: "), "{stderr}");
            let warning = format!("\nwarning[unknown_variable]: `{variable}`: ");
            let hint = format!("\n  hint: did you mean {meant}?\n");
            assert!(
                stderr.contains(&warning) && stderr.contains(&hint),
                "{stderr}"
            );
        }
    }
}

#[test]
fn a_rejected_file_is_reported_with_warnings_about_unknown_variables() {
    let folder = Folder::new("refused-variables", "[models.a]\npath = \"none.gguf\"\n");
    let variables = [("LLAMA_MCP_MODELS_A_PATH", "crab.gguf")];
    let output = folder.run(&["config", "check", "--format", "json"], &variables);
    let stdout = text(output.stdout);
    assert!(
        stdout.contains("did you mean LLAMA_MCP_MODELS__A__PATH?"),
        "{stdout}"
    );
    let doctor = text(folder.run(&["doctor"], &variables).stdout);
    assert!(
        doctor.contains("did you mean LLAMA_MCP_MODELS__A__PATH?"),
        "{doctor}"
    );
}

#[test]
fn an_empty_variable_counts_as_unset() {
    let folder = Folder::new("empty-variables", ONE_MODEL);
    let names = [
        "LLAMA_MCP_PORT",
        "LLAMA_MCP_N_CTX",
        "LLAMA_MCP_MLOCK",
        "LLAMA_MCP_MODELS__A__PATH",
        "LLAMA_MCP_UNKNOWN",
    ];
    let empty: Vec<(&str, &str)> = names.iter().map(|name| (*name, "")).collect();
    assert_eq!(folder.show(&[], &empty), folder.show(&[], &[]));
}

#[test]
fn an_empty_variable_does_not_remove_the_token() {
    let folder = Folder::new("empty-token", ONE_MODEL);
    for variable in ["LLAMA_MCP_AUTH", "LLAMA_MCP_AUTH_FILE"] {
        let output = folder.run(
            &["config", "check", "--transport", "http"],
            &[(variable, "")],
        );
        assert_eq!(output.status.code(), Some(2), "{variable}");
        let stderr = text(output.stderr);
        assert!(stderr.contains(&format!("`{variable}`: ")), "{stderr}");
        assert!(stderr.contains("must not be empty"), "{stderr}");
    }
}

#[test]
fn an_empty_list_of_tools_in_a_variable_allows_no_tools() {
    let keys = "[server.tokens.bob]\ntoken = \"bobs-long-enough-token\"\n";
    let folder = Folder::new("empty-tools", &format!("{keys}{ONE_MODEL}"));
    let mut command = program();
    command
        .arg("--config")
        .arg(folder.0.join("llama-mcp-server.toml"))
        .env("LLAMA_MCP_SERVER__TOKENS__BOB__TOOLS", "");
    let server = HttpServer::spawn(command);
    let mut bob = server.client_with_token("bobs-long-enough-token");
    assert_eq!(bob.tools(), Vec::<String>::new());
}

#[test]
fn an_empty_variable_empties_the_list_of_allowed_hosts_or_origins() {
    let lists =
        "[server]\nallowed_hosts = [\"a.example\"]\nallowed_origins = [\"https://b.example\"]\n";
    let folder = Folder::new("empty-lists", &format!("{lists}{ONE_MODEL}"));
    for (variable, host) in [
        ("LLAMA_MCP_ALLOWED_HOSTS", "a.example"),
        ("LLAMA_MCP_SERVER__ALLOWED_ORIGINS", "https://b.example"),
    ] {
        assert!(folder.show(&[], &[]).contains(host));
        let shown = folder.show(&[], &[(variable, "")]);
        assert!(!shown.contains(host), "{shown}");
    }
}

#[test]
fn an_empty_variable_for_a_limit_of_a_token_is_an_error() {
    let keys = "[server.tokens.bob]\ntoken = \"bobs-long-enough-token\"\nmax_calls = 1\n";
    let folder = Folder::new("empty-limits", &format!("{keys}{ONE_MODEL}"));
    for key in ["MAX_CALLS", "CALLS_PER_MINUTE", "ADMIN", "TOKEN_FILE"] {
        let variable = format!("LLAMA_MCP_SERVER__TOKENS__BOB__{key}");
        let output = folder.run(
            &["config", "check", "--transport", "http"],
            &[(&variable, "")],
        );
        let stderr = text(output.stderr);
        assert_eq!(output.status.code(), Some(2), "{key}: {stderr}");
        assert!(stderr.contains(&variable), "{stderr}");
    }
}

#[test]
fn booleans_may_be_spelled_as_in_scripts() {
    let folder = Folder::new("booleans", ONE_MODEL);
    for (spellings, value) in [
        (["true", "True", "1", "yes", "ON"], "mlock = true"),
        (["false", "FALSE", "0", "No", "off"], "mlock = false"),
    ] {
        for spelling in spellings {
            let shown = folder.show(&[], &[("LLAMA_MCP_MLOCK", spelling)]);
            assert!(shown.contains(value), "{spelling}: {shown}");
            let shown = folder.show(&[&format!("--set=models.a.mlock={spelling}")], &[]);
            assert!(shown.contains(value), "{spelling}: {shown}");
        }
    }
    let output = folder.run(&["config", "check"], &[("LLAMA_MCP_MLOCK", "2")]);
    let stderr = text(output.stderr);
    assert!(stderr.contains("must be true or false, found "), "{stderr}");
}

#[test]
fn variables_of_service_discovery_do_not_prevent_a_start() {
    let folder = Folder::new("services", ONE_MODEL);
    for scheme in ["tcp", "udp", "sctp"] {
        let address = format!("{scheme}://10.0.0.1:8080");
        let variables = [
            ("LLAMA_MCP_SERVICE_HOST", "10.0.0.1"),
            ("LLAMA_MCP_SERVICE_PORT", "8080"),
            ("LLAMA_MCP_PORT", address.as_str()),
            ("LLAMA_MCP_PORT_8080_TCP", address.as_str()),
            ("LLAMA_MCP_PORT_8080_TCP_PROTO", scheme),
            ("LLAMA_MCP_PORT_8080_TCP_PORT", "8080"),
        ];
        let output = folder.run(&["config", "check"], &variables);
        let is_known = !text(output.stdout).contains("unknown_variable");
        assert!(
            output.status.code() == Some(0) && is_known,
            "{}",
            text(output.stderr)
        );
    }
    let other = [
        ("LLAMA_MCP_OTHER", "tcp://10.0.0.1:8080"),
        ("LLAMA_MCP_KEEP", "3"),
    ];
    let stdout = text(folder.run(&["config", "check"], &other).stdout);
    for part in [
        "`LLAMA_MCP_OTHER`: unknown environment variable",
        "did you mean LLAMA_MCP_LOG__KEEP?",
    ] {
        assert!(stdout.contains(part), "{stdout}");
    }
}

#[test]
fn a_variable_or_a_flag_takes_a_table_as_json_or_toml() {
    let folder = Folder::new("tables", ONE_MODEL);
    let bias = |arguments: &[&str], variables: &[(&str, &str)]| {
        let shown = text(
            folder
                .run(&[&["config", "show"], arguments].concat(), variables)
                .stdout,
        );
        let shown: toml::Table = shown.parse().unwrap();
        shown["models"]["a"]["logit_bias"]["13"].as_float()
    };
    for table in [r#"{"13": -99.5}"#, "{ 13 = -99.5 }"] {
        let set = format!("models.a.logit_bias={table}");
        assert_eq!(bias(&[], &[("LLAMA_MCP_LOGIT_BIAS", table)]), Some(-99.5));
        assert_eq!(bias(&["--set", &set], &[]), Some(-99.5));
    }
}
