//! The revision without a handshake, over stdio and HTTP, next to revisions with one.

use serde_json::{Value, json};

use crate::support::Server;
use crate::support::config::Folder;
use crate::support::http::{Client, Events, HttpServer, read_message};
use crate::support::modern::{REVISION, chat, post, request, with_envelope};

const PERU: &str = "What is the capital of Peru?";
const LIMA: &str = "The capital of Peru is Lima.";

fn peru() -> Value {
    json!({"text": PERU, "temperature": 0})
}

/// Returns a client without a session.
fn client(server: &HttpServer) -> Client {
    Client::new(
        server.url(),
        &[("accept", "application/json, text/event-stream")],
    )
}

fn assert_complete(result: &Value) {
    assert_eq!(result["resultType"], "complete", "{result}");
    let server = &result["_meta"]["io.modelcontextprotocol/serverInfo"];
    assert_eq!(server["name"], "llama-mcp-server", "{result}");
}

#[test]
fn over_stdio_both_eras_are_served_side_by_side() {
    let mut server = Server::tiny(&[]);
    let id = server.request("initialize", json!({"protocolVersion": "2025-11-25"}));
    assert_eq!(
        server.response(id)["result"]["protocolVersion"],
        "2025-11-25"
    );
    server.send_line(&request("d", "server/discover", json!({})).to_string());
    let discovered = server.response("d")["result"].clone();
    assert_complete(&discovered);
    assert_eq!(
        discovered["supportedVersions"],
        json!([
            "2026-07-28",
            "2025-11-25",
            "2025-06-18",
            "2025-03-26",
            "2024-11-05"
        ])
    );
    assert_eq!(
        discovered["capabilities"],
        json!({"tools": {"listChanged": true}})
    );
    assert!(
        discovered["instructions"]
            .as_str()
            .unwrap()
            .contains("`chat`")
    );
    server.send_line(&request("l", "tools/list", json!({})).to_string());
    let listed = server.response("l")["result"].clone();
    assert_complete(&listed);
    assert_eq!(
        (&listed["ttlMs"], &listed["cacheScope"]),
        (&json!(0), &json!("public"))
    );
    server.send_line(&chat("c", peru()).to_string());
    let called = server.response("c")["result"].clone();
    assert_complete(&called);
    assert_eq!(called["content"][0]["text"], LIMA);
    let id = server.call(peru());
    let legacy = server.response(id)["result"].clone();
    assert!(legacy.get("resultType").is_none(), "{legacy}");
    assert_eq!(legacy["content"][0]["text"], LIMA);
}

#[test]
fn over_stdio_an_incomplete_envelope_or_unknown_revision_is_refused() {
    let mut server = Server::tiny(&[]);
    let mut params = with_envelope(json!({}));
    params["_meta"]["io.modelcontextprotocol/protocolVersion"] = "v999.0.0".into();
    let id = server.request("tools/list", params);
    let error = server.response(id)["error"].clone();
    assert_eq!(error["code"], -32022);
    assert_eq!(error["data"]["requested"], "v999.0.0");
    assert_eq!(error["data"]["supported"][0], REVISION);
    for (method, code) in [
        ("ping", -32601),
        ("initialize", -32601),
        ("no/such", -32601),
        ("prompts/list", -32601),
    ] {
        let id = server.request(method, with_envelope(json!({})));
        assert_eq!(server.response(id)["error"]["code"], code, "{method}");
    }
    let id = server.request("tools/call", with_envelope(json!({"name": "nope"})));
    assert_eq!(server.response(id)["error"]["code"], -32602);
}

