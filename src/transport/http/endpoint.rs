//! `/mcp`: POST carries a message, GET opens a session's stream, DELETE ends a session.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode};
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::Ending;
use super::exchange::{self, Accepts, Exchange};
use super::sessions::{Sessions, Use};
use crate::config::http::HttpConfig;
use crate::mcp::REVISIONS;
use crate::mcp::dispatcher::{ConnectionId, Dispatcher};
use crate::mcp::jsonrpc::{self, ErrorObject, Message, Outgoing, REQUEST_CANCELLED};
use crate::transport::guard::{self, Refusal};

/// How long a body may take: 4 MiB at a megabit and a half a second.
const BODY_TIME: Duration = Duration::from_secs(30);

const SESSION_HEADER: &str = "mcp-session-id";

const REVISION_HEADER: &str = "mcp-protocol-version";

/// What serves `/mcp`.
#[derive(Debug, Clone)]
pub struct Endpoint {
    dispatcher: Arc<Dispatcher>,
    sessions: Arc<Mutex<Sessions>>,
    live: watch::Receiver<Arc<HttpConfig>>,
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
    check_revision(headers)?;
    match *request.method() {
        Method::POST => {
            guard::check_body(headers, endpoint.max_body())?;
            endpoint.post(request).await
        }
        Method::GET if !exchange::allows_events(headers) => Err(Refusal::new(
            StatusCode::NOT_ACCEPTABLE,
            "GET gives the session's event stream: `Accept: text/event-stream`",
        )),
        Method::GET => endpoint.listen(headers),
        Method::DELETE => endpoint.end_session(headers),
        _ => Err(Refusal::method()),
    }
}

impl Endpoint {
    /// An endpoint without sessions.
    pub fn new(
        dispatcher: Arc<Dispatcher>,
        live: watch::Receiver<Arc<HttpConfig>>,
        ending: Ending,
    ) -> Self {
        let max_sessions = live.borrow().max_sessions;
        Self {
            dispatcher,
            sessions: Arc::new(Mutex::new(Sessions::new(max_sessions))),
            live,
            ending,
        }
    }

    fn max_body(&self) -> usize {
        self.live.borrow().max_body
    }

    async fn post(&self, request: Request) -> Result<Response, Refusal> {
        let (head, body) = request.into_parts();
        // Before the body: one of no session is not worth the memory.
        if head.headers.contains_key(SESSION_HEADER)
            && !lock(&self.sessions).has(session_id(&head.headers)?, Instant::now())
        {
            return Err(unknown_session());
        }
        let body = read(body, self.max_body());
        let body = self.ending.drain.run_until_cancelled(body).await;
        let body = body.unwrap_or_else(|| Err(Refusal::busy("the server is ending")))?;
        let message = match Message::parse(&body) {
            Ok(message) => message,
            Err(invalid) => return Ok(exchange::json(&invalid.into())),
        };
        match message {
            Message::Request(request) if request.method == "initialize" => {
                self.initialize(request, Accepts::of(&head.headers)).await
            }
            Message::Request(request) => {
                let session = self.session(&head.headers, Use::Call)?;
                let accepts = Accepts::of(&head.headers);
                Ok(self.exchange(session, request).respond(accepts).await)
            }
            notification_or_response => {
                let session = self.session(&head.headers, Use::Call)?;
                let (peer, _news) = exchange::peer();
                let dispatched = self.dispatcher.dispatch(
                    &session.connection(),
                    notification_or_response,
                    Arc::new(peer),
                );
                dispatched.await;
                Ok(StatusCode::ACCEPTED.into_response())
            }
        }
    }

    /// Opens a session. Its answer needs no model, so it comes at once.
    async fn initialize(
        &self,
        request: jsonrpc::Request,
        accepts: Accepts,
    ) -> Result<Response, Refusal> {
        let opened = lock(&self.sessions).open(Instant::now());
        let (id, ended) = opened.ok_or_else(|| {
            Refusal::busy(
                "the server has as many sessions as it may, and all of them work: try again later",
            )
        })?;
        let header = HeaderValue::try_from(&id).expect("a UUID is visible ASCII");
        let session = InUse {
            sessions: Arc::clone(&self.sessions),
            id,
            kind: Use::Call,
            ended,
        };
        let mut response = self.exchange(session, request).respond(accepts).await;
        response.headers_mut().insert(SESSION_HEADER, header);
        Ok(response)
    }

