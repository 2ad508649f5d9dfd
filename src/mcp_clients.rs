//! The clients that `install` supports, as data.
//!
//! Locations and formats of their files and their time limits come from their documentation, sources and issues, as of November 2026.

/// The argument of `install` that prints the entry most other clients read, instead of editing a file.
pub(crate) const PRINT: &str = "print";

/// An MCP client and the format of its configuration file.
#[derive(Debug)]
pub(crate) struct Client {
    /// Name on the command line.
    pub name: &'static str,
    /// Name for people.
    pub title: &'static str,
    /// Paths where its file may be, best first. Names such as `{home}` are resolved by `commands::install::locate::Folders`; the name of a
    /// folder may end in `*`.
    pub files: &'static [&'static str],
    /// Whether the file itself shows that the client is installed, not just the folder of the file.
    pub is_detected_by_file: bool,
    /// Key of the table of servers.
    pub key: &'static str,
    /// Whether an entry has `"type": "stdio"`.
    pub has_type: bool,
    /// Whether calls time out after about a minute, so that answers must end before that.
    pub has_short_timeout: bool,
    /// Time limit of a call.
    pub limit: &'static str,
    /// Next step for the user.
    pub next: &'static str,
}

/// All supported clients.
pub(crate) const CLIENTS: [Client; 6] = [
    Client {
        name: "claude-desktop",
        title: "Claude Desktop",
        // Installed from the Store or by the current installer, it reads only the file in the folder of its package.
        files: &[
            "{local}/Packages/Claude_*/LocalCache/Roaming/Claude/claude_desktop_config.json",
            "{config}/Claude/claude_desktop_config.json",
        ],
        is_detected_by_file: false,
        key: "mcpServers",
        has_type: false,
        has_short_timeout: true,
        limit: "60 seconds per call, 4 minutes in some versions; not configurable",
        next: "quit Claude Desktop, not just its window, and start it again",
    },
    Client {
        name: "claude-code",
        title: "Claude Code",
        // The scope of the user, as for the other clients. The `.mcp.json` of a project is shared, and these paths are local.
        files: &["{claude}/.claude.json"],
        is_detected_by_file: true,
        key: "mcpServers",
        has_type: true,
        has_short_timeout: false,
        limit: "hours per call; set `timeout` (milliseconds) next to `command` to change it",
        next: "restart Claude Code; /mcp shows the server",
    },
    Client {
        name: "cursor",
        title: "Cursor",
        files: &["{home}/.cursor/mcp.json"],
        is_detected_by_file: false,
        key: "mcpServers",
        has_type: false,
        has_short_timeout: false,
        limit: "5 minutes per call",
        next: "switch the server on in Cursor's settings, under MCP",
    },
    Client {
        name: "vscode",
        title: "VS Code",
        files: &[
            "{config}/Code/User/mcp.json",
            "{config}/Code - Insiders/User/mcp.json",
        ],
        is_detected_by_file: false,
        key: "servers",
        has_type: true,
        has_short_timeout: false,
        limit: "5 minutes per call in versions of 2025, no limit since",
        next: "run `MCP: List Servers` in VS Code, and start the server there",
    },
    Client {
        name: "zed",
        title: "Zed",
        files: &["{xdg}/zed/settings.json", "{appdata}/Zed/settings.json"],
        is_detected_by_file: false,
        key: "context_servers",
        has_type: false,
        has_short_timeout: true,
        limit: "60 seconds per call; set `context_server_timeout` in Zed's settings to change it",
        next: "nothing: Zed reloads its settings by itself",
    },
    Client {
        name: "lmstudio",
        title: "LM Studio",
        // A pointer file names its folder. Earlier versions had the folder in the cache.
        files: &[
            "{lmstudio}/mcp.json",
            "{home}/.cache/lm-studio/mcp.json",
            "{home}/.lmstudio/mcp.json",
        ],
        is_detected_by_file: false,
        key: "mcpServers",
        has_type: false,
        has_short_timeout: true,
        limit: "60 seconds per call; set `timeout` (milliseconds) next to `command` to change it",
        next: "switch the server on in LM Studio, under Program",
    },
];

/// Returns the names that `install` accepts.
pub(crate) fn names() -> impl Iterator<Item = &'static str> {
    CLIENTS.iter().map(|client| client.name).chain([PRINT])
}
