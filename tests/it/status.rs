//! The `status` command.

use serde_json::json;

use crate::support::config::Folder;
use crate::support::http::HttpServer;
use crate::support::metrics::{integer, metrics};
use crate::support::{LIMIT, program, workers_of};

/// Runs `status` with `arguments` until `is_it` holds for its output, which it returns.
fn status_when(arguments: &[&str], mut condition: impl FnMut(&str) -> bool) -> String {
    let started = std::time::Instant::now();
    loop {
        let output = program().arg("status").args(arguments).output().unwrap();
        let stdout = String::from_utf8(output.stdout).unwrap();
        let failed = String::from_utf8(output.stderr).unwrap();
        // A busy server may take longer to answer than the command waits.
        if output.status.success() && condition(&stdout) {
            return stdout;
        }
        assert!(started.elapsed() < LIMIT, "{stdout}{failed}");
    }
}

#[test]
fn the_status_command_shows_busy_models_and_a_rejected_edit() {
    let folder = Folder::new("status", "");
    let models = "[models.small]\npath = 'crab.gguf'\n[models.other]\npath = 'crab.gguf'\n";
    folder.write("llama-mcp-server.toml", models);
    let config = folder.0.join("llama-mcp-server.toml");
    let server = HttpServer::with_config(&config);
    let at = ["--url", &format!("http://{}", server.address)];
    let status = status_when(&at, |_| true);
    let config = config.display();
    assert!(
        status.contains(&format!("configuration {config}\n")),
        "{status}"
    );
    assert!(status.contains("small  unloaded  -    -"), "{status}");
    let mut client = server.client();
    let arguments = json!({"text": "What is the capital of Cuba?", "temperature": 0});
    let call = json!({"name": "small", "arguments": arguments});
    client.request("tools/call", call);
    // A busy worker may take longer to answer than the server waits for it.
    let is_whole = |text: &str| text.contains("\"kv_cells\"") && text.contains("\"idle_seconds\"");
    let report = status_when(&[&at[..], &["--format", "json"]].concat(), is_whole);
    let report: serde_json::Value = serde_json::from_str(&report).unwrap();
    assert_eq!(report["models"][0]["name"], "other");
    assert_eq!(report["models"][0]["state"], "unloaded");
    let small = &report["models"][1];
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
    let threads = |key: &str| small[key].as_u64().unwrap();
    let (now, configured) = (threads("n_threads"), threads("n_threads_configured"));
    assert!((1..=configured).contains(&now), "{small}");
    assert!(small["idle_seconds"].is_u64(), "{small}");
    let workers = workers_of(server.child.id());
    assert_eq!(small["pid"].as_u64().unwrap(), u64::from(workers[0]));
    let status = status_when(&at, |_| true);
    assert!(
        status.contains(&format!("small  loaded    {}  ", workers[0])),
        "{status}"
    );
    folder.write("llama-mcp-server.toml", &models.replace("path", "pfad"));
    let status = status_when(&at, |status| status.contains("was rejected"));
    assert!(status.contains("unknown key `pfad`"), "{status}");
}

#[test]
fn the_status_command_counts_running_calls() {
    let server = HttpServer::tiny(&[]);
    let at = ["--url", &format!("http://{}/mcp", server.address)];
    let client = server.client();
    let mut singing = Some(client.start_endless_call(7));
    let mut next = 8..;
    let is_running = |text: &str| {
        text.lines()
            .any(|line| line.contains("loaded") && line.contains("  1        0  "))
    };
    status_when(&at, |text| {
        let condition = is_running(text);
        if !condition {
            // The call may have ended.
            drop(singing.take());
            singing = next.next().map(|id| client.start_endless_call(id));
        }
        condition
    });
    drop(singing);
}

