use std::sync::LazyLock;

use super::*;
use crate::transport::http::session_id::SessionKey;

const MAX_SESSIONS: usize = 100;

const LATER: Duration = Duration::from_mins(1);

const A_DAY: Duration = Duration::from_hours(24);

/// One second above the limit, since ids have whole seconds.
const TOO_OLD: Duration = Duration::from_secs(90 * 24 * 3600 + 1);

static KEY: LazyLock<SessionKey> = LazyLock::new(|| SessionKey::derive("", ""));

fn start() -> Now {
    Now {
        instant: Instant::now(),
        date: Duration::from_hours(500_000),
    }
}

fn after(now: Now, time: Duration) -> Now {
    Now {
        instant: now.instant + time,
        date: now.date + time,
    }
}

/// Returns the id of a session that was opened at `now`, in this process or elsewhere.
fn id(now: Now) -> SessionId {
    KEY.new_id(now.date)
}

/// Returns a reference by a request without a token.
fn named(id: SessionId) -> SessionRef<'static> {
    SessionRef {
        id,
        owner: None,
        is_genuine: true,
    }
}

fn call(sessions: &mut Sessions, id: SessionId, now: Now) -> Result<SessionUse, SessionError> {
    sessions.begin(named(id), UseKind::Call, now)
}

/// Opens a session of `owner` and ends its first call.
fn opened_by(sessions: &mut Sessions, owner: Option<&str>, now: Now) -> SessionId {
    let session_use = sessions.open(id(now), owner, now).unwrap();
    sessions.release(&session_use, now.instant);
    session_use.id
}

fn opened(sessions: &mut Sessions, now: Now) -> SessionId {
    opened_by(sessions, None, now)
}

fn full(now: Now) -> (Sessions, Vec<SessionId>) {
    let mut sessions = Sessions::new(MAX_SESSIONS);
    let ids = (0..MAX_SESSIONS)
        .map(|n| opened(&mut sessions, after(now, Duration::from_millis(n as u64))))
        .collect();
    (sessions, ids)
}

fn is_in_table(sessions: &Sessions, id: SessionId) -> bool {
    sessions.sessions.contains_key(&id)
}

#[test]
fn a_new_session_evicts_the_least_recently_used_idle_one() {
    let now = start();
    let (mut sessions, ids) = full(now);
    let later = after(now, LATER);
    call(&mut sessions, ids[0], later).unwrap();
    let second = call(&mut sessions, ids[1], later).unwrap();
    sessions.release(&second, later.instant);
    opened(&mut sessions, later);
    assert!(!is_in_table(&sessions, ids[2]));
    for kept in [ids[0], ids[1], ids[3]] {
        assert!(is_in_table(&sessions, kept));
    }
}

#[test]
fn an_evicted_session_is_adopted_with_its_next_call() {
    let now = start();
    let (mut sessions, ids) = full(now);
    opened(&mut sessions, after(now, LATER));
    assert!(!is_in_table(&sessions, ids[0]));
    assert!(call(&mut sessions, ids[0], after(now, LATER)).is_ok());
    assert_eq!(sessions.sessions.len(), MAX_SESSIONS);
}

#[test]
fn sessions_without_an_event_stream_are_evicted_first() {
    let now = start();
    let (mut sessions, ids) = full(now);
    let listening = sessions.begin(named(ids[0]), UseKind::Stream, now).unwrap();
    let later = after(now, LATER);
    for _ in 1..MAX_SESSIONS {
        sessions.open(id(later), None, later).unwrap();
    }
    assert!(!listening.ended.is_cancelled());
    assert!(sessions.open(id(later), None, later).is_ok());
    assert!(listening.ended.is_cancelled());
}

