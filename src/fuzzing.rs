//! Entry points for untrusted input, one for each fuzz target. The unit tests replay the corpus through them.
//!
//! No function may panic, hang or take unlimited memory, whatever the bytes are. Other invariants are asserted.

#[cfg(test)]
mod corpus;
mod heavy;

pub use heavy::{budget, template};

use std::io::Cursor;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use crate::backend::Progress;
use crate::backend::local::calls::{Call, Calls, LineEffect};
use crate::check;
use crate::config::diff::ConfigDiff;
use crate::config::http::{HttpConfig, HttpLimits};
use crate::config::reference;
use crate::config::token::{BearerToken, TokenConfig};
use crate::config::{FILE_NAME, Overrides, Surroundings};
use crate::engine::{CallId, template};
use crate::fair::MessagePermits;
use crate::gguf::memory::Run;
use crate::gguf::parse_header;
use crate::json;
use crate::mcp::caller::{Access, Caller, ConnectionId, Peer};
use crate::mcp::dispatcher::Dispatcher;
use crate::mcp::era::{Era, RoutingHeaders};
use crate::mcp::jsonrpc::{self, Outgoing};
use crate::process::Cpus;
use crate::schema::{AnswerSchema, Limits};
use crate::telemetry;
use crate::tools::Catalog;
use crate::transport::http::connection::ConnectionInfo;
use crate::transport::http::{Ending, connection, service};
use crate::worker::{Command, Event};
use serde_json::Value;
use serde_json::value::RawValue;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::{oneshot, watch};
use tokio::time::timeout;
use tokio_util::task::TaskTracker;

/// Limit on the paused clock, longer than every time in [`http_config`].
const END: Duration = Duration::from_mins(2);

/// Parses a line of stdin or the body of a request, determines its era, and has a server without tools answer it.
pub fn message(bytes: &[u8]) {
    let answer = match jsonrpc::Message::parse(bytes) {
        Err(invalid) => Some(invalid.into()),
        Ok(message) => {
            if let jsonrpc::Message::Request(request) = &message {
                let values = request.params.values().map(count_values).sum::<usize>();
                assert!(
                    json::tree_bytes(bytes) >= VALUE * values,
                    "the estimate of the tree's size is too low"
                );
                let name = request.params.get("name").and_then(Value::as_str);
                let headers = RoutingHeaders {
                    revision: Some("2026-07-28".into()),
                    method: Some(request.method.clone()),
                    name: name.map(str::to_owned),
                };
                drop(Era::of_request(request, Some(&headers)));
                drop(Era::of_request(request, Some(&RoutingHeaders::default())));
            }
            dispatched(message)
        }
    };
    if let Some(answer) = answer {
        let line = answer.to_json();
        assert!(!line.contains('\n'), "an answer is one line: {line}");
        // Not parsed as a `Value`, since its id may be an integer of any size.
        serde_json::from_str::<&RawValue>(&line).expect("an answer is JSON");
    }
}

/// Size of a value in a tree, in bytes.
const VALUE: usize = size_of::<Value>();

fn count_values(value: &Value) -> usize {
    1 + match value {
        Value::Array(items) => items.iter().map(count_values).sum(),
        Value::Object(members) => members.values().map(count_values).sum(),
        _ => 0,
    }
}

fn dispatched(message: jsonrpc::Message) -> Option<Outgoing> {
    let era = match &message {
        jsonrpc::Message::Request(request) => match Era::of_request(request, None) {
            Ok(era) => era,
            Err(error) => return Some(Outgoing::Error(Some(request.id.clone()), error)),
        },
        _ => Era::Legacy,
    };
    let caller = Caller {
        connection: ConnectionId("fuzz".into()),
        client: "fuzz".into(),
        access: Access::default(),
        permits: MessagePermits::default(),
    };
    let dispatcher = Arc::new(Dispatcher::new(Catalog::default()));
    runtime().block_on(async {
        let answer = dispatcher.dispatch(&caller, era, message, Arc::new(Silent));
        // A subscription does not end by itself.
        timeout(END, answer).await.ok().flatten()
    })
}

struct Silent;

impl Peer for Silent {
    fn notify(&self, _: Outgoing) -> bool {
        true
    }
}

