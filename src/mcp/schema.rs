//! The types of MCP messages, named as in the protocol's schema.
//!
//! They follow the JSON Schemas of the revisions in [`super::revisions`]. Clients of earlier revisions also get members of later ones
//! (`title`, `annotations`); their schemas allow additional members.

use serde::Serialize;
use serde_json::{Map, Value, json};

use super::jsonrpc::{Json, ProgressToken};
use crate::tools::{ToolDescription, ToolOutput};

/// Key in `_meta` for how the answer was generated.
pub(crate) const GENERATION_META: &str = "llama-mcp-server/generation";

/// Key in `_meta` for the code of an error.
const ERROR_META: &str = "llama-mcp-server/error";

/// Key in `_meta` for the longest result that Claude Code shows its model; it writes longer results to a file.
const MAX_CHARS_META: &str = "anthropic/maxResultSizeChars";

/// Result of `initialize`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct InitializeResult {
    /// The negotiated revision.
    pub protocol_version: &'static str,
    /// See [`capabilities`].
    pub capabilities: Value,
    /// Name and version of this program.
    pub server_info: Implementation,
    /// Description of the tools for the client's model; `None` without tools.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub instructions: Option<String>,
}

/// Result of `server/discover`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct DiscoverResult {
    /// All supported revisions, newest first.
    pub supported_versions: Vec<&'static str>,
    /// See [`capabilities`].
    pub capabilities: Value,
    /// Description of the tools for the client's model; `None` without tools.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub instructions: Option<String>,
    /// How long the result may be cached, and who may reuse it.
    #[serde(flatten)]
    pub cache: CacheableResult,
}

/// How long a result may be cached, and who may reuse it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct CacheableResult {
    /// Cache lifetime in milliseconds. It is 0 since a reload of the configuration takes effect at once.
    pub ttl_ms: u64,
    /// Scope in which the cached result may be reused.
    pub cache_scope: CacheScope,
}

/// Scope in which a cached result may be reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum CacheScope {
    /// All clients.
    Public,
    /// Clients with the same token.
    Private,
}

impl From<CacheScope> for CacheableResult {
    fn from(cache_scope: CacheScope) -> Self {
        Self {
            ttl_ms: 0,
            cache_scope,
        }
    }
}

/// Converts `result` to the form of the modern era: marked as complete, and with the server's name in `_meta` if it `has_meta`.
pub(crate) fn complete(result: Value, has_meta: bool) -> Value {
    let mut completed = json!({"resultType": "complete"});
    if let Value::Object(members) = result {
        for (name, value) in members {
            completed[name] = value;
        }
    }
    if has_meta {
        completed["_meta"]["io.modelcontextprotocol/serverInfo"] = json!(SERVER_INFO);
    }
    completed
}

/// Name and version of a client or server.
#[derive(Debug, Serialize)]
pub(crate) struct Implementation {
    /// Name for programs.
    pub name: &'static str,
    /// Name for people.
    pub title: &'static str,
    /// Version of the program.
    pub version: &'static str,
}

/// Name and version of this program.
pub(crate) const SERVER_INFO: Implementation = Implementation {
    name: "llama-mcp-server",
    title: "Llama MCP Server",
    version: env!("CARGO_PKG_VERSION"),
};

/// Returns the capabilities that the server advertises: tools, with notifications when their list changes.
pub(crate) fn capabilities() -> Value {
    json!({"tools": {"listChanged": true}})
}

/// Result of `tools/list`.
#[derive(Debug, Serialize)]
pub(crate) struct ListToolsResult<'all> {
    /// All tools that the caller may use, on one page. Each is a serialised [`Tool`].
    pub tools: Vec<&'all Json>,
    /// Object with the other members: in the modern era, how long the list may be cached.
    #[serde(flatten)]
    pub members: Value,
}

/// A tool in `tools/list`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Tool<'all> {
    /// Name for calls.
    pub name: &'all str,
    /// Name for people.
    pub title: &'all str,
    /// Description for models.
    pub description: &'all str,
    /// JSON Schema of the arguments.
    pub input_schema: &'all Value,
    /// JSON Schema of the structured content; `None` if answers are plain text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub output_schema: Option<&'all Value>,
    /// Hints on the effects of a call.
    pub annotations: Value,
    /// Hints for specific hosts.
    #[serde(rename = "_meta")]
    pub meta: Map<String, Value>,
}

impl<'all> From<&'all ToolDescription> for Tool<'all> {
    fn from(tool: &'all ToolDescription) -> Self {
        Self {
            annotations: json!({
                "title": tool.title,
                "readOnlyHint": true,
                "destructiveHint": false,
                // Calls with equal arguments can get different answers: with a random seed, or in a batch with other calls.
                "idempotentHint": false,
                "openWorldHint": false,
            }),
            name: &tool.name,
            title: &tool.title,
            description: &tool.description,
            input_schema: &tool.input_schema,
            output_schema: tool.output_schema.as_ref(),
            meta: Map::from_iter([(MAX_CHARS_META.to_owned(), tool.max_chars.into())]),
        }
    }
}

/// Result of `tools/call`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct CallToolResult {
    /// Text of the answer or of the error.
    pub content: Vec<TextContent>,
    /// The answer as JSON, if it follows a schema.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub structured_content: Option<Value>,
    /// Whether the content is an error.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub is_error: bool,
    /// How the answer was generated, or the code of the error.
    #[serde(rename = "_meta", skip_serializing_if = "Map::is_empty")]
    pub meta: Map<String, Value>,
}

/// Text content of a result.
#[derive(Debug, Serialize)]
pub(crate) struct TextContent {
    /// The type of the content, always `text`.
    pub r#type: &'static str,
    /// The text itself.
    pub text: String,
}

/// An entry of `_meta`, with the id of the request in the log.
#[derive(Serialize)]
struct WithRequestId<'id, T> {
    #[serde(flatten)]
    entry: T,
    request_id: &'id str,
}

impl CallToolResult {
    /// Creates the result for the `output` of a tool; `request_id` is the id of the call in the log.
    pub(crate) fn new(output: ToolOutput, request_id: &str) -> Self {
        let (text, structured_content, generation, error) = match output {
            ToolOutput::Answer {
                text,
                structured,
                generation,
            } => (text, structured, Some(generation), None),
            ToolOutput::Error { error, generation } => {
                (error.text, None, generation, Some(error.code))
            }
        };
        let mut meta = Map::new();
        if let Some(entry) = generation {
            let entry = WithRequestId { entry, request_id };
            meta.insert(GENERATION_META.to_owned(), json!(entry));
        }
        if let Some(code) = error {
            let entry = json!({"code": code, "request_id": request_id});
            meta.insert(ERROR_META.to_owned(), entry);
        }
        Self {
            content: vec![TextContent {
                r#type: "text",
                text,
            }],
            structured_content,
            is_error: error.is_some(),
            meta,
        }
    }

    /// Removes `_meta`, which some clients pass on to their model.
    #[must_use]
    pub(crate) fn without_meta(mut self) -> Self {
        self.meta.clear();
        self
    }
}

/// Parameters of `notifications/progress`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ProgressNotificationParams {
    /// The token in the request.
    pub progress_token: ProgressToken,
    /// Seconds since the call arrived.
    pub progress: f64,
    /// State of the call, as text for people.
    pub message: String,
}
