use std::time::Duration;

use super::*;
use crate::backend::footprint::Mapped;
use crate::gguf::FileId;

const A: Edition = Edition(1);
const B: Edition = Edition(2);
const C: Edition = Edition(3);

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

const SHARED: SharedLimits = SharedLimits {
    budget: 100,
    machine: 110,
    max_loaded: None,
    gpu: None,
};

fn room_for(need: u64, occupants: &[Occupant], shared: SharedLimits, free: Option<u64>) -> Room {
    super::room_for(Demand::alone(need), occupants, shared, free)
}

fn after(models: &[Edition]) -> Room {
    Room::AfterEviction(models.to_vec())
}

#[test]
fn the_longest_idle_model_is_evicted_first_and_no_more_than_needed() {
    let now = Instant::now();
    let occupants = [
        occupant(A, 30, Some(5), now),
        occupant(B, 30, Some(9), now),
        occupant(C, 30, None, now),
    ];
    assert_eq!(room_for(10, &occupants, SHARED, None), Room::Available);
    assert_eq!(room_for(30, &occupants, SHARED, None), after(&[B]));
    assert_eq!(room_for(60, &occupants, SHARED, None), after(&[B, A]));
    assert_eq!(room_for(80, &occupants, SHARED, None), Room::Busy);
    assert!(matches!(
        room_for(101, &occupants, SHARED, None),
        Room::Never(_)
    ));
}

#[test]
fn pinned_models_are_never_evicted_and_their_memory_is_not_available() {
    let pinned = Occupant::pinned(A, Footprint::alone(50));
    assert_eq!(room_for(50, &[pinned], SHARED, None), Room::Available);
    let Room::Never(NeverFits { cause, .. }) = room_for(51, &[pinned], SHARED, None) else {
        panic!("it can never fit")
    };
    assert_eq!(
        cause,
        "the model needs 51 B, and all models together may take 100 B, of which pinned models hold 50 B"
    );
}

#[test]
fn gpu_memory_is_counted_separately_from_the_machines() {
    let now = Instant::now();
    let on_gpu = |gpu| Footprint {
        gpu,
        ..Footprint::alone(10)
    };
    let shared = SharedLimits {
        gpu: Some(50),
        ..SHARED
    };
    let room = |gpu, idle_for, is_pinned| {
        let loaded = Occupant {
            memory: on_gpu(30),
            is_pinned,
            ..occupant(A, 0, idle_for, now)
        };
        let footprint = on_gpu(gpu);
        let need = Demand {
            footprint,
            least: 10,
        };
        super::room_for(need, &[loaded], shared, None)
    };
    assert_eq!(room(20, None, false), Room::Available);
    assert_eq!(room(21, None, false), Room::Busy);
    assert_eq!(room(21, Some(1), false), after(&[A]));
    let Room::Never(NeverFits { cause, hint }) = room(21, None, true) else {
        panic!("it can never fit")
    };
    assert_eq!(
        cause,
        "the model needs 21 B of GPU memory, and the GPUs have 50 B, of which pinned models hold 30 B"
    );
    assert!(
        hint.contains("`n_gpu_layers`") && hint.contains("pin fewer"),
        "{hint}"
    );
    assert!(matches!(room(51, None, false), Room::Never(_)));
}

#[test]
fn advice_is_given_only_if_it_can_help() {
    let advice = |total, least, held| {
        let footprint = Footprint::alone(total);
        advice(Demand { footprint, least }, held, SHARED)
    };
    assert_eq!(
        advice(105, 20, 0),
        "choose a smaller `n_ctx` or quantization, or raise `memory_budget` in `[registry]`"
    );
    // More than the machine has, with any context.
    assert_eq!(
        advice(120, 115, 0),
        "choose a smaller model or quantization"
    );
    assert_eq!(
        advice(90, 60, 50),
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
    let sharing = |total| Footprint {
        mapped,
        ..Footprint::alone(total)
    };
    let one = |idle_for| Occupant {
        memory: sharing(60),
        ..occupant(A, 0, idle_for, now)
    };
    let need = |total| Demand {
        footprint: sharing(total),
        least: total,
    };
    let room = |total, idle_for, free| super::room_for(need(total), &[one(idle_for)], SHARED, free);
    assert_eq!(room(80, None, None), Room::Available);
    assert_eq!(room(81, None, None), Room::Busy);
    // The file is already in memory. The model needs 40 more bytes, and the system counts the 40 bytes of the file as free.
    assert_eq!(room(80, None, Some(80)), Room::Available);
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
        let busy = Occupant {
            memory: Footprint {
                mapped,
                ..Footprint::alone(40)
            },
            ..occupant(A, 0, None, now)
        };
        room_for(40, &[busy], SHARED, Some(free))
    };
    // Other programs take 30 of 100 bytes, and the system counts the file as free.
    assert_eq!(room(false, 70), Room::Busy);
    assert_eq!(room(false, 80), Room::Available);
    assert_eq!(room(true, 40), Room::Available);
    assert_eq!(room(true, 39), Room::Busy);
}

#[test]
fn at_most_max_loaded_models_are_loaded_at_once() {
    let now = Instant::now();
    let shared = SharedLimits {
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
fn idle_models_are_evicted_if_free_memory_is_short_but_a_single_model_is_loaded_anyway() {
    let now = Instant::now();
    let occupants = [occupant(A, 10, Some(1), now)];
    assert_eq!(room_for(20, &occupants, SHARED, Some(15)), after(&[A]));
    assert_eq!(room_for(20, &[], SHARED, Some(15)), Room::Available);
}

#[test]
fn memory_that_a_loading_model_will_take_is_not_free() {
    let now = Instant::now();
    let loading = Occupant {
        is_loading: true,
        ..occupant(A, 30, None, now)
    };
    assert_eq!(room_for(20, &[loading], SHARED, Some(50)), Room::Available);
    assert_eq!(room_for(20, &[loading], SHARED, Some(49)), Room::Busy);
}

#[test]
fn idle_models_are_evicted_if_a_model_takes_more_than_estimated() {
    let now = Instant::now();
    let occupants = [
        occupant(A, 30, Some(1), now),
        occupant(B, 30, Some(9), now),
        occupant(C, 60, None, now),
    ];
    let overrun_of = |budget, max_loaded| {
        let shared = SharedLimits {
            budget,
            max_loaded,
            ..SHARED
        };
        let Overrun {
            evicted,
            over_budget,
        } = overrun(&occupants, shared);
        (evicted, over_budget)
    };
    assert_eq!(overrun_of(120, None), (vec![], None));
    assert_eq!(overrun_of(100, None), (vec![B], None));
    assert_eq!(overrun_of(50, None), (vec![B, A], Some(60)));
    assert_eq!(overrun_of(120, Some(2)), (vec![B], None));
}
