//! Who must go so that a model fits: pure.

use tokio::time::Instant;

use super::footprint::{Demand, Footprint, counted_as_free, sum};
use super::residency::{Edition, Shared};
use crate::config::units::human;

/// A model that takes memory.
#[derive(Debug, Clone, Copy)]
pub struct Occupant {
    /// Which it is.
    pub model: Edition,
    /// Memory that the model takes.
    pub memory: Footprint,
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
    pub fn pinned(model: Edition, memory: Footprint) -> Self {
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
    Never(String, String),
}

/// Finds room for a model that needs `need` among `occupants`. `free` is the free memory of the machine or container. Idle models are
/// unloaded if it is short, but a single model is loaded regardless of `free`, since estimates err.
pub fn room_for(need: Demand, occupants: &[Occupant], shared: Shared, free: Option<u64>) -> Room {
    let max_loaded = shared.max_loaded.unwrap_or(usize::MAX);
    let pinned = occupants.iter().filter(|occupant| occupant.is_pinned);
    let with_pinned = together(pinned.clone(), Some(need.footprint));
    if with_pinned > shared.budget {
        return never(need, with_pinned, shared);
    }
    if pinned.count() >= max_loaded {
        let cause = format!("as many models as may be loaded, {max_loaded}, are pinned");
        return Room::Never(cause, "raise `max_loaded`".into());
    }
    let all = together(occupants, None);
    let loaded = occupants.iter().filter(|occupant| !occupant.is_loading);
    let taken_soon = all.saturating_sub(together(loaded.clone(), None));
    // The system counts mapped weights as free, but without them the models that use them are slow.
    let in_use = counted_as_free(loaded.map(|occupant| occupant.memory));
    let free = free.map(|free| free.saturating_sub(taken_soon.saturating_add(in_use)));
    let fits = |staying: &[&Occupant]| {
        let taken = together(staying.iter().copied(), Some(need.footprint));
        // Memory of models that stay is already in use, and so are weights that they share with the model.
        let is_free = free.is_none_or(|free| free.saturating_add(all) >= taken);
        (
            taken <= shared.budget && staying.len() < max_loaded,
            is_free,
        )
    };
    let mut staying: Vec<&Occupant> = occupants.iter().collect();
    if fits(&staying) == (true, true) {
        return Room::There;
    }
    let mut gone = Vec::new();
    for occupant in longest_idle_first(occupants) {
        staying.retain(|other| other.model != occupant.model);
        gone.push(occupant.model);
        if fits(&staying) == (true, true) {
            return Room::After(gone);
        }
    }
    // The budget allows it and there is nobody left to go: what the machine says of itself is not the last word.
    let may_come = |occupant: &Occupant| {
        let is_busy = occupant.idle_since.is_none() && !occupant.is_pinned;
        occupant.is_ending || occupant.is_loading || is_busy
    };
    match fits(&staying) {
        (true, false) if occupants.iter().any(may_come) => Room::Busy,
        (true, _) if gone.is_empty() => Room::There,
        (true, _) => Room::After(gone),
        (false, _) => Room::Busy,
    }
}

/// Which models go because those that are loaded are more than may be, by an edit or since one took more than was estimated;
/// and the bytes that all others take where that is still more than the budget.
pub fn overrun(occupants: &[Occupant], shared: Shared) -> (Vec<Edition>, Option<u64>) {
    let staying = occupants.iter().filter(|occupant| !occupant.is_ending);
    let mut staying: Vec<&Occupant> = staying.collect();
    let mut memory = together(staying.iter().copied(), None);
    let max_loaded = shared.max_loaded.unwrap_or(usize::MAX);
    let mut gone = Vec::new();
    for occupant in longest_idle_first(occupants) {
        if memory <= shared.budget && staying.len() <= max_loaded {
            break;
        }
        staying.retain(|other| other.model != occupant.model);
        memory = together(staying.iter().copied(), None);
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

/// Returns the bytes that `occupants` and `newcomer` take together.
fn together<'a>(
    occupants: impl IntoIterator<Item = &'a Occupant>,
    newcomer: Option<Footprint>,
) -> u64 {
    let occupants = occupants.into_iter().map(|occupant| occupant.memory);
    sum(occupants.chain(newcomer))
}

/// Refuses a model that needs `need`; together with the pinned models it would take `with_pinned` bytes.
fn never(need: Demand, with_pinned: u64, shared: Shared) -> Room {
    let total = need.footprint.total;
    let held = with_pinned.saturating_sub(total);
    let pinned = match held {
        0 => String::new(),
        bytes => format!(", of which pinned models hold {}", human(bytes)),
    };
    let cause = format!(
        "the model needs {}, and all models together may take {}{pinned}",
        human(total),
        human(shared.budget)
    );
    Room::Never(cause, way_out(need, held, shared))
}

/// Returns the advice for a model that needs `need` while pinned models hold `held` bytes. It names only what can help.
pub(super) fn way_out(need: Demand, held: u64, shared: Shared) -> String {
    let Demand { footprint, least } = need;
    let left = shared.budget.saturating_sub(held);
    let mut ways = if least <= left {
        "choose a smaller `n_ctx` or quantization".to_owned()
    } else {
        "choose a smaller model or quantization".to_owned()
    };
    if held > 0 && footprint.total <= shared.budget {
        ways.push_str(", or pin fewer models");
    }
    ways.push_str(raised_budget(footprint.total.saturating_add(held), shared));
    ways
}

/// Returns the advice to raise the budget, as the end of a sentence; empty if the machine has less than `bytes`.
pub(super) fn raised_budget(bytes: u64, shared: Shared) -> &'static str {
    if bytes <= shared.machine {
        ", or raise `memory_budget` in `[registry]`"
    } else {
        ""
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::gguf::FileId;
    use crate::registry::footprint::Mapped;

    const A: Edition = 1;
    const B: Edition = 2;
    const C: Edition = 3;

    fn occupant(model: Edition, memory: u64, idle_for: Option<u64>, now: Instant) -> Occupant {
        Occupant {
            model,
            memory: Footprint::alone(memory),
            idle_since: idle_for.map(|seconds| now - Duration::from_secs(seconds)),
            is_pinned: false,
            is_ending: false,
            is_loading: false,
        }
    }

    const SHARED: Shared = Shared {
        budget: 100,
        machine: 110,
        max_loaded: None,
    };

    fn room_for(need: u64, occupants: &[Occupant], shared: Shared, free: Option<u64>) -> Room {
        super::room_for(Demand::alone(need), occupants, shared, free)
    }

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
        let pinned = Occupant::pinned(A, Footprint::alone(50));
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
    fn a_hint_names_only_what_can_help() {
        let of = |total, least, held| {
            let footprint = Footprint::alone(total);
            way_out(Demand { footprint, least }, held, SHARED)
        };
        assert_eq!(
            of(105, 20, 0),
            "choose a smaller `n_ctx` or quantization, or raise `memory_budget` in `[registry]`"
        );
        // More than the machine has, with any context.
        assert_eq!(of(120, 115, 0), "choose a smaller model or quantization");
        assert_eq!(
            of(90, 60, 50),
            "choose a smaller model or quantization, or pin fewer models"
        );
    }

    #[test]
    fn weights_of_a_file_are_counted_once_for_all_models_that_map_it() {
        let now = Instant::now();
        let mapped = Some(Mapped {
            file: FileId::numbered(1),
            bytes: 40,
            is_locked: false,
        });
        let sharing = |total| Footprint { total, mapped };
        let one = |idle_for| Occupant {
            memory: sharing(60),
            ..occupant(A, 0, idle_for, now)
        };
        let need = |total| Demand {
            footprint: sharing(total),
            least: total,
        };
        let room =
            |total, idle_for, free| super::room_for(need(total), &[one(idle_for)], SHARED, free);
        assert_eq!(room(80, None, None), Room::There);
        assert_eq!(room(81, None, None), Room::Busy);
        // The file is already in memory: 40 more are needed beside the 40 of the file, which count as free.
        assert_eq!(room(80, None, Some(80)), Room::There);
        assert_eq!(room(80, None, Some(79)), Room::Busy);
        // Unloading the idle model frees only the memory that it does not share.
        assert_eq!(room(80, Some(1), Some(60)), after(&[A]));
        assert_eq!(room_for(80, &[one(None)], SHARED, None), Room::Busy);
    }

    #[test]
    fn mapped_weights_in_use_are_not_free_unless_they_are_locked() {
        let now = Instant::now();
        let room = |is_locked, free| {
            let mapped = Some(Mapped {
                file: FileId::numbered(1),
                bytes: 40,
                is_locked,
            });
            let memory = Footprint { total: 40, mapped };
            let busy = Occupant {
                memory,
                ..occupant(A, 0, None, now)
            };
            room_for(40, &[busy], SHARED, Some(free))
        };
        // Other programs take 30 of 100 bytes, and the file counts as free.
        assert_eq!(room(false, 70), Room::Busy);
        assert_eq!(room(false, 80), Room::There);
        assert_eq!(room(true, 40), Room::There);
        assert_eq!(room(true, 39), Room::Busy);
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
        let beyond = |budget, max_loaded| {
            let shared = Shared {
                budget,
                max_loaded,
                ..SHARED
            };
            overrun(&occupants, shared)
        };
        assert_eq!(beyond(120, None), (vec![], None));
        assert_eq!(beyond(100, None), (vec![B], None));
        assert_eq!(beyond(50, None), (vec![B, A], Some(60)));
        assert_eq!(beyond(120, Some(2)), (vec![B], None));
    }
}
