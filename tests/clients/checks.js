// What the TypeScript clients must be able to do with a server, over stdio and HTTP.

const assert = require("node:assert/strict");
const { spawn } = require("node:child_process");
const { once } = require("node:events");
const fs = require("node:fs");
const os = require("node:os");
const path = require("node:path");
const readline = require("node:readline");

const { acceptsEveryAnswer } = require("./answers.js");

const [server, model] = process.argv.slice(2);

// Ten abandoned songs, one at a time, would take longer.
const SOON = 10_000;

const text = (result) => result.content[0].text;

const soon = (promise, what) => {
  let timer;
  const late = new Promise((_, reject) => (timer = setTimeout(() => reject(new Error(`too late: ${what}`)), SOON)));
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
};

const chat = (client, args, options) => client.call({ name: "chat", arguments: args }, options);

const capital = (client, country) => chat(client, { text: `What is the capital of ${country}?` });

async function listsAndCalls(client) {
  const { tools } = await client.listTools();
  assert.deepEqual(tools.map((tool) => [tool.name, tool.inputSchema.type]), [["chat", "object"]]);
  assert.equal(text(await capital(client, "Peru")), "The capital of Peru is Lima.");
  const refused = await chat(client, { text: "Hi", top_p: 7 });
  assert.ok(refused.isError && text(refused).includes("`top_p`"), text(refused));
}

async function doesNotKnowATool(client) {
  await assert.rejects(client.call({ name: "no_such_tool", arguments: {} }), { code: -32602, message: /no_such_tool/ });
}

async function hearsProgress(client) {
  const heard = [];
  const sung = await chat(client, { text: "Sing forever.", deadline: 1.8 }, { onprogress: (progress) => heard.push(progress) });
  assert.match(text(sung), /^la la/);
  assert.ok(heard.length >= 2 && heard.every((news, at) => at === 0 || news.progress > heard[at - 1].progress), heard);
  assert.match(heard.at(-1).message, /la la/);
}

async function freesTheModelWhenItGivesUp(client) {
  const giveUp = new AbortController();
  let sings;
  const singing = new Promise((resolve) => (sings = resolve));
  const onprogress = ({ message }) => message.includes("la la") && sings();
  const song = () => chat(client, { text: "Sing forever." }, { onprogress, signal: giveUp.signal });
  const songs = Promise.allSettled(Array.from({ length: 10 }, song));
  await singing;
  giveUp.abort();
  const answers = ["France", "Cuba", "Kenya"].map((country) => capital(client, country));
  const expected = ["France is Paris", "Cuba is Havana", "Kenya is Nairobi"].map((place) => `The capital of ${place}.`);
  assert.deepEqual((await soon(Promise.all(answers), "an answer after a cancel")).map(text), expected);
  assert.ok((await songs).every(({ status }) => status === "rejected"));
}

function edit(config) {
  fs.writeFileSync(config, fs.readFileSync(config, "utf8").replace("Edition 0", "Edition 1"));
}

async function hearsOfAnEdit(client, config) {
  const edition = ({ tools }) => tools[0].description.slice(0, "Edition 0.".length);
  assert.equal(edition(await client.listTools()), "Edition 0.");
  edit(config);
  await soon(client.toolsChanged, "news of an edit");
  assert.equal(edition(await client.listTools()), "Edition 1.");
}

// Starts a server over HTTP on `port`, or on a free one.
async function serve(flags, port = 0) {
  const child = spawn(server, [...flags, "--transport", "http", "--port", port], { stdio: ["ignore", "ignore", "pipe"] });
  for await (const line of readline.createInterface({ input: child.stderr })) {
    const found = /listening on (\S+)/.exec(line);
    if (found) {
      child.stderr.resume();
      return { child, url: found[1] };
    }
  }
  throw new Error("the server does not listen");
}

// Runs `use` for each mode and transport, with what a client needs to reach a server, and with a copy of the configuration.
async function eachWay(name, modes, original, use) {
  for (const mode of modes) {
    for (const kind of ["stdio", "HTTP"]) {
      const begun = Date.now();
      const folder = fs.mkdtempSync(path.join(os.tmpdir(), "llama-mcp-clients-"));
      const config = path.join(folder, original);
      fs.copyFileSync(path.join(__dirname, original), config);
      const flags = ["--config", config, "--set", `models.chat.path=${path.resolve(model)}`];
      const over = kind === "HTTP" ? await serve(flags) : { command: server, args: flags, env: { RUST_LOG: "warn" } };
      try {
        await use(mode, over, config);
      } finally {
        over.child?.kill();
        fs.rmSync(folder, { recursive: true });
      }
      if (over.child) assert.deepEqual(await once(over.child, "exit"), [0, null]);
      console.log(`${name}, ${kind}, mode ${mode}, ${original}: ok, ${((Date.now() - begun) / 1000).toFixed(1)} s`);
    }
  }
}

// A client whose server is killed and started again, twice, notices nothing.
async function goesOnAfterARestart(name, mode, open) {
  const begun = Date.now();
  const flags = ["--model", model, "--temperature", "0", "--repeat_penalty", "1"];
  let over = await serve(flags);
  const client = await open(mode, over, () => {});
  try {
    for (let restarts = 0; restarts < 2; restarts++) {
      await listsAndCalls(client);
      await hearsProgress(client);
      over.child.kill("SIGKILL");
      await once(over.child, "exit");
      over = await serve(flags, new URL(over.url).port);
    }
    await listsAndCalls(client);
    await client.close();
  } finally {
    over.child.kill();
  }
  console.log(`${name}, HTTP, mode ${mode}, restarts: ok, ${((Date.now() - begun) / 1000).toFixed(1)} s`);
}

// Runs all checks of a library. `modes` are its modes, with the revision that each must come to; `open` gives a client that
// is connected, with `call`, `listTools`, `revision`, `close`, and has `onToolsChanged` called on that notification.
async function check(name, modes, open) {
  const checks = {
    "server.toml": [listsAndCalls, doesNotKnowATool, hearsProgress, freesTheModelWhenItGivesUp, hearsOfAnEdit],
    "tools.toml": [acceptsEveryAnswer],
  };
  for (const [original, all] of Object.entries(checks)) {
    await eachWay(name, Object.keys(modes), original, async (mode, over, config) => {
      let onToolsChanged;
      const toolsChanged = new Promise((resolve) => (onToolsChanged = resolve));
      const client = { ...(await open(mode, over, onToolsChanged)), toolsChanged };
      assert.equal(client.revision, modes[mode]);
      for (const one of all) await one(client, config);
      await client.close();
    });
  }
  for (const mode of Object.keys(modes)) await goesOnAfterARestart(name, mode, open);
}

module.exports = { check, eachWay };
