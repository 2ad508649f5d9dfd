//! What the disk and the machine tell of a model before it is loaded.

use std::hash::{DefaultHasher, Hash, Hasher};

use super::Model;
use crate::config::ModelConfig;
use crate::memory;
use crate::registry::memory::{Need, need_of};
use crate::registry::residency::Stamp;

/// What a load is decided by.
pub(super) struct Look {
    pub(super) stamp: Stamp,
    /// Where its files are others than those that are known.
    pub(super) need: Option<Need>,
    /// Bytes that the machine has left.
    pub(super) free: Option<u64>,
}

pub(super) fn look(model: &Model) -> Look {
    let stamp = stamp_of(&model.config);
    // What is no model any more is told by its load.
    let read = || {
        let config = model.config.read_again().ok()?;
        Some(need_of(
            &config,
            &model.fixed.borrow(),
            model.need.allowance,
        ))
    };
    Look {
        stamp,
        need: if model.stamp == stamp { None } else { read() },
        free: memory::free(),
    }
}

/// Of the lengths and times of all files of `model`.
pub(super) fn stamp_of(model: &ModelConfig) -> Stamp {
    let mut hasher = DefaultHasher::new();
    for path in model.files() {
        let metadata = std::fs::metadata(path).ok();
        metadata
            .map(|metadata| (metadata.len(), metadata.modified().ok()))
            .hash(&mut hasher);
    }
    hasher.finish()
}
