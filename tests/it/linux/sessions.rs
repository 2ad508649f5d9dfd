//! Sessions of the legacy revisions survive the process that opened them, and every replica serves them.

use serde_json::json;

use crate::support::config::{Folder, text};
use crate::support::http::{Client, Events, HttpServer, read_message, request};
use crate::support::modern;
use crate::support::{CAPITALS, signal_process, workers_of};

const MODEL: &str = "
[models.chat]
path = \"crab.gguf\"
n_threads = 1
temperature = 0
repeat_penalty = 1.0
";

const SECRET: &str = "0123456789abcdef0123456789abcdef";

/// Configurations that sign session ids with different keys.
fn kinds() -> [(&'static str, String); 3] {
    [
        ("open", String::new()),
        ("token", "auth = \"secret123\"\n".into()),
        (
            "secret",
            format!("auth = \"secret123\"\nsession_secret = \"{SECRET}\"\n"),
        ),
    ]
}

fn folder(name: &str, keys: &str) -> Folder {
    Folder::new(
        &format!("sessions-{name}"),
        &format!("[server]\n{keys}{MODEL}"),
    )
}

fn start(folder: &Folder) -> HttpServer {
    HttpServer::with_config(&folder.0.join("llama-mcp-server.toml"))
}

/// Kills `server` and starts another one in its place.
fn restarted(server: HttpServer, folder: &Folder) -> HttpServer {
    drop(server);
    start(folder)
}

/// Restarts `server` with other keys.
fn restarted_with(server: HttpServer, folder: &Folder, keys: &str) -> HttpServer {
    folder.write("llama-mcp-server.toml", &format!("[server]\n{keys}{MODEL}"));
    restarted(server, folder)
}

/// Returns the statuses of POST, GET and DELETE in the session of `client`. DELETE ends the session if it exists.
fn statuses(client: &Client) -> [u16; 3] {
    let ping = request(1, "ping", json!({})).to_string();
    [
        ("POST", Some(ping.as_str())),
        ("GET", None),
        ("DELETE", None),
    ]
    .map(|(method, body)| client.send(method, body).status().as_u16())
}

const EXISTS: [u16; 3] = [200, 200, 204];
const UNKNOWN: [u16; 3] = [404, 404, 404];

fn assert_answers(client: &mut Client, number: usize) {
    let (country, capital) = CAPITALS[number % CAPITALS.len()];
    let text = format!("What is the capital of {country}?");
    assert_eq!(
        client.chat(json!({ "text": text })),
        format!("The capital of {country} is {capital}.")
    );
}

#[test]
fn a_restarted_server_continues_its_sessions() {
    for (name, keys) in kinds() {
        let folder = folder(name, &keys);
        let server = start(&folder);
        let mut client = server.client_with_token("secret123");
        assert_answers(&mut client, 0);
        let server = restarted(server, &folder);
        client.switch_to(&server);
        assert_eq!(client.tools(), ["chat"], "{name}");
        assert_answers(&mut client, 1);
        // Progress and cancels belong to the session, too.
        let worker = workers_of(server.child.id())[0];
        signal_process(worker, "STOP");
        let running = client.call_with_stopped_worker(7);
        let cancel = json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 7}});
        assert_eq!(client.post(&cancel).status(), 202);
        assert_eq!(running.last().unwrap()["error"]["code"], -32800);
        signal_process(worker, "CONT");
        assert_eq!(statuses(&client), EXISTS, "{name}");
        assert_eq!(statuses(&client), UNKNOWN, "{name}");
    }
}

#[test]
fn a_client_that_reopens_its_stream_after_a_restart_is_asked_to_list_the_tools() {
    let folder = folder("listens", "");
    let server = start(&folder);
    let mut client = server.client();
    let first = client.send("GET", None);
    assert_eq!(first.status(), 200);
    let server = restarted(server, &folder);
    client.switch_to(&server);
    let mut notifications = Events::new(client.send("GET", None));
    assert_eq!(
        notifications.next().unwrap()["method"],
        "notifications/tools/list_changed"
    );
}

#[test]
fn two_replicas_alternately_serve_clients_of_both_eras() {
    for (name, keys) in kinds() {
        let (one, two) = (folder(name, &keys), folder(name, &keys));
        let replicas = [start(&one), start(&two)];
        let mut legacy = replicas[0].client_with_token("secret123");
        for turn in 0..6 {
            let replica = &replicas[turn % 2];
            legacy.switch_to(replica);
            assert_answers(&mut legacy, turn);
            let plain = replica.with_token("secret123");
            let (country, capital) = CAPITALS[turn % CAPITALS.len()];
            let text = format!("What is the capital of {country}?");
            let mut answer = modern::post(&plain, &modern::chat(1, json!({ "text": text })));
            let answer = read_message(&mut answer);
            let error = &answer["result"]["content"][0]["text"];
            assert_eq!(error, &format!("The capital of {country} is {capital}."));
        }
        // The client's stream is at one replica while its calls go to the other.
        let listening = legacy.send("GET", None);
        assert_eq!(listening.status(), 200);
        legacy.switch_to(&replicas[0]);
        assert_answers(&mut legacy, 0);
    }
}

