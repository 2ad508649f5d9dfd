//! Input that deviates slightly is accepted if it is unambiguous, and otherwise its client gets an error at once.

use serde_json::{Value, json};

use crate::support::config::Folder;
use crate::support::http::{Client, HttpServer, read_message, request};
use crate::support::{Server, modern};

const PERU: &str = "What is the capital of Peru?";
const LIMA: &str = "The capital of Peru is Lima.";

fn result(server: &mut Server, tool: &str, arguments: Value) -> Value {
    let id = server.call_tool(tool, arguments);
    server.response(id)["result"].clone()
}

#[test]
fn arguments_of_the_chat_tool_may_be_json_text() {
    let mut server = Server::tiny(&[]);
    let conversation = json!([{"role": "user", "content": PERU}]);
    let parts = json!([{"role": "user", "content": [{"type": "text", "text": PERU}]}]);
    for arguments in [
        json!({"messages": conversation.to_string(), "temperature": "0"}),
        json!({"messages": [conversation[0].to_string()], "temperature": " 0.0 "}),
        json!({"messages": parts.to_string(), "temperature": "0e2"}),
        json!({"text": PERU, "temperature": "0", "max_tokens": "20", "top_k": "1e1", "seed": "-1", "deadline": "60"}),
    ] {
        assert_eq!(server.chat(arguments.clone()).text, LIMA, "{arguments}");
    }
    let stopped = json!({"text": PERU, "temperature": 0, "stop": "[\"of Peru\", \"Lima\"]"});
    assert_eq!(server.chat(stopped).text, "The capital ");
    // Text arguments are never parsed.
    let text = json!({"text": "[\"What is the capital of Peru?\"]", "temperature": 0});
    assert_ne!(server.chat(text).text, "");
    let schema = json!({"type": "object", "properties": {"capital": {"type": "string"}}, "required": ["capital"]});
    let arguments = json!({"text": "Give me Cuba as JSON.", "temperature": 0, "json_schema": schema.to_string()});
    let answer = result(&mut server, "chat", arguments);
    assert!(
        answer["structuredContent"]["capital"].is_string(),
        "{answer}"
    );
}

#[test]
fn all_arguments_of_a_call_may_be_json_text() {
    let mut server = Server::tiny(&[]);
    let arguments = json!({"text": PERU, "temperature": 0}).to_string();
    let id = server.request(
        "tools/call",
        json!({"name": "chat", "arguments": arguments}),
    );
    assert_eq!(server.result(id).text, LIMA);
    let id = server.request("tools/call", json!({"name": "chat", "arguments": "[]"}));
    assert_eq!(server.response(id)["error"]["code"], -32602);
}

#[test]
fn an_empty_optional_value_counts_as_absent() {
    let mut server = Server::tiny(&["--temperature", "0", "--set=models.default.stop=[\" is\"]"]);
    let hi = json!([{"role": "user", "content": PERU}]);
    for arguments in [
        json!({"text": PERU, "messages": [], "stop": [], "json_schema": {}, "seed": "", "deadline": ""}),
        json!({"text": PERU, "messages": "", "stop": "", "json_schema": "", "top_p": "", "max_tokens": ""}),
        json!({"text": PERU, "messages": "[]", "stop": [""], "json_schema": "{}", "top_k": "null"}),
        json!({"text": "", "messages": hi}),
        json!({"text": null, "messages": hi.to_string()}),
    ] {
        assert_eq!(
            server.chat(arguments.clone()).text,
            "The capital of Peru",
            "{arguments}"
        );
    }
    // With an empty text, empty messages are an error.
    let empty = server.refusal(json!({"text": "", "messages": []}));
    assert_eq!(
        empty,
        "`messages`: must be an array of at least one message, found an empty array"
    );
}

const ECHO: &str = r#"
[log]
log_prompts = true
[models.crab]
path = "crab.gguf"
n_threads = 1
temperature = 0
[tools.echo]
prompt = "{{ n }}|{{ share }}|{{ loud }}|{{ tags | join('+') }}|{{ counts | join('+') }}|{{ word }}"
[tools.echo.arguments.n]
type = "integer"
enum = [3, 100]
[tools.echo.arguments.share]
type = "number"
default = 0.5
[tools.echo.arguments.loud]
type = "boolean"
default = false
[tools.echo.arguments.tags]
type = "array"
default = ["x"]
[tools.echo.arguments.counts]
type = "array"
items = "integer"
default = [7]
[tools.echo.arguments.word]
default = "w"
"#;

