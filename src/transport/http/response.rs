//! The response to a request: one JSON object, or an event stream.
//!
//! The response is JSON if the answer comes soon and without a notification before it. Otherwise a client that accepts
//! `text/event-stream` gets a stream, with pings, because clients and proxies close connections that are silent for a minute. Events have
//! no ids, since a stream cannot be resumed.

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

/// How long the answer may take before a stream starts.
const JSON_WITHIN: Duration = Duration::from_secs(2);

/// Interval between pings. Proxies close connections that are silent for 60 to 100 seconds.
const PING_EVERY: Duration = Duration::from_secs(15);

/// Most notifications that are buffered for a slow client. Further ones are dropped.
const MAX_BUFFERED: usize = 16;

/// The kinds of response that a client accepts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Accepts {
    /// JSON only: `Accept` does not list `text/event-stream`.
    Json,
    /// JSON or a stream.
    Both,
    /// A stream only.
    Stream,
}

impl Accepts {
    /// Parses `Accept`. Every value is accepted, since clients differ widely in what they send.
    pub(crate) fn from_headers(headers: &HeaderMap) -> Self {
        let (mut stream, mut other) = (false, false);
        for media_type in media_types(headers) {
            let is_stream = media_type.eq_ignore_ascii_case(EVENT_STREAM);
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

/// Media type of an event stream.
const EVENT_STREAM: &str = "text/event-stream";

/// Returns the media types in `Accept`.
fn media_types(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    let values = headers.get_all(ACCEPT).iter();
    values
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(|entry| entry.split(';').next().unwrap_or_default().trim())
        .filter(|media_type| !media_type.is_empty())
}

/// Returns whether `Accept` allows an event stream. A client without `Accept` accepts everything.
pub(crate) fn accepts_event_stream(headers: &HeaderMap) -> bool {
    let mut accepted = media_types(headers).peekable();
    let can_read = |media_type: &str| {
        [EVENT_STREAM, "text/*", "*/*"]
            .iter()
            .any(|events| media_type.eq_ignore_ascii_case(events))
    };
    accepted.peek().is_none() || accepted.any(can_read)
}

/// The peer of a request, which buffers notifications in a channel.
struct HttpPeer(mpsc::Sender<Outgoing>);

impl Peer for HttpPeer {
    fn notify(&self, notification: Outgoing) -> bool {
        self.0.try_send(notification).is_ok()
    }
}

/// Creates a peer for a request, and the receiver of its notifications.
pub(crate) fn peer_channel() -> (impl Peer + use<>, mpsc::Receiver<Outgoing>) {
    let (sender, notifications) = mpsc::channel(MAX_BUFFERED);
    (HttpPeer(sender), notifications)
}

/// A request in flight that will be answered. Dropping it cancels the request.
pub(crate) struct PendingResponse {
    answer: Option<Pin<Box<dyn Future<Output = Outgoing> + Send>>>,
    notifications: mpsc::Receiver<Outgoing>,
    era: Era,
}

impl fmt::Debug for PendingResponse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PendingResponse").finish_non_exhaustive()
    }
}

/// The next message to the client.
enum Next {
    Notification(Outgoing),
    Answer(Outgoing),
}

impl PendingResponse {
    /// Creates the response to a request of `era`, which ends with `answer`.
    pub(crate) fn new(
        answer: impl Future<Output = Outgoing> + Send + 'static,
        notifications: mpsc::Receiver<Outgoing>,
        era: Era,
    ) -> Self {
        Self {
            answer: Some(Box::pin(answer)),
            notifications,
            era,
        }
    }

    /// Returns the next message, or `None` after the answer. Cancel safe.
    async fn next(&mut self) -> Option<Next> {
        let answer = self.answer.as_mut()?;
        tokio::select! {
            biased;
            answer = answer => {
                self.answer = None;
                Some(Next::Answer(answer))
            }
            Some(notification) = self.notifications.recv() => Some(Next::Notification(notification)),
        }
    }

    /// Returns the response, in a form that the client `accepts`.
    pub(crate) async fn respond(mut self, accepts: Accepts) -> Response {
        let first = match accepts {
            Accepts::Stream => None,
            Accepts::Json => loop {
                match self.next().await {
                    // One JSON object has no place for notifications.
                    Some(Next::Notification(_)) => {}
                    first => break first,
                }
            },
            Accepts::Both => tokio::time::timeout(JSON_WITHIN, self.next())
                .await
                .unwrap_or(None),
        };
        match first {
            Some(Next::Answer(answer)) => json(&answer, self.era),
            Some(Next::Notification(first)) => self.into_stream(Some(first)),
            None => self.into_stream(None),
        }
    }

    fn into_stream(self, first: Option<Outgoing>) -> Response {
        let rest = stream::unfold(self, async |mut pending| {
            let (Next::Notification(message) | Next::Answer(message)) = pending.next().await?;
            Some((message, pending))
        });
        let messages = stream::StreamExt::chain(stream::iter(first), rest);
        event_stream(messages)
    }
}

/// Returns `message` as a response. An invalid request has status 400 and, in the modern era, an unknown method has 404. All other errors,
/// such as an unknown tool, have 200.
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

/// Returns the response to an invalid message.
pub(crate) fn invalid(invalid: Invalid) -> Response {
    with_status(StatusCode::BAD_REQUEST, &invalid.into())
}

/// Returns the response to a request whose era could not be determined.
pub(crate) fn invalid_era(id: RequestId, error: ErrorObject) -> Response {
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

/// Returns a stream of messages as a response, with pings.
pub(crate) fn event_stream(messages: impl Stream<Item = Outgoing> + Send + 'static) -> Response {
    let events = stream::StreamExt::map(messages, |message| {
        let event = Event::default().event("message").data(message.to_json());
        Ok::<_, Infallible>(event)
    });
    let ping = KeepAlive::new().interval(PING_EVERY).text("ping");
    let headers = [
        (CACHE_CONTROL, "no-cache"),
        // Without it nginx delays events until its buffer is full.
        (HeaderName::from_static("x-accel-buffering"), "no"),
    ];
    (headers, Sse::new(events).keep_alive(ping)).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_clients_that_list_it_get_an_event_stream() {
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
            assert_eq!(Accepts::from_headers(&headers), expected, "{accept}");
        }
        assert_eq!(Accepts::from_headers(&HeaderMap::new()), Accepts::Json);
    }
}
