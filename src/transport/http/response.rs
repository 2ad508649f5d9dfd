//! A request being answered: as one JSON object, or as a stream of events.
//!
//! The choice is left open as long as it can be: an answer that comes soon, and without news before it, is JSON. A client
//! that lists `text/event-stream` gets a stream otherwise, with a ping now and then, because clients and proxies give up on
//! a connection that is silent for a minute. Events carry no ids: nothing could be resumed.

use std::convert::Infallible;
use std::fmt;
use std::pin::Pin;
use std::time::Duration;

use axum::http::header::{ACCEPT, CACHE_CONTROL, CONTENT_TYPE};
use axum::http::{HeaderMap, HeaderName, StatusCode};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::stream::{self, Stream};
use tokio::sync::mpsc;

use crate::mcp::caller::Peer;
use crate::mcp::era::Era;
use crate::mcp::jsonrpc::{
    ErrorObject, INVALID_REQUEST, Invalid, METHOD_NOT_FOUND, Outgoing, RequestId,
};
use crate::telemetry::metrics;

/// How long the answer may take before a stream is begun.
const JSON_WITHIN: Duration = Duration::from_secs(2);

/// Between two pings: proxies cut what is silent for 60 to 100 seconds.
const PING_EVERY: Duration = Duration::from_secs(15);

/// News that wait for a client to read them. Progress beyond it is dropped; there are two a second.
const NEWS_AHEAD: usize = 16;

/// What a client reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Accepts {
    /// JSON, or anything without naming a stream.
    Json,
    /// A stream where it is of use.
    Both,
    /// A stream and nothing else.
    Stream,
}

impl Accepts {
    /// Reads `Accept`. Nothing is refused for it: clients send every form of it.
    pub(crate) fn of(headers: &HeaderMap) -> Self {
        let (mut stream, mut other) = (false, false);
        for media_type in listed(headers) {
            let is_stream = media_type.eq_ignore_ascii_case(EVENTS);
            stream |= is_stream;
            other |= !is_stream;
        }
        match (stream, other) {
            (false, _) => Self::Json,
            (true, true) => Self::Both,
            (true, false) => Self::Stream,
        }
    }
}

const EVENTS: &str = "text/event-stream";

/// The media types of `Accept`.
fn listed(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    let values = headers.get_all(ACCEPT).iter();
    values
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(|entry| entry.split(';').next().unwrap_or_default().trim())
        .filter(|media_type| !media_type.is_empty())
}

/// Whether a client that asks for a stream can read one; who does not say can.
pub(crate) fn allows_events(headers: &HeaderMap) -> bool {
    let mut listed = listed(headers).peekable();
    let can_read = |media_type: &str| {
        [EVENTS, "text/*", "*/*"]
            .iter()
            .any(|events| media_type.eq_ignore_ascii_case(events))
    };
    listed.peek().is_none() || listed.any(can_read)
}

/// The peer of a request: news wait in a channel.
struct HttpPeer(mpsc::Sender<Outgoing>);

impl Peer for HttpPeer {
    fn notify(&self, notification: Outgoing) -> bool {
        self.0.try_send(notification).is_ok()
    }
}

/// Where news of a request go, and where they come out.
pub(crate) fn peer() -> (impl Peer + use<>, mpsc::Receiver<Outgoing>) {
    let (sender, news) = mpsc::channel(NEWS_AHEAD);
    (HttpPeer(sender), news)
}

/// A request being answered. Dropping it cancels the request.
pub(crate) struct Exchange {
    answer: Option<Pin<Box<dyn Future<Output = Outgoing> + Send>>>,
    news: mpsc::Receiver<Outgoing>,
    era: Era,
}

impl fmt::Debug for Exchange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Exchange").finish_non_exhaustive()
    }
}

/// The next message to the client.
enum Next {
    News(Outgoing),
    Answer(Outgoing),
}

impl Exchange {
    /// An exchange of `era` that ends with `answer`.
    pub(crate) fn new(
        answer: impl Future<Output = Outgoing> + Send + 'static,
        news: mpsc::Receiver<Outgoing>,
        era: Era,
    ) -> Self {
        Self {
            answer: Some(Box::pin(answer)),
            news,
            era,
        }
    }

