//! Reads the headers of GGUF files without llama.cpp. The server needs them before it loads a model, and trusts none of their content.
//! The format is that of ggml's `docs/gguf.md`, versions 2 and 3, little-endian. Large arrays such as the vocabulary are skipped.
//!
//! ```text
//! let header = read_header(Path::new("tests/models/tiny-crab-chat.Q8_0.gguf"))?;
//! header.architecture                     // "llama"
//! header.estimate(run).machine.total()    // bytes of memory that a worker with the settings `run` needs
//! ```

mod contents;
mod error;
mod fault;
mod file_id;
mod kind;
pub(crate) mod memory;
mod reader;
mod sliding_window;
mod split;
mod tensor;
mod tuning;
mod weights;

use std::fs::File;
use std::io::{self, Read, Seek};
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use contents::Contents;
pub(crate) use error::GgufError;
use fault::{Fault, ReadResult};
pub(crate) use file_id::FileId;
pub(crate) use kind::FileKind;
use reader::Reader;
pub(crate) use sliding_window::SlidingWindow;
use split::other_parts;
pub(crate) use split::other_parts_of;
pub(crate) use tuning::Tuning;
use weights::MAX_LAYERS;
pub(crate) use weights::Weights;

use crate::printable::printable;

/// Maximum length of a text from a file that is shown to people or clients, in characters.
pub(crate) const MAX_SHOWN: usize = 64;

/// Facts about a model that are known without loading it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Header {
    /// `general.architecture`: letters, digits, `.`, `_` and `-`.
    pub architecture: String,
    /// `general.name`, as one printable line of at most [`MAX_SHOWN`] characters. People and the models of clients read it, so the author
    /// of a file must not be able to put more than a name there.
    pub name: Option<String>,
    /// Context length of the training, in tokens.
    pub n_ctx_train: Option<u64>,
    /// The chat template, if the file has one.
    pub chat_template: Option<String>,
    /// Kind of training, guessed from names in the file and its path.
    pub tuning: Tuning,
    /// Bytes of all tensors, including those of the other parts of a split file.
    pub weight_bytes: u64,
    /// Bytes of `weight_bytes` that llama.cpp uses directly from the mapped file. All processes that load the file share them.
    pub mapped_bytes: u64,
    /// Bytes of the tensors by layer.
    pub weights: Weights,
    /// Identity of the file; `None` if the header was not read from a file.
    pub file: Option<FileId>,
    /// Paths of the parts after the first, if the file is split.
    pub other_parts: Vec<PathBuf>,
    /// Number of tokens in the vocabulary.
    pub n_vocab: u64,
    /// Embedding length: the width of the model.
    pub n_embd: u64,
    /// Feed-forward length: the greatest width of a feed-forward block.
    pub n_ff: u64,
    /// Greatest number of attention heads in a layer.
    pub n_head: u64,
    /// Number of key and value heads in each layer.
    pub n_head_kv: Vec<u64>,
    /// Length of the key of a head, in numbers.
    pub key_length: u64,
    /// Length of the value of a head, in numbers.
    pub value_length: u64,
    /// Sliding window of attention, if the model has one.
    pub sliding_window: Option<SlidingWindow>,
    /// Whether all layers attend to the whole context: no window slides and no state recurs.
    pub keeps_all: bool,
}

/// Reads the header of the model at `path`. For a split model, `path` is the first part, and the other parts are read, too.
///
/// # Errors
/// Fails if the file cannot be served (see [`GgufError`]).
pub(crate) fn read_header(path: &Path) -> Result<Header, GgufError> {
    let contents = read_contents(path)?;
    let mut header = header_of(&contents, path)?;
    if let Some(kind) = FileKind::from_incomplete_contents(&contents) {
        return Err(other_kind(path, kind, &contents));
    }
    for part in &header.other_parts {
        let part = read_contents(part)?;
        header.weight_bytes = header.weight_bytes.saturating_add(part.tensor_bytes);
        header.mapped_bytes = header.mapped_bytes.saturating_add(part.mapped_bytes);
        header.weights.merge(&part.weights);
    }
    header.file = FileId::from_path(path);
    Ok(header)
}