#[test]
fn while_all_sessions_have_calls_none_is_opened_adopted_or_evicted() {
    let now = start();
    let (mut sessions, ids) = full(now);
    let mut calls: Vec<SessionUse> = ids
        .iter()
        .map(|id| call(&mut sessions, *id, now).unwrap())
        .collect();
    let later = after(now, 2 * IDLE_LIMIT);
    for found in [
        sessions.open(id(later), None, later),
        call(&mut sessions, id(later), later),
    ] {
        assert_eq!(found.unwrap_err(), SessionError::Full);
    }
    assert_eq!(sessions.sessions.len(), MAX_SESSIONS);
    sessions.release(&calls.remove(7), later.instant);
    assert!(sessions.open(id(later), None, later).is_ok());
    assert!(!is_in_table(&sessions, ids[7]));
}

#[test]
fn adopted_sessions_do_not_exceed_the_size_of_the_table() {
    let now = start();
    let mut sessions = Sessions::new(MAX_SESSIONS);
    for _ in 0..10 * MAX_SESSIONS {
        let session_use = call(&mut sessions, id(now), now).unwrap();
        sessions.release(&session_use, now.instant);
    }
    assert_eq!(sessions.sessions.len(), MAX_SESSIONS);
}

#[test]
fn a_session_that_was_opened_elsewhere_is_adopted_until_it_is_90_days_old() {
    let now = start();
    for (age, found) in [
        (Duration::ZERO, None),
        (TOO_OLD.saturating_sub(Duration::from_secs(2)), None),
        (TOO_OLD, Some(SessionError::Ended)),
    ] {
        let mut sessions = Sessions::new(MAX_SESSIONS);
        let session_use = call(&mut sessions, id(now), after(now, age));
        assert_eq!(session_use.err(), found, "{age:?}");
    }
}

#[test]
fn a_replica_whose_clock_is_behind_adopts_the_session_too() {
    let now = start();
    let mut sessions = Sessions::new(MAX_SESSIONS);
    assert!(call(&mut sessions, id(after(now, LATER)), now).is_ok());
}

#[test]
fn a_session_in_use_has_no_maximum_age() {
    let mut now = start();
    let mut sessions = Sessions::new(MAX_SESSIONS);
    let id = opened(&mut sessions, now);
    for _ in 0..200 {
        now = after(now, A_DAY / 2);
        let session_use = call(&mut sessions, id, now).unwrap();
        sessions.release(&session_use, now.instant);
    }
    assert_eq!(
        call(&mut sessions, id, after(now, A_DAY)).unwrap_err(),
        SessionError::Ended
    );
}

#[test]
fn an_idle_session_is_removed_but_never_one_in_use() {
    for (kind, is_released) in [
        (UseKind::Call, false),
        (UseKind::Stream, false),
        (UseKind::Call, true),
        (UseKind::Stream, true),
    ] {
        let now = start();
        let mut sessions = Sessions::new(MAX_SESSIONS);
        let id = opened(&mut sessions, now);
        let session_use = sessions.begin(named(id), kind, now).unwrap();
        if is_released {
            sessions.release(&session_use, now.instant);
        }
        assert!(call(&mut sessions, id, after(now, IDLE_LIMIT)).is_ok());
        // A cancelled token shows that the session was removed and adopted again.
        assert_eq!(session_use.ended.is_cancelled(), is_released, "{kind:?}");
    }
}

#[test]
fn ending_a_session_cancels_its_calls_and_it_cannot_be_used_again() {
    let now = start();
    let mut sessions = Sessions::new(MAX_SESSIONS);
    let id = opened(&mut sessions, now);
    let session_use = call(&mut sessions, id, now).unwrap();
    assert!(sessions.end(named(id), now));
    assert!(session_use.ended.is_cancelled());
    sessions.release(&session_use, now.instant);
    assert_eq!(
        call(&mut sessions, id, now).unwrap_err(),
        SessionError::Ended
    );
    assert!(!sessions.end(named(id), now));
}

#[test]
fn a_session_that_was_opened_elsewhere_can_be_ended_once() {
    let now = start();
    let mut sessions = Sessions::new(MAX_SESSIONS);
    let id = id(now);
    assert!(sessions.end(named(id), now));
    assert!(!sessions.end(named(id), now));
    assert_eq!(
        call(&mut sessions, id, now).unwrap_err(),
        SessionError::Ended
    );
}