    /// The next message; none after the answer. Nothing is lost when the future is dropped.
    async fn next(&mut self) -> Option<Next> {
        let answer = self.answer.as_mut()?;
        tokio::select! {
            biased;
            answer = answer => {
                self.answer = None;
                Some(Next::Answer(answer))
            }
            Some(news) = self.news.recv() => Some(Next::News(news)),
        }
    }

    /// The response to a client that `accepts` this.
    pub(crate) async fn respond(mut self, accepts: Accepts) -> Response {
        let first = match accepts {
            Accepts::Stream => None,
            Accepts::Json => loop {
                match self.next().await {
                    // They cannot be told in one object.
                    Some(Next::News(_)) => {}
                    first => break first,
                }
            },
            Accepts::Both => tokio::time::timeout(JSON_WITHIN, self.next())
                .await
                .unwrap_or(None),
        };
        match first {
            Some(Next::Answer(answer)) => json(&answer, self.era),
            Some(Next::News(news)) => self.into_stream(Some(news)),
            None => self.into_stream(None),
        }
    }

    fn into_stream(self, first: Option<Outgoing>) -> Response {
        let rest = stream::unfold(self, async |mut exchange| {
            let (Next::News(message) | Next::Answer(message)) = exchange.next().await?;
            Some((message, exchange))
        });
        let messages = stream::StreamExt::chain(stream::iter(first), rest);
        events(messages)
    }
}

/// One message as the whole response. In the modern era an unknown method has a status of its own; what the tools say, and
/// that there is no such tool, is an answer in both.
pub(crate) fn json(message: &Outgoing, era: Era) -> Response {
    let status = match (message, era) {
        (Outgoing::Error(_, error), _) if error.code == INVALID_REQUEST => StatusCode::BAD_REQUEST,
        (Outgoing::Error(_, error), Era::Modern) if error.code == METHOD_NOT_FOUND => {
            StatusCode::NOT_FOUND
        }
        _ => StatusCode::OK,
    };
    with_status(status, message)
}

/// The response to what is no message.
pub(crate) fn unreadable(invalid: Invalid) -> Response {
    with_status(StatusCode::BAD_REQUEST, &invalid.into())
}

/// The response to a request whose era is not told rightly.
pub(crate) fn refusal(id: RequestId, error: ErrorObject) -> Response {
    let status = match error.code {
        METHOD_NOT_FOUND => StatusCode::NOT_FOUND,
        _ => StatusCode::BAD_REQUEST,
    };
    with_status(status, &Outgoing::Error(Some(id), error))
}

fn with_status(status: StatusCode, message: &Outgoing) -> Response {
    if status.is_client_error() {
        metrics::http_refused(status.as_u16());
    }
    let content_type = [(CONTENT_TYPE, "application/json")];
    (status, content_type, message.to_json()).into_response()
}

/// A stream of messages as the response, with pings.
pub(crate) fn events(messages: impl Stream<Item = Outgoing> + Send + 'static) -> Response {
    let events = stream::StreamExt::map(messages, |message| {
        let event = Event::default().event("message").data(message.to_json());
        Ok::<_, Infallible>(event)
    });
    let ping = KeepAlive::new().interval(PING_EVERY).text("ping");
    let headers = [
        (CACHE_CONTROL, "no-cache"),
        // nginx would keep events back until its buffer is full.
        (HeaderName::from_static("x-accel-buffering"), "no"),
    ];
    (headers, Sse::new(events).keep_alive(ping)).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_is_for_clients_that_list_it() {
        let table = [
            ("", Accepts::Json),
            ("*/*", Accepts::Json),
            ("application/json", Accepts::Json),
            ("text/*;q=0.5, application/*", Accepts::Json),
            ("application/json, text/event-stream", Accepts::Both),
            ("Text/Event-Stream;q=0.9,*/*", Accepts::Both),
            ("text/event-stream", Accepts::Stream),
        ];
        for (accept, expected) in table {
            let headers = HeaderMap::from_iter([(ACCEPT, accept.parse().unwrap())]);
            assert_eq!(Accepts::of(&headers), expected, "{accept}");
        }
        assert_eq!(Accepts::of(&HeaderMap::new()), Accepts::Json);
    }
}
