// Ordinary types of TypeScript. Prints the JSON Schemas that ts-json-schema-generator makes of the exported types in typescript.ts, by name,
// without types that are only parts of others.
import { createGenerator } from "ts-json-schema-generator";
import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";

const PARTS = ["Address", "Base", "Cat", "Dog", "Step", "Search", "Finish", "Identifier", "Timestamp"];

const path = fileURLToPath(new URL("typescript.ts", import.meta.url));
const names = [...readFileSync(path, "utf8").matchAll(/^export (?:interface|type) (\w+)\b(?!<)/gm)]
  .map((found) => found[1]).filter((name) => !PARTS.includes(name));
const generator = createGenerator({ path, tsconfig: undefined, skipTypeCheck: true });
const schemas = Object.fromEntries(names.map((name) => [name, generator.createSchema(name)]));
// Other settings that people use.
const plain = createGenerator({ path, skipTypeCheck: true, topRef: false, additionalProperties: true });
const inline = createGenerator({ path, skipTypeCheck: true, expose: "none" });
const unencoded = createGenerator({ path, skipTypeCheck: true, encodeRefs: false });
schemas.NestedTopRefFalse = plain.createSchema("Nested");
schemas.NestedInline = inline.createSchema("Nested");
schemas.GenericsUnencoded = unencoded.createSchema("Generics");
console.log(JSON.stringify(schemas));
