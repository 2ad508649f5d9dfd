//! The table of HTTP sessions. Pure: the time is an argument.
//!
//! Session ids are signed ([`super::session_id`]), so the table has only the state of a session in this process: its running calls and
//! streams, and whether its client ended it. A session that is not in the table was evicted, or was opened by another process or before a
//! restart. The table adopts it with its next request and then treats it like its own.
//!
//! A session is in use while one of its calls runs or its event stream is open. If the table is full, the least recently used session
//! without calls is evicted. A session belongs to the token that opened it; for other tokens it does not exist.

use std::collections::{HashMap, HashSet, VecDeque};
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::session_id::SessionId;

/// Idle time after which a session is removed from the table.
const IDLE_LIMIT: Duration = Duration::from_hours(24);

/// Age from which a session is no longer adopted. Sessions in the table may be older.
const ADOPTION_LIMIT: Duration = Duration::from_hours(90 * 24);

/// Most ended sessions that are remembered. An id takes about 100 bytes.
const MAX_ENDED: usize = 16_384;

/// The current time on the monotonic clock and on the wall clock.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Now {
    /// Monotonic time, for idle times.
    pub instant: Instant,
    /// Wall clock time since 1970, for the age of ids.
    pub date: Duration,
}

/// A request's reference to a session.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SessionRef<'request> {
    /// Id of the session.
    pub id: SessionId,
    /// Name of the request's token.
    pub owner: Option<&'request str>,
    /// Whether the id was signed with the key of that token.
    pub is_genuine: bool,
}

/// The ways to use a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum UseKind {
    /// A request in flight.
    Call,
    /// An open event stream.
    Stream,
}

/// Reason why a session cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SessionError {
    /// The client ended the session, or the session is too old.
    Ended,
    /// The table is full, and all of its sessions have running calls.
    Full,
}

/// One use of a session. [`Sessions::release`] ends it.
#[derive(Debug, Clone)]
pub(crate) struct SessionUse {
    /// Id of the session.
    pub id: SessionId,
    /// Cancelled when the session ends.
    pub ended: CancellationToken,
    /// Whether this is the first event stream in this process of a session that was opened elsewhere. The client's list of tools may
    /// differ from the list of this process.
    pub is_resumed: bool,
    kind: UseKind,
    serial: u64,
}

#[derive(Debug)]
struct Session {
    /// Name of the token that opened the session.
    owner: Option<String>,
    ended: CancellationToken,
    calls: usize,
    streams: usize,
    last_used: Instant,
    /// Whether the session was opened elsewhere and had no event stream in this process yet.
    is_adopted: bool,
    /// Number of this entry, which differs from that of an earlier entry for the same session.
    serial: u64,
}

impl Session {
    fn count(&mut self, kind: UseKind) -> &mut usize {
        match kind {
            UseKind::Call => &mut self.calls,
            UseKind::Stream => &mut self.streams,
        }
    }

    fn has_idled_out(&self, now: Instant) -> bool {
        self.calls == 0 && self.streams == 0 && now - self.last_used >= IDLE_LIMIT
    }
}

/// The sessions that `DELETE` ended most recently.
///
/// If there are too many, the oldest one of the owner with the most is forgotten. So a token that ends many sessions does not make the
/// table forget those of other tokens.
#[derive(Debug, Default)]
struct Ended {
    ids: HashSet<SessionId>,
    /// The same ids by owner, oldest first.
    by_owner: HashMap<Option<String>, VecDeque<SessionId>>,
}

impl Ended {
    fn insert(&mut self, id: SessionId, owner: Option<&str>) {
        if !self.ids.insert(id) {
            return;
        }
        let owner = owner.map(str::to_owned);
        self.by_owner.entry(owner).or_default().push_back(id);
        if self.ids.len() > MAX_ENDED
            && let Some(most) = self.by_owner.values_mut().max_by_key(|ids| ids.len())
            && let Some(oldest) = most.pop_front()
        {
            self.ids.remove(&oldest);
        }
    }
}

/// The table of sessions.
#[derive(Debug)]
pub(crate) struct Sessions {
    sessions: HashMap<SessionId, Session>,
    ended: Ended,
    max: usize,
    next_serial: u64,
}

impl Sessions {
    /// Creates a table for at most `max` sessions. An entry takes about 200 bytes, so the limit protects against floods only.
    pub(crate) fn new(max: usize) -> Self {
        Self {
            sessions: HashMap::new(),
            ended: Ended::default(),
            max,
            next_serial: 0,
        }
    }

