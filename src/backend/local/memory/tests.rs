use std::path::Path;

use proptest::prelude::*;

use super::*;
use crate::config::LoadSettings;
use crate::engine::limits::Limits;

const MIB: u64 = 1 << 20;

/// All layers of the tiny model, with the output layer counted as one.
pub(crate) const ALL: u64 = 4;

pub(crate) fn load() -> LoadSettings {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/models");
    LoadSettings {
        path: folder.join("tiny-crab-chat.Q8_0.gguf"),
        ..LoadSettings::default()
    }
}

/// Plans the tiny model, which has 3 layers.
pub(crate) fn planned(
    load: &LoadSettings,
    gpu_layers: u64,
    machine: u64,
    gpu: Option<u64>,
) -> Need {
    let files = ModelFiles::read(load).unwrap();
    let allowance = Allowance { machine, gpu };
    let planner = Planner {
        load,
        files: &files,
        allowance,
        gpu_layers,
        shared_prefix_bytes: 0,
    };
    planner.need()
}

#[test]
fn a_gpu_without_its_own_memory_takes_the_machines() {
    let need = planned(&load(), ALL, 1 << 40, None);
    assert_eq!(
        (need.gpu.total(), need.gpu_layers, need.layers),
        (0, ALL, ALL)
    );
    assert!(need.estimate.weights > 0 && need.estimate.cache > 0);
}

#[test]
fn on_a_gpu_weights_and_cache_take_no_memory_of_the_machine() {
    let (none, all) = (
        planned(&load(), 0, 1 << 40, Some(1 << 40)),
        planned(&load(), 99, 1 << 40, Some(1 << 40)),
    );
    assert_eq!((none.gpu.total(), none.gpu_layers), (0, 0));
    assert_eq!((all.gpu.cache, all.gpu_layers), (none.estimate.cache, ALL));
    assert_eq!(all.estimate.cache, 0);
    assert!(all.estimate.weights < none.estimate.weights);
    assert_eq!(all.fitting_layers, ALL);
}

#[test]
fn the_cache_is_planned_for_the_side_with_less_room() {
    let wanted = planned(&load(), ALL, 1 << 40, Some(1 << 40));
    let fixed = wanted.gpu.total() - wanted.gpu.cache;
    let half = planned(&load(), ALL, 1 << 40, Some(fixed + wanted.gpu.cache / 2));
    assert!(half.kv_cells < wanted.kv_cells && half.kv_cells >= half.n_ctx);
    let machine = planned(&load(), 2, fixed + wanted.gpu.cache / 2, Some(1 << 40));
    assert!(machine.kv_cells < wanted.kv_cells, "{machine:?}");
}

/// Plans the tiny model with `n_gpu_layers = "auto"`.
fn planned_auto(load: &LoadSettings, gpu: Option<u64>) -> Need {
    let files = ModelFiles::read(load).unwrap();
    let planner = Planner {
        load,
        files: &files,
        allowance: Allowance {
            machine: 1 << 40,
            gpu,
        },
        gpu_layers: ALL,
        shared_prefix_bytes: 0,
    };
    planner.with_fitting_layers().need()
}

#[test]
fn auto_offloads_all_layers_if_they_fit_or_memory_is_shared() {
    assert_eq!(planned_auto(&load(), Some(1 << 40)).gpu_layers, ALL);
    assert_eq!(planned_auto(&load(), None).gpu_layers, ALL);
    assert_eq!(planned_auto(&load(), Some(0)).gpu_layers, 0);
}

#[test]
fn auto_prefers_a_layer_to_room_for_more_calls() {
    let alone = LoadSettings {
        parallel: 1,
        ..load()
    };
    let there = planned(&alone, ALL, 1 << 40, Some(1 << 40)).gpu.total() + MIB / 2;
    let need = planned_auto(&load(), Some(there));
    assert_eq!(need.gpu_layers, ALL);
    assert!(need.kv_cells < need.wanted_cells, "{need:?}");
}

proptest! {
    #[test]
    fn auto_offloads_what_fits(gpu in 0..32 * MIB, n_ctx in 0_u32..4096, parallel in 1_usize..5) {
        let load = LoadSettings { n_ctx, parallel, ..load() };
        let need = planned_auto(&load, Some(gpu));
        prop_assert!(need.gpu.total() <= gpu);
        // One more layer does not fit. If `n_ctx` is 0, room for a longer context may be the reason.
        let more = planned(&load, need.gpu_layers + 1, 1 << 40, Some(gpu));
        prop_assert!(n_ctx == 0 || need.gpu_layers == ALL || more.gpu.total() > gpu);
    }

    #[test]
    fn the_layers_that_fit_do_fit_and_one_more_does_not(gpu in 0..8 * MIB) {
        let load = LoadSettings { parallel: 1, ..load() };
        let need = planned(&load, ALL, 1 << 40, Some(gpu));
        prop_assert!(need.fitting_layers <= ALL);
        let gpu_memory = |layers| {
            let files = ModelFiles::read(&load).unwrap();
            let allowance = Allowance { machine: 1 << 40, gpu: Some(gpu) };
            let planner = Planner { load: &load, files: &files, allowance, gpu_layers: layers, shared_prefix_bytes: 0 };
            let limits = planner.plan_to_fit(planner.plan(Limits::requested(&load), None));
            planner.estimate(limits, need.kv_cells).gpu.total()
        };
        prop_assert!(gpu_memory(need.fitting_layers) <= gpu);
        prop_assert!(need.fitting_layers == ALL || gpu_memory(need.fitting_layers + 1) > gpu);
    }

    #[test]
    fn split_weights_take_at_least_as_much_as_unsplit_ones(layers in 0..=ALL) {
        let all = planned(&load(), 0, 1 << 40, Some(1 << 40));
        let some = planned(&load(), layers, 1 << 40, Some(1 << 40));
        prop_assert!(some.estimate.weights + some.gpu.weights >= all.estimate.weights);
        prop_assert!(some.gpu.total() == 0 || layers > 0);
    }
}
