// Validates answers with Ajv. Reads lines with `schema` and `answers`. For each, writes a line with the faults of the answers without and with
// checks of `format`, or the reason why the schema cannot be used.
import Ajv7 from "ajv";
import Ajv2019 from "ajv/dist/2019.js";
import Ajv2020 from "ajv/dist/2020.js";
import Ajv4 from "ajv-draft-04";
import addFormats from "ajv-formats";
import { createInterface } from "node:readline";

const of = (module) => module.default ?? module;
const DRAFTS = [["2020-12", of(Ajv2020)], ["2019-09", of(Ajv2019)], ["draft-07", of(Ajv7)], ["draft-06", of(Ajv7)], ["draft-04", of(Ajv4)]];
const MAPS = new Set(["properties", "patternProperties", "definitions", "$defs", "dependentSchemas"]);
const DATA = new Set(["enum", "const", "default", "examples"]);

// Removes `$schema`, since Ajv rejects unknown ones, and for newer drafts `id`, which Ajv rejects there.
function cleaned(schema, isDraft4, isMap = false) {
  if (Array.isArray(schema)) return schema.map((item) => cleaned(item, isDraft4));
  if (schema === null || typeof schema !== "object") return schema;
  return Object.fromEntries(Object.entries(schema)
    .filter(([key, value]) => isMap || !(key === "$schema" || (key === "id" && !isDraft4 && typeof value === "string")))
    .map(([key, value]) => [key, !isMap && DATA.has(key) ? value : cleaned(value, isDraft4, !isMap && MAPS.has(key))]));
}

function compiled(schema, validateFormats) {
  const named = DRAFTS.filter(([name]) => String(schema?.$schema).includes(name));
  let cause;
  for (const [name, Ajv] of [...named, ...DRAFTS]) {
    // Patterns are read as Unicode first, then without, as other engines do.
    for (const unicodeRegExp of [true, false]) {
      try {
        const ajv = new Ajv({ strict: false, logger: false, validateFormats, unicodeRegExp });
        if (validateFormats) of(addFormats)(ajv);
        return ajv.compile(cleaned(schema, name === "draft-04"));
      } catch (error) {
        cause ??= error;
      }
    }
  }
  throw cause;
}

for await (const line of createInterface({ input: process.stdin })) {
  const { schema, answers } = JSON.parse(line);
  const said = {};
  for (const mode of ["plain", "formats"]) {
    try {
      const validate = compiled(schema, mode === "formats");
      said[mode] = answers.map((answer) => {
        if (validate(answer)) return null;
        const [fault] = validate.errors;
        return `${fault.keyword} at ${fault.instancePath || "the root"}: ${fault.message}`;
      });
    } catch (error) {
      said[mode] = String(error).slice(0, 200);
    }
  }
  console.log(JSON.stringify(said));
}