#[test]
fn over_stdio_a_cancelled_request_gets_no_response_but_a_cancelled_subscription_does() {
    let folder = Folder::new("modern", &file("first"));
    let mut server = folder.serve();
    let listen = |id: &str| {
        let wanted =
            json!({"notifications": {"toolsListChanged": true, "promptsListChanged": true}});
        request(id, "subscriptions/listen", wanted).to_string()
    };
    server.send_line(&listen("a"));
    server.send_line(&listen("b"));
    for _ in 0..2 {
        server.wait_for_notification("notifications/subscriptions/acknowledged");
    }
    server.notify("notifications/cancelled", json!({"requestId": "a"}));
    // The answer shows that the cancel has been processed.
    server.send_line(&request("list", "tools/list", json!({})).to_string());
    server.response("list");
    folder.write("llama-mcp-server.toml", &file("second"));
    let notification = server.take_notification("notifications/tools/list_changed");
    assert_eq!(
        notification["params"]["_meta"],
        json!({"io.modelcontextprotocol/subscriptionId": "b"})
    );
    server.close_stdin();
    let ended = server.response("b")["result"].clone();
    assert_complete(&ended);
    assert_eq!(
        ended["_meta"]["io.modelcontextprotocol/subscriptionId"],
        "b"
    );
    assert!(server.wait().success());
    assert_eq!(
        server.remaining_messages(),
        Vec::<Value>::new(),
        "nothing more, and not of `a`"
    );
}

fn file(name: &str) -> String {
    format!("[models.{name}]\npath = \"crab.gguf\"\nn_threads = 1\n")
}

#[test]
fn over_http_a_request_requires_no_session_and_creates_none() {
    let server = HttpServer::tiny(&[]);
    let client = client(&server);
    let mut response = post(&client, &request(1, "server/discover", json!({})));
    assert_eq!(response.status(), 200);
    assert!(response.headers().get("mcp-session-id").is_none());
    assert_complete(&read_message(&mut response)["result"]);
    // A session header of the other era has no effect.
    let mut with_session = client.clone();
    with_session.header("mcp-session-id", "no-such-session");
    let mut response = post(&with_session, &chat(1, peru()));
    let result = read_message(&mut response)["result"].clone();
    assert_eq!(result["content"][0]["text"], LIMA);
    // Another client uses the same id at the same time.
    let mut legacy = server.client();
    assert_eq!(legacy.chat(peru()), LIMA);
    let notification =
        json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 1}});
    assert_eq!(post(&client, &notification).status(), 202);
    for method in ["GET", "DELETE"] {
        let mut client = client.clone();
        client.header("mcp-protocol-version", REVISION);
        let response = client.send(method, None);
        assert_eq!(
            (response.status().as_u16(), &response.headers()["allow"]),
            (405, &"POST".parse().unwrap())
        );
    }
}

/// Posts `message` with `headers`: revision, method and name, with `-` for a missing header. Returns the status and the error code.
fn post_with_headers(client: &Client, headers: &str, message: &Value) -> (u16, i64) {
    let mut client = client.clone();
    let names = ["mcp-protocol-version", "mcp-method", "mcp-name"];
    for (name, value) in names.iter().zip(headers.split(' ')) {
        if value != "-" {
            client.header(name, value);
        }
    }
    let mut response = client.post(message);
    let answer = read_message(&mut response);
    assert_eq!(answer["id"], message["id"]);
    let code = answer["error"]["code"].as_i64();
    (response.status().as_u16(), code.unwrap_or_default())
}

#[test]
fn over_http_every_fault_has_its_status() {
    let server = HttpServer::tiny(&[]);
    let client = client(&server);
    let plain = |method: &str| json!({"jsonrpc": "2.0", "id": 1, "method": method});
    let list = request(1, "tools/list", json!({}));
    let call = chat("x", peru());
    let nope = request(1, "tools/call", json!({"name": "nope"}));
    let (mut unknown, mut incomplete) = (list.clone(), list.clone());
    unknown["params"]["_meta"]["io.modelcontextprotocol/protocolVersion"] = "v999".into();
    let meta = incomplete["params"]["_meta"].as_object_mut().unwrap();
    meta.remove("io.modelcontextprotocol/clientCapabilities");
    let of = |method: &str| request(1, method, json!({}));
    for (headers, message, expected) in [
        ("2026-07-28 tools/list -", &list, (200, 0)),
        ("2026-07-28 tools/call chat", &call, (200, 0)),
        ("2026-07-28 tools/call =?base64?Y2hhdA==?=", &call, (200, 0)),
        ("2026-07-28 tools/call nope", &nope, (200, -32602)),
        ("- tools/list -", &list, (400, -32020)),
        ("2026-07-28 - -", &list, (400, -32020)),
        ("2026-07-28 tools/call -", &list, (400, -32020)),
        ("2026-07-28 tools/call -", &call, (400, -32020)),
        ("2026-07-28 tools/call other", &call, (400, -32020)),
        ("2026-07-28 tools/call =?base64?!?=", &call, (400, -32020)),
        ("2026-07-28 tools/list -", &incomplete, (400, -32602)),
        (
            "2026-07-28 tools/list -",
            &plain("tools/list"),
            (400, -32602),
        ),
        ("- - -", &plain("server/discover"), (400, -32602)),
        ("2026-07-28 - -", &plain("initialize"), (400, -32020)),
        ("2026-07-28 tools/list -", &unknown, (400, -32020)),
        ("v999 tools/list -", &unknown, (400, -32022)),
        ("2026-07-28 no/such -", &of("no/such"), (404, -32601)),
        ("2026-07-28 ping -", &of("ping"), (404, -32601)),
        ("2026-07-28 initialize -", &of("initialize"), (404, -32601)),
    ] {
        assert_eq!(
            post_with_headers(&client, headers, message),
            expected,
            "{headers} {message}"
        );
    }
    let twice = server.raw(&format!(
        "POST /mcp HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nMcp-Protocol-Version: {REVISION}\r\nMcp-Method: tools/list\r\nMcp-Method: tools/list\r\nContent-Length: {}\r\n\r\n{list}",
        list.to_string().len()
    ));
    assert!(twice.starts_with("HTTP/1.1 400"), "{twice}");
}

