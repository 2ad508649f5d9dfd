//! The transports, stdio and HTTP.
//!
//! A transport reads a message and passes it to the [`Dispatcher`](crate::mcp::dispatcher::Dispatcher), with a
//! [`Peer`](crate::mcp::caller::Peer) that receives notifications before the response. Then it sends the response.

mod counts;
pub(crate) mod guard;
pub(crate) mod http;
mod lines;
pub(crate) mod refusal_log;
pub(crate) mod stdio;
