//! Startup of the HTTP server: address, token, and errors.

use std::net::TcpListener;
use std::process::Output;

use serde_json::json;

use crate::support::http::{Client, HttpServer};
use crate::support::{TempFile, program, tiny};

fn run(flags: &[&str], variables: &[(&str, &str)]) -> Output {
    let model = tiny();
    let mut command = program();
    command
        .arg("--model")
        .arg(model)
        .args(["--transport", "http"])
        .args(flags);
    command.envs(variables.iter().copied()).output().unwrap()
}

#[test]
fn a_public_address_requires_a_token_or_an_explicit_opt_out() {
    let output = run(&["--host", "0.0.0.0", "--port", "0"], &[]);
    assert_eq!(output.status.code(), Some(2));
    insta::assert_snapshot!(String::from_utf8(output.stderr).unwrap(), @r"
    error[config_server]: `--host`: `0.0.0.0` is reachable from other machines, but no token is set
      hint: set a token with `LLAMA_MCP_AUTH` or `auth_file`, listen on `127.0.0.1`, or set `allow_unauthenticated` if everybody may use the server
    ");
}

#[test]
fn hosts_and_origins_that_no_request_can_match_are_startup_errors() {
    let flags = [
        "--allowed_hosts",
        "http://a.b,h.z:8080,*.x.y",
        "--allowed_origins",
        "evil.com,https://ok.com/page",
    ];
    let output = run(&flags, &[]);
    assert_eq!(output.status.code(), Some(2));
    insta::assert_snapshot!(String::from_utf8(output.stderr).unwrap(), @r"
    error[config_server]: `--allowed_hosts`: must be names or addresses, without scheme and port, found `http://a.b`

    error[config_server]: `--allowed_hosts`: must be names or addresses, without scheme and port, found `h.z:8080`

    error[config_server]: `--allowed_hosts`: must be names or addresses, without scheme and port, found `*.x.y`

    error[config_server]: `--allowed_origins`: must be origins such as `https://app.example`, found `evil.com`

    error[config_server]: `--allowed_origins`: must be origins such as `https://app.example`, found `https://ok.com/page`
    ");
}

#[test]
fn a_port_in_use_is_a_startup_error() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let output = run(&["--port", &port, "--n_threads", "1"], &[]);
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8(output.stderr)
        .unwrap()
        .replace(&port, "PORT");
    insta::assert_snapshot!(text, @r"
    error[cannot_listen]: could not listen on 127.0.0.1:PORT; choose another address with `--host` and `--port`
      caused by: Address already in use (os error 98)
    ");
}

#[cfg(target_os = "linux")]
#[test]
fn the_token_may_come_from_a_file_or_the_environment_and_is_never_shown() {
    let file = TempFile::new("token", b"from-a-file\n");
    let by_file = HttpServer::tiny(&["--auth_file", file.0.to_str().unwrap()]);
    let variables = [("LLAMA_MCP_AUTH", "from-a-variable"), ("RUST_LOG", "trace")];
    let by_variable = HttpServer::with_environment(&[], &variables);
    for (mut server, token) in [(by_file, "from-a-file"), (by_variable, "from-a-variable")] {
        let authorization = |token: &str| format!("Bearer {token}");
        let mut right = Client::new(server.url(), &[("authorization", &authorization(token))]);
        right.initialize();
        assert!(
            right
                .chat(json!({"text": "Hi", "temperature": 0}))
                .contains("Hello")
        );
        let wrong = Client::new(
            server.url(),
            &[("authorization", &authorization("another-token"))],
        );
        assert_eq!(wrong.send("POST", Some("{}")).status(), 401);
        let workers = crate::support::workers_of(server.child.id());
        for worker in workers {
            let environment = std::fs::read(format!("/proc/{worker}/environ")).unwrap();
            assert!(!String::from_utf8_lossy(&environment).contains(token));
        }
        let log = server.end();
        assert!(log.contains("authentication=true"), "{log}");
        assert!(
            !log.contains(token) && !log.contains("another-token"),
            "{log}"
        );
    }
    let help = program().arg("--help").envs(variables).output().unwrap();
    assert!(
        !String::from_utf8(help.stdout)
            .unwrap()
            .contains("from-a-variable")
    );
}

#[test]
fn an_invalid_token_is_a_startup_error_that_does_not_show_it() {
    let missing = run(&["--auth_file", "/no/such/file"], &[]);
    let empty = run(&[], &[("LLAMA_MCP_AUTH", "")]);
    let spaced = run(&["--auth", "my secret"], &[]);
    let both = run(&["--auth", "hidden", "--auth_file", "x"], &[]);
    let outputs = [missing, empty, spaced, both].map(|output| {
        assert_eq!(output.status.code(), Some(2));
        String::from_utf8(output.stderr).unwrap()
    });
    for text in &outputs {
        assert!(
            !text.contains("secret") && !text.contains("hidden"),
            "{text}"
        );
    }
    insta::assert_snapshot!(outputs.join("---\n"), @r"
    error[config_token]: `--auth_file`: could not read `/no/such/file`: No such file or directory (os error 2)
    ---
    error[config_token]: `LLAMA_MCP_AUTH`: the token must not be empty
    ---
    error[config_token]: `--auth`: the token must be printable ASCII without spaces
    ---
    error: the argument '--auth <TOKEN>' cannot be used with '--auth_file <FILE>'

    Usage: llama-mcp-server --model <PATH> [OPTIONS]
           llama-mcp-server --config <FILE> [OPTIONS]
           llama-mcp-server <COMMAND>

    For more information, try '--help'.
    ");
}
