//! Method → handler, and the table of the requests in flight; no I/O.
//!
//! [`Dispatcher::dispatch`] enters a request into the table before it returns, so a cancel that is read next finds it,
//! and gives a future that the transport runs beside others. Dropping that future cancels the request.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::{Map, Value, json};
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::jsonrpc::{
    ErrorObject, INTERNAL_ERROR, INVALID_PARAMS, INVALID_REQUEST, METHOD_NOT_FOUND, Message,
    Notification, Outgoing, Request, RequestId,
};
use super::progress;
use super::schema::{CallToolResult, InitializeResult, ListToolsResult, SERVER_INFO};
use crate::tools::{Arguments, Catalog, Progress, ToolCall};

/// A connection: stdio, or a session of HTTP.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ConnectionId(pub String);

/// Where a request's news go before its answer. Sending never waits: news that do not fit are dropped.
pub trait Peer: Send + Sync {
    /// Sends a notification that belongs to the request.
    fn notify(&self, notification: Outgoing);
}

/// The one dispatcher of the server.
#[derive(Debug)]
pub struct Dispatcher {
    catalog: Catalog,
    in_flight: Mutex<HashMap<(ConnectionId, RequestId), CancellationToken>>,
}

impl Dispatcher {
    /// Serves the tools of `catalog`.
    pub fn new(catalog: Catalog) -> Self {
        Self {
            catalog,
            in_flight: Mutex::new(HashMap::new()),
        }
    }

    /// Takes a message. The future gives what is to be sent back: nothing for a notification, or for a request that was
    /// cancelled.
    pub fn dispatch(
        self: &Arc<Self>,
        connection: &ConnectionId,
        message: Message,
        peer: Arc<dyn Peer>,
    ) -> impl Future<Output = Option<Outgoing>> + Send + use<> {
        let received = Instant::now();
        let begun = match message {
            Message::Request(request) => Some((
                request.id.clone(),
                self.enter(connection, &request.id)
                    .map(|entry| (entry, request)),
            )),
            Message::Notification(notification) => {
                self.notified(connection, &notification);
                None
            }
            Message::Response => None,
        };
        let dispatcher = Arc::clone(self);
        async move {
            let (id, entry) = begun?;
            let (entry, request) = match entry {
                Ok(entered) => entered,
                Err(error) => return Some(Outgoing::Error(Some(id), error)),
            };
            let client = entry.key.0.clone();
            tokio::select! {
                // A cancelled request gets no response (basic/utilities/cancellation).
                () = entry.cancelled.cancelled() => None,
                result = dispatcher.handle(client, request, peer, received) => Some(match result {
                    Ok(result) => Outgoing::Result(id, result),
                    Err(error) => Outgoing::Error(Some(id), error),
                }),
            }
        }
    }

    /// Cancels all requests of a connection.
    pub fn cancel_all(&self, connection: &ConnectionId) {
        let in_flight = self
            .in_flight
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        for ((owner, _), cancelled) in in_flight.iter() {
            if connection == owner {
                cancelled.cancel();
            }
        }
    }

    fn enter(
        self: &Arc<Self>,
        connection: &ConnectionId,
        id: &RequestId,
    ) -> Result<InFlight, ErrorObject> {
        let key = (connection.clone(), id.clone());
        let mut in_flight = self
            .in_flight
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if in_flight.contains_key(&key) {
            return Err(ErrorObject::new(
                INVALID_REQUEST,
                "a request with this `id` is still in flight",
            ));
        }
        let cancelled = CancellationToken::new();
        in_flight.insert(key.clone(), cancelled.clone());
        Ok(InFlight {
            dispatcher: Arc::clone(self),
            key,
            cancelled,
        })
    }

    fn notified(&self, connection: &ConnectionId, notification: &Notification) {
        if notification.method != "notifications/cancelled" {
            return;
        }
        let id = notification
            .params
            .get("requestId")
            .cloned()
            .unwrap_or_default();
        let Ok(id) = serde_json::from_value::<RequestId>(id) else {
            return;
        };
        let in_flight = self
            .in_flight
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        // One that has ended is not there any more, and nothing happens.
        if let Some(cancelled) = in_flight.get(&(connection.clone(), id)) {
            cancelled.cancel();
        }
    }

    async fn handle(
        &self,
        client: ConnectionId,
        request: Request,
        peer: Arc<dyn Peer>,
        received: Instant,
    ) -> Result<Value, ErrorObject> {
        match request.method.as_str() {
            "initialize" => to_value(&initialize(&request.params)),
            "ping" => Ok(json!({})),
            "tools/list" => to_value(&ListToolsResult {
                tools: self
                    .catalog
                    .descriptions()
                    .into_iter()
                    .map(Into::into)
                    .collect(),
            }),
            "tools/call" => to_value(
                &self
                    .call_tool(client, request.params, peer, received)
                    .await?,
            ),
            other => Err(ErrorObject::new(
                METHOD_NOT_FOUND,
                format!("unknown method `{other}`"),
            )),
        }
    }

    async fn call_tool(
        &self,
        client: ConnectionId,
        mut params: Map<String, Value>,
        peer: Arc<dyn Peer>,
        received: Instant,
    ) -> Result<CallToolResult, ErrorObject> {
        let Some(Value::String(name)) = params.remove("name") else {
            return Err(ErrorObject::new(
                INVALID_PARAMS,
                "`name` must be the name of a tool",
            ));
        };
        let tool = self.catalog.find(&name).ok_or_else(|| {
            let names: Vec<String> = self
                .catalog
                .descriptions()
                .iter()
                .map(|tool| format!("`{}`", tool.name))
                .collect();
            ErrorObject::new(
                INVALID_PARAMS,
                format!("unknown tool `{name}`; there is {}", names.join(", ")),
            )
        })?;
        let arguments = match params.remove("arguments") {
            None | Some(Value::Null) => Arguments::new(),
            Some(Value::Object(arguments)) => arguments,
            Some(_) => {
                return Err(ErrorObject::new(
                    INVALID_PARAMS,
                    "`arguments` must be an object",
                ));
            }
        };
        let (progress, news) = watch::channel(Progress::default());
        let call = ToolCall {
            client: client.0,
            received,
            progress,
        };
        let token = params
            .get("_meta")
            .and_then(|meta| meta.get("progressToken"))
            .cloned();
        let result =
            progress::report(tool.call(arguments, call), token, news, peer, received).await;
        Ok(result.into())
    }
}

fn initialize(params: &Map<String, Value>) -> InitializeResult {
    InitializeResult {
        protocol_version: super::negotiate(params.get("protocolVersion").and_then(Value::as_str)),
        capabilities: json!({"tools": {}}),
        server_info: SERVER_INFO,
    }
}

fn to_value(result: &impl serde::Serialize) -> Result<Value, ErrorObject> {
    serde_json::to_value(result).map_err(|error| {
        tracing::error!(%error, "a result could not be serialised");
        ErrorObject::new(INTERNAL_ERROR, "internal error")
    })
}

/// A request in the table; leaves it when dropped.
#[derive(Debug)]
struct InFlight {
    dispatcher: Arc<Dispatcher>,
    key: (ConnectionId, RequestId),
    cancelled: CancellationToken,
}

impl Drop for InFlight {
    fn drop(&mut self) {
        let mut in_flight = self
            .dispatcher
            .in_flight
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        in_flight.remove(&self.key);
    }
}
