//! Metrics that a server exports over HTTP.

use std::collections::BTreeMap;
use std::time::Instant;

use super::LIMIT;
use super::http::{Client, HttpServer};

/// The response to a GET request.
pub(crate) struct Answer {
    pub status: u16,
    pub content_type: String,
    pub body: String,
}

/// Sends a GET request for `path`.
pub(crate) fn get(server: &HttpServer, path: &str, headers: &[(&str, &str)]) -> Answer {
    let url = format!("http://{}{path}", server.address);
    let mut response = Client::new(url, headers).send("GET", None);
    let content_type = response.headers().get("content-type");
    let content_type = content_type.map(|value| value.to_str().unwrap().to_owned());
    Answer {
        status: response.status().as_u16(),
        content_type: content_type.unwrap_or_default(),
        body: response.body_mut().read_to_string().unwrap(),
    }
}

/// Returns the text of `/metrics` for a client that sends `headers`.
pub(crate) fn scrape(server: &HttpServer, headers: &[(&str, &str)]) -> String {
    let answer = get(server, "/metrics", headers);
    assert_eq!(answer.status, 200, "{}", answer.body);
    answer.body
}

/// Series and their values, without the program's prefix.
pub(crate) type Series = BTreeMap<String, String>;

pub(crate) fn series(text: &str) -> Series {
    let series = text.lines().filter(|line| !line.starts_with('#'));
    let series = series.map(|line| line.rsplit_once(' ').unwrap());
    series
        .map(|(name, value)| {
            let name = name.strip_prefix("llama_mcp_").unwrap_or(name);
            (name.to_owned(), value.to_owned())
        })
        .collect()
}

pub(crate) fn metrics(server: &HttpServer) -> Series {
    series(&scrape(server, &[]))
}

/// Scrapes until `condition` holds: some metrics change only after a process has exited.
pub(crate) fn metrics_when(server: &HttpServer, condition: impl Fn(&Series) -> bool) -> Series {
    let started = Instant::now();
    loop {
        let metrics = metrics(server);
        if condition(&metrics) {
            return metrics;
        }
        assert!(started.elapsed() < LIMIT, "{metrics:#?}");
    }
}

pub(crate) fn integer(metrics: &Series, name: &str) -> u64 {
    let value = metrics.get(name);
    let value = value.unwrap_or_else(|| panic!("{name}: {metrics:#?}"));
    value.parse().unwrap()
}
