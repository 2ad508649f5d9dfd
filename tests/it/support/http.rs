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

/// A running server. Killed with its test.
pub(crate) struct HttpServer {
    pub child: Child,
    pub address: SocketAddr,
    log: Log,
}

impl HttpServer {
    /// The tiny model, one compute thread, and `flags`, on a free port.
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
        Self::of(command)
    }

    pub(crate) fn with_config(file: &std::path::Path) -> Self {
        let mut command = program();
        command.arg("--config").arg(file);
        Self::of(command)
    }

    /// The server that `command` starts, on a free port.
    pub(crate) fn of(mut command: std::process::Command) -> Self {
        command.args(["--transport", "http", "--port", "0"]);
        Self::start(command)
    }

    /// The server that `file` alone describes, which must have a free port.
    pub(crate) fn with_file_alone(file: &std::path::Path) -> Self {
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

    /// A client with a session of its own.
    pub(crate) fn client(&self) -> Client {
        let mut client = Client::new(self.url(), &[]);
        client.initialize();
        client
    }

    /// A client that brings `token`.
    pub(crate) fn with_token(&self, token: &str) -> Client {
        let authorization = format!("Bearer {token}");
        Client::new(self.url(), &[("authorization", &authorization)])
    }

    /// The same with a session of its own.
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

    /// Sends `bytes` and reads what comes until the server closes, or until there is a whole head.
    pub(crate) fn raw(&self, bytes: &str) -> String {
        let mut stream = self.connect();
        stream.write_all(bytes.as_bytes()).unwrap();
        read_head(&mut stream)
    }

    /// Waits until no connection is accepted any more.
    pub(crate) fn wait_until_refused(&self) {
        let started = std::time::Instant::now();
        while TcpStream::connect(self.address).is_ok() {
            assert!(started.elapsed() < LIMIT, "it still listens");
            thread::yield_now();
        }
    }

    /// Waits until the server has logged `text`.
    pub(crate) fn wait_for_log(&self, text: &str) {
        self.log.wait_for(text);
    }

    /// Waits until the server has logged `text` so often.
    pub(crate) fn wait_for_logs(&self, text: &str, times: usize) {
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

    /// Ends the server and gives all that it logged.
    #[cfg(target_os = "linux")]
    pub(crate) fn log(&mut self) -> String {
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

pub(crate) fn read_head(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    // `bytes` reads again after a signal, which `read` does not.
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

    /// Sends what follows to `server`, in the same session.
    pub(crate) fn move_to(&mut self, server: &HttpServer) {
        self.url = server.url();
    }

    /// Has a header in every request from here on.
    pub(crate) fn header(&mut self, name: &str, value: &str) {
        self.headers.retain(|(known, _)| known != name);
        self.headers.push((name.into(), value.into()));
    }

    pub(crate) fn initialize(&mut self) -> Value {
        let mut response = self.post(&request(0, "initialize", json!({})));
        assert_eq!(response.status(), 200);
        let session = response.headers()["mcp-session-id"].to_str().unwrap();
        self.headers.push(("mcp-session-id".into(), session.into()));
        let answer = json_of(&mut response);
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
                conversation.sends(body);
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

    /// Sends a message whose answer may not come in time.
    pub(crate) fn try_post(&self, message: &Value) -> Result<Response<Body>, ureq::Error> {
        self.try_send("POST", Some(&message.to_string()))
    }

    /// Sends a request and gives its answer.
    pub(crate) fn request(&mut self, method: &str, params: Value) -> Value {
        self.next_id += 1;
        json_of(&mut self.post(&request(self.next_id, method, params)))
    }

    /// Calls the chat tool and gives the text of its result.
    pub(crate) fn chat(&mut self, arguments: Value) -> String {
        let answer = self.request(
            "tools/call",
            json!({"name": "chat", "arguments": arguments}),
        );
        let result = &answer["result"];
        assert!(result["isError"] != true, "{answer}");
        result["content"][0]["text"].as_str().unwrap().to_owned()
    }

    /// The names of the tools that it sees.
    pub(crate) fn tools(&mut self) -> Vec<String> {
        let answer = self.request("tools/list", json!({}));
        let tools = answer["result"]["tools"].as_array().unwrap().clone();
        let name = |tool: &Value| tool["name"].as_str().unwrap().to_owned();
        tools.iter().map(name).collect()
    }

    /// Begins an endless call `id` and gives its events when it is under way.
    pub(crate) fn sing(&self, id: u64) -> Events {
        self.sing_for(4000, id)
    }

    /// Begins call `id` of a model whose process is stopped, and returns its events after the first: the call runs until it is cancelled.
    pub(crate) fn hold(&self, id: u64) -> Events {
        let arguments = json!({"text": "Hi", "max_tokens": 1});
        let call = json!({"name": "chat", "arguments": arguments, "_meta": {"progressToken": id}});
        let mut client = self.clone();
        client.header("accept", "application/json, text/event-stream");
        let mut events = Events::of(client.post(&request(id, "tools/call", call)));
        assert!(events.next().is_some());
        events
    }

    /// Begins a call `id` of so many tokens and gives its events when it is under way.
    pub(crate) fn sing_for(&self, tokens: u64, id: u64) -> Events {
        let arguments = json!({"text": "Sing forever.", "temperature": 0, "repeat_penalty": 1, "max_tokens": tokens});
        let call = json!({"name": "chat", "arguments": arguments, "_meta": {"progressToken": id}});
        let mut client = self.clone();
        client.header("accept", "application/json, text/event-stream");
        let response = client.post(&request(id, "tools/call", call));
        let mut events = Events::of(response);
        while !events.next().unwrap()["params"]["message"]
            .as_str()
            .unwrap()
            .contains("la la")
        {}
        events
    }
}

/// The messages of a stream, which must be valid; dropping it closes the connection.
pub(crate) struct Events {
    body: BufReader<Box<dyn Read + Send>>,
    conversation: Conversation,
}

impl Events {
    pub(crate) fn of(mut response: Response<Body>) -> Self {
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
                return Some(message_of(data, &mut self.conversation));
            }
        }
        None
    }
}

pub(crate) fn request(id: u64, method: &str, params: Value) -> Value {
    json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params})
}

/// The message that is the body, which must be a valid one.
pub(crate) fn json_of(response: &mut Response<Body>) -> Value {
    assert_eq!(response.headers()["content-type"], "application/json");
    let body = response.body_mut().read_to_string().unwrap();
    message_of(&body, conversation_of(response))
}

/// The message that `text` is, which must be a valid one.
pub(crate) fn message_of(text: &str, conversation: &mut Conversation) -> Value {
    let message = serde_json::from_str(text).unwrap();
    assert_eq!(conversation.hears(&message), Ok(()), "{message}");
    message
}

/// What [`Client::send`] knows of the request that was answered.
fn conversation_of(response: &mut Response<Body>) -> &mut Conversation {
    response.extensions_mut().get_mut().unwrap()
}
