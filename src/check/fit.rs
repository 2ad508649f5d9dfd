//! Checks that models fit into memory, alone and next to pinned or preloaded ones.

use crate::backend::Need;
use crate::backend::footprint::sum;
use crate::config::load::Layers;
use crate::config::{Config, FileFault, ModelConfig};
use crate::registry::budget::{NeverFits, Occupant, Room, SharedLimits, room_for};
use crate::registry::ids::Edition;
use crate::registry::memory::{MemoryRefusal, refusal};

/// Reports models that can never be loaded, either alone or next to the pinned models.
pub(super) fn check_memory(
    config: &Config,
    shared: SharedLimits,
    needs: &[Result<Need, FileFault>],
    layers: &mut Layers,
) {
    let models = || known_needs(config, needs);
    for (model, need) in models() {
        if let Some(MemoryRefusal { key, message, hint }) = refusal(need, &model.name, shared) {
            layers.problem_at(&model.address(key), message, Some(hint));
            continue;
        }
        let others = models().filter(|(other, _)| other.pin && other.name != model.name);
        let pinned: Vec<Occupant> = (0..)
            .zip(others)
            .map(|(number, (_, need))| Occupant::pinned(Edition(number), need.demand().footprint))
            .collect();
        if let Room::Never(never) = room_for(need.demand(), &pinned, shared, None) {
            let NeverFits { cause, hint } = never;
            let key = if model.pin { "pin" } else { "path" };
            let message = format!(
                "`{}` does not fit next to the pinned models: {cause}",
                model.name
            );
            layers.problem_at(&model.address(key), message, Some(hint));
        }
    }
    check_preloads(config, shared, needs, layers);
}

/// Reports preloaded models that do not fit together, since they would only evict each other.
fn check_preloads(
    config: &Config,
    shared: SharedLimits,
    needs: &[Result<Need, FileFault>],
    layers: &mut Layers,
) {
    let max_loaded = shared.max_loaded.unwrap_or(usize::MAX);
    let mut preloaded = Vec::new();
    for (model, need) in known_needs(config, needs).filter(|(model, _)| model.preload) {
        preloaded.push(need.demand().footprint);
        let (count, memory) = (preloaded.len(), sum(preloaded.iter().copied()));
        let hint = if count > max_loaded {
            "preload fewer, or raise `max_loaded`"
        } else if count == 1 || memory <= shared.budget {
            continue;
        } else if memory <= shared.machine {
            "preload fewer, or raise `memory_budget` in `[registry]`"
        } else {
            "preload fewer, or choose smaller models, `n_ctx` or `parallel`"
        };
        let message = "the preloaded models do not fit together".to_owned();
        return layers.problem_at(&model.address("preload"), message, Some(hint.into()));
    }
}

/// Returns the models whose memory need is known, each with its need.
fn known_needs<'a>(
    config: &'a Config,
    needs: &'a [Result<Need, FileFault>],
) -> impl Iterator<Item = (&'a ModelConfig, &'a Need)> {
    let models = config.models.iter().zip(needs);
    models.filter_map(|(model, need)| Some((model, need.as_ref().ok()?)))
}
