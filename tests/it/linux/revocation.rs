//! Permissions over HTTP that an edit removes: they end at once, even if other settings are invalid.

use std::fs;

use crate::support::config::{Folder, text};
use crate::support::http::{Client, HttpServer};
use crate::support::program;

const MODEL: &str = "
[models.chat]
path = \"crab.gguf\"
n_threads = 1
[tools.shout]
prompt = \"Sing forever.\"
";

/// Errors of an edit that do not concern tokens.
const ERRORS: [(&str, &str); 4] = [
    (
        "an unknown key",
        "[models.other]\npath = \"crab.gguf\"\ntemprature = 1\n",
    ),
    ("a tool without a prompt", "[tools.broken]\n"),
    ("a broken line", "[models.other]\npath = = \"crab.gguf\"\n"),
    ("a port out of its range", "[registry]\nmax_loaded = -3\n"),
];

fn serve(folder: &Folder) -> HttpServer {
    HttpServer::with_config(&folder.0.join("llama-mcp-server.toml"))
}

/// Returns the status of a request with `token`: 401 if the token is invalid, otherwise 400, because the request has no session.
fn status(server: &HttpServer, token: &str) -> u16 {
    server.with_token(token).send("GET", None).status().into()
}

fn tokens(entries: &[(&str, &str)]) -> String {
    let table = |(name, keys): &(&str, &str)| format!("[server.tokens.{name}]\n{keys}\n");
    entries.iter().map(table).collect::<Vec<_>>().concat()
}

#[test]
fn a_token_whose_file_is_empty_or_gone_ends_and_the_others_stay() {
    let keys = tokens(&[
        ("alice", "token = \"alices\""),
        ("bob", "token_file = \"bob.token\""),
        ("carol", "token = \"${file:carol.token}\""),
    ]);
    let folder = Folder::new("token-gone", &format!("{keys}{MODEL}"));
    folder.write("bob.token", "bobs");
    folder.write("carol.token", "carols");
    let server = serve(&folder);
    assert_eq!(status(&server, "bobs"), 400);
    folder.write("bob.token", "");
    server.wait_for_log("`server.tokens.bob.token_file`: the token must not be empty");
    assert_eq!(status(&server, "bobs"), 401);
    folder.write("bob.token", "again");
    server.wait_for_log_times("live (tokens)", 2);
    assert_eq!(status(&server, "again"), 400);
    fs::remove_file(folder.0.join("bob.token")).unwrap();
    server.wait_for_log("bob.token`: No such file or directory");
    assert_eq!(status(&server, "again"), 401);
    fs::remove_file(folder.0.join("carol.token")).unwrap();
    server.wait_for_log_times("live (tokens)", 4);
    assert_eq!(status(&server, "carols"), 401);
    folder.write("carol.token", "carols");
    server.wait_for_log_times("live (tokens)", 5);
    assert_eq!(status(&server, "carols"), 400);
    // The rest of the configuration keeps working.
    assert_eq!(
        server.client_with_token("alices").tools(),
        ["chat", "shout"]
    );
    folder.write(
        "llama-mcp-server.toml",
        &format!("{keys}{MODEL}max_tokens = 3\n"),
    );
    server.wait_for_log("tool shout: live (max_tokens)");
}

#[test]
fn a_token_that_is_removed_ends_although_the_edit_has_errors() {
    for (error, wrong) in ERRORS {
        let both = tokens(&[("alice", "token = \"alices\""), ("bob", "token = \"bobs\"")]);
        let folder = Folder::new("taken-out", &format!("{both}{MODEL}"));
        let server = serve(&folder);
        assert_eq!(status(&server, "alices"), 400);
        let less = tokens(&[("bob", "token = \"bobs\"")]);
        folder.write("llama-mcp-server.toml", &format!("{less}{MODEL}{wrong}"));
        server.wait_for_log("rights that the rejected configuration removes are revoked");
        assert_eq!(status(&server, "alices"), 401, "{error}");
        assert_eq!(status(&server, "bobs"), 400, "{error}");
        // A file without any token lets nobody in, instead of everybody.
        folder.write("llama-mcp-server.toml", &format!("{MODEL}{wrong}"));
        server.wait_for_log_times(
            "rights that the rejected configuration removes are revoked",
            2,
        );
        assert_eq!(status(&server, "bobs"), 401, "{error}");
        assert_eq!(status(&server, ""), 401, "{error}");
        folder.write("llama-mcp-server.toml", &format!("{both}{MODEL}"));
        server.wait_for_log("the new configuration is active");
        assert_eq!(status(&server, "alices"), 400, "{error}");
    }
}

