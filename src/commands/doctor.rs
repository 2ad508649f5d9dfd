//! `llama-mcp-server doctor`: diagnoses this machine, this build and a configuration.
//!
//! Doctor starts no server and loads no model. It calls llama.cpp in a separate process only.

mod bundle;
mod configured;
mod machine;

use std::fmt;
use std::process::ExitCode;

use super::{overrides, print};
use crate::cli::DoctorArgs;
use crate::config::Surroundings;

/// Severity of a finding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    /// The part works.
    Ok,
    /// The part works but could be better, or may fail.
    Warning,
    /// The part does not work.
    Problem,
}

/// Result of one check.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Finding {
    verdict: Verdict,
    /// Part that was checked, such as `memory` or `port`.
    subject: String,
    /// Result and hints, which may quote the configuration.
    text: String,
    /// Replacement for `text` that quotes nothing of the configuration; `None` if `text` quotes nothing.
    redacted: Option<String>,
}

impl Finding {
    fn new(verdict: Verdict, subject: impl Into<String>, text: impl Into<String>) -> Self {
        Self {
            verdict,
            subject: subject.into(),
            text: text.into(),
            redacted: None,
        }
    }

    fn ok(subject: impl Into<String>, text: impl Into<String>) -> Self {
        Self::new(Verdict::Ok, subject, text)
    }

    /// Formats the finding without quoting the configuration, for a report that is shared.
    fn to_shareable(&self) -> String {
        let text = self.redacted.as_ref().unwrap_or(&self.text).clone();
        let shown = Self {
            text,
            ..self.clone()
        };
        shown.to_string()
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verdict = match self.verdict {
            Verdict::Ok => "ok     ",
            Verdict::Warning => "warning",
            Verdict::Problem => "PROBLEM",
        };
        let mut lines = self.text.lines();
        let first = lines.next().unwrap_or_default();
        write!(f, "{verdict}  {}: {first}", self.subject)?;
        lines.try_for_each(|line| write!(f, "\n         {line}"))
    }
}

/// Runs all checks and prints the findings. The exit code is 1 if there is a problem.
///
/// # Errors
/// Standard output or the report cannot be written.
pub(crate) fn run(args: DoctorArgs, around: &Surroundings) -> anyhow::Result<ExitCode> {
    let DoctorArgs { source, bundle } = args;
    let typed = overrides(source)?;
    let mut findings = machine::inspect(around);
    let (configured, layers) = configured::inspect(&typed, around);
    findings.extend(configured);
    let lines: Vec<String> = findings.iter().map(Finding::to_string).collect();
    print(&(lines.join("\n") + "\n"))?;
    if let Some(path) = bundle {
        bundle::write(&path, &findings, layers.as_ref())?;
        print(&format!(
            "\nThe report is in `{}`. Read it before you share it: it omits secrets, prompts and the path of your home directory.\n",
            path.display()
        ))?;
    }
    let is_broken = findings
        .iter()
        .any(|finding| finding.verdict == Verdict::Problem);
    Ok(if is_broken {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}
