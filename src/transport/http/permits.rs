//! Permits that a request holds until its response is sent: for its session, for a message in flight and its memory, for an event stream and
//! for a call of its token. Dropping a permit releases it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::http::{HeaderMap, StatusCode};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::headers::{self, unknown_session};
use super::limits::{CLIENT_SHARE, CallDenied, LimitUsage, MemoryDenied, MessageDenied};
use super::session_id::SessionId;
use super::session_keys::SessionKeys;
use super::sessions::{Now, SessionError, SessionRef, SessionUse, Sessions, UseKind};
use crate::config::units::human;
use crate::fair::MessagePermits;
use crate::mcp::caller::{Access, Caller, ConnectionId};
use crate::transport::guard::{LiveConfig, Principal, Refusal};

/// `Retry-After` if it is unknown when a running call will end.
const WAIT_FOR_CALLS: Duration = Duration::from_secs(5);

/// Grants permits by the limits of the configuration, and leases of sessions. Clones share the state.
#[derive(Debug, Clone)]
pub(crate) struct Limiter {
    keys: SessionKeys,
    sessions: Arc<Mutex<Sessions>>,
    usage: Arc<Mutex<LimitUsage>>,
}

impl Limiter {
    /// Creates a limiter without sessions, for the limits and secrets of the configuration `live`.
    pub(crate) fn new(live: LiveConfig) -> Self {
        let max_sessions = live.borrow().limits.max_sessions;
        Self {
            keys: SessionKeys::new(live),
            sessions: Arc::new(Mutex::new(Sessions::new(max_sessions))),
            usage: Arc::default(),
        }
    }

    /// Opens a session of `principal`.
    ///
    /// # Errors
    /// 503 if there is no room for it.
    pub(crate) async fn open_session(
        &self,
        principal: &Principal,
    ) -> Result<SessionLease, Refusal> {
        let key = self.keys.key_for(principal).await?;
        let now = now();
        let opened = lock(&self.sessions).open(key.new_id(now.date), principal.name(), now);
        self.lease(opened)
    }

    /// Acquires the session in the request's `headers`. Adopts a session of another process.
    ///
    /// # Errors
    /// 400 if the request names no session, 404 if the session does not belong to `principal` or has ended, 503 if there is no room for it.
    pub(crate) async fn acquire_session(
        &self,
        headers: &HeaderMap,
        principal: &Principal,
        kind: UseKind,
    ) -> Result<SessionLease, Refusal> {
        let session = self.session_ref(headers, principal).await?;
        let session_use = lock(&self.sessions).begin(session, kind, now());
        self.lease(session_use)
    }

    /// Ends the session in the request's `headers`, and its calls and streams.
    ///
    /// # Errors
    /// 400 if the request names no session, 404 if the session does not belong to `principal` or has ended.
    pub(crate) async fn end_session(
        &self,
        headers: &HeaderMap,
        principal: &Principal,
    ) -> Result<(), Refusal> {
        let session = self.session_ref(headers, principal).await?;
        if lock(&self.sessions).end(session, now()) {
            Ok(())
        } else {
            Err(unknown_session())
        }
    }

