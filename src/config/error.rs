//! What makes a configuration one that cannot be run, and the way out.

use std::io;
use std::path::PathBuf;

use super::http::AUTH_VARIABLE;
use crate::gguf::GgufError;

/// A configuration that cannot be run.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// No model was named.
    #[error("no model is given")]
    NoModel,
    /// More than one was named.
    #[error("a server serves one model, {0} are given")]
    SeveralModels(usize),
    /// llama.cpp takes paths as UTF-8.
    #[error("the model's path `{}` is not valid UTF-8", .0.display())]
    PathNotUtf8(PathBuf),
    /// The host stands for no address.
    #[error("`--host`: no address for `{host}`")]
    UnknownHost {
        /// As it was given.
        host: String,
        /// What the resolver says.
        source: io::Error,
    },
    /// Everybody on the network could use the server.
    #[error("`{0}` is reached from other machines, and no token is set")]
    Exposed(String),
    /// The token's file cannot be read.
    #[error("`--auth_file`: could not read `{}`", file.display())]
    TokenFile {
        /// Which.
        file: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The model's file is none.
    #[error(transparent)]
    Model(#[from] GgufError),
    /// Values out of range, all of them.
    #[error("{}", .0.join("\n       "))]
    Values(Vec<String>),
}

impl ConfigError {
    /// The way out.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Exposed(_) => Some(format!(
                "give a token by {AUTH_VARIABLE} or `--auth_file`, stay on `--host 127.0.0.1`, or say `--allow_unauthenticated` where \
                 everybody may use it"
            )),
            Self::UnknownHost { .. } => {
                Some("`127.0.0.1` is this machine alone, `0.0.0.0` all its addresses".into())
            }
            Self::SeveralModels(_) => Some("start a server for each of them".into()),
            Self::PathNotUtf8(_) => Some("rename the file".into()),
            Self::NoModel => Some("llama-mcp-server --model /path/to/model.gguf".into()),
            Self::Model(error) => Some(error.hint()),
            Self::TokenFile { .. } | Self::Values(_) => None,
        }
    }
}
