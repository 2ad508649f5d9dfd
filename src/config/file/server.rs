//! `[server]`.

use std::collections::BTreeMap;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::NAME_PATTERN;
use crate::config::effect::Effect;
use crate::config::ranges;
use crate::config::units::{Size, Time};

/// How clients connect.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub(crate) enum TransportMode {
    #[default]
    Stdio,
    Http,
}

/// How edits of the file are noticed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub(crate) enum WatchMode {
    #[default]
    Auto,
    Poll,
    Off,
}

/// `[server]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct ServerSettings {
    /// `stdio` (one client, which starts the server) or `http`. The keys below apply to `http` only, except `result_meta`, `watch` and `max_queue`.
    #[schemars(extend("x-reload" = Effect::RequiresRestart))]
    pub transport: TransportMode,
    /// Address to listen on: `127.0.0.1` is this machine only, `0.0.0.0` all its addresses, which requires a token.
    #[schemars(extend("x-reload" = Effect::RequiresRestart))]
    pub host: String,
    /// Port to listen on; 0 is a free one, which the log names.
    #[schemars(extend("x-reload" = Effect::RequiresRestart))]
    pub port: u16,
    /// Bearer token that every request must bring. Better in `auth_file`, `${file:…}`, `${env:…}` or `LLAMA_MCP_AUTH` than here.
    #[schemars(extend("writeOnly" = true))]
    #[schemars(example = json!("${env:MCP_TOKEN}"))]
    #[schemars(extend("x-reload" = Effect::Live))]
    pub auth: Option<String>,
    /// File that holds the bearer token.
    #[schemars(extend("format" = "path"))]
    #[schemars(example = json!("auth.token"))]
    #[schemars(extend("x-reload" = Effect::Live))]
    pub auth_file: Option<PathBuf>,
    /// Tokens by name, one for each client or team, in addition to `auth`: `[server.tokens.NAME]`.
    #[schemars(extend("propertyNames" = json!({"pattern": NAME_PATTERN, "not": {"pattern": "__"}})))]
    #[schemars(extend("x-reload" = Effect::Live))]
    pub tokens: BTreeMap<String, TokenSettings>,
    /// Secret for signing session ids: at least 32 characters, and the same for all replicas. Without it, the token that opened a session signs its id. Set it with `${file:…}` or `${env:…}`, not as plain text.
    #[schemars(extend("writeOnly" = true))]
    #[schemars(example = json!("${env:SESSION_SECRET}"))]
    #[schemars(extend("x-reload" = Effect::Live))]
    pub session_secret: Option<String>,
    /// Serve other machines without a token.
    #[schemars(extend("x-reload" = Effect::RequiresRestart))]
    pub allow_unauthenticated: bool,
    /// Names by which clients may reach the server, in addition to those of loopback and `host`.
    #[schemars(extend("x-reload" = Effect::Live))]
    pub allowed_hosts: Vec<String>,
    /// Origins whose pages may use the server, in addition to those on loopback.
    #[schemars(extend("x-reload" = Effect::Live))]
    pub allowed_origins: Vec<String>,
    /// Tell browsers that pages of those origins, and of loopback, may read the answers (CORS).
    #[schemars(extend("x-reload" = Effect::RequiresRestart))]
    pub cors: bool,
    /// Add `_meta` to the results of calls: how an answer came about, or the code of an error. Some clients pass the whole result to their model; `false` saves those tokens.
    #[schemars(extend("x-reload" = Effect::Live))]
    pub result_meta: bool,
    /// How the server notices saved edits of this file, and of the files that its texts name: at once (`auto`), by polling every two seconds if the file system does not report changes (`poll`), or only on SIGHUP (`off`).
    #[schemars(extend("x-reload" = Effect::RequiresRestart))]
    pub watch: WatchMode,
    /// How long running calls may go on after SIGTERM. Docker kills a container 10 seconds after it.
    #[schemars(range(min = ranges::DRAIN_TIME.min, max = ranges::DRAIN_TIME.max))]
    #[schemars(extend("x-reload" = Effect::Live))]
    pub drain_time: Time,
    /// Calls of one client that may wait for a free sequence of a model; all clients together may have four times as many. Further calls fail with `busy`.
    #[schemars(range(min = ranges::MAX_QUEUE.min, max = ranges::MAX_QUEUE.max))]
    #[schemars(extend("x-reload" = Effect::RestartsModel))]
    pub max_queue: usize,
    /// Connections at once; one more gets 503. If a token is required, connections of one sender that have not sent a valid token may take at most a quarter, and those of one of several tokens half.
    #[schemars(range(min = ranges::MAX_CONNECTIONS.min, max = ranges::MAX_CONNECTIONS.max))]
    #[schemars(extend("x-reload" = Effect::RequiresRestart))]
    pub max_connections: usize,
    /// Messages that are answered at once, over all clients; one more gets 503. One of several tokens may have three quarters of them.
    #[schemars(range(min = ranges::MAX_CALLS.min, max = ranges::MAX_CALLS.max))]
    #[schemars(extend("x-reload" = Effect::Live))]
    pub max_calls: usize,
    /// How long the head of a request may take.
    #[schemars(range(min = ranges::HTTP_TIME.min, max = ranges::HTTP_TIME.max))]
    #[schemars(extend("x-reload" = Effect::Live))]
    pub header_time: Time,
    /// How long its body may take.
    #[schemars(range(min = ranges::HTTP_TIME.min, max = ranges::HTTP_TIME.max))]
    #[schemars(extend("x-reload" = Effect::Live))]
    pub body_time: Time,
    /// How long a connection may idle between two requests.
    #[schemars(range(min = ranges::HTTP_TIME.min, max = ranges::HTTP_TIME.max))]
    #[schemars(extend("x-reload" = Effect::Live))]
    pub idle_time: Time,
    /// Sessions in memory. Beyond this number, the session idle longest is evicted until its next request.
    #[schemars(range(min = ranges::MAX_SESSIONS.min, max = ranges::MAX_SESSIONS.max))]
    #[schemars(extend("x-reload" = Effect::RequiresRestart))]
    pub max_sessions: usize,
    /// Longest request body.
    #[schemars(extend("x-reload" = Effect::Live))]
    pub max_body: Size,
    /// Memory for all messages in flight, at least four times `max_body`; the messages of one client may take half of it. If not set: an eighth of the memory of the machine or container, but at least 64 MiB and at most 512 MiB.
    #[schemars(extend("examples" = ["256MiB", "1GiB"]))]
    #[schemars(extend("x-reload" = Effect::Live))]
    pub max_held: Option<Size>,
}

