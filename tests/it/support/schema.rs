//! Checks every message of the server against the official JSON Schema of its revision, from `tests/schemas`.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Mutex};

use jsonschema::Validator;
use serde_json::{Value, json};

const SCHEMAS: [(&str, &str); 5] = [
    ("2024-11-05", include_str!("../../schemas/2024-11-05.json")),
    ("2025-03-26", include_str!("../../schemas/2025-03-26.json")),
    ("2025-06-18", include_str!("../../schemas/2025-06-18.json")),
    (NEWEST_LEGACY, include_str!("../../schemas/2025-11-25.json")),
    (MODERN, include_str!("../../schemas/2026-07-28.json")),
];

/// The revision in use until `initialize` negotiates another one.
const NEWEST_LEGACY: &str = "2025-11-25";

/// The revision whose requests each name their revision.
const MODERN: &str = "2026-07-28";

/// The requests of a client so far. They determine which responses are valid.
#[derive(Debug, Clone)]
pub(crate) struct Conversation {
    /// The revision that `initialize` negotiated.
    revision: &'static str,
    /// Sent requests by id.
    requests: HashMap<String, Request>,
    /// Progress tokens, each with whether its request is of the modern revision.
    tokens: HashMap<String, bool>,
}

#[derive(Debug, Clone)]
struct Request {
    method: String,
    is_modern: bool,
}

impl Default for Conversation {
    fn default() -> Self {
        Self {
            revision: NEWEST_LEGACY,
            requests: HashMap::new(),
            tokens: HashMap::new(),
        }
    }
}

impl Conversation {
    /// Records a message that the client sends, which may be malformed.
    pub(crate) fn record_sent(&mut self, text: &str) {
        let message: Value = serde_json::from_str(text).unwrap_or_default();
        let (Some(id), Some(method)) = (message.get("id"), message["method"].as_str()) else {
            return;
        };
        let meta = &message["params"]["_meta"];
        let is_modern = meta
            .get("io.modelcontextprotocol/protocolVersion")
            .is_some();
        if let Some(token) = meta.get("progressToken") {
            self.tokens.insert(token.to_string(), is_modern);
        }
        let request = Request {
            method: method.to_owned(),
            is_modern,
        };
        self.requests.insert(id.to_string(), request);
    }

    /// Checks a message from the server.
    ///
    /// # Errors
    /// Returns a description of the first fault.
    pub(crate) fn check_received(&mut self, message: &Value) -> Result<(), String> {
        let id = message.get("id");
        if let Some(method) = message["method"].as_str() {
            return match id {
                Some(_) => Err("the server asks nothing".into()),
                None => self.check_notification(method, message),
            };
        }
        let id = id.ok_or("neither a notification nor a response")?;
        let request = self.requests.get(&id.to_string()).cloned();
        if message.get("error").is_some() {
            return self.check_error(request.is_some_and(|request| request.is_modern), message);
        }
        let Request { method, is_modern } = request.ok_or("a result of no request")?;
        let result = &message["result"];
        if method == "initialize" && !is_modern {
            let agreed = result["protocolVersion"].as_str().unwrap_or_default();
            let mut known = SCHEMAS.iter().map(|(revision, _)| *revision);
            let known = known.find(|revision| *revision == agreed && agreed != MODERN);
            self.revision = known.ok_or("no revision that has `initialize`")?;
        }
        let revision = self.revision_of(is_modern);
        let envelope = match revision {
            "2024-11-05" | "2025-03-26" | "2025-06-18" => "JSONRPCResponse",
            _ => "JSONRPCResultResponse",
        };
        check(revision, envelope, message)?;
        let definition = match method.as_str() {
            "initialize" => "InitializeResult",
            "ping" => "EmptyResult",
            "tools/list" => "ListToolsResult",
            "prompts/list" => "ListPromptsResult",
            "resources/list" => "ListResourcesResult",
            "resources/templates/list" => "ListResourceTemplatesResult",
            "tools/call" => "CallToolResult",
            "server/discover" => "DiscoverResult",
            "subscriptions/listen" => "SubscriptionsListenResult",
            _ => return Err(format!("a result of `{method}`")),
        };
        check(revision, definition, result)
    }

