//! JSON-RPC and MCP over stdio.

use std::collections::HashSet;

use serde_json::{Value, json};

use crate::support::{Server, program, tiny};

fn initialize(server: &mut Server, params: Value) -> Value {
    let id = server.request("initialize", params);
    server.response(id)["result"].clone()
}

#[test]
fn initialize_accepts_each_revision_and_defaults_to_the_documented_one() {
    let mut server = Server::tiny(&[]);
    let mut revision =
        |requested: Value| initialize(&mut server, requested)["protocolVersion"].clone();
    assert_eq!(revision(json!({})), "2024-11-05");
    for known in ["2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25"] {
        let params = json!({"protocolVersion": known, "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}});
        assert_eq!(revision(params), known);
    }
    assert_eq!(
        revision(json!({"protocolVersion": "2099-01-01"})),
        "2025-11-25"
    );
}

#[test]
fn the_documented_initialize_gets_the_documented_response() {
    let mut server = Server::tiny(&[]);
    let result = initialize(&mut server, json!({}));
    assert_eq!(
        result["capabilities"],
        json!({"tools": {"listChanged": true}})
    );
    assert_eq!(result["serverInfo"]["name"], "llama-mcp-server");
    assert_eq!(result["serverInfo"]["version"], env!("CARGO_PKG_VERSION"));
    let instructions = result["instructions"].as_str().unwrap();
    assert!(
        instructions.ends_with(
            "- `chat`: Asks the local language model tiny-crab-chat and returns its answer as text.\n"
        ),
        "{instructions}"
    );
}

#[test]
fn the_tool_is_listed_with_its_name_and_a_portable_schema() {
    let mut server = Server::tiny(&["--tool_name", "ask_llama"]);
    let id = server.request("tools/list", json!({}));
    let tools = server.response(id)["result"]["tools"].clone();
    assert_eq!(tools.as_array().unwrap().len(), 1);
    let tool = &tools[0];
    assert_eq!(tool["name"], "ask_llama");
    assert!(tool["title"].is_string() && tool["description"].is_string());
    let schema = &tool["inputSchema"];
    assert_eq!(schema["type"], "object");
    for combinator in ["oneOf", "anyOf", "allOf", "not"] {
        assert!(schema.get(combinator).is_none());
    }
    for argument in [
        "text",
        "messages",
        "temperature",
        "max_tokens",
        "top_p",
        "top_k",
        "prompt_suffix",
        "thinking_budget",
        "template_arguments",
    ] {
        assert!(
            schema["properties"][argument]["description"].is_string(),
            "{argument}"
        );
    }
}

#[test]
fn invalid_requests_get_an_error_and_the_next_request_is_served() {
    let mut server = Server::tiny(&[]);
    let table = [
        ("{not json", json!(null), -32700),
        ("[]", json!(null), -32600),
        (
            r#"{"jsonrpc":"2.0","id":"no-method"}"#,
            json!("no-method"),
            -32600,
        ),
        (
            r#"{"jsonrpc":"2.0","id":71,"method":"no/such"}"#,
            json!(71),
            -32601,
        ),
        (
            r#"{"jsonrpc":"2.0","id":72,"method":"server/discover"}"#,
            json!(72),
            -32602,
        ),
        (
            r#"{"jsonrpc":"2.0","id":73,"method":"tools/call","params":{}}"#,
            json!(73),
            -32602,
        ),
        (
            r#"{"jsonrpc":"2.0","id":74,"method":"tools/call","params":{"name":"nope"}}"#,
            json!(74),
            -32602,
        ),
        (
            r#"{"jsonrpc":"2.0","id":75,"method":"tools/call","params":{"name":"chat","arguments":[]}}"#,
            json!(75),
            -32602,
        ),
    ];
    for (line, id, code) in table {
        server.send_line(line);
        let response = server.response(id);
        assert_eq!(response["error"]["code"], code, "{line}");
        assert!(response["error"]["message"].is_string());
    }
    let id = server.request("ping", json!({}));
    assert_eq!(server.response(id)["result"], json!({}));
}

#[test]
fn notifications_and_responses_get_no_response() {
    let mut server = Server::tiny(&[]);
    server.notify("notifications/initialized", json!({}));
    server.notify("no/such", json!({}));
    server.send_line(r#"{"jsonrpc":"2.0","id":5,"result":{}}"#);
    server.send_line("");
    let id = server.request("ping", json!({}));
    server.response(id);
    server.close_stdin();
    assert_eq!(server.remaining_messages(), Vec::<Value>::new());
}

#[cfg(target_os = "linux")]
#[test]
fn a_line_over_the_limit_is_refused_without_being_buffered() {
    use crate::support::memory_of;

    let mut server = Server::tiny(&[]);
    server.send_line(&format!(
        r#"{{"method":"{}","jsonrpc":"2.0","id":"long"}}"#,
        "x".repeat(100 << 20)
    ));
    let response = server.response("long");
    assert_eq!(response["error"]["code"], -32600);
    let id = server.request("ping", json!({}));
    server.response(id);
    // Without the pages of the program file.
    let peak = memory_of(server.child.id(), "VmHWM") - memory_of(server.child.id(), "RssFile");
    assert!(peak < 64 << 20, "{peak} bytes");
}

#[cfg(target_os = "linux")]
#[test]
fn other_requests_are_served_while_a_generation_runs() {
    use crate::support::signal_process;

    let mut server = Server::tiny(&["--repeat_penalty", "1"]);
    let (running, worker) = server.call_with_stopped_worker("chat");
    let ping = server.request("ping", json!({}));
    server.response(ping);
    let list = server.request("tools/list", json!({}));
    server.response(list);
    server.expects_reuse = true;
    let reused = json!({"jsonrpc": "2.0", "id": running, "method": "ping"}).to_string();
    server.send_line(&reused);
    assert_eq!(server.response(running)["error"]["code"], -32600);
    server.cancel(running);
    signal_process(worker, "CONT");
    server.chat(json!({"text": "Hi"}));
}

#[test]
fn a_cancelled_call_frees_its_sequence_and_gets_no_response() {
    let mut server = Server::tiny(&["--parallel", "1", "--repeat_penalty", "1"]);
    let singing = json!({"text": "Sing forever.", "temperature": 0, "max_tokens": 4000});
    let running = server.call(singing.clone());
    let queued = server.call(singing);
    server.wait_for_progress(running, |message| message.contains("la la"));
    server.wait_for_progress(queued, |message| message.starts_with("queued"));
    server.cancel(queued);
    server.cancel(running);
    // A finished id and an id of another type are ignored.
    server.cancel(running);
    server.notify(
        "notifications/cancelled",
        json!({"requestId": running.to_string()}),
    );
    let answer = server.chat(json!({"text": "What is the capital of France?", "temperature": 0}));
    assert_eq!(answer.text, "The capital of France is Paris.");
    server.close_stdin();
    assert_eq!(server.remaining_messages(), Vec::<Value>::new());
}

#[test]
fn progress_is_sent_at_intervals_and_increases() {
    let mut server = Server::tiny(&["--repeat_penalty", "1"]);
    let singing = server.call(
        json!({"text": "Sing forever.", "temperature": 0, "max_tokens": 4000, "deadline": 2.6}),
    );
    server.result(singing);
    let progress: Vec<f64> = server
        .notifications
        .iter()
        .map(|notification| notification["params"]["progress"].as_f64().unwrap())
        .collect();
    assert!(
        progress.windows(2).all(|pair| pair[0] < pair[1]),
        "{progress:?}"
    );
    assert!(server.notifications.iter().all(|notification| {
        let message = notification["params"]["message"].as_str().unwrap();
        !message.is_empty() && message.chars().count() <= 200
    }));
}

#[test]
fn without_a_progress_token_there_is_no_progress() {
    let mut server = Server::tiny(&["--repeat_penalty", "1"]);
    let arguments = json!({"text": "Sing forever.", "temperature": 0, "deadline": 1.2});
    let id = server.request(
        "tools/call",
        json!({"name": "chat", "arguments": arguments}),
    );
    server.result(id);
    assert_eq!(server.notifications, Vec::<Value>::new());
}

#[test]
fn two_hundred_concurrent_calls_each_get_one_response() {
    let mut command = program();
    command
        .arg(tiny())
        .args(["--n_threads", "1", "--max_queue", "500"])
        .env("RUST_LOG", "trace");
    let mut server = Server::spawn(command);
    let calls: Vec<u64> = (0..200)
        .map(|_| server.call(json!({"text": "Tell me a story.", "max_tokens": 30})))
        .collect();
    let answered: HashSet<u64> = calls
        .iter()
        .map(|id| {
            assert!(!server.result(*id).is_error);
            *id
        })
        .collect();
    assert_eq!(answered.len(), 200);
    server.close_stdin();
    assert_eq!(server.remaining_messages(), Vec::<Value>::new());
}
