//! What a request holds until it is answered, and gives back when it is dropped: a session in use, a place among the messages
//! under way, an open stream, a call of its token.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::http::HeaderMap;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::allowance::{Allowances, Denied};
use super::headers::{self, unknown_session};
use super::sessions::{Sessions, Use};
use crate::mcp::caller::{Access, Caller, ConnectionId};
use crate::transport::guard::{Principal, Refusal};

/// What a client is told to wait where nobody knows when a call ends.
const WAIT_FOR_CALLS: Duration = Duration::from_secs(5);

/// The sessions, and what is under way. Clones share them.
#[derive(Debug, Clone)]
pub struct Holdings {
    sessions: Arc<Mutex<Sessions>>,
    allowances: Arc<Mutex<Allowances>>,
}

impl Holdings {
    /// None, and room for `max_sessions`.
    pub fn new(max_sessions: usize) -> Self {
        Self {
            sessions: Arc::new(Mutex::new(Sessions::new(max_sessions))),
            allowances: Arc::default(),
        }
    }

    /// Whether a request names a session of `principal`; also where it names none.
    ///
    /// # Errors
    /// 404.
    pub fn check_session(&self, headers: &HeaderMap, principal: &Principal) -> Result<(), Refusal> {
        if !headers.contains_key(headers::SESSION) {
            return Ok(());
        }
        let id = headers::session_id(headers)?;
        if lock(&self.sessions).has(id, principal.name(), Instant::now()) {
            Ok(())
        } else {
            Err(unknown_session())
        }
    }

    /// Opens a session. It is in use until it is dropped.
    ///
    /// # Errors
    /// 503 where there are as many as may be, and all work.
    pub fn open_session(&self, principal: &Principal) -> Result<InUse, Refusal> {
        let opened = lock(&self.sessions).open(principal.name(), Instant::now());
        let (id, ended) = opened.ok_or_else(|| {
            Refusal::busy(
                "the server has as many sessions as it may, and all of them work: try again later",
            )
        })?;
        Ok(self.in_use(id, Use::Call, ended))
    }

    /// The session that a request names, in use until it is dropped.
    ///
    /// # Errors
    /// 400 where it names none, 404 where it is none of `principal`.
    pub fn session(
        &self,
        headers: &HeaderMap,
        principal: &Principal,
        kind: Use,
    ) -> Result<InUse, Refusal> {
        let id = headers::session_id(headers)?;
        let begun = lock(&self.sessions).begin(id, principal.name(), kind, Instant::now());
        let ended = begun.ok_or_else(unknown_session)?;
        Ok(self.in_use(id.to_owned(), kind, ended))
    }

    /// Ends the session that a request names, and what it does.
    ///
    /// # Errors
    /// As [`Self::session`].
    pub fn end_session(&self, headers: &HeaderMap, principal: &Principal) -> Result<(), Refusal> {
        let id = headers::session_id(headers)?;
        let mut sessions = lock(&self.sessions);
        if sessions.has(id, principal.name(), Instant::now()) && sessions.end(id) {
            Ok(())
        } else {
            Err(unknown_session())
        }
    }

    fn in_use(&self, id: String, kind: Use, ended: CancellationToken) -> InUse {
        InUse {
            sessions: Arc::clone(&self.sessions),
            id,
            kind,
            ended,
        }
    }

    /// A place for a message, of `max`.
    ///
    /// # Errors
    /// 503.
    pub fn begin_message(&self, max: usize) -> Result<Place, Refusal> {
        let begun = lock(&self.allowances).begin_message(max);
        begun.map_err(|_busy| {
            Refusal::busy(format!("the server is busy: {max} messages are under way"))
        })?;
        Ok(Place(Arc::clone(&self.allowances)))
    }

    /// A stream of `client`, of `max`.
    ///
    /// # Errors
    /// 429.
    pub fn begin_stream(&self, client: &str, max: usize) -> Result<Stream, Refusal> {
        let begun = lock(&self.allowances).begin_stream(client, max);
        begun.map_err(|_busy| {
            let message = format!("{max} event streams are open: close one first");
            Refusal::too_many(message, WAIT_FOR_CALLS)
        })?;
        Ok(Stream {
            allowances: Arc::clone(&self.allowances),
            client: client.to_owned(),
        })
    }

    /// What the token of `principal` allows, for a call of a tool.
    ///
    /// # Errors
    /// 429.
    pub fn begin_call(&self, principal: &Principal) -> Result<Option<TokenCall>, Refusal> {
        let Some(token) = &principal.0 else {
            return Ok(None);
        };
        let begun = lock(&self.allowances).begin_call(token, Instant::now());
        begun.map_err(|denied| match denied {
            Denied::Busy(max) => Refusal::too_many(
                format!(
                    "the token `{}` is for {max} calls at once: try again when one has ended",
                    token.name
                ),
                WAIT_FOR_CALLS,
            ),
            Denied::TooOften {
                calls_per_minute,
                wait,
            } => Refusal::too_many(
                format!(
                    "the token `{}` is for {calls_per_minute} calls a minute: try again in {} s",
                    token.name,
                    wait.as_secs()
                ),
                wait,
            ),
        })?;
        tracing::debug!(token = token.name, "a call");
        Ok(Some(TokenCall {
            allowances: Arc::clone(&self.allowances),
            token: token.name.clone(),
        }))
    }
}

/// What a request holds until it is answered.
#[derive(Debug)]
pub struct Held {
    /// What its token allowed.
    pub call: Option<TokenCall>,
    /// Its place among the messages under way.
    pub place: Option<Place>,
    /// Its place among the streams, where it is one.
    pub stream: Option<Stream>,
    /// Its session, in the era of sessions.
    pub session: Option<InUse>,
}

/// A session in use.
#[derive(Debug)]
pub struct InUse {
    sessions: Arc<Mutex<Sessions>>,
    /// What clients call it.
    pub id: String,
    kind: Use,
    /// Cancelled at its end.
    pub ended: CancellationToken,
}

impl InUse {
    /// Who sends what comes in the session: with a token it takes turns by that, however many sessions it opens.
    pub fn caller(&self, principal: &Principal) -> Caller {
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

/// A message under way.
#[derive(Debug)]
pub struct Place(Arc<Mutex<Allowances>>);

impl Drop for Place {
    fn drop(&mut self) {
        lock(&self.0).end_message();
    }
}

/// A call that a token allowed.
#[derive(Debug)]
pub struct TokenCall {
    allowances: Arc<Mutex<Allowances>>,
    token: String,
}

impl Drop for TokenCall {
    fn drop(&mut self) {
        lock(&self.allowances).end_call(&self.token);
    }
}

/// A stream that is open.
#[derive(Debug)]
pub struct Stream {
    allowances: Arc<Mutex<Allowances>>,
    client: String,
}

impl Drop for Stream {
    fn drop(&mut self) {
        lock(&self.allowances).end_stream(&self.client);
    }
}

/// What `principal` may use.
pub fn access_of(principal: &Principal) -> Access {
    let token = principal.0.as_ref();
    Access {
        token: token.map(|token| token.name.clone()),
        tools: token.and_then(|token| token.tools.clone()),
    }
}

fn lock<T>(state: &Mutex<T>) -> MutexGuard<'_, T> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}
