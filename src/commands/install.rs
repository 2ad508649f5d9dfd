//! `llama-mcp-server install`: adds this server to the configuration file of an MCP client.
//!
//! Checks the configuration of the server first: one that cannot be served is not installed.

pub(crate) mod client_file;
pub(crate) mod edit;
pub(crate) mod locate;

use std::collections::BTreeMap;
use std::env;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, anyhow, bail};

use super::{INVALID, print, report_error};
use crate::check;
use crate::cli::install::{FlagsError, InstallArgs, overrides};
use crate::config::problem::Problem;
use crate::config::{ConfigError, Surroundings, at_home};
use crate::error_code::ErrorCode;
use crate::mcp_clients::{CLIENTS, Client};
use client_file::ClientFile;
use edit::{Entry, Slot};
use locate::{Folders, find, folders};

/// Deadline in seconds for clients that time out after about a minute. The remaining seconds are for sending the answer.
const SHORT_DEADLINE: &str = "50";

/// The way in which a client starts the server.
struct Launch {
    arguments: Vec<String>,
    /// Environment variables that its configuration reads.
    variables: Vec<String>,
    /// Warnings about settings that work but are probably a mistake.
    warnings: Vec<String>,
}

/// The reason why the server would not start.
enum Invalid {
    /// The flags are invalid.
    Flags(FlagsError),
    /// The configuration is invalid.
    Config(ConfigError),
}

/// Adds the server to the file of the client, or removes it.
///
/// # Errors
/// The client is not installed, its file is invalid or cannot be written, or the name is taken.
pub(crate) fn run(args: &InstallArgs, around: &Surroundings) -> anyhow::Result<ExitCode> {
    let installed = install(args, around).with_context(|| {
        ErrorCode::InstallFailed.says(format!(
            "the configuration of `{}` was not changed",
            args.client
        ))
    })?;
    match installed {
        Ok(report) => print(&report),
        Err(Invalid::Config(error)) => report_error(&error),
        Err(Invalid::Flags(error)) => {
            let written = writeln!(io::stderr(), "{}", error.to_string().trim_end());
            written.context("could not write to standard error")?;
            Ok(ExitCode::from(INVALID))
        }
    }
}

/// Installs or removes the server, and returns the text to print.
fn install(args: &InstallArgs, around: &Surroundings) -> anyhow::Result<Result<String, Invalid>> {
    let client = CLIENTS.iter().find(|client| client.name == args.client);
    if args.action.remove {
        let Some(client) = client else {
            bail!("`print` writes no file, so there is nothing to remove; name the client");
        };
        return change(client, args, None, around).map(Ok);
    }
    let launch = match launch(args, client, around)? {
        Ok(launch) => launch,
        Err(invalid) => return Ok(Err(invalid)),
    };
    for warning in &launch.warnings {
        writeln!(io::stderr(), "warning: {warning}")
            .context("could not write to standard error")?;
    }
    let entry = Entry {
        has_type: client.is_some_and(|client| client.has_type),
        command: text(&program(&around.variables)?)?,
        args: launch.arguments,
    };
    let Some(client) = client else {
        let slot = Slot {
            key: "mcpServers",
            name: &args.name,
        };
        return edit::set("", slot, &entry).map(Ok).map_err(Into::into);
    };
    let report = change(client, args, Some(&entry), around)?;
    if args.dry_run || launch.variables.is_empty() {
        return Ok(Ok(report));
    }
    let variables = launch.variables.join(", ");
    Ok(Ok(format!(
        "{report}The configuration reads {variables}: set these variables for the server, for example with `env` next to `command`\n"
    )))
}

/// Writes `entry` into the file of the client. Without `entry`, removes the one that is there.
fn change(
    client: &Client,
    args: &InstallArgs,
    entry: Option<&Entry>,
    around: &Surroundings,
) -> anyhow::Result<String> {
    let file = file_of(client, &folders(&around.variables))?;
    let shown = file.display();
    let found = ClientFile::read(&file).with_context(|| format!("could not read `{shown}`"))?;
    let slot = Slot {
        key: client.key,
        name: &args.name,
    };
    let edited = match entry {
        Some(entry) => edit::set(found.text(), slot, entry),
        None => edit::remove(found.text(), slot),
    };
    let edited = edited.with_context(|| format!("could not edit `{shown}`"))?;
    if args.dry_run {
        return Ok(edited);
    }
    let mut lines = Vec::new();
    let is_changed = edited != found.text();
    if is_changed {
        let replaced = found.replace(&edited);
        let backup = replaced.with_context(|| format!("could not write `{shown}`"))?;
        let what = entry.map_or("was removed from", |_| "is now in");
        lines.push(format!("{}: `{}` {what} {shown}", client.title, slot.name));
        lines.extend(backup.map(|backup| format!("Backup: {}", backup.display())));
    } else {
        let what = entry.map_or("is not in", |_| "is already in");
        lines.push(format!("{}: `{}` {what} {shown}", client.title, slot.name));
    }
    if let Some(entry) = entry {
        let arguments = entry.args.join(" ");
        lines.push(format!("Command: {} {arguments}", entry.command));
        lines.push(format!("Time limit: {}", limit(client, entry)));
        lines.push(format!("Next: {}", client.next));
    } else if is_changed {
        lines.push(format!("Next: restart {}", client.title));
    }
    Ok(lines.join("\n") + "\n")
}

