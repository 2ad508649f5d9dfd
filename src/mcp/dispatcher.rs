//! Maps methods to handlers and tracks the requests in flight. Does no I/O.
//!
//! [`Dispatcher::dispatch`] registers a request before it returns, so a cancellation that the transport reads next finds it. The
//! returned future resolves to the response; dropping it cancels the request.
//!
//! ```ignore
#![doc = include_str!("dispatcher/example.rs")]
//! ```

#[cfg(test)]
mod example;
mod published;
mod tool_call;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use serde_json::{Map, Value, json};
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::Instrument;
use uuid::Uuid;

use super::caller::{Access, Caller, ConnectionId, Peer};
use super::era::Era;
use super::jsonrpc::{
    ErrorObject, INTERNAL_ERROR, INVALID_REQUEST, Json, METHOD_NOT_FOUND, Message, Notification,
    Outgoing, Request, RequestId,
};
use super::lists::{check_cursor, empty_list};
use super::method::McpMethod;
use super::progress;
use super::schema::{
    CacheableResult, CallToolResult, DiscoverResult, InitializeResult, ListToolsResult,
    SERVER_INFO, capabilities, complete,
};
use super::subscription::{self, Filter};
use crate::printable::printable;
use crate::tools::instructions::instructions;
use crate::tools::{Arguments, Catalog, Progress, Superseded, ToolCall, ToolOutput};
use published::Published;
use tool_call::{name_and_arguments, unknown_tool};

/// Longest name that an error message repeats, in characters.
const MAX_NAME: usize = 64;

/// Most attempts at a call. A call is retried if its model is edited, unloaded or restarted before it accepts the call.
const MAX_TRIES: u32 = 10;

/// The server's dispatcher, which all transports and connections share.
#[derive(Debug)]
pub(crate) struct Dispatcher {
    tools: RwLock<Arc<Published>>,
    /// Number of changes to the list of tools.
    changes: watch::Sender<u64>,
    in_flight: Mutex<HashMap<(ConnectionId, RequestId), Signals>>,
    closing: CancellationToken,
}

/// Signals of a request in flight.
#[derive(Debug, Clone, Default)]
struct Signals {
    /// Cancelled when the client cancels the request.
    cancel: CancellationToken,
    /// Cancelled when the request has ended and released its resources.
    done: CancellationToken,
}

impl Dispatcher {
    /// Creates a dispatcher for the tools of `catalog`.
    pub(crate) fn new(catalog: Catalog) -> Self {
        Self {
            tools: RwLock::new(Arc::new(Published::new(catalog))),
            changes: watch::Sender::new(0),
            in_flight: Mutex::new(HashMap::new()),
            closing: CancellationToken::new(),
        }
    }

    /// Ends all subscriptions with a response. Called when the server accepts no further messages.
    pub(crate) fn close(&self) {
        self.closing.cancel();
    }

    /// Replaces the tools with those of `catalog`, and notifies clients if the list has changed.
    pub(crate) fn replace(&self, catalog: Catalog) {
        let published = self.published();
        let former = &published.catalog;
        let is_changed = catalog.descriptions() != former.descriptions();
        *self.tools.write().unwrap_or_else(PoisonError::into_inner) =
            Arc::new(Published::new(catalog.after(former)));
        if is_changed {
            self.announce();
        }
    }

