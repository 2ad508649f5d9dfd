//! The schema check, which every other test applies to every message, finds invalid messages.

use serde_json::{Value, json};

use crate::support::schema::Conversation;

/// Checks `message` as a response to `requests`.
fn check(requests: &[Value], message: Value) -> Result<(), String> {
    let mut conversation = Conversation::default();
    for request in requests {
        conversation.record_sent(&request.to_string());
    }
    conversation.check_received(&message)
}

fn request(method: &str, params: Value) -> Vec<Value> {
    vec![json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params})]
}

fn answer(result: Value) -> Value {
    json!({"jsonrpc": "2.0", "id": 1, "result": result})
}

/// Returns the metadata of a 2026-07-28 request.
fn modern() -> Value {
    json!({"_meta": {
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientCapabilities": {},
        "progressToken": 1,
    }})
}

#[test]
fn a_result_must_match_its_request() {
    let call = request("tools/call", json!({}));
    let text = json!([{"type": "text", "text": "Hi"}]);
    assert_eq!(check(&call, answer(json!({"content": text}))), Ok(()));
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
        assert!(check(&call, message.clone()).is_err(), "{message}");
    }
    let tool = json!({"name": "chat", "inputSchema": {"type": "array"}});
    let list = request("tools/list", json!({}));
    assert!(check(&list, answer(json!({"tools": [tool]}))).is_err());
    assert!(check(&request("no/such", json!({})), answer(json!({}))).is_err());
}

#[test]
fn results_follow_the_revision_that_initialize_negotiated() {
    let requests = [
        json!({"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": {}}),
        json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {}}),
    ];
    // Earlier revisions define no structured content, so it may have any type there.
    let result = answer(json!({"content": [], "structuredContent": 3}));
    for (revision, is_valid) in [("2024-11-05", true), ("2025-06-18", false)] {
        let mut conversation = Conversation::default();
        for request in &requests {
            conversation.record_sent(&request.to_string());
        }
        let server = json!({"name": "s", "version": "1"});
        let agreed = json!({"protocolVersion": revision, "capabilities": {}, "serverInfo": server});
        let agreed = json!({"jsonrpc": "2.0", "id": 0, "result": agreed});
        assert_eq!(conversation.check_received(&agreed), Ok(()));
        assert_eq!(
            conversation.check_received(&result).is_ok(),
            is_valid,
            "{revision}"
        );
    }
    let unknown = json!({"protocolVersion": "2099-01-01", "capabilities": {}, "serverInfo": {"name": "s", "version": "1"}});
    assert!(check(&request("initialize", json!({})), answer(unknown)).is_err());
}

#[test]
fn a_modern_request_requires_a_modern_result() {
    let call = request("tools/call", modern());
    let complete = json!({"resultType": "complete", "content": []});
    assert_eq!(check(&call, answer(complete.clone())), Ok(()));
    assert!(check(&call, answer(json!({"content": []}))).is_err());
    let error = |code: i64, data: Value| json!({"jsonrpc": "2.0", "id": 1, "error": {"code": code, "message": "m", "data": data}});
    let versions = json!({"supported": ["2026-07-28"], "requested": "v999"});
    assert_eq!(check(&call, error(-32022, versions)), Ok(()));
    assert!(check(&call, error(-32022, json!({}))).is_err());
    // Methods that exist in one era only.
    assert!(check(&request("ping", modern()), answer(json!({}))).is_err());
    assert!(check(&request("server/discover", json!({})), answer(complete)).is_err());
}

#[test]
fn notifications_must_be_known_and_requested() {
    let call = request("tools/call", modern());
    let notification = |method: &str, params: Value| json!({"jsonrpc": "2.0", "method": format!("notifications/{method}"), "params": params});
    let progress = |token: Value, progress: Value| {
        notification(
            "progress",
            json!({"progressToken": token, "progress": progress}),
        )
    };
    assert_eq!(check(&call, progress(json!(1), json!(0.5))), Ok(()));
    assert!(check(&call, progress(json!(2), json!(0.5))).is_err());
    assert!(check(&call, progress(json!(1), json!("half"))).is_err());
    assert_eq!(
        check(&[], notification("tools/list_changed", json!({}))),
        Ok(())
    );
    assert!(check(&[], notification("tools/list_changed", json!([]))).is_err());
    assert!(check(&[], notification("no/such", json!({}))).is_err());
    let acknowledged = "subscriptions/acknowledged";
    assert!(check(&[], notification(acknowledged, json!({}))).is_err());
}

#[test]
fn an_error_requires_a_code_and_the_id_of_its_request() {
    let ping = request("ping", json!({}));
    let error = json!({"code": -32600, "message": "m"});
    let message = |id: Value| json!({"jsonrpc": "2.0", "id": id, "error": error});
    assert_eq!(check(&ping, message(json!(1))), Ok(()));
    assert_eq!(check(&ping, message(json!(null))), Ok(()));
    assert!(check(&ping, message(json!({}))).is_err());
    assert!(check(&ping, json!({"jsonrpc": "2.0", "error": error})).is_err());
    let silent = json!({"jsonrpc": "2.0", "id": null, "error": {"code": -32700}});
    assert!(check(&ping, silent).is_err());
}
