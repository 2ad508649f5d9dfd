// Calls the first tool of a server, and shows its progress. Node 22.18 or newer runs this file directly, after `npm install`.
//
//   node client.ts QUESTION COMMAND [ARGUMENT…]        starts a server and talks to it over stdio
//   node client.ts QUESTION http://127.0.0.1:8080/mcp  connects to a running server; LLAMA_MCP_AUTH is the token

import { Client, StreamableHTTPClientTransport } from "@modelcontextprotocol/client";
import { StdioClientTransport } from "@modelcontextprotocol/client/stdio";

const [question, where, ...args] = process.argv.slice(2);
if (!where) throw new Error("usage: node client.ts QUESTION URL | QUESTION COMMAND [ARGUMENT…]");

function transport() {
  if (!where.startsWith("http")) return new StdioClientTransport({ command: where, args });
  const headers = { Authorization: `Bearer ${process.env.LLAMA_MCP_AUTH ?? ""}` };
  return new StreamableHTTPClientTransport(new URL(where), { requestInit: { headers } });
}

const client = new Client({ name: "example", version: "1" }, { versionNegotiation: { mode: "auto" } });
await client.connect(transport());
const { tools } = await client.listTools();
const result = await client.callTool(
  { name: tools[0].name, arguments: { text: question } },
  {
    onprogress: ({ progress, message = "" }) =>
      console.error(`${progress.toFixed(1).padStart(6)} s  ${message.replace(/\s+/g, " ").slice(-70)}`),
    // Without this, the call times out after a minute even if there is progress.
    resetTimeoutOnProgress: true,
  },
);
for (const part of result.content) if (part.type === "text") console.log(part.text);
process.exitCode = result.isError ? 1 : 0;
await client.close();