/// Reads a header from `source`, which has `size` bytes and is called `path`. For a split model, the weights are those of this part.
///
/// # Errors
/// Fails like [`read_header`].
#[cfg(any(test, fuzzing))]
pub(crate) fn parse_header(
    source: impl Read + Seek,
    size: u64,
    path: &Path,
) -> Result<Header, GgufError> {
    header_of(&parse_contents(source, size, path)?, path)
}

fn header_of(contents: &Contents, path: &Path) -> Result<Header, GgufError> {
    // Later parts of a split file do not have the header of a model.
    let other_parts = other_parts(path, contents)?;
    if let Some(kind) = FileKind::from_contents(contents) {
        return Err(other_kind(path, kind, contents));
    }
    let mut header = Header::from_contents(contents).map_err(|fault| error_for(path, fault))?;
    header.other_parts = other_parts;
    header.tuning = Tuning::guess([
        contents.text("general.finetune").unwrap_or_default(),
        contents.text("general.name").unwrap_or_default(),
        &path.file_stem().unwrap_or_default().to_string_lossy(),
    ]);
    Ok(header)
}

fn other_kind(path: &Path, kind: FileKind, contents: &Contents) -> GgufError {
    let architecture = contents.text("general.architecture");
    GgufError::OtherKind {
        path: path.into(),
        kind,
        architecture: architecture.map(|name| printable(name, MAX_SHOWN)),
    }
}

/// Reads the adapter at `path` for a model of `architecture`, and returns the bytes of its tensors.
///
/// # Errors
/// Fails if the file is broken, is not an adapter, or is an adapter for other models.
pub(crate) fn read_adapter(path: &Path, architecture: &str) -> Result<u64, GgufError> {
    let contents = read_contents(path)?;
    match contents.text("general.type") {
        Some("adapter") => match contents.text("general.architecture") {
            Some(other) if other != architecture => Err(GgufError::OtherArchitecture {
                path: path.into(),
                adapter: printable(other, MAX_SHOWN),
                model: architecture.to_owned(),
            }),
            _ => Ok(contents.tensor_bytes),
        },
        other => Err(GgufError::NotAnAdapter {
            path: path.into(),
            found: printable(other.unwrap_or("model"), MAX_SHOWN),
        }),
    }
}

fn read_contents(path: &Path) -> Result<Contents, GgufError> {
    let (file, size) = open(path)?;
    parse_contents(file, size, path)
}

/// Opens the file at `path`. Returns the file and its size.
fn open(path: &Path) -> Result<(File, u64), GgufError> {
    let unreadable = |source| error_for(path, Fault::Io(source));
    let metadata = std::fs::metadata(path).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => GgufError::Missing(path.into()),
        _ => unreadable(error),
    })?;
    if !metadata.is_file() {
        return Err(GgufError::NotAFile(path.into()));
    }
    let file = File::open(path).map_err(unreadable)?;
    Ok((file, metadata.len()))
}

fn parse_contents(source: impl Read + Seek, size: u64, path: &Path) -> Result<Contents, GgufError> {
    let contents = Reader::new(source, size).contents();
    contents.map_err(|fault| error_for(path, fault))
}

fn error_for(path: &Path, fault: Fault) -> GgufError {
    let path = path.into();
    match fault {
        Fault::Io(source) => GgufError::Unreadable { path, source },
        Fault::NotGguf(found) => GgufError::NotGguf { path, found },
        Fault::Substitute(substitute) => GgufError::Substitute { path, substitute },
        Fault::Version(version) => GgufError::Version { path, version },
        Fault::Truncated { found, needed } => GgufError::Truncated {
            path,
            found,
            needed,
        },
        Fault::Malformed(cause) => GgufError::Malformed { path, cause },
        Fault::OutOfRange { key, value, range } => GgufError::OutOfRange {
            path,
            key,
            value,
            range,
        },
        Fault::TensorType {
            tensor,
            kind,
            is_removed,
        } => GgufError::TensorType {
            path,
            tensor: printable(&tensor, MAX_SHOWN),
            kind,
            why: if is_removed {
                "no longer supports"
            } else {
                "does not support for weights"
            },
        },
    }
}

