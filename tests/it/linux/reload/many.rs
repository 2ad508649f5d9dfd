//! Many edits while many clients call.

use std::fs;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Instant;

use serde_json::json;

use crate::support::config::Folder;
use crate::support::http::{Client, HttpServer};
use crate::support::{LIMIT, memory_of, tiny};

/// Returns one of two configurations. The tool `fixed` never changes, `live` has a different system prompt in each edit, `other` has a
/// different file and system prompt, and `gone` exists in every second edit.
fn edition(even: bool) -> String {
    let (word, file) = if even {
        ("zanuko", "crab.gguf")
    } else {
        ("pelimo", "other.gguf")
    };
    let table = |name: &str, file: &str, system: &str| {
        format!("[models.{name}]\npath = \"{file}\"\nsystem = \"The secret word is {system}.\"\n")
    };
    let mut text = "[server]\nwatch = \"off\"\n[defaults]\nn_threads = 1\nparallel = 2\nn_ctx = 512\ntemperature = 0\nrepeat_penalty = 1.0\n".to_owned();
    text += &table("fixed", "crab.gguf", "zanuko");
    text += &table("live", "crab.gguf", word);
    text += &table("other", file, word);
    if even {
        text += &table("gone", "crab.gguf", "zanuko");
    }
    text
}

#[test]
fn five_hundred_edits_lose_no_call_and_mix_no_settings() {
    const EDITS: usize = 500;
    let folder = Folder::new("edits", &edition(true));
    let f16 = tiny().with_file_name("tiny-crab-chat.F16.gguf");
    fs::copy(f16, folder.0.join("other.gguf")).unwrap();
    let path = folder.0.join("llama-mcp-server.toml");
    let server = HttpServer::with_config(&path);
    let is_over = AtomicBool::new(false);
    let calls = AtomicUsize::new(0);
    let pid = server.child.id();
    let fixed = std::thread::scope(|scope| {
        for n in 0..8 {
            let mut client = server.client();
            let (is_over, calls) = (&is_over, &calls);
            scope.spawn(move || {
                for turn in n.. {
                    if is_over.load(Ordering::Relaxed) {
                        return;
                    }
                    let tool = ["fixed", "live", "other", "gone"][turn % 4];
                    check_secret(tool, &mut client);
                    calls.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        let mut middle = (0, 0);
        for edit in 1..=EDITS {
            fs::write(&path, edition(edit % 2 == 0)).unwrap();
            server.signal("HUP");
            server.wait_for_log_times("the new configuration is active", edit);
            if edit == EDITS / 5 {
                middle = (memory_of(pid, "VmRSS"), descriptors_of(pid));
            }
        }
        is_over.store(true, Ordering::Relaxed);
        middle
    });
    let started = Instant::now();
    // Replaced processes may still be ending.
    while descriptors_of(pid) > fixed.1 + 16 && started.elapsed() < LIMIT {
        std::thread::yield_now();
    }
    let (memory, descriptors) = (memory_of(pid, "VmRSS"), descriptors_of(pid));
    assert!(
        memory < fixed.0 + (8 << 20),
        "{memory} bytes, {} before",
        fixed.0
    );
    assert!(
        descriptors <= fixed.1 + 16,
        "{descriptors} files, {} before",
        fixed.1
    );
    assert!(calls.into_inner() > 50);
    let mut server = server;
    let log = server.end();
    // Models that no edit changes are loaded once.
    assert_eq!(log.matches("loading model=\"fixed\"").count(), 1, "{log}");
    assert_eq!(log.matches("loading model=\"live\"").count(), 1);
}

/// Calls `tool`, and checks that the answer uses settings of a single edit.
fn check_secret(tool: &str, client: &mut Client) {
    let arguments = json!({"text": "What is the secret word?"});
    let params = json!({"name": tool, "arguments": arguments});
    let answer = client.request("tools/call", params);
    let result = &answer["result"];
    let text = result["content"][0]["text"].as_str().unwrap_or_default();
    let model = result["_meta"]["llama-mcp-server/generation"]["model"].as_str();
    let allowed: &[(&str, Option<&str>)] = match tool {
        "live" => &[
            ("The secret word is zanuko.", Some("crab")),
            ("The secret word is pelimo.", Some("crab")),
        ],
        "other" => &[
            ("The secret word is zanuko.", Some("crab")),
            ("The secret word is pelimo.", Some("other")),
        ],
        _ => &[("The secret word is zanuko.", Some("crab"))],
    };
    let was_removed = tool == "gone" && text.starts_with("the tool `gone` was removed by a reload");
    assert!(
        allowed.contains(&(text, model)) || was_removed,
        "{tool}: {answer}"
    );
}

fn descriptors_of(pid: u32) -> usize {
    fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count()
}
