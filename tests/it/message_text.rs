//! Messages with malformed text: invalid JSON, ids of any size, byte order marks, unpaired surrogates.

use std::io::Write;
use std::process::Stdio;

use serde_json::{Value, json};

use crate::support::http::{HttpServer, read_message};
use crate::support::{modern, program, tiny};

/// Sends `lines` over stdio and returns the responses as they are written.
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
    // All lines in one write, so that no response is written before the last line has arrived.
    let mut all = lines.join(&b'\n');
    all.push(b'\n');
    stdin.write_all(&all).unwrap();
    drop(stdin);
    let output = child.wait_with_output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().map(str::to_owned).collect()
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
    // The order of responses is not defined.
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
        let answer = read_message(&mut response);
        assert_eq!(
            (&answer["id"], &answer["error"]["code"]),
            (&id, &json!(-32700))
        );
    }
}

#[test]
fn ids_of_any_size_are_returned_unchanged_and_can_be_cancelled() {
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
        // A cancelled call has no response, and its id can be used again.
        let heard = answers(&[call.as_bytes(), cancel.as_bytes(), ping.as_bytes()]);
        assert_eq!(
            heard,
            [format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{{}}}}"#)]
        );
    }
}

#[test]
fn progress_tokens_and_subscription_ids_of_any_size_are_returned_unchanged() {
    let call = br#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"chat","arguments":{"text":"Sing forever.","repeat_penalty":1,"max_tokens":4000,"deadline":10},"_meta":{"progressToken":18446744073709551616}}}"#;
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
fn an_unpaired_surrogate_is_read_as_a_replacement_character() {
    // In an argument, in JSON text within an argument, and in a name.
    let conversation = r#"[{\"role\":\"user\",\"content\":\"Hi \\ud83d\"}]"#;
    let calls = [
        r#"{"name":"chat","arguments":{"text":"Hi \ud83d"}}"#.to_owned(),
        format!(r#"{{"name":"chat","arguments":{{"messages":"{conversation}"}}}}"#),
        r#"{"name":"\udc00"}"#.to_owned(),
    ];
    let answers = calls.map(|params| {
        let call = format!(r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{params}}}"#);
        let [answer] = &answers(&[call.as_bytes()])[..] else {
            panic!("not exactly one response")
        };
        let answer: Value = serde_json::from_str(answer).unwrap();
        let result = &answer["result"];
        assert_eq!(result.get("isError"), None, "{answer}");
        answer
    });
    assert!(answers[0]["result"]["content"][0]["text"].is_string());
    assert!(answers[1]["result"]["content"][0]["text"].is_string());
    assert_eq!(
        answers[2]["error"]["message"],
        "unknown tool `\u{fffd}`; available: `chat`"
    );
}
