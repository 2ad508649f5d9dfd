//! `llama-mcp-server install`: tells a client of this server, in the client's own file. What could not be served is not installed.

pub(crate) mod edit;
pub(crate) mod place;
pub(crate) mod write;

use std::collections::BTreeMap;
use std::env;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, anyhow, bail};

use super::{WRONG, print, refused};
use crate::check;
use crate::cli::install::{InstallArgs, overrides};
use crate::config::problem::Problem;
use crate::config::{ConfigError, Surroundings, at_home};
use crate::error_code::ErrorCode;
use crate::mcp_clients::{CLIENTS, Client};
use edit::{Entry, Slot};
use place::{Folders, find, folders};
use write::Found;

/// Beside a minute that a client gives, in seconds: what is left is for the answer's way.
const HASTY_DEADLINE: &str = "50";

/// How it is started.
struct Start {
    arguments: Vec<String>,
    /// What its configuration reads of the environment.
    variables: Vec<String>,
    /// Warnings about settings that work but are probably a mistake.
    warnings: Vec<String>,
}

/// Why it would not start.
enum Refused {
    /// These are no flags, in the words of the command line.
    Flags(String),
    /// What they say is wrong.
    Config(ConfigError),
}

/// Runs it.
///
/// # Errors
/// Where the client is not there, its file is broken or cannot be written, or the name is taken.
pub(crate) fn run(asked: &InstallArgs, around: &Surroundings) -> anyhow::Result<ExitCode> {
    let installed = install(asked, around).with_context(|| {
        ErrorCode::InstallFailed.says(format!("`{}` is not changed", asked.client))
    })?;
    match installed {
        Ok(told) => print(&told),
        Err(Refused::Config(error)) => refused(&error),
        Err(Refused::Flags(told)) => {
            let written = writeln!(io::stderr(), "{}", told.trim_end());
            written.context("could not write to standard error")?;
            Ok(ExitCode::from(WRONG))
        }
    }
}

/// What is to be printed.
fn install(asked: &InstallArgs, around: &Surroundings) -> anyhow::Result<Result<String, Refused>> {
    let client = CLIENTS.iter().find(|client| client.name == asked.client);
    if asked.wanted.remove {
        let Some(client) = client else {
            bail!("`print` writes no file, so there is nothing to remove; name the client");
        };
        return change(client, asked, None, around).map(Ok);
    }
    let start = match start(asked, client, around)? {
        Ok(start) => start,
        Err(refused) => return Ok(Err(refused)),
    };
    for warning in &start.warnings {
        writeln!(io::stderr(), "warning: {warning}")
            .context("could not write to standard error")?;
    }
    let entry = Entry {
        has_type: client.is_some_and(|client| client.has_type),
        command: text(&program(&around.variables)?)?,
        args: start.arguments,
    };
    let Some(client) = client else {
        let slot = Slot {
            key: "mcpServers",
            name: &asked.name,
        };
        return edit::set("", slot, &entry).map(Ok).map_err(Into::into);
    };
    let told = change(client, asked, Some(&entry), around)?;
    if asked.dry_run || start.variables.is_empty() {
        return Ok(Ok(told));
    }
    let variables = start.variables.join(", ");
    Ok(Ok(format!(
        "{told}Its configuration reads {variables}: the client must have these variables, by `env` beside `command` for example\n"
    )))
}

/// Puts `entry` into the client's file, or takes out what is there.
fn change(
    client: &Client,
    asked: &InstallArgs,
    entry: Option<&Entry>,
    around: &Surroundings,
) -> anyhow::Result<String> {
    let file = file_of(client, &folders(&around.variables))?;
    let shown = file.display();
    let found = Found::read(&file).with_context(|| format!("could not read `{shown}`"))?;
    let slot = Slot {
        key: client.key,
        name: &asked.name,
    };
    let edited = match entry {
        Some(entry) => edit::set(found.text(), slot, entry),
        None => edit::remove(found.text(), slot),
    };
    let edited = edited.with_context(|| format!("could not edit `{shown}`"))?;
    if asked.dry_run {
        return Ok(edited);
    }
    let mut lines = Vec::new();
    let is_changed = edited != found.text();
    if is_changed {
        let replaced = found.replace(&edited);
        let kept = replaced.with_context(|| format!("could not write `{shown}`"))?;
        let what = entry.map_or("is gone from", |_| "stands in");
        lines.push(format!("{}: `{}` {what} {shown}", client.title, slot.name));
        lines.extend(kept.map(|kept| format!("The file as it was: {}", kept.display())));
    } else {
        let what = entry.map_or("is not in", |_| "is already in");
        lines.push(format!("{}: `{}` {what} {shown}", client.title, slot.name));
    }
    if let Some(entry) = entry {
        let arguments = entry.args.join(" ");
        lines.push(format!("It starts: {} {arguments}", entry.command));
        lines.push(format!("Time limit: {}", limit(client, entry)));
        lines.push(format!("Next: {}", client.next));
    } else if is_changed {
        lines.push(format!("Next: start {} anew", client.title));
    }
    Ok(lines.join("\n") + "\n")
}

