//! Metrics: which series exist, in which format, and who sees them.

use std::io::Write;
use std::process::{Command, Stdio};

use serde_json::json;

use crate::support::config::Folder;
use crate::support::http::{Client, HttpServer};
use crate::support::metrics::{Series, get, integer, metrics, metrics_when, scrape, series};

const TWO: &str = "[models.small]\npath = 'crab.gguf'\nn_threads = 1\n\
                   [tools.shout]\nmodel = 'small'\nprompt = 'Sing forever.'\nmax_tokens = 20\n";

fn server(name: &str, file: &str) -> (Folder, HttpServer) {
    let folder = Folder::new(name, file);
    let server = HttpServer::with_config(&folder.0.join("llama-mcp-server.toml"));
    (folder, server)
}

fn call(client: &mut Client, tool: &str, arguments: serde_json::Value) {
    let call = json!({"name": tool, "arguments": arguments});
    client.request("tools/call", call);
}

fn ask(client: &mut Client, tool: &str) {
    let arguments = json!({"text": "What is the capital of Peru?", "temperature": 0});
    call(client, tool, arguments);
}

/// Names of the series that end with the labels of a model.
const SERIES_OF_A_MODEL: [&str; 21] = [
    "calls_running",
    "calls_waiting",
    "cached_prompt_tokens_total",
    "completion_tokens_total",
    "accepted_tokens_total",
    "drafted_tokens_total",
    "forced_tokens_total",
    "generation_tokens_per_second_count",
    "kv_cells",
    "kv_cells_reserved",
    "model_last_step_seconds",
    "model_load_duration_seconds_count",
    "model_loaded",
    "model_memory_bytes",
    "model_process_deaths_total",
    "model_process_resident_memory_bytes",
    "model_stalls_total",
    "model_threads",
    "prompt_tokens_total",
    "queue_duration_seconds_count",
    "time_to_first_token_seconds_count",
];

fn assert_model_is_at_0(metrics: &Series, model: &str) {
    for name in SERIES_OF_A_MODEL {
        let name = format!("{name}{{model=\"{model}\"}}");
        assert_eq!(integer(metrics, &name), 0, "{name}");
    }
    for outcome in ["ok", "failed"] {
        let name = format!("model_loads_total{{model=\"{model}\",outcome=\"{outcome}\"}}");
        assert_eq!(integer(metrics, &name), 0);
    }
    for reason in ["idle", "evicted", "edited", "requested", "shutdown"] {
        let name = format!("model_unloads_total{{model=\"{model}\",reason=\"{reason}\"}}");
        assert_eq!(integer(metrics, &name), 0);
    }
}

fn calls(tool: &str, model: &str, outcome: &str, code: &str) -> String {
    format!(
        "calls_total{{tool=\"{tool}\",model=\"{model}\",outcome=\"{outcome}\",code=\"{code}\"}}"
    )
}

fn assert_tool_is_at_0(metrics: &Series, tool: &str, model: &str) {
    let ends = [
        ("stop", ""),
        ("length", ""),
        ("deadline", ""),
        ("busy", ""),
        ("cancelled", ""),
        ("error", "bad_arguments"),
        ("error", "prompt_too_long"),
        ("error", "load_failed"),
        ("error", "model_died"),
        ("error", "answer_wrong"),
    ];
    for (outcome, code) in ends {
        assert_eq!(integer(metrics, &calls(tool, model, outcome, code)), 0);
    }
    let time = format!("call_duration_seconds_count{{tool=\"{tool}\",model=\"{model}\"}}");
    assert_eq!(integer(metrics, &time), 0);
}

#[test]
fn series_of_the_configuration_and_of_edits_start_at_0() {
    let (folder, server) = server("zero", TWO);
    let at_start = metrics(&server);
    assert_model_is_at_0(&at_start, "small");
    assert_tool_is_at_0(&at_start, "small", "small");
    assert_tool_is_at_0(&at_start, "shout", "small");
    for series in [
        r#"config_reloads_total{outcome="ok"}"#,
        r#"config_reloads_total{outcome="refused"}"#,
        r#"http_refusals_total{status="401"}"#,
        r#"http_refusals_total{status="429"}"#,
        r#"http_refusals_total{status="503"}"#,
        "config_restart_required",
    ] {
        assert_eq!(integer(&at_start, series), 0, "{series}");
    }
    let bob = "[server.tokens.bob]\ntoken = 'bobs-token-of-24-letters'\n";
    let more = "[models.more]\npath = 'crab.gguf'\n";
    folder.write("llama-mcp-server.toml", &format!("{TWO}{more}{bob}"));
    server.wait_for_log("the new configuration is active");
    let bearer = [("authorization", "Bearer bobs-token-of-24-letters")];
    let added = series(&scrape(&server, &bearer));
    assert_model_is_at_0(&added, "more");
    assert_tool_is_at_0(&added, "more", "more");
    let of_bob = r#"token_calls_total{token="bob",outcome="error"}"#;
    assert_eq!(integer(&added, of_bob), 0);
    folder.write("llama-mcp-server.toml", &format!("{TWO}{bob}"));
    server.wait_for_log_times("the new configuration is active", 2);
    let kept = series(&scrape(&server, &bearer));
    assert_model_is_at_0(&kept, "more");
}