#[test]
fn a_modified_or_forged_session_id_is_refused() {
    for (name, keys) in kinds() {
        let folder = folder(name, &keys);
        let server = start(&folder);
        let client = server.client_with_token("secret123");
        let id = client.session().to_owned();
        let replaced = |at: usize| {
            let mut id = id.clone();
            let other = if &id[at..=at] == "A" { "B" } else { "A" };
            id.replace_range(at..=at, other);
            id
        };
        for wrong in [
            replaced(0),
            replaced(8),
            replaced(20),
            replaced(id.len() - 2),
            id[1..].to_owned(),
            format!("{id}A"),
            format!("{id}="),
            id.to_lowercase(),
            "A".repeat(id.len()),
            "5233db20-66e9-4674-916a-6370fe7589ca".to_owned(),
        ] {
            let mut thief = server.with_token("secret123");
            thief.header("mcp-session-id", &wrong);
            assert_eq!(statuses(&thief), UNKNOWN, "{name}: {wrong}");
        }
        assert_eq!(statuses(&client), EXISTS, "{name}: it is still there");
    }
}

const ALICE_AND_BOB: &str =
    "[server.tokens.alice]\ntoken = \"alices\"\n[server.tokens.bob]\ntoken = \"bobs\"\n";

#[test]
fn a_process_that_did_not_open_a_session_knows_its_owner() {
    for secret in ["", &format!("session_secret = \"{SECRET}\"\n")] {
        let folder = folder("owners", &format!("{secret}{ALICE_AND_BOB}"));
        let server = start(&folder);
        let alice = server.client_with_token("alices");
        let server = restarted(server, &folder);
        let mut bob = server.with_token("bobs");
        bob.header("mcp-session-id", alice.session());
        assert_eq!(statuses(&bob), UNKNOWN);
        let mut alice = alice;
        alice.switch_to(&server);
        assert_eq!(statuses(&alice), EXISTS);
    }
}

#[test]
fn an_edit_of_tokens_between_two_starts_ends_only_the_sessions_of_changed_ones() {
    let folder = folder("edits", ALICE_AND_BOB);
    let server = start(&folder);
    let (mut alice, mut bob) = (
        server.client_with_token("alices"),
        server.client_with_token("bobs"),
    );
    let edited = ALICE_AND_BOB.replace("\"bobs\"", "\"another\"")
        + "[server.tokens.carol]\ntoken = \"carols\"\n";
    let server = restarted_with(server, &folder, &edited);
    alice.switch_to(&server);
    assert_eq!(statuses(&alice), EXISTS);
    bob.switch_to(&server);
    bob.header("authorization", "Bearer another");
    assert_eq!(statuses(&bob), UNKNOWN);
}

#[test]
fn with_a_secret_a_session_survives_a_restart_with_a_new_value_of_its_token() {
    let secret = format!("session_secret = \"{SECRET}\"\n");
    let folder = folder("rotated", &format!("{secret}{ALICE_AND_BOB}"));
    let server = start(&folder);
    let mut alice = server.client_with_token("alices");
    let edited = ALICE_AND_BOB.replace("\"alices\"", "\"another\"");
    let server = restarted_with(server, &folder, &format!("{secret}{edited}"));
    alice.switch_to(&server);
    alice.header("authorization", "Bearer another");
    assert_eq!(statuses(&alice), EXISTS);
}

#[test]
fn with_another_secret_a_restarted_server_accepts_no_earlier_session() {
    let keys = |secret: &str| format!("auth = \"secret123\"\nsession_secret = \"{secret}\"\n");
    let folder = folder("another-secret", &keys(SECRET));
    let server = start(&folder);
    let mut client = server.client_with_token("secret123");
    let server = restarted_with(server, &folder, &keys(&SECRET.replace('0', "1")));
    client.switch_to(&server);
    assert_eq!(statuses(&client), UNKNOWN);
}

#[test]
fn an_edit_of_the_secret_is_live_and_sessions_in_memory_go_on() {
    let keys = |secret: &str| format!("auth = \"secret123\"\nsession_secret = \"{secret}\"\n");
    let (one, two) = (folder("live", &keys(SECRET)), folder("live", &keys(SECRET)));
    let (server, replica) = (start(&one), start(&two));
    let (mut known, mut unknown) = (
        server.client_with_token("secret123"),
        replica.client_with_token("secret123"),
    );
    let edited = format!("[server]\n{}{MODEL}", keys(&SECRET.replace('0', "1")));
    one.write("llama-mcp-server.toml", &edited);
    server.wait_for_log("server: live (session_secret)");
    assert_answers(&mut known, 0);
    unknown.switch_to(&server);
    assert_eq!(statuses(&unknown), UNKNOWN);
    let mut next = server.client_with_token("secret123");
    assert_answers(&mut next, 1);
}