    /// Returns the session that the request's `headers` refer to.
    async fn session_ref<'request>(
        &self,
        headers: &HeaderMap,
        principal: &'request Principal,
    ) -> Result<SessionRef<'request>, Refusal> {
        let id = SessionId::parse(headers::session_id(headers)?).ok_or_else(unknown_session)?;
        let key = self.keys.key_for(principal).await?;
        Ok(SessionRef {
            id,
            owner: principal.name(),
            is_genuine: key.verifies(&id),
        })
    }

    fn lease(&self, granted: Result<SessionUse, SessionError>) -> Result<SessionLease, Refusal> {
        let session_use = granted.map_err(|error| match error {
            SessionError::Ended => unknown_session(),
            SessionError::Full => {
                Refusal::busy("all sessions (`max_sessions`) have running calls; try again later")
            }
        })?;
        Ok(SessionLease {
            sessions: Arc::clone(&self.sessions),
            id: session_use.id.to_string(),
            session_use,
        })
    }

    /// Acquires one of `max` permits for messages in flight, of which `client` may have `share`.
    ///
    /// # Errors
    /// 429 if the client has used up its share, 503 if no permit is left.
    pub(crate) fn acquire_message(
        &self,
        client: &str,
        share: usize,
        max: usize,
    ) -> Result<MessagePermit, Refusal> {
        let granted = lock(&self.usage).begin_message(client, share, max);
        granted.map_err(|denied| match denied {
            MessageDenied::Client => Refusal::too_many(
                format!(
                    "too many messages of this client are in flight ({share}); try again when one has been answered"
                ),
                WAIT_FOR_CALLS,
            ),
            MessageDenied::All => {
                Refusal::busy(format!(
                    "the server is busy: {max} messages are in flight (`max_calls`); try again later"
                ))
            }
        })?;
        Ok(MessagePermit {
            usage: Arc::clone(&self.usage),
            client: client.to_owned(),
        })
    }

    /// Creates a permit of 0 bytes for the memory of a message of `client`.
    pub(crate) fn reserve_memory(&self, client: &str) -> MemoryPermit {
        MemoryPermit {
            usage: Arc::clone(&self.usage),
            client: client.to_owned(),
            reserved: 0,
        }
    }

    /// Acquires one of `client`'s `max` permits for event streams.
    ///
    /// # Errors
    /// 429 if no permit is left.
    pub(crate) fn acquire_stream(&self, client: &str, max: usize) -> Result<StreamPermit, Refusal> {
        if !lock(&self.usage).begin_stream(client, max) {
            let message = format!("too many event streams are open ({max}); close one");
            return Err(Refusal::too_many(message, WAIT_FOR_CALLS));
        }
        Ok(StreamPermit {
            usage: Arc::clone(&self.usage),
            client: client.to_owned(),
        })
    }

    /// Acquires a permit for a tool call with the token of `principal`. Returns `None` if there is no token.
    ///
    /// # Errors
    /// 429 if the concurrency limit or the rate limit of the token is reached.
    pub(crate) fn acquire_call(
        &self,
        principal: &Principal,
    ) -> Result<Option<CallPermit>, Refusal> {
        let Some(token) = &principal.0 else {
            return Ok(None);
        };
        let granted = lock(&self.usage).begin_call(token, Instant::now());
        granted.map_err(|denied| match denied {
            CallDenied::Concurrency(max) => Refusal::too_many(
                format!(
                    "the token `{}` has reached its limit of concurrent calls (`max_calls`, {max}); try again when a call has ended",
                    token.name
                ),
                WAIT_FOR_CALLS,
            ),
            CallDenied::Rate {
                calls_per_minute,
                wait,
            } => Refusal::too_many(
                format!(
                    "the token `{}` has reached its rate limit (`calls_per_minute`, {calls_per_minute}); try again in {} s",
                    token.name,
                    wait.as_secs()
                ),
                wait,
            ),
        })?;
        tracing::debug!(token = token.name, "call admitted");
        Ok(Some(CallPermit {
            usage: Arc::clone(&self.usage),
            token: token.name.clone(),
        }))
    }
}

/// The permits of a request.
#[derive(Debug)]
pub(crate) struct RequestPermits {
    /// Permit for a call of its token.
    pub call: Option<CallPermit>,
    /// Permit for a message in flight.
    pub message: Option<MessagePermit>,
    /// Permit for its memory.
    pub memory: Option<MemoryPermit>,
    /// Permit for an event stream, if the response is one.
    pub stream: Option<StreamPermit>,
    /// Lease of its session; `None` in the modern era.
    pub session: Option<SessionLease>,
}

/// Lease of a session, which is in use until the lease is dropped.
#[derive(Debug)]
pub(crate) struct SessionLease {
    sessions: Arc<Mutex<Sessions>>,
    /// Value of `Mcp-Session-Id`.
    pub id: String,
    session_use: SessionUse,
}

impl SessionLease {
    /// Returns the caller of requests in this session. With a token, fairness is per token, whatever its number of sessions.
    pub(crate) fn caller(&self, principal: &Principal) -> Caller {
        Caller {
            connection: ConnectionId(self.id.clone()),
            client: principal.name().unwrap_or(&self.id).to_owned(),
            access: access_of(principal),
            permits: MessagePermits::default(),
        }
    }

