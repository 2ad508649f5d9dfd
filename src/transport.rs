//! How messages come and go. A transport reads one message, hands it to the
//! [`Dispatcher`](crate::mcp::dispatcher::Dispatcher) with a [`Peer`](crate::mcp::caller::Peer) for what goes back
//! before the answer, and sends the answer.

mod counts;
pub mod guard;
pub mod http;
pub mod refusal_log;
pub mod stdio;
