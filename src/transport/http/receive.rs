//! Reads and parses request bodies within the memory limits. The bytes of a body are counted before they are read, and a large body is
//! parsed beside the runtime.

use axum::body::Body;
use axum::http::header::CONTENT_LENGTH;
use axum::http::request::Parts;
use axum::http::{HeaderValue, StatusCode};
use http_body_util::BodyExt;

use super::permits::{Holdings, MemoryPermit, TokenCall};
use crate::config::http::HttpLimits;
use crate::fair::{HEAVY, MessagePermits, beside_runtime};
use crate::json;
use crate::mcp::jsonrpc::{Invalid, Message};
use crate::transport::guard::{Principal, Refusal};

/// Longest small message, in bytes. A longer one counts as a call of its token before it is read, and is parsed beside the runtime.
const LARGE: usize = 64 * 1024;

/// Number of times that each byte counts: once in the body, once in the request to a model.
const COPIES: usize = 2;

/// A parsed message and its permits.
#[derive(Debug)]
pub(crate) struct Received {
    /// The message, or the reason why it is invalid.
    pub message: Result<Message, Invalid>,
    /// The permit for its memory.
    pub memory: MemoryPermit,
    /// The permit from its token if the message is large.
    pub call: Option<TokenCall>,
    /// The permits that it holds while it exists as a tree of JSON values.
    pub tree: MessagePermits,
}

/// Reads the message of `client` from `body`. Cancel safe: dropping the future releases the permits.
///
/// # Errors
/// 400 or 408 if the body does not come, 413 if it is too long or has too many values, 429 or 503 if too many bytes are held, 429 if a
/// large message would be a call beyond the limits of its token.
pub(crate) async fn receive(
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
        memory: holdings.hold(client),
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
    let Reader { memory, call, .. } = reader;
    let (message, tree) = if body.len() > LARGE {
        let turn = HEAVY.acquire(client).await;
        let held = memory.another(json::tree_bytes(&body), limits.max_held)?;
        let message = beside_runtime(|| Message::parse(&body));
        (message, MessagePermits::new((turn, held)))
    } else {
        (Message::parse(&body), MessagePermits::default())
    };
    Ok(Received {
        message,
        memory,
        call,
        tree,
    })
}

/// Reads a body.
struct Reader<'request> {
    principal: &'request Principal,
    holdings: &'request Holdings,
    limits: &'request HttpLimits,
    memory: MemoryPermit,
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
        self.memory.grow_to(held, self.limits.max_held)
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