#[test]
fn a_token_that_is_commented_out_ends_although_the_file_has_a_syntax_error() {
    let both = tokens(&[("alice", "token = \"alices\""), ("bob", "token = \"bobs\"")]);
    let folder = Folder::new("commented-out", &format!("{both}{MODEL}"));
    let server = serve(&folder);
    assert_eq!(status(&server, "alices"), 400);
    let less = tokens(&[("bob", "token = \"bobs\"")]);
    let comment = "# [server.tokens.alice]\n# token = \"alices\"\n";
    let edited = format!("{comment}{less}{MODEL}[models.malice]\npath = = \"crab.gguf\"\n");
    folder.write("llama-mcp-server.toml", &edited);
    server.wait_for_log("rights that the rejected configuration removes are revoked");
    assert_eq!(status(&server, "alices"), 401);
    assert_eq!(status(&server, "bobs"), 400);
}

#[test]
fn a_valid_edit_that_removes_a_token_is_logged_once_and_not_as_rejected() {
    let both = tokens(&[("alice", "token = \"alices\""), ("bob", "token = \"bobs\"")]);
    let folder = Folder::new("removed-token", &format!("{both}{MODEL}"));
    let mut server = serve(&folder);
    assert_eq!(status(&server, "alices"), 400);
    let less = tokens(&[("bob", "token = \"bobs\"")]);
    folder.write("llama-mcp-server.toml", &format!("{less}{MODEL}"));
    server.wait_for_log("the new configuration is active");
    assert_eq!(status(&server, "alices"), 401);
    assert_eq!(status(&server, "bobs"), 400);
    let log = server.end();
    assert!(!log.contains("rejected"), "{log}");
    assert_eq!(log.matches("live (tokens)").count(), 1, "{log}");
}

#[test]
fn an_edit_with_errors_narrows_tools_and_limits_and_grants_nothing() {
    let before = tokens(&[
        ("alice", "token = \"alices\""),
        ("bob", "token = \"bobs\"\ntools = [\"chat\"]"),
        ("carol", "token = \"carols\""),
    ]);
    let folder = Folder::new("narrowed", &format!("{before}{MODEL}"));
    let server = serve(&folder);
    let mut alice = server.client_with_token("alices");
    let mut bob = server.client_with_token("bobs");
    assert_eq!(alice.tools(), ["chat", "shout"]);
    let after = tokens(&[
        (
            "alice",
            "token = \"alices\"\ntools = [\"shout\"]\ncalls_per_minute = 1",
        ),
        ("bob", "token = \"bobs\""),
        ("carol", "token = \"rotated\""),
        ("dora", "token = \"doras\""),
    ]);
    let (_, wrong) = ERRORS[0];
    folder.write("llama-mcp-server.toml", &format!("{after}{MODEL}{wrong}"));
    server.wait_for_log("rights that the rejected configuration removes are revoked");
    assert_eq!(alice.tools(), ["shout"]);
    assert_eq!(
        bob.tools(),
        ["chat"],
        "more rights wait for a valid configuration"
    );
    assert_eq!(status(&server, "carols"), 401);
    assert_eq!(status(&server, "rotated"), 401);
    assert_eq!(status(&server, "doras"), 401);
    folder.write("llama-mcp-server.toml", &format!("{after}{MODEL}"));
    server.wait_for_log("the new configuration is active");
    assert_eq!(bob.tools(), ["chat", "shout"]);
    assert_eq!(status(&server, "rotated"), 400);
    assert_eq!(status(&server, "doras"), 400);
}

#[test]
fn an_edit_with_errors_revokes_the_permission_to_unload_but_does_not_grant_it() {
    let keys = |admin: &str| {
        let key = |name: &str| format!("token = \"{name}\"\nadmin = {}", name == admin);
        tokens(&[("ops", &key("ops")), ("user", &key("user"))])
    };
    let folder = Folder::new("narrowed-admin", &format!("{}{MODEL}", keys("ops")));
    let server = serve(&folder);
    let unload = |token: &str| -> u16 {
        let url = format!("http://{}/admin/models/chat/unload", server.address);
        let authorization = format!("Bearer {token}");
        let client = Client::new(url, &[("authorization", &authorization)]);
        client.send("POST", Some("{}")).status().into()
    };
    assert_eq!((unload("ops"), unload("user")), (200, 403));
    let (_, wrong) = ERRORS[0];
    let edit = |wrong: &str| {
        let text = format!("{}{MODEL}{wrong}", keys("user"));
        folder.write("llama-mcp-server.toml", &text);
    };
    edit(wrong);
    server.wait_for_log("rights that the rejected configuration removes are revoked");
    assert_eq!((unload("ops"), unload("user")), (403, 403));
    edit("");
    server.wait_for_log("the new configuration is active");
    assert_eq!((unload("ops"), unload("user")), (403, 200));
}

