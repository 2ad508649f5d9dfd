//! What makes a configuration one that cannot be run, and the way out.

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
    /// No model was named, in the file either.
    #[error("no model is given{}", .0.as_ref().map(|file| format!(" in `{}`", file.display())).unwrap_or_default())]
    NoModel(Option<PathBuf>),
    /// More than one was named on the command line.
    #[error("a command line names one model, {0} are given")]
    SeveralModels(usize),
    /// A file has its own models.
    #[error("`--model` and `--config` are both given")]
    ModelAndConfig,
    /// llama.cpp takes paths as UTF-8.
    #[error("the model's path `{}` is not valid UTF-8", .0.display())]
    PathNotUtf8(PathBuf),
    /// All that is wrong with files, variables and flags.
    #[error("{}", shown(.0))]
    Problems(Vec<Problem>),
}

/// Problems that are told; who has more has another one.
const MAX_TOLD: usize = 100;

fn shown(problems: &[Problem]) -> String {
    let mut texts: Vec<String> = problems
        .iter()
        .take(MAX_TOLD)
        .map(ToString::to_string)
        .collect();
    if let more @ 1.. = problems.len().saturating_sub(MAX_TOLD) {
        texts.push(format!("error: and {more} more problems"));
    }
    texts.join("\n\n")
}

impl ConfigError {
    /// Makes an error of `problems`, in the order of the file, warnings last.
    pub(crate) fn of(mut problems: Vec<Problem>) -> Self {
        problems.sort_by_key(|problem| {
            let place = problem.place.as_ref().map(|place| place.start);
            (problem.severity, place)
        });
        Self::Problems(problems)
    }

    /// Takes all problems and doubts out of `layers`. Takes nothing and returns `None` if there are only doubts.
    pub(crate) fn take(layers: &mut Layers) -> Option<Self> {
        if layers.problems.is_empty() {
            return None;
        }
        let mut problems = std::mem::take(&mut layers.problems);
        problems.append(&mut layers.doubts);
        Some(Self::of(problems))
    }

    /// Makes errors of `warnings`, in addition to `error`. An error that is not a list of problems leaves them as they are.
    pub(crate) fn with(error: Option<Self>, warnings: &mut Vec<Problem>) -> Option<Self> {
        let mut problems = match error {
            None if warnings.is_empty() => return None,
            None => Vec::new(),
            Some(Self::Problems(problems)) => problems,
            Some(other) => return Some(other),
        };
        problems.extend(warnings.drain(..).map(|warning| Problem {
            severity: Severity::Error,
            ..warning
        }));
        Some(Self::of(problems))
    }

    /// Tells it to people, with its causes and the way out.
    ///
    /// # Errors
    /// Where nobody reads.
    pub(crate) fn report(&self, output: &mut dyn io::Write) -> io::Result<()> {
        if let Self::Problems(_) = self {
            // Each has its own beginning.
            return writeln!(output, "{self}");
        }
        writeln!(output, "error[{}]: {self}", self.code())?;
        self.hint()
            .map_or(Ok(()), |hint| writeln!(output, "\nhint: {hint}"))
    }

    /// The same as a text.
    pub(crate) fn told(&self) -> String {
        let mut told = Vec::new();
        self.report(&mut told).expect("a vector takes all");
        String::from_utf8_lossy(&told).trim_end().to_owned()
    }

    /// What kind of things are wrong, and where, for a report to others: nothing of what was written.
    pub(crate) fn outlined(&self) -> String {
        match self {
            Self::Problems(problems) => {
                let lines: Vec<String> = problems.iter().map(Problem::outlined).collect();
                lines.join("\n")
            }
            other => format!("error[{}]", other.code()),
        }
    }

    /// For programs: an array of problems.
    pub(crate) fn to_json(&self) -> Value {
        match self {
            Self::Problems(problems) => problems.iter().map(Problem::to_json).collect(),
            other => {
                json!([{"code": other.code(), "message": other.to_string(), "hint": other.hint()}])
            }
        }
    }

    /// Of several problems each has its own.
    fn code(&self) -> ErrorCode {
        match self {
            Self::NoModel(_) => ErrorCode::NoModel,
            Self::SeveralModels(_) | Self::ModelAndConfig | Self::PathNotUtf8(_) => {
                ErrorCode::CommandLine
            }
            Self::Problems(_) => ErrorCode::ConfigValue,
        }
    }

    /// The way out.
    pub(crate) fn hint(&self) -> Option<String> {
        match self {
            Self::SeveralModels(_) => Some(format!(
                "declare them in a file: `llama-mcp-server config init > {FILE_NAME}` makes one"
            )),
            Self::ModelAndConfig => {
                Some("name the model in the file, under `[models.NAME]`".into())
            }
            Self::PathNotUtf8(_) => Some("rename the file".into()),
            Self::NoModel(None) => Some(format!(
                "`llama-mcp-server --model /path/to/model.gguf`, or several in a file: `llama-mcp-server config init > {FILE_NAME}`"
            )),
            Self::NoModel(Some(_)) => {
                Some("add `[models.NAME]` with `path = \"model.gguf\"`".into())
            }
            // Each has its own.
            Self::Problems(_) => None,
        }
    }
}

/// A rejected configuration: its errors, and the warnings that may explain them.
#[derive(Debug)]
pub(crate) struct Rejected {
    /// All faults of the configuration.
    pub error: ConfigError,
    /// Settings that work and are probably a mistake.
    pub warnings: Vec<Problem>,
}

impl Rejected {
    /// Writes the error, and below it the warnings: a misspelled variable may be the cause of the error.
    ///
    /// # Errors
    /// `output` cannot be written.
    pub(crate) fn report(&self, output: &mut dyn io::Write) -> io::Result<()> {
        self.error.report(output)?;
        let mut warnings = self.warnings.iter();
        warnings.try_for_each(|warning| writeln!(output, "\n{warning}"))
    }
}
