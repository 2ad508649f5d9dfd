//! Stable codes of everything that can go wrong. Each has a section in `docs/errors.md`.
//!
//! Messages say what happened this time, and may be improved in any version. Codes do not change. Errors of HTTP and JSON-RPC have
//! numbers instead.

use std::fmt;

use serde::{Serialize, Serializer};
use strum::{EnumIter, IntoStaticStr};

/// A stable error code. Programs read it as the variant in snake case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, EnumIter, IntoStaticStr)]
#[strum(serialize_all = "snake_case")]
pub enum ErrorCode {
    // Errors of calls.
    /// An argument is missing, unknown, of the wrong type, or out of its range.
    BadArguments,
    /// The prompt and the answer do not fit into the context.
    PromptTooLong,
    /// The queue is full.
    Busy,
    /// The model could not be loaded.
    LoadFailed,
    /// The model's process crashed several times in a row and is not restarted.
    LoadGivenUp,
    /// The model's process crashed twice while it worked on the same prompt.
    PromptRefused,
    /// The model requires more memory than the server may use.
    NeverFits,
    /// The model's process exited during the call.
    ModelDied,
    /// The model's process made no progress and was killed.
    ModelStuck,
    /// The model's process could not be started.
    ProcessNotStarted,
    /// The system refused to start a process or a thread.
    SystemLimit,
    /// The chat template refused the messages, or the prompt of a tool could not be rendered.
    TemplateFailed,
    /// The schema cannot be enforced.
    SchemaRefused,
    /// llama.cpp failed.
    DecodeFailed,
    /// The model generated no answer.
    NoAnswer,
    /// `max_tokens` was reached during reasoning.
    StillThinking,
    /// The deadline passed before the answer was complete.
    DeadlinePassed,
    /// The answer was truncated, but must be complete.
    AnswerCut,
    /// The answer does not follow its schema.
    AnswerWrong,
    /// An edit of the configuration removed the tool.
    ToolRemoved,
    /// The call was cancelled.
    Cancelled,

    // Errors of the configuration.
    /// The command line contradicts itself.
    CommandLine,
    /// No model is configured.
    NoModel,
    /// A file cannot be read.
    ConfigUnreadable,
    /// The file is not valid TOML.
    ConfigSyntax,
    /// A key, a flag or a variable is unknown.
    ConfigUnknownKey,
    /// A value is invalid.
    ConfigValue,
    /// A model cannot be used, because of its file, its memory or its template.
    ConfigModel,
    /// A tool is invalid.
    ConfigTool,
    /// The settings of the HTTP server are invalid or unsafe.
    ConfigServer,
    /// A bearer token is invalid.
    ConfigToken,

    // Errors of the program.
    /// The address is in use, or does not belong to this machine.
    CannotListen,
    /// No server answers, or it accepts no calls.
    NoServer,
    /// The server has no model of this name.
    UnknownModel,
    /// The token or the sender may not unload and restart models.
    NotAllowed,
    /// The configuration of a client could not be edited.
    InstallFailed,
    /// The log cannot be written.
    LogUnwritable,
}

impl ErrorCode {
    /// Creates an error with this code and the message `text`.
    pub fn says(self, text: impl Into<String>) -> Coded {
        Coded {
            code: self,
            text: text.into(),
        }
    }

    /// Returns whether a tool call can end with this code. Calls that are refused as `busy`, cancelled, or stopped at their deadline have
    /// their own outcomes in the metrics.
    pub fn ends_calls(self) -> bool {
        self <= Self::AnswerWrong && !matches!(self, Self::Busy | Self::DeadlinePassed)
    }

    /// Returns the code as programs read it: `bad_arguments`.
    pub fn name(self) -> &'static str {
        self.into()
    }
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl Serialize for ErrorCode {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

/// An error with a code for programs and a message for people.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub struct Coded {
    /// The code for programs.
    pub code: ErrorCode,
    /// The message: the thing, what is wrong with it, and what to do.
    pub text: String,
}
