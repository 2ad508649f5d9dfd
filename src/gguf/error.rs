//! The reasons why a model file cannot be served, with hints.

use std::io;
use std::ops::RangeInclusive;
use std::path::PathBuf;

use super::fault::Substitute;
use super::kind::FileKind;

/// A reason why a file cannot be served.
#[derive(Debug, thiserror::Error)]
pub(crate) enum GgufError {
    /// The path does not exist.
    #[error("the model file `{}` does not exist", .0.display())]
    Missing(PathBuf),
    /// The path is not a regular file but, for example, a folder.
    #[error("`{}` is not a file", .0.display())]
    NotAFile(PathBuf),
    /// The file cannot be read.
    #[error("could not read the model file `{}`", path.display())]
    Unreadable {
        path: PathBuf,
        /// The error of the system.
        #[source]
        source: io::Error,
    },
    /// The file has another format.
    #[error("`{}` is not a GGUF model file: {found}", path.display())]
    NotGguf {
        path: PathBuf,
        /// Beginning of the file, as the end of a sentence.
        found: String,
    },
    /// The file was downloaded in place of the model.
    #[error("`{}` is {substitute}, not the model itself", path.display())]
    Substitute {
        path: PathBuf,
        substitute: Substitute,
    },
    /// The version of the format is unsupported.
    #[error("`{}` is a GGUF file of version {version}; versions 2 and 3 are supported", path.display())]
    Version { path: PathBuf, version: u32 },
    /// The file ends before its content does.
    #[error("the model file `{}` is truncated: it has {found} bytes, but {needed}", path.display())]
    Truncated {
        path: PathBuf,
        /// Size of the file, in bytes.
        found: u64,
        /// Size that the header requires, as the end of a sentence.
        needed: String,
    },
    /// The file is not a model that generates text.
    #[error("`{}` is {kind}{}; it does not generate text", path.display(), in_brackets(.architecture.as_deref()))]
    OtherKind {
        path: PathBuf,
        kind: FileKind,
        /// The architecture that the file names.
        architecture: Option<String>,
    },
    /// The file is not named like the first part of a split model: it is a later part, or was renamed.
    #[error("`{}` is part of a split model, but not named like its first part", path.display())]
    NotTheFirstPart {
        path: PathBuf,
        /// End of the name of the first part.
        expected: String,
    },
    /// The file is not an adapter.
    #[error("`{}` is not an adapter: it holds a {found}", path.display())]
    NotAnAdapter {
        path: PathBuf,
        /// Kind of the file.
        found: String,
    },
    /// The adapter is for another architecture.
    #[error("the adapter `{}` is for the architecture `{adapter}`, but the model has the architecture `{model}`", path.display())]
    OtherArchitecture {
        path: PathBuf,
        /// Architecture of the adapter.
        adapter: String,
        /// Architecture of the model.
        model: String,
    },
    /// A number is outside the range that llama.cpp supports.
    #[error("the model file `{}`: `{key}` is out of range: {value}; llama.cpp supports {} to {}", path.display(), range.start(), range.end())]
    OutOfRange {
        path: PathBuf,
        /// Metadata key of the number.
        key: String,
        value: u64,
        /// The range that llama.cpp supports.
        range: RangeInclusive<u64>,
    },
    /// A tensor has a type that llama.cpp cannot compute with.
    #[error("the tensor `{tensor}` of the file `{}` has type {kind}, which llama.cpp {why}", path.display())]
    TensorType {
        path: PathBuf,
        /// Name of the tensor.
        tensor: String,
        /// Name of the type.
        kind: &'static str,
        /// The reason, as the end of a sentence.
        why: &'static str,
    },
    /// The header is inconsistent or exceeds a limit.
    #[error("the header of the model file `{}` is broken: {cause}", path.display())]
    Malformed {
        path: PathBuf,
        /// Description of the fault, as a sentence.
        cause: &'static str,
    },
}

/// Formats the architecture for the text after the kind of a file.
fn in_brackets(architecture: Option<&str>) -> String {
    architecture.map_or_else(String::new, |name| format!(" (architecture `{name}`)"))
}

impl GgufError {
    /// Returns what to do about the error.
    pub(crate) fn hint(&self) -> String {
        match self {
            Self::Missing(_) => {
                "check the path; in a configuration file, paths are relative to its folder".into()
            }
            Self::NotAFile(_) => "give the path of the .gguf file itself".into(),
            Self::Unreadable { .. } => "check the path and the file's permissions".into(),
            Self::NotGguf { path, .. } if path.extension().is_some_and(|end| end == "toml") => {
                format!(
                    "to use it as the configuration, pass `--config {}`",
                    path.display()
                )
            }
            Self::NotGguf { .. } => {
                "choose a model file in GGUF format, the format of llama.cpp (usually named *.gguf)"
                    .into()
            }
            Self::Substitute { substitute, .. } => substitute.hint().into(),
            Self::Version { .. } => "convert the model again with a current llama.cpp".into(),
            Self::Truncated { .. } => {
                "wait until the download is complete, or download the file again".into()
            }
            Self::NotTheFirstPart { expected, .. } => {
                format!("name the part that ends in `{expected}`")
            }
            Self::NotAnAdapter { .. } => "name a LoRA adapter in GGUF format".into(),
            Self::OtherArchitecture { .. } => {
                "use the adapter with the model that it was made for".into()
            }
            Self::OtherKind { kind, .. } => kind.hint().into(),
            Self::TensorType { .. } => {
                "choose a file in another quantization, for example Q4_K_M, Q8_0 or F16".into()
            }
            Self::OutOfRange { .. } | Self::Malformed { .. } => {
                "download or convert the file again".into()
            }
        }
    }
}
