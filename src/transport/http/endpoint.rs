//! `/mcp`: POST carries a message; in the legacy era GET opens a session's stream, and DELETE ends a session.

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
use super::permits::{Held, Holdings, MemoryPermit, MessagePermit, Stream, TokenCall, access_of};
use super::receive::receive;
use super::response::{self, Accepts, Exchange};
use super::sessions::Use;
use crate::fair::MessagePermits;
use crate::mcp::caller::{Caller, ConnectionId};
use crate::mcp::dispatcher::Dispatcher;
use crate::mcp::era::{Era, Purpose};
use crate::mcp::jsonrpc::{self, ErrorObject, Message, Outgoing, REQUEST_CANCELLED};
use crate::transport::guard::network::Network;
use crate::transport::guard::{self, Live, Principal, Refusal};

/// What serves `/mcp`.
#[derive(Debug, Clone)]
pub(crate) struct Endpoint {
    dispatcher: Arc<Dispatcher>,
    holdings: Holdings,
    /// Requests without a session so far: each is a connection of its own to the dispatcher.
    stateless: Arc<AtomicU64>,
    live: Live,
    ending: Ending,
}

/// The permits that a message has from its arrival on.
#[derive(Debug)]
struct Permits {
    message: MessagePermit,
    memory: MemoryPermit,
    /// That of a large message, which counts as a call before it is read.
    call: Option<TokenCall>,
}