impl Default for ServerSettings {
    fn default() -> Self {
        Self {
            transport: TransportMode::Stdio,
            host: "127.0.0.1".into(),
            port: 8080,
            auth: None,
            auth_file: None,
            tokens: BTreeMap::new(),
            session_secret: None,
            allow_unauthenticated: false,
            allowed_hosts: Vec::new(),
            allowed_origins: Vec::new(),
            cors: false,
            result_meta: true,
            watch: WatchMode::Auto,
            drain_time: Time::from_secs(8),
            max_queue: 64,
            // Two for every session: its stream and a call.
            max_connections: 2000,
            // The models' queues are full long before.
            max_calls: 256,
            // A megabit and a half a second brings the longest body.
            header_time: Time::from_secs(30),
            body_time: Time::from_secs(30),
            // Longer than proxies keep a connection, nginx a minute: who closes last loses no request.
            idle_time: Time::from_secs(75),
            max_sessions: 1000,
            max_body: Size::mebibytes(4),
            max_held: None,
        }
    }
}

/// `[server.tokens.NAME]`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct TokenSettings {
    /// The token. Better in `token_file`, `${file:…}` or `${env:…}` than here.
    #[schemars(extend("writeOnly" = true))]
    #[schemars(example = json!("${env:ALICE_TOKEN}"))]
    pub token: Option<String>,
    /// File that holds the token.
    #[schemars(extend("format" = "path"))]
    #[schemars(example = json!("alice.token"))]
    pub token_file: Option<PathBuf>,
    /// Whether it may unload and restart models. The token of `auth` always may.
    pub admin: bool,
    /// Tools that the token may use; all by default.
    #[schemars(example = json!(["small", "summarise"]))]
    pub tools: Option<Vec<String>>,
    /// Calls at once; one more gets 429.
    #[schemars(range(min = ranges::MAX_CALLS.min, max = ranges::MAX_CALLS.max), example = json!(4))]
    pub max_calls: Option<usize>,
    /// Calls that may begin in a minute, at once or spread over it; one more gets 429 and the time to wait.
    #[schemars(range(min = ranges::CALLS_PER_MINUTE.min, max = ranges::CALLS_PER_MINUTE.max), example = json!(60))]
    pub calls_per_minute: Option<u32>,
}
