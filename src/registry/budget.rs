//! Decides which idle models to evict so that another one fits. Pure.

use tokio::time::Instant;

use super::ids::Edition;
use crate::backend::footprint::{Demand, Footprint, counted_as_free, sum, sum_on_gpu};
use crate::config::units::human;

/// Limits that all models share.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SharedLimits {
    /// Bytes that all models together may take.
    pub budget: u64,
    /// Memory of the machine or container, in bytes: the upper limit for `budget`.
    pub machine: u64,
    /// Maximum number of loaded models; `None` means no limit.
    pub max_loaded: Option<usize>,
    /// Bytes of all GPUs' own memory; `None` if there is none or it is unknown.
    pub gpu: Option<u64>,
}

/// A model that takes memory.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Occupant {
    /// Edition of the model.
    pub model: Edition,
    /// Memory that the model takes.
    pub memory: Footprint,
    /// Time at which its last lease ended; `None` if the model must not be evicted.
    pub idle_since: Option<Instant>,
    /// Whether the model is pinned, so that it is never evicted.
    pub is_pinned: bool,
    /// Whether the model's process is ending.
    pub is_ending: bool,
    /// Whether the model is loading. The machine's free memory still includes the memory that it will take.
    pub is_loading: bool,
}

impl Occupant {
    /// Returns a loaded model that is never evicted.
    pub(crate) fn pinned(model: Edition, memory: Footprint) -> Self {
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

/// Whether there is room to load a model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Room {
    /// Room is available now.
    Available,
    /// Room becomes available once these idle models are evicted.
    AfterEviction(Vec<Edition>),
    /// Room becomes available once running calls or ending processes have finished.
    Busy,
    /// Room can never become available.
    Never(NeverFits),
}

/// Reason why a model can never have room.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{cause}; {hint}")]
pub(crate) struct NeverFits {
    /// Memory that the model needs, and the limit.
    pub cause: String,
    /// Advice for the operator.
    pub hint: String,
}

/// Finds room for a model that needs `need` among `occupants`. `free` is the free memory of the machine or container. If it is too little,
/// idle models are evicted, but a single model is loaded regardless of `free`, since estimates can be wrong.
pub(crate) fn room_for(
    need: Demand,
    occupants: &[Occupant],
    shared: SharedLimits,
    free: Option<u64>,
) -> Room {
    if let Some(never) = never_fits(need, occupants, shared) {
        return Room::Never(never);
    }
    let limits = FitCheck::new(need.footprint, occupants, shared, free);
    let mut staying: Vec<&Occupant> = occupants.iter().collect();
    let mut evicted = Vec::new();
    let mut fit = limits.fit(&staying);
    for occupant in longest_idle_first(occupants) {
        if fit == Fit::Fits {
            break;
        }
        staying.retain(|other| other.model != occupant.model);
        evicted.push(occupant.model);
        fit = limits.fit(&staying);
    }
    let will_free_memory = |occupant: &Occupant| {
        let is_busy = occupant.idle_since.is_none() && !occupant.is_pinned;
        occupant.is_ending || occupant.is_loading || is_busy
    };
    match fit {
        Fit::ExceedsLimits => Room::Busy,
        Fit::LacksFreeMemory if occupants.iter().any(will_free_memory) => Room::Busy,
        // No other model can free memory.
        Fit::LacksFreeMemory | Fit::Fits if evicted.is_empty() => Room::Available,
        Fit::LacksFreeMemory | Fit::Fits => Room::AfterEviction(evicted),
    }
}

/// Returns why a model that needs `need` can never have room next to the pinned ones of `occupants`; `None` if it can.
fn never_fits(need: Demand, occupants: &[Occupant], shared: SharedLimits) -> Option<NeverFits> {
    let pinned = occupants.iter().filter(|occupant| occupant.is_pinned);
    let with_pinned = together(pinned.clone(), Some(need.footprint));
    if with_pinned > shared.budget {
        return Some(never(need, with_pinned, shared));
    }
    let with_pinned = together_on_gpu(pinned.clone(), need.footprint);
    if let Some(gpu) = shared.gpu.filter(|gpu| with_pinned > *gpu) {
        return Some(never_on_gpu(need.footprint.gpu, with_pinned, gpu));
    }
    let max_loaded = shared.max_loaded.filter(|most| pinned.count() >= *most)?;
    Some(NeverFits {
        cause: format!("pinned models already fill `max_loaded` ({max_loaded})"),
        hint: "raise `max_loaded`, or pin fewer models".into(),
    })
}

/// Whether a model fits next to others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fit {
    /// The model fits.
    Fits,
    /// The configured limits allow the model, but the machine has too little free memory.
    LacksFreeMemory,
    /// The model exceeds a configured limit, or the memory of the GPUs.
    ExceedsLimits,
}

/// Limits and free memory against which [`Self::fit`] checks a model that is to be loaded.
struct FitCheck {
    need: Footprint,
    shared: SharedLimits,
    /// Bytes that the model and those that stay may take together: the free memory, and the memory of all occupants. `None` if it is unknown.
    machine: Option<u64>,
}

