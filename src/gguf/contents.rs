//! The metadata of a file, as far as it is kept: the keys, and a bound on their sum.

use std::collections::HashMap;

use super::fault::{Fault, Read1};
use super::weights::Weights;

/// The contents of a file, as far as they are of use.
#[derive(Debug, Default)]
pub(super) struct Contents {
    values: HashMap<String, Value>,
    /// Bytes that `values` take, about.
    kept: usize,
    /// Bytes of the tensors' data.
    pub(super) tensor_bytes: u64,
    /// Bytes of `tensor_bytes` that llama.cpp uses directly from the mapped file.
    pub(super) mapped_bytes: u64,
    /// Bytes of the tensors, by layer.
    pub(super) weights: Weights,
    /// Number of tensors.
    pub(super) tensors: u64,
}

/// A metadata value, as far as it is of use here.
#[derive(Debug)]
pub(super) enum Value {
    Number(u64),
    Text(String),
    /// A text that is too long to be kept.
    LongText,
    /// A short array of whole numbers.
    Numbers(Vec<u64>),
    /// The length of any other array.
    Length(u64),
    Other,
}

const CHAT_TEMPLATE: &str = "tokenizer.chat_template";

/// Keys that are kept; `*` stands for the architecture.
const KEPT: [&str; 25] = [
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
    "*.pooling_type",
    "*.attention.causal",
    "*.attention.head_count",
    "*.attention.head_count_kv",
    "*.attention.key_length",
    "*.attention.value_length",
    "*.attention.sliding_window",
    "*.attention.sliding_window_pattern",
    "*.attention.chunk_size",
    "*.ssm.conv_kernel",
    "*.shortconv.l_cache",
    "*.wkv.head_size",
    "*.block_count",
    "*.expert_count",
];

/// The same, widths and lengths.
const KEPT_SIZES: [&str; 3] = [
    "*.context_length",
    "*.embedding_length",
    "*.feed_forward_length",
];

/// Whether the value of `key` is of use.
pub(super) fn is_kept(key: &str) -> bool {
    KEPT.iter()
        .chain(&KEPT_SIZES)
        .any(|kept| match kept.strip_prefix('*') {
            Some(suffix) => key.ends_with(suffix),
            None => key == *kept,
        })
}

/// More layers than llama.cpp takes: the longest array that is kept.
pub(super) const MAX_NUMBERS: u64 = 1024;

/// Most bytes that are kept. What a `*` stands for is not known while the file is read, so any number of keys may match.
const MAX_KEPT: usize = 2 << 20;

impl Value {
    /// Bytes of memory that it takes.
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
    /// Takes in a value. Errors: there is too much, or the key is there already.
    pub(super) fn keep(&mut self, key: String, value: Value) -> Read1<()> {
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
    pub(super) fn chat_template(&self) -> Read1<Option<&str>> {
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

    /// A number for each of `count` layers; one that is told once counts for all.
    pub(super) fn of_layers(&self, key: &str, count: usize) -> Option<Vec<u64>> {
        match self.values.get(key)? {
            Value::Number(number) => Some(vec![*number; count]),
            Value::Numbers(numbers) => Some(numbers.clone()),
            _ => None,
        }
    }

    /// The number at `key`, or all of them.
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