#[test]
fn a_typo_in_the_name_of_a_model_revokes_no_tool() {
    let keys = tokens(&[
        ("alice", "token = \"alices\"\ntools = [\"q:7b\"]"),
        ("bob", "token = \"bobs\""),
    ]);
    let model = |name: &str| format!("[models.other]\npath = \"crab.gguf\"\n{name}\n");
    let good = model("tool_name = \"talk\"\naliases = [\"q:7b\"]");
    let folder = Folder::new("aliases-slip", &format!("{keys}{good}"));
    let server = serve(&folder);
    let mut alice = server.client_with_token("alices");
    assert_eq!(alice.tools(), ["talk"]);
    let without_bob = tokens(&[("alice", "token = \"alices\"\ntools = [\"q:7b\"]")]);
    for (number, slip) in (1..).zip([
        "tool_name = \"talk\"\naliases = \"q:7b\"",
        "tool_name = \"talk\"\naliases = [\"q:7b\"",
        "tool_name = \"talk\"\nalias = [\"q:7b\"]",
        "tool_name = 7\naliases = [\"q:7b\"]",
    ]) {
        folder.write(
            "llama-mcp-server.toml",
            &format!("{without_bob}{}", model(slip)),
        );
        server.wait_for_log_times("the edit of the configuration was rejected", number);
        assert_eq!(status(&server, "bobs"), 401, "{slip}");
        assert_eq!(alice.tools(), ["talk"], "{slip}");
    }
    // A name that is removed for certain removes the tool's permission.
    let wrong = ERRORS[0].1.replace("other", "third");
    let removed = model("tool_name = \"talk\"\naliases = [\"q:8b\"]");
    folder.write(
        "llama-mcp-server.toml",
        &format!("{without_bob}{removed}{wrong}"),
    );
    server.wait_for_log_times(
        "rights that the rejected configuration removes are revoked",
        2,
    );
    assert_eq!(alice.tools(), Vec::<String>::new());
}

#[test]
fn a_prompt_that_a_program_keeps_open_does_not_delay_a_revocation() {
    use std::io::Write;

    let about = "[models.named]\npath = \"crab.gguf\"\ndescription = \"${file:about.txt}\"\n";
    let both = tokens(&[("alice", "token = \"alices\""), ("bob", "token = \"bobs\"")]);
    let folder = Folder::new("open-prompt", &format!("{both}{about}"));
    folder.write("about.txt", "first");
    let mut command = program();
    command
        .arg("--config")
        .arg(folder.0.join("llama-mcp-server.toml"))
        .env("RUST_LOG", "llama_mcp_server=debug");
    let server = HttpServer::spawn(command);
    server.wait_for_log("the files of the configuration are watched");
    let mut writer = fs::File::create(folder.0.join("about.txt")).unwrap();
    writer.write_all(b"second").unwrap();
    let less = tokens(&[("bob", "token = \"bobs\"")]);
    folder.write("llama-mcp-server.toml", &format!("{less}{about}"));
    server.wait_for_log("waits for a file that is still open for writing");
    assert_eq!(status(&server, "alices"), 401);
    assert_eq!(status(&server, "bobs"), 400);
    drop(writer);
    server.wait_for_log("model named: live (description)");
    assert_eq!(status(&server, "alices"), 401);
}

#[test]
fn an_empty_or_missing_file_revokes_no_permissions() {
    let keys = tokens(&[("alice", "token = \"alices\"")]);
    let folder = Folder::new("no-file", &format!("{keys}{MODEL}"));
    let server = serve(&folder);
    folder.write("llama-mcp-server.toml", "");
    server.wait_for_log("no model is configured");
    assert_eq!(status(&server, "alices"), 400);
    fs::remove_file(folder.0.join("llama-mcp-server.toml")).unwrap();
    server.wait_for_log("could not read the configuration");
    assert_eq!(status(&server, "alices"), 400);
}

