// ai_sdk.js API (URL | COMMAND...): an agent of the AI SDK 6 with the tools of a server and a Gemini model at API.

const { generateText, stepCountIs } = require("ai");
const { createGoogleGenerativeAI } = require("@ai-sdk/google");
const { createMCPClient } = require("@ai-sdk/mcp");
const { Experimental_StdioMCPTransport: StdioTransport } = require("@ai-sdk/mcp/mcp-stdio");

const [api, ...target] = process.argv.slice(2);

async function main() {
  const [command, ...args] = target;
  const transport = args.length ? new StdioTransport({ command, args, env: { RUST_LOG: "warn" } }) : { type: "http", url: command };
  const client = await createMCPClient({ transport });
  const model = createGoogleGenerativeAI({ baseURL: `${api}/v1beta`, apiKey: "none" })("gemini-2.5-flash");
  const { text } = await generateText({ model, tools: await client.tools(), prompt: "Do it.", stopWhen: stepCountIs(3), maxRetries: 0 });
  await client.close();
  console.log(text);
}

main();
