//! What can go wrong, by codes that stay: for programs, and for the pages of `docs/errors.md`, one each.
//!
//! A sentence says what happened this time, and may be put better in the next version; a code does not change. What HTTP and JSON-RPC
//! refuse has their numbers.

use std::fmt;

use serde::{Serialize, Serializer};
use strum::{EnumIter, IntoStaticStr};

/// A code: its variant in snake case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, EnumIter, IntoStaticStr)]
#[strum(serialize_all = "snake_case")]
pub enum ErrorCode {
    // Of calls.
    /// An argument is missing, unknown, of the wrong type, or out of its range.
    BadArguments,
    /// Prompt and answer do not fit the context.
    PromptTooLong,
    /// As many calls wait as may.
    Busy,
    /// The model could not be loaded.
    LoadFailed,
    /// The model's process died several times in a row and is not started again.
    LoadGivenUp,
    /// The model's process died twice while it worked on the same prompt.
    PromptRefused,
    /// It can never have its memory.
    NeverFits,
    /// Its process ended in the midst of the call.
    ModelDied,
    /// Its process does not answer.
    ModelStuck,
    /// Its process could not be started.
    ProcessNotStarted,
    /// The system refuses to start processes or threads.
    SystemLimit,
    /// Its chat template refused the messages, or a tool's prompt could not be made.
    TemplateFailed,
    /// A schema that cannot be enforced.
    SchemaRefused,
    /// llama.cpp failed.
    DecodeFailed,
    /// The model wrote nothing.
    NoAnswer,
    /// It was still thinking when its tokens were used up.
    StillThinking,
    /// The deadline passed before there was an answer.
    DeadlinePassed,
    /// An answer that must be whole was cut.
    AnswerCut,
    /// An answer that does not follow its schema.
    AnswerWrong,
    /// An edit of the configuration removed the tool.
    ToolRemoved,
    /// Nobody waited for it any more.
    Cancelled,

    // Of the configuration.
    /// A command line that contradicts itself.
    CommandLine,
    /// No model is named.
    NoModel,
    /// A file that cannot be read.
    ConfigUnreadable,
    /// It is no TOML.
    ConfigSyntax,
    /// A key, a flag or a variable that does not exist.
    ConfigUnknownKey,
    /// A value that cannot be.
    ConfigValue,
    /// A model that cannot be used: its file, its memory, its template.
    ConfigModel,
    /// A tool that cannot be made.
    ConfigTool,
    /// Where the server listens, or for whom.
    ConfigServer,
    /// A bearer token.
    ConfigToken,

    // Of the program.
    /// The address is in use, or is none of this machine.
    CannotListen,
    /// No server answers, or it takes no calls.
    NoServer,
    /// The server has no model of this name.
    UnknownModel,
    /// The server does not let this token, or this sender, unload and restart models.
    NotAllowed,
    /// A client's own configuration could not be edited.
    InstallFailed,
    /// The log cannot be written.
    LogUnwritable,
}

impl ErrorCode {
    /// It happened, and this tells how.
    pub fn says(self, text: impl Into<String>) -> Coded {
        Coded {
            code: self,
            text: text.into(),
        }
    }

    /// Returns whether a call of a tool can fail with this code. Calls that are refused as `busy`, are cancelled, or reach their deadline
    /// have outcomes of their own in the metrics.
    pub fn ends_calls(self) -> bool {
        self <= Self::AnswerWrong && !matches!(self, Self::Busy | Self::DeadlinePassed)
    }

    /// As programs read it.
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

/// What went wrong, for programs and for people.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub struct Coded {
    /// Its code.
    pub code: ErrorCode,
    /// The thing, the cause, the way out.
    pub text: String,
}
