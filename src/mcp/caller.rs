//! Who sends a message, what it may use, and where its news go.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::jsonrpc::Outgoing;
use super::schema::CacheScope;
use crate::fair::MessagePermits;

/// Within which the ids of requests differ: stdio, a session of HTTP, or one request of HTTP without a session.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct ConnectionId(pub String);

/// Who sends a message, as its transport knows it.
#[derive(Debug, Clone)]
pub(crate) struct Caller {
    /// Whose ids they are.
    pub connection: ConnectionId,
    /// Who takes turns with others at a model.
    pub client: String,
    /// What it may use.
    pub access: Access,
    /// Permits that its message holds while it exists as a tree of JSON values.
    pub permits: MessagePermits,
}

/// What a caller may use.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Access {
    /// Whose token it brought; none where there is no such.
    pub token: Option<String>,
    /// The tools that the token is for; all where it does not say.
    pub tools: Option<Arc<BTreeSet<String>>>,
}

impl Access {
    /// Whether it is for `tool`.
    pub(crate) fn allows(&self, tool: &str) -> bool {
        self.tools.as_ref().is_none_or(|tools| tools.contains(tool))
    }

    /// Whether what one caller is told may be told to others.
    pub(crate) fn cache_scope(&self) -> CacheScope {
        match self.token {
            None => CacheScope::Public,
            Some(_) => CacheScope::Private,
        }
    }
}

/// Where a request's news go before its answer. Sending never waits: news that do not fit are dropped.
pub(crate) trait Peer: Send + Sync {
    /// Sends a notification that belongs to the request, and tells whether it fits.
    fn notify(&self, notification: Outgoing) -> bool;
}
