//! Who must go so that a model fits: pure.

use tokio::time::Instant;

use super::residency::{Edition, Shared};
use crate::config::units::human;

/// A model that takes memory.
#[derive(Debug, Clone, Copy)]
pub struct Occupant {
    /// Which it is.
    pub model: Edition,
    /// Bytes that it takes.
    pub memory: u64,
    /// Since when nobody holds it, if it may go for that.
    pub idle_since: Option<Instant>,
    /// Never goes for room.
    pub is_pinned: bool,
    /// Is about to be gone.
    pub is_ending: bool,
    /// Is being loaded: what the machine has left does not show yet what it will take.
    pub is_loading: bool,
}

impl Occupant {
    /// A loaded model that never goes.
    pub fn pinned(model: Edition, memory: u64) -> Self {
        Self {
            model,
            memory,
            idle_since: None,
            is_pinned: true,
            is_ending: false,
            is_loading: false,
        }
    }
}

/// Whether a model can be loaded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Room {
    /// At once.
    There,
    /// When these have gone.
    After(Vec<Edition>),
    /// When calls have ended, or processes that are ending are gone.
    Busy,
    /// Not at all: why, and the way out.
    Never(String, &'static str),
}

/// Where a model of `need` bytes finds room among `occupants`. `free` is what the machine, or the container, has left: idle
/// models go for that too, but a model alone is loaded whatever it says, since file pages and estimates err.
pub fn room_for(need: u64, occupants: &[Occupant], shared: Shared, free: Option<u64>) -> Room {
    let max_loaded = shared.max_loaded.unwrap_or(usize::MAX);
    let pinned = occupants.iter().filter(|occupant| occupant.is_pinned);
    let pinned_bytes = sum(pinned.clone());
    if need.saturating_add(pinned_bytes) > shared.budget {
        let held = match pinned_bytes {
            0 => String::new(),
            bytes => format!(", of which pinned models hold {}", human(bytes)),
        };
        let cause = format!(
            "the model needs {}, and all models together may take {}{held}",
            human(need),
            human(shared.budget)
        );
        return Room::Never(
            cause,
            "choose a smaller `n_ctx` or quantization, or raise `memory_budget`",
        );
    }
    if pinned.count() >= max_loaded {
        let cause = format!("as many models as may be loaded, {max_loaded}, are pinned");
        return Room::Never(cause, "raise `max_loaded`");
    }
    let taken_soon = sum(occupants.iter().filter(|occupant| occupant.is_loading));
    let free = free.map(|free| free.saturating_sub(taken_soon));
    let fits = |memory: u64, count: usize, freed: u64| {
        let has_memory = memory.saturating_add(need) <= shared.budget;
        let is_free = free.is_none_or(|free| free.saturating_add(freed) >= need);
        (has_memory && count < max_loaded, is_free)
    };
    let mut memory = sum(occupants);
    let mut count = occupants.len();
    if fits(memory, count, 0) == (true, true) {
        return Room::There;
    }
    let (mut gone, mut freed) = (Vec::new(), 0_u64);
    for occupant in longest_idle_first(occupants) {
        memory = memory.saturating_sub(occupant.memory);
        freed = freed.saturating_add(occupant.memory);
        count -= 1;
        gone.push(occupant.model);
        if fits(memory, count, freed) == (true, true) {
            return Room::After(gone);
        }
    }
    // The budget allows it and there is nobody left to go: what the machine says of itself is not the last word.
    let may_come = |occupant: &Occupant| {
        let is_busy = occupant.idle_since.is_none() && !occupant.is_pinned;
        occupant.is_ending || occupant.is_loading || is_busy
    };
    match fits(memory, count, freed) {
        (true, false) if occupants.iter().any(may_come) => Room::Busy,
        (true, _) if gone.is_empty() => Room::There,
        (true, _) => Room::After(gone),
        (false, _) => Room::Busy,
    }
}

/// Which models go because those that are loaded are more than may be, by an edit or since one took more than was estimated;
/// and the bytes that all others take where that is still more than the budget.
pub fn overrun(occupants: &[Occupant], shared: Shared) -> (Vec<Edition>, Option<u64>) {
    let staying = || occupants.iter().filter(|occupant| !occupant.is_ending);
    let (mut memory, mut count) = (sum(staying()), staying().count());
    let max_loaded = shared.max_loaded.unwrap_or(usize::MAX);
    let mut gone = Vec::new();
    for occupant in longest_idle_first(occupants) {
        if memory <= shared.budget && count <= max_loaded {
            break;
        }
        memory = memory.saturating_sub(occupant.memory);
        count -= 1;
        gone.push(occupant.model);
    }
    (gone, Some(memory).filter(|memory| *memory > shared.budget))
}

