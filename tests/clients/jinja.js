// jinja.js SERVER MODEL TEMPLATES: LM Studio's template engine writes the tools into the prompts of models whose templates put
// each argument's type in upper case: Gemma 4's. TEMPLATES is what scripts/get-templates prints.

const assert = require("node:assert/strict");
const fs = require("node:fs");

const { Template } = require("@huggingface/jinja");
const { Client } = require("@modelcontextprotocol/client");
const { StdioClientTransport } = require("@modelcontextprotocol/client/stdio");

const [command, model, file] = process.argv.slice(2);

async function listTools() {
  const args = ["--config", `${__dirname}/tools.toml`, "--set", `models.chat.path=${fs.realpathSync(model)}`];
  const client = new Client({ name: "jinja", version: "1" });
  await client.connect(new StdioClientTransport({ command, args, env: { RUST_LOG: "warn" } }));
  const { tools } = await client.listTools();
  await client.close();
  return tools;
}

const declared = ({ name, description, inputSchema }) => ({ type: "function", function: { name, description, parameters: inputSchema } });

// Returns what is wrong with a prompt that declares the tool.
function faultOf(template, tool) {
  try {
    const prompt = template.render({ messages: [{ role: "user", content: "Hi" }], tools: [tool], bos_token: "<bos>" });
    return Object.keys(tool.function.parameters.properties).find((argument) => !prompt.includes(`${argument}:{`));
  } catch (error) {
    return error.message;
  }
}

async function main() {
  const templates = JSON.parse(fs.readFileSync(file, "utf8")).templates.filter(({ source }) => source.includes("value['type'] | upper"));
  assert.notEqual(templates.length, 0);
  const tools = (await listTools()).map(declared);
  for (const { name, source } of templates) {
    const template = new Template(source);
    const faults = tools.map((tool) => [tool.function.name, faultOf(template, tool)]).filter(([, fault]) => fault);
    assert.deepEqual(faults, [], name);
    console.log(`Jinja of LM Studio, ${name}: ok, ${tools.length} tools`);
  }
}

main();