#[test]
fn the_status_command_takes_the_token_from_the_file_the_variable_or_a_flag() {
    let server = HttpServer::tiny(&["--auth", "secret123"]);
    let at = format!("http://{}", server.address);
    let run_status = |arguments: &[&str], variable: &str| {
        let mut program = program();
        program.arg("status").args(arguments);
        if !variable.is_empty() {
            program.env("LLAMA_MCP_AUTH", variable);
        }
        let output = program.output().unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        (output.status.code().unwrap(), stderr)
    };
    let port = server.address.port();
    let file = format!("[server]\nport = {port}\nauth = 'secret123'\n");
    let folder = Folder::new("status-token", &file);
    let file = folder.0.join("llama-mcp-server.toml");
    let file = file.to_str().unwrap();
    assert_eq!(run_status(&["--config", file], "").0, 0);
    assert_eq!(run_status(&["--url", &at, "--auth", "secret123"], "").0, 0);
    assert_eq!(run_status(&["--url", &at], "secret123").0, 0);
    let (code, stderr) = run_status(&["--url", &at], "other");
    assert_eq!(code, 1);
    assert!(stderr.contains("requires a valid bearer token"), "{stderr}");
    assert!(
        !stderr.contains("other") && !stderr.contains("secret123"),
        "{stderr}"
    );
    let (code, stderr) = run_status(&["--url", "https://127.0.0.1/mcp"], "");
    assert_eq!(code, 2);
    assert!(stderr.contains("TLS is not supported"), "{stderr}");
}

#[test]
fn a_token_limited_to_some_tools_sees_neither_the_configuration_nor_other_tokens() {
    let file = "[server]\nauth = 'all'\n[server.tokens.few]\ntoken = 'few'\ntools = []\n[server.tokens.bob]\ntoken_file = 'bob.token'\n[models.small]\npath = 'crab.gguf'\n";
    let folder = Folder::new("status-few", file);
    let server = HttpServer::with_config(&folder.0.join("llama-mcp-server.toml"));
    let broken = file.replace("path", "pfad");
    folder.write("llama-mcp-server.toml", &broken);
    let url = format!("http://{}", server.address);
    let refused = |text: &str| text.contains("was rejected");
    let status = status_when(&["--url", &url, "--auth", "all"], refused);
    assert!(status.contains("unknown key `pfad`"), "{status}");
    assert!(
        status.contains("token bob does not work: could not read"),
        "{status}"
    );
    let status = status_when(&["--url", &url, "--auth", "few"], |_| true);
    for hidden in ["pfad", "bob", "llama-mcp-server.toml", "rejected"] {
        assert!(!status.contains(hidden), "{status}");
    }
}

#[test]
fn an_edit_that_requires_a_restart_is_shown_until_it_is_reverted() {
    let model = "[models.small]\npath = 'crab.gguf'\n";
    let folder = Folder::new("status-restart", model);
    let server = HttpServer::with_config(&folder.0.join("llama-mcp-server.toml"));
    let at = ["--url", &format!("http://{}", server.address)];
    let write = |head: &str, tail: &str| {
        folder.write("llama-mcp-server.toml", &format!("{head}{model}{tail}"));
    };
    let needed = "requires restart: server.cors\n";
    let cors = "[server]\ncors = true\n";
    assert!(!status_when(&at, |_| true).contains("requires restart"));
    write(cors, "");
    status_when(&at, |text| text.contains(needed));
    let restart = "config_restart_required";
    assert_eq!(integer(&metrics(&server), restart), 1);
    // Neither another edit nor a rejected one hides it.
    write(cors, "[models.other]\npath = 'crab.gguf'\n");
    let status = status_when(&at, |text| text.contains("other "));
    assert!(status.contains(needed), "{status}");
    write(cors, "[models.other]\npfad = 'crab.gguf'\n");
    let status = status_when(&at, |status| status.contains("was rejected"));
    assert!(status.contains(needed), "{status}");
    write("", "");
    status_when(&at, |text| !text.contains("requires restart"));
    assert_eq!(integer(&metrics(&server), restart), 0);
}

