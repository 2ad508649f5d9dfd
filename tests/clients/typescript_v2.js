// typescript_v2.js SERVER MODEL: the official TypeScript client, version 2, in the modes in which it opens a server.

const { Client, StreamableHTTPClientTransport } = require("@modelcontextprotocol/client");
const { StdioClientTransport } = require("@modelcontextprotocol/client/stdio");

const { check } = require("./checks.js");

check("TypeScript 2", { auto: "2026-07-28", legacy: "2025-11-25" }, async (mode, over, onToolsChanged) => {
  const transport = over.url ? new StreamableHTTPClientTransport(new URL(over.url)) : new StdioClientTransport(over);
  const listChanged = { tools: { autoRefresh: false, onChanged: onToolsChanged } };
  const client = new Client({ name: "checks", version: "1" }, { versionNegotiation: { mode }, listChanged });
  await client.connect(transport);
  return {
    revision: client.getNegotiatedProtocolVersion(),
    listTools: () => client.listTools(),
    call: (params, options) => client.callTool(params, options),
    close: () => client.close(),
  };
});
