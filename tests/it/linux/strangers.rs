//! Clients without a token cannot exhaust the resources of clients with one, and clients that half-close their connection after a request
//! are answered.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::{Duration, Instant};

use serde_json::json;

use crate::support::config::Folder;
use crate::support::http::{HttpServer, read_head, request};
use crate::support::{LIMIT, program, signal_process, tiny, workers_of};

const TOKEN: &str = "a-token-of-many-characters";

/// Starts a server with a token and a low connection limit.
fn server_with_connections(max: usize) -> (Folder, HttpServer) {
    let file = format!(
        "[server]\nauth = '{TOKEN}'\nmax_connections = {max}\n[models.chat]\npath = 'crab.gguf'\n"
    );
    let folder = Folder::new("connections", &file);
    let server = HttpServer::with_config(&folder.0.join("llama-mcp-server.toml"));
    (folder, server)
}

/// Connects from `address`, which must be a loopback address.
fn connect_from(address: [u8; 4], server: &HttpServer) -> TcpStream {
    use std::net::SocketAddr;

    use socket2::{Domain, Socket, Type};

    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from((address, 0)).into()).unwrap();
    socket.connect(&server.address.into()).unwrap();
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    stream
}

#[test]
fn an_address_without_a_token_cannot_use_up_the_connections() {
    let (_folder, server) = server_with_connections(16);
    let silent: Vec<_> = (0..40)
        .map(|_| connect_from([127, 0, 0, 2], &server))
        .collect();
    // The next connection gets 503, because the address has used up its share.
    let mut response = String::new();
    let mut late = connect_from([127, 0, 0, 2], &server);
    late.read_to_string(&mut response).unwrap();
    assert!(response.starts_with("HTTP/1.1 503"), "{response}");
    let mut client = server.client_with_token(TOKEN);
    assert_eq!(client.tools(), ["chat"]);
    drop(silent);
}

#[test]
fn an_address_with_a_token_may_exceed_the_share_of_anonymous_clients() {
    let (_folder, server) = server_with_connections(16);
    let list = request(1, "server/discover", json!({})).to_string();
    let ask = format!(
        "POST /mcp HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {TOKEN}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{list}",
        list.len()
    );
    let held: Vec<_> = (0..12)
        .map(|_| {
            let mut stream = connect_from([127, 0, 0, 2], &server);
            stream.write_all(ask.as_bytes()).unwrap();
            let head = read_head(&mut stream);
            assert!(!head.contains(" 503 "), "{head}");
            stream
        })
        .collect();
    drop(held);
}

#[test]
fn one_of_several_tokens_cannot_use_up_the_connections() {
    let file = format!(
        "[server]\nauth = '{TOKEN}'\nmax_connections = 8\n[server.tokens.other]\ntoken = 'another-{TOKEN}'\n\
         [models.chat]\npath = 'crab.gguf'\n"
    );
    let folder = Folder::new("connections-of-tokens", &file);
    let server = HttpServer::with_config(&folder.0.join("llama-mcp-server.toml"));
    let ask =
        format!("GET /status HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {TOKEN}\r\n\r\n");
    let heads: Vec<_> = (0..5)
        .map(|_| {
            let mut stream = server.connect();
            stream.write_all(ask.as_bytes()).unwrap();
            (read_head(&mut stream), stream)
        })
        .collect();
    let is_answered = |head: &str| head.starts_with("HTTP/1.1 200");
    assert!(heads[..4].iter().all(|(head, _)| is_answered(head)));
    let refused = |head: &str| {
        let headers = ["HTTP/1.1 429", "connection: close", "retry-after: 1"];
        headers.iter().all(|header| head.contains(header))
    };
    assert!(heads[4..].iter().all(|(head, _)| refused(head)));
    assert_eq!(ask_with(&server, &format!("another-{TOKEN}")).0, "200");
}

/// Sends a request with `token` on a new connection. Returns the response and how long it took.
fn ask_with(server: &HttpServer, token: &str) -> (String, Duration) {
    let started = Instant::now();
    let answer = server.raw(&format!(
        "GET /status HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\nConnection: close\r\n\r\n"
    ));
    let status = answer.split(' ').nth(1).unwrap_or_default().to_owned();
    (status, started.elapsed())
}

