//! A system that refuses to start processes and threads: the errors name the limit.

use std::ffi::OsStr;
use std::process::Command;

use serde_json::json;

use crate::support::{Server, program, tiny};

/// Returns a command that starts `program` as `user`, with a limit on processes and threads.
fn as_user(user: u32, limit: u32, program: &OsStr) -> Command {
    let mut command = Command::new("setpriv");
    command
        .args(["--reuid", &user.to_string(), "--clear-groups"])
        // The program may be in a folder that only root can read.
        .args(["--inh-caps", "+dac_read_search"])
        .args(["--ambient-caps", "+dac_read_search"])
        .args(["prlimit", &format!("--nproc={limit}")])
        .arg(program);
    command
}

/// Returns the server with a limit on processes and threads. It runs as a separate user, since the limit counts all processes of a user
/// and does not apply to root. Returns `None` if the tests may not change the user, as in many containers.
fn limited(limit: u32, user: u32) -> Option<Command> {
    let tried = as_user(user, 100, "true".as_ref()).output();
    if !tried.is_ok_and(|output| output.status.success()) {
        return None;
    }
    let mut command = as_user(user, limit, program().get_program());
    command
        .arg("--model")
        .arg(tiny())
        .args(["--n_threads", "1"])
        .env_remove("RUST_LOG");
    Some(command)
}

#[test]
fn a_server_without_room_for_its_threads_ends_with_a_message() {
    for limit in 1..=9 {
        let Some(mut command) = limited(limit, 54_321) else {
            return;
        };
        let output = command.output().unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{limit}: {stderr}");
        assert!(
            stderr.contains("error[system_limit]: a thread could not be started")
                && stderr.contains("--pids-limit")
                && !stderr.contains("panicked"),
            "{limit}: {stderr}"
        );
    }
}

#[test]
fn the_error_of_a_call_without_a_process_or_thread_names_the_limit_and_no_change_of_the_call() {
    // The server has ten threads, and its worker needs seven. A thread that has just ended may still count.
    for limit in [14, 15] {
        let Some(command) = limited(limit, 54_300 + limit) else {
            return;
        };
        let mut server = Server::spawn(command);
        let id = server.request("initialize", json!({}));
        server.response(id);
        let id = server.call(json!({"text": "Hi", "max_tokens": 5}));
        let result = server.result(id);
        assert!(result.is_error, "{limit}");
        for part in ["could not be started", "TasksMax", "ulimit -u"] {
            assert!(result.text.contains(part), "{limit}: {}", result.text);
        }
        assert!(!result.text.contains("shorten"), "{limit}: {}", result.text);
    }
}