    fn check_notification(&self, method: &str, message: &Value) -> Result<(), String> {
        let params = &message["params"];
        let is_subscribed = params["_meta"]
            .get("io.modelcontextprotocol/subscriptionId")
            .is_some();
        let (definition, is_modern) = match method {
            "notifications/progress" => {
                let token = self.tokens.get(&params["progressToken"].to_string());
                ("ProgressNotification", *token.ok_or("progress of no call")?)
            }
            "notifications/tools/list_changed" => ("ToolListChangedNotification", is_subscribed),
            "notifications/cancelled" => ("CancelledNotification", is_subscribed),
            "notifications/subscriptions/acknowledged" => {
                ("SubscriptionsAcknowledgedNotification", true)
            }
            _ => return Err(format!("unexpected notification: `{method}`")),
        };
        let revision = self.revision_of(is_modern);
        check(revision, "JSONRPCNotification", message)?;
        check(revision, definition, message)
    }

    fn check_error(&self, is_modern: bool, message: &Value) -> Result<(), String> {
        // JSON-RPC requires a null id if the id could not be read, which no revision's schema allows: the earlier ones require an id, the
        // later ones require that it is left out.
        if message["id"].is_null() {
            let mut without = message.clone();
            without.as_object_mut().map(|members| members.remove("id"));
            return check(MODERN, "JSONRPCErrorResponse", &without);
        }
        let revision = self.revision_of(is_modern);
        let definition = match (revision, message["error"]["code"].as_i64()) {
            ("2024-11-05" | "2025-03-26" | "2025-06-18", _) => "JSONRPCError",
            (MODERN, Some(-32020)) => "HeaderMismatchError",
            (MODERN, Some(-32021)) => "MissingRequiredClientCapabilityError",
            (MODERN, Some(-32022)) => "UnsupportedProtocolVersionError",
            _ => "JSONRPCErrorResponse",
        };
        check(revision, definition, message)
    }

    fn revision_of(&self, is_modern: bool) -> &'static str {
        if is_modern { MODERN } else { self.revision }
    }
}

fn check(revision: &'static str, definition: &'static str, value: &Value) -> Result<(), String> {
    let validator = validator(revision, definition);
    let mut faults = validator.iter_errors(value).peekable();
    if faults.peek().is_none() {
        return Ok(());
    }
    let faults: Vec<String> = faults
        .map(|fault| format!("{}: {fault}", fault.instance_path()))
        .collect();
    Err(format!(
        "no {definition} of {revision}: {}",
        faults.join("; ")
    ))
}

/// Returns the compiled validator of a definition. If the revision lacks the definition, the validator accepts nothing.
fn validator(revision: &'static str, definition: &'static str) -> Arc<Validator> {
    type Compiled = HashMap<(&'static str, &'static str), Arc<Validator>>;
    static COMPILED: LazyLock<Mutex<Compiled>> = LazyLock::new(Mutex::default);
    let mut compiled = COMPILED.lock().unwrap();
    let entry = compiled.entry((revision, definition));
    Arc::clone(entry.or_insert_with(|| {
        let (_, text) = SCHEMAS
            .iter()
            .find(|(known, _)| *known == revision)
            .unwrap();
        let mut schema: Value = serde_json::from_str(text).unwrap();
        let definitions = ["$defs", "definitions"]
            .into_iter()
            .find(|key| schema.get(*key).is_some())
            .unwrap();
        if schema[definitions].get(definition).is_none() {
            return Arc::new(jsonschema::validator_for(&json!(false)).unwrap());
        }
        schema["$ref"] = format!("#/{definitions}/{definition}").into();
        Arc::new(jsonschema::validator_for(&schema).unwrap())
    }))
}
