//! Signals that end the server, and those that do not.

use std::process::{Command, Stdio};

use crate::chat_templates::SHARED;
use crate::support::config::{Folder, ONE_MODEL};
use crate::support::http::HttpServer;
use crate::support::log::Log;
use crate::support::{
    program, signal_process, tiny, tiny_with_template, wait_for_child_of, wait_for_end_of,
};

#[test]
fn signals_ignored_at_the_start_do_not_end_the_server() {
    let mut command = Command::new("sh");
    command
        .args(["-c", "trap '' HUP INT; exec \"$0\" \"$@\""])
        .arg(program().get_program())
        .arg("--model")
        .arg(tiny());
    let mut server = HttpServer::spawn(command);
    server.signal("HUP");
    server.signal("INT");
    assert_eq!(server.end().matches("ending by a signal").count(), 1);
}

#[test]
fn a_closed_terminal_ends_the_server_even_if_it_has_a_configuration_to_reload() {
    let folder = Folder::new("terminal", ONE_MODEL);
    let file = folder.0.join("llama-mcp-server.toml");
    let command = format!(
        "exec {:?} --config {file:?} --transport http --port 0",
        program().get_program()
    );
    let mut terminal = Command::new("script")
        .args(["--quiet", "--flush", "--command", &command, "/dev/null"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let log = Log::follow(terminal.stdout.take().unwrap());
    log.wait_for("listening on");
    let server = wait_for_child_of(terminal.id());
    terminal.kill().unwrap();
    terminal.wait().unwrap();
    wait_for_end_of(server);
}

#[test]
fn a_signal_during_the_start_ends_a_server_that_is_process_1_of_a_container() {
    // The check of its chat template takes two seconds.
    let model = tiny_with_template("slow-start.gguf", SHARED);
    let container = || {
        let mut command = Command::new("unshare");
        command.args([
            "--user",
            "--map-root-user",
            "--pid",
            "--fork",
            "--kill-child",
        ]);
        command
    };
    if !container().arg("true").status().unwrap().success() {
        // The system does not allow user namespaces.
        return;
    }
    let ends_at_once = || {
        let mut command = container();
        command
            .arg(program().get_program())
            .arg("--model")
            .arg(&model.0)
            .stdin(Stdio::piped())
            .stdout(Stdio::null());
        let mut container = command.spawn().unwrap();
        let server = wait_for_child_of(container.id());
        // The process that tries the chat template.
        wait_for_child_of(server);
        signal_process(server, "TERM");
        container.wait().unwrap().code() == Some(128 + 15)
    };
    // On a busy machine the start may be over before the signal arrives.
    assert!((0..5).any(|_| ends_at_once()));
}
