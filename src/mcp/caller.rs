//! The sender of a message: its identity, its rights, and the channel for notifications.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::jsonrpc::Outgoing;
use super::schema::CacheScope;
use crate::fair::MessagePermits;

/// Scope within which request ids are unique: stdio, an HTTP session, or one HTTP request without a session.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct ConnectionId(pub String);

/// The sender of a message, as identified by the transport.
#[derive(Debug, Clone)]
pub(crate) struct Caller {
    /// The scope of its request ids.
    pub connection: ConnectionId,
    /// The unit of fairness: calls of different clients to a model are served round robin.
    pub client: String,
    /// The tools that it may use.
    pub access: Access,
    /// Permits held for as long as the message exists as a tree of JSON values.
    pub permits: MessagePermits,
}

/// The rights of a caller.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Access {
    /// Name of the caller's token; `None` if it sent none.
    pub token: Option<String>,
    /// Names of the allowed tools; `None` allows all.
    pub tools: Option<Arc<BTreeSet<String>>>,
}

impl Access {
    /// Returns whether the caller may use `tool`.
    pub(crate) fn allows(&self, tool: &str) -> bool {
        self.tools.as_ref().is_none_or(|tools| tools.contains(tool))
    }

    /// Returns who may reuse a cached response to this caller. Responses that depend on a token are private.
    pub(crate) fn cache_scope(&self) -> CacheScope {
        match self.token {
            None => CacheScope::Public,
            Some(_) => CacheScope::Private,
        }
    }
}

/// The client's end of a request in flight, which receives notifications before the response.
pub(crate) trait Peer: Send + Sync {
    /// Sends a notification for the request without blocking. Returns `false` if the channel is full; the notification is
    /// dropped then.
    fn notify(&self, notification: Outgoing) -> bool;
}
