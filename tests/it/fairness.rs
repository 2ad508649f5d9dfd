//! Fair queueing: a client with one call does not wait for another client with many.

use std::sync::mpsc::channel;
use std::thread;

use serde_json::json;

use crate::support::http::{Client, Events, HttpServer, request};

/// Queued calls of the greedy client.
const MANY: usize = 16;

/// Sends a long call and returns its position in the queue, with its events.
fn queue(client: &Client, id: usize) -> (usize, Events) {
    let arguments = json!({"text": "Sing forever.", "temperature": 0, "max_tokens": 200});
    let call = json!({"name": "chat", "arguments": arguments, "_meta": {"progressToken": id}});
    let mut client = client.clone();
    client.header("accept", "application/json, text/event-stream");
    let response = client.post(&request(id.try_into().unwrap(), "tools/call", call));
    let mut events = Events::new(response);
    let place = events.find_map(|notification| {
        let message = notification["params"]["message"].as_str()?;
        message.strip_prefix("queued, position ")?.parse().ok()
    });
    (place.unwrap(), events)
}

#[test]
fn a_single_call_does_not_wait_for_the_many_calls_of_another_session() {
    let server = HttpServer::tiny(&["--parallel", "1", "--repeat_penalty", "1"]);
    let (many, few) = (server.client(), server.client());
    // Occupies the only sequence, so that all other calls queue.
    let holding = many.start_endless_call(1000);
    let (queued_tx, queued) = channel();
    let (done_tx, done) = channel();
    for id in 1..=MANY {
        let (many, queued, done) = (many.clone(), queued_tx.clone(), done_tx.clone());
        thread::spawn(move || {
            let (_, events) = queue(&many, id);
            queued.send(()).unwrap();
            assert_eq!(events.last().unwrap()["result"]["isError"], json!(null));
            done.send("many").unwrap();
        });
    }
    for _ in 1..=MANY {
        queued.recv().unwrap();
    }
    let (place, events) = queue(&few, 1);
    let before = done.try_iter().count();
    drop(holding);
    thread::spawn(move || {
        assert_eq!(events.last().unwrap()["result"]["isError"], json!(null));
        done_tx.send("few").unwrap();
    });
    let after: Vec<&str> = done.iter().take(MANY + 1 - before).collect();
    assert_eq!(place, 2, "behind the head alone");
    // The running call, the head of the queue, and calls whose threads happened to report first.
    let at = after.iter().position(|client| *client == "few").unwrap();
    assert!(at <= MANY / 2, "{after:?}");
    assert!(after.len() > 8, "the others were done already");
}
