//! MCP's shapes, named as in its schema; no logic.
//!
//! Source: the JSON Schemas of the revisions in [`super::revisions`]. Members of later revisions (`title`,
//! `annotations`) are additional ones to earlier clients, which their schemas allow.

use serde::Serialize;
use serde_json::{Map, Value, json};

use super::jsonrpc::ProgressToken;
use crate::tools::{ToolDescription, ToolOutput};

/// The key under which a result tells how it came about.
pub(crate) const GENERATION_META: &str = "llama-mcp-server/generation";

/// The key under which an error tells its kind.
const ERROR_META: &str = "llama-mcp-server/error";

/// The key under which a tool tells Claude Code how long a result may be, which goes to a file where it is longer.
const MAX_CHARS_META: &str = "anthropic/maxResultSizeChars";

/// Answers `initialize`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct InitializeResult {
    /// The negotiated revision.
    pub protocol_version: &'static str,
    /// What we can.
    pub capabilities: Value,
    /// Who we are.
    pub server_info: Implementation,
    /// What there is, for the model; none where there is no tool.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub instructions: Option<String>,
}

/// Answers `server/discover`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct DiscoverResult {
    /// Newest first.
    pub supported_versions: Vec<&'static str>,
    /// What we can.
    pub capabilities: Value,
    /// What there is, for the model; none where there is no tool.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub instructions: Option<String>,
    /// How long and for whom it holds.
    #[serde(flatten)]
    pub cache: CacheableResult,
}

/// How long and for whom a result holds.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct CacheableResult {
    /// Milliseconds: none. An edit of the configuration is live at once, and asking again costs a fraction of one.
    pub ttl_ms: u64,
    /// For whom.
    pub cache_scope: CacheScope,
}

/// Whom a result may be shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum CacheScope {
    /// All who ask.
    Public,
    /// Who brings the same token.
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

/// Returns the result of a modern request, marked as complete, and with the server's name if it `has_meta`.
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

/// Name and version of a program.
#[derive(Debug, Serialize)]
pub(crate) struct Implementation {
    /// For programs.
    pub name: &'static str,
    /// For people.
    pub title: &'static str,
    /// Of the program.
    pub version: &'static str,
}

/// This program.
pub(crate) const SERVER_INFO: Implementation = Implementation {
    name: "llama-mcp-server",
    title: "Llama MCP Server",
    version: env!("CARGO_PKG_VERSION"),
};

/// Answers `tools/list`.
#[derive(Debug, Serialize)]
pub(crate) struct ListToolsResult {
    /// All of them, on one page.
    pub tools: Vec<Tool>,
    /// How long and for whom it holds, where the revision knows that.
    #[serde(flatten)]
    pub cache: Option<CacheableResult>,
}

/// A tool.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Tool {
    /// For calls.
    pub name: String,
    /// For people.
    pub title: String,
    /// For models.
    pub description: String,
    /// What it takes.
    pub input_schema: Value,
    /// What its structured content looks like.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub output_schema: Option<Value>,
    /// What a call may do.
    pub annotations: Value,
    /// For hosts that know of it.
    #[serde(rename = "_meta")]
    pub meta: Map<String, Value>,
}

impl From<ToolDescription> for Tool {
    fn from(tool: ToolDescription) -> Self {
        Self {
            annotations: json!({
                "title": tool.title,
                "readOnlyHint": true,
                "destructiveHint": false,
                // The same call may be answered in other words: beside other calls, or with a drawn seed.
                "idempotentHint": false,
                "openWorldHint": false,
            }),
            name: tool.name,
            title: tool.title,
            description: tool.description,
            input_schema: tool.input_schema,
            output_schema: tool.output_schema,
            meta: Map::from_iter([(MAX_CHARS_META.to_owned(), tool.max_chars.into())]),
        }
    }
}

/// Answers `tools/call`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct CallToolResult {
    /// What the tool says.
    pub content: Vec<TextContent>,
    /// The same as an object, where the answer follows a schema.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub structured_content: Option<Value>,
    /// The content is an error; left out where it is not.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub is_error: bool,
    /// How it came about.
    #[serde(rename = "_meta", skip_serializing_if = "Map::is_empty")]
    pub meta: Map<String, Value>,
}

/// Text.
#[derive(Debug, Serialize)]
pub(crate) struct TextContent {
    /// Always `text`.
    pub r#type: &'static str,
    /// The text.
    pub text: String,
}

/// What is told of a request, by the id under which the log has it.
#[derive(Serialize)]
struct OfRequest<'id, T> {
    #[serde(flatten)]
    told: T,
    request_id: &'id str,
}

impl CallToolResult {
    /// What a tool gave back to the request that logs call `request_id`.
    pub(crate) fn of(output: ToolOutput, request_id: &str) -> Self {
        let mut meta = Map::new();
        if let Some(generation) = output.generation {
            let told = OfRequest {
                told: generation,
                request_id,
            };
            meta.insert(GENERATION_META.to_owned(), json!(told));
        }
        if let Some(code) = output.error {
            let told = json!({"code": code, "request_id": request_id});
            meta.insert(ERROR_META.to_owned(), told);
        }
        Self {
            content: vec![TextContent {
                r#type: "text",
                text: output.text,
            }],
            structured_content: output.structured,
            is_error: output.error.is_some(),
            meta,
        }
    }

    /// Returns the result without `_meta`, which some clients pass on to their model.
    #[must_use]
    pub(crate) fn without_meta(mut self) -> Self {
        self.meta.clear();
        self
    }
}

/// `notifications/progress`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ProgressNotificationParams {
    /// As the request gave it.
    pub progress_token: ProgressToken,
    /// Increases with every notification.
    pub progress: f64,
    /// For people.
    pub message: String,
}