#[test]
fn over_http_progress_is_sent_as_events_and_closing_the_stream_cancels_the_call() {
    let server = HttpServer::tiny(&["--parallel", "1"]);
    let client = client(&server);
    let song =
        json!({"text": "Sing forever.", "temperature": 0, "repeat_penalty": 1, "max_tokens": 4000});
    let mut call = chat(1, song);
    call["params"]["_meta"]["progressToken"] = "t".into();
    let response = post(&client, &call);
    assert_eq!(response.headers()["x-accel-buffering"], "no");
    let mut events = Events::new(response);
    assert_eq!(events.next().unwrap()["params"]["progressToken"], "t");
    drop(events);
    // The only sequence is free again.
    let mut next = post(&client, &chat(2, peru()));
    assert_eq!(
        read_message(&mut next)["result"]["content"][0]["text"],
        LIMA
    );
}

#[cfg(target_os = "linux")]
#[test]
fn over_http_a_subscription_reports_edits_and_gets_a_response_at_shutdown() {
    let folder = Folder::new("modern-http", &file("first"));
    let mut server = HttpServer::with_config(&folder.0.join("llama-mcp-server.toml"));
    let client = client(&server);
    let wanted = json!({"notifications": {"toolsListChanged": true}});
    let mut events = Events::new(post(&client, &request("s", "subscriptions/listen", wanted)));
    let acknowledged = events.next().unwrap();
    assert_eq!(
        acknowledged["method"],
        "notifications/subscriptions/acknowledged"
    );
    assert_eq!(
        acknowledged["params"]["notifications"],
        json!({"toolsListChanged": true})
    );
    folder.write("llama-mcp-server.toml", &file("second"));
    let notification = events.next().unwrap();
    assert_eq!(notification["method"], "notifications/tools/list_changed");
    assert_eq!(
        notification["params"]["_meta"]["io.modelcontextprotocol/subscriptionId"],
        "s"
    );
    server.signal("TERM");
    let ended = events.next().unwrap();
    assert_eq!(ended["id"], "s");
    assert_complete(&ended["result"]);
    assert!(server.wait().success());
    assert!(events.next().is_none());
}

#[test]
fn a_subscription_requires_a_stream() {
    let server = HttpServer::tiny(&[]);
    let client = Client::new(server.url(), &[("accept", "application/json")]);
    let wanted = json!({"notifications": {"toolsListChanged": true}});
    let response = post(&client, &request(1, "subscriptions/listen", wanted.clone()));
    assert_eq!(response.status(), 406);
    let listening = Client::new(server.url(), &[("accept", "*/*")]);
    let mut events = Events::new(post(
        &listening,
        &request(1, "subscriptions/listen", wanted),
    ));
    assert!(events.next().is_some());
    let nothing = request(1, "subscriptions/listen", json!({}));
    let mut refused = post(&listening, &nothing);
    assert_eq!(read_message(&mut refused)["error"]["code"], -32602);
}
