//! Faults in the header of a file.

use std::io;
use std::ops::RangeInclusive;

/// A reason why parsing failed.
#[derive(Debug)]
pub(super) enum Fault {
    Io(io::Error),
    NotGguf(String),
    /// Another file was downloaded instead of the model.
    Substitute(Substitute),
    Version(u32),
    /// The file ends before its content does.
    Truncated {
        /// Size of the file, in bytes.
        found: u64,
        /// Size that the header requires, as the end of a sentence.
        needed: String,
    },
    Malformed(&'static str),
    /// A number that llama.cpp does not support.
    OutOfRange {
        key: String,
        value: u64,
        range: RangeInclusive<u64>,
    },
    /// A tensor type that llama.cpp cannot compute with.
    TensorType {
        tensor: String,
        kind: &'static str,
        is_removed: bool,
    },
}

pub(super) type ReadResult<T> = Result<T, Fault>;

/// A file that is downloaded by mistake in place of a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, strum::Display)]
pub(crate) enum Substitute {
    /// The small file that Git LFS stores in place of a large one.
    #[strum(to_string = "a Git LFS pointer")]
    LfsPointer,
    /// The web page about a file.
    #[strum(to_string = "a web page")]
    WebPage,
}

impl Substitute {
    /// Recognises a substitute by the `beginning` of the file.
    pub(super) fn recognise(beginning: &[u8]) -> Option<Self> {
        let text = String::from_utf8_lossy(beginning).to_lowercase();
        let text = text.trim_start();
        if text.starts_with("version https://git-lfs") {
            Some(Self::LfsPointer)
        } else if text.starts_with("<!doctype html") || text.starts_with("<html") {
            Some(Self::WebPage)
        } else {
            None
        }
    }

    pub(super) fn hint(self) -> &'static str {
        match self {
            Self::LfsPointer => "run `git lfs pull` in its repository, or download the file itself",
            Self::WebPage => {
                "download the file itself; on Hugging Face, its link has `/resolve/` instead of `/blob/`"
            }
        }
    }
}
