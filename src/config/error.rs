//! Errors of configurations that cannot be run, with hints.

use std::io;
use std::path::PathBuf;

use serde_json::{Value, json};

use super::FILE_NAME;
use super::load::Layers;
use super::problem::{Problem, Severity};
use crate::error_code::ErrorCode;

/// A configuration that cannot be run.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConfigError {
    /// Neither the command line nor the file names a model.
    #[error("no model is configured{}", .0.as_ref().map(|file| format!(" in `{}`", file.display())).unwrap_or_default())]
    NoModel(Option<PathBuf>),
    /// The command line names more than one model.
    #[error("the command line must name one model, found {0}")]
    SeveralModels(usize),
    /// The command line names a model and a file, which has models of its own.
    #[error("`--model` cannot be combined with `--config`")]
    ModelAndConfig,
    /// The path of the model is not UTF-8, which llama.cpp requires.
    #[error("the model's path `{}` is not valid UTF-8", .0.display())]
    PathNotUtf8(PathBuf),
    /// All errors in the file, variables and flags.
    #[error("{}", shown(.0))]
    Problems(Vec<Problem>),
}

/// Maximum number of problems that are shown.
const MAX_SHOWN: usize = 100;

fn shown(problems: &[Problem]) -> String {
    let mut texts: Vec<String> = problems
        .iter()
        .take(MAX_SHOWN)
        .map(ToString::to_string)
        .collect();
    if let more @ 1.. = problems.len().saturating_sub(MAX_SHOWN) {
        texts.push(format!("error: and {more} more problems"));
    }
    texts.join("\n\n")
}

impl ConfigError {
    /// Returns an error with `problems`, sorted by their place in the file, with warnings last.
    pub(crate) fn from_problems(mut problems: Vec<Problem>) -> Self {
        problems.sort_by_key(|problem| {
            let place = problem.place.as_ref().map(|place| place.start);
            (problem.severity, place)
        });
        Self::Problems(problems)
    }

    /// Moves all problems and tolerated faults out of `layers` into an error. Returns `None` and moves nothing if there are only tolerated
    /// faults.
    pub(crate) fn take(layers: &mut Layers) -> Option<Self> {
        if layers.problems.is_empty() {
            return None;
        }
        let mut problems = std::mem::take(&mut layers.problems);
        problems.append(&mut layers.tolerated_faults);
        Some(Self::from_problems(problems))
    }

    /// Writes the error for people, with hints.
    ///
    /// # Errors
    /// `output` cannot be written.
    pub(crate) fn report(&self, output: &mut dyn io::Write) -> io::Result<()> {
        if let Self::Problems(_) = self {
            // Each problem has a label and hints of its own.
            return writeln!(output, "{self}");
        }
        writeln!(output, "error[{}]: {self}", self.code())?;
        self.hint()
            .map_or(Ok(()), |hint| writeln!(output, "\nhint: {hint}"))
    }

    /// Formats the error for people, like [`Self::report`].
    pub(crate) fn to_text(&self) -> String {
        let mut text = Vec::new();
        self.report(&mut text).expect("a vector can be written");
        String::from_utf8_lossy(&text).trim_end().to_owned()
    }

    /// Formats only codes and positions, for a report that must not quote the configuration.
    pub(crate) fn redacted(&self) -> String {
        match self {
            Self::Problems(problems) => {
                let lines: Vec<String> = problems.iter().map(Problem::redacted).collect();
                lines.join("\n")
            }
            other => format!("error[{}]", other.code()),
        }
    }

    /// Returns the problems as a JSON array.
    pub(crate) fn to_json(&self) -> Value {
        match self {
            Self::Problems(problems) => problems.iter().map(Problem::to_json).collect(),
            other => {
                json!([{"code": other.code(), "message": other.to_string(), "hint": other.hint()}])
            }
        }
    }

    /// Returns the error code. In a list, each problem has a code of its own instead.
    fn code(&self) -> ErrorCode {
        match self {
            Self::NoModel(_) => ErrorCode::NoModel,
            Self::SeveralModels(_) | Self::ModelAndConfig | Self::PathNotUtf8(_) => {
                ErrorCode::CommandLine
            }
            Self::Problems(_) => ErrorCode::ConfigValue,
        }
    }

    /// Returns how to fix the error. In a list, each problem has a hint of its own instead.
    pub(crate) fn hint(&self) -> Option<String> {
        match self {
            Self::SeveralModels(_) => Some(format!(
                "declare them in a file: `llama-mcp-server config init > {FILE_NAME}` creates one"
            )),
            Self::ModelAndConfig => {
                Some("name the model in the file, under `[models.NAME]`".into())
            }
            Self::PathNotUtf8(_) => Some("rename the file".into()),
            Self::NoModel(None) => Some(format!(
                "run `llama-mcp-server --model /path/to/model.gguf`, or declare models in a file: `llama-mcp-server config init > {FILE_NAME}` creates one"
            )),
            Self::NoModel(Some(_)) => {
                Some("add `[models.NAME]` with `path = \"model.gguf\"`".into())
            }
            Self::Problems(_) => None,
        }
    }
}

/// A rejected configuration: its errors, and the warnings that may explain them.
#[derive(Debug)]
pub(crate) struct Rejected {
    /// All errors of the configuration.
    pub error: ConfigError,
    /// Warnings about settings that work but are probably a mistake.
    pub warnings: Vec<Problem>,
}

impl Rejected {
    /// Turns the warnings into errors. If the error is not a list of problems, they stay warnings.
    #[must_use]
    pub(crate) fn with_warnings_as_errors(self) -> Self {
        let ConfigError::Problems(mut problems) = self.error else {
            return self;
        };
        let warnings = self.warnings.into_iter();
        problems.extend(warnings.map(|warning| Problem {
            severity: Severity::Error,
            ..warning
        }));
        Self {
            error: ConfigError::from_problems(problems),
            warnings: Vec::new(),
        }
    }

    /// Writes the error and the warnings: a misspelled variable may be the cause of the error.
    ///
    /// # Errors
    /// `output` cannot be written.
    pub(crate) fn report(&self, output: &mut dyn io::Write) -> io::Result<()> {
        self.error.report(output)?;
        let mut warnings = self.warnings.iter();
        warnings.try_for_each(|warning| writeln!(output, "\n{warning}"))
    }
}
