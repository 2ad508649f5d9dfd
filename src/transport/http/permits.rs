//! Permits that a request holds until it is answered, and releases when they are dropped: a session in use, a message in flight and its
//! memory, an open stream, a call of its token.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::http::{HeaderMap, StatusCode};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::headers::{self, unknown_session};
use super::rate_limit::{Allowances, CLIENT_SHARE, Denied, MemoryDenied, MessageDenied};
use super::session_id::SessionId;
use super::session_keys::SessionKeys;
use super::sessions::{Begun, Named, Now, Sessions, Unusable, Use};
use crate::config::units::human;
use crate::fair::MessagePermits;
use crate::mcp::caller::{Access, Caller, ConnectionId};
use crate::transport::guard::{Live, Principal, Refusal};

/// `Retry-After` if the end of the running calls is unknown.
const WAIT_FOR_CALLS: Duration = Duration::from_secs(5);

/// The sessions and the permits in use. Clones share them.
#[derive(Debug, Clone)]
pub(crate) struct Holdings {
    keys: SessionKeys,
    sessions: Arc<Mutex<Sessions>>,
    allowances: Arc<Mutex<Allowances>>,
}

impl Holdings {
    /// Makes an empty table. Limits and secrets are those of the configuration that is `live`.
    pub(crate) fn new(live: Live) -> Self {
        let max_sessions = live.borrow().limits.max_sessions;
        Self {
            keys: SessionKeys::new(live),
            sessions: Arc::new(Mutex::new(Sessions::new(max_sessions))),
            allowances: Arc::default(),
        }
    }

    /// Opens a session. It is in use until it is dropped.
    ///
    /// # Errors
    /// 503 if there is no room for it.
    pub(crate) async fn open_session(&self, principal: &Principal) -> Result<InUse, Refusal> {
        let key = self.keys.key_of(principal).await?;
        let now = now();
        let opened = lock(&self.sessions).open(key.new_id(now.date), principal.name(), now);
        self.in_use(opened)
    }

    /// Returns the session that a request names; it is in use until dropped. A session of another process is adopted.
    ///
    /// # Errors
    /// 400 if the request names no session, 404 if the session is not one of `principal` or has ended, 503 if there is no
    /// room for it.
    pub(crate) async fn session(
        &self,
        headers: &HeaderMap,
        principal: &Principal,
        kind: Use,
    ) -> Result<InUse, Refusal> {
        let named = self.named(headers, principal).await?;
        let begun = lock(&self.sessions).begin(named, kind, now());
        self.in_use(begun)
    }

    /// Ends the session that a request names, and its calls and streams.
    ///
    /// # Errors
    /// 400 if the request names no session, 404 if the session is not one of `principal` or has ended.
    pub(crate) async fn end_session(
        &self,
        headers: &HeaderMap,
        principal: &Principal,
    ) -> Result<(), Refusal> {
        let named = self.named(headers, principal).await?;
        if lock(&self.sessions).end(named, now()) {
            Ok(())
        } else {
            Err(unknown_session())
        }
    }