    /// Returns a receiver that changes whenever clients should list the tools again.
    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    fn published(&self) -> Arc<Published> {
        Arc::clone(&self.tools.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Notifies clients that the list of tools has changed, for example because their tokens now allow other tools.
    pub(crate) fn announce(&self) {
        self.changes.send_modify(|count| *count += 1);
    }

    /// Dispatches a message of `caller`; `era` applies to requests.
    ///
    /// The future resolves to the response, or to `None` for a notification and for a cancelled request. The future of a
    /// cancellation resolves once its request has ended and released its resources, so that a request read after it can use them.
    pub(crate) fn dispatch(
        self: &Arc<Self>,
        caller: &Caller,
        era: Era,
        message: Message,
        peer: Arc<dyn Peer>,
    ) -> impl Future<Output = Option<Outgoing>> + Send + use<> {
        let received = Instant::now();
        let mut cancelled = None;
        let registered = match message {
            Message::Request(request) => Some((
                request.id.clone(),
                self.register(&caller.connection, &request.id)
                    .map(|entry| (entry, request)),
            )),
            Message::Notification(notification) => {
                cancelled = self.cancel(&caller.connection, &notification);
                None
            }
            Message::Response => None,
        };
        let (dispatcher, caller) = (Arc::clone(self), caller.clone());
        async move {
            if let Some(Signals { done, .. }) = cancelled {
                done.cancelled().await;
            }
            let (id, entry) = registered?;
            let (entry, request) = match entry {
                Ok(registered) => registered,
                Err(error) => return Some(Outgoing::Error(Some(id), error)),
            };
            let handled = dispatcher.handle(caller, era, request, peer, received);
            tokio::select! {
                // A cancelled request gets no response (basic/utilities/cancellation).
                () = entry.signals.cancel.cancelled() => None,
                result = handled => Some(match result {
                    Ok(result) => Outgoing::Result(id, result),
                    Err(error) => Outgoing::Error(Some(id), error),
                }),
            }
        }
    }

    /// Cancels all requests of `connection`.
    pub(crate) fn cancel_all(&self, connection: &ConnectionId) {
        let in_flight = self.in_flight();
        for ((owner, _), signals) in in_flight.iter() {
            if connection == owner {
                signals.cancel.cancel();
            }
        }
    }

    fn in_flight(&self) -> MutexGuard<'_, HashMap<(ConnectionId, RequestId), Signals>> {
        self.in_flight
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a request to the table. Fails if the table has its id.
    fn register(
        self: &Arc<Self>,
        connection: &ConnectionId,
        id: &RequestId,
    ) -> Result<InFlight, ErrorObject> {
        let key = (connection.clone(), id.clone());
        let mut in_flight = self.in_flight();
        if in_flight.contains_key(&key) {
            return Err(ErrorObject::new(
                INVALID_REQUEST,
                "a request with this `id` is still in flight",
            ));
        }
        let signals = Signals::default();
        in_flight.insert(key.clone(), signals.clone());
        Ok(InFlight {
            dispatcher: Arc::clone(self),
            key,
            signals,
        })
    }

    /// Cancels the request that `notification` names. Returns `None` if it is not a cancellation or the request has ended.
    fn cancel(&self, connection: &ConnectionId, notification: &Notification) -> Option<Signals> {
        if notification.method != "notifications/cancelled" {
            return None;
        }
        let id = notification.request_id.clone()?;
        let in_flight = self.in_flight();
        let signals = in_flight.get(&(connection.clone(), id))?;
        signals.cancel.cancel();
        Some(signals.clone())
    }

    async fn handle(
        &self,
        caller: Caller,
        era: Era,
        request: Request,
        peer: Arc<dyn Peer>,
        received: Instant,
    ) -> Result<Json, ErrorObject> {
        let Some(method) = McpMethod::parse(era, &request.method) else {
            let name = printable(&request.method, MAX_NAME);
            let message = format!("unknown method `{name}`");
            return Err(ErrorObject::new(METHOD_NOT_FOUND, message));
        };
        let access = &caller.access;
        let result = match method {
            McpMethod::Initialize => self.initialize(access, &request.params),
            McpMethod::Ping => Ok(json!({})),
            McpMethod::Discover => self.discover(access),
            McpMethod::ListTools => return self.list_tools(access, era, &request.params),
            McpMethod::ListNone(items) => empty_list(items, &request.params),
            McpMethod::Listen => return self.listen(&caller, request, peer).await,
            McpMethod::CallTool => {
                return self.call_tool(caller, era, request, peer, received).await;
            }
        };
        Ok(in_form_of(era, result?, true))
    }

    fn initialize(
        &self,
        access: &Access,
        params: &Map<String, Value>,
    ) -> Result<Value, ErrorObject> {
        let requested = params.get("protocolVersion").and_then(Value::as_str);
        to_value(&InitializeResult {
            protocol_version: super::negotiate(requested),
            capabilities: capabilities(),
            instructions: instructions(&self.published().visible(access)),
            server_info: SERVER_INFO,
        })
    }

    fn discover(&self, access: &Access) -> Result<Value, ErrorObject> {
        to_value(&DiscoverResult {
            supported_versions: super::revisions(),
            capabilities: capabilities(),
            instructions: instructions(&self.published().visible(access)),
            cache: access.cache_scope().into(),
        })
    }

    fn list_tools(
        &self,
        access: &Access,
        era: Era,
        params: &Map<String, Value>,
    ) -> Result<Json, ErrorObject> {
        check_cursor(params)?;
        let members = match era {
            Era::Legacy => json!({}),
            Era::Modern => complete(
                to_value(&CacheableResult::from(access.cache_scope()))?,
                true,
            ),
        };
        let published = self.published();
        let tools = published.listed(access);
        Json::new(&ListToolsResult { tools, members }).map_err(|error| internal(&error))
    }

    async fn listen(
        &self,
        caller: &Caller,
        request: Request,
        peer: Arc<dyn Peer>,
    ) -> Result<Json, ErrorObject> {
        let Request { id, params, .. } = request;
        // A subscription may stay open for days, so only the filter is kept.
        let filter = caller.permits.run_and_release(|| Filter::parse(&params))?;
        drop(params);
        let (changes, closing) = (self.changes(), self.closing.clone());
        Ok(subscription::listen(&id, filter, peer, changes, closing).await)
    }

    async fn call_tool(
        &self,
        caller: Caller,
        era: Era,
        request: Request,
        peer: Arc<dyn Peer>,
        received: Instant,
    ) -> Result<Json, ErrorObject> {
        let params = request.params;
        let (name, arguments) = caller.permits.run(|| name_and_arguments(params))?;
        let (progress, updates) = watch::channel(Progress::default());
        let call = ToolCall {
            client: caller.client,
            token: caller.access.token.clone(),
            received,
            progress,
            permits: caller.permits,
        };
        let request_id = Uuid::new_v4().to_string();
        let span = tracing::info_span!("call", request_id, tool = name);
        let answer = self.call_current_tool(&caller.access, &name, arguments, call);
        let answer = progress::report(answer, request.progress_token, updates, peer, received);
        let output = answer.instrument(span).await?;
        let result = CallToolResult::new(output, &request_id);
        // Read after the call: a reload may have changed the setting meanwhile.
        let has_meta = self.published().catalog.has_result_meta();
        let result = to_value(&if has_meta {
            result
        } else {
            result.without_meta()
        });
        Ok(in_form_of(era, result?, has_meta))
    }

    /// Calls the tool `name` of the current catalog. Retries, with the catalog that is current then, if the model is edited, unloaded
    /// or restarted before it accepts the call.
    async fn call_current_tool(
        &self,
        access: &Access,
        name: &str,
        arguments: Arguments,
        call: ToolCall,
    ) -> Result<ToolOutput, ErrorObject> {
        // Kept for a retry as text: a tree would take many times the memory for as long as the call is queued.
        let text = call.permits.run(|| serde_json::to_vec(&arguments));
        let text = text.expect("the keys of arguments are strings");
        let mut arguments = Some(arguments);
        for _ in 0..MAX_TRIES {
            let published = self.published();
            let catalog = &published.catalog;
            let tool = catalog.find(name);
            let tool = tool.filter(|tool| access.allows(tool.name()));
            let Some(tool) = tool else {
                return unknown_tool(catalog, access, name);
            };
            let given = arguments.take().unwrap_or_else(|| {
                let read = call.permits.run(|| serde_json::from_slice(&text));
                read.expect("serde_json reads what it wrote")
            });
            if let Ok(output) = tool.call(given, call.clone()).await {
                return Ok(output);
            }
        }
        Ok(Superseded::refused())
    }
}

/// Converts `result` to the form of `era`. `has_meta` is whether it may have a `_meta`.
fn in_form_of(era: Era, result: Value, has_meta: bool) -> Json {
    Json::from(match era {
        Era::Legacy => result,
        Era::Modern => complete(result, has_meta),
    })
}

fn to_value(result: &impl serde::Serialize) -> Result<Value, ErrorObject> {
    serde_json::to_value(result).map_err(|error| internal(&error))
}

/// Logs that a result could not be serialised, and returns the error of its request.
fn internal(error: &serde_json::Error) -> ErrorObject {
    tracing::error!(%error, "could not serialise a result");
    ErrorObject::new(INTERNAL_ERROR, "internal error")
}

/// A request in the table. Dropping it removes the entry.
#[derive(Debug)]
struct InFlight {
    dispatcher: Arc<Dispatcher>,
    key: (ConnectionId, RequestId),
    signals: Signals,
}

impl Drop for InFlight {
    fn drop(&mut self) {
        let mut in_flight = self.dispatcher.in_flight();
        in_flight.remove(&self.key);
        self.signals.done.cancel();
    }
}

#[cfg(test)]
mod tests;
