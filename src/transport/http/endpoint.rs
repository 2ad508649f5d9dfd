//! `/mcp`: POST sends a message. In the legacy era GET opens the event stream of a session, and DELETE ends a session.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::extract::{Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderValue, Method, StatusCode};
use axum::response::{IntoResponse, Response};
use futures_util::stream;

use super::Ending;
use super::headers;
use super::permits::{
    CallPermit, Limiter, MemoryPermit, MessagePermit, RequestPermits, StreamPermit, access_of,
};
use super::receive::receive;
use super::response::{self, Accepts, PendingResponse};
use super::sessions::UseKind;
use crate::fair::MessagePermits;
use crate::mcp::caller::{Caller, ConnectionId};
use crate::mcp::dispatcher::Dispatcher;
use crate::mcp::era::Era;
use crate::mcp::jsonrpc::{self, ErrorObject, Message, Outgoing, REQUEST_CANCELLED};
use crate::mcp::method::McpMethod;
use crate::transport::guard::network::Network;
use crate::transport::guard::{self, LiveConfig, Principal, Refusal};

/// The state of `/mcp`. Clones share it.
#[derive(Debug, Clone)]
pub(crate) struct Endpoint {
    dispatcher: Arc<Dispatcher>,
    limiter: Limiter,
    /// Number of requests without a session so far. Each is a connection of its own for the dispatcher.
    stateless: Arc<AtomicU64>,
    live: LiveConfig,
    ending: Ending,
}

/// The permits of a message when its body has been read.
#[derive(Debug)]
struct ArrivalPermits {
    message: MessagePermit,
    memory: MemoryPermit,
    /// Permit of a large message, which counts as a call before it is read.
    call: Option<CallPermit>,
}

/// Handles a request to `/mcp` that has passed the [`guard`].
///
/// # Errors
/// Returns the refusal of the request, which is a response too.
pub(crate) async fn serve(
    State(endpoint): State<Endpoint>,
    request: Request,
) -> Result<Response, Refusal> {
    let headers = request.headers();
    let is_modern = headers::are_modern(headers);
    match *request.method() {
        Method::POST => endpoint.post(request).await,
        Method::GET | Method::DELETE if is_modern => Err(Refusal::method_not_allowed("POST")),
        Method::GET if !response::accepts_event_stream(headers) => Err(Refusal::new(
            StatusCode::NOT_ACCEPTABLE,
            "GET opens an event stream; send `Accept: text/event-stream`",
        )),
        Method::GET => {
            headers::check_revision(headers)?;
            let (head, _) = request.into_parts();
            endpoint.listen(&head).await
        }
        Method::DELETE => {
            headers::check_revision(headers)?;
            let (head, _) = request.into_parts();
            endpoint.end_session(&head).await
        }
        _ => Err(Refusal::method_not_allowed("GET, POST, DELETE")),
    }
}

impl Endpoint {
    /// Creates an endpoint without sessions.
    pub(crate) fn new(dispatcher: Arc<Dispatcher>, live: LiveConfig, ending: Ending) -> Self {
        Self {
            dispatcher,
            limiter: Limiter::new(live.clone()),
            stateless: Arc::default(),
            live,
            ending,
        }
    }

    async fn post(&self, request: Request) -> Result<Response, Refusal> {
        let (limits, tokens) = {
            let rules = self.live.borrow();
            (rules.limits.clone(), rules.tokens.len())
        };
        let (head, body) = request.into_parts();
        let principal = principal_of(&head);
        guard::check_body(&head.headers, limits.max_body)?;
        let client = client_of(&head, &principal);
        let received = receive(&head, body, &client, &principal, &self.limiter, &limits);
        let received = self.ending.drain.run_until_cancelled(received).await;
        let received =
            received.unwrap_or_else(|| Err(Refusal::busy("the server is shutting down")))?;
        // Not before the body is read: otherwise clients whose bodies never arrive could take all permits at no cost.
        let share = share_of_client(limits.max_calls, tokens);
        let limiter = &self.limiter;
        let permit = limiter.acquire_message(&client, share, limits.max_calls)?;
        let message = match received.message {
            Ok(message) => message,
            Err(invalid) => return Ok(response::invalid(invalid)),
        };
        match message {
            Message::Request(request) => {
                let permits = ArrivalPermits {
                    message: permit,
                    memory: received.memory,
                    call: received.call,
                };
                self.answer(&head, &principal, request, permits, received.tree)
                    .await
            }
            // Ignored: a modern client cancels a request by closing its response, and sends no other notifications.
            _ if headers::are_modern(&head.headers) => Ok(StatusCode::ACCEPTED.into_response()),
            notification_or_response => {
                headers::check_revision(&head.headers)?;
                let session = self
                    .limiter
                    .acquire_session(&head.headers, &principal, UseKind::Call)
                    .await?;
                let (peer, _notifications) = response::peer_channel();
                let dispatched = self.dispatcher.dispatch(
                    &session.caller(&principal),
                    Era::Legacy,
                    notification_or_response,
                    Arc::new(peer),
                );
                dispatched.await;
                Ok(StatusCode::ACCEPTED.into_response())
            }
        }
    }

