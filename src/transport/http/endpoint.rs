//! `/mcp`: POST carries a message; in the legacy era GET opens a session's stream, and DELETE ends a session.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::request::Parts;
use axum::http::{Extensions, HeaderMap, HeaderValue, Method, StatusCode};
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::Ending;
use super::allowance::{Allowances, Denied};
use super::exchange::{self, Accepts, Exchange};
use super::headers::{self, session_id, unknown_session};
use super::sessions::{Sessions, Use};
use crate::config::http::HttpLimits;
use crate::mcp::dispatcher::{Access, Caller, ConnectionId, Dispatcher};
use crate::mcp::era::Era;
use crate::mcp::jsonrpc::{self, ErrorObject, Message, Outgoing, REQUEST_CANCELLED};
use crate::transport::guard::{self, Live, Principal, Refusal};

/// What serves `/mcp`.
#[derive(Debug, Clone)]
pub struct Endpoint {
    dispatcher: Arc<Dispatcher>,
    sessions: Arc<Mutex<Sessions>>,
    allowances: Arc<Mutex<Allowances>>,
    /// Requests without a session so far: each is a connection of its own to the dispatcher.
    stateless: Arc<AtomicU64>,
    live: Live,
    ending: Ending,
}

/// Serves a request of a client that [`super::super::guard`] let in.
///
/// # Errors
/// A refusal, which is a response too.
pub async fn serve(
    State(endpoint): State<Endpoint>,
    request: Request,
) -> Result<Response, Refusal> {
    let headers = request.headers();
    let is_modern = headers::are_modern(headers);
    match *request.method() {
        Method::POST => endpoint.post(request).await,
        Method::GET | Method::DELETE if is_modern => Err(Refusal::method("POST")),
        Method::GET if !exchange::allows_events(headers) => Err(Refusal::new(
            StatusCode::NOT_ACCEPTABLE,
            "GET gives the session's event stream: `Accept: text/event-stream`",
        )),
        Method::GET => {
            headers::check_revision(headers)?;
            endpoint.listen(&request)
        }
        Method::DELETE => {
            headers::check_revision(headers)?;
            endpoint.end_session(&request)
        }
        _ => Err(Refusal::method("GET, POST, DELETE")),
    }
}

impl Endpoint {
    /// An endpoint without sessions.
    pub fn new(dispatcher: Arc<Dispatcher>, live: Live, ending: Ending) -> Self {
        let max_sessions = live.borrow().limits.max_sessions;
        Self {
            dispatcher,
            sessions: Arc::new(Mutex::new(Sessions::new(max_sessions))),
            allowances: Arc::default(),
            stateless: Arc::default(),
            live,
            ending,
        }
    }