#[test]
fn the_oldest_ended_session_is_forgotten_beyond_the_limit() {
    let now = start();
    let mut sessions = Sessions::new(MAX_SESSIONS);
    let ids: Vec<SessionId> = (0..=MAX_ENDED).map(|_| id(now)).collect();
    for id in &ids {
        assert!(sessions.end(named(*id), now));
    }
    assert_eq!(sessions.ended.ids.len(), MAX_ENDED);
    assert!(sessions.is_usable(named(ids[0]), now));
    assert!(!sessions.is_usable(named(ids[1]), now));
}

#[test]
fn a_token_that_ends_many_sessions_does_not_revive_those_of_others() {
    let now = start();
    let mut sessions = Sessions::new(MAX_SESSIONS);
    let others = id(now);
    sessions.end(named(others), now);
    for _ in 0..2 * MAX_ENDED {
        let flooding = SessionRef {
            owner: Some("flooding"),
            ..named(id(now))
        };
        sessions.end(flooding, now);
    }
    assert!(!sessions.is_usable(named(others), now));
}

#[test]
fn releasing_a_use_from_before_an_eviction_does_not_change_the_adopted_session() {
    let now = start();
    let mut sessions = Sessions::new(1);
    let first = opened(&mut sessions, now);
    let stream = sessions.begin(named(first), UseKind::Stream, now).unwrap();
    opened(&mut sessions, now);
    assert!(stream.ended.is_cancelled());
    let again = sessions.begin(named(first), UseKind::Stream, now).unwrap();
    sessions.release(&stream, now.instant);
    assert_eq!(sessions.sessions[&first].streams, 1);
    sessions.release(&again, now.instant);
    assert_eq!(sessions.sessions[&first].streams, 0);
}

#[test]
fn only_the_first_stream_of_an_adopted_session_is_resumed() {
    let now = start();
    let mut sessions = Sessions::new(MAX_SESSIONS);
    let mut resumed = |id, kind| sessions.begin(named(id), kind, now).unwrap().is_resumed;
    let adopted = id(now);
    assert!(!resumed(adopted, UseKind::Call));
    assert!(resumed(adopted, UseKind::Stream));
    assert!(!resumed(adopted, UseKind::Stream));
    let own = opened(&mut sessions, now);
    let session_use = sessions.begin(named(own), UseKind::Stream, now).unwrap();
    assert!(!session_use.is_resumed);
}

#[test]
fn a_token_evicts_its_own_sessions_before_those_of_others() {
    let now = start();
    let mut sessions = Sessions::new(2);
    let alices = opened_by(&mut sessions, Some("alice"), now);
    let bobs = opened_by(&mut sessions, Some("bob"), after(now, LATER));
    let bobs_next = opened_by(&mut sessions, Some("bob"), after(now, 2 * LATER));
    assert!(is_in_table(&sessions, alices));
    assert!(!is_in_table(&sessions, bobs));
    assert!(is_in_table(&sessions, bobs_next));
}

#[test]
fn for_other_tokens_a_session_does_not_exist() {
    let now = start();
    let mut sessions = Sessions::new(MAX_SESSIONS);
    let id = opened_by(&mut sessions, Some("alice"), now);
    for owner in [None, Some("bob"), Some("")] {
        let others = SessionRef {
            id,
            owner,
            is_genuine: false,
        };
        assert_eq!(
            sessions.begin(others, UseKind::Call, now).unwrap_err(),
            SessionError::Ended
        );
        assert!(!sessions.end(others, now));
    }
}

#[test]
fn an_id_that_is_not_genuine_is_accepted_only_for_a_session_in_the_table() {
    let now = start();
    let mut sessions = Sessions::new(MAX_SESSIONS);
    let forged = |id| SessionRef {
        id,
        owner: Some("alice"),
        is_genuine: false,
    };
    let stranger = id(now);
    assert_eq!(
        sessions
            .begin(forged(stranger), UseKind::Call, now)
            .unwrap_err(),
        SessionError::Ended
    );
    // As after a change of the token's value.
    let known = opened_by(&mut sessions, Some("alice"), now);
    assert!(sessions.begin(forged(known), UseKind::Call, now).is_ok());
}
