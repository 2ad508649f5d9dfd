//! `llama-mcp-server unload MODEL` and `restart MODEL`: unload or restart one model of a running server.

use std::process::ExitCode;

use anyhow::Context;
use serde_json::Value;

use super::print;
use super::server::{Server, no_server};
use crate::cli::ModelArgs;
use crate::config::Surroundings;
use crate::error_code::{Coded, ErrorCode};
use crate::printable::printable;
use crate::registry::{ModelState, Unloaded};
use crate::status::Action;

/// Largest number of characters of a server's refusal that are shown.
const MAX_REFUSAL: usize = 512;

/// Asks a server to unload or restart the model, and prints the result.
///
/// # Errors
/// The server does not answer, has no such model, or does not allow it.
pub(crate) fn run(
    asked: ModelArgs,
    action: Action,
    around: &Surroundings,
) -> anyhow::Result<ExitCode> {
    let ModelArgs { model, remote } = asked;
    let server = match Server::asked(remote, around)? {
        Ok(server) => server,
        Err(code) => return Ok(code),
    };
    if model.is_empty() {
        return Err(unknown(&model, &server).into());
    }
    let segment = path_segment(&model);
    let (status, said) =
        server.post_with_token(&format!("/admin/models/{segment}/{}", action.name()))?;
    if status != 200 {
        return Err(refusal(status, &said, &model, &server).into());
    }
    let done: Unloaded = serde_json::from_str(&said).with_context(|| other_program(&server))?;
    match (&done.fault, action) {
        (Some(fault), Action::Restart) => {
            let model = printable(&done.model, MAX_REFUSAL);
            let message = format!("`{model}` cannot be loaded: {fault}");
            Err(ErrorCode::LoadFailed.says(message).into())
        }
        _ => print(&in_words(&done, action)),
    }
}

/// Returns `name`, which may be an alias such as `qwen2.5:7b`, as one segment of a URL's path.
fn path_segment(name: &str) -> String {
    let encoded = |byte: u8| match byte {
        b'_' | b'-' => char::from(byte).to_string(),
        byte if byte.is_ascii_alphanumeric() => char::from(byte).to_string(),
        byte => format!("%{byte:02X}"),
    };
    name.bytes().map(encoded).collect()
}

/// Returns the error for a response with `status` and the body `said`.
fn refusal(status: u16, said: &str, model: &str, server: &Server) -> Coded {
    let url = &server.url;
    let message = message_of(said);
    match (status, message) {
        (401, _) => no_server(server.wants_token()),
        (403, Some(message)) => ErrorCode::NotAllowed.says(message),
        (404, Some(message)) if message.starts_with("unknown model") => unknown(model, server),
        (404 | 405, _) => other_program(server),
        (status, message) => no_server(format!(
            "the server at {url} answers with status {status}: {}",
            message.unwrap_or_default()
        )),
    }
}

/// Returns the message of a refusal, which is a JSON-RPC error.
fn message_of(said: &str) -> Option<String> {
    let said: Value = serde_json::from_str(said).ok()?;
    Some(printable(said["error"]["message"].as_str()?, MAX_REFUSAL))
}

fn unknown(model: &str, server: &Server) -> Coded {
    ErrorCode::UnknownModel.says(format!(
        "the server at {} has no model `{}`; `llama-mcp-server status` lists its models",
        server.url,
        printable(model, MAX_REFUSAL)
    ))
}

fn other_program(server: &Server) -> Coded {
    server.missing(format!(
        "what answers at {} cannot unload models: another program, or an older version",
        server.url
    ))
}

/// Returns a line that describes what was done.
fn in_words(done: &Unloaded, action: Action) -> String {
    let Unloaded {
        model,
        was,
        running,
        fault,
    } = done;
    let next = match fault {
        Some(fault) => format!("cannot load it: {fault}"),
        None => "starts a new process".to_owned(),
    };
    let former = match (was, running) {
        (ModelState::Unloaded | ModelState::Failed | ModelState::Ending, _) => "",
        (_, 0) => "; the old one has ended or is about to",
        (_, 1) => "; the old one ends after the call that it answers",
        (_, _) => "; the old one ends after the calls that it answers",
    };
    match action {
        Action::Restart => format!("{model}: a new process is starting{former}\n"),
        Action::Unload if former.is_empty() => {
            format!("{model}: no process was running; the next call {next}\n")
        }
        Action::Unload => match running {
            0 => format!("{model}: unloaded; the next call {next}\n"),
            1 => format!("{model}: unloads after the call that it answers; the next call {next}\n"),
            running => format!(
                "{model}: unloads after the {running} calls that it answers; the next call {next}\n"
            ),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(was: ModelState, running: usize, action: Action) -> String {
        let model = "small".to_owned();
        let done = Unloaded {
            model,
            was,
            running,
            fault: None,
        };
        in_words(&done, action)
    }

    #[test]
    fn a_name_is_one_segment_of_a_path_whatever_is_in_it() {
        assert_eq!(path_segment("small-1_b"), "small-1_b");
        assert_eq!(path_segment("../qwen2.5:7b"), "%2E%2E%2Fqwen2%2E5%3A7b");
    }

    #[test]
    fn the_output_names_the_process_and_its_calls() {
        let unloaded = |was, running| told(was, running, Action::Unload);
        assert_eq!(
            unloaded(ModelState::Loaded, 0),
            "small: unloaded; the next call starts a new process\n"
        );
        assert_eq!(
            unloaded(ModelState::Loaded, 2),
            "small: unloads after the 2 calls that it answers; the next call starts a new process\n"
        );
        assert_eq!(
            unloaded(ModelState::Failed, 0),
            "small: no process was running; the next call starts a new process\n"
        );
        assert_eq!(
            told(ModelState::Loaded, 1, Action::Restart),
            "small: a new process is starting; the old one ends after the call that it answers\n"
        );
        assert_eq!(
            told(ModelState::Unloaded, 0, Action::Restart),
            "small: a new process is starting\n"
        );
    }
}
