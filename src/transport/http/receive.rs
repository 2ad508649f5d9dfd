//! From a body to a message. The bytes of a body are counted before they are read, and a large one is parsed beside the runtime.

use axum::body::Body;
use axum::http::header::CONTENT_LENGTH;
use axum::http::request::Parts;
use axum::http::{HeaderValue, StatusCode};
use http_body_util::BodyExt;

use super::held::{Bytes, Holdings, TokenCall};
use crate::config::http::HttpLimits;
use crate::gate::{Burden, HEAVY, beside_runtime};
use crate::json;
use crate::mcp::jsonrpc::{Invalid, Message};
use crate::transport::guard::{Principal, Refusal};

/// Bytes from which on a message is large. It counts as a call of its token before it is read, and is parsed beside the runtime.
const LARGE: usize = 64 * 1024;

/// How often each byte counts: as it came, and in what a model is asked.
const COPIES: usize = 2;

/// A message that was read.
#[derive(Debug)]
pub struct Received {
    /// The message, or why it is none.
    pub message: Result<Message, Invalid>,
    /// The permit of its bytes.
    pub bytes: Bytes,
    /// The permit of its token, if it is large.
    pub call: Option<TokenCall>,
    /// What it holds while it is a tree of values.
    pub burden: Burden,
}

/// Reads the message of `client` from `body`. Cancel safe: what it holds is given back.
///
/// # Errors
/// 400 or 408 if the body does not come, 413 if it is too long or has too many values, 429 or 503 if too many bytes are held, 429 if a
/// large message would be a call beyond the limits of its token.
pub async fn receive(
    head: &Parts,
    body: Body,
    client: &str,
    principal: &Principal,
    holdings: &Holdings,
    limits: &HttpLimits,
) -> Result<Received, Refusal> {
    let mut reader = Reader {
        principal,
        holdings,
        limits,
        bytes: holdings.hold(client),
        call: None,
    };
    let declared = head.headers.get(CONTENT_LENGTH);
    reader.expect(declared.and_then(number).unwrap_or(0))?;
    let read = tokio::time::timeout(limits.body_time, reader.read(body));
    let body = read.await.unwrap_or_else(|_elapsed| {
        let seconds = limits.body_time.as_secs();
        let message = format!("the message did not come within {seconds} s");
        Err(Refusal::new(StatusCode::REQUEST_TIMEOUT, message))
    })?;
    let Reader { bytes, call, .. } = reader;
    let (message, burden) = if body.len() > LARGE {
        let pass = HEAVY.enter(client).await;
        let tree = bytes.another(json::tree_bytes(&body), limits.max_held)?;
        let message = beside_runtime(|| Message::parse(&body));
        (message, Burden::new((pass, tree)))
    } else {
        (Message::parse(&body), Burden::default())
    };
    Ok(Received {
        message,
        bytes,
        call,
        burden,
    })
}

/// A body that is being read.
struct Reader<'request> {
    principal: &'request Principal,
    holdings: &'request Holdings,
    limits: &'request HttpLimits,
    bytes: Bytes,
    call: Option<TokenCall>,
}

impl Reader<'_> {
    /// Takes the permits for a body of `length` bytes, if it does not have them.
    fn expect(&mut self, length: usize) -> Result<(), Refusal> {
        if length > self.limits.max_body {
            return Err(Refusal::too_large(self.limits.max_body));
        }
        if length > LARGE && self.call.is_none() {
            self.call = self.holdings.begin_call(self.principal)?;
        }
        let held = length.saturating_mul(COPIES);
        self.bytes.grow_to(held, self.limits.max_held)
    }

    async fn read(&mut self, mut body: Body) -> Result<Vec<u8>, Refusal> {
        let mut read = Vec::new();
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|error| {
                let message = format!("the message could not be read: {error}");
                Refusal::new(StatusCode::BAD_REQUEST, message)
            })?;
            if let Some(data) = frame.data_ref() {
                self.expect(read.len() + data.len())?;
                read.extend_from_slice(data);
            }
        }
        Ok(read)
    }
}

fn number(value: &HeaderValue) -> Option<usize> {
    value.to_str().ok()?.parse().ok()
}
