// Asks the first tool of a server, and shows how it comes along. Runs as it is by Node 22.18 or newer, after `npm install`.
//
//   node client.ts QUESTION COMMAND [ARGUMENT…]        starts a server and talks to it over stdio
//   node client.ts QUESTION http://127.0.0.1:8080/mcp  goes to one that runs; the token is in LLAMA_MCP_AUTH

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
    // Else it gives up after a minute, whatever it hears.
    resetTimeoutOnProgress: true,
  },
);
for (const part of result.content) if (part.type === "text") console.log(part.text);
process.exitCode = result.isError ? 1 : 0;
await client.close();