    /// Opens a session of `owner` and begins its first call.
    ///
    /// # Errors
    /// Fails with [`SessionError::Full`] if there is no room for it.
    pub(crate) fn open(
        &mut self,
        id: SessionId,
        owner: Option<&str>,
        now: Now,
    ) -> Result<SessionUse, SessionError> {
        self.insert(id, owner, false, now)?;
        self.begin_known(id, UseKind::Call, now)
    }

    /// Begins a use of a session, and adopts the session if it is not in the table.
    ///
    /// # Errors
    /// Fails if the session has ended or there is no room for it.
    pub(crate) fn begin(
        &mut self,
        named: SessionRef<'_>,
        kind: UseKind,
        now: Now,
    ) -> Result<SessionUse, SessionError> {
        if !self.is_usable(named, now) {
            return Err(SessionError::Ended);
        }
        if !self.sessions.contains_key(&named.id) {
            self.insert(named.id, named.owner, true, now)?;
        }
        self.begin_known(named.id, kind, now)
    }

    fn begin_known(
        &mut self,
        id: SessionId,
        kind: UseKind,
        now: Now,
    ) -> Result<SessionUse, SessionError> {
        let session = self.sessions.get_mut(&id).ok_or(SessionError::Ended)?;
        *session.count(kind) += 1;
        session.last_used = now.instant;
        Ok(SessionUse {
            id,
            ended: session.ended.clone(),
            is_resumed: kind == UseKind::Stream && std::mem::take(&mut session.is_adopted),
            kind,
            serial: session.serial,
        })
    }

    /// Ends one use of a session.
    pub(crate) fn release(&mut self, session_use: &SessionUse, now: Instant) {
        // Meanwhile the session may have ended, or may have been evicted and adopted again.
        let session = self.sessions.get_mut(&session_use.id);
        if let Some(session) = session.filter(|session| session.serial == session_use.serial) {
            *session.count(session_use.kind) -= 1;
            session.last_used = now;
        }
    }

    /// Ends a session and its calls and streams. Returns `false` if there is no such session or it had ended before.
    pub(crate) fn end(&mut self, named: SessionRef<'_>, now: Now) -> bool {
        let is_usable = self.is_usable(named, now);
        if is_usable {
            self.evict(named.id);
            self.ended.insert(named.id, named.owner);
        }
        is_usable
    }

    fn is_usable(&mut self, named: SessionRef<'_>, now: Now) -> bool {
        let known = self.sessions.get(&named.id);
        if known.is_some_and(|session| session.has_idled_out(now.instant)) {
            self.evict(named.id);
        }
        if let Some(session) = self.sessions.get(&named.id) {
            // Without `is_genuine`: the token may have a new value since the session was opened.
            return session.owner.as_deref() == named.owner;
        }
        // The clock of the process that opened the session may be ahead.
        let age = now.date.saturating_sub(named.id.opened());
        named.is_genuine && age < ADOPTION_LIMIT && !self.ended.ids.contains(&named.id)
    }

    fn insert(
        &mut self,
        id: SessionId,
        owner: Option<&str>,
        is_adopted: bool,
        now: Now,
    ) -> Result<(), SessionError> {
        if self.sessions.len() >= self.max {
            self.sessions
                .retain(|_, session| !session.has_idled_out(now.instant));
        }
        if self.sessions.len() >= self.max {
            let idle = self
                .sessions
                .iter()
                .filter(|(_, session)| session.calls == 0);
            // Sessions of the same owner come first, so that one token does not evict those of others. Next come sessions without an
            // event stream.
            let oldest = idle.min_by_key(|(_, session)| {
                let is_foreign = session.owner.as_deref() != owner;
                (is_foreign, session.streams > 0, session.last_used)
            });
            let oldest = *oldest.ok_or(SessionError::Full)?.0;
            self.evict(oldest);
        }
        self.next_serial += 1;
        let session = Session {
            owner: owner.map(str::to_owned),
            ended: CancellationToken::new(),
            calls: 0,
            streams: 0,
            last_used: now.instant,
            is_adopted,
            serial: self.next_serial,
        };
        self.sessions.insert(id, session);
        Ok(())
    }

    fn evict(&mut self, id: SessionId) {
        if let Some(session) = self.sessions.remove(&id) {
            session.ended.cancel();
        }
    }
}

#[cfg(test)]
mod tests;
