//! A well-behaved client next to one that sends large messages and one that sends expensive schemas: its responses, its latency, and the
//! memory of the server.

use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::{Deadline, SECONDS, call};
use crate::support::config::Folder;
use crate::support::http::{Client, HttpServer, read_message, request};
use crate::support::{CAPITALS, memory_of};

const SETTINGS: &str = "
[server.tokens.honest]
token = \"token-of-the-honest\"
[server.tokens.bytes]
token = \"token-of-the-heavy-in-bytes\"
[server.tokens.schemas]
token = \"token-of-the-heavy-in-schemas\"
[models.chat]
path = \"crab.gguf\"
n_threads = 1
temperature = 0
[tools.total]
prompt = \"{{ tags | length }}\"
max_tokens = 1
[tools.total.arguments.tags]
type = \"array\"
";

/// Connections of each heavy client.
const EACH: usize = 4;

/// Latencies of lists and calls of the well-behaved client, each sorted.
struct Times {
    lists: Vec<Duration>,
    calls: Vec<Duration>,
}

impl Times {
    #[expect(clippy::print_stdout, reason = "prints measurements for people")]
    fn print(&self, when: &str) {
        let at = |times: &[Duration], share: usize| times[(times.len() - 1) * share / 100];
        let [lists, calls] = [&self.lists, &self.calls].map(|times| {
            let [half, most] = [50, 99].map(|share| at(times, share));
            format!("{} with p50 {half:?}, p99 {most:?}", times.len())
        });
        println!("{when}: tools/list {lists}; calls {calls}");
    }
}

fn honest(server: &HttpServer, deadline: Deadline) -> Times {
    let client = server.client_with_token("token-of-the-honest");
    let (mut lists, mut calls) = (Vec::new(), Vec::new());
    let timed = |message: &Value| {
        let started = Instant::now();
        let mut response = client.post(message);
        let answer = read_message(&mut response);
        (started.elapsed(), answer)
    };
    while lists.is_empty() || deadline.is_ahead() {
        let (took, answer) = timed(&request(1, "tools/list", json!({})));
        assert_eq!(answer["result"]["tools"].as_array().unwrap().len(), 2);
        lists.push(took);
        let (country, capital) = CAPITALS[lists.len() % CAPITALS.len()];
        let (took, answer) = timed(&call(2, country));
        let expected = format!("The capital of {country} is {capital}.");
        assert_eq!(answer["result"]["content"][0]["text"], expected, "{answer}");
        calls.push(took);
    }
    lists.sort_unstable();
    calls.sort_unstable();
    Times { lists, calls }
}

/// Sends `message` repeatedly. Any response will do, and none, because a busy machine may be slower than the client's timeout.
fn heavy(client: &Client, message: &Value, deadline: Deadline) {
    while deadline.is_ahead() {
        drop(client.try_post(message));
    }
}

fn heavy_in_bytes(number: usize) -> Value {
    let (tool, arguments) = match number % 4 {
        0 => ("chat", json!({"text": "table\t1\n".repeat(400_000)})),
        1 => ("chat", json!({"x": vec![json!({"": 0}); 150_000]})),
        2 => ("total", json!({"tags": vec!["a"; 800_000]})),
        _ => {
            let part = json!({"type": "text", "text": "a"});
            let message = json!({"role": "user", "content": vec![part; 50_000]});
            ("chat", json!({"messages": [message]}))
        }
    };
    request(
        1,
        "tools/call",
        json!({"name": tool, "arguments": arguments}),
    )
}

fn heavy_in_schemas(number: usize) -> Value {
    let value = match number % 2 {
        0 => json!({"type": "integer", "multipleOf": 99991}),
        _ => json!({"type": "string", "pattern": "^(a|b)*.{200}(c|d){1,300}$"}),
    };
    let schema = json!({"type": "object", "properties": {"n": value}, "required": ["n"]});
    let arguments = json!({"text": "Hi", "max_tokens": 1, "json_schema": schema});
    request(
        1,
        "tools/call",
        json!({"name": "chat", "arguments": arguments}),
    )
}

#[test]
#[expect(clippy::print_stdout, reason = "prints measurements for people")]
fn every_honest_call_is_answered_next_to_clients_with_large_messages_and_schemas() {
    let seconds = std::env::var("LOAD_SECONDS").map_or(SECONDS, |text| text.parse().unwrap());
    let folder = Folder::new("load-heavy", SETTINGS);
    let server = HttpServer::with_config(&folder.0.join("llama-mcp-server.toml"));
    let deadline = || Deadline(Instant::now() + Duration::from_secs(seconds));
    honest(&server, Deadline(Instant::now()));
    honest(&server, deadline()).print("alone");
    let end = deadline();
    let beside = thread::scope(|scope| {
        for number in 0..EACH {
            let client = server.client_with_token("token-of-the-heavy-in-bytes");
            scope.spawn(move || heavy(&client, &heavy_in_bytes(number), end));
            let client = server.client_with_token("token-of-the-heavy-in-schemas");
            scope.spawn(move || heavy(&client, &heavy_in_schemas(number), end));
        }
        honest(&server, end)
    });
    beside.print("beside");
    let peak = memory_of(server.child.id(), "VmHWM");
    println!("peak of the server: {} MiB", peak >> 20);
    assert!(peak < 1 << 30, "{peak}");
}
