//! Health checks and metrics.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::process::Output;
use std::thread;

use serde_json::json;
use socket2::{Domain, Socket, Type};

use crate::support::config::Folder;
use crate::support::http::{Client, HttpServer, read_head};
use crate::support::metrics::{self, integer, metrics, metrics_when};
use crate::support::{program, signal_process, workers_of};

/// Sends a GET request for `path`. Returns the status and the body.
fn get(server: &HttpServer, path: &str, headers: &[(&str, &str)]) -> (u16, String) {
    let answer = metrics::get(server, path, headers);
    (answer.status, answer.body)
}

fn health(arguments: &[&str]) -> Output {
    program().arg("health").args(arguments).output().unwrap()
}

/// Returns whether `health` succeeds. A busy server may take longer to answer than the command waits.
fn is_healthy(arguments: &[&str]) -> bool {
    (0..10).any(|_| health(arguments).status.success())
}

#[test]
fn calls_are_counted_by_tool_model_and_outcome_with_tokens_and_durations() {
    let server = HttpServer::tiny(&[]);
    let mut client = server.client();
    // Long enough to be distinguishable.
    let cuba = [
        "What is the capital of Cuba?",
        "The capital of Cuba is Havana.",
    ];
    let messages = [
        ("user", cuba[0]),
        ("assistant", cuba[1]),
        ("user", "What is the capital of France?"),
    ];
    let messages = messages.map(|(role, content)| json!({"role": role, "content": content}));
    let question = json!({"messages": messages, "temperature": 0});
    client.chat(question.clone());
    client.chat(question.clone());
    // Longer than a millisecond, the unit of times, even on so small a model.
    client.chat(
        json!({"text": "Sing forever.", "temperature": 0, "repeat_penalty": 1, "max_tokens": 400}),
    );
    let wrong = client.request("tools/call", json!({"name": "chat", "arguments": {}}));
    assert_eq!(wrong["result"]["isError"], true);
    let worker = workers_of(server.child.id())[0];
    signal_process(worker, "STOP");
    drop(client.call_with_stopped_worker(99));
    let calls = |outcome: &str, code: &str| {
        format!(r#"calls_total{{tool="chat",model="default",outcome="{outcome}",code="{code}"}}"#)
    };
    let cancelled = calls("cancelled", "");
    metrics_when(&server, |metrics| integer(metrics, &cancelled) == 1);
    signal_process(worker, "CONT");
    // A busy worker may take longer to answer than the server waits for it.
    let took = r#"call_duration_seconds_count{tool="chat",model="default"}"#;
    let metrics = metrics_when(&server, |metrics| {
        integer(metrics, took) == 5
            && metrics.contains_key(r#"kv_cells{model="default"}"#)
            // The worker may answer the scrape before it reads that the call was cancelled.
            && metrics.get(r#"calls_waiting{model="default"}"#).is_some_and(|waiting| waiting == "0")
    });
    let of = |name: &str| integer(&metrics, name);
    for (outcome, code, count) in [
        ("stop", "", 2),
        ("length", "", 1),
        ("error", "bad_arguments", 1),
        ("cancelled", "", 1),
    ] {
        assert_eq!(of(&calls(outcome, code)), count, "{outcome}");
    }
    assert_eq!(of(r#"calls_running{model="default"}"#), 0);
    assert_eq!(
        of(r#"call_duration_seconds_count{tool="chat",model="default"}"#),
        5
    );
    let prompt = of(r#"prompt_tokens_total{model="default"}"#);
    let cached = of(r#"cached_prompt_tokens_total{model="default"}"#);
    assert!(
        cached > 0 && cached < prompt / 2,
        "one of two equal prompts: {cached} of {prompt}"
    );
    assert!(of(r#"completion_tokens_total{model="default"}"#) > 400);
    for name in ["queue_duration", "time_to_first_token"] {
        assert_eq!(
            of(&format!(r#"{name}_seconds_count{{model="default"}}"#)),
            3
        );
    }
    assert!(of(r#"generation_tokens_per_second_count{model="default"}"#) >= 1);
    assert_eq!(of(r#"model_loads_total{model="default",outcome="ok"}"#), 1);
    assert_eq!(of(r#"model_loaded{model="default"}"#), 1);
    assert!(of(r#"model_memory_bytes{model="default"}"#) > 1_000_000);
    assert!(of(r#"kv_cells{model="default"}"#) >= 4096);
    assert_eq!(of(r#"calls_waiting{model="default"}"#), 0);
    assert_eq!(of("config_last_reload_successful"), 1);
    assert_eq!(
        of(&format!(
            r#"build_info{{version="{}"}}"#,
            env!("CARGO_PKG_VERSION")
        )),
        1
    );
}

#[test]
fn loads_unloads_and_crashes_of_models_and_configuration_reloads_are_counted() {
    let folder = Folder::new("observed", "");
    let model = |key: &str| format!("[models.small]\npath = 'crab.gguf'\n{key}\n");
    folder.write("llama-mcp-server.toml", &model("n_threads = 1"));
    let server = HttpServer::with_config(&folder.0.join("llama-mcp-server.toml"));
    assert_eq!(
        integer(&metrics(&server), r#"model_loaded{model="small"}"#),
        0,
        "nothing is loaded for it"
    );
    let mut client = server.client();
    let ask = |client: &mut Client| {
        let arguments = json!({"text": "What is the capital of Cuba?", "temperature": 0});
        client.request(
            "tools/call",
            json!({"name": "small", "arguments": arguments}),
        )
    };
    ask(&mut client);
    folder.write("llama-mcp-server.toml", &model("n_threads = 2"));
    let unloaded = r#"model_unloads_total{model="small",reason="edited"}"#;
    let reloads = r#"config_reloads_total{outcome="ok"}"#;
    let metrics = metrics_when(&server, |metrics| {
        integer(metrics, unloaded) == 1 && integer(metrics, reloads) == 1
    });
    assert_eq!(integer(&metrics, r#"model_loaded{model="small"}"#), 0);
    assert_eq!(integer(&metrics, r#"model_memory_bytes{model="small"}"#), 0);
    folder.write("llama-mcp-server.toml", &model("n_threads = 'many'"));
    let refused = r#"config_reloads_total{outcome="refused"}"#;
    metrics_when(&server, |metrics| {
        integer(metrics, refused) == 1 && integer(metrics, "config_last_reload_successful") == 0
    });
    let port = server.address.port().to_string();
    let file = folder.0.join("llama-mcp-server.toml");
    assert!(
        is_healthy(&["--config", file.to_str().unwrap(), "--port", &port]),
        "a broken edit leaves the server as it was"
    );
}

#[test]
fn health_requires_no_token_but_metrics_do() {
    let server = HttpServer::tiny(&["--auth", "secret123"]);
    assert_eq!(get(&server, "/health/live", &[]), (200, "live\n".into()));
    assert_eq!(get(&server, "/health/ready", &[]), (200, "ready".into()));
    assert_eq!(get(&server, "/metrics", &[]).0, 401);
    assert_eq!(get(&server, "/status", &[]).0, 401);
    let (status, text) = get(
        &server,
        "/metrics",
        &[("authorization", "Bearer secret123")],
    );
    assert_eq!(status, 200);
    assert!(!text.contains("secret123"), "{text}");
    // Pages of other origins see nothing.
    assert_eq!(
        get(
            &server,
            "/health/ready",
            &[("origin", "https://evil.example")]
        )
        .0,
        403
    );
}

#[test]
fn the_health_command_uses_the_configured_port_and_reports_by_exit_code() {
    let server = HttpServer::tiny(&[]);
    let port = server.address.port().to_string();
    assert!(is_healthy(&["--port", &port]));
    let folder = Folder::new(
        "health",
        &format!("[server]\nhost = '0.0.0.0'\nport = {port}\n"),
    );
    let file = folder.0.join("llama-mcp-server.toml");
    assert!(is_healthy(&["--config", file.to_str().unwrap()]));
    // Missing files and invalid values are reported, but a rejected edit of another server is not.
    for wrong in [["--port", "70000"], ["--config", "/no/such/file.toml"]] {
        let output = health(&wrong);
        assert_eq!(output.status.code(), Some(2), "{output:?}");
        assert!(
            String::from_utf8_lossy(&output.stderr).contains(wrong[1]),
            "{output:?}"
        );
    }
    // A bound socket that does not listen refuses connections, and its port cannot go to the server of another test.
    let unused = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    let any_port = SocketAddr::from(([127, 0, 0, 1], 0));
    unused.bind(&any_port.into()).unwrap();
    let port = unused.local_addr().unwrap().as_socket().unwrap().port();
    let output = health(&["--port", &port.to_string()]);
    assert_eq!(output.status.code(), Some(1));
    let stderr = String::from_utf8(output.stderr).unwrap();
    let url = format!("http://127.0.0.1:{port}/health/ready");
    assert!(
        stderr.starts_with(&format!("error[no_server]: no server answers at {url}\n")),
        "{stderr}"
    );
}

#[test]
fn the_log_lists_each_call_under_the_request_id_of_its_answer() {
    let folder = Folder::new(
        "request-id",
        "[log]\nformat = 'json'\n[models.small]\npath = 'crab.gguf'\nn_ctx = 64\n",
    );
    let mut server = HttpServer::with_config(&folder.0.join("llama-mcp-server.toml"));
    let mut client = server.client();
    let mut call = |arguments: serde_json::Value| {
        let call = json!({"name": "small", "arguments": arguments});
        client.request("tools/call", call)["result"]["_meta"].take()
    };
    let answer = call(json!({"text": "Hello!", "max_tokens": 8}));
    let long = call(json!({"text": "word ".repeat(500)}));
    let error = &long["llama-mcp-server/error"];
    assert_eq!(error["code"], "prompt_too_long");
    let ids = [
        &answer["llama-mcp-server/generation"]["request_id"],
        &error["request_id"],
    ];
    let log = server.end();
    let lines = log
        .lines()
        .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    let ended: Vec<serde_json::Value> = lines
        .filter(|line| line["fields"]["message"] == "call ended")
        .collect();
    let found: Vec<_> = ended
        .iter()
        .map(|line| &line["span"]["request_id"])
        .collect();
    assert_eq!(found, ids, "{log}");
    assert_eq!(ended[0]["span"]["tool"], "small");
    assert_eq!(ended[1]["fields"]["error"], "prompt_too_long");
}

#[test]
fn the_token_is_not_sent_to_another_program_at_the_port() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let other = thread::spawn(move || {
        (0..3)
            .map(|_| {
                let (mut stream, _) = listener.accept().unwrap();
                let head = read_head(&mut stream);
                let answer =
                    b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
                stream.write_all(answer).unwrap();
                head
            })
            .collect::<Vec<_>>()
    });
    let file = format!(
        "[server]\ntransport = 'http'\nport = {port}\nauth = 'topsecret'\n[models.small]\npath = 'crab.gguf'\n"
    );
    let folder = Folder::new("foreign", &file);
    for arguments in [
        &["health"][..],
        &["doctor"],
        &["status", "--host", "localhost"],
    ] {
        let output = folder.run(arguments, &[]);
        assert_eq!(output.status.code(), Some(1), "{output:?}");
    }
    for head in other.join().unwrap() {
        assert!(!head.contains("topsecret"), "{head}");
    }
}

#[test]
fn another_program_at_the_port_is_not_a_healthy_server() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port().to_string();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            drop(stream.read(&mut [0; 1024]));
            let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok";
            drop(stream.write_all(answer));
        }
    });
    // On a busy machine the other program may take longer to answer than the command waits.
    let finds_it = (0..10).any(|_| {
        let output = health(&["--port", &port]);
        assert_eq!(output.status.code(), Some(1));
        String::from_utf8_lossy(&output.stderr).contains("another program answers at")
    });
    assert!(finds_it);
}
