// Ordinary models of zod 3. Prints the JSON Schemas that zod-to-json-schema makes of them, by name.
import { z } from "zod3";
import { zodToJsonSchema } from "zod-to-json-schema";

const Address = z.object({ street: z.string(), city: z.string(), postalCode: z.string() });
const Cat = z.object({ kind: z.literal("cat"), lives: z.number().int() });
const Dog = z.object({ kind: z.literal("dog"), breed: z.string() });
const Pet = z.discriminatedUnion("kind", [Cat, Dog]);
const Tree = z.object({ name: z.string(), children: z.lazy(() => z.array(Tree)) });
const LinkedList = z.object({ value: z.number(), next: z.lazy(() => LinkedList.nullable()) });
const page = (item) => z.object({ items: z.array(item), total: z.number().int().nonnegative(), next: z.string().nullish() });
const Color = { Red: "red", Green: "green" };

const models = {
  Person: z.object({ name: z.string(), age: z.number(), isMember: z.boolean() }),
  Described: z.object({ name: z.string().describe("As written.") }).describe("A person who is mentioned in a text."),
  Optionals: z.object({ name: z.string(), nick: z.string().optional(), mail: z.string().nullable(), age: z.number().nullish() }),
  Defaults: z.object({ language: z.string().default("en"), retries: z.number().int().default(3) }),
  Nested: z.object({ name: z.string(), home: Address, work: Address.optional(), others: z.array(Address) }),
  Enums: z.object({ size: z.enum(["s", "m", "l"]), color: z.nativeEnum(Color), one: z.literal("x"), two: z.literal(2) }),
  Arrays: z.object({ words: z.array(z.string()), matrix: z.array(z.array(z.number())), some: z.array(z.number()).min(1).max(5) }),
  NumberBounds: z.object({ score: z.number().int().min(0).max(100), ratio: z.number().gt(0).lt(1), even: z.number().int().multipleOf(2),
    price: z.number().nonnegative().multipleOf(0.01) }),
  StringBounds: z.object({ short: z.string().min(1).max(20), code: z.string().length(6), plain: z.string().regex(/^[A-Z]{2}\d{4}$/) }),
  StringChecks: z.object({ start: z.string().startsWith("ab"), end: z.string().endsWith("yz"), has: z.string().includes("mid") }),
  Email: z.object({ email: z.string().email() }),
  Url: z.object({ url: z.string().url() }),
  Uuid: z.object({ id: z.string().uuid() }),
  Times: z.object({ at: z.string().datetime(), day: z.string().date(), clock: z.string().time() }),
  Duration: z.object({ took: z.string().duration() }),
  JsDate: z.object({ at: z.date() }),
  Addresses: z.object({ v4: z.string().ip({ version: "v4" }), any: z.string().ip() }),
  Identifiers: z.object({ cuid: z.string().cuid(), ulid: z.string().ulid(), nanoid: z.string().nanoid() }),
  Encoded: z.object({ text: z.string().base64() }),
  Tuples: z.object({ point: z.tuple([z.number(), z.number()]), rest: z.tuple([z.string()]).rest(z.number()) }),
  Records: z.object({ scores: z.record(z.number()), people: z.record(z.string(), Address) }),
  EnumRecord: z.object({ counts: z.record(z.enum(["a", "b"]), z.number()) }),
  KeyRecord: z.object({ counts: z.record(z.string().min(2).max(8), z.number()) }),
  Maps: z.object({ map: z.map(z.string(), z.number()), set: z.set(z.string()).min(1) }),
  Unions: z.object({ value: z.union([z.string(), z.number()]), many: z.union([z.array(z.string()), z.string(), z.null()]) }),
  LiteralUnion: z.object({ value: z.union([z.literal("a"), z.literal("b"), z.literal(3)]) }),
  ObjectUnion: z.object({ pet: z.union([Cat, Dog]) }),
  Discriminated: z.object({ pet: Pet }),
  DiscriminatedList: z.object({ pets: z.array(Pet) }),
  Intersection: z.object({ both: z.object({ a: z.string() }).and(z.object({ b: z.number() })) }),
  Tree,
  LinkedList,
  GenericPage: z.object({ people: page(Address), words: page(z.string()) }),
  AnyFields: z.object({ any: z.any(), unknown: z.unknown() }),
  Strict: z.object({ name: z.string() }).strict(),
  PassThrough: z.object({ name: z.string() }).passthrough(),
  CatchAll: z.object({ name: z.string() }).catchall(z.number()),
  Refined: z.object({ even: z.number().refine((n) => n % 2 === 0), list: z.array(z.string()).nonempty() }),
  Effects: z.object({ word: z.string().transform((s) => s.length), piped: z.string().pipe(z.string().max(9)) }),
  Branded: z.object({ id: z.string().brand("Id"), level: z.enum(["low", "high"]).catch("low"), fixed: z.string().readonly() }),
  BigInts: z.object({ size: z.bigint() }),
  Reused: z.object({ from: Address, to: Address, via: z.array(Address) }),
  DiscriminatedRoot: Pet,
  ArrayRoot: z.array(Address),
  Math: z.object({ steps: z.array(z.object({ explanation: z.string(), output: z.string() })), finalAnswer: z.string() }),
};

const schemas = Object.fromEntries(Object.entries(models).map(([name, model]) => [name, zodToJsonSchema(model)]));
schemas.NamedRoot = zodToJsonSchema(models.Nested, "Nested");
schemas.OpenAi = zodToJsonSchema(models.Optionals, { target: "openAi" });
schemas.OpenApi = zodToJsonSchema(models.NumberBounds, { target: "openApi3" });
schemas.Draft2019 = zodToJsonSchema(models.Tuples, { target: "jsonSchema2019-09" });
console.log(JSON.stringify(schemas));
