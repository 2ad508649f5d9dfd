//! The log file while other programs move it.

use std::fs;
use std::time::Instant;

use serde_json::json;

use crate::support::config::Folder;
use crate::support::{LIMIT, Server, program};

#[test]
fn a_log_that_another_program_moved_is_begun_again() {
    let text = "[log]\nfile = \"server.log\"\nrotation = \"never\"\n[models.chat]\npath = \"crab.gguf\"\nn_threads = 1\n";
    let folder = Folder::new("log-moved", text);
    let mut command = program();
    command.current_dir(&folder.0);
    let mut server = Server::spawn(command);
    let [log, moved] = ["server.log", "moved.log"].map(|name| folder.0.join(name));
    let mut call = || server.chat(json!({"text": "Hi", "max_tokens": 1}));
    call();
    let started = Instant::now();
    // A thread of its own writes the line.
    while !fs::read_to_string(&log).is_ok_and(|text| text.contains("call ended")) {
        assert!(started.elapsed() < LIMIT, "no line");
        std::thread::yield_now();
    }
    fs::rename(&log, &moved).unwrap();
    // Each call is a line.
    while !fs::read_to_string(&log).is_ok_and(|text| text.contains("call ended")) {
        assert!(started.elapsed() < LIMIT, "no new file");
        call();
    }
    assert!(fs::read_to_string(&moved).unwrap().contains("call ended"));
}
