//! The log file while other programs rotate it.

use std::fs;
use std::time::Instant;

use serde_json::json;

use crate::support::config::Folder;
use crate::support::http::HttpServer;
use crate::support::{LIMIT, Server, program};

#[test]
fn a_log_file_moved_by_another_program_is_reopened() {
    let text = "[log]\nfile = \"server.log\"\nrotation = \"never\"\n[models.chat]\npath = \"crab.gguf\"\nn_threads = 1\n";
    let folder = Folder::new("log-moved", text);
    let mut server = folder.serve();
    let [log, moved] = ["server.log", "moved.log"].map(|name| folder.0.join(name));
    let mut call = || server.chat(json!({"text": "Hi", "max_tokens": 1}));
    call();
    let started = Instant::now();
    // A separate thread writes the line.
    while !fs::read_to_string(&log).is_ok_and(|text| text.contains("call ended")) {
        assert!(started.elapsed() < LIMIT, "no line");
        std::thread::yield_now();
    }
    fs::rename(&log, &moved).unwrap();
    // Each call is logged as one line.
    while !fs::read_to_string(&log).is_ok_and(|text| text.contains("call ended")) {
        assert!(started.elapsed() < LIMIT, "no new file");
        call();
    }
    assert!(fs::read_to_string(&moved).unwrap().contains("call ended"));
}

#[test]
fn a_server_that_logs_to_a_file_prints_its_address_and_log_on_standard_error() {
    let text =
        "[log]\nfile = \"server.log\"\nrotation = \"never\"\n[models.chat]\npath = \"crab.gguf\"\n";
    let folder = Folder::new("log-file", text);
    let config = folder.0.join("llama-mcp-server.toml");
    let log = folder.0.join("server.log");
    let mut server = HttpServer::with_config(&config);
    let address = server.address;
    let expected = format!(
        "llama-mcp-server: listening on http://{address}/mcp; the log is in {}\n",
        log.display()
    );
    assert_eq!(server.end(), expected);
    let mut command = program();
    command.arg("--config").arg(&config);
    let expected = format!(
        "llama-mcp-server: serving standard input and output; the log is in {}\n",
        log.display()
    );
    assert_eq!(Server::spawn(command).end(), expected);
}