#[test]
fn a_token_ends_with_its_file_although_the_configuration_is_unreadable() {
    let keys = tokens(&[
        ("alice", "token = \"alices\""),
        ("bob", "token_file = \"bob.token\""),
        ("carol", "token = \"${file:carol.token}\""),
    ]);
    for (name, broken) in [
        ("an empty file", String::new()),
        ("another type", "server = 3".into()),
        (
            "a syntax error",
            format!("[server]\nport = 0\n\"\n{keys}{MODEL}"),
        ),
    ] {
        let folder = Folder::new("unread", &format!("{keys}{MODEL}"));
        folder.write("bob.token", "bobs");
        folder.write("carol.token", "carols");
        let server = serve(&folder);
        folder.write("llama-mcp-server.toml", &broken);
        server.wait_for_log("so they stay valid: alice, bob, carol; correct the file");
        assert_eq!(status(&server, "bobs"), 400, "{name}");
        folder.write("bob.token", "");
        server.wait_for_log("so they stay valid: alice, carol; correct the file");
        fs::remove_file(folder.0.join("carol.token")).unwrap();
        server.wait_for_log("so they stay valid: alice; correct the file");
        let found = ["alices", "bobs", "carols"].map(|token| status(&server, token));
        assert_eq!(found, [400, 401, 401], "{name}");
    }
}

#[test]
fn a_removed_token_ends_although_the_file_is_not_utf_8() {
    let both = tokens(&[("alice", "token = \"alices\""), ("bob", "token = \"bobs\"")]);
    let folder = Folder::new("latin", &format!("{both}{MODEL}"));
    let server = serve(&folder);
    let less = tokens(&[("bob", "token = \"bobs\"")]);
    let latin = [less.as_bytes(), b"# caf\xe9\n", MODEL.as_bytes()].concat();
    fs::write(folder.0.join("llama-mcp-server.toml"), latin).unwrap();
    server.wait_for_log("rights that the rejected configuration removes are revoked");
    assert_eq!(
        ["alices", "bobs"].map(|token| status(&server, token)),
        [401, 400]
    );
}

#[test]
fn an_edit_that_removes_the_last_token_locks_the_server() {
    let head = "[server]\ntransport = \"http\"\n";
    let keys = tokens(&[("alice", "token = \"alices\"")]);
    let folder = Folder::new("last-token", &format!("{head}{keys}{MODEL}"));
    let server = serve(&folder);
    let statuses = |token: &[(&str, &str)]| {
        ["mcp", "metrics", "status"].map(|path| {
            let client = Client::new(format!("http://{}/{path}", server.address), token);
            u16::from(client.send("GET", None).status())
        })
    };
    let alice = [("authorization", "Bearer alices")];
    assert_eq!(statuses(&alice), [400, 200, 200]);
    let edits = [
        "",
        "tokens = {}\n",
        "[server.tokens]\n",
        "allow_unauthenticated = true\n",
    ];
    for (times, edit) in (1..).zip(edits) {
        folder.write("llama-mcp-server.toml", &format!("{head}{edit}{MODEL}"));
        server.wait_for_log_times("the server refuses every request with 401", times);
        server.wait_for_log_times("requires a restart of the server: server.tokens", times);
        assert_eq!(statuses(&alice), [401; 3], "{edit}");
        assert_eq!(statuses(&[]), [401; 3], "{edit}");
        folder.write("llama-mcp-server.toml", &format!("{head}{keys}{MODEL}"));
        server.wait_for_log_times("server: live (tokens)", times);
        assert_eq!(statuses(&alice), [400, 200, 200], "{edit}");
    }
}

#[test]
fn a_token_that_an_edit_removes_together_with_http_ends_before_the_restart() {
    let head = "[server]\ntransport = \"http\"\nport = 0\n";
    let keys = tokens(&[("alice", "token = \"alices\"")]);
    let folder = Folder::new("no-http", &format!("{head}{keys}{MODEL}"));
    let server = HttpServer::with_config_only(&folder.0.join("llama-mcp-server.toml"));
    assert_eq!(status(&server, "alices"), 400);
    folder.write("llama-mcp-server.toml", MODEL);
    server.wait_for_log("the server stays on HTTP until it is restarted");
    assert_eq!(status(&server, "alices"), 401);
}

#[test]
fn a_server_whose_tokens_are_all_unusable_does_not_start() {
    let keys = tokens(&[
        ("alice", "token_file = \"missing\""),
        ("bob", "token = \"${file:gone}\""),
    ]);
    let head = "[server]\ntransport = \"http\"\nport = 0\n";
    let folder = Folder::new("all-unusable", &format!("{head}{keys}{MODEL}"));
    let output = folder.run(&[], &[]);
    assert_eq!(output.status.code(), Some(2));
    let stderr = text(output.stderr);
    for token in ["alice.token_file", "bob.token"] {
        assert!(stderr.contains(token), "{stderr}");
    }
}