impl FitCheck {
    /// Creates the check for a model that takes `need`, from the `free` memory of the machine or container.
    fn new(
        need: Footprint,
        occupants: &[Occupant],
        shared: SharedLimits,
        free: Option<u64>,
    ) -> Self {
        let all = together(occupants, None);
        let loaded = occupants.iter().filter(|occupant| !occupant.is_loading);
        let taken_soon = all.saturating_sub(together(loaded.clone(), None));
        // The system counts mapped weights as free memory, but a model becomes slow if its weights are dropped from memory.
        let in_use = counted_as_free(loaded.map(|occupant| occupant.memory));
        let free = free.map(|free| free.saturating_sub(taken_soon.saturating_add(in_use)));
        Self {
            need,
            shared,
            machine: free.map(|free| free.saturating_add(all)),
        }
    }

    /// Returns whether the model fits next to those that are `staying`.
    fn fit(&self, staying: &[&Occupant]) -> Fit {
        let SharedLimits {
            budget,
            max_loaded,
            gpu,
            ..
        } = self.shared;
        // The memory of the models that stay is already in use, including weights that they share with the new model.
        let taken = together(staying.iter().copied(), Some(self.need));
        let on_gpu = together_on_gpu(staying.iter().copied(), self.need);
        let is_allowed = taken <= budget
            && gpu.is_none_or(|gpu| on_gpu <= gpu)
            && max_loaded.is_none_or(|most| staying.len() < most);
        if !is_allowed {
            Fit::ExceedsLimits
        } else if self.machine.is_some_and(|machine| taken > machine) {
            Fit::LacksFreeMemory
        } else {
            Fit::Fits
        }
    }
}

/// Result of checking loaded models against the limits.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Overrun {
    /// Idle models to evict, least recently used first.
    pub evicted: Vec<Edition>,
    /// Bytes that the remaining models take; `None` if that is within the budget.
    pub over_budget: Option<u64>,
}

/// Checks loaded models against the limits `shared`. Loaded models can exceed the limits if an edit lowers the limits, or if a
/// model takes more memory than estimated.
pub(crate) fn overrun(occupants: &[Occupant], shared: SharedLimits) -> Overrun {
    let staying = occupants.iter().filter(|occupant| !occupant.is_ending);
    let mut staying: Vec<&Occupant> = staying.collect();
    let mut memory = together(staying.iter().copied(), None);
    let max_loaded = shared.max_loaded.unwrap_or(usize::MAX);
    let mut evicted = Vec::new();
    for occupant in longest_idle_first(occupants) {
        if memory <= shared.budget && staying.len() <= max_loaded {
            break;
        }
        staying.retain(|other| other.model != occupant.model);
        memory = together(staying.iter().copied(), None);
        evicted.push(occupant.model);
    }
    Overrun {
        evicted,
        over_budget: Some(memory).filter(|memory| *memory > shared.budget),
    }
}

/// Returns the occupants that may be evicted, least recently used first.
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

/// Returns the bytes of GPU memory that `occupants` and `newcomer` take together.
fn together_on_gpu<'a>(
    occupants: impl IntoIterator<Item = &'a Occupant>,
    newcomer: Footprint,
) -> u64 {
    let occupants = occupants.into_iter().map(|occupant| occupant.memory);
    sum_on_gpu(occupants.chain([newcomer]))
}

/// Refuses a model that needs `need` bytes of GPU memory; together with the pinned models it would take `with_pinned` bytes.
fn never_on_gpu(need: u64, with_pinned: u64, gpu: u64) -> NeverFits {
    let (pinned, hint) = match with_pinned.saturating_sub(need) {
        0 => (String::new(), ""),
        bytes => (
            format!(", of which pinned models hold {}", human(bytes)),
            ", or pin fewer models",
        ),
    };
    let cause = format!(
        "the model needs {} of GPU memory, and the GPUs have {}{pinned}",
        human(need),
        human(gpu)
    );
    let hint = format!("choose a smaller `n_gpu_layers`, `n_ctx` or quantization{hint}");
    NeverFits { cause, hint }
}

/// Refuses a model that needs `need`; together with the pinned models it would take `with_pinned` bytes.
fn never(need: Demand, with_pinned: u64, shared: SharedLimits) -> NeverFits {
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
    let hint = advice(need, held, shared);
    NeverFits { cause, hint }
}

/// Returns the advice for a model that needs `need` while pinned models hold `held` bytes. It names only what can help.
pub(super) fn advice(need: Demand, held: u64, shared: SharedLimits) -> String {
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
pub(super) fn raised_budget(bytes: u64, shared: SharedLimits) -> &'static str {
    if bytes <= shared.machine {
        ", or raise `memory_budget` in `[registry]`"
    } else {
        ""
    }
}

#[cfg(test)]
mod tests;