impl Header {
    fn from_contents(contents: &Contents) -> ReadResult<Self> {
        let architecture = contents
            .text("general.architecture")
            .unwrap_or_default()
            .to_owned();
        check_architecture(&architecture)?;
        check_ranges(contents, &architecture)?;
        let key = |key: &str| format!("{architecture}.{key}");
        let number = |name: &str| contents.number(&key(name));
        let n_layer = usize::try_from(number("block_count").unwrap_or(0)).unwrap_or(0);
        let per_layer = |name: &str| contents.per_layer(&key(name), n_layer);
        let n_embd = number("embedding_length").unwrap_or(0);
        let heads = per_layer("attention.head_count").unwrap_or_default();
        let n_head = heads.iter().copied().max().unwrap_or(1).max(1);
        let head_length = n_embd / n_head;
        Ok(Self {
            name: contents
                .text("general.name")
                .map(|name| printable(name, MAX_SHOWN))
                .filter(|name| !name.is_empty()),
            n_ctx_train: number("context_length"),
            chat_template: contents.chat_template()?.map(str::to_owned),
            tuning: Tuning::Unstated,
            weight_bytes: contents.tensor_bytes,
            mapped_bytes: contents.mapped_bytes,
            weights: contents.weights.clone(),
            file: None,
            other_parts: Vec::new(),
            n_vocab: contents.length("tokenizer.ggml.tokens").unwrap_or(0),
            n_embd,
            n_ff: per_layer("feed_forward_length")
                .and_then(|widths| widths.into_iter().max())
                .unwrap_or(0),
            n_head,
            n_head_kv: per_layer("attention.head_count_kv").unwrap_or(heads),
            key_length: number("attention.key_length").unwrap_or(head_length),
            value_length: number("attention.value_length").unwrap_or(head_length),
            keeps_all: architecture != CHUNKED
                && WINDOW_SIZES
                    .iter()
                    .chain(&RECURRENT_STATES)
                    .all(|name| number(name).unwrap_or(0) == 0),
            sliding_window: SlidingWindow::from_contents(contents, &architecture, n_layer),
            architecture,
        })
    }
}

/// Key of the layers that have a sliding window, after the architecture.
const SLIDING_LAYERS: &str = "attention.sliding_window_pattern";

/// Keys of the sizes of sliding windows and chunks, after the architecture (`gguf-py/gguf/constants.py`). No window slides if all are 0.
pub(crate) const WINDOW_SIZES: [&str; 2] = ["attention.sliding_window", "attention.chunk_size"];

/// Keys of recurrent states, after the architecture.
const RECURRENT_STATES: [&str; 3] = ["ssm.conv_kernel", "shortconv.l_cache", "wkv.head_size"];

/// The architecture that attends in chunks even if the file does not give their size.
pub(crate) const CHUNKED: &str = "llama4";

/// The range of sizes: llama.cpp's API has them as `int32_t`.
const SIZES: RangeInclusive<u64> = 0..=i32::MAX as u64;

/// Supported ranges of numbers for which llama.cpp (`llama_model_base::load_hparams`) or its bindings would otherwise abort, by key after
/// the architecture.
const RANGES: [(&str, RangeInclusive<u64>); 9] = [
    ("block_count", 1..=MAX_LAYERS as u64),
    ("expert_count", 0..=1024),
    ("context_length", SIZES),
    ("embedding_length", SIZES),
    ("feed_forward_length", SIZES),
    ("attention.head_count", SIZES),
    ("attention.head_count_kv", SIZES),
    ("attention.key_length", SIZES),
    ("attention.value_length", SIZES),
];

/// Checks the name of an architecture, which becomes part of keys and of messages.
fn check_architecture(name: &str) -> ReadResult<()> {
    let is_letter = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
    match name.len() {
        0 => Err(Fault::Malformed("it does not name an architecture")),
        1..=MAX_SHOWN if name.bytes().all(is_letter) => Ok(()),
        _ => Err(Fault::Malformed(
            "its architecture must consist of at most 64 letters, digits, `.`, `_` and `-`",
        )),
    }
}

/// Checks that the numbers of a model are in the supported [`RANGES`].
fn check_ranges(contents: &Contents, architecture: &str) -> ReadResult<()> {
    for (name, range) in RANGES {
        let key = format!("{architecture}.{name}");
        let mut numbers = contents.numbers(&key).iter();
        if let Some(value) = numbers.find(|value| !range.contains(value)) {
            return Err(Fault::OutOfRange {
                value: *value,
                range,
                key,
            });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