/// Those that may go.
fn longest_idle_first(occupants: &[Occupant]) -> Vec<&Occupant> {
    let mut idle: Vec<_> = occupants
        .iter()
        .filter(|occupant| occupant.idle_since.is_some())
        .collect();
    idle.sort_by_key(|occupant| occupant.idle_since);
    idle
}

fn sum<'a>(occupants: impl IntoIterator<Item = &'a Occupant>) -> u64 {
    let memory = occupants.into_iter().map(|occupant| occupant.memory);
    memory.fold(0, u64::saturating_add)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const A: Edition = 1;
    const B: Edition = 2;
    const C: Edition = 3;

    fn occupant(model: Edition, memory: u64, idle_for: Option<u64>, now: Instant) -> Occupant {
        Occupant {
            model,
            memory,
            idle_since: idle_for.map(|seconds| now - Duration::from_secs(seconds)),
            is_pinned: false,
            is_ending: false,
            is_loading: false,
        }
    }

    const SHARED: Shared = Shared {
        budget: 100,
        max_loaded: None,
    };

    fn after(models: &[Edition]) -> Room {
        Room::After(models.to_vec())
    }

    #[test]
    fn the_one_that_idled_longest_goes_first_and_no_more_than_needed() {
        let now = Instant::now();
        let occupants = [
            occupant(A, 30, Some(5), now),
            occupant(B, 30, Some(9), now),
            occupant(C, 30, None, now),
        ];
        assert_eq!(room_for(10, &occupants, SHARED, None), Room::There);
        assert_eq!(room_for(30, &occupants, SHARED, None), after(&[B]));
        assert_eq!(room_for(60, &occupants, SHARED, None), after(&[B, A]));
        assert_eq!(room_for(80, &occupants, SHARED, None), Room::Busy);
        assert!(matches!(
            room_for(101, &occupants, SHARED, None),
            Room::Never(..)
        ));
    }

    #[test]
    fn pinned_models_never_go_and_what_they_hold_is_not_to_be_had() {
        let pinned = Occupant::pinned(A, 50);
        assert_eq!(room_for(50, &[pinned], SHARED, None), Room::There);
        let Room::Never(cause, _) = room_for(51, &[pinned], SHARED, None) else {
            panic!("it can never fit")
        };
        assert_eq!(
            cause,
            "the model needs 51 B, and all models together may take 100 B, of which pinned models hold 50 B"
        );
    }

    #[test]
    fn only_so_many_are_loaded_at_once() {
        let now = Instant::now();
        let shared = Shared {
            max_loaded: Some(1),
            ..SHARED
        };
        assert_eq!(
            room_for(1, &[occupant(A, 1, Some(1), now)], shared, None),
            after(&[A])
        );
        assert_eq!(
            room_for(1, &[occupant(A, 1, None, now)], shared, None),
            Room::Busy
        );
    }

    #[test]
    fn idle_models_go_for_memory_that_others_took_but_one_alone_is_loaded_anyway() {
        let now = Instant::now();
        let occupants = [occupant(A, 10, Some(1), now)];
        assert_eq!(room_for(20, &occupants, SHARED, Some(15)), after(&[A]));
        assert_eq!(room_for(20, &[], SHARED, Some(15)), Room::There);
    }

    #[test]
    fn what_a_loading_model_will_take_is_not_free() {
        let now = Instant::now();
        let loading = Occupant {
            is_loading: true,
            ..occupant(A, 30, None, now)
        };
        assert_eq!(room_for(20, &[loading], SHARED, Some(50)), Room::There);
        assert_eq!(room_for(20, &[loading], SHARED, Some(49)), Room::Busy);
    }

    #[test]
    fn idle_models_go_where_one_took_more_than_was_estimated() {
        let now = Instant::now();
        let occupants = [
            occupant(A, 30, Some(1), now),
            occupant(B, 30, Some(9), now),
            occupant(C, 60, None, now),
        ];
        let beyond = |budget, max_loaded| overrun(&occupants, Shared { budget, max_loaded });
        assert_eq!(beyond(120, None), (vec![], None));
        assert_eq!(beyond(100, None), (vec![B], None));
        assert_eq!(beyond(50, None), (vec![B, A], Some(60)));
        assert_eq!(beyond(120, Some(2)), (vec![B], None));
    }
}