/// Serves a request of a client that [`super::super::guard`] let in.
///
/// # Errors
/// A refusal, which is a response too.
pub(crate) async fn serve(
    State(endpoint): State<Endpoint>,
    request: Request,
) -> Result<Response, Refusal> {
    let headers = request.headers();
    let is_modern = headers::are_modern(headers);
    match *request.method() {
        Method::POST => endpoint.post(request).await,
        Method::GET | Method::DELETE if is_modern => Err(Refusal::method("POST")),
        Method::GET if !response::allows_events(headers) => Err(Refusal::new(
            StatusCode::NOT_ACCEPTABLE,
            "GET gives the session's event stream: `Accept: text/event-stream`",
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
        _ => Err(Refusal::method("GET, POST, DELETE")),
    }
}

impl Endpoint {
    /// An endpoint without sessions.
    pub(crate) fn new(dispatcher: Arc<Dispatcher>, live: Live, ending: Ending) -> Self {
        Self {
            dispatcher,
            holdings: Holdings::new(live.clone()),
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
        let received = receive(&head, body, &client, &principal, &self.holdings, &limits);
        let received = self.ending.drain.run_until_cancelled(received).await;
        let received = received.unwrap_or_else(|| Err(Refusal::busy("the server is ending")))?;
        // Not before: bodies that never come would take all permits of others, and cost next to nothing.
        let share = share_of_client(limits.max_calls, tokens);
        let holdings = &self.holdings;
        let permit = holdings.begin_message(&client, share, limits.max_calls)?;
        let message = match received.message {
            Ok(message) => message,
            Err(invalid) => return Ok(response::unreadable(invalid)),
        };
        match message {
            Message::Request(request) => {
                let permits = Permits {
                    message: permit,
                    memory: received.memory,
                    call: received.call,
                };
                self.answer(&head, &principal, request, permits, received.tree)
                    .await
            }
            // It has none of its own over HTTP: a client cancels by closing the stream.
            _ if headers::are_modern(&head.headers) => Ok(StatusCode::ACCEPTED.into_response()),
            notification_or_response => {
                headers::check_revision(&head.headers)?;
                let session = self
                    .holdings
                    .session(&head.headers, &principal, Use::Call)
                    .await?;
                let (peer, _news) = response::peer();
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

    /// Answers a request, for which it holds `permits`, and `tree` until its arguments have been read.
    async fn answer(
        &self,
        head: &Parts,
        principal: &Principal,
        request: jsonrpc::Request,
        permits: Permits,
        tree: MessagePermits,
    ) -> Result<Response, Refusal> {
        let era = headers::routing(&head.headers)
            .and_then(|headers| Era::of_request(&request, Some(&headers)));
        let era = match era {
            Ok(era) => era,
            Err(error) => return Ok(response::refusal(request.id, error)),
        };
        let purpose = Purpose::from_method(era, &request.method);
        let accepts = match (Accepts::of(&head.headers), purpose) {
            (_, Purpose::Subscribe) if !response::allows_events(&head.headers) => {
                let message = "a subscription is an event stream: `Accept: text/event-stream`";
                return Err(Refusal::new(StatusCode::NOT_ACCEPTABLE, message).of(request.id));
            }
            (Accepts::Json, Purpose::Subscribe) => Accepts::Both,
            (accepts, _) => accepts,
        };
        let (mut caller, held) = self
            .take(head, principal, era, purpose, permits)
            .await
            .map_err(|refusal| refusal.of(request.id.clone()))?;
        caller.permits = tree;
        let opened = held
            .session
            .as_ref()
            .filter(|_| purpose == Purpose::OpenSession);
        let session_header = opened
            .map(|session| HeaderValue::try_from(&session.id).expect("base64url is visible ASCII"));
        // A call that has begun is answered; what would go on for ever is not.
        let lasting = (purpose == Purpose::Subscribe).then(|| principal.clone());
        let revoked = guard::revoked(self.live.clone(), lasting.unwrap_or_default());
        let exchange = self.exchange(&caller, era, request, held, revoked);
        let mut response = exchange.respond(accepts).await;
        if let Some(header) = session_header {
            response.headers_mut().insert(headers::SESSION, header);
        }
        Ok(response)
    }

    /// Who sends a request, and what that holds until it is answered.
    async fn take(
        &self,
        head: &Parts,
        principal: &Principal,
        era: Era,
        purpose: Purpose,
        permits: Permits,
    ) -> Result<(Caller, Held), Refusal> {
        let session = match (era, purpose) {
            (Era::Modern, _) => None,
            (Era::Legacy, Purpose::OpenSession) => {
                headers::check_revision(&head.headers)?;
                Some(self.holdings.open_session(principal).await?)
            }
            (Era::Legacy, _) => {
                headers::check_revision(&head.headers)?;
                let session = self.holdings.session(&head.headers, principal, Use::Call);
                Some(session.await?)
            }
        };
        let caller = match &session {
            Some(session) => session.caller(principal),
            None => self.stateless_caller(head, principal),
        };
        let Permits {
            message,
            memory,
            call,
        } = permits;
        let mut held = Held {
            call,
            message: Some(message),
            memory: Some(memory),
            stream: None,
            session,
        };
        match purpose {
            Purpose::CallTool if held.call.is_none() => {
                held.call = self.holdings.begin_call(principal)?;
            }
            Purpose::Subscribe => {
                // It may stay open for days, and takes nothing but its connection.
                (held.call, held.message, held.memory) = (None, None, None);
                held.stream = Some(self.begin_stream(&caller)?);
            }
            Purpose::CallTool | Purpose::OpenSession | Purpose::Other => {}
        }
        Ok((caller, held))
    }

    /// A stream of `caller`, which has no more than a quarter of the connections: others are to reach the server, too.
    fn begin_stream(&self, caller: &Caller) -> Result<Stream, Refusal> {
        let max = (self.live.borrow().limits.max_connections / 4).max(1);
        self.holdings.begin_stream(&caller.client, max)
    }

    /// The exchange of a request: it ends with the answer, or with the reason why there is none.
    fn exchange(
        &self,
        caller: &Caller,
        era: Era,
        request: jsonrpc::Request,
        held: Held,
        revoked: impl Future<Output = ()> + Send + 'static,
    ) -> Exchange {
        let id = request.id.clone();
        let (peer, news) = response::peer();
        let request = Message::Request(request);
        let dispatched = self
            .dispatcher
            .dispatch(caller, era, request, Arc::new(peer));
        let stop = self.ending.stop.clone();
        let answer = async move {
            // All of it: a block takes only the parts that it names.
            let held = held;
            let session_ended = async {
                match &held.session {
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
                () = revoked => "the token is not valid any more",
                () = stop.cancelled() => "the server is ending",
            };
            Outgoing::Error(Some(id), ErrorObject::new(REQUEST_CANCELLED, reason))
        };
        Exchange::new(answer, news, era)
    }

    /// The stream of a session: it stays open, with pings, for what concerns no request.
    async fn listen(&self, head: &Parts) -> Result<Response, Refusal> {
        let principal = principal_of(head);
        let session = self
            .holdings
            .session(&head.headers, &principal, Use::Stream)
            .await?;
        let (drain, mut changes) = (self.ending.drain.clone(), self.dispatcher.changes());
        if session.is_resumed() {
            changes.mark_changed();
        }
        let held = (self.begin_stream(&session.caller(&principal))?, session);
        let revoked = Box::pin(guard::revoked(self.live.clone(), principal));
        let news = stream::unfold(
            (held, drain, changes, revoked),
            async |(held, drain, mut changes, mut revoked)| {
                tokio::select! {
                    () = held.1.ended().cancelled() => return None,
                    () = drain.cancelled() => return None,
                    () = &mut revoked => return None,
                    changed = changes.changed() => changed.ok()?,
                }
                Some((
                    Outgoing::tools_changed(None),
                    (held, drain, changes, revoked),
                ))
            },
        );
        Ok(response::events(news))
    }

    async fn end_session(&self, head: &Parts) -> Result<Response, Refusal> {
        let principal = principal_of(head);
        let ended = self.holdings.end_session(&head.headers, &principal);
        ended.await?;
        Ok(StatusCode::NO_CONTENT.into_response())
    }

    /// Who sends a request without a session: its ids are its own, and it takes turns by its token, or its address.
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

/// Returns how many of `max` messages in flight one client may have. One of several tokens leaves a quarter to the others.
fn share_of_client(max: usize, tokens: usize) -> usize {
    if tokens > 1 {
        (max - max / 4).max(1)
    } else {
        max
    }
}

/// Whom [`guard::authenticate`] found.
fn principal_of(head: &Parts) -> Principal {
    head.extensions
        .get::<Principal>()
        .cloned()
        .expect("`/mcp` is behind the guard")
}

/// Returns the client's name for limits: its token's name, else its network address.
fn client_of(head: &Parts, principal: &Principal) -> String {
    let address = || {
        let address = head.extensions.get::<SocketAddr>();
        address.map(|address| Network::from(address.ip()).to_string())
    };
    let name = principal.name().map(str::to_owned);
    name.or_else(address).unwrap_or_default()
}
