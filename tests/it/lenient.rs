//! Input that is slightly off: it is taken where it has one meaning, and its client never waits for nothing.

use std::io::Write;
use std::process::Stdio;

use serde_json::{Value, json};

use crate::support::config::Folder;
use crate::support::http::{Client, HttpServer, json_of, request};
use crate::support::{Server, modern, program, tiny};

const PERU: &str = "What is the capital of Peru?";
const LIMA: &str = "The capital of Peru is Lima.";

/// The answers of a server to `lines` over stdio, as they are written.
fn answers(lines: &[&[u8]]) -> Vec<String> {
    let mut child = program()
        .arg("--model")
        .arg(tiny())
        .args(["--n_threads", "1"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    for line in lines {
        stdin.write_all(line).unwrap();
        stdin.write_all(b"\n").unwrap();
    }
    drop(stdin);
    let output = child.wait_with_output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().map(str::to_owned).collect()
}

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
    // A text is never read as anything else.
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
fn an_empty_value_that_means_nothing_is_absent() {
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
    // An empty text says that there is none.
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
fn arguments_of_typed_tools_may_be_json_text_by_their_types() {
    let folder = Folder::new("lenient", ECHO);
    let mut command = program();
    command.current_dir(&folder.0);
    let mut server = Server::spawn(command);
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
    for (arguments, told) in [
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
        assert_eq!(answer["content"][0]["text"], told);
    }
}

#[test]
fn over_stdio_an_unreadable_message_is_answered_with_its_own_id() {
    let deep = "[".repeat(20_000) + &"]".repeat(20_000);
    let deep = format!(r#"{{"jsonrpc":"2.0","id":6,"method":"ping","params":{{"a":{deep}}}}}"#);
    let mut long =
        br#"{"method":"tools/call","params":{"name":"chat","arguments":{"text":""#.to_vec();
    long.resize(17 << 20, b'x');
    long.extend_from_slice(br#""}},"jsonrpc":"2.0","id":"long"}"#);
    let lines: [&[u8]; 11] = [
        br#"{"jsonrpc":"2.0","id":1,"method":"ping","params":{"a":NaN}}"#,
        br#"{"method":"ping","params":{"a":Infinity},"jsonrpc":"2.0","id":"2"}"#,
        b"{\"jsonrpc\":\"2.0\",\"id\":3,\"method\":\"ping\",\"params\":{\"a\":\"\xff\"}}",
        br#"{"jsonrpc":"2.0","id":4,"method":"ping""#,
        br#"{"jsonrpc":"2.0","id":5,"method":"ping","params":{"a":1e400}}"#,
        deep.as_bytes(),
        br#"{"jsonrpc":"2.0","id":18446744073709551617,"method":"ping",}"#,
        br"{'jsonrpc': '2.0', 'id': 8, 'method': 'ping'}",
        &long,
        br#"{"jsonrpc":"2.0","params":{"id":10}"#,
        b"hello",
    ];
    let mut ids: Vec<String> = answers(&lines)
        .iter()
        .map(|answer| {
            let rest = answer.strip_prefix(r#"{"jsonrpc":"2.0","id":"#).unwrap();
            let (id, error) = rest.split_once(r#","error":{"code":-32"#).unwrap();
            assert!(error.starts_with("700,") || id == "\"long\"", "{answer}");
            id.to_owned()
        })
        .collect();
    let mut expected = [
        "1",
        "\"2\"",
        "3",
        "4",
        "5",
        "6",
        "18446744073709551617",
        "8",
        "\"long\"",
        "null",
        "null",
    ];
    // They are answered side by side.
    ids.sort();
    expected.sort_unstable();
    assert_eq!(ids, expected);
}

#[test]
fn over_http_an_unreadable_message_is_answered_with_its_own_id() {
    let server = HttpServer::tiny(&[]);
    let client = server.client();
    for (body, id) in [
        (
            r#"{"jsonrpc":"2.0","id":1,"method":"ping","params":{"a":NaN}}"#,
            json!(1),
        ),
        (r#"{"params":{"a":[},"jsonrpc":"2.0","id":"b"}"#, json!("b")),
        ("{\n  \"jsonrpc\": \"2.0\",\n  \"id\": 3,\n}", json!(3)),
        (
            r#"{"jsonrpc":"2.0","id":4,"method":"ping","params":{"a":-1e999}}"#,
            json!(4),
        ),
        ("{", json!(null)),
    ] {
        let mut response = client.send("POST", Some(body));
        assert_eq!(response.status(), 400, "{body}");
        let answer = json_of(&mut response);
        assert_eq!(
            (&answer["id"], &answer["error"]["code"]),
            (&id, &json!(-32700))
        );
    }
}

#[test]
fn ids_of_any_size_come_back_unchanged_and_can_be_cancelled() {
    let ids = [
        "0",
        "-0",
        "1e3",
        "1.50",
        "9007199254740993",
        "18446744073709551616",
        "-9223372036854775809",
        "\"a\"",
        "\"\u{e9}\"",
    ];
    let (nines, long) = ("9".repeat(500), format!("\"{}\"", "x".repeat(100_000)));
    for id in ids.into_iter().chain([&nines[..], &long]) {
        let ping = format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"ping"}}"#);
        let call = format!(
            r#"{{"jsonrpc":"2.0","id":{id},"method":"tools/call","params":{{"name":"chat","arguments":{{"text":"Sing forever.","repeat_penalty":1,"max_tokens":4000}}}}}}"#
        );
        let cancel = format!(
            r#"{{"jsonrpc":"2.0","method":"notifications/cancelled","params":{{"requestId":{id}}}}}"#
        );
        // A cancelled call has no answer, and its id can be used again.
        let heard = answers(&[call.as_bytes(), cancel.as_bytes(), ping.as_bytes()]);
        assert_eq!(
            heard,
            [format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{{}}}}"#)]
        );
    }
}

#[test]
fn a_progress_token_and_a_subscription_of_any_size_come_back_unchanged() {
    let call = br#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"chat","arguments":{"text":"Sing forever.","repeat_penalty":1,"max_tokens":4000,"deadline":2},"_meta":{"progressToken":18446744073709551616}}}"#;
    let listen = modern::request("@", "subscriptions/listen", json!({"notifications": {}}));
    let listen = listen.to_string().replace("\"@\"", "36893488147419103232");
    let heard = answers(&[call, listen.as_bytes()]);
    let count = |text: &str| heard.iter().filter(|line| line.contains(text)).count();
    assert!(
        count(r#""progressToken":18446744073709551616,"#) > 0,
        "{heard:?}"
    );
    assert_eq!(
        count("subscriptionId\":36893488147419103232"),
        2,
        "{heard:?}"
    );
    assert_eq!(count("\"id\":36893488147419103232"), 1, "{heard:?}");
}

#[test]
fn a_byte_order_mark_before_a_message_is_skipped() {
    let ping = "\u{feff}{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"ping\"}";
    let heard = answers(&[
        ping.as_bytes(),
        "\u{feff}".as_bytes(),
        "\u{feff}\r".as_bytes(),
    ]);
    assert_eq!(heard, [r#"{"jsonrpc":"2.0","id":1,"result":{}}"#]);
    let server = HttpServer::tiny(&[]);
    let mut response = server.client().send("POST", Some(ping));
    assert_eq!(response.body_mut().read_to_string().unwrap(), heard[0]);
}

#[test]
fn half_a_character_that_javascript_wrote_is_read_as_a_replacement_character() {
    // In an argument, in JSON text within one, and in a name.
    let conversation = r#"[{\"role\":\"user\",\"content\":\"Hi \\ud83d\"}]"#;
    let calls = [
        r#"{"name":"chat","arguments":{"text":"Hi \ud83d"}}"#.to_owned(),
        format!(r#"{{"name":"chat","arguments":{{"messages":"{conversation}"}}}}"#),
        r#"{"name":"\udc00"}"#.to_owned(),
    ];
    let told = calls.map(|params| {
        let call = format!(r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{params}}}"#);
        let [answer] = &answers(&[call.as_bytes()])[..] else {
            panic!("one answer")
        };
        let answer: Value = serde_json::from_str(answer).unwrap();
        let result = &answer["result"];
        assert_eq!(result.get("isError"), None, "{answer}");
        answer
    });
    assert!(told[0]["result"]["content"][0]["text"].is_string());
    assert!(told[1]["result"]["content"][0]["text"].is_string());
    assert_eq!(
        told[2]["error"]["message"],
        "unknown tool `\u{fffd}`; known here: `chat`"
    );
}

#[test]
fn the_endpoint_is_the_same_with_a_slash_at_its_end() {
    let server = HttpServer::tiny(&[]);
    let mut client = Client::new(format!("{}/", server.url()), &[]);
    client.initialize();
    assert_eq!(client.chat(json!({"text": PERU, "temperature": 0})), LIMA);
    let listed = modern::request(1, "tools/list", json!({}));
    let mut listed = modern::post(&client, &listed);
    assert_eq!(json_of(&mut listed)["result"]["tools"][0]["name"], "chat");
    let stream = client.send("GET", None);
    assert_eq!(stream.headers()["content-type"], "text/event-stream");
    assert_eq!(client.send("PUT", None).status(), 405);
    assert_eq!(client.send("DELETE", None).status(), 204);
    assert_eq!(client.post(&request(9, "ping", json!({}))).status(), 404);
}

#[test]
fn lists_of_what_there_is_not_are_empty_for_earlier_revisions() {
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
            let id = server.request(method, modern::enveloped(json!({})));
            assert_eq!(server.response(id)["error"]["code"], -32601, "{method}");
            let id = server.request(method, json!({"cursor": "2"}));
            assert_eq!(server.response(id)["error"]["code"], -32602, "{method}");
        }
    }
    let id = server.request("prompts/get", json!({"name": "x"}));
    assert_eq!(server.response(id)["error"]["code"], -32601);
}

#[test]
fn a_cursor_that_was_never_given_is_refused() {
    let mut server = Server::tiny(&[]);
    for params in [json!({"cursor": "2"}), json!({"cursor": 7})] {
        for params in [params.clone(), modern::enveloped(params)] {
            let id = server.request("tools/list", params);
            assert_eq!(server.response(id)["error"]["code"], -32602);
        }
    }
    for cursor in [json!(null), json!("")] {
        let id = server.request("tools/list", json!({"cursor": cursor}));
        assert_eq!(server.response(id)["result"]["tools"][0]["name"], "chat");
    }
}