#[test]
#[cfg(target_os = "linux")]
fn the_first_death_of_a_process_is_an_increase_from_0() {
    use crate::support::{signal_process, workers_of};

    let (_folder, server) = server("first-death", TWO);
    let deaths = r#"model_process_deaths_total{model="small"}"#;
    assert_eq!(integer(&metrics(&server), deaths), 0);
    ask(&mut server.client(), "small");
    assert_eq!(integer(&metrics(&server), deaths), 0);
    signal_process(workers_of(server.child.id())[0], "KILL");
    metrics_when(&server, |metrics| integer(metrics, deaths) == 1);
}

const TOKENS: &str = "[server.tokens.alice]\ntoken = 'alices-token-of-26-letters'\n\
                      [server.tokens.bob]\ntoken = 'bobs-token-of-24-letters'\n";
const ALICE: &str = "alices-token-of-26-letters";
const BOB: [(&str, &str); 1] = [("authorization", "Bearer bobs-token-of-24-letters")];

#[test]
fn errors_are_counted_by_code_and_calls_by_token() {
    let (_folder, server) = server("codes", &format!("{TOKENS}{TWO}"));
    let mut alice = server.client_with_token(ALICE);
    ask(&mut alice, "small");
    call(&mut alice, "small", json!({}));
    call(&mut alice, "small", json!({"text": "word ".repeat(30_000)}));
    call(&mut alice, "unknown", json!({}));
    let metrics = series(&scrape(&server, &BOB));
    for (outcome, code, count) in [
        ("stop", "", 1),
        ("error", "bad_arguments", 1),
        ("error", "prompt_too_long", 1),
        ("error", "model_died", 0),
    ] {
        let series = calls("small", "small", outcome, code);
        assert_eq!(integer(&metrics, &series), count, "{series}");
    }
    for (token, outcome, count) in [
        ("alice", "stop", 1),
        ("alice", "error", 2),
        ("bob", "stop", 0),
    ] {
        let series = format!("token_calls_total{{token=\"{token}\",outcome=\"{outcome}\"}}");
        assert_eq!(integer(&metrics, &series), count, "{series}");
    }
    assert!(
        metrics.keys().all(|series| !series.contains("unknown")),
        "what clients send is no label"
    );
}

#[test]
fn every_kind_of_refusal_is_counted_by_status() {
    let (_folder, server) = server("refusals", TWO);
    let client = server.client();
    for (body, status) in [("{", 400), ("[]", 400)] {
        assert_eq!(client.send("POST", Some(body)).status(), status, "{body}");
    }
    assert_eq!(get(&server, "/mcp", &[("host", "no.example")]).status, 403);
    assert_eq!(client.send("PUT", None).status(), 405);
    let url = format!("http://{}/metrics", server.address);
    let response = Client::new(url, &[]).send("POST", Some("{}"));
    assert_eq!(
        (response.status().as_u16(), &response.headers()["allow"]),
        (405, &"GET,HEAD".parse().unwrap())
    );
    let metrics = metrics(&server);
    for (status, count) in [(400, 2), (403, 1), (405, 2), (401, 0)] {
        let series = format!("http_refusals_total{{status=\"{status}\"}}");
        assert_eq!(integer(&metrics, &series), count, "{series}");
    }
}

#[test]
fn unloads_are_counted_by_reason() {
    let models = "[registry]\nmax_loaded = 1\n[models.one]\npath = 'crab.gguf'\n[models.two]\npath = 'crab.gguf'\nidle_ttl = '1s'\n";
    let (_folder, server) = server("unloads", models);
    let mut client = server.client();
    let unloads = |model: &str, reason: &str| {
        format!("model_unloads_total{{model=\"{model}\",reason=\"{reason}\"}}")
    };
    let counted = |model, reason| {
        let series = unloads(model, reason);
        metrics_when(&server, |metrics| integer(metrics, &series) == 1)
    };
    ask(&mut client, "one");
    ask(&mut client, "two");
    counted("one", "evicted");
    counted("two", "idle");
    ask(&mut client, "one");
    let url = format!("http://{}", server.address);
    let unload = Client::new(format!("{url}/admin/models/one/unload"), &[]);
    assert_eq!(unload.send("POST", Some("{}")).status(), 200);
    let metrics = counted("one", "requested");
    assert_eq!(integer(&metrics, &unloads("one", "evicted")), 1);
    assert_eq!(integer(&metrics, &unloads("one", "idle")), 0);
    for gauge in [
        "model_loaded",
        "model_process_resident_memory_bytes",
        "kv_cells",
    ] {
        assert_eq!(integer(&metrics, &format!("{gauge}{{model=\"one\"}}")), 0);
    }
}

