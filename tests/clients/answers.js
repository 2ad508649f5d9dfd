// The calls of calls.json to the tools of tools.toml, as calls.py makes them for Python: a client must accept every answer.

const assert = require("node:assert/strict");

const entries = require("./calls.json");

// An entry with `count_to` is called as often, with another `number` each time.
const everyCall = entries.flatMap(({ count_to: count, ...entry }) => {
  const numbers = Array.from({ length: count ?? 0 }, (_, at) => ({ number: at + 1 }));
  return (count ? numbers : [{}]).map((number) => ({ ...entry, arguments: { ...entry.arguments, ...number } }));
});

function isRight(entry, { content, structuredContent, isError }) {
  const [{ text }] = content;
  assert.ok(!isError, text);
  if (entry.text) assert.equal(text, entry.text);
  else assert.deepEqual(JSON.parse(text), structuredContent);
}

async function acceptsEveryAnswer(client) {
  const { tools } = await client.listTools();
  const wanted = new Set(entries.map(({ tool }) => tool));
  assert.deepEqual(tools.map(({ name }) => name).sort(), [...wanted].sort());
  const faults = [];
  for (const entry of everyCall) {
    try {
      isRight(entry, await client.call({ name: entry.tool, arguments: entry.arguments }));
    } catch (error) {
      faults.push(`${entry.tool}: ${error.message}`);
    }
  }
  assert.equal(faults.length, 0, `${faults.length} of ${everyCall.length} calls failed\n  ${faults.join("\n  ")}`);
}

module.exports = { acceptsEveryAnswer };
