use std::sync::LazyLock;

use super::*;
use crate::transport::http::session_id::SessionKey;

const MAX_SESSIONS: usize = 100;

const LATER: Duration = Duration::from_mins(1);

const A_DAY: Duration = Duration::from_hours(24);

/// A second more than the limit: ids count whole seconds.
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

/// The id of a session that was opened at `now`, here or elsewhere.
fn id(now: Now) -> SessionId {
    KEY.new_id(now.date)
}

/// A request for the session, without a token.
fn named(id: SessionId) -> Named<'static> {
    Named {
        id,
        owner: None,
        is_genuine: true,
    }
}

fn call(sessions: &mut Sessions, id: SessionId, now: Now) -> Result<Begun, Unusable> {
    sessions.begin(named(id), Use::Call, now)
}

/// A session of `owner` whose first call has ended.
fn opened_by(sessions: &mut Sessions, owner: Option<&str>, now: Now) -> SessionId {
    let begun = sessions.open(id(now), owner, now).unwrap();
    sessions.release(&begun, now.instant);
    begun.id
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
fn for_a_new_session_the_least_recently_used_idle_one_is_evicted() {
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
fn an_evicted_session_comes_back_with_its_next_call() {
    let now = start();
    let (mut sessions, ids) = full(now);
    opened(&mut sessions, after(now, LATER));
    assert!(!is_in_table(&sessions, ids[0]));
    assert!(call(&mut sessions, ids[0], after(now, LATER)).is_ok());
    assert_eq!(sessions.sessions.len(), MAX_SESSIONS);
}

#[test]
fn a_session_that_listens_is_evicted_after_those_that_do_not() {
    let now = start();
    let (mut sessions, ids) = full(now);
    let listening = sessions.begin(named(ids[0]), Use::Stream, now).unwrap();
    let later = after(now, LATER);
    for _ in 1..MAX_SESSIONS {
        sessions.open(id(later), None, later).unwrap();
    }
    assert!(!listening.ended.is_cancelled());
    assert!(sessions.open(id(later), None, later).is_ok());
    assert!(listening.ended.is_cancelled());
}

#[test]
fn if_all_sessions_have_calls_none_is_opened_adopted_or_evicted() {
    let now = start();
    let (mut sessions, ids) = full(now);
    let mut calls: Vec<Begun> = ids
        .iter()
        .map(|id| call(&mut sessions, *id, now).unwrap())
        .collect();
    let later = after(now, 2 * IDLE_LIMIT);
    for found in [
        sessions.open(id(later), None, later),
        call(&mut sessions, id(later), later),
    ] {
        assert_eq!(found.unwrap_err(), Unusable::Full);
    }
    assert_eq!(sessions.sessions.len(), MAX_SESSIONS);
    sessions.release(&calls.remove(7), later.instant);
    assert!(sessions.open(id(later), None, later).is_ok());
    assert!(!is_in_table(&sessions, ids[7]));
}

#[test]
fn however_many_sessions_are_adopted_the_table_keeps_its_size() {
    let now = start();
    let mut sessions = Sessions::new(MAX_SESSIONS);
    for _ in 0..10 * MAX_SESSIONS {
        let begun = call(&mut sessions, id(now), now).unwrap();
        sessions.release(&begun, now.instant);
    }
    assert_eq!(sessions.sessions.len(), MAX_SESSIONS);
}

#[test]
fn a_session_that_was_opened_elsewhere_is_adopted_until_it_is_90_days_old() {
    let now = start();
    for (age, found) in [
        (Duration::ZERO, None),
        (TOO_OLD.saturating_sub(Duration::from_secs(2)), None),
        (TOO_OLD, Some(Unusable::Ended)),
    ] {
        let mut sessions = Sessions::new(MAX_SESSIONS);
        let begun = call(&mut sessions, id(now), after(now, age));
        assert_eq!(begun.err(), found, "{age:?}");
    }
}

#[test]
fn a_replica_whose_clock_is_behind_adopts_the_session_too() {
    let now = start();
    let mut sessions = Sessions::new(MAX_SESSIONS);
    assert!(call(&mut sessions, id(after(now, LATER)), now).is_ok());
}

#[test]
fn an_old_session_lives_on_while_it_is_used() {
    let mut now = start();
    let mut sessions = Sessions::new(MAX_SESSIONS);
    let id = opened(&mut sessions, now);
    for _ in 0..200 {
        now = after(now, A_DAY / 2);
        let begun = call(&mut sessions, id, now).unwrap();
        sessions.release(&begun, now.instant);
    }
    assert_eq!(
        call(&mut sessions, id, after(now, A_DAY)).unwrap_err(),
        Unusable::Ended
    );
}

#[test]
fn an_idle_session_leaves_the_table_but_never_while_it_is_in_use() {
    for (kind, is_released) in [
        (Use::Call, false),
        (Use::Stream, false),
        (Use::Call, true),
        (Use::Stream, true),
    ] {
        let now = start();
        let mut sessions = Sessions::new(MAX_SESSIONS);
        let id = opened(&mut sessions, now);
        let begun = sessions.begin(named(id), kind, now).unwrap();
        if is_released {
            sessions.release(&begun, now.instant);
        }
        assert!(call(&mut sessions, id, after(now, IDLE_LIMIT)).is_ok());
        // Another entry would have another token.
        assert_eq!(begun.ended.is_cancelled(), is_released, "{kind:?}");
    }
}

#[test]
fn the_end_of_a_session_ends_what_it_does_and_it_does_not_come_back() {
    let now = start();
    let mut sessions = Sessions::new(MAX_SESSIONS);
    let id = opened(&mut sessions, now);
    let begun = call(&mut sessions, id, now).unwrap();
    assert!(sessions.end(named(id), now));
    assert!(begun.ended.is_cancelled());
    sessions.release(&begun, now.instant);
    assert_eq!(call(&mut sessions, id, now).unwrap_err(), Unusable::Ended);
    assert!(!sessions.end(named(id), now));
}

#[test]
fn a_session_that_was_opened_elsewhere_is_ended_once() {
    let now = start();
    let mut sessions = Sessions::new(MAX_SESSIONS);
    let id = id(now);
    assert!(sessions.end(named(id), now));
    assert!(!sessions.end(named(id), now));
    assert_eq!(call(&mut sessions, id, now).unwrap_err(), Unusable::Ended);
}

#[test]
fn the_ends_that_are_remembered_are_bounded_and_the_oldest_is_forgotten() {
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
        let flooding = Named {
            owner: Some("flooding"),
            ..named(id(now))
        };
        sessions.end(flooding, now);
    }
    assert!(!sessions.is_usable(named(others), now));
}

#[test]
fn the_end_of_a_use_is_not_counted_twice_for_a_session_that_was_evicted_and_came_back() {
    let now = start();
    let mut sessions = Sessions::new(1);
    let first = opened(&mut sessions, now);
    let stream = sessions.begin(named(first), Use::Stream, now).unwrap();
    opened(&mut sessions, now);
    assert!(stream.ended.is_cancelled());
    let again = sessions.begin(named(first), Use::Stream, now).unwrap();
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
    assert!(!resumed(adopted, Use::Call));
    assert!(resumed(adopted, Use::Stream));
    assert!(!resumed(adopted, Use::Stream));
    let own = opened(&mut sessions, now);
    let begun = sessions.begin(named(own), Use::Stream, now).unwrap();
    assert!(!begun.is_resumed);
}

#[test]
fn a_token_makes_room_of_its_own_sessions_before_those_of_others() {
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
fn to_others_there_is_no_such_session() {
    let now = start();
    let mut sessions = Sessions::new(MAX_SESSIONS);
    let id = opened_by(&mut sessions, Some("alice"), now);
    for owner in [None, Some("bob"), Some("")] {
        let others = Named {
            id,
            owner,
            is_genuine: false,
        };
        assert_eq!(
            sessions.begin(others, Use::Call, now).unwrap_err(),
            Unusable::Ended
        );
        assert!(!sessions.end(others, now));
    }
}

#[test]
fn an_id_that_is_not_genuine_is_good_only_for_a_session_that_is_known() {
    let now = start();
    let mut sessions = Sessions::new(MAX_SESSIONS);
    let forged = |id| Named {
        id,
        owner: Some("alice"),
        is_genuine: false,
    };
    let stranger = id(now);
    assert_eq!(
        sessions
            .begin(forged(stranger), Use::Call, now)
            .unwrap_err(),
        Unusable::Ended
    );
    // The token has another value since the session was opened.
    let known = opened_by(&mut sessions, Some("alice"), now);
    assert!(sessions.begin(forged(known), Use::Call, now).is_ok());
}