/// Returns a runtime with a paused clock, which jumps to the next timer whenever all tasks are idle.
fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime without I/O needs no resources of the system")
}

/// Serves the bytes that a client sends over one HTTP connection. The first byte sets options: 1 requires the token `secret`, 2 sends the
/// bytes in small pieces, 4 closes the sending side at the end.
pub fn http(bytes: &[u8]) {
    let Some((chosen, sent)) = bytes.split_first() else {
        return;
    };
    let chosen = chosen.wrapping_sub(b'0');
    let answer = runtime().block_on(answer(sent, chosen));
    if !answer.is_empty() {
        let status = answer.get(..12).unwrap_or(&answer);
        assert!(status.starts_with(b"HTTP/1."), "{}", status.escape_ascii());
        assert!(
            !status.ends_with(b"500"),
            "no input causes an internal error"
        );
    }
}

/// Returns all bytes with which the server answers `sent`.
async fn answer(sent: &[u8], chosen: u8) -> Vec<u8> {
    let config = http_config(chosen & 1 != 0);
    let (_rules, live) = watch::channel(Arc::new(config));
    let ending = Ending::default();
    let dispatcher = Arc::new(Dispatcher::new(Catalog::default()));
    let service = service(dispatcher, None, live.clone(), ending.clone());
    // The size of a socket's buffer.
    let (ours, theirs) = tokio::io::duplex(1 << 16);
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 1));
    let served = connection::serve(
        ours,
        ConnectionInfo {
            address,
            permit: None,
        },
        service,
        TaskTracker::new(),
        live,
        ending.drain.clone(),
    );
    let (mut reading, mut writing) = tokio::io::split(theirs);
    let mut answer = Vec::new();
    let step = if chosen & 2 == 0 {
        sent.len().max(1)
    } else {
        7
    };
    let written = async {
        for piece in sent.chunks(step) {
            if writing.write_all(piece).await.is_err() {
                return;
            }
            tokio::task::yield_now().await;
        }
        if chosen & 4 != 0 {
            // The server may have closed the connection already.
            drop(writing.shutdown().await);
        }
    };
    let read = reading.read_to_end(&mut answer);
    drop(timeout(END, async { tokio::join!(served, written, read) }).await);
    answer
}

fn http_config(has_token: bool) -> HttpConfig {
    let token = TokenConfig {
        name: "fuzz".into(),
        secret: Ok(BearerToken::parse("secret").expect("it is printable")),
        admin: false,
        tools: None,
        is_scraper: false,
        max_calls: Some(1),
        calls_per_minute: Some(2),
    };
    HttpConfig {
        host: "127.0.0.1".into(),
        addresses: vec![(Ipv4Addr::LOCALHOST, 1).into()],
        tokens: has_token.then(|| Arc::new(token)).into_iter().collect(),
        session_secret: None,
        allowed_hosts: Vec::new(),
        allowed_origins: Vec::new(),
        cors: true,
        drain_time: Duration::from_secs(1),
        limits: HttpLimits {
            max_held: 1 << 20,
            max_connections: 1,
            max_sessions: 2,
            max_calls: 2,
            // Small, so that inputs exceed it.
            max_body: 1024,
            header_time: Duration::from_secs(30),
            body_time: Duration::from_secs(30),
            idle_time: Duration::from_secs(75),
        },
    }
}

/// A folder with a model, an adapter and a text that a configuration may name. The first configuration creates it.
static FOLDER: LazyLock<PathBuf> = LazyLock::new(|| {
    let folder = std::env::temp_dir().join(format!("llama-mcp-fuzz-{}", std::process::id()));
    let models = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/models");
    std::fs::create_dir_all(&folder).expect("the temporary folder can be written");
    for (from, to) in [
        ("tiny-crab-chat.Q8_0.gguf", "crab.gguf"),
        ("tiny-crab-lora.gguf", "lora.gguf"),
    ] {
        std::fs::copy(models.join(from), folder.join(to)).expect("the models are there");
    }
    std::fs::write(folder.join("note.txt"), "a note\n").expect("the folder is ours");
    folder
});

