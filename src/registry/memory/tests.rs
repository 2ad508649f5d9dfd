use super::*;
use crate::backend::local::memory::tests::{ALL, load, planned};
use crate::config::{LoadSettings, ModelFiles};

const MIB: u64 = 1 << 20;

fn shared(gpu: Option<u64>) -> SharedLimits {
    SharedLimits {
        budget: 1 << 40,
        machine: 1 << 40,
        max_loaded: None,
        gpu,
    }
}

#[test]
fn a_model_that_a_gpu_cannot_hold_is_refused_with_the_layers_that_fit() {
    let enough = planned(&load(), ALL, 1 << 40, Some(1 << 40));
    assert_eq!(refusal(&enough, "m", shared(Some(1 << 40))), None);
    let long = LoadSettings {
        parallel: 1,
        ..load()
    };
    let there = planned(&long, ALL, 1 << 40, Some(1 << 40)).gpu.total() - 1;
    let need = planned(&long, ALL, 1 << 40, Some(there));
    let MemoryRefusal { message, hint, .. } = refusal(&need, "m", shared(Some(there))).unwrap();
    let needed = human(need.gpu.total());
    assert!(
        message.starts_with(&format!(
            "the model `m` needs {needed} of GPU memory, of which "
        )),
        "{message}"
    );
    let fits = format!(
        "`n_gpu_layers = {}`, which fits, of 4 layers",
        need.fitting_layers
    );
    assert!(hint.contains(&fits) && need.fitting_layers < ALL, "{hint}");
}

#[test]
fn a_refusal_names_the_cache_if_it_is_too_large_for_a_gpu() {
    let long = LoadSettings {
        parallel: 1,
        cache_type_k: crate::config::file::CacheType::F32,
        cache_type_v: crate::config::file::CacheType::F32,
        n_batch: 1,
        ..load()
    };
    let need = planned(&long, ALL, 1 << 40, Some(MIB));
    let MemoryRefusal { key, message, hint } = refusal(&need, "m", shared(Some(MIB))).unwrap();
    assert!(
        need.gpu.cache > need.gpu.weights.max(need.gpu.compute),
        "{need:?}"
    );
    assert_eq!(key, "n_ctx");
    assert!(message.contains("its cache takes") && hint.contains("`cache_type_k`"));
}

#[test]
fn a_model_whose_files_cannot_be_read_gets_the_memory_that_earlier_pinned_models_leave() {
    let config = crate::registry::tests::config(&["a", "b", "c"]);
    let (registry, mut models) = (config.registry, config.models);
    for model in &mut models {
        model.pin = model.name != "c";
        if model.name != "b" {
            model.gguf_mut().files = ModelFiles::read(&LoadSettings::default());
        }
    }
    let planned = plan(&models, &BTreeMap::new(), 1 << 40, &registry);
    let taken = planned[1].need.as_ref().unwrap().estimate.total();
    assert!(planned[0].need.is_err() && planned[2].need.is_err());
    let left: Vec<u64> = planned.iter().map(|one| one.allowance.machine).collect();
    assert_eq!(left, [1 << 40, 1 << 40, (1 << 40) - taken]);
}
