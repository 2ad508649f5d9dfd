// typescript_v1.js SERVER MODEL: the official TypeScript client, version 1, which knows the revisions up to 2025-11-25.

const { Client } = require("@modelcontextprotocol/sdk/client/index.js");
const { StdioClientTransport } = require("@modelcontextprotocol/sdk/client/stdio.js");
const { StreamableHTTPClientTransport } = require("@modelcontextprotocol/sdk/client/streamableHttp.js");
const { ToolListChangedNotificationSchema } = require("@modelcontextprotocol/sdk/types.js");

const { check } = require("./checks.js");

check("TypeScript 1", { legacy: "2025-11-25" }, async (_mode, over, onToolsChanged) => {
  const transport = over.url ? new StreamableHTTPClientTransport(new URL(over.url)) : new StdioClientTransport(over);
  let revision;
  // The client tells only its transport which one was agreed on; that of stdio does not listen.
  const tell = transport.setProtocolVersion?.bind(transport);
  transport.setProtocolVersion = (agreed) => {
    revision = agreed;
    tell?.(agreed);
  };
  const client = new Client({ name: "checks", version: "1" });
  client.setNotificationHandler(ToolListChangedNotificationSchema, onToolsChanged);
  await client.connect(transport);
  return {
    revision,
    listTools: () => client.listTools(),
    call: (params, options) => client.callTool(params, undefined, options),
    async close() {
      await transport.terminateSession?.();
      await client.close();
    },
  };
});