    /// The session that a request of `principal` names.
    async fn named<'request>(
        &self,
        headers: &HeaderMap,
        principal: &'request Principal,
    ) -> Result<Named<'request>, Refusal> {
        let id = SessionId::parse(headers::session_id(headers)?).ok_or_else(unknown_session)?;
        let key = self.keys.key_of(principal).await?;
        Ok(Named {
            id,
            owner: principal.name(),
            is_genuine: key.signed(&id),
        })
    }

    fn in_use(&self, begun: Result<Begun, Unusable>) -> Result<InUse, Refusal> {
        let begun = begun.map_err(|unusable| match unusable {
            Unusable::Ended => unknown_session(),
            Unusable::Full => {
                Refusal::busy("all sessions (`max_sessions`) have running calls; try again later")
            }
        })?;
        Ok(InUse {
            sessions: Arc::clone(&self.sessions),
            id: begun.id.to_string(),
            begun,
        })
    }

    /// Takes one of `max` permits for messages in flight, of which `client` may have `share`.
    ///
    /// # Errors
    /// 429 if the client has its share, 503 if all permits are taken.
    pub(crate) fn begin_message(
        &self,
        client: &str,
        share: usize,
        max: usize,
    ) -> Result<MessagePermit, Refusal> {
        let begun = lock(&self.allowances).begin_message(client, share, max);
        begun.map_err(|denied| match denied {
            MessageDenied::Client => Refusal::too_many(
                format!("{share} messages of this client are under way; try again when one has been answered"),
                WAIT_FOR_CALLS,
            ),
            MessageDenied::All => {
                Refusal::busy(format!("the server is busy: {max} messages are under way"))
            }
        })?;
        Ok(MessagePermit {
            allowances: Arc::clone(&self.allowances),
            client: client.to_owned(),
        })
    }

    /// Makes a permit for the memory of a message of `client`, of 0 bytes at first.
    pub(crate) fn hold(&self, client: &str) -> MemoryPermit {
        MemoryPermit {
            allowances: Arc::clone(&self.allowances),
            client: client.to_owned(),
            held: 0,
        }
    }

    /// Takes one of `max` permits for streams of `client`.
    ///
    /// # Errors
    /// 429 if all permits are taken.
    pub(crate) fn begin_stream(&self, client: &str, max: usize) -> Result<Stream, Refusal> {
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

    /// Takes a permit for a tool call from the token of `principal`. Returns `None` if the request has no token.
    ///
    /// # Errors
    /// 429 if the concurrency limit or the rate limit of the token is reached.
    pub(crate) fn begin_call(&self, principal: &Principal) -> Result<Option<TokenCall>, Refusal> {
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

/// The permits that a request holds until it is answered.
#[derive(Debug)]
pub(crate) struct Held {
    /// The permit of its token.
    pub call: Option<TokenCall>,
    /// The permit for a message in flight.
    pub message: Option<MessagePermit>,
    /// The permit for its memory.
    pub memory: Option<MemoryPermit>,
    /// The permit for a stream, if it is one.
    pub stream: Option<Stream>,
    /// Its session, in the era of sessions.
    pub session: Option<InUse>,
}

/// A session in use.
#[derive(Debug)]
pub(crate) struct InUse {
    sessions: Arc<Mutex<Sessions>>,
    /// The value of `Mcp-Session-Id`.
    pub id: String,
    begun: Begun,
}

impl InUse {
    /// Returns the caller of requests in this session. With a token, fairness is per token, however many sessions it opens.
    pub(crate) fn caller(&self, principal: &Principal) -> Caller {
        Caller {
            connection: ConnectionId(self.id.clone()),
            client: principal.name().unwrap_or(&self.id).to_owned(),
            access: access_of(principal),
            permits: MessagePermits::default(),
        }
    }

    /// Cancelled when the session ends.
    pub(crate) fn ended(&self) -> &CancellationToken {
        &self.begun.ended
    }

    /// Whether the client's list of tools may differ from this process's list: another process opened the session, and this
    /// is its first event stream in this process.
    pub(crate) fn is_resumed(&self) -> bool {
        self.begun.is_resumed
    }
}

impl Drop for InUse {
    fn drop(&mut self) {
        lock(&self.sessions).release(&self.begun, Instant::now());
    }
}

/// The permit of a message in flight.
#[derive(Debug)]
pub(crate) struct MessagePermit {
    allowances: Arc<Mutex<Allowances>>,
    client: String,
}

impl Drop for MessagePermit {
    fn drop(&mut self) {
        lock(&self.allowances).end_message(&self.client);
    }
}

/// The permit for the memory of a message.
#[derive(Debug)]
pub(crate) struct MemoryPermit {
    allowances: Arc<Mutex<Allowances>>,
    client: String,
    held: usize,
}

impl MemoryPermit {
    /// Grows the permit to `bytes`; does nothing if it is that large already. All messages together may hold `max` bytes.
    ///
    /// # Errors
    /// 413 if `bytes` is more than one client may hold, 429 if the client's messages hold too much, 503 if all messages do.
    pub(crate) fn grow_to(&mut self, bytes: usize, max: usize) -> Result<(), Refusal> {
        self.grow_beside(0, bytes, max)
    }

    /// Makes a permit for further `bytes` of the same message.
    ///
    /// # Errors
    /// As [`Self::grow_to`].
    pub(crate) fn another(&self, bytes: usize, max: usize) -> Result<Self, Refusal> {
        let mut another = Self {
            allowances: Arc::clone(&self.allowances),
            client: self.client.clone(),
            held: 0,
        };
        another.grow_beside(self.held, bytes, max)?;
        Ok(another)
    }

    /// Grows to `bytes`; the message holds `others` beside them.
    fn grow_beside(&mut self, others: usize, bytes: usize, max: usize) -> Result<(), Refusal> {
        if bytes <= self.held {
            return Ok(());
        }
        let whole = bytes.saturating_add(others);
        let share = max / CLIENT_SHARE;
        let grown = if whole > share {
            Err(MemoryDenied::Message(share))
        } else {
            lock(&self.allowances).hold(&self.client, self.held, bytes, max)
        };
        grown.map_err(|denied| match denied {
            MemoryDenied::Message(share) => Refusal::new(
                StatusCode::PAYLOAD_TOO_LARGE,
                format!(
                    "the message needs {} of memory, and all messages of one client may take {} (half of `max_held`); send a smaller message or raise `max_held`",
                    human(whole as u64),
                    human(share as u64)
                ),
            ),
            MemoryDenied::Client => Refusal::too_many(
                "the messages of this client use all the memory that one client may use (half of `max_held`); try again when one has been answered",
                WAIT_FOR_CALLS,
            ),
            MemoryDenied::All => Refusal::busy(
                "the server is busy: messages in flight use all memory for messages (`max_held`); try again later",
            ),
        })?;
        self.held = bytes;
        Ok(())
    }
}

impl Drop for MemoryPermit {
    fn drop(&mut self) {
        lock(&self.allowances).release(&self.client, self.held);
    }
}

/// The permit of a call with a token.
#[derive(Debug)]
pub(crate) struct TokenCall {
    allowances: Arc<Mutex<Allowances>>,
    token: String,
}

impl Drop for TokenCall {
    fn drop(&mut self) {
        lock(&self.allowances).end_call(&self.token);
    }
}

/// The permit of an open stream.
#[derive(Debug)]
pub(crate) struct Stream {
    allowances: Arc<Mutex<Allowances>>,
    client: String,
}

impl Drop for Stream {
    fn drop(&mut self) {
        lock(&self.allowances).end_stream(&self.client);
    }
}

/// Returns the tools that `principal` may use.
pub(crate) fn access_of(principal: &Principal) -> Access {
    let token = principal.0.as_ref();
    Access {
        token: token.map(|token| token.name.clone()),
        tools: token.and_then(|token| token.tools.clone()),
    }
}

fn now() -> Now {
    Now {
        instant: Instant::now(),
        date: SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default(),
    }
}

fn lock<T>(state: &Mutex<T>) -> MutexGuard<'_, T> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}
