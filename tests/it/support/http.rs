//! A server over HTTP and its clients.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, ExitStatus};
use std::thread;

use serde_json::{Value, json};
use ureq::http::{Request, Response};
use ureq::{Agent, Body};

use super::log::Log;
use super::schema::Conversation;
use super::{LIMIT, program, spawn_piped, tiny};
#[cfg(target_os = "linux")]
use super::{signal_process, wait_for_end_of};

/// A running server over HTTP. Dropping it kills the process.
pub(crate) struct HttpServer {
    pub child: Child,
    pub address: SocketAddr,
    log: Log,
}

impl HttpServer {
    /// Starts a server with the tiny model, one compute thread, and `flags`, on a free port.
    pub(crate) fn tiny(flags: &[&str]) -> Self {
        Self::with_environment(flags, &[])
    }

    pub(crate) fn with_environment(flags: &[&str], variables: &[(&str, &str)]) -> Self {
        let mut command = program();
        command
            .arg("--model")
            .arg(tiny())
            .args(["--n_threads", "1"])
            .args(flags)
            .envs(variables.iter().copied());
        Self::spawn(command)
    }

    pub(crate) fn with_config(file: &std::path::Path) -> Self {
        let mut command = program();
        command.arg("--config").arg(file);
        Self::spawn(command)
    }

    /// Starts `command` as a server on a free port.
    pub(crate) fn spawn(mut command: std::process::Command) -> Self {
        command.args(["--transport", "http", "--port", "0"]);
        Self::start(command)
    }

    /// Starts a server with no flag but `--config`. The file must ask for a free port.
    pub(crate) fn with_config_only(file: &std::path::Path) -> Self {
        let mut command = program();
        command.arg("--config").arg(file);
        Self::start(command)
    }

    fn start(mut command: std::process::Command) -> Self {
        let mut child = spawn_piped(&mut command);
        let log = Log::follow(child.stderr.take().unwrap());
        let address = log.find(|log| {
            let (_, rest) = log.split_once("listening on http://")?;
            Some(rest.split_once("/mcp")?.0.parse().unwrap())
        });
        Self {
            child,
            address,
            log,
        }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}/mcp", self.address)
    }

    /// Returns a client with a session.
    pub(crate) fn client(&self) -> Client {
        let mut client = Client::new(self.url(), &[]);
        client.initialize();
        client
    }

    /// Returns a client that sends `token` and has no session.
    pub(crate) fn with_token(&self, token: &str) -> Client {
        let authorization = format!("Bearer {token}");
        Client::new(self.url(), &[("authorization", &authorization)])
    }

    /// Returns a client that sends `token`, with a session.
    pub(crate) fn client_with_token(&self, token: &str) -> Client {
        let mut client = self.with_token(token);
        client.initialize();
        client
    }

    pub(crate) fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        stream
    }

    /// Sends `bytes` and returns the head of the response.
    pub(crate) fn raw(&self, bytes: &str) -> String {
        let mut stream = self.connect();
        stream.write_all(bytes.as_bytes()).unwrap();
        read_head(&mut stream)
    }

    /// Waits until the server refuses new connections.
    pub(crate) fn wait_until_refused(&self) {
        let started = std::time::Instant::now();
        while TcpStream::connect(self.address).is_ok() {
            assert!(started.elapsed() < LIMIT, "the server still listens");
            thread::yield_now();
        }
    }

    /// Waits until the server has logged `text`.
    pub(crate) fn wait_for_log(&self, text: &str) {
        self.log.wait_for(text);
    }

    /// Waits until the server has logged `text` at least `times` times.
    pub(crate) fn wait_for_log_times(&self, text: &str, times: usize) {
        self.log.wait_for_times(text, times);
    }

    #[cfg(target_os = "linux")]
    pub(crate) fn signal(&self, signal: &str) {
        signal_process(self.child.id(), signal);
    }

    #[cfg(target_os = "linux")]
    pub(crate) fn wait(&mut self) -> ExitStatus {
        wait_for_end_of(self.child.id());
        self.child.wait().unwrap()
    }

    /// Shuts the server down and returns its log.
    #[cfg(target_os = "linux")]
    pub(crate) fn end(&mut self) -> String {
        self.signal("TERM");
        self.wait();
        self.log.all()
    }
}

impl Drop for HttpServer {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Reads the head of a response, and nothing after it.
#[expect(
    clippy::unbuffered_bytes,
    reason = "a buffer would also take bytes after the head"
)]
pub(crate) fn read_head(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    // Unlike `read`, `bytes` retries when a signal interrupts it.
    for byte in stream.bytes() {
        head.push(byte.unwrap());
        if head.ends_with(b"\r\n\r\n") {
            break;
        }
    }
    String::from_utf8(head).unwrap()
}

/// A client of the legacy revisions.
#[derive(Clone)]
pub(crate) struct Client {
    agent: Agent,
    url: String,
    headers: Vec<(String, String)>,
    next_id: u64,
    conversation: Conversation,
}

impl Client {
    pub(crate) fn new(url: String, headers: &[(&str, &str)]) -> Self {
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .timeout_global(Some(LIMIT))
            .build();
        let headers = headers.iter().map(|(n, v)| ((*n).into(), (*v).into()));
        Self {
            agent: config.into(),
            url,
            headers: headers.collect(),
            next_id: 1,
            conversation: Conversation::default(),
        }
    }

    /// Sends later requests to `server`, in the same session.
    pub(crate) fn switch_to(&mut self, server: &HttpServer) {
        self.url = server.url();
    }

    /// Sends the header in all later requests.
    pub(crate) fn header(&mut self, name: &str, value: &str) {
        self.headers.retain(|(known, _)| known != name);
        self.headers.push((name.into(), value.into()));
    }