#[test]
fn wrong_tokens_are_answered_with_a_growing_delay_and_the_right_one_at_once() {
    let mut server = HttpServer::tiny(&["--auth", TOKEN]);
    let guesses: Vec<_> = (0..11)
        .map(|_| ask_with(&server, "a-wrong-token"))
        .collect();
    assert!(
        guesses.iter().all(|(status, _)| status == "401"),
        "{guesses:?}"
    );
    let last = guesses[10].1;
    assert!(last >= Duration::from_secs(1), "{last:?}");
    let rights: Vec<_> = (0..5).map(|_| ask_with(&server, TOKEN)).collect();
    assert!(
        rights.iter().all(|(status, _)| status == "200"),
        "{rights:?}"
    );
    assert!(
        rights.iter().any(|(_, elapsed)| *elapsed < last),
        "{rights:?}"
    );
    let log = server.end();
    assert!(
        log.contains("127.0.0.1 sent an invalid bearer token"),
        "{log}"
    );
    assert!(!log.contains("a-wrong-token"), "{log}");
}

#[test]
fn a_short_token_causes_a_warning_that_does_not_show_it() {
    let file = |token: &str| {
        format!(
            "[server]\ntransport = 'http'\nport = 0\nauth = '{token}'\n[models.small]\npath = 'crab.gguf'\n"
        )
    };
    let check = |token: &str| {
        let output = Folder::new("short", &file(token)).run(&["config", "check"], &[]);
        String::from_utf8(output.stdout).unwrap()
    };
    let short = "x7";
    let printed = check(short);
    assert!(
        printed.contains("the token `auth` has fewer than 16 characters"),
        "{printed}"
    );
    assert!(!printed.contains(short), "{printed}");
    assert!(!check(TOKEN).contains("characters"));
    let mut server = HttpServer::tiny(&["--auth", short]);
    let log = server.end();
    let line = log
        .lines()
        .find(|line| line.contains("fewer than 16"))
        .unwrap_or(&log);
    assert!(line.contains("WARN") && !line.contains(short), "{line}");
}

/// Sends `sent`, half-closes the connection, and returns the response. A busy machine may need several attempts, because the server waits
/// only half a second.
fn answer_after_half_close(server: &HttpServer, sent: &str) -> String {
    let mut answers = (0..10).map(|_| try_answer_after_half_close(server, sent));
    answers
        .find(|answer| !answer.is_empty())
        .unwrap_or_default()
}

/// Sends `sent`, half-closes the connection, and returns everything that is received.
fn try_answer_after_half_close(server: &HttpServer, sent: &str) -> String {
    let mut stream = server.connect();
    stream.write_all(sent.as_bytes()).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

fn post(message: &serde_json::Value) -> String {
    let body = message.to_string();
    format!(
        "POST /mcp HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nAccept: application/json\r\n{}Content-Length: {}\r\n\r\n{body}",
        "Mcp-Session-Id: SESSION\r\n",
        body.len()
    )
}

#[test]
fn a_client_that_half_closes_after_a_request_gets_the_response() {
    let server = HttpServer::tiny(&[]);
    let client = server.client();
    let health = "GET /health/live HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let list = post(&request(7, "tools/list", json!({}))).replace("SESSION", client.session());
    for _ in 0..3 {
        let answer = answer_after_half_close(&server, health);
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer:?}");
        let answer = answer_after_half_close(&server, &list);
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer:?}");
        assert!(answer.contains("\"chat\""), "{answer}");
        // Two pipelined requests.
        let both = format!("{list}{health}");
        let is_both = |answer: String| answer.matches("HTTP/1.1 200").count() == 2;
        assert!((0..10).any(|_| is_both(try_answer_after_half_close(&server, &both))));
    }
}

#[test]
fn a_call_whose_client_half_closes_is_cancelled_soon() {
    let mut command = program();
    command.arg("--model").arg(tiny()).args(["--parallel", "1"]);
    let server = HttpServer::spawn(command);
    let mut client = server.client();
    let song = json!({"name": "chat", "arguments": {"text": "Sing forever.", "temperature": 0, "repeat_penalty": 1, "max_tokens": 4000}});
    let call = post(&request(8, "tools/call", song)).replace("SESSION", client.session());
    client.chat(json!({"text": "Hi", "max_tokens": 1}));
    let worker = workers_of(server.child.id())[0];
    signal_process(worker, "STOP");
    assert_eq!(try_answer_after_half_close(&server, &call), "");
    signal_process(worker, "CONT");
    // The only sequence is free again.
    let answer = client.chat(json!({"text": "What is the capital of Peru?", "temperature": 0}));
    assert_eq!(answer, "The capital of Peru is Lima.");
}