/// Loads the text of a configuration as the server does, and formats it like `config show` and `config diff`. A flag sets the host, since the
/// lookup of a name would use the network.
pub fn config(bytes: &[u8]) {
    let path = FOLDER.join(FILE_NAME);
    std::fs::write(&path, bytes).expect("the folder is ours");
    let typed = Overrides {
        config: Some(path),
        flags: vec![("host".into(), "127.0.0.1".into())],
        ..Overrides::default()
    };
    let around = Surroundings {
        program: None,
        cpus: Cpus::single(2),
        variables: [("NAME", "crab"), ("EMPTY", "")]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into(),
        folders: Vec::new(),
    };
    match check::load(&typed, &around) {
        Err(error) => drop(error.to_string()),
        Ok(checked) => {
            drop(reference::effective(
                &checked.layers,
                reference::View::Origins,
            ));
            let diff = ConfigDiff::between(&checked.config, &checked.config);
            assert!(
                diff.is_empty(),
                "a configuration does not differ from itself"
            );
        }
    }
}

/// Reads the header of a model's file, as the server does before a worker loads it, estimates its memory, and compiles its chat template.
pub fn header(bytes: &[u8]) {
    let path = Path::new("model-00001-of-00002.gguf");
    let Ok(header) = parse_header(Cursor::new(bytes), bytes.len() as u64, path) else {
        return;
    };
    assert!(
        header.n_head_kv.len() <= 4096 && header.other_parts.len() < 1 << 16,
        "sizes stay within those of real models"
    );
    for (parallel, is_pool, has_flash_attention) in [(1, true, true), (64, false, false)] {
        let run = Run {
            parallel,
            kv_cells: 1 << 20,
            n_ubatch: 512,
            key_bytes_of_32: 64,
            value_bytes_of_32: 34,
            is_pool,
            has_flash_attention,
            gpu_layers: 7,
        };
        let estimate = header.estimate(run).gpu;
        assert!(estimate.total() >= estimate.weights);
        header.bytes_per_cell(run);
        header.score_bytes_per_cell(run);
    }
    if let Some(source) = &header.chat_template {
        drop(template::check(source));
    }
}

/// Handles the lines of a worker's output in a server with three calls in flight.
pub fn worker(bytes: &[u8]) {
    let mut calls = Calls::default();
    let waiting: Vec<_> = (1..=3)
        .map(|id| {
            let (progress, news) = watch::channel(Progress::default());
            let (done, result) = oneshot::channel();
            calls.insert(CallId(id), Call::new(progress, done, 8));
            (news, result)
        })
        .collect();
    for line in String::from_utf8_lossy(bytes).lines() {
        drop(serde_json::from_str::<Command>(line));
        if let Ok(event) = serde_json::from_str::<Event>(line) {
            let sent = serde_json::to_string(&event).expect("an event has only string keys");
            let read: Event = serde_json::from_str(&sent).expect("what is written can be read");
            assert_eq!(read, event);
        }
        if calls.apply_line(line) == LineEffect::NotAnEvent {
            telemetry::relay("fuzz", line);
        }
    }
    drop(calls);
    for (_, mut result) in waiting {
        // Each call ends at most once.
        drop(result.try_recv());
    }
}

/// Reads a JSON Schema on the first line and JSON values on the others. A value that the enforced schema allows must also follow the schema
/// as written, unless notes leave some of it to the check of the finished answer.
pub fn schema(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let mut lines = text.lines();
    let written = lines.next().unwrap_or_default();
    let limits = Limits {
        string: 100,
        items: 10,
    };
    let answer = match AnswerSchema::from_text(written, limits) {
        Ok(answer) => answer,
        Err(error) => return drop(error.to_string()),
    };
    let enforced = jsonschema::draft202012::options()
        .should_validate_formats(true)
        .build(&answer.enforced)
        .expect("the enforced schema is a schema");
    let mut notes = answer.notes.iter();
    let is_exact = !notes.any(|note| note.text.contains("finished answer"));
    for value in lines.filter_map(|line| serde_json::from_str::<Value>(line).ok()) {
        drop(answer.truncated_part(&value));
        if is_exact && enforced.is_valid(&value) {
            assert_eq!(
                answer.check(&value),
                Ok(()),
                "the enforced schema allows {value}"
            );
        }
    }
}