    pub(crate) fn initialize(&mut self) -> Value {
        let mut response = self.post(&request(0, "initialize", json!({})));
        assert_eq!(response.status(), 200);
        let session = response.headers()["mcp-session-id"].to_str().unwrap();
        self.headers.push(("mcp-session-id".into(), session.into()));
        let answer = read_message(&mut response);
        self.conversation = conversation_of(&mut response).clone();
        answer
    }

    pub(crate) fn session(&self) -> &str {
        let session = self
            .headers
            .iter()
            .find(|(name, _)| name == "mcp-session-id");
        &session.unwrap().1
    }

    pub(crate) fn send(&self, method: &str, body: Option<&str>) -> Response<Body> {
        self.try_send(method, body).unwrap()
    }

    fn try_send(&self, method: &str, body: Option<&str>) -> Result<Response<Body>, ureq::Error> {
        let mut request = Request::builder().method(method).uri(&self.url);
        for (name, value) in &self.headers {
            request = request.header(name, value);
        }
        let mut conversation = self.conversation.clone();
        let mut response = match body {
            Some(body) => {
                conversation.record_sent(body);
                let request = request.header("content-type", "application/json");
                self.agent.run(request.body(body).unwrap())?
            }
            None => self.agent.run(request.body(()).unwrap())?,
        };
        response.extensions_mut().insert(conversation);
        Ok(response)
    }

    pub(crate) fn post(&self, message: &Value) -> Response<Body> {
        self.send("POST", Some(&message.to_string()))
    }

    /// Sends a message whose response may time out.
    pub(crate) fn try_post(&self, message: &Value) -> Result<Response<Body>, ureq::Error> {
        self.try_send("POST", Some(&message.to_string()))
    }

    /// Sends a request and returns the response.
    pub(crate) fn request(&mut self, method: &str, params: Value) -> Value {
        self.next_id += 1;
        read_message(&mut self.post(&request(self.next_id, method, params)))
    }

    /// Calls the tool `chat` and returns the text of the result.
    pub(crate) fn chat(&mut self, arguments: Value) -> String {
        let answer = self.request(
            "tools/call",
            json!({"name": "chat", "arguments": arguments}),
        );
        let result = &answer["result"];
        assert!(result["isError"] != true, "{answer}");
        result["content"][0]["text"].as_str().unwrap().to_owned()
    }

    /// Returns the names of the tools that the client sees.
    pub(crate) fn tools(&mut self) -> Vec<String> {
        let answer = self.request("tools/list", json!({}));
        let tools = answer["result"]["tools"].as_array().unwrap().clone();
        let name = |tool: &Value| tool["name"].as_str().unwrap().to_owned();
        tools.iter().map(name).collect()
    }

    /// Starts the endless call `id` and returns its events once it generates text.
    pub(crate) fn start_endless_call(&self, id: u64) -> Events {
        self.start_long_call(4000, id)
    }

    /// Starts call `id` of a model whose worker is stopped, so that it runs until it is cancelled. Returns its events after the first one.
    pub(crate) fn call_with_stopped_worker(&self, id: u64) -> Events {
        let arguments = json!({"text": "Hi", "max_tokens": 1});
        let call = json!({"name": "chat", "arguments": arguments, "_meta": {"progressToken": id}});
        let mut client = self.clone();
        client.header("accept", "application/json, text/event-stream");
        let mut events = Events::new(client.post(&request(id, "tools/call", call)));
        assert!(events.next().is_some());
        events
    }

    /// Starts call `id` of `tokens` tokens and returns its events once it generates text.
    pub(crate) fn start_long_call(&self, tokens: u64, id: u64) -> Events {
        let arguments = json!({"text": "Sing forever.", "temperature": 0, "repeat_penalty": 1, "max_tokens": tokens});
        let call = json!({"name": "chat", "arguments": arguments, "_meta": {"progressToken": id}});
        let mut client = self.clone();
        client.header("accept", "application/json, text/event-stream");
        let response = client.post(&request(id, "tools/call", call));
        let mut events = Events::new(response);
        while !events.next().unwrap()["params"]["message"]
            .as_str()
            .unwrap()
            .contains("la la")
        {}
        events
    }
}

/// The messages of an event stream, which must be valid. Dropping it closes the connection.
pub(crate) struct Events {
    body: BufReader<Box<dyn Read + Send>>,
    conversation: Conversation,
}

impl Events {
    pub(crate) fn new(mut response: Response<Body>) -> Self {
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        Self {
            conversation: conversation_of(&mut response).clone(),
            body: BufReader::new(Box::new(response.into_body().into_reader())),
        }
    }
}

impl Iterator for Events {
    type Item = Value;

    fn next(&mut self) -> Option<Value> {
        for line in self.body.by_ref().lines() {
            if let Some(data) = line.unwrap().strip_prefix("data: ") {
                return Some(parse_message(data, &mut self.conversation));
            }
        }
        None
    }
}

pub(crate) fn request(id: u64, method: &str, params: Value) -> Value {
    json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params})
}

/// Parses and checks the body, which must be one JSON message.
pub(crate) fn read_message(response: &mut Response<Body>) -> Value {
    assert_eq!(response.headers()["content-type"], "application/json");
    let body = response.body_mut().read_to_string().unwrap();
    parse_message(&body, conversation_of(response))
}

/// Parses and checks the message `text`.
pub(crate) fn parse_message(text: &str, conversation: &mut Conversation) -> Value {
    let message = serde_json::from_str(text).unwrap();
    assert_eq!(conversation.check_received(&message), Ok(()), "{message}");
    message
}

/// Returns the state that [`Client::send`] attached to the response.
fn conversation_of(response: &mut Response<Body>) -> &mut Conversation {
    response.extensions_mut().get_mut().unwrap()
}
