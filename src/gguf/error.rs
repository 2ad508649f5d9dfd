//! What can be wrong with a model's file, and the way out.

use std::io;
use std::ops::RangeInclusive;
use std::path::PathBuf;

use super::fault::Substitute;
use super::kind::FileKind;

/// A file that cannot be served.
#[derive(Debug, thiserror::Error)]
pub(crate) enum GgufError {
    /// There is nothing at that path.
    #[error("the model file `{}` does not exist", .0.display())]
    Missing(PathBuf),
    /// A folder, or something else that is no file.
    #[error("`{}` is not a file", .0.display())]
    NotAFile(PathBuf),
    /// It could not be read.
    #[error("could not read the model file `{}`", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// Another kind of file.
    #[error("`{}` is not a GGUF model file: {found}", path.display())]
    NotGguf {
        /// The file.
        path: PathBuf,
        /// The beginning of the file.
        found: String,
    },
    /// A file that was downloaded instead of the model.
    #[error("`{}` is {substitute}, not the model itself", path.display())]
    Substitute {
        /// The file.
        path: PathBuf,
        /// Its content.
        substitute: Substitute,
    },
    /// A version that is not known.
    #[error("`{}` is a GGUF file of version {version}; versions 2 and 3 are supported", path.display())]
    Version {
        /// The file.
        path: PathBuf,
        /// What it says.
        version: u32,
    },
    /// The file ends before its content does.
    #[error("the model file `{}` is truncated: it has {found} bytes, {needed}", path.display())]
    Truncated {
        /// The file.
        path: PathBuf,
        /// Bytes that are there.
        found: u64,
        /// Bytes that the header asks for, as words.
        needed: String,
    },
    /// The file is not a model that writes text.
    #[error("`{}` is {kind}{}; it does not generate text", path.display(), in_brackets(.architecture.as_deref()))]
    OtherKind {
        /// The file.
        path: PathBuf,
        /// Kind of its content.
        kind: FileKind,
        /// The architecture that it names.
        architecture: Option<String>,
    },
    /// A later part of a split file, or one that was renamed.
    #[error("`{}` is split, and not named as its first part", path.display())]
    NotTheFirstPart {
        /// The file.
        path: PathBuf,
        /// How the first part's name ends.
        expected: String,
    },
    /// A file that is not an adapter.
    #[error("`{}` is not an adapter: it holds a {found}", path.display())]
    NotAnAdapter {
        /// The file.
        path: PathBuf,
        /// What it is instead.
        found: String,
    },
    /// An adapter that was made for other models.
    #[error("the adapter `{}` is made for models of the architecture `{adapter}`, and the model's is `{model}`", path.display())]
    OtherArchitecture {
        /// The file.
        path: PathBuf,
        /// What it says.
        adapter: String,
        /// What the model says.
        model: String,
    },
    /// A number outside the range that llama.cpp supports.
    #[error("the model file `{}`: `{key}` is out of range: {value}; llama.cpp supports {} to {}", path.display(), range.start(), range.end())]
    OutOfRange {
        /// The file.
        path: PathBuf,
        /// Its key.
        key: String,
        /// The value in the file.
        value: u64,
        /// The values that llama.cpp supports.
        range: RangeInclusive<u64>,
    },
    /// A tensor with which llama.cpp cannot compute.
    #[error("the tensor `{tensor}` of the file `{}` has type {kind}, which llama.cpp {why}", path.display())]
    TensorType {
        /// The file.
        path: PathBuf,
        /// The tensor's name.
        tensor: String,
        /// Its type's name.
        kind: &'static str,
        /// The fault of the type, as the end of a sentence.
        why: &'static str,
    },
    /// The header contradicts itself.
    #[error("the header of the model file `{}` is broken: {cause}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        cause: &'static str,
    },
}

/// Formats the architecture for the text after the kind of a file.
fn in_brackets(architecture: Option<&str>) -> String {
    architecture.map_or_else(String::new, |name| format!(" (architecture `{name}`)"))
}

impl GgufError {
    /// The way out.
    pub(crate) fn hint(&self) -> String {
        match self {
            Self::Missing(_) => {
                "check the path; a relative one starts at the folder of the file that names it, on the command line at the current one".into()
            }
            Self::NotAFile(_) => "name the .gguf file itself".into(),
            Self::Unreadable { .. } => "check the path and the file's permissions".into(),
            Self::NotGguf { path, .. } if path.extension().is_some_and(|end| end == "toml") => {
                format!("a configuration is named by `--config {}`", path.display())
            }
            Self::NotGguf { .. } => {
                "models are files in GGUF format, as llama.cpp uses it (often named *.gguf)".into()
            }
            Self::Substitute { substitute, .. } => substitute.hint().into(),
            Self::Version { .. } => "convert the model again with a current llama.cpp".into(),
            Self::Truncated { .. } => "the download is incomplete: wait until it has ended, or download the file again".into(),
            Self::NotTheFirstPart { expected, .. } => format!("name the part that ends in `{expected}`"),
            Self::NotAnAdapter { .. } => "name a LoRA adapter in GGUF format".into(),
            Self::OtherArchitecture { .. } => "choose the adapter's own model".into(),
            Self::OtherKind { kind, .. } => kind.hint().into(),
            Self::TensorType { .. } => {
                "choose a file in another quantization, for example Q4_K_M, Q8_0 or F16".into()
            }
            Self::OutOfRange { .. } | Self::Malformed { .. } => "download the file again, or convert it again".into(),
        }
    }
}
