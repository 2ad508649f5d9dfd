//! The sessions of HTTP that this process knows. Pure: time comes in as an argument.
//!
//! Session ids are signed ([`super::session_id`]), so the table holds only what one process must know of a session: how it is
//! used, and whether its client ended it. A session that is not in the table was opened by another process, was opened by this
//! process before a restart, or was evicted. The table adopts it with its next request and then treats it like its own.
//!
//! A session is in use while one of its calls runs or its event stream is open. If the table is full, the least recently
//! used session without calls is evicted. A session belongs to the token that opened it: for other tokens it does not exist.

use std::collections::{HashMap, HashSet, VecDeque};
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::session_id::SessionId;

/// Idle time after which a session leaves the table.
const IDLE_LIMIT: Duration = Duration::from_hours(24);

/// Age from which a session is no longer adopted. A session in the table may be older.
const ADOPTION_LIMIT: Duration = Duration::from_hours(90 * 24);

/// Number of ended sessions that are remembered. An id takes about 100 bytes.
const MAX_ENDED: usize = 16_384;

/// The current time on two clocks.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Now {
    /// The time from which idle times are counted.
    pub instant: Instant,
    /// The time of day, counted from 1970, from which the age of an id follows.
    pub date: Duration,
}

/// The session that a request names.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Named<'request> {
    /// Its id.
    pub id: SessionId,
    /// The name of the token that the request brought.
    pub owner: Option<&'request str>,
    /// Whether the id was made for that token.
    pub is_genuine: bool,
}

/// How a session is in use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Use {
    /// A request is being answered.
    Call,
    /// The event stream is open.
    Stream,
}

/// Reason for which a session cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unusable {
    /// The client ended the session, or the session is too old.
    Ended,
    /// The table is full, and all of its sessions have running calls.
    Full,
}

/// One use of a session, which [`Sessions::release`] ends.
#[derive(Debug, Clone)]
pub(crate) struct Begun {
    /// The session.
    pub id: SessionId,
    /// Cancelled when the session ends.
    pub ended: CancellationToken,
    /// Whether this is the first event stream in this process of a session that was opened elsewhere. The client may have a
    /// list of tools that differs from this process's list.
    pub is_resumed: bool,
    kind: Use,
    serial: u64,
}

#[derive(Debug)]
struct Session {
    /// The name of the token that opened it.
    owner: Option<String>,
    ended: CancellationToken,
    calls: usize,
    streams: usize,
    last_used: Instant,
    /// Whether the session was opened elsewhere and has had no event stream in this process.
    is_adopted: bool,
    /// Number that distinguishes this entry from an earlier one of the same session.
    serial: u64,
}

impl Session {
    fn count(&mut self, kind: Use) -> &mut usize {
        match kind {
            Use::Call => &mut self.calls,
            Use::Stream => &mut self.streams,
        }
    }

    fn has_idled_out(&self, now: Instant) -> bool {
        self.calls == 0 && self.streams == 0 && now - self.last_used >= IDLE_LIMIT
    }
}

/// The sessions that were ended most recently by `DELETE`. If there are too many, the owner with the most loses its oldest one: no
/// token makes the table forget the sessions of others that have ended fewer.
#[derive(Debug, Default)]
struct Ended {
    ids: HashSet<SessionId>,
    /// The same ids by owner, the oldest first.
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

/// The table of sessions, by id.
#[derive(Debug)]
pub(crate) struct Sessions {
    sessions: HashMap<SessionId, Session>,
    ended: Ended,
    max: usize,
    next_serial: u64,
}

impl Sessions {
    /// Makes a table of at most `max` sessions. An entry takes about 200 bytes, so the limit is against floods, not to save memory.
    pub(crate) fn new(max: usize) -> Self {
        Self {
            sessions: HashMap::new(),
            ended: Ended::default(),
            max,
            next_serial: 0,
        }
    }

    /// Opens a session of `owner` with its first call.
    ///
    /// # Errors
    /// [`Unusable::Full`].
    pub(crate) fn open(
        &mut self,
        id: SessionId,
        owner: Option<&str>,
        now: Now,
    ) -> Result<Begun, Unusable> {
        self.insert(id, owner, false, now)?;
        self.begin_known(id, Use::Call, now)
    }

    /// Marks a session as in use, and adopts one that is not in the table.
    ///
    /// # Errors
    /// The session has ended, or there is no room for it.
    pub(crate) fn begin(
        &mut self,
        named: Named<'_>,
        kind: Use,
        now: Now,
    ) -> Result<Begun, Unusable> {
        if !self.is_usable(named, now) {
            return Err(Unusable::Ended);
        }
        if !self.sessions.contains_key(&named.id) {
            self.insert(named.id, named.owner, true, now)?;
        }
        self.begin_known(named.id, kind, now)
    }

    fn begin_known(&mut self, id: SessionId, kind: Use, now: Now) -> Result<Begun, Unusable> {
        let session = self.sessions.get_mut(&id).ok_or(Unusable::Ended)?;
        *session.count(kind) += 1;
        session.last_used = now.instant;
        Ok(Begun {
            id,
            ended: session.ended.clone(),
            is_resumed: kind == Use::Stream && std::mem::take(&mut session.is_adopted),
            kind,
            serial: session.serial,
        })
    }

    /// Ends one use of a session.
    pub(crate) fn release(&mut self, begun: &Begun, now: Instant) {
        // The session may have ended meanwhile, or may have been evicted and adopted again.
        let session = self.sessions.get_mut(&begun.id);
        if let Some(session) = session.filter(|session| session.serial == begun.serial) {
            *session.count(begun.kind) -= 1;
            session.last_used = now;
        }
    }

    /// Ends a session and its calls and streams. Returns `false` if there is no such session, or it had ended before.
    pub(crate) fn end(&mut self, named: Named<'_>, now: Now) -> bool {
        let is_usable = self.is_usable(named, now);
        if is_usable {
            self.evict(named.id);
            self.ended.insert(named.id, named.owner);
        }
        is_usable
    }

    fn is_usable(&mut self, named: Named<'_>, now: Now) -> bool {
        let known = self.sessions.get(&named.id);
        if known.is_some_and(|session| session.has_idled_out(now.instant)) {
            self.evict(named.id);
        }
        if let Some(session) = self.sessions.get(&named.id) {
            // The token's value may have changed since then.
            return session.owner.as_deref() == named.owner;
        }
        // The clock of another process may be ahead of this one.
        let age = now.date.saturating_sub(named.id.opened());
        named.is_genuine && age < ADOPTION_LIMIT && !self.ended.ids.contains(&named.id)
    }

    fn insert(
        &mut self,
        id: SessionId,
        owner: Option<&str>,
        is_adopted: bool,
        now: Now,
    ) -> Result<(), Unusable> {
        if self.sessions.len() >= self.max {
            self.sessions
                .retain(|_, session| !session.has_idled_out(now.instant));
        }
        if self.sessions.len() >= self.max {
            let idle = self
                .sessions
                .iter()
                .filter(|(_, session)| session.calls == 0);
            // First sessions of the same owner, so that one token does not evict the sessions of others, and sessions without
            // an event stream.
            let oldest = idle.min_by_key(|(_, session)| {
                let is_anothers = session.owner.as_deref() != owner;
                (is_anothers, session.streams > 0, session.last_used)
            });
            let oldest = *oldest.ok_or(Unusable::Full)?.0;
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