    async fn post(&self, request: Request) -> Result<Response, Refusal> {
        let limits = self.live.borrow().limits.clone();
        let (head, body) = request.into_parts();
        let principal = principal_of(&head);
        guard::check_body(&head.headers, limits.max_body)?;
        // Before the body: one of no session is not worth the memory.
        if head.headers.contains_key(headers::SESSION) && !headers::are_modern(&head.headers) {
            let id = session_id(&head.headers)?;
            if !lock(&self.sessions).has(id, principal.name(), Instant::now()) {
                return Err(unknown_session());
            }
        }
        let place = self.begin_message(limits.max_calls)?;
        let body = read(body, &limits);
        let body = self.ending.drain.run_until_cancelled(body).await;
        let body = body.unwrap_or_else(|| Err(Refusal::busy("the server is ending")))?;
        let message = match Message::parse(&body) {
            Ok(message) => message,
            Err(invalid) => return Ok(exchange::json(&invalid.into(), Era::Legacy)),
        };
        match message {
            Message::Request(request) => self.answer(&head, &principal, request, place).await,
            // It has none of its own over HTTP: a client cancels by closing the stream.
            _ if headers::are_modern(&head.headers) => Ok(StatusCode::ACCEPTED.into_response()),
            notification_or_response => {
                headers::check_revision(&head.headers)?;
                let session = self.session(&head.headers, &principal, Use::Call)?;
                let (peer, _news) = exchange::peer();
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

    /// Answers a request, for which it holds `place`.
    async fn answer(
        &self,
        head: &Parts,
        principal: &Principal,
        request: jsonrpc::Request,
        place: Place,
    ) -> Result<Response, Refusal> {
        let accepts = Accepts::of(&head.headers);
        let era =
            headers::routing(&head.headers).and_then(|headers| Era::of(&request, Some(&headers)));
        let era = match era {
            Ok(era) => era,
            Err(error) => return Ok(exchange::refusal(request.id, error)),
        };
        let is_initialize = era == Era::Legacy && request.method == "initialize";
        if era == Era::Legacy {
            headers::check_revision(&head.headers)?;
        }
        let listens = era == Era::Modern && request.method == "subscriptions/listen";
        if listens && !exchange::allows_events(&head.headers) {
            let message = "a subscription is an event stream: `Accept: text/event-stream`";
            return Err(Refusal::new(StatusCode::NOT_ACCEPTABLE, message).of(request.id));
        }
        let (caller, session) = match era {
            Era::Modern => (self.stateless_caller(head, principal), None),
            Era::Legacy => {
                let session = if is_initialize {
                    self.open_session(principal)?
                } else {
                    self.session(&head.headers, principal, Use::Call)?
                };
                (session.caller(principal), Some(session))
            }
        };
        let id = request.id.clone();
        let call = self.begin_call(principal, &request);
        let held = Held {
            _call: call.map_err(|refusal| refusal.of(id))?,
            // It may stay open for days, and takes nothing but its connection.
            _place: (!listens).then_some(place),
            session,
        };
        let accepts = if listens { Accepts::Stream } else { accepts };
        let session_header = held.session.as_ref().filter(|_| is_initialize).map(|session| {
            HeaderValue::try_from(&session.id).expect("a UUID is visible ASCII")
        });
        let exchange = self.exchange(&caller, era, request, held);
        let mut response = exchange.respond(accepts).await;
        if let Some(header) = session_header {
            response.headers_mut().insert(headers::SESSION, header);
        }
        Ok(response)
    }

    /// The exchange of a request: it ends with the answer, or with the reason why there is none.
    fn exchange(
        &self,
        caller: &Caller,
        era: Era,
        request: jsonrpc::Request,
        held: Held,
    ) -> Exchange {
        let id = request.id.clone();
        let (peer, news) = exchange::peer();
        let request = Message::Request(request);
        let dispatched = self
            .dispatcher
            .dispatch(caller, era, request, Arc::new(peer));
        let stop = self.ending.stop.clone();
        let answer = async move {
            let session_ended = async {
                match &held.session {
                    Some(session) => session.ended.cancelled().await,
                    None => std::future::pending().await,
                }
            };
            let reason = tokio::select! {
                answer = dispatched => match answer {
                    Some(answer) => return answer,
                    None => "the request was cancelled",
                },
                () = session_ended => "the session was ended",
                () = stop.cancelled() => "the server is ending",
            };
            Outgoing::Error(Some(id), ErrorObject::new(REQUEST_CANCELLED, reason))
        };
        Exchange::new(answer, news, era)
    }

    /// The stream of a session: it stays open, with pings, for what concerns no request.
    fn listen(&self, request: &Request) -> Result<Response, Refusal> {
        let principal = principal_in(request.extensions());
        let session = self.session(request.headers(), &principal, Use::Stream)?;
        let (drain, changes) = (self.ending.drain.clone(), self.dispatcher.changes());
        let news = stream::unfold(
            (session, drain, changes),
            async |(session, drain, mut changes)| {
                tokio::select! {
                    () = session.ended.cancelled() => return None,
                    () = drain.cancelled() => return None,
                    changed = changes.changed() => changed.ok()?,
                }
                Some((Outgoing::tools_changed(None), (session, drain, changes)))
            },
        );
        Ok(exchange::events(news))
    }

    fn end_session(&self, request: &Request) -> Result<Response, Refusal> {
        let principal = principal_in(request.extensions());
        let id = session_id(request.headers())?;
        let mut sessions = lock(&self.sessions);
        if sessions.has(id, principal.name(), Instant::now()) && sessions.end(id) {
            Ok(StatusCode::NO_CONTENT.into_response())
        } else {
            Err(unknown_session())
        }
    }

    /// Opens a session. It is in use until it is dropped.
    fn open_session(&self, principal: &Principal) -> Result<InUse, Refusal> {
        let opened = lock(&self.sessions).open(principal.name(), Instant::now());
        let (id, ended) = opened.ok_or_else(|| {
            Refusal::busy(
                "the server has as many sessions as it may, and all of them work: try again later",
            )
        })?;
        Ok(self.in_use(id, Use::Call, ended))
    }

    /// The session that a request names, in use until it is dropped.
    fn session(
        &self,
        headers: &HeaderMap,
        principal: &Principal,
        kind: Use,
    ) -> Result<InUse, Refusal> {
        let id = session_id(headers)?;
        let begun = lock(&self.sessions).begin(id, principal.name(), kind, Instant::now());
        let ended = begun.ok_or_else(unknown_session)?;
        Ok(self.in_use(id.to_owned(), kind, ended))
    }

    fn in_use(&self, id: String, kind: Use, ended: CancellationToken) -> InUse {
        InUse {
            sessions: Arc::clone(&self.sessions),
            id,
            kind,
            ended,
        }
    }

    /// Who sends a request without a session: its ids are its own, and it takes turns by its token, or its address.
    fn stateless_caller(&self, head: &Parts, principal: &Principal) -> Caller {
        let number = self.stateless.fetch_add(1, Ordering::Relaxed);
        let address = || {
            let address = head.extensions.get::<SocketAddr>();
            address.map(|address| address.ip().to_string())
        };
        Caller {
            connection: ConnectionId(format!("request {number}")),
            client: principal
                .name()
                .map(str::to_owned)
                .or_else(address)
                .unwrap_or_default(),
            access: access_of(principal),
        }
    }

    /// A place for a message; it is free again when that is dropped.
    fn begin_message(&self, max: usize) -> Result<Place, Refusal> {
        let begun = lock(&self.allowances).begin_message(max);
        begun.map_err(|_| {
            Refusal::busy(format!("the server is busy: {max} messages are under way"))
        })?;
        Ok(Place(Arc::clone(&self.allowances)))
    }

    /// What a token allows, for a call of a tool.
    fn begin_call(
        &self,
        principal: &Principal,
        request: &jsonrpc::Request,
    ) -> Result<Option<TokenCall>, Refusal> {
        let is_call = request.method == "tools/call";
        let Some(token) = principal.0.as_ref().filter(|_| is_call) else {
            return Ok(None);
        };
        let begun = lock(&self.allowances).begin_call(token, Instant::now());
        match begun {
            Ok(()) => Ok(Some(TokenCall {
                allowances: Arc::clone(&self.allowances),
                token: token.name.clone(),
            })),
            Err(Denied::Busy(max)) => Err(Refusal::too_many(
                format!(
                    "the token `{}` is for {max} calls at once: try again when one has ended",
                    token.name
                ),
                WAIT_FOR_CALLS,
            )),
            Err(Denied::TooOften {
                calls_per_minute,
                wait,
            }) => Err(Refusal::too_many(
                format!(
                    "the token `{}` is for {calls_per_minute} calls a minute: try again in {} s",
                    token.name,
                    wait.as_secs() + 1
                ),
                wait,
            )),
        }
    }
}

/// What a client is told to wait where nobody knows when a call ends.
const WAIT_FOR_CALLS: Duration = Duration::from_secs(5);

/// What a request holds until it is answered.
struct Held {
    _call: Option<TokenCall>,
    _place: Option<Place>,
    session: Option<InUse>,
}

/// A message under way.
struct Place(Arc<Mutex<Allowances>>);

impl Drop for Place {
    fn drop(&mut self) {
        lock(&self.0).end_message();
    }
}

/// A call that a token allowed.
struct TokenCall {
    allowances: Arc<Mutex<Allowances>>,
    token: String,
}

impl Drop for TokenCall {
    fn drop(&mut self) {
        lock(&self.allowances).end_call(&self.token);
    }
}

fn principal_of(head: &Parts) -> Principal {
    principal_in(&head.extensions)
}

/// Whom [`guard::authenticate`] found.
fn principal_in(extensions: &Extensions) -> Principal {
    extensions
        .get::<Principal>()
        .cloned()
        .expect("`/mcp` is behind the guard")
}

fn access_of(principal: &Principal) -> Access {
    let token = principal.0.as_ref();
    Access {
        token: token.map(|token| token.name.clone()),
        tools: token.and_then(|token| token.tools.clone()),
    }
}

/// A session in use.
struct InUse {
    sessions: Arc<Mutex<Sessions>>,
    id: String,
    kind: Use,
    ended: CancellationToken,
}

impl InUse {
    fn caller(&self, principal: &Principal) -> Caller {
        Caller {
            connection: ConnectionId(self.id.clone()),
            client: principal.name().unwrap_or(&self.id).to_owned(),
            access: access_of(principal),
        }
    }
}

impl Drop for InUse {
    fn drop(&mut self) {
        lock(&self.sessions).release(&self.id, self.kind, Instant::now());
    }
}

fn lock<T>(state: &Mutex<T>) -> MutexGuard<'_, T> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The whole body.
async fn read(body: Body, limits: &HttpLimits) -> Result<Bytes, Refusal> {
    let collected = Limited::new(body, limits.max_body).collect();
    match tokio::time::timeout(limits.body_time, collected).await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => {
            Err(Refusal::too_large(limits.max_body))
        }
        Ok(Err(error)) => Err(Refusal::new(
            StatusCode::BAD_REQUEST,
            format!("the message could not be read: {error}"),
        )),
        Err(_elapsed) => Err(Refusal::new(
            StatusCode::REQUEST_TIMEOUT,
            format!(
                "the message did not come within {} s",
                limits.body_time.as_secs()
            ),
        )),
    }
}