    /// Returns a token that is cancelled when the session ends.
    pub(crate) fn ended(&self) -> &CancellationToken {
        &self.session_use.ended
    }

    /// Returns whether this is the first event stream in this process of a session that was opened elsewhere. The client's list of tools
    /// may differ from the list of this process.
    pub(crate) fn is_resumed(&self) -> bool {
        self.session_use.is_resumed
    }
}

impl Drop for SessionLease {
    fn drop(&mut self) {
        lock(&self.sessions).release(&self.session_use, Instant::now());
    }
}

/// Permit for a message in flight.
#[derive(Debug)]
pub(crate) struct MessagePermit {
    usage: Arc<Mutex<LimitUsage>>,
    client: String,
}

impl Drop for MessagePermit {
    fn drop(&mut self) {
        lock(&self.usage).end_message(&self.client);
    }
}

/// Permit for the memory of a message.
#[derive(Debug)]
pub(crate) struct MemoryPermit {
    usage: Arc<Mutex<LimitUsage>>,
    client: String,
    reserved: usize,
}

impl MemoryPermit {
    /// Grows the permit to `bytes`, unless it is that large already. The limit for all messages is `max` bytes.
    ///
    /// # Errors
    /// 413 if the message alone exceeds the limit per client, 429 if the client's messages exceed it together, 503 if all messages exceed
    /// `max`.
    pub(crate) fn grow_to(&mut self, bytes: usize, max: usize) -> Result<(), Refusal> {
        self.grow_beside(0, bytes, max)
    }

    /// Creates another permit, for further `bytes` of the same message.
    ///
    /// # Errors
    /// The errors of [`Self::grow_to`].
    pub(crate) fn additional(&self, bytes: usize, max: usize) -> Result<Self, Refusal> {
        let mut another = Self {
            usage: Arc::clone(&self.usage),
            client: self.client.clone(),
            reserved: 0,
        };
        another.grow_beside(self.reserved, bytes, max)?;
        Ok(another)
    }

    /// Grows the permit to `bytes`, where the message has `others` in other permits.
    fn grow_beside(&mut self, others: usize, bytes: usize, max: usize) -> Result<(), Refusal> {
        if bytes <= self.reserved {
            return Ok(());
        }
        let whole = bytes.saturating_add(others);
        let share = max / CLIENT_SHARE;
        let grown = if whole > share {
            Err(MemoryDenied::Message(share))
        } else {
            lock(&self.usage).reserve(&self.client, self.reserved, bytes, max)
        };
        grown.map_err(|denied| match denied {
            MemoryDenied::Message(share) => Refusal::new(
                StatusCode::PAYLOAD_TOO_LARGE,
                format!(
                    "the message needs {} of memory, and the limit per client is {} (half of `max_held`); send a smaller message, or raise `max_held`",
                    human(whole as u64),
                    human(share as u64)
                ),
            ),
            MemoryDenied::Client => Refusal::too_many(
                "the messages of this client have reached the memory limit per client (half of `max_held`); try again when one has been answered",
                WAIT_FOR_CALLS,
            ),
            MemoryDenied::All => Refusal::busy(
                "the server is busy: messages in flight have reached the memory limit (`max_held`); try again later",
            ),
        })?;
        self.reserved = bytes;
        Ok(())
    }
}

impl Drop for MemoryPermit {
    fn drop(&mut self) {
        lock(&self.usage).release(&self.client, self.reserved);
    }
}

/// Permit for a call with a token.
#[derive(Debug)]
pub(crate) struct CallPermit {
    usage: Arc<Mutex<LimitUsage>>,
    token: String,
}

impl Drop for CallPermit {
    fn drop(&mut self) {
        lock(&self.usage).end_call(&self.token);
    }
}

/// Permit for an event stream.
#[derive(Debug)]
pub(crate) struct StreamPermit {
    usage: Arc<Mutex<LimitUsage>>,
    client: String,
}

impl Drop for StreamPermit {
    fn drop(&mut self) {
        lock(&self.usage).end_stream(&self.client);
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
