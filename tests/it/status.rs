//! How a server is, as `status` asks it.

use serde_json::json;

use crate::support::config::Folder;
use crate::support::http::HttpServer;
use crate::support::{LIMIT, program, workers_of};

/// What `status` prints with these arguments, as soon as `is_it`.
fn status_when(arguments: &[&str], mut is_it: impl FnMut(&str) -> bool) -> String {
    let started = std::time::Instant::now();
    loop {
        let output = program().arg("status").args(arguments).output().unwrap();
        let told = String::from_utf8(output.stdout).unwrap();
        let failed = String::from_utf8(output.stderr).unwrap();
        // A busy server may take longer to answer than the command waits.
        if output.status.success() && is_it(&told) {
            return told;
        }
        assert!(started.elapsed() < LIMIT, "{told}{failed}");
    }
}

#[test]
fn the_status_command_shows_models_at_work_and_a_refused_edit() {
    let folder = Folder::new("status", "");
    let models = "[models.small]\npath = 'crab.gguf'\n[models.other]\npath = 'crab.gguf'\n";
    folder.write("llama-mcp-server.toml", models);
    let config = folder.0.join("llama-mcp-server.toml");
    let server = HttpServer::with_config(&config);
    let at = ["--url", &format!("http://{}", server.address)];
    let told = status_when(&at, |_| true);
    let config = config.display();
    assert!(
        told.contains(&format!("configuration {config}\n")),
        "{told}"
    );
    assert!(told.contains("small  unloaded  -    -"), "{told}");
    let mut client = server.client();
    let arguments = json!({"text": "What is the capital of Cuba?", "temperature": 0});
    let call = json!({"name": "small", "arguments": arguments});
    client.request("tools/call", call);
    // A busy process may take longer to answer than the server waits for it.
    let is_whole = |told: &str| told.contains("\"kv_cells\"") && told.contains("\"idle_seconds\"");
    let told = status_when(&[&at[..], &["--format", "json"]].concat(), is_whole);
    let told: serde_json::Value = serde_json::from_str(&told).unwrap();
    assert_eq!(told["models"][0]["name"], "other");
    assert_eq!(told["models"][0]["state"], "unloaded");
    let small = &told["models"][1];
    assert_eq!(small["state"], "loaded");
    assert_eq!(
        (&small["running"], &small["waiting"]),
        (&json!(0), &json!(0))
    );
    assert!(
        small["memory_bytes"].as_u64().unwrap() > 1_000_000,
        "{small}"
    );
    assert!(small["kv_cells"].as_u64().unwrap() >= 4096, "{small}");
    assert!(small["idle_seconds"].is_u64(), "{small}");
    let workers = workers_of(server.child.id());
    assert_eq!(small["pid"].as_u64().unwrap(), u64::from(workers[0]));
    let told = status_when(&at, |_| true);
    assert!(
        told.contains(&format!("small  loaded    {}  ", workers[0])),
        "{told}"
    );
    folder.write("llama-mcp-server.toml", &models.replace("path", "pfad"));
    let told = status_when(&at, |told| told.contains("is refused"));
    assert!(told.contains("unknown key `pfad`"), "{told}");
}

#[test]
fn the_status_command_counts_the_calls_that_run() {
    let server = HttpServer::tiny(&[]);
    let at = ["--url", &format!("http://{}/mcp", server.address)];
    let client = server.client();
    let mut singing = Some(client.sing(7));
    let mut next = 8..;
    let is_running = |told: &str| {
        told.lines()
            .any(|line| line.contains("loaded") && line.contains("  1        0  "))
    };
    status_when(&at, |told| {
        let is_it = is_running(told);
        if !is_it {
            // The call may have ended.
            drop(singing.take());
            singing = next.next().map(|id| client.sing(id));
        }
        is_it
    });
    drop(singing);
}

#[test]
fn the_status_command_takes_the_token_from_the_file_the_variable_or_a_flag() {
    let server = HttpServer::tiny(&["--auth", "secret123"]);
    let at = format!("http://{}", server.address);
    let asked = |arguments: &[&str], variable: &str| {
        let mut program = program();
        program.arg("status").args(arguments);
        if !variable.is_empty() {
            program.env("LLAMA_MCP_AUTH", variable);
        }
        let output = program.output().unwrap();
        let told = String::from_utf8(output.stderr).unwrap();
        (output.status.code().unwrap(), told)
    };
    let port = server.address.port();
    let file = format!("[server]\nport = {port}\nauth = 'secret123'\n");
    let folder = Folder::new("status-token", &file);
    let file = folder.0.join("llama-mcp-server.toml");
    let file = file.to_str().unwrap();
    assert_eq!(asked(&["--config", file], "").0, 0);
    assert_eq!(asked(&["--url", &at, "--auth", "secret123"], "").0, 0);
    assert_eq!(asked(&["--url", &at], "secret123").0, 0);
    let (code, told) = asked(&["--url", &at], "other");
    assert_eq!(code, 1);
    assert!(told.contains("requires a valid bearer token"), "{told}");
    assert!(
        !told.contains("other") && !told.contains("secret123"),
        "{told}"
    );
    let (code, told) = asked(&["--url", "https://127.0.0.1/mcp"], "");
    assert_eq!(code, 2);
    assert!(told.contains("speaks no TLS"), "{told}");
}

#[test]
fn a_token_for_some_tools_is_not_told_what_is_wrong() {
    let file = "[server]\nauth = 'all'\n[server.tokens.few]\ntoken = 'few'\ntools = []\n[models.small]\npath = 'crab.gguf'\n";
    let folder = Folder::new("status-few", file);
    let server = HttpServer::with_config(&folder.0.join("llama-mcp-server.toml"));
    let broken = file.replace("path", "pfad");
    folder.write("llama-mcp-server.toml", &broken);
    let url = format!("http://{}", server.address);
    let refused = |told: &str| told.contains("is refused");
    let told = status_when(&["--url", &url, "--auth", "all"], refused);
    assert!(told.contains("unknown key `pfad`"), "{told}");
    let told = status_when(&["--url", &url, "--auth", "few"], refused);
    assert!(told.contains("the server's log tells it"), "{told}");
    assert!(!told.contains("pfad"), "{told}");
}