    /// Answers a request. It holds `permits` until the response is sent, and `tree` until its arguments have been read.
    async fn answer(
        &self,
        head: &Parts,
        principal: &Principal,
        request: jsonrpc::Request,
        permits: ArrivalPermits,
        tree: MessagePermits,
    ) -> Result<Response, Refusal> {
        let era = headers::routing_headers(&head.headers)
            .and_then(|headers| Era::of_request(&request, Some(&headers)));
        let era = match era {
            Ok(era) => era,
            Err(error) => return Ok(response::invalid_era(request.id, error)),
        };
        let method = McpMethod::parse(era, &request.method);
        let accepts = match (Accepts::from_headers(&head.headers), method) {
            (_, Some(McpMethod::Listen)) if !response::accepts_event_stream(&head.headers) => {
                let message = "a subscription is an event stream; send `Accept: text/event-stream`";
                return Err(Refusal::new(StatusCode::NOT_ACCEPTABLE, message).with_id(request.id));
            }
            (Accepts::Json, Some(McpMethod::Listen)) => Accepts::Both,
            (accepts, _) => accepts,
        };
        let (mut caller, permits) = self
            .acquire_permits(head, principal, era, method, permits)
            .await
            .map_err(|refusal| refusal.with_id(request.id.clone()))?;
        caller.permits = tree;
        let opened = permits
            .session
            .as_ref()
            .filter(|_| method == Some(McpMethod::Initialize));
        let session_header = opened
            .map(|session| HeaderValue::try_from(&session.id).expect("base64url is visible ASCII"));
        // A revoked token ends subscriptions at once. A call in flight may finish.
        let subscriber = (method == Some(McpMethod::Listen)).then(|| principal.clone());
        let revoked = guard::revoked(self.live.clone(), subscriber.unwrap_or_default());
        let pending = self.dispatch(&caller, era, request, permits, revoked);
        let mut response = pending.respond(accepts).await;
        if let Some(header) = session_header {
            response.headers_mut().insert(headers::SESSION, header);
        }
        Ok(response)
    }

    /// Returns the caller of a request, and the permits that it holds until the response is sent.
    async fn acquire_permits(
        &self,
        head: &Parts,
        principal: &Principal,
        era: Era,
        method: Option<McpMethod>,
        permits: ArrivalPermits,
    ) -> Result<(Caller, RequestPermits), Refusal> {
        let session = match (era, method) {
            (Era::Modern, _) => None,
            (Era::Legacy, Some(McpMethod::Initialize)) => {
                headers::check_revision(&head.headers)?;
                Some(self.limiter.open_session(principal).await?)
            }
            (Era::Legacy, _) => {
                headers::check_revision(&head.headers)?;
                let session = self
                    .limiter
                    .acquire_session(&head.headers, principal, UseKind::Call);
                Some(session.await?)
            }
        };
        let caller = match &session {
            Some(session) => session.caller(principal),
            None => self.stateless_caller(head, principal),
        };
        let ArrivalPermits {
            message,
            memory,
            call,
        } = permits;
        let mut permits = RequestPermits {
            call,
            message: Some(message),
            memory: Some(memory),
            stream: None,
            session,
        };
        match method {
            Some(McpMethod::CallTool) if permits.call.is_none() => {
                permits.call = self.limiter.acquire_call(principal)?;
            }
            Some(McpMethod::Listen) => {
                // A subscription may stay open for days, so it holds only a permit for its stream.
                (permits.call, permits.message, permits.memory) = (None, None, None);
                permits.stream = Some(self.acquire_stream(&caller)?);
            }
            _ => {}
        }
        Ok((caller, permits))
    }

