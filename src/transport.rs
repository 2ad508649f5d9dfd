//! How messages come and go. A transport reads one message, hands it to the
//! [`Dispatcher`](crate::mcp::dispatcher::Dispatcher) with a [`Peer`](crate::mcp::caller::Peer) for what goes back
//! before the answer, and sends the answer.

mod counts;
pub(crate) mod guard;
pub(crate) mod http;
pub(crate) mod refusal_log;
pub(crate) mod stdio;
