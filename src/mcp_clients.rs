//! The clients that `install` knows, as data. Where their files are, what those look like and how long a call may take was
//! looked up in their documentation, sources and issues in November 2026.

/// What `install` takes instead of a client: the entry that most others read is printed.
pub(crate) const PRINT: &str = "print";

/// A client, and how it is told of a server.
#[derive(Debug)]
pub(crate) struct Client {
    /// As `install` takes it.
    pub name: &'static str,
    /// As people call it.
    pub title: &'static str,
    /// Where its file may be, best first. `{home}` and the like are the keys of `commands::install::place::Folders`; a folder's name may end in `*`.
    pub files: &'static [&'static str],
    /// It is installed where the file itself exists; else where the file's folder does.
    pub is_known_by_file: bool,
    /// What its servers stand under.
    pub key: &'static str,
    /// Whether an entry says that it is one over stdio.
    pub has_type: bool,
    /// Whether it gives a call about a minute, so that answers have to end before.
    pub is_hasty: bool,
    /// How long a call may take.
    pub limit: &'static str,
    /// What its user does next.
    pub next: &'static str,
}

/// All of them.
pub(crate) const CLIENTS: [Client; 6] = [
    Client {
        name: "claude-desktop",
        title: "Claude Desktop",
        // From the Store or by the current installer its files are in the package's folder, and it reads no other.
        files: &[
            "{local}/Packages/Claude_*/LocalCache/Roaming/Claude/claude_desktop_config.json",
            "{config}/Claude/claude_desktop_config.json",
        ],
        is_known_by_file: false,
        key: "mcpServers",
        has_type: false,
        is_hasty: true,
        limit: "60 seconds a call, some versions 4 minutes; no setting changes that",
        next: "quit Claude Desktop, not just its window, and start it again",
    },
    Client {
        name: "claude-code",
        title: "Claude Code",
        // The user's scope, as for the other clients. A project's `.mcp.json` is shared, and these paths are not.
        files: &["{claude}/.claude.json"],
        is_known_by_file: true,
        key: "mcpServers",
        has_type: true,
        is_hasty: false,
        limit: "hours a call; `timeout` (milliseconds) beside `command` sets another",
        next: "start Claude Code anew; /mcp shows the server",
    },
    Client {
        name: "cursor",
        title: "Cursor",
        files: &["{home}/.cursor/mcp.json"],
        is_known_by_file: false,
        key: "mcpServers",
        has_type: false,
        is_hasty: false,
        limit: "5 minutes a call",
        next: "switch the server on in Cursor's settings, under MCP",
    },
    Client {
        name: "vscode",
        title: "VS Code",
        files: &[
            "{config}/Code/User/mcp.json",
            "{config}/Code - Insiders/User/mcp.json",
        ],
        is_known_by_file: false,
        key: "servers",
        has_type: true,
        is_hasty: false,
        limit: "5 minutes a call in versions of 2025, none since",
        next: "run `MCP: List Servers` in VS Code, and start the server there",
    },
    Client {
        name: "zed",
        title: "Zed",
        files: &["{xdg}/zed/settings.json", "{appdata}/Zed/settings.json"],
        is_known_by_file: false,
        key: "context_servers",
        has_type: false,
        is_hasty: true,
        limit: "60 seconds a call, unless `context_server_timeout` in Zed's settings says otherwise",
        next: "nothing: Zed reads its settings by itself",
    },
    Client {
        name: "lmstudio",
        title: "LM Studio",
        // A file names its folder; earlier versions had it in the cache.
        files: &[
            "{lmstudio}/mcp.json",
            "{home}/.cache/lm-studio/mcp.json",
            "{home}/.lmstudio/mcp.json",
        ],
        is_known_by_file: false,
        key: "mcpServers",
        has_type: false,
        is_hasty: true,
        limit: "60 seconds a call, unless `timeout` (milliseconds) beside `command` says otherwise",
        next: "switch the server on in LM Studio, under Program",
    },
];

/// All that `install` takes.
pub(crate) fn names() -> impl Iterator<Item = &'static str> {
    CLIENTS.iter().map(|client| client.name).chain([PRINT])
}
