//! Translates flags and commands of other programs.

use std::ffi::OsString;
use std::path::Path;

use clap::error::ErrorKind;
use clap::{Command, CommandFactory, Error};

use super::Cli;
use crate::config::address::Address;
use crate::config::file::OF_ONE_MODEL;
use crate::config::foreign;
use crate::config::validate::ConfigSchema;

/// Returns an error for the first unknown flag in `arguments` that is a flag of another program, or a key of the file. Without this, clap
/// reads `-hf` as `-h` and prints the help.
pub(crate) fn unknown_flag(arguments: &[OsString]) -> Option<Error> {
    let mut command = Cli::command();
    let schema = ConfigSchema::default();
    let typed = arguments
        .iter()
        .skip(1)
        .filter_map(|argument| argument.to_str());
    let mut typed = typed.take_while(|argument| *argument != "--");
    let (flag, hint) = typed.find_map(|argument| {
        let flag = argument.split('=').next()?;
        let name = flag.strip_prefix('-')?.trim_start_matches('-');
        if name.is_empty() || has_flag(&command, flag) {
            return None;
        }
        Some((flag, hint(&command, &schema, name)?))
    })?;
    let message = format!("unknown flag `{flag}`; {hint}");
    Some(command.error(ErrorKind::UnknownArgument, message))
}

/// Returns an error if the first of `arguments` is a command of another program. Without this, clap reads `serve` as the path of a model.
pub(crate) fn unknown_command(arguments: &[OsString]) -> Option<Error> {
    let word = arguments.get(1)?.to_str()?;
    let hint = command_hint(word).filter(|_| !Path::new(word).exists())?;
    let message = format!("unknown command `{word}`; {hint}");
    Some(Cli::command().error(ErrorKind::InvalidSubcommand, message))
}

/// Returns the replacement for the command `word` of another program.
fn command_hint(word: &str) -> Option<&'static str> {
    Some(match word {
        "serve" | "server" | "start" | "run" | "chat" | "up" => {
            "run `llama-mcp-server` without a command to start the server, or `llama-mcp-server --model FILE`"
        }
        "check" | "validate" | "lint" | "test" => "use `llama-mcp-server config check`",
        "show" => "use `llama-mcp-server config show`",
        "init" => "use `llama-mcp-server config init`",
        "reference" => "use `llama-mcp-server config reference`",
        "help" => "use `llama-mcp-server --help`",
        "version" => "use `llama-mcp-server --version`",
        "list" | "ls" | "ps" | "models" => "use `llama-mcp-server status`",
        "stop" => {
            "`llama-mcp-server unload MODEL` unloads a model; Ctrl-C or SIGTERM stops the server"
        }
        "reload" => "the server reloads its configuration file by itself",
        "pull" | "download" | "get" => {
            "models are not downloaded automatically: download a .gguf file and give its path"
        }
        _ => return None,
    })
}

/// Returns the replacement for the flag called `name`. A key of this program takes precedence over names of other programs.
fn hint(command: &Command, schema: &ConfigSchema, name: &str) -> Option<String> {
    let key = name.replace('-', "_");
    let own = || {
        let tables = ["defaults", "server", "registry", "log"];
        let mut addresses = tables.iter().map(|table| Address::new([*table, &*key]));
        let address = addresses.find(|address| schema.knows(address))?;
        Some(match address.parts() {
            [_, key] if OF_ONE_MODEL.contains(&key.as_str()) => Address::of_model("NAME", key),
            _ => address,
        })
    };
    if let Some(address) = own() {
        return Some(format!("use {}", spelled(command, &address)));
    }
    let meaning = foreign::find(name)?;
    let Some(address) = meaning.address() else {
        return Some(meaning.note.to_owned());
    };
    let here = format!("use {}", spelled(command, &address));
    Some(foreign::join(&here, meaning.note))
}

/// Returns how to set the key at `address` on the command line.
fn spelled(command: &Command, address: &Address) -> String {
    let key = address.parts().last().map_or("", String::as_str);
    let flag = match key {
        "path" => "model",
        key => key,
    };
    if has_flag(command, &format!("--{flag}")) {
        format!("`--{flag}`")
    } else {
        format!("`--set {address}=…`")
    }
}

/// Returns whether `command` or one of its subcommands has `flag`.
fn has_flag(command: &Command, flag: &str) -> bool {
    let built_in = ["-h", "--help", "-V", "--version"];
    let mut arguments = command.get_arguments();
    let is_own = arguments.any(|argument| {
        let longs = argument.get_long_and_visible_aliases().unwrap_or_default();
        let hidden = argument.get_all_aliases().unwrap_or_default();
        let mut longs = longs.into_iter().chain(hidden);
        longs.any(|long| flag.strip_prefix("--") == Some(long))
    });
    is_own
        || built_in.contains(&flag)
        || command.get_subcommands().any(|inner| has_flag(inner, flag))
}
