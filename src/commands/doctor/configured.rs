//! Checks of a configuration against the machine: models, disks, port.

use std::io::ErrorKind;
use std::iter;
use std::net::SocketAddr;
use std::path::Path;

use tokio::runtime::Builder;

use super::{Finding, Verdict};
use crate::backend::Need;
use crate::check::{self, Checked};
use crate::commands::server::RunningServer;
use crate::config::http::HttpConfig;
use crate::config::load::Layers;
use crate::config::problem::Problem;
use crate::config::units::{SpinCount, human};
use crate::config::{
    ConfigError, LoadSettings, ModelConfig, ModelFiles, Overrides, Surroundings, Transport,
};
use crate::memory;
use crate::process::{self, memory_lock};
use crate::transport;
use crate::transport::http::observe::READY;
use crate::worker::spin_count::{Spin, inherited_variable};

/// Free disk space in bytes below which logs may soon fill the disk.
const LITTLE_DISK: u64 = 1 << 30;

/// Returns the findings on the configuration that `typed` names, and its layers if it is valid.
pub(super) fn inspect(typed: &Overrides, around: &Surroundings) -> (Vec<Finding>, Option<Layers>) {
    let checked = match check::examine(typed, around) {
        Ok(checked) => checked,
        Err(rejected) => {
            let found = match &rejected.error {
                ConfigError::NoModel(None) => {
                    let text = "none; to check one, add `--model FILE` or `--config FILE`";
                    Finding::ok("configuration", text)
                }
                error => problem(error),
            };
            let warnings = rejected.warnings.iter().map(warning);
            return (iter::once(found).chain(warnings).collect(), None);
        }
    };
    let mut findings = vec![configuration(&checked)];
    // Models with unusable files are among the problems of the configuration.
    let models = checked.loadable();
    findings
        .extend(models.map(|(model, files, need)| self::model(model, files, need, checked.budget)));
    let models = checked.loadable();
    findings.extend(models.filter_map(|(model, files, _)| memory_lock_limit(model, files)));
    findings.extend(checked.layers.warnings.iter().map(warning));
    findings.extend(disks(&checked));
    match &checked.config.transport {
        Transport::Stdio => findings.push(Finding::ok("transport", "stdio: no port")),
        Transport::Http(http) => {
            findings.push(port(http, typed, around));
            let limit = process::raise_file_limit();
            let problem = process::too_few_files(http.limits.max_connections, limit);
            findings.extend(problem.map(|text| Finding::new(Verdict::Warning, "files", text)));
        }
    }
    if !checked.tolerated_faults.is_empty() {
        findings.push(problem(&ConfigError::from_problems(
            checked.tolerated_faults,
        )));
    }
    (findings, Some(checked.layers))
}

fn problem(error: &ConfigError) -> Finding {
    Finding {
        redacted: Some(error.redacted()),
        ..Finding::new(Verdict::Problem, "configuration", error.to_text())
    }
}

fn warning(warning: &Problem) -> Finding {
    Finding {
        redacted: Some(warning.redacted()),
        ..Finding::new(Verdict::Warning, "configuration", warning.line())
    }
}

fn configuration(checked: &Checked) -> Finding {
    let from = checked.layers.file.as_ref();
    let from = from.map_or("no file".into(), |file| {
        format!("`{}`", file.path.display())
    });
    let state = if checked.tolerated_faults.is_empty() {
        "valid"
    } else {
        "with the problems below"
    };
    let mut lines = vec![format!(
        "{from}, {state}; {} for models",
        human(checked.budget)
    )];
    lines.extend(
        checked
            .layers
            .notes
            .iter()
            .map(|note| format!("note: {note}")),
    );
    Finding::ok("configuration", lines.join("\n"))
}

/// Returns a warning if the system does not let the process of `model` lock its weights into memory.
fn memory_lock_limit(model: &ModelConfig, files: &ModelFiles) -> Option<Finding> {
    let limit = memory_lock::limit()?;
    let is_refused = model.gguf().settings.mlock && files.header.weight_bytes > limit;
    is_refused.then(|| {
        let text = format!(
            "`mlock` will have no effect: the weights take {}\nhint: {}",
            human(files.header.weight_bytes),
            memory_lock::advice(limit)
        );
        Finding::new(Verdict::Warning, format!("model {}", model.name), text)
    })
}