/// Returns how the client is to start the server. Checks first that the server can start.
fn launch(
    args: &InstallArgs,
    client: Option<&Client>,
    around: &Surroundings,
) -> anyhow::Result<Result<Launch, Invalid>> {
    let action = &args.action;
    let (flag, path) = match (action.model(), &action.config) {
        (Some(model), _) => ("--model", model),
        (None, Some(config)) => ("--config", config),
        (None, None) => bail!("`--model` or `--config` is required"),
    };
    // The client starts the server in a different folder.
    let path = std::path::absolute(at_home(path, around))
        .context("could not determine the current folder")?;
    let mut arguments = vec![flag.to_owned(), text(&path)?];
    arguments.extend(args.flags.iter().cloned());
    let typed = match overrides(&arguments) {
        Ok(typed) => typed,
        Err(error) => return Ok(Err(Invalid::Flags(error))),
    };
    let mut typed_over_stdio = typed.clone();
    let over_stdio = ("transport".to_owned(), "stdio".into());
    typed_over_stdio.flags.push(over_stdio);
    let checked = match check::load(&typed_over_stdio, around) {
        Ok(checked) if checked.tolerated_faults.is_empty() => checked,
        Ok(checked) => {
            let error = ConfigError::from_problems(checked.tolerated_faults);
            return Ok(Err(Invalid::Config(error)));
        }
        Err(error) => return Ok(Err(Invalid::Config(error))),
    };
    if action.config.is_some() {
        // The file may set another transport, now or later.
        arguments.extend(["--transport", "stdio"].map(str::to_owned));
    }
    // With a file, the flag would override deadlines that the file sets for single tools.
    if action.model().is_some()
        && client.is_some_and(|client| client.has_short_timeout)
        && !typed.flags.iter().any(|(key, _)| key == "deadline")
    {
        arguments.extend(["--deadline", SHORT_DEADLINE].map(str::to_owned));
    }
    Ok(Ok(Launch {
        arguments,
        variables: checked.layers.secret_variables,
        warnings: checked.layers.warnings.iter().map(Problem::line).collect(),
    }))
}

/// Describes how long the client lets a call take, and how the server keeps to that limit.
fn limit(client: &Client, entry: &Entry) -> String {
    let limit = client.limit;
    let mut args = entry.args.iter();
    let has_deadline = args.any(|arg| arg.starts_with("--deadline"));
    match (client.has_short_timeout, has_deadline) {
        (false, _) => limit.to_owned(),
        (true, true) => {
            format!("{limit}. The deadline ends answers earlier, with the text generated so far.")
        }
        (true, false) => format!(
            "{limit}. Set `deadline = {SHORT_DEADLINE}` under [defaults] to end answers earlier, with the text generated so far."
        ),
    }
}

fn file_of(client: &Client, folders: &Folders) -> anyhow::Result<PathBuf> {
    find(client, folders).map_err(|missing| {
        let shown = missing.iter().map(|path| format!("`{}`", path.display()));
        anyhow!(
            "{} is not installed for this user: there is no {}; start it once if it is installed, or copy the output of \
             `install print` into its file",
            client.title,
            shown.collect::<Vec<_>>().join(" and no "),
        )
    })
}

/// Returns the path of this program. Prefers a link to it in `PATH`, which stays valid after an update.
fn program(variables: &BTreeMap<String, String>) -> anyhow::Result<PathBuf> {
    let running = env::current_exe().context("could not determine the path of this program")?;
    let Some((name, file)) = running.file_name().zip(fs::canonicalize(&running).ok()) else {
        return Ok(running);
    };
    let path = variables.get("PATH").map(String::as_str);
    let linked = env::split_paths(path.unwrap_or_default())
        .filter(|folder| folder.is_absolute())
        .map(|folder| folder.join(name))
        .find(|candidate| fs::canonicalize(candidate).is_ok_and(|found| found == file));
    Ok(linked.unwrap_or(running))
}

fn text(path: &Path) -> anyhow::Result<String> {
    let message = || {
        format!(
            "`{}` is not valid UTF-8, which JSON requires",
            path.display()
        )
    };
    path.to_str().map(str::to_owned).with_context(message)
}