#[test]
fn initialize_opens_a_session_and_ignores_the_session_header() {
    let folder = folder("initialize", "auth = \"secret123\"\n");
    let server = start(&folder);
    let ended = server.client_with_token("secret123");
    assert_eq!(ended.send("DELETE", None).status(), 204);
    let running = server.client_with_token("secret123");
    for old in [
        ended.session(),
        running.session(),
        "5233db20-66e9-4674-916a-6370fe7589ca",
        "x",
        "",
    ] {
        let mut client = server.with_token("secret123");
        client.header("mcp-session-id", old);
        let answer = client.post(&request(1, "initialize", json!({})));
        assert_eq!(answer.status(), 200, "{old}");
        let opened = answer.headers()["mcp-session-id"].to_str().unwrap();
        assert_ne!(opened, old);
        let mut next = running.clone();
        next.header("mcp-session-id", opened);
        assert_answers(&mut next, 0);
    }
    assert_eq!(statuses(&running), EXISTS);
}

#[test]
fn more_clients_than_session_slots_are_served_alternately() {
    let folder = folder("many", "max_sessions = 2\n");
    let server = start(&folder);
    let mut clients: Vec<Client> = (0..5).map(|_| server.client()).collect();
    for turn in 0..2 {
        for (number, client) in clients.iter_mut().enumerate() {
            assert_answers(client, turn + number);
        }
    }
    // All sessions in memory have running calls, so another client gets 503, and retries.
    let worker = workers_of(server.child.id())[0];
    signal_process(worker, "STOP");
    let mut running: Vec<Events> = clients[..2]
        .iter()
        .map(|client| client.call_with_stopped_worker(1))
        .collect();
    let refused = clients[2].post(&request(2, "ping", json!({})));
    assert_eq!(refused.status(), 503);
    assert_eq!(refused.headers()["retry-after"], "10");
    assert!(running[0].next().is_some(), "it is not disturbed");
    let cancel =
        json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 1}});
    assert_eq!(clients[1].post(&cancel).status(), 202);
    assert!(running.pop().unwrap().last().is_some());
    assert_eq!(
        clients[2].post(&request(3, "ping", json!({}))).status(),
        200
    );
}

#[test]
fn the_end_of_a_session_of_another_process_is_remembered() {
    let folder = folder("deleted", "");
    let server = start(&folder);
    let mut client = server.client();
    let server = restarted(server, &folder);
    client.switch_to(&server);
    assert_eq!(client.send("DELETE", None).status(), 204);
    assert_eq!(statuses(&client), UNKNOWN);
}

#[test]
fn a_too_short_session_secret_is_refused_without_being_shown() {
    let word = "hidden-word-that-is-long-enough-to-be-one";
    for (written, is_long) in [("hidden-word", false), (word, true)] {
        let keys = format!("transport = \"http\"\nsession_secret = \"{written}\"\n");
        let folder = folder("shown", &keys);
        let output = folder.run(&["config", "check"], &[]);
        assert_eq!(output.status.success(), is_long);
        let stderr = text(output.stderr);
        assert!(!stderr.contains("hidden"), "{stderr}");
        if !is_long {
            let message = "`server.session_secret`: must have at least 32 characters";
            assert!(stderr.contains(message), "{stderr}");
            continue;
        }
        let shown = folder.show(&["--origin"], &[]);
        assert!(shown.contains("# session_secret = \"***\""), "{shown}");
        assert!(!shown.contains("hidden"), "{shown}");
        let mut command = crate::support::program();
        command
            .arg("--config")
            .arg(folder.0.join("llama-mcp-server.toml"))
            .env("RUST_LOG", "trace");
        let mut server = HttpServer::spawn(command);
        assert_answers(&mut server.client(), 0);
        folder.write(
            "llama-mcp-server.toml",
            &format!("[server]\n{}{MODEL}", keys.replace("hidden", "hidden-2")),
        );
        server.wait_for_log("live (session_secret)");
        let log = server.end();
        assert!(!log.contains("hidden"), "{log}");
    }
    let folder = folder(
        "variable",
        "session_secret = \"${env:SECRET_OF_SESSIONS}\"\n",
    );
    let shown = folder.show(&[], &[("SECRET_OF_SESSIONS", word)]);
    assert!(
        shown.contains("session_secret = \"${env:SECRET_OF_SESSIONS}\""),
        "{shown}"
    );
    let by_variable = folder.run(
        &["config", "check"],
        &[
            ("SECRET_OF_SESSIONS", word),
            ("LLAMA_MCP_SERVER__TRANSPORT", "http"),
            ("LLAMA_MCP_SERVER__SESSION_SECRET", "hidden-word"),
        ],
    );
    let stderr = text(by_variable.stderr);
    assert!(
        stderr.contains("`LLAMA_MCP_SERVER__SESSION_SECRET`: must have at least 32"),
        "{stderr}"
    );
    assert!(!stderr.contains("hidden"), "{stderr}");
}
