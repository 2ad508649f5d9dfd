//! `llama-mcp-server doctor`: what this machine, this build and a configuration are fit for.
//!
//! It starts no server and loads no model. llama.cpp is asked in a process of its own.

mod bundle;
mod configured;
mod machine;

use std::fmt;
use std::process::ExitCode;

use super::{overrides, print};
use crate::cli::DoctorArgs;
use crate::config::Surroundings;

/// How a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    /// As it should be.
    Ok,
    /// It works, and could do better; or it may not work.
    Warning,
    /// It does not work.
    Problem,
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Finding {
    verdict: Verdict,
    /// A word.
    subject: String,
    /// What was found, and behind it the way out.
    text: String,
    /// What others are told, where the text shows what was written into the configuration.
    outline: Option<String>,
}

impl Finding {
    fn new(verdict: Verdict, subject: impl Into<String>, text: impl Into<String>) -> Self {
        Self {
            verdict,
            subject: subject.into(),
            text: text.into(),
            outline: None,
        }
    }

    fn ok(subject: impl Into<String>, text: impl Into<String>) -> Self {
        Self::new(Verdict::Ok, subject, text)
    }

    /// The same for people who are not to read the configuration.
    fn for_others(&self) -> String {
        let text = self.outline.as_ref().unwrap_or(&self.text).clone();
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

/// Looks at all, and prints it; exit code 1 where something does not work.
///
/// # Errors
/// Where nothing can be written.
pub(crate) fn run(asked: DoctorArgs, around: &Surroundings) -> anyhow::Result<ExitCode> {
    let DoctorArgs { source, bundle } = asked;
    let typed = overrides(source)?;
    let mut findings = machine::look(around);
    let (of_configuration, layers) = configured::look(&typed, around);
    findings.extend(of_configuration);
    let lines: Vec<String> = findings.iter().map(Finding::to_string).collect();
    let told = lines.join("\n") + "\n";
    print(&told)?;
    if let Some(path) = bundle {
        bundle::write(&path, &findings, layers.as_ref())?;
        print(&format!(
            "\nThe report is in `{}`: read it before you pass it on. Secrets, prompts and your home directory's name are left out.\n",
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
