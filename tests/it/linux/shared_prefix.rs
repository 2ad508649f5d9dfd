//! Shared prefixes: workers cache the common beginning of a tool's calls as soon as they are loaded.

use serde_json::json;

use crate::support::config::Folder;
use crate::support::{Server, wait_for_end_of, workers_of};

/// The log line of a worker that caches shared prefixes.
const READY: &str = "caching shared prefixes";

fn file(idle_ttl: &str, system: &str) -> String {
    format!(
        "[log]\nlevel = \"debug\"\n[registry]\nidle_ttl = \"{idle_ttl}\"\n[models.a]\npath = \"crab.gguf\"\nn_threads = 1\ntemperature = 0\nsystem = \"{system}\"\n"
    )
}

fn ask(server: &mut Server) {
    let id = server.call_tool("a", json!({"text": "Hi"}));
    let result = server.result(id);
    assert!(!result.is_error, "{}", result.text);
}

#[test]
fn a_reloaded_model_caches_its_shared_prefixes_again_and_stays_idle() {
    let folder = Folder::new("told", &file("5s", &"Be a crab. ".repeat(20)));
    let mut server = folder.serve();
    for times in 1..=2 {
        ask(&mut server);
        server.wait_for_log_times(READY, times);
        for worker in workers_of(server.child.id()) {
            wait_for_end_of(worker);
        }
    }
}

#[test]
fn an_edit_of_a_shared_prefix_reaches_the_running_worker() {
    let folder = Folder::new("edited", &file("never", &"Be a crab. ".repeat(20)));
    let mut server = folder.serve();
    ask(&mut server);
    server.wait_for_log_times(READY, 1);
    let worker = workers_of(server.child.id());
    let path = folder.0.join("llama-mcp-server.toml");
    std::fs::write(&path, file("never", &"Be a lobster. ".repeat(20))).unwrap();
    server.wait_for_log_times(READY, 2);
    // An edit that does not change the prefix sends nothing to the worker.
    let more = file("never", &"Be a lobster. ".repeat(20)) + "max_tokens = 3\n";
    std::fs::write(&path, more).unwrap();
    server.wait_for_log("model a: live (max_tokens)");
    std::fs::write(&path, file("never", "")).unwrap();
    server.wait_for_log("tokens=[]");
    ask(&mut server);
    assert_eq!(workers_of(server.child.id()), worker);
    assert_eq!(server.end().matches(READY).count(), 3);
}
