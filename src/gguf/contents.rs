//! The metadata of a file: the values that are kept, and a limit on their total size.

use std::collections::HashMap;

use super::fault::{Fault, ReadResult};
use super::weights::Weights;
use super::{RANGES, RECURRENT_STATES, SLIDING_LAYERS, WINDOW_SIZES};

/// The relevant contents of a file.
#[derive(Debug, Default)]
pub(super) struct Contents {
    values: HashMap<String, Value>,
    /// Approximate size of `values`, in bytes.
    kept: usize,
    /// Total size of the tensors, in bytes.
    pub(super) tensor_bytes: u64,
    /// Bytes of `tensor_bytes` that llama.cpp uses directly from the mapped file.
    pub(super) mapped_bytes: u64,
    /// Bytes of the tensors by layer.
    pub(super) weights: Weights,
    /// Number of tensors.
    pub(super) tensors: u64,
}

/// A metadata value, reduced to what is relevant.
#[derive(Debug)]
pub(super) enum Value {
    Number(u64),
    Text(String),
    /// A text that is too long to keep.
    LongText,
    /// A short array of integers.
    Numbers(Vec<u64>),
    /// The length of any other array.
    Length(u64),
    Other,
}

const CHAT_TEMPLATE: &str = "tokenizer.chat_template";

/// Keys whose values are kept.
const KEPT: [&str; 11] = [
    "general.architecture",
    "general.name",
    "general.finetune",
    "general.type",
    "general.alignment",
    "imatrix.chunk_count",
    "split.count",
    "split.no",
    CHAT_TEMPLATE,
    "tokenizer.ggml.model",
    "tokenizer.ggml.tokens",
];

/// Keys after the architecture whose values are kept, in addition to those of the tables that [`is_kept`] uses.
const KEPT_OF_ARCHITECTURE: [&str; 3] = ["pooling_type", "attention.causal", SLIDING_LAYERS];

/// Returns whether the value of `key` is kept. The architecture is unknown while the file is read, so any beginning may be one.
pub(super) fn is_kept(key: &str) -> bool {
    let is_of_architecture = |name: &str| {
        let architecture = key.strip_suffix(name);
        architecture.is_some_and(|architecture| architecture.ends_with('.'))
    };
    KEPT.contains(&key)
        || RANGES.iter().any(|(name, _)| is_of_architecture(name))
        || WINDOW_SIZES.into_iter().any(is_of_architecture)
        || RECURRENT_STATES.into_iter().any(is_of_architecture)
        || KEPT_OF_ARCHITECTURE.into_iter().any(is_of_architecture)
}

/// Maximum length of an array that is kept. llama.cpp supports fewer layers.
pub(super) const MAX_NUMBERS: u64 = 1024;

/// Maximum size of the values that are kept, in bytes. Any number of keys may differ only in the architecture.
const MAX_KEPT: usize = 2 << 20;

impl Value {
    /// Returns the memory that the value takes, in bytes.
    fn bytes(&self) -> usize {
        let outside = match self {
            Self::Text(text) => text.len(),
            Self::Numbers(numbers) => size_of_val(numbers.as_slice()),
            Self::Number(_) | Self::LongText | Self::Length(_) | Self::Other => 0,
        };
        size_of::<Self>() + outside
    }
}

impl Contents {
    /// Adds a value. Fails if the limit is exceeded, or if the key exists already.
    pub(super) fn insert(&mut self, key: String, value: Value) -> ReadResult<()> {
        self.kept += size_of::<String>() + key.len() + value.bytes();
        if self.kept > MAX_KEPT {
            return Err(Fault::Malformed("it has more than 2 MiB of metadata"));
        }
        match self.values.insert(key, value) {
            None => Ok(()),
            Some(_) => Err(Fault::Malformed("a key occurs twice")),
        }
    }

    pub(super) fn has(&self, key: &str) -> bool {
        self.values.contains_key(key)
    }

    pub(super) fn text(&self, key: &str) -> Option<&str> {
        match self.values.get(key) {
            Some(Value::Text(text)) => Some(text),
            _ => None,
        }
    }

    /// Returns the chat template as llama.cpp reads it, which ends at a NUL.
    pub(super) fn chat_template(&self) -> ReadResult<Option<&str>> {
        match self.values.get(CHAT_TEMPLATE) {
            Some(Value::Text(text)) => Ok(text.split('\0').next()),
            Some(Value::LongText) => {
                Err(Fault::Malformed("its chat template is longer than 1 MiB"))
            }
            _ => Ok(None),
        }
    }

    pub(super) fn number(&self, key: &str) -> Option<u64> {
        match self.values.get(key) {
            Some(Value::Number(number)) => Some(*number),
            _ => None,
        }
    }

    /// Returns a number for each of `count` layers. A single number applies to all layers.
    pub(super) fn per_layer(&self, key: &str, count: usize) -> Option<Vec<u64>> {
        match self.values.get(key)? {
            Value::Number(number) => Some(vec![*number; count]),
            Value::Numbers(numbers) => Some(numbers.clone()),
            _ => None,
        }
    }

    /// Returns the number or all numbers at `key`.
    pub(super) fn numbers(&self, key: &str) -> &[u64] {
        match self.values.get(key) {
            Some(Value::Number(number)) => std::slice::from_ref(number),
            Some(Value::Numbers(numbers)) => numbers,
            _ => &[],
        }
    }

    pub(super) fn length(&self, key: &str) -> Option<u64> {
        match self.values.get(key)? {
            Value::Length(length) => Some(*length),
            Value::Numbers(numbers) => Some(numbers.len() as u64),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_of_any_architecture_are_kept_but_no_longer_names_that_end_like_them() {
        for key in [
            "general.name",
            "llama.block_count",
            "a.b.attention.sliding_window",
            "rwkv.wkv.head_size",
        ] {
            assert!(is_kept(key), "{key}");
        }
        for key in ["block_count", "llama.x_block_count", "my.general.name"] {
            assert!(!is_kept(key), "{key}");
        }
    }
}
