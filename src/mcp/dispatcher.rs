//! Method → handler, and the table of the requests in flight; no I/O.
//!
//! [`Dispatcher::dispatch`] enters a request into the table before it returns, so a cancel that is read next finds it,
//! and gives a future that the transport runs beside others. Dropping that future cancels the request.

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
    ErrorObject, INTERNAL_ERROR, INVALID_PARAMS, INVALID_REQUEST, Json, METHOD_NOT_FOUND, Message,
    Notification, Outgoing, Request, RequestId,
};
use super::lists::{check_cursor, empty_list};
use super::progress;
use super::schema::{
    CallToolResult, DiscoverResult, InitializeResult, ListToolsResult, SERVER_INFO, complete,
};
use super::subscription::{self, Filter};
use crate::config::validate::suggestion;
use crate::error_code::ErrorCode;
use crate::json;
use crate::printable::printable;
use crate::telemetry::call;
use crate::tools::instructions::instructions;
use crate::tools::{
    Arguments, Catalog, Progress, Superseded, ToolCall, ToolDescription, ToolOutput,
};

/// The longest name that is repeated in an error, in characters.
const MAX_NAME: usize = 64;

/// Most attempts at a call, if its model is edited, unloaded or restarted before it takes the call.
const MAX_TRIES: u32 = 10;

/// The one dispatcher of the server.
#[derive(Debug)]
pub(crate) struct Dispatcher {
    catalog: RwLock<Arc<Catalog>>,
    /// How often what clients are told of the tools has changed.
    changes: watch::Sender<u64>,
    in_flight: Mutex<HashMap<(ConnectionId, RequestId), Ends>>,
    closing: CancellationToken,
}

/// The end of a request in flight.
#[derive(Debug, Clone, Default)]
struct Ends {
    /// It is to end.
    cancelled: CancellationToken,
    /// It has ended, and holds nothing any more.
    gone: CancellationToken,
}

impl Dispatcher {
    /// Serves the tools of `catalog`.
    pub(crate) fn new(catalog: Catalog) -> Self {
        Self {
            catalog: RwLock::new(Arc::new(catalog)),
            changes: watch::Sender::new(0),
            in_flight: Mutex::new(HashMap::new()),
            closing: CancellationToken::new(),
        }
    }

    /// Ends the subscriptions, with an answer: the server takes no more messages.
    pub(crate) fn close(&self) {
        self.closing.cancel();
    }

    /// Serves the tools of `catalog` from now on.
    pub(crate) fn replace(&self, catalog: Catalog) {
        let former = self.catalog();
        let is_changed = catalog.descriptions() != former.descriptions();
        *self.catalog.write().unwrap_or_else(PoisonError::into_inner) =
            Arc::new(catalog.after(&former));
        if is_changed {
            self.announce();
        }
    }

