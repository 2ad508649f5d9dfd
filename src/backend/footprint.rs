//! Memory that one model takes, or several together. Pure.

use std::collections::BTreeMap;

use crate::gguf::FileId;

/// Memory that a model takes, of the machine and of GPUs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Footprint {
    /// All of the machine's memory that the model takes, in bytes.
    pub total: u64,
    /// The part of `total` that other models can share; `None` if there is none.
    pub mapped: Option<Mapped>,
    /// Bytes of GPUs' own memory, in addition to `total`.
    pub gpu: u64,
}

/// Weights in a mapped file. The kernel keeps one copy for all processes that map it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Mapped {
    /// Identity of the mapped file.
    pub file: FileId,
    /// Mapped bytes of the file.
    pub bytes: u64,
    /// Whether the pages are locked (`mlock`). The system counts locked pages as taken, and other pages of files as free.
    pub is_locked: bool,
}

/// Memory that a model needs before it can be loaded.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Demand {
    /// Memory that the model takes as configured.
    pub footprint: Footprint,
    /// Bytes that the model would take with the smallest context.
    pub least: u64,
}

impl Footprint {
    /// Returns a footprint of `total` bytes without a shared part.
    pub(crate) fn alone(total: u64) -> Self {
        Self {
            total,
            mapped: None,
            gpu: 0,
        }
    }

    fn private(self) -> u64 {
        let mapped = self.mapped.map_or(0, |mapped| mapped.bytes);
        self.total.saturating_sub(mapped)
    }
}

impl Demand {
    /// Returns a demand of `total` bytes without a shared part, which no smaller context reduces.
    #[cfg(test)]
    pub(crate) fn alone(total: u64) -> Self {
        Self {
            footprint: Footprint::alone(total),
            least: total,
        }
    }
}

/// Returns the bytes that `footprints` take together. A file that several of them map counts once.
pub(crate) fn sum(footprints: impl IntoIterator<Item = Footprint>) -> u64 {
    let mut private = 0_u64;
    let footprints = footprints.into_iter();
    let counted = footprints.inspect(|one| private = private.saturating_add(one.private()));
    files_of(counted, |_| true).saturating_add(private)
}

/// Returns the bytes of `footprints` that the system counts as free although they are in use: those of mapped files. A file that several
/// of them map counts once.
pub(crate) fn counted_as_free(footprints: impl IntoIterator<Item = Footprint>) -> u64 {
    files_of(footprints, |mapped| !mapped.is_locked)
}

/// Returns the mapped bytes of `footprints` that `counts` selects; each file counts once.
fn files_of(
    footprints: impl IntoIterator<Item = Footprint>,
    counts: impl Fn(&Mapped) -> bool,
) -> u64 {
    let mut files = BTreeMap::<FileId, u64>::new();
    for footprint in footprints {
        if let Some(Mapped { file, bytes, .. }) = footprint.mapped.filter(&counts) {
            let known = files.entry(file).or_default();
            *known = bytes.min(footprint.total).max(*known);
        }
    }
    files.into_values().fold(0, u64::saturating_add)
}

/// Returns the bytes of GPU memory that `footprints` take together. Each process has its own copy there.
pub(crate) fn sum_on_gpu(footprints: impl IntoIterator<Item = Footprint>) -> u64 {
    let bytes = footprints.into_iter().map(|footprint| footprint.gpu);
    bytes.fold(0, u64::saturating_add)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_several_models_map_counts_once() {
        let mapping = |number, total| Footprint {
            total,
            mapped: Some(Mapped {
                file: FileId::numbered(number),
                bytes: 30,
                is_locked: false,
            }),
            gpu: 0,
        };
        assert_eq!(sum([mapping(1, 40), mapping(1, 50)]), 60);
        assert_eq!(
            sum([mapping(1, 40), mapping(2, 50), Footprint::alone(7)]),
            97
        );
        assert_eq!(sum([]), 0);
        assert_eq!(sum([Footprint::alone(u64::MAX), mapping(1, 40)]), u64::MAX);
    }
}
