//! The sliding window of a model, and the layers that have it. Pure.

use super::contents::Contents;
use super::{CHUNKED, SLIDING_LAYERS};

/// A sliding window of attention.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SlidingWindow {
    /// Size of the window, in tokens.
    pub size: u64,
    /// For each layer, whether it has the window. Others attend to the whole context.
    pub layers: Vec<bool>,
}

/// Architectures with sliding windows whose files do not say which layers have one. In a pattern of n, every n-th layer has none
/// (`load_swa_pattern` in llama.cpp).
const PATTERNS: [(&str, usize); 8] = [
    ("gemma3", 6),
    ("gemma3n", 5),
    ("gemma2", 2),
    ("gpt-oss", 2),
    (CHUNKED, 4),
    ("cohere2", 4),
    ("exaone4", 4),
    ("olmo2", 4),
];

impl SlidingWindow {
    /// Returns the window of a model with `n_layer` layers. Returns `None` if it has none.
    pub(super) fn from_contents(
        contents: &Contents,
        architecture: &str,
        n_layer: usize,
    ) -> Option<Self> {
        let size = contents.number(&format!("{architecture}.attention.sliding_window"));
        Some(Self {
            size: size.filter(|size| *size > 0)?,
            layers: layers(contents, architecture, n_layer),
        })
    }
}

/// Returns for each of `n_layer` layers whether it has a window.
fn layers(contents: &Contents, architecture: &str, n_layer: usize) -> Vec<bool> {
    let key = format!("{architecture}.{SLIDING_LAYERS}");
    let number = contents.number(&key);
    if number.is_none()
        && let Some(layers) = contents.per_layer(&key, n_layer)
        && layers.len() > 1
    {
        return layers.iter().map(|has| *has != 0).collect();
    }
    let known = PATTERNS.iter().find(|(name, _)| *name == architecture);
    let pattern = number
        .and_then(|n| usize::try_from(n).ok())
        .or(known.map(|(_, n)| *n));
    match pattern {
        // Assume that no layer has a window: an estimate that is too high is safe.
        None | Some(0) => vec![false; n_layer],
        Some(n) => (0..n_layer).map(|layer| layer % n < n - 1).collect(),
    }
}
