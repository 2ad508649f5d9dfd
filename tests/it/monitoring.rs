//! Alert rules and dashboards in `deploy` match the metrics that the server exports.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::metrics::promtool;
use crate::support::config::Folder;
use crate::support::example::repository;
use crate::support::http::HttpServer;
use crate::support::metrics::{scrape, series};

const RULES: &str = "deploy/prometheus/llama-mcp.rules.yaml";
const TESTS: &str = "deploy/prometheus/llama-mcp.rules.test.yaml";
const DASHBOARD: &str = "deploy/grafana/llama-mcp.json";

fn read(name: &str) -> String {
    std::fs::read_to_string(repository(name)).unwrap()
}

fn is_name_char(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}

/// Returns the metrics that `text` names, each with the text after its name.
fn metrics_in(text: &str) -> impl Iterator<Item = (&str, &str)> {
    let starts = text.char_indices().filter(|(at, c)| {
        let before = text[..*at].chars().next_back();
        is_name_char(*c) && !before.is_some_and(is_name_char)
    });
    let words = starts.map(|(at, _)| {
        let word = &text[at..];
        word.split_at(word.find(|c| !is_name_char(c)).unwrap_or(word.len()))
    });
    words.filter(|(word, rest)| {
        // `process_not_started` is an error code.
        let is_of_process = word.starts_with("process_") && rest.starts_with('{');
        word.starts_with("llama_mcp_") || is_of_process
    })
}

/// Labels that Prometheus adds.
const ADDED: [&str; 2] = ["instance", "job"];

/// Returns the labels and values of the selector at the beginning of `rest`, such as `{code=~"a|b",tool="c"}`.
fn matchers(rest: &str) -> Vec<(String, String)> {
    let selector = rest.strip_prefix('{').and_then(|rest| rest.split_once('}'));
    let selector = selector
        .map_or("", |(selector, _)| selector)
        .replace('\\', "");
    let mut wanted = Vec::new();
    for matcher in selector.split(',').filter(|matcher| !matcher.is_empty()) {
        let (label, values) = matcher.split_once('=').unwrap();
        let values = values.trim_matches(['~', '"']);
        let label = label.trim().trim_end_matches('!');
        if ADDED.contains(&label) || values.contains('$') {
            continue;
        }
        let values = values.split('|');
        wanted.extend(values.map(|value| (label.to_owned(), value.to_owned())));
    }
    wanted
}

#[test]
fn every_metric_and_label_of_rules_and_dashboard_is_in_a_scrape() {
    let file =
        "[server.tokens.a]\ntoken = 'a-token-of-21-letters'\n[models.small]\npath = 'crab.gguf'\n";
    let folder = Folder::new("monitoring", file);
    let server = HttpServer::with_config(&folder.0.join("llama-mcp-server.toml"));
    let bearer = [("authorization", "Bearer a-token-of-21-letters")];
    let scraped = series(&scrape(&server, &bearer));
    let mut found: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for series in scraped.keys() {
        let (name, labels) = series.split_once('{').unwrap_or((series, ""));
        found.entry(name).or_default().push(labels);
    }
    let mut count = 0;
    for file in [RULES, TESTS, DASHBOARD] {
        let text = read(file);
        for (name, rest) in metrics_in(&text) {
            let short = name.strip_prefix("llama_mcp_").unwrap_or(name);
            let labels = found.get(short);
            let labels = labels.unwrap_or_else(|| panic!("{file}: no series of {name}"));
            // The tests of the rules use other tools and models.
            let wanted = if file == TESTS {
                Vec::new()
            } else {
                matchers(rest)
            };
            for (label, value) in wanted {
                let wanted = format!("{label}=\"{value}\"");
                let is_there = labels.iter().any(|labels| labels.contains(&wanted));
                assert!(is_there, "{file}: no series {name}{{{wanted}}}");
            }
            count += 1;
        }
    }
    assert!(count > 60, "{count}");
}

#[test]
fn every_alert_says_what_to_do_and_is_tested() {
    let (rules, tests) = (read(RULES), read(TESTS));
    let mut names = BTreeSet::new();
    for alert in rules.split("- alert: ").skip(1) {
        let name = alert.lines().next().unwrap().trim();
        for key in ["expr: ", "severity: ", "summary: ", "description: "] {
            assert!(alert.contains(key), "{name} has no {key}");
        }
        assert!(
            tests.contains(&format!("alertname: {name}\n")),
            "{name} is not tested"
        );
        assert!(names.insert(name.to_owned()), "{name} is there twice");
    }
    assert!(names.len() >= 10, "{names:?}");
}

#[test]
fn promtool_accepts_the_rules_and_their_tests_pass() {
    for (command, file) in [("check", RULES), ("test", TESTS)] {
        let file = repository(file);
        let arguments = [command, "rules", file.to_str().unwrap()];
        if let Some(checked) = promtool(&arguments, "") {
            assert_eq!(checked, Ok(()));
        }
    }
}

#[test]
fn every_panel_of_the_dashboard_has_a_title_an_explanation_and_a_query() {
    let dashboard: Value = serde_json::from_str(&read(DASHBOARD)).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    let mut ids = BTreeSet::new();
    for panel in panels {
        assert!(ids.insert(panel["id"].as_u64().unwrap()), "{panel:#}");
        assert!(!panel["title"].as_str().unwrap().is_empty(), "{panel:#}");
        if panel["type"] == "row" {
            continue;
        }
        assert!(panel["description"].is_string(), "{panel:#}");
        let targets = panel["targets"].as_array().unwrap();
        assert!(!targets.is_empty(), "{panel:#}");
        for target in targets {
            assert!(target["expr"].is_string(), "{panel:#}");
            assert_eq!(target["datasource"]["uid"], "${datasource}");
        }
    }
    assert!(panels.len() > 12);
}
