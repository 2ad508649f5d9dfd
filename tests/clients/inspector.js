// inspector.js SERVER MODEL: the command line of the MCP Inspector, in each era. Each of its runs is a connection of its own, so it
// can neither give up a call nor hear of an edit.

const assert = require("node:assert/strict");
const { execFile } = require("node:child_process");
const path = require("node:path");

const { eachWay } = require("./checks.js");

const launcher = path.join(process.env.NODE_PATH, "@modelcontextprotocol/inspector/clients/launcher/build/index.js");

// Runs it and gives its exit code and what it printed. What it keeps in the home folder goes beside the configuration.
function inspect({ era, over, config }, options) {
  const target = over.url ? [over.url, "--transport", "http"] : [];
  const command = over.url ? [] : ["--", over.command, ...over.args];
  const all = ["--cli", ...target, "--protocol-era", era, "--quiet", "--format", "json", ...options, ...command];
  return new Promise((resolve) => {
    const env = { ...process.env, HOME: path.dirname(config) };
    execFile(process.execPath, [launcher, ...all], { env }, (error, stdout, stderr) => {
      resolve({ code: error?.code ?? 0, stdout, stderr });
    });
  });
}

async function resultOf(...run) {
  const { code, stdout, stderr } = await inspect(...run);
  assert.equal(code, 0, stderr);
  return JSON.parse(stdout).result;
}

const eras = ["legacy", "auto", "modern"];

async function listsAndCalls(era, over, config) {
  const server = { era, over, config };
  // A tool that some client could not use is an error to `--strict`.
  const { tools } = await resultOf(server, ["--method", "tools/list", "--strict"]);
  assert.deepEqual(tools.map(({ name }) => name), ["chat"]);

  const call = ["--method", "tools/call", "--tool-name"];
  const question = { messages: [{ role: "user", content: "What is the capital of Peru?" }] };
  const { content } = await resultOf(server, [...call, "chat", "--tool-args-json", JSON.stringify(question)]);
  assert.equal(content[0].text, "The capital of Peru is Lima.");

  const refused = await inspect(server, [...call, "chat", "--tool-arg", "text=Hi", "top_p=7"]);
  assert.ok(refused.code !== 0 && (refused.stdout + refused.stderr).includes("`top_p`"), JSON.stringify(refused));

  const unknown = await inspect(server, [...call, "no_such_tool"]);
  assert.ok(unknown.code !== 0 && unknown.stderr.includes("no_such_tool"), JSON.stringify(unknown));
}

async function listsEveryTool(era, over, config) {
  const { tools } = await resultOf({ era, over, config }, ["--method", "tools/list", "--strict"]);
  assert.ok(tools.length > 1);
}

eachWay("Inspector", eras, "server.toml", listsAndCalls).then(() => eachWay("Inspector", eras, "tools.toml", listsEveryTool));
