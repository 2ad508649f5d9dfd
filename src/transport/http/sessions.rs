//! The sessions of HTTP: which there are, which are in use, which must go. Pure: time comes in as an argument.
//!
//! A session is in use while a call of it runs or its event stream is open. One that is not may go: after
//! [`IDLE_LIMIT`], or, the least recently used one first, for the place of a new one. It belongs to whoever opened it: to
//! others there is no such session.

use std::collections::HashMap;
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// After so long without a call a client is taken to be gone; should it come back, it is told to begin again.
pub const IDLE_LIMIT: Duration = Duration::from_hours(24);

/// How a session is in use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Use {
    /// A request is being answered.
    Call,
    /// The event stream is open.
    Stream,
}

#[derive(Debug)]
struct Session {
    /// Whose token opened it.
    owner: Option<String>,
    ended: CancellationToken,
    calls: usize,
    streams: usize,
    last_used: Instant,
}

impl Session {
    fn count(&mut self, kind: Use) -> &mut usize {
        match kind {
            Use::Call => &mut self.calls,
            Use::Stream => &mut self.streams,
        }
    }

    fn has_expired(&self, now: Instant) -> bool {
        self.calls == 0 && self.streams == 0 && now - self.last_used >= IDLE_LIMIT
    }
}

/// The table of sessions, by id.
#[derive(Debug)]
pub struct Sessions {
    sessions: HashMap<String, Session>,
    max: usize,
}

impl Sessions {
    /// A table of at most `max`. Each is an entry of about 200 bytes, so the limit is against floods, not for memory.
    pub fn new(max: usize) -> Self {
        Self {
            sessions: HashMap::new(),
            max,
        }
    }

    /// Opens a session of `owner` for its first call and gives its id, and the token that is cancelled at its end; none where all that
    /// there may be have calls running. To be followed by [`Sessions::release`].
    pub fn open(
        &mut self,
        owner: Option<&str>,
        now: Instant,
    ) -> Option<(String, CancellationToken)> {
        if self.sessions.len() >= self.max {
            self.sessions.retain(|_, session| !session.has_expired(now));
        }
        if self.sessions.len() >= self.max {
            // A client that listens is still there: those that do not go first.
            let idle = self
                .sessions
                .iter()
                .filter(|(_, session)| session.calls == 0);
            // And of those first its owner's: one token does not push out the sessions of others while it has any.
            let oldest = idle.min_by_key(|(_, session)| {
                let is_anothers = session.owner.as_deref() != owner;
                (is_anothers, session.streams > 0, session.last_used)
            });
            let id = oldest.map(|(id, _)| id.clone())?;
            self.end(&id);
        }
        // Random (RFC 9562, version 4): an id must not be guessed.
        let id = Uuid::new_v4().to_string();
        let ended = CancellationToken::new();
        let session = Session {
            owner: owner.map(str::to_owned),
            ended: ended.clone(),
            calls: 1,
            streams: 0,
            last_used: now,
        };
        self.sessions.insert(id.clone(), session);
        Some((id, ended))
    }

    /// Whether `owner` has such a session.
    pub fn has(&self, id: &str, owner: Option<&str>, now: Instant) -> bool {
        self.sessions
            .get(id)
            .is_some_and(|session| session.owner.as_deref() == owner && !session.has_expired(now))
    }

    /// Marks a session of `owner` as in use and gives the token that is cancelled at its end; none where there is no such
    /// session. To be followed by [`Sessions::release`].
    pub fn begin(
        &mut self,
        id: &str,
        owner: Option<&str>,
        kind: Use,
        now: Instant,
    ) -> Option<CancellationToken> {
        if self.sessions.get(id)?.has_expired(now) {
            self.sessions.remove(id);
        }
        if !self.has(id, owner, now) {
            return None;
        }
        let session = self.sessions.get_mut(id)?;
        *session.count(kind) += 1;
        session.last_used = now;
        Some(session.ended.clone())
    }

    /// The use of a session is over.
    pub fn release(&mut self, id: &str, kind: Use, now: Instant) {
        // It may have ended meanwhile.
        if let Some(session) = self.sessions.get_mut(id) {
            *session.count(kind) -= 1;
            session.last_used = now;
        }
    }

