//! Metrics as a response: the negotiated format, and the part that a token may see.

use std::collections::BTreeSet;

use axum::http::HeaderMap;
use axum::http::header::ACCEPT;

use crate::config::token::TokenConfig;
use crate::status::ToolStatus;
use crate::telemetry::metrics::Format;

/// Returns the format that `Accept` prefers, or the first of equal ones. Without a preference, and for `*/*`, it is Prometheus' text
/// format, as in Prometheus' own libraries.
pub(crate) fn negotiate_format(headers: &HeaderMap) -> Format {
    let values = headers.get_all(ACCEPT).iter();
    let entries = values
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','));
    let mut best = (Format::Text, 0.0);
    for (format, quality) in entries.filter_map(preference) {
        if quality > best.1 {
            best = (format, quality);
        }
    }
    best.0
}

/// Parses an entry of `Accept`, such as `text/plain;version=0.0.4;q=0.5`. Returns `None` for an unsupported format.
fn preference(entry: &str) -> Option<(Format, f32)> {
    let mut parts = entry.split(';').map(str::trim);
    let media_type = parts.next()?.to_ascii_lowercase();
    let (mut version, mut quality) = (None, 1.0);
    for (name, value) in parts.filter_map(|part| part.split_once('=')) {
        let value = value.trim().trim_matches('"');
        match name.trim().to_ascii_lowercase().as_str() {
            "version" => version = Some(value),
            "q" => quality = value.parse().ok()?,
            _ => {}
        }
    }
    let format = match (media_type.as_str(), version) {
        ("application/openmetrics-text", None | Some("1.0.0")) => Format::OpenMetrics,
        ("text/plain", None | Some("0.0.4")) | ("text/*" | "*/*", _) => Format::Text,
        _ => return None,
    };
    Some((format, quality))
}

/// Returns the part of the metrics in `text` that `token` may see.
///
/// A token for some of `tools` sees the series of these tools, of their models and of itself. A token for all tools and a token for
/// Prometheus see all series.
pub(crate) fn restrict(text: String, token: Option<&TokenConfig>, tools: &[ToolStatus]) -> String {
    let Some((token, allowed)) = token.and_then(|token| Some((token, token.visible_tools()?)))
    else {
        return text;
    };
    if token.is_scraper {
        return text;
    }
    let own = tools.iter().filter(|tool| allowed.contains(&tool.name));
    let models: BTreeSet<&str> = own.map(|tool| tool.model.as_str()).collect();
    let is_visible = |label: &str| match label.split_once('=') {
        Some(("tool", value)) => allowed.contains(value.trim_matches('"')),
        Some(("model", value)) => models.contains(value.trim_matches('"')),
        Some(("token", value)) => value.trim_matches('"') == token.name,
        _ => true,
    };
    let is_own = |label: &str| {
        ["tool=", "model=", "token="]
            .iter()
            .any(|own| label.starts_with(own))
    };
    let lines = text.lines().filter(|line| {
        line.starts_with('#') || (labels(line).any(is_own) && labels(line).all(is_visible))
    });
    lines.flat_map(|line| [line, "\n"]).collect()
}

/// Returns the labels of a line, such as `tool="chat"`. Configured names have only letters, digits, `-` and `_`, so a comma separates.
fn labels(line: &str) -> impl Iterator<Item = &str> {
    let labels = (!line.starts_with('#'))
        .then(|| line.split_once('{')?.1.rsplit_once('}'))
        .flatten();
    labels.map_or("", |(labels, _)| labels).split(',')
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn the_preferred_format_is_chosen_and_prometheus_text_without_a_preference() {
        let table = [
            ("*/*", Format::Text),
            ("text/html,application/xhtml+xml,*/*;q=0.8", Format::Text),
            ("text/plain", Format::Text),
            ("text/plain;version=0.0.4", Format::Text),
            ("application/openmetrics-text", Format::OpenMetrics),
            (
                "application/openmetrics-text; version=1.0.0; charset=utf-8",
                Format::OpenMetrics,
            ),
            (
                "application/openmetrics-text;version=2.0.0,*/*;q=0.1",
                Format::Text,
            ),
            (
                "application/openmetrics-text;q=0,text/plain;q=0.1",
                Format::Text,
            ),
            (
                "text/plain;version=0.0.4,application/openmetrics-text;q=0.9",
                Format::Text,
            ),
            // As sent by Prometheus 2.42 and 3.
            (
                "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
                Format::OpenMetrics,
            ),
            (
                "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2",
                Format::OpenMetrics,
            ),
            (
                "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited,text/plain;version=0.0.4;q=0.3",
                Format::Text,
            ),
        ];
        for (accept, expected) in table {
            let headers = HeaderMap::from_iter([(ACCEPT, accept.parse().unwrap())]);
            assert_eq!(negotiate_format(&headers), expected, "{accept}");
        }
        assert_eq!(negotiate_format(&HeaderMap::new()), Format::Text);
    }

    #[test]
    fn a_token_for_some_tools_sees_the_series_of_these_tools_their_models_and_itself() {
        let tool = |name: &str, model: &str| ToolStatus {
            name: name.into(),
            model: model.into(),
        };
        let tools = [tool("ask", "small"), tool("code", "large")];
        let token = |tools: Option<&[&str]>| TokenConfig {
            name: "alice".into(),
            secret: Err("its file is missing".to_owned().into()),
            admin: false,
            tools: tools.map(|tools| Arc::new(tools.iter().map(ToString::to_string).collect())),
            is_scraper: tools.is_some_and(<[&str]>::is_empty),
            max_calls: None,
            calls_per_minute: None,
        };
        let comment = "# HELP a b{tool=\"code\"}\n";
        let of_all = "plain 1\nbucket{le=\"0.5\"} 1\nrefusals{status=\"401\"} 1\n";
        let own = "calls{tool=\"ask\",model=\"small\"} 1\nloads{model=\"small\"} 1\ntokens{token=\"alice\"} 1\n";
        let other = "calls{tool=\"code\",model=\"large\"} 1\nloads{model=\"large\"} 1\ntokens{token=\"bob\"} 1\n";
        let text = format!("{comment}{of_all}{own}{other}");
        let seen = |token: Option<&TokenConfig>| restrict(text.clone(), token, &tools);
        assert_eq!(
            seen(Some(&token(Some(&["ask"])))),
            format!("{comment}{own}")
        );
        assert_eq!(seen(None), text);
        assert_eq!(seen(Some(&token(None))), text);
        assert_eq!(seen(Some(&token(Some(&[])))), text);
    }
}