#[test]
fn resource_usage_is_reported_for_the_server_and_its_workers() {
    let (_folder, server) = server("processes", TWO);
    let cpu_time = r#"model_process_cpu_seconds_total{model="small"}"#;
    let number = |metrics: &Series, name: &str| metrics[name].parse::<f64>().unwrap();
    // CPU time has a resolution of 10 ms, and this model is fast.
    let metrics = metrics_when(&server, |metrics| {
        ask(&mut server.client(), "small");
        number(metrics, cpu_time) > 0.0
    });
    let number = |name: &str| number(&metrics, name);
    assert!(number("process_start_time_seconds") > 1.6e9);
    assert!(number("process_cpu_seconds_total") >= 0.0);
    assert!(number("process_resident_memory_bytes") > 1e6);
    assert!(number(r#"model_process_resident_memory_bytes{model="small"}"#) > 1e6);
    if cfg!(target_os = "linux") {
        assert!(number("process_threads") > 2.0);
        assert!(number("process_open_fds") > 2.0);
        assert!(number("process_max_fds") >= number("process_open_fds"));
    }
}

#[test]
fn a_scrape_has_the_format_that_the_accept_header_requests() {
    let server = HttpServer::tiny(&[]);
    let text = "text/plain; version=0.0.4; charset=utf-8";
    let openmetrics = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    for (accept, content_type) in [
        (None, text),
        (Some("*/*"), text),
        (Some("text/plain;version=0.0.4"), text),
        (
            Some("application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5"),
            openmetrics,
        ),
        (Some("application/json"), text),
    ] {
        let headers: Vec<_> = accept
            .map(|accept| ("accept", accept))
            .into_iter()
            .collect();
        let answer = get(&server, "/metrics", &headers);
        assert_eq!(answer.content_type, content_type, "{accept:?}");
        let is_openmetrics = content_type == openmetrics;
        assert_eq!(answer.body.ends_with("# EOF\n"), is_openmetrics);
        let name = ["llama_mcp_calls_total", "llama_mcp_calls"][usize::from(is_openmetrics)];
        let calls = format!("# TYPE {name} counter\n");
        assert!(answer.body.contains(&calls), "{}", answer.body);
        let build = "# TYPE llama_mcp_build_info gauge\n";
        assert!(answer.body.contains(build), "{}", answer.body);
    }
}

/// Runs `promtool` with `arguments` and `input`. Returns its output as an error if it fails, and `None` if it is not installed.
pub(crate) fn promtool(arguments: &[&str], input: &str) -> Option<Result<(), String>> {
    let mut promtool = Command::new("promtool");
    promtool.args(arguments).stdin(Stdio::piped());
    promtool.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = promtool.spawn().ok()?;
    // If `promtool` does not read its input, it prints the reason.
    drop(child.stdin.take().unwrap().write_all(input.as_bytes()));
    let output = child.wait_with_output().unwrap();
    let printed = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    Some(if output.status.success() {
        Ok(())
    } else {
        Err(printed)
    })
}

#[test]
fn promtool_accepts_a_scrape() {
    let (_folder, server) = server("promtool", &format!("{TOKENS}{TWO}"));
    let text = scrape(&server, &BOB);
    if let Some(checked) = promtool(&["check", "metrics"], &text) {
        assert_eq!(checked, Ok(()), "{text}");
    }
}

#[test]
fn a_token_limited_to_some_tools_sees_only_their_series() {
    let tokens = "[server.tokens.alice]\ntoken = 'alices-token-of-26-letters'\ntools = ['shout']\n\
                  [server.tokens.prometheus]\ntoken = 'a-token-for-prometheus'\ntools = []\n";
    let other = "[models.other]\npath = 'crab.gguf'\n";
    let (_folder, server) = server("limited", &format!("{tokens}{TWO}{other}"));
    let seen = |token: &str| {
        let bearer = format!("Bearer {token}");
        series(&scrape(&server, &[("authorization", &bearer)]))
    };
    let all = seen("a-token-for-prometheus");
    assert_tool_is_at_0(&all, "other", "other");
    assert!(all.keys().any(|series| series.contains("alice")));
    let some = seen(ALICE);
    assert_tool_is_at_0(&some, "shout", "small");
    assert_model_is_at_0(&some, "small");
    let of_server = |series: &&String| {
        ["config_", "http_", "process_"]
            .iter()
            .any(|name| series.contains(name))
            && !series.contains("model=")
    };
    assert!(all.keys().any(|series| of_server(&series)));
    assert_eq!(some.keys().find(of_server), None);
    assert_eq!(
        integer(&some, r#"token_calls_total{token="alice",outcome="stop"}"#),
        0
    );
    for hidden in ["\"other\"", "tool=\"small\"", "prometheus"] {
        let found = some.keys().find(|series| series.contains(hidden));
        assert_eq!(found, None);
    }
}
