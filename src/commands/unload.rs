//! `llama-mcp-server unload MODEL` and `restart MODEL`: unloads or restarts one model of a running server.

use std::process::ExitCode;

use anyhow::Context;
use serde_json::Value;

use super::print;
use super::server::{RunningServer, no_server};
use crate::cli::ModelArgs;
use crate::config::Surroundings;
use crate::error_code::{Coded, ErrorCode};
use crate::printable::printable;
use crate::registry::{ModelState, Unloaded};
use crate::status::Action;

/// Longest shown message of a server, in characters.
const MAX_MESSAGE: usize = 512;

/// Requests that a server unload or restart the model, and prints the result.
///
/// # Errors
/// The server does not answer, has no such model, or does not allow it.
pub(crate) fn run(
    args: ModelArgs,
    action: Action,
    around: &Surroundings,
) -> anyhow::Result<ExitCode> {
    let ModelArgs { model, remote } = args;
    let server = match RunningServer::from_args(remote, around)? {
        Ok(server) => server,
        Err(code) => return Ok(code),
    };
    if model.is_empty() {
        return Err(unknown(&model, &server).into());
    }
    let segment = path_segment(&model);
    let (status, body) =
        server.post_with_token(&format!("/admin/models/{segment}/{}", action.name()))?;
    if status != 200 {
        return Err(rejection(status, &body, &model, &server).into());
    }
    let done: Unloaded = serde_json::from_str(&body).with_context(|| other_program(&server))?;
    match (&done.fault, action) {
        (Some(fault), Action::Restart) => {
            let model = printable(&done.model, MAX_MESSAGE);
            let message = format!("`{model}` cannot be loaded: {fault}");
            Err(ErrorCode::LoadFailed.says(message).into())
        }
        _ => print(&to_text(&done, action)),
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

/// Returns the error for a response with `status` and `body`.
fn rejection(status: u16, body: &str, model: &str, server: &RunningServer) -> Coded {
    let url = &server.url;
    let message = message_in(body);
    match (status, message) {
        (401, _) => no_server(server.token_rejected()),
        (403, Some(message)) => ErrorCode::NotAllowed.says(message),
        (404, Some(message)) if message.starts_with("unknown model") => unknown(model, server),
        (404 | 405, _) => other_program(server),
        (status, message) => no_server(format!(
            "the server at {url} answers with status {status}: {}",
            message.unwrap_or_default()
        )),
    }
}

/// Returns the message in `body`, which is a JSON-RPC error.
fn message_in(body: &str) -> Option<String> {
    let body: Value = serde_json::from_str(body).ok()?;
    Some(printable(body["error"]["message"].as_str()?, MAX_MESSAGE))
}

fn unknown(model: &str, server: &RunningServer) -> Coded {
    ErrorCode::UnknownModel.says(format!(
        "the server at {} has no model `{}`; `llama-mcp-server status` lists its models",
        server.url,
        printable(model, MAX_MESSAGE)
    ))
}

fn other_program(server: &RunningServer) -> Coded {
    server.unexpected(format!(
        "the program that answers at {} cannot unload models; it is another program, or an older version",
        server.url
    ))
}

/// Returns a line that describes the result.
fn to_text(done: &Unloaded, action: Action) -> String {
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
        (_, 0) => "; the old one is ending or has ended",
        (_, 1) => "; the old one ends after its running call",
        (_, _) => "; the old one ends after its running calls",
    };
    match action {
        Action::Restart => format!("{model}: a new process is starting{former}\n"),
        Action::Unload if former.is_empty() => {
            format!("{model}: no process was running; the next call {next}\n")
        }
        Action::Unload => match running {
            0 => format!("{model}: unloaded; the next call {next}\n"),
            1 => {
                format!("{model}: will be unloaded after its running call; the next call {next}\n")
            }
            running => format!(
                "{model}: will be unloaded after its {running} running calls; the next call {next}\n"
            ),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn output(was: ModelState, running: usize, action: Action) -> String {
        let model = "small".to_owned();
        let done = Unloaded {
            model,
            was,
            running,
            fault: None,
        };
        to_text(&done, action)
    }

    #[test]
    fn any_name_is_encoded_as_one_path_segment() {
        assert_eq!(path_segment("small-1_b"), "small-1_b");
        assert_eq!(path_segment("../qwen2.5:7b"), "%2E%2E%2Fqwen2%2E5%3A7b");
    }

    #[test]
    fn the_output_names_the_process_and_its_calls() {
        let unloaded = |was, running| output(was, running, Action::Unload);
        assert_eq!(
            unloaded(ModelState::Loaded, 0),
            "small: unloaded; the next call starts a new process\n"
        );
        assert_eq!(
            unloaded(ModelState::Loaded, 2),
            "small: will be unloaded after its 2 running calls; the next call starts a new process\n"
        );
        assert_eq!(
            unloaded(ModelState::Failed, 0),
            "small: no process was running; the next call starts a new process\n"
        );
        assert_eq!(
            output(ModelState::Loaded, 1, Action::Restart),
            "small: a new process is starting; the old one ends after its running call\n"
        );
        assert_eq!(
            output(ModelState::Unloaded, 0, Action::Restart),
            "small: a new process is starting\n"
        );
    }
}
