//! Reads and parses request bodies within the memory limits. The bytes of a body are counted before they are read, and a large body is
//! parsed off the runtime's threads.

use axum::body::Body;
use axum::http::header::CONTENT_LENGTH;
use axum::http::request::Parts;
use axum::http::{HeaderValue, StatusCode};
use http_body_util::BodyExt;

use super::permits::{CallPermit, Limiter, MemoryPermit};
use crate::config::http::HttpLimits;
use crate::fair::{HEAVY, MessagePermits, run_blocking};
use crate::json;
use crate::mcp::jsonrpc::{Invalid, Message};
use crate::transport::guard::{Principal, Refusal};

/// Longest small message, in bytes. A longer one counts as a call of its token before it is read, and is parsed off the runtime's
/// threads.
const LARGE_BODY: usize = 64 * 1024;

/// Number of copies of a body that are counted: the body itself and the request to a model.
const COPIES: usize = 2;

/// A parsed message and its permits.
#[derive(Debug)]
pub(crate) struct Received {
    /// The message, or the reason why it is invalid.
    pub message: Result<Message, Invalid>,
    /// Permit for its memory.
    pub memory: MemoryPermit,
    /// Permit for a call of its token, if the message is large.
    pub call: Option<CallPermit>,
    /// Permits held for as long as the message exists as a tree of JSON values.
    pub tree: MessagePermits,
}

/// Reads the message of `client` from `body`. Dropping the future releases the permits.
///
/// # Errors
/// 400 if the body cannot be read, 408 if it does not arrive in time, 413 if it is too long or has too many values, 429 or 503 if a memory
/// limit is reached, 429 if the message is large and the limit of its token is reached.
pub(crate) async fn receive(
    head: &Parts,
    body: Body,
    client: &str,
    principal: &Principal,
    limiter: &Limiter,
    limits: &HttpLimits,
) -> Result<Received, Refusal> {
    let mut reader = BodyReader {
        principal,
        limiter,
        limits,
        memory: limiter.reserve_memory(client),
        call: None,
    };
    let declared = head.headers.get(CONTENT_LENGTH);
    reader.reserve(declared.and_then(number).unwrap_or(0))?;
    let read = tokio::time::timeout(limits.body_time, reader.read(body));
    let body = read.await.unwrap_or_else(|_elapsed| {
        let seconds = limits.body_time.as_secs();
        let message = format!(
            "the message did not arrive within {seconds} s; send it faster, or raise `body_time`"
        );
        Err(Refusal::new(StatusCode::REQUEST_TIMEOUT, message))
    })?;
    let BodyReader { memory, call, .. } = reader;
    let (message, tree) = if body.len() > LARGE_BODY {
        let turn = HEAVY.acquire(client).await;
        let held = memory.additional(json::tree_bytes(&body), limits.max_held)?;
        let message = run_blocking(|| Message::parse(&body));
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

/// State of reading a body.
struct BodyReader<'request> {
    principal: &'request Principal,
    limiter: &'request Limiter,
    limits: &'request HttpLimits,
    memory: MemoryPermit,
    call: Option<CallPermit>,
}

impl BodyReader<'_> {
    /// Acquires the permits for a body of `length` bytes, as far as it does not have them.
    fn reserve(&mut self, length: usize) -> Result<(), Refusal> {
        if length > self.limits.max_body {
            return Err(Refusal::too_large(self.limits.max_body));
        }
        if length > LARGE_BODY && self.call.is_none() {
            self.call = self.limiter.acquire_call(self.principal)?;
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
                self.reserve(read.len() + data.len())?;
                read.extend_from_slice(data);
            }
        }
        Ok(read)
    }
}

fn number(value: &HeaderValue) -> Option<usize> {
    value.to_str().ok()?.parse().ok()
}