#[test]
fn a_token_limited_to_some_tools_sees_them_and_their_models() {
    let file = "[server]\nauth = 'all'\n\
                [server.tokens.few]\ntoken = 'few'\ntools = ['shout']\n\
                [server.tokens.none]\ntoken = 'none'\ntools = []\n\
                [server.tokens.admin]\ntoken = 'admin'\ntools = []\nadmin = true\n\
                [models.small]\npath = 'crab.gguf'\n[models.other]\npath = 'crab.gguf'\n\
                [tools.shout]\nmodel = 'small'\nprompt = 'Sing.'\n";
    let folder = Folder::new("status-tools", file);
    let server = HttpServer::with_config(&folder.0.join("llama-mcp-server.toml"));
    let url = format!("http://{}", server.address);
    let seen = |token: &str| {
        let arguments = ["--url", &url, "--auth", token, "--format", "json"];
        let report = status_when(&arguments, |_| true);
        let report: serde_json::Value = serde_json::from_str(&report).unwrap();
        let names = |list: &str| -> Vec<String> {
            let list = report[list].as_array().unwrap().iter();
            list.map(|one| one["name"].as_str().unwrap().to_owned())
                .collect()
        };
        (names("tools"), names("models"))
    };
    let names = |names: &[&str]| names.iter().map(ToString::to_string).collect::<Vec<_>>();
    let all = (
        names(&["other", "small", "shout"]),
        names(&["other", "small"]),
    );
    assert_eq!(seen("all"), all);
    assert_eq!(seen("few"), (names(&["shout"]), names(&["small"])));
    assert_eq!(seen("none"), (names(&[]), names(&[])));
    assert_eq!(seen("admin"), all, "it may unload and restart all models");
    let status = status_when(&["--url", &url, "--auth", "all"], |_| true);
    assert!(status.contains("TOOL   MODEL\n"), "{status}");
    assert!(status.contains("shout  small\n"), "{status}");
}

#[test]
fn the_status_command_uses_the_token_with_the_most_permissions() {
    let tokens = "[server.tokens.alice]\ntoken = 'alices'\ntools = ['small']\n\
                  [server.tokens.bob]\ntoken = 'bobs'\ntools = ['small', 'other']\n\
                  [server.tokens.zoe]\ntoken = 'zoes'\n";
    let models = "[models.small]\npath = 'crab.gguf'\n[models.other]\npath = 'crab.gguf'\n[models.third]\npath = 'crab.gguf'\n";
    let folder = Folder::new("status-most", &format!("{tokens}{models}"));
    let server = HttpServer::with_config(&folder.0.join("llama-mcp-server.toml"));
    let port = server.address.port();
    let seen = |tokens: &str| {
        let file = format!("[server]\nport = {port}\n{tokens}{models}");
        let config = Folder::new("status-asks", &file);
        let file = config.0.join("llama-mcp-server.toml");
        status_when(&["--config", file.to_str().unwrap()], |_| true)
    };
    assert!(seen(tokens).contains("third"));
    let without_zoe = tokens.split("[server.tokens.zoe]").next().unwrap();
    let status = seen(without_zoe);
    assert!(
        status.contains("other") && !status.contains("third"),
        "{status}"
    );
}

#[test]
fn the_status_command_suggests_why_no_server_answers() {
    for (server, message) in [
        ("port = 0", "this configuration uses stdio"),
        ("transport = 'http'\nport = 0", "the configured port is 0"),
    ] {
        let file = format!("[server]\n{server}\n[models.small]\npath = 'crab.gguf'\n");
        let output = Folder::new("status-stdio", &file).run(&["status"], &[]);
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert!(
            stderr.starts_with("error[no_server]: no server answers at"),
            "{stderr}"
        );
        assert!(stderr.contains(message), "{stderr}");
    }
}
