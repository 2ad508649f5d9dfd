// mcpb.js SERVER MODEL: the bundle that scripts/mcpb packs, unpacked and started as a desktop client does it.

const assert = require("node:assert/strict");
const { execFileSync } = require("node:child_process");
const { createHash } = require("node:crypto");
const fs = require("node:fs");
const os = require("node:os");
const path = require("node:path");

const { getMcpConfigForManifest, unpackExtension } = require("@anthropic-ai/mcpb");
const { Client } = require("@modelcontextprotocol/client");
const { StdioClientTransport } = require("@modelcontextprotocol/client/stdio");

const [server, model] = process.argv.slice(2).map((file) => path.resolve(file));
const folder = fs.mkdtempSync(path.join(os.tmpdir(), "mcpb-"));

// Packs `place`, unpacks that, and gives its folder and its manifest.
async function bundled(place) {
  const bundle = path.join(folder, `${path.basename(place)}.mcpb`);
  execFileSync("scripts/mcpb", [place, bundle], { stdio: ["ignore", "ignore", "pipe"] });
  const extensionPath = path.join(folder, `unpacked-${path.basename(place)}`);
  assert.ok(await unpackExtension({ mcpbPath: bundle, outputDir: extensionPath, silent: true }));
  const manifest = JSON.parse(fs.readFileSync(path.join(extensionPath, "manifest.json"), "utf8"));
  return { bundle, extensionPath, manifest };
}

// What the registry is told of it.
function isDescribed({ bundle, manifest }) {
  const server = JSON.parse(execFileSync("scripts/server-json", [bundle], { encoding: "utf8" }));
  const [{ fileSha256, identifier }, image] = server.packages;
  assert.equal(server.version, manifest.version);
  assert.equal(fileSha256, createHash("sha256").update(fs.readFileSync(bundle)).digest("hex"));
  assert.equal(identifier, `${manifest.repository.url}/releases/download/v${server.version}/${path.basename(bundle)}`);
  assert.ok(image.identifier.endsWith(`:${server.version}`), image.identifier);
}

const settings = ({ extensionPath, manifest }, userConfig) =>
  getMcpConfigForManifest({ extensionPath, manifest, userConfig, systemDirs: { HOME: os.homedir() }, pathSeparator: path.sep });

async function answers(bundle) {
  const { command, args, env } = await settings(bundle, { model });
  const client = new Client({ name: "mcpb", version: "1" });
  await client.connect(new StdioClientTransport({ command, args, env, cwd: folder, stderr: "ignore" }));
  const question = { text: "What is the capital of Peru?", temperature: 0 };
  const { content } = await client.callTool({ name: "chat", arguments: question });
  assert.equal(content[0].text, "The capital of Peru is Lima.");
  await client.close();
}

async function oneProgram() {
  const bundle = await bundled(server);
  const { manifest } = bundle;
  const version = execFileSync(server, ["--version"], { encoding: "utf8" }).trim();
  assert.equal(`${manifest.name} ${manifest.version}`, version);
  assert.equal(manifest.user_config.model.type, "file");
  assert.deepEqual(manifest.compatibility.platforms, [process.platform]);
  assert.equal(await settings(bundle, {}), undefined, "a model is required");
  isDescribed(bundle);
  await answers(bundle);
}

// Folders as in a release, of which those for other systems hold a beginning alone.
async function severalSystems() {
  const release = path.join(folder, "release");
  const begins = { darwin: "cffaedfe", linux: "7f454c46", win32: "4d5a" };
  for (const [system, begin] of Object.entries(begins)) {
    const place = path.join(release, `some-${system}`);
    const program = path.join(place, system === "win32" ? "llama-mcp-server.exe" : "llama-mcp-server");
    fs.mkdirSync(path.join(place, "lib"), { recursive: true });
    fs.writeFileSync(path.join(place, "lib", "libggml.so"), system);
    if (system === process.platform) fs.copyFileSync(server, program);
    else fs.writeFileSync(program, Buffer.from(begin, "hex"));
  }
  const bundle = await bundled(release);
  const { extensionPath, manifest } = bundle;
  assert.deepEqual(manifest.compatibility.platforms, ["darwin", "linux", "win32"]);
  const { mcp_config } = manifest.server;
  const commands = [mcp_config, mcp_config.platform_overrides.linux, mcp_config.platform_overrides.win32];
  assert.deepEqual(commands.map(({ command }) => command), [
    "${__dirname}/server/darwin/llama-mcp-server",
    "${__dirname}/server/linux/llama-mcp-server",
    "${__dirname}/server/win32/llama-mcp-server.exe",
  ]);
  for (const system of Object.keys(begins)) {
    assert.equal(fs.readFileSync(path.join(extensionPath, "server", system, "lib", "libggml.so"), "utf8"), system);
  }
  await answers(bundle);
}

oneProgram()
  .then(severalSystems)
  .then(() => console.log("MCPB: packed, unpacked, started, answered"))
  .finally(() => fs.rmSync(folder, { recursive: true }))
  .catch((error) => {
    console.error(error);
    process.exitCode = 1;
  });
