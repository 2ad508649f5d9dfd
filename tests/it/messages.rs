//! The check that every other test makes of every message: that it bites.

use serde_json::{Value, json};

use crate::support::schema::Conversation;

/// What a client hears that has sent `requests`.
fn heard(requests: &[Value], message: Value) -> Result<(), String> {
    let mut conversation = Conversation::default();
    for request in requests {
        conversation.sends(&request.to_string());
    }
    conversation.hears(&message)
}

fn asked(method: &str, params: Value) -> Vec<Value> {
    vec![json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params})]
}

fn answer(result: Value) -> Value {
    json!({"jsonrpc": "2.0", "id": 1, "result": result})
}

/// The envelope of a request of 2026-07-28.
fn modern() -> Value {
    json!({"_meta": {
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientCapabilities": {},
        "progressToken": 1,
    }})
}

#[test]
fn a_result_must_be_one_of_its_request() {
    let call = asked("tools/call", json!({}));
    let text = json!([{"type": "text", "text": "Hi"}]);
    assert_eq!(heard(&call, answer(json!({"content": text}))), Ok(()));
    let wrong = [
        answer(json!({})),
        answer(json!({"content": [{"type": "text"}]})),
        answer(json!({"content": text, "isError": "no"})),
        answer(json!({"content": text, "structuredContent": 3})),
        json!({"jsonrpc": "2.0", "id": 2, "result": {"content": text}}),
        json!({"id": 1, "result": {"content": text}}),
        json!({"jsonrpc": "2.0", "id": 1, "method": "ping"}),
        json!({"not a message": "Loading the model"}),
    ];
    for message in wrong {
        assert!(heard(&call, message.clone()).is_err(), "{message}");
    }
    let tool = json!({"name": "chat", "inputSchema": {"type": "array"}});
    let list = asked("tools/list", json!({}));
    assert!(heard(&list, answer(json!({"tools": [tool]}))).is_err());
    assert!(heard(&asked("no/such", json!({})), answer(json!({}))).is_err());
}

#[test]
fn what_initialize_agreed_on_is_what_counts() {
    let requests = [
        json!({"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": {}}),
        json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {}}),
    ];
    // 2024-11-05 knows no structured content, so it may be anything there.
    let result = answer(json!({"content": [], "structuredContent": 3}));
    for (revision, is_valid) in [("2024-11-05", true), ("2025-06-18", false)] {
        let mut conversation = Conversation::default();
        for request in &requests {
            conversation.sends(&request.to_string());
        }
        let server = json!({"name": "s", "version": "1"});
        let agreed = json!({"protocolVersion": revision, "capabilities": {}, "serverInfo": server});
        let agreed = json!({"jsonrpc": "2.0", "id": 0, "result": agreed});
        assert_eq!(conversation.hears(&agreed), Ok(()));
        assert_eq!(conversation.hears(&result).is_ok(), is_valid, "{revision}");
    }
    let unknown = json!({"protocolVersion": "2099-01-01", "capabilities": {}, "serverInfo": {"name": "s", "version": "1"}});
    assert!(heard(&asked("initialize", json!({})), answer(unknown)).is_err());
}

#[test]
fn a_request_of_the_modern_revision_has_a_modern_answer() {
    let call = asked("tools/call", modern());
    let complete = json!({"resultType": "complete", "content": []});
    assert_eq!(heard(&call, answer(complete.clone())), Ok(()));
    assert!(heard(&call, answer(json!({"content": []}))).is_err());
    let error = |code: i64, data: Value| json!({"jsonrpc": "2.0", "id": 1, "error": {"code": code, "message": "m", "data": data}});
    let versions = json!({"supported": ["2026-07-28"], "requested": "v999"});
    assert_eq!(heard(&call, error(-32022, versions)), Ok(()));
    assert!(heard(&call, error(-32022, json!({}))).is_err());
    // What only one of the eras has.
    assert!(heard(&asked("ping", modern()), answer(json!({}))).is_err());
    assert!(heard(&asked("server/discover", json!({})), answer(complete)).is_err());
}

#[test]
fn news_must_be_known_and_asked_for() {
    let call = asked("tools/call", modern());
    let news = |method: &str, params: Value| json!({"jsonrpc": "2.0", "method": format!("notifications/{method}"), "params": params});
    let progress = |token: Value, progress: Value| {
        news(
            "progress",
            json!({"progressToken": token, "progress": progress}),
        )
    };
    assert_eq!(heard(&call, progress(json!(1), json!(0.5))), Ok(()));
    assert!(heard(&call, progress(json!(2), json!(0.5))).is_err());
    assert!(heard(&call, progress(json!(1), json!("half"))).is_err());
    assert_eq!(heard(&[], news("tools/list_changed", json!({}))), Ok(()));
    assert!(heard(&[], news("tools/list_changed", json!([]))).is_err());
    assert!(heard(&[], news("no/such", json!({}))).is_err());
    let acknowledged = "subscriptions/acknowledged";
    assert!(heard(&[], news(acknowledged, json!({}))).is_err());
}

#[test]
fn an_error_must_say_what_and_to_whom() {
    let ping = asked("ping", json!({}));
    let error = json!({"code": -32600, "message": "m"});
    let message = |id: Value| json!({"jsonrpc": "2.0", "id": id, "error": error});
    assert_eq!(heard(&ping, message(json!(1))), Ok(()));
    assert_eq!(heard(&ping, message(json!(null))), Ok(()));
    assert!(heard(&ping, message(json!({}))).is_err());
    assert!(heard(&ping, json!({"jsonrpc": "2.0", "error": error})).is_err());
    let silent = json!({"jsonrpc": "2.0", "id": null, "error": {"code": -32700}});
    assert!(heard(&ping, silent).is_err());
}