    /// The exchange of a request: it ends with the answer, or with the reason why there is none.
    fn exchange(&self, session: InUse, request: jsonrpc::Request) -> Exchange {
        let id = request.id.clone();
        let (peer, news) = exchange::peer();
        let dispatched = self.dispatcher.dispatch(
            &session.connection(),
            Message::Request(request),
            Arc::new(peer),
        );
        let stop = self.ending.stop.clone();
        let answer = async move {
            let reason = tokio::select! {
                answer = dispatched => match answer {
                    Some(answer) => return answer,
                    None => "the request was cancelled",
                },
                () = session.ended.cancelled() => "the session was ended",
                () = stop.cancelled() => "the server is ending",
            };
            Outgoing::Error(Some(id), ErrorObject::new(REQUEST_CANCELLED, reason))
        };
        Exchange::new(answer, news)
    }

    /// The stream of a session: it stays open, with pings, for what concerns no request.
    fn listen(&self, headers: &HeaderMap) -> Result<Response, Refusal> {
        let session = self.session(headers, Use::Stream)?;
        let (drain, changes) = (self.ending.drain.clone(), self.dispatcher.changes());
        let news = stream::unfold(
            (session, drain, changes),
            async |(session, drain, mut changes)| {
                tokio::select! {
                    () = session.ended.cancelled() => return None,
                    () = drain.cancelled() => return None,
                    changed = changes.changed() => changed.ok()?,
                }
                Some((Outgoing::tools_changed(), (session, drain, changes)))
            },
        );
        Ok(exchange::events(news))
    }

    fn end_session(&self, headers: &HeaderMap) -> Result<Response, Refusal> {
        let id = session_id(headers)?;
        if lock(&self.sessions).end(id) {
            Ok(StatusCode::NO_CONTENT.into_response())
        } else {
            Err(unknown_session())
        }
    }

    /// The session that a request names, in use until it is dropped.
    fn session(&self, headers: &HeaderMap, kind: Use) -> Result<InUse, Refusal> {
        let id = session_id(headers)?.to_owned();
        self.in_use(id, kind).ok_or_else(unknown_session)
    }

    fn in_use(&self, id: String, kind: Use) -> Option<InUse> {
        let ended = lock(&self.sessions).begin(&id, kind, Instant::now())?;
        Some(InUse {
            sessions: Arc::clone(&self.sessions),
            id,
            kind,
            ended,
        })
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
    fn connection(&self) -> ConnectionId {
        ConnectionId(self.id.clone())
    }
}

impl Drop for InUse {
    fn drop(&mut self) {
        lock(&self.sessions).release(&self.id, self.kind, Instant::now());
    }
}

fn lock(sessions: &Mutex<Sessions>) -> MutexGuard<'_, Sessions> {
    sessions.lock().unwrap_or_else(PoisonError::into_inner)
}

fn session_id(headers: &HeaderMap) -> Result<&str, Refusal> {
    match headers.get(SESSION_HEADER) {
        None => Err(Refusal::new(
            StatusCode::BAD_REQUEST,
            "the header `Mcp-Session-Id` is missing: `initialize` gives it",
        )),
        Some(id) => id.to_str().map_err(|_not_ascii| unknown_session()),
    }
}

fn unknown_session() -> Refusal {
    Refusal::new(
        StatusCode::NOT_FOUND,
        "there is no session of this `Mcp-Session-Id`, or it has ended: `initialize` opens one",
    )
}

/// A revision in the header must be one of ours, and need not be the session's: clients were seen to send another.
fn check_revision(headers: &HeaderMap) -> Result<(), Refusal> {
    let Some(revision) = headers.get(REVISION_HEADER) else {
        return Ok(());
    };
    if REVISIONS
        .iter()
        .any(|known| revision.as_bytes() == known.as_bytes())
    {
        return Ok(());
    }
    Err(Refusal::new(
        StatusCode::BAD_REQUEST,
        format!(
            "`MCP-Protocol-Version`: must be one of {}",
            REVISIONS.join(", ")
        ),
    ))
}

/// The whole body.
async fn read(body: Body, max_body: usize) -> Result<Bytes, Refusal> {
    let collected = Limited::new(body, max_body).collect();
    match tokio::time::timeout(BODY_TIME, collected).await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(Refusal::too_large(max_body)),
        Ok(Err(error)) => Err(Refusal::new(
            StatusCode::BAD_REQUEST,
            format!("the message could not be read: {error}"),
        )),
        Err(_elapsed) => Err(Refusal::new(
            StatusCode::REQUEST_TIMEOUT,
            format!("the message did not come within {} s", BODY_TIME.as_secs()),
        )),
    }
}