fn model(model: &ModelConfig, files: &ModelFiles, need: &Need, budget: u64) -> Finding {
    let header = &files.header;
    let total = need.estimate.total();
    let template =
        if header.chat_template.is_some() || model.gguf().settings.chat_template.is_some() {
            "a chat template"
        } else {
            "no chat template"
        };
    let trained = header.n_ctx_train.map_or(String::new(), |tokens| {
        format!(", trained for {tokens} tokens")
    });
    let gpu = match need.gpu.total() {
        0 => String::new(),
        bytes => format!(" and {} of GPU memory", human(bytes)),
    };
    let text = format!(
        "`{}`, {}{trained}, {template}; {} of weights, {} in total{gpu} for calls of {} tokens",
        model.gguf().settings.path.display(),
        header.architecture,
        human(header.weight_bytes),
        human(total),
        need.n_ctx,
    );
    let overrides = thread_overrides(&model.gguf().settings, inherited_variable());
    let text = iter::once(text).chain(overrides);
    let text = text.collect::<Vec<_>>().join("\n");
    let subject = format!("model {}", model.name);
    let free = memory::free().unwrap_or(u64::MAX);
    if total > budget {
        let text = format!(
            "{text}\nthis exceeds the memory budget of all models, {}",
            human(budget)
        );
        return Finding::new(Verdict::Warning, subject, text);
    }
    if total > free {
        let smaller = if need.least <= free {
            "lower `n_ctx` or `parallel`"
        } else {
            "choose a smaller model or quantization"
        };
        let text = format!(
            "{text}\n{} are free now\nhint: stop programs that use the memory, or {smaller}",
            human(free)
        );
        return Finding::new(Verdict::Warning, subject, text);
    }
    Finding::ok(subject, text)
}

/// Returns a line for each key that overrides how a model with `load` uses the CPUs by default. `inherited` is the variable of the
/// environment that says how long threads spin.
fn thread_overrides(load: &LoadSettings, inherited: Option<&str>) -> Vec<String> {
    let mut lines = Vec::new();
    if !load.adaptive_threads {
        lines.push(format!(
            "threads: always {}, even while other programs use the CPUs (`adaptive_threads`)",
            load.n_threads
        ));
    }
    if let SpinCount::Count(count) = load.spin_count {
        let instead = inherited.map_or(String::new(), |variable| {
            format!("; `{variable}` of the environment has no effect")
        });
        lines.push(format!("threads: {}{instead}", Spin::configured(count)));
    }
    lines
}

/// Checks the disks that the server writes to: that of the log, and that of temporary files.
fn disks(checked: &Checked) -> Vec<Finding> {
    let temporary = std::env::temp_dir();
    let log = checked.config.log.file.as_deref().and_then(Path::parent);
    let folders = [("temporary files", Some(temporary.as_path())), ("log", log)];
    let folders = folders.into_iter();
    folders
        .filter_map(|(what, folder)| {
            // The parent of a bare file name is empty.
            let folder = folder?;
            let folder = if folder.as_os_str().is_empty() {
                Path::new(".")
            } else {
                folder
            };
            // The server creates the folder of the log.
            if !folder.exists() && what != "log" {
                let text = format!("`{}` does not exist", folder.display());
                return Some(Finding::new(
                    Verdict::Warning,
                    format!("disk for {what}"),
                    text,
                ));
            }
            let free = process::free_disk(folder)?;
            let text = format!("{} free in `{}`", human(free), folder.display());
            let subject = format!("disk for {what}");
            Some(if free < LITTLE_DISK {
                Finding::new(Verdict::Warning, subject, text)
            } else {
                Finding::ok(subject, text)
            })
        })
        .collect()
}

fn port(http: &HttpConfig, typed: &Overrides, around: &Surroundings) -> Finding {
    let addresses: Vec<String> = http.addresses.iter().map(SocketAddr::to_string).collect();
    let addresses = addresses.join(" or ");
    // Listens as the server does.
    let listened = Builder::new_current_thread()
        .enable_io()
        .build()
        .and_then(|runtime| runtime.block_on(transport::http::listen(http)).map(drop));
    let Err(error) = listened else {
        return Finding::ok("port", format!("{addresses} is free"));
    };
    let response = RunningServer::from_config(typed, around)
        .ok()
        .and_then(|server| server.get("/health/ready").ok());
    match response {
        Some((200, body)) if body.trim() == READY => Finding::ok(
            "port",
            format!("{addresses}: a llama-mcp-server is already running there"),
        ),
        _ => Finding::new(
            Verdict::Problem,
            "port",
            match error.kind() {
                ErrorKind::AddrNotAvailable => {
                    format!(
                        "{addresses}: {error}\nhint: set `--host`, or `host` in `[server]`, to an address of this machine"
                    )
                }
                _ => format!(
                    "{addresses}: {error}\nhint: choose another port with `--port`, or with `port` in `[server]`"
                ),
            },
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_that_override_the_use_of_the_cpus_are_shown() {
        let default = LoadSettings::default();
        assert!(thread_overrides(&default, Some("GOMP_SPINCOUNT")).is_empty());
        let load = LoadSettings {
            n_threads: 4,
            adaptive_threads: false,
            spin_count: SpinCount::Count(500),
            ..default
        };
        let lines = thread_overrides(&load, Some("OMP_WAIT_POLICY"));
        assert_eq!(
            lines,
            [
                "threads: always 4, even while other programs use the CPUs (`adaptive_threads`)",
                "threads: they spin 500 times before they sleep (`spin_count`); `OMP_WAIT_POLICY` of the environment has no effect",
            ]
        );
    }
}
