//! The parts of split models, which are files of their own.

use std::path::{Path, PathBuf};

use super::contents::Contents;
use super::fault::Fault;
use super::{GgufError, error_for};

/// Returns the paths of the parts after the first (`llama.h: llama_split_path`).
pub(super) fn other_parts(path: &Path, contents: &Contents) -> Result<Vec<PathBuf>, GgufError> {
    let count = contents.number("split.count").unwrap_or(0);
    if count <= 1 {
        return Ok(Vec::new());
    }
    if count > u64::from(u16::MAX) {
        let fault = Fault::Malformed("it has more than 65,535 parts");
        return Err(error_for(path, fault));
    }
    let first = format!("-00001-of-{count:05}.gguf");
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let Some(prefix) = name
        .strip_suffix(&first)
        .filter(|_| contents.number("split.no") == Some(0))
    else {
        return Err(GgufError::NotTheFirstPart {
            path: path.into(),
            expected: first,
        });
    };
    Ok(part_paths(path, prefix, count).collect())
}

/// Derives the paths of the later parts of a split model from the path of its first part. Returns an empty list if `path` is not named
/// like a first part.
pub(crate) fn other_parts_of(path: &Path) -> Vec<PathBuf> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let split = || {
        let (first, count) = name.strip_suffix(".gguf")?.rsplit_once("-of-")?;
        let count = count.parse::<u16>().ok().filter(|_| count.len() == 5)?;
        Some((first.strip_suffix("-00001")?, count))
    };
    split().map_or_else(Vec::new, |(prefix, count)| {
        part_paths(path, prefix, count.into()).collect()
    })
}

fn part_paths(first: &Path, prefix: &str, count: u64) -> impl Iterator<Item = PathBuf> {
    (2..=count)
        .map(move |part| first.with_file_name(format!("{prefix}-{part:05}-of-{count:05}.gguf")))
}