    /// Tells when clients are to be told that the list of tools is another.
    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    fn catalog(&self) -> Arc<Catalog> {
        Arc::clone(&self.catalog.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Has clients list the tools again, since the tokens now allow others.
    pub(crate) fn announce(&self) {
        self.changes.send_modify(|count| *count += 1);
    }

    /// Takes a message of `caller`, a request in its `era`. The future gives what is to be sent back: nothing for a notification, or for a request that was
    /// cancelled. That of a cancel ends when its request has ended: what is read behind it finds its place free.
    pub(crate) fn dispatch(
        self: &Arc<Self>,
        caller: &Caller,
        era: Era,
        message: Message,
        peer: Arc<dyn Peer>,
    ) -> impl Future<Output = Option<Outgoing>> + Send + use<> {
        let received = Instant::now();
        let mut cancelled = None;
        let begun = match message {
            Message::Request(request) => Some((
                request.id.clone(),
                self.enter(&caller.connection, &request.id)
                    .map(|entry| (entry, request)),
            )),
            Message::Notification(notification) => {
                cancelled = self.notified(&caller.connection, &notification);
                None
            }
            Message::Response => None,
        };
        let (dispatcher, caller) = (Arc::clone(self), caller.clone());
        async move {
            if let Some(Ends { gone, .. }) = cancelled {
                gone.cancelled().await;
            }
            let (id, entry) = begun?;
            let (entry, request) = match entry {
                Ok(entered) => entered,
                Err(error) => return Some(Outgoing::Error(Some(id), error)),
            };
            let handled = dispatcher.handle(caller, era, request, peer, received);
            tokio::select! {
                // A cancelled request gets no response (basic/utilities/cancellation).
                () = entry.ends.cancelled.cancelled() => None,
                result = handled => Some(match result {
                    Ok(result) => Outgoing::Result(id, result),
                    Err(error) => Outgoing::Error(Some(id), error),
                }),
            }
        }
    }

    /// Cancels all requests of a connection.
    pub(crate) fn cancel_all(&self, connection: &ConnectionId) {
        let in_flight = self.in_flight();
        for ((owner, _), ends) in in_flight.iter() {
            if connection == owner {
                ends.cancelled.cancel();
            }
        }
    }

    fn in_flight(&self) -> MutexGuard<'_, HashMap<(ConnectionId, RequestId), Ends>> {
        self.in_flight
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn enter(
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
        let ends = Ends::default();
        in_flight.insert(key.clone(), ends.clone());
        Ok(InFlight {
            dispatcher: Arc::clone(self),
            key,
            ends,
        })
    }

    /// The request that a notification cancelled, if any.
    fn notified(&self, connection: &ConnectionId, notification: &Notification) -> Option<Ends> {
        if notification.method != "notifications/cancelled" {
            return None;
        }
        let id = notification.request_id.clone()?;
        let in_flight = self.in_flight();
        // One that has ended is not there any more, and nothing happens.
        let ends = in_flight.get(&(connection.clone(), id))?;
        ends.cancelled.cancel();
        Some(ends.clone())
    }

    async fn handle(
        &self,
        caller: Caller,
        era: Era,
        request: Request,
        peer: Arc<dyn Peer>,
        received: Instant,
    ) -> Result<Json, ErrorObject> {
        let access = &caller.access;
        let mut has_meta = true;
        let result = match (era, request.method.as_str()) {
            (Era::Legacy, "initialize") => to_value(&InitializeResult {
                protocol_version: super::negotiate(
                    request
                        .params
                        .get("protocolVersion")
                        .and_then(Value::as_str),
                ),
                capabilities: capabilities(),
                instructions: instructions(&self.described(access)),
                server_info: SERVER_INFO,
            }),
            (Era::Legacy, "ping") => Ok(json!({})),
            (Era::Modern, "server/discover") => to_value(&DiscoverResult {
                supported_versions: super::revisions(),
                capabilities: capabilities(),
                instructions: instructions(&self.described(access)),
                cache: access.cache_scope().into(),
            }),
            (Era::Modern, "subscriptions/listen") => {
                let Request { id, params, .. } = request;
                // It may listen for days, and needs no more than the filter for it.
                let filter = caller.permits.last_on_tree(|| Filter::parse(&params))?;
                drop(params);
                let (changes, closing) = (self.changes(), self.closing.clone());
                let heard = subscription::listen(&id, filter, peer, changes, closing);
                return Ok(heard.await);
            }
            (_, "tools/list") => {
                check_cursor(&request.params)?;
                to_value(&ListToolsResult {
                    tools: self.described(access).into_iter().map(Into::into).collect(),
                    cache: (era == Era::Modern).then(|| access.cache_scope().into()),
                })
            }
            (Era::Legacy, "prompts/list") => empty_list("prompts", &request.params),
            (Era::Legacy, "resources/list") => empty_list("resources", &request.params),
            (Era::Legacy, "resources/templates/list") => {
                empty_list("resourceTemplates", &request.params)
            }
            (_, "tools/call") => {
                let called = self.call_tool(caller, request, peer, received).await?;
                // Reads the setting again: it may have been edited while the call ran.
                has_meta = self.catalog().has_result_meta();
                to_value(&if has_meta {
                    called
                } else {
                    called.without_meta()
                })
            }
            (_, other) => Err(ErrorObject::new(
                METHOD_NOT_FOUND,
                format!("unknown method `{}`", printable(other, MAX_NAME)),
            )),
        };
        let result = match era {
            Era::Legacy => result,
            Era::Modern => result.map(|result| complete(result, has_meta)),
        };
        result.map(Json::from)
    }

    /// The tools that `access` is for.
    fn described(&self, access: &Access) -> Vec<ToolDescription> {
        let catalog = self.catalog();
        let tools = catalog.descriptions().iter();
        let allowed = tools.filter(|tool| access.allows(&tool.name));
        allowed.cloned().collect()
    }

    async fn call_tool(
        &self,
        caller: Caller,
        request: Request,
        peer: Arc<dyn Peer>,
        received: Instant,
    ) -> Result<CallToolResult, ErrorObject> {
        let params = request.params;
        let (name, arguments) = caller.permits.on_tree(|| name_and_arguments(params))?;
        let (progress, news) = watch::channel(Progress::default());
        let call = ToolCall {
            client: caller.client,
            token: caller.access.token.clone(),
            received,
            progress,
            permits: caller.permits,
        };
        let request_id = Uuid::new_v4().to_string();
        let span = tracing::info_span!("call", request_id, tool = name);
        let answer = self.answer(&caller.access, &name, arguments, call);
        let answer = progress::report(answer, request.progress_token, news, peer, received);
        let output = answer.instrument(span).await?;
        Ok(CallToolResult::of(output, &request_id))
    }

    /// Calls the tool. If the model is edited, unloaded or restarted before it takes the call, the tool of the current catalog is called,
    /// at most [`MAX_TRIES`] times.
    async fn answer(
        &self,
        access: &Access,
        name: &str,
        arguments: Arguments,
        call: ToolCall,
    ) -> Result<ToolOutput, ErrorObject> {
        // As text, for the case that it must be made again: as a tree it would take many times as much for as long as it waits.
        let kept = call.permits.on_tree(|| serde_json::to_vec(&arguments));
        let kept = kept.expect("the keys of arguments are strings");
        let mut arguments = Some(arguments);
        for _ in 0..MAX_TRIES {
            let catalog = self.catalog();
            let tool = catalog.find(name);
            let tool = tool.filter(|tool| access.allows(tool.name()));
            let Some(tool) = tool else {
                return not_found(&catalog, access, name);
            };
            let given = arguments.take().unwrap_or_else(|| {
                let read = call.permits.on_tree(|| serde_json::from_slice(&kept));
                read.expect("it was written by the same library")
            });
            if let Ok(output) = tool.call(given, call.clone()).await {
                return Ok(output);
            }
        }
        Ok(Superseded::refused())
    }
}

/// Takes the name of the tool and its arguments out of the parameters of a call. The rest of them is of no use.
fn name_and_arguments(mut params: Map<String, Value>) -> Result<(String, Arguments), ErrorObject> {
    let invalid = |message| Err(ErrorObject::new(INVALID_PARAMS, message));
    let Some(Value::String(name)) = params.remove("name") else {
        return invalid("`name` must be the name of a tool");
    };
    let arguments = params.remove("arguments").unwrap_or_default();
    match json::from_text(arguments, "object") {
        Value::Null => Ok((name, Arguments::new())),
        Value::Object(arguments) => Ok((name, arguments)),
        Value::String(text) if text.trim().is_empty() => Ok((name, Arguments::new())),
        _ => invalid("`arguments` must be an object"),
    }
}

/// What is said of a tool that is not there, or not for this caller. A client that was told of it before an edit may read
/// that.
fn not_found(catalog: &Catalog, access: &Access, name: &str) -> Result<ToolOutput, ErrorObject> {
    let is_removed = catalog.was_removed(name) && access.allows(name);
    let name = &*printable(name, MAX_NAME);
    let mut names = catalog.names();
    names.retain(|name| access.allows(name));
    let meant = match &names[..] {
        [] => "there are no tools".into(),
        names => suggestion(name, names),
    };
    if is_removed {
        let text =
            format!("the tool `{name}` was removed by a reload of the configuration; {meant}");
        call::refused(ErrorCode::ToolRemoved);
        return Ok(ToolOutput::error(ErrorCode::ToolRemoved, text));
    }
    Err(ErrorObject::new(
        INVALID_PARAMS,
        format!("unknown tool `{name}`; {meant}"),
    ))
}

fn capabilities() -> Value {
    json!({"tools": {"listChanged": true}})
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
    ends: Ends,
}

impl Drop for InFlight {
    fn drop(&mut self) {
        let mut in_flight = self.dispatcher.in_flight();
        in_flight.remove(&self.key);
        self.ends.gone.cancel();
    }
}
