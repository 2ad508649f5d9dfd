//! A system that starts no more processes and threads: what it refuses is told as such.

use std::ffi::OsStr;
use std::process::Command;

use serde_json::json;

use crate::support::{Server, program, tiny};

/// A command that starts `program` as `user`, under a limit of processes and threads.
fn as_user(user: u32, limit: u32, program: &OsStr) -> Command {
    let mut command = Command::new("setpriv");
    command
        .args(["--reuid", &user.to_string(), "--clear-groups"])
        // The program may lie in a folder of root.
        .args(["--inh-caps", "+dac_read_search"])
        .args(["--ambient-caps", "+dac_read_search"])
        .args(["prlimit", &format!("--nproc={limit}")])
        .arg(program);
    command
}

/// The server under a limit of processes and threads, as a user of its own: the limit counts all of a user's, and root has none.
/// `None` if the tests may not become another user, as in most containers.
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
        let told = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{limit}: {told}");
        assert!(
            told.contains("error[system_limit]: a thread could not be started")
                && told.contains("--pids-limit")
                && !told.contains("panicked"),
            "{limit}: {told}"
        );
    }
}

#[test]
fn a_call_that_lacks_a_process_or_a_thread_is_told_the_limit_and_not_to_change() {
    // The server has ten threads, and its model's process needs seven. A thread that has just ended may still count.
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