#[test]
fn arguments_of_typed_tools_may_be_json_text_if_their_types_allow_it() {
    let folder = Folder::new("lenient", ECHO);
    let mut server = folder.serve();
    for (arguments, prompt) in [
        (
            json!({"n": "3", "share": "1e2", "loud": "true", "tags": "[\"a\",\"1\"]", "counts": "[1, \"2\"]", "word": "5"}),
            "3|100.0|True|a+1|1+2|5",
        ),
        (
            json!({"n": " 1e2 ", "share": "", "loud": "", "tags": "", "counts": ["1", "2.0"], "word": ""}),
            "100|0.5|False|x|1+2|",
        ),
        (
            json!({"n": 3, "share": "null", "tags": ["1", "[2]"], "word": "[4]"}),
            "3|0.5|False|1+[2]|7|[4]",
        ),
    ] {
        let answer = result(&mut server, "echo", arguments);
        assert_eq!(answer.get("isError"), None, "{answer}");
        server.wait_for_log(prompt);
    }
    for (arguments, message) in [
        (json!({"n": "4"}), "`n`: must be 3 or 100, found 4"),
        (
            json!({"n": "three"}),
            "`n`: must be 3 or 100, found the string \"three\"",
        ),
        (
            json!({"n": 3, "loud": "True"}),
            "`loud`: must be true or false, found the string \"True\"",
        ),
        (
            json!({"n": 3, "tags": "a, b"}),
            "`tags`: must be an array of strings, found the string \"a, b\"",
        ),
        (
            json!({"n": 3, "counts": "[1.5]"}),
            "`counts[0]`: must be a whole number, found 1.5",
        ),
        (
            json!({"n": 3, "share": "NaN"}),
            "`share`: must be a number, found the string \"NaN\"",
        ),
        (
            json!({"n": 3, "share": "1e400"}),
            "`share`: must be a number, found the string \"1e400\"",
        ),
    ] {
        let answer = result(&mut server, "echo", arguments);
        assert_eq!(answer["isError"], true);
        assert_eq!(answer["content"][0]["text"], message);
    }
}

#[test]
fn the_endpoint_accepts_a_trailing_slash() {
    let server = HttpServer::tiny(&[]);
    let mut client = Client::new(format!("{}/", server.url()), &[]);
    client.initialize();
    assert_eq!(client.chat(json!({"text": PERU, "temperature": 0})), LIMA);
    let listed = modern::request(1, "tools/list", json!({}));
    let mut listed = modern::post(&client, &listed);
    assert_eq!(
        read_message(&mut listed)["result"]["tools"][0]["name"],
        "chat"
    );
    let stream = client.send("GET", None);
    assert_eq!(stream.headers()["content-type"], "text/event-stream");
    assert_eq!(client.send("PUT", None).status(), 405);
    assert_eq!(client.send("DELETE", None).status(), 204);
    assert_eq!(client.post(&request(9, "ping", json!({}))).status(), 404);
}

#[test]
fn lists_of_unsupported_features_are_empty_for_earlier_revisions() {
    let mut server = Server::tiny(&[]);
    for revision in ["2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25"] {
        let id = server.request("initialize", json!({"protocolVersion": revision}));
        let capabilities = server.response(id)["result"]["capabilities"].clone();
        assert_eq!(capabilities, json!({"tools": {"listChanged": true}}));
        for (method, list) in [
            ("prompts/list", json!({"prompts": []})),
            ("resources/list", json!({"resources": []})),
            ("resources/templates/list", json!({"resourceTemplates": []})),
        ] {
            let id = server.request(method, json!({}));
            assert_eq!(server.response(id)["result"], list);
            let id = server.request(method, modern::with_envelope(json!({})));
            assert_eq!(server.response(id)["error"]["code"], -32601, "{method}");
            let id = server.request(method, json!({"cursor": "2"}));
            assert_eq!(server.response(id)["error"]["code"], -32602, "{method}");
        }
    }
    let id = server.request("prompts/get", json!({"name": "x"}));
    assert_eq!(server.response(id)["error"]["code"], -32601);
}

#[test]
fn an_unknown_cursor_is_refused() {
    let mut server = Server::tiny(&[]);
    for params in [json!({"cursor": "2"}), json!({"cursor": 7})] {
        for params in [params.clone(), modern::with_envelope(params)] {
            let id = server.request("tools/list", params);
            assert_eq!(server.response(id)["error"]["code"], -32602);
        }
    }
    for cursor in [json!(null), json!("")] {
        let id = server.request("tools/list", json!({"cursor": cursor}));
        assert_eq!(server.response(id)["result"]["tools"][0]["name"], "chat");
    }
}