    /// Acquires a permit for an event stream of `caller`, which may have a quarter of all connections.
    fn acquire_stream(&self, caller: &Caller) -> Result<StreamPermit, Refusal> {
        let max = (self.live.borrow().limits.max_connections / 4).max(1);
        self.limiter.acquire_stream(&caller.client, max)
    }

    /// Dispatches a request. The response is an error if the request, its session, its token or the server ends before the answer.
    fn dispatch(
        &self,
        caller: &Caller,
        era: Era,
        request: jsonrpc::Request,
        permits: RequestPermits,
        revoked: impl Future<Output = ()> + Send + 'static,
    ) -> PendingResponse {
        let id = request.id.clone();
        let (peer, notifications) = response::peer_channel();
        let request = Message::Request(request);
        let dispatched = self
            .dispatcher
            .dispatch(caller, era, request, Arc::new(peer));
        let stop = self.ending.stop.clone();
        let answer = async move {
            // Moves all permits into the future; without this line only the fields used below would move.
            let permits = permits;
            let session_ended = async {
                match &permits.session {
                    Some(session) => session.ended().cancelled().await,
                    None => std::future::pending().await,
                }
            };
            let reason = tokio::select! {
                answer = dispatched => match answer {
                    Some(answer) => return answer,
                    None => "the request was cancelled",
                },
                () = session_ended => "the session was ended",
                () = revoked => "the token is no longer valid",
                () = stop.cancelled() => "the server is shutting down",
            };
            Outgoing::Error(Some(id), ErrorObject::new(REQUEST_CANCELLED, reason))
        };
        PendingResponse::new(answer, notifications, era)
    }

    /// Opens the event stream of a session, for notifications that belong to no request.
    async fn listen(&self, head: &Parts) -> Result<Response, Refusal> {
        let principal = principal_of(head);
        let session = self
            .limiter
            .acquire_session(&head.headers, &principal, UseKind::Stream)
            .await?;
        let (drain, mut changes) = (self.ending.drain.clone(), self.dispatcher.changes());
        if session.is_resumed() {
            changes.mark_changed();
        }
        let permits = (self.acquire_stream(&session.caller(&principal))?, session);
        let revoked = Box::pin(guard::revoked(self.live.clone(), principal));
        let notifications = stream::unfold(
            (permits, drain, changes, revoked),
            async |(permits, drain, mut changes, mut revoked)| {
                tokio::select! {
                    () = permits.1.ended().cancelled() => return None,
                    () = drain.cancelled() => return None,
                    () = &mut revoked => return None,
                    changed = changes.changed() => changed.ok()?,
                }
                Some((
                    Outgoing::tools_changed(None),
                    (permits, drain, changes, revoked),
                ))
            },
        );
        Ok(response::event_stream(notifications))
    }

    async fn end_session(&self, head: &Parts) -> Result<Response, Refusal> {
        let principal = principal_of(head);
        let ended = self.limiter.end_session(&head.headers, &principal);
        ended.await?;
        Ok(StatusCode::NO_CONTENT.into_response())
    }

    /// Returns the caller of a request without a session. Its ids are a scope of their own; fairness is per token, or per address without
    /// a token.
    fn stateless_caller(&self, head: &Parts, principal: &Principal) -> Caller {
        let number = self.stateless.fetch_add(1, Ordering::Relaxed);
        Caller {
            connection: ConnectionId(format!("request {number}")),
            client: client_of(head, principal),
            access: access_of(principal),
            permits: MessagePermits::default(),
        }
    }
}

/// Returns how many of `max` messages in flight one client may have. With several tokens, each leaves a quarter to the others.
fn share_of_client(max: usize, tokens: usize) -> usize {
    if tokens > 1 {
        (max - max / 4).max(1)
    } else {
        max
    }
}

/// Returns the principal that [`guard::authenticate`] has stored.
fn principal_of(head: &Parts) -> Principal {
    head.extensions
        .get::<Principal>()
        .cloned()
        .expect("`/mcp` is behind the guard")
}

/// Returns the name of the client for limits: the name of its token, or its network without a token.
fn client_of(head: &Parts, principal: &Principal) -> String {
    let address = || {
        let address = head.extensions.get::<SocketAddr>();
        address.map(|address| Network::from(address.ip()).to_string())
    };
    let name = principal.name().map(str::to_owned);
    name.or_else(address).unwrap_or_default()
}
