//! The methods of both eras.

use super::era::Era;

/// A method that the server supports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum McpMethod {
    /// Opens a session.
    Initialize,
    /// Checks that the server responds.
    Ping,
    /// Describes the server.
    Discover,
    /// Opens a subscription, whose response is a stream.
    Listen,
    /// Lists the tools.
    ListTools,
    /// Lists items of a kind that the server does not have. The member of the result with this name is empty.
    ListNone(&'static str),
    /// Calls a tool.
    CallTool,
}

impl McpMethod {
    /// Returns the method of `era` with this `name`; `None` for an unknown one.
    pub(crate) fn parse(era: Era, name: &str) -> Option<Self> {
        Some(match (era, name) {
            (Era::Legacy, "initialize") => Self::Initialize,
            (Era::Legacy, "ping") => Self::Ping,
            (Era::Legacy, "prompts/list") => Self::ListNone("prompts"),
            (Era::Legacy, "resources/list") => Self::ListNone("resources"),
            (Era::Legacy, "resources/templates/list") => Self::ListNone("resourceTemplates"),
            (Era::Modern, "server/discover") => Self::Discover,
            (Era::Modern, "subscriptions/listen") => Self::Listen,
            (_, "tools/list") => Self::ListTools,
            (_, "tools/call") => Self::CallTool,
            _ => return None,
        })
    }
}