/// What the server is started with, once it is sure that it starts.
fn start(
    asked: &InstallArgs,
    client: Option<&Client>,
    around: &Surroundings,
) -> anyhow::Result<Result<Start, Refused>> {
    let wanted = &asked.wanted;
    let (flag, path) = match (wanted.model(), &wanted.config) {
        (Some(model), _) => ("--model", model),
        (None, Some(config)) => ("--config", config),
        (None, None) => bail!("`--model` or `--config` says what is served"),
    };
    // The client starts it in a folder of its own.
    let path = std::path::absolute(at_home(path, around))
        .context("could not determine the current folder")?;
    let mut arguments = vec![flag.to_owned(), text(&path)?];
    arguments.extend(asked.flags.iter().cloned());
    let typed = match overrides(&arguments) {
        Ok(typed) => typed,
        Err(told) => return Ok(Err(Refused::Flags(told))),
    };
    let is_said = |wanted: &str| typed.flags.iter().any(|(key, _)| key == wanted);
    if is_said("transport") {
        let told = "error: a client that starts the server speaks to it over stdio: leave out `--transport`";
        return Ok(Err(Refused::Flags(told.into())));
    }
    let mut typed_over_stdio = typed.clone();
    let over_stdio = ("transport".to_owned(), "stdio".into());
    typed_over_stdio.flags.push(over_stdio);
    let checked = match check::load(&typed_over_stdio, around) {
        Ok(checked) if checked.doubts.is_empty() => checked,
        Ok(checked) => {
            let error = ConfigError::of(checked.doubts);
            return Ok(Err(Refused::Config(error)));
        }
        Err(error) => return Ok(Err(Refused::Config(error))),
    };
    if wanted.config.is_some() {
        // Whatever the file says, or will.
        arguments.extend(["--transport", "stdio"].map(str::to_owned));
    }
    // A file may say it for each tool, and a flag would count before that.
    if wanted.model().is_some()
        && client.is_some_and(|client| client.is_hasty)
        && !is_said("deadline")
    {
        arguments.extend(["--deadline", HASTY_DEADLINE].map(str::to_owned));
    }
    Ok(Ok(Start {
        arguments,
        variables: checked.layers.secret_variables,
        warnings: checked.layers.warnings.iter().map(Problem::line).collect(),
    }))
}

/// How long a call may take, and what the server does about it.
fn limit(client: &Client, entry: &Entry) -> String {
    let limit = client.limit;
    let mut args = entry.args.iter();
    let has_deadline = args.any(|arg| arg.starts_with("--deadline"));
    match (client.is_hasty, has_deadline) {
        (false, _) => limit.to_owned(),
        (true, true) => format!("{limit}. The deadline ends answers before, with what they have."),
        (true, false) => format!(
            "{limit}. `deadline = {HASTY_DEADLINE}` under [defaults] ends answers before, with what they have."
        ),
    }
}

fn file_of(client: &Client, folders: &Folders) -> anyhow::Result<PathBuf> {
    find(client, folders).map_err(|looked_for| {
        let shown = looked_for.iter().map(|path| format!("`{}`", path.display()));
        anyhow!(
            "{} is not installed for this user: there is no {}; start it once if it is, or let `install print` print what \
             belongs in its file",
            client.title,
            shown.collect::<Vec<_>>().join(" and no "),
        )
    })
}

/// This program, by a path that outlives an update: the one in `PATH` where that is a link to it.
fn program(variables: &BTreeMap<String, String>) -> anyhow::Result<PathBuf> {
    let running = env::current_exe().context("could not find this program's file")?;
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
    let told = || format!("`{}` is not valid UTF-8, as JSON is", path.display());
    path.to_str().map(str::to_owned).with_context(told)
}