    /// Ends a session and what it does; false where there is none.
    pub fn end(&mut self, id: &str) -> bool {
        match self.sessions.remove(id) {
            Some(session) => {
                session.ended.cancel();
                true
            }
            None => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAX_SESSIONS: usize = 100;

    /// A session whose first call has ended.
    fn opened(sessions: &mut Sessions, now: Instant) -> String {
        let (id, _) = sessions.open(None, now).unwrap();
        sessions.release(&id, Use::Call, now);
        id
    }

    fn full(now: Instant) -> (Sessions, Vec<String>) {
        let mut sessions = Sessions::new(MAX_SESSIONS);
        let ids = (0..MAX_SESSIONS)
            .map(|n| opened(&mut sessions, now + Duration::from_millis(n as u64)))
            .collect();
        (sessions, ids)
    }

    const LATER: Duration = Duration::from_mins(1);

    #[test]
    fn for_a_new_session_the_least_recently_used_idle_one_goes() {
        let now = Instant::now();
        let (mut sessions, ids) = full(now);
        sessions.begin(&ids[0], None, Use::Call, now + LATER);
        sessions.begin(&ids[1], None, Use::Call, now + LATER);
        sessions.release(&ids[1], Use::Call, now + LATER);
        assert!(sessions.open(None, now + LATER).is_some());
        assert!(
            sessions
                .begin(&ids[2], None, Use::Call, now + LATER)
                .is_none()
        );
        for kept in [&ids[0], &ids[1], &ids[3]] {
            assert!(sessions.begin(kept, None, Use::Call, now + LATER).is_some());
        }
    }

    #[test]
    fn a_session_that_listens_goes_after_those_that_do_not() {
        let now = Instant::now();
        let (mut sessions, ids) = full(now);
        let listening = sessions.begin(&ids[0], None, Use::Stream, now).unwrap();
        for _ in 1..MAX_SESSIONS {
            sessions.open(None, now + LATER).unwrap();
        }
        assert!(!listening.is_cancelled());
        assert!(sessions.open(None, now + LATER).is_some());
        assert!(listening.is_cancelled());
    }

    #[test]
    fn where_all_sessions_work_none_is_opened_and_none_goes() {
        let now = Instant::now();
        let (mut sessions, ids) = full(now);
        for id in &ids {
            sessions.begin(id, None, Use::Call, now);
        }
        assert!(sessions.open(None, now + 2 * IDLE_LIMIT).is_none());
        sessions.release(&ids[7], Use::Call, now);
        assert!(sessions.open(None, now).is_some());
        assert!(!sessions.end(&ids[7]));
    }

    #[test]
    fn an_idle_session_ends_after_its_time_but_never_while_it_is_in_use() {
        for (kind, released, is_there) in [
            (Use::Call, false, true),
            (Use::Stream, false, true),
            (Use::Call, true, false),
        ] {
            let now = Instant::now();
            let mut sessions = Sessions::new(MAX_SESSIONS);
            let id = opened(&mut sessions, now);
            sessions.begin(&id, None, kind, now).unwrap();
            if released {
                sessions.release(&id, kind, now);
            }
            let found = sessions
                .begin(&id, None, Use::Call, now + IDLE_LIMIT)
                .is_some();
            assert_eq!(found, is_there, "{kind:?}");
        }
    }

    #[test]
    fn the_end_of_a_session_ends_what_it_does() {
        let now = Instant::now();
        let mut sessions = Sessions::new(MAX_SESSIONS);
        let id = opened(&mut sessions, now);
        let ended = sessions.begin(&id, None, Use::Call, now).unwrap();
        assert!(sessions.end(&id));
        assert!(ended.is_cancelled());
        assert!(sessions.begin(&id, None, Use::Call, now).is_none());
        sessions.release(&id, Use::Call, now);
        assert!(!sessions.end(&id));
    }

    #[test]
    fn a_token_makes_room_of_its_own_sessions_before_those_of_others() {
        let now = Instant::now();
        let mut sessions = Sessions::new(2);
        let mut open = |owner: &str, later: Duration| {
            let (id, _) = sessions.open(Some(owner), now + later).unwrap();
            sessions.release(&id, Use::Call, now + later);
            id
        };
        let (alices, bobs) = (open("alice", Duration::ZERO), open("bob", LATER));
        let bobs_next = open("bob", 2 * LATER);
        assert!(sessions.has(&alices, Some("alice"), now));
        assert!(!sessions.has(&bobs, Some("bob"), now));
        assert!(sessions.has(&bobs_next, Some("bob"), now));
    }

    #[test]
    fn to_others_there_is_no_such_session() {
        let now = Instant::now();
        let mut sessions = Sessions::new(MAX_SESSIONS);
        let (id, _) = sessions.open(Some("alice"), now).unwrap();
        for other in [None, Some("bob"), Some("")] {
            assert!(!sessions.has(&id, other, now));
            assert!(sessions.begin(&id, other, Use::Call, now).is_none());
        }
        assert!(sessions.begin(&id, Some("alice"), Use::Call, now).is_some());
    }
}
