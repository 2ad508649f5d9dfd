// Ordinary models of zod 4. Prints the JSON Schemas that z.toJSONSchema makes of them, by name.
import { z } from "zod";

const Address = z.object({ street: z.string(), city: z.string(), postalCode: z.string() });
const Cat = z.object({ kind: z.literal("cat"), lives: z.int() });
const Dog = z.object({ kind: z.literal("dog"), breed: z.string() });
const Pet = z.discriminatedUnion("kind", [Cat, Dog]);
const Tree = z.object({ name: z.string(), get children() { return z.array(Tree); } });
const LinkedList = z.object({ value: z.number(), get next() { return LinkedList.nullable(); } });
const page = (item) => z.object({ items: z.array(item), total: z.int().nonnegative(), next: z.string().nullish() });
const Color = { Red: "red", Green: "green" };
const Base = z.object({ id: z.string(), created: z.iso.datetime() });

const models = {
  Person: z.object({ name: z.string(), age: z.number(), isMember: z.boolean() }),
  Described: z.object({ name: z.string().describe("As written."), city: z.string().meta({ title: "City", examples: ["Lima"] }) })
    .describe("A person who is mentioned in a text."),
  Optionals: z.object({ name: z.string(), nick: z.string().optional(), mail: z.string().nullable(), age: z.number().nullish() }),
  Defaults: z.object({ language: z.string().default("en"), retries: z.int().default(3), tags: z.array(z.string()).default([]) }),
  Nested: z.object({ name: z.string(), home: Address, work: Address.optional(), others: z.array(Address) }),
  Enums: z.object({ size: z.enum(["s", "m", "l"]), color: z.enum(Color), one: z.literal("x"), several: z.literal(["a", 1, true]) }),
  Arrays: z.object({ words: z.array(z.string()), matrix: z.array(z.array(z.number())), some: z.array(z.int()).min(1).max(5) }),
  Integers: z.object({ any: z.int(), old: z.number().int(), i32: z.int32(), u32: z.uint32(), f32: z.float32(), f64: z.float64() }),
  NumberBounds: z.object({ score: z.int().min(0).max(100), ratio: z.number().gt(0).lt(1), even: z.int().multipleOf(2),
    price: z.number().nonnegative().multipleOf(0.01), count: z.int().positive() }),
  StringBounds: z.object({ short: z.string().min(1).max(20), code: z.string().length(6), plain: z.string().regex(/^[A-Z]{2}\d{4}$/) }),
  StringChecks: z.object({ start: z.string().startsWith("ab"), end: z.string().endsWith("yz"), has: z.string().includes("mid") }),
  Cases: z.object({ lower: z.string().lowercase(), upper: z.string().uppercase(), trimmed: z.string().trim() }),
  Email: z.object({ email: z.email() }),
  Url: z.object({ url: z.url() }),
  Uuids: z.object({ any: z.uuid(), v4: z.uuidv4(), v7: z.uuidv7(), guid: z.guid() }),
  IsoDate: z.object({ day: z.iso.date() }),
  IsoDateTime: z.object({ at: z.iso.datetime(), offset: z.iso.datetime({ offset: true }) }),
  IsoTime: z.object({ clock: z.iso.time(), minutes: z.iso.time({ precision: -1 }) }),
  IsoDuration: z.object({ took: z.iso.duration() }),
  Addresses: z.object({ v4: z.ipv4(), v6: z.ipv6() }),
  Networks: z.object({ v4: z.cidrv4(), v6: z.cidrv6() }),
  Identifiers: z.object({ cuid2: z.cuid2(), ulid: z.ulid(), nanoid: z.nanoid() }),
  Encoded: z.object({ text: z.base64(), url: z.base64url() }),
  Emoji: z.object({ mood: z.emoji() }),
  Phone: z.object({ number: z.e164() }),
  Jwt: z.object({ token: z.jwt() }),
  Template: z.object({ size: z.templateLiteral([z.number(), z.enum(["px", "em"])]) }),
  Tuples: z.object({ point: z.tuple([z.number(), z.number()]), entry: z.tuple([z.string(), z.int()]) }),
  TupleRest: z.object({ row: z.tuple([z.string()], z.number()) }),
  Records: z.object({ scores: z.record(z.string(), z.number()), people: z.record(z.string(), Address) }),
  EnumRecord: z.object({ counts: z.record(z.enum(["a", "b"]), z.int()) }),
  PartialRecord: z.object({ counts: z.partialRecord(z.enum(["a", "b"]), z.int()) }),
  Unions: z.object({ value: z.union([z.string(), z.number()]), many: z.union([z.array(z.string()), z.string(), z.null()]) }),
  ObjectUnion: z.object({ pet: z.union([Cat, Dog]) }),
  Discriminated: z.object({ pet: Pet }),
  DiscriminatedList: z.object({ pets: z.array(Pet) }),
  Intersection: z.object({ both: z.intersection(z.object({ a: z.string() }), z.object({ b: z.number() })) }),
  IntersectionRoot: Base.and(z.object({ title: z.string() })),
  Extended: Base.extend({ title: z.string() }),
  Picked: Address.pick({ city: true }).partial(),
  Tree,
  LinkedList,
  GenericPage: z.object({ people: page(Address), words: page(z.string()) }),
  AnyFields: z.object({ any: z.any(), unknown: z.unknown(), optional: z.unknown().optional() }),
  Strict: z.strictObject({ name: z.string(), inner: z.strictObject({ x: z.number() }) }),
  Loose: z.looseObject({ name: z.string() }),
  CatchAll: z.object({ name: z.string() }).catchall(z.number()),
  Json: z.object({ data: z.json() }),
  ReadOnly: z.object({ name: z.string().readonly(), tags: z.array(z.string()).readonly() }),
  Refined: z.object({ even: z.int().refine((n) => n % 2 === 0), list: z.array(z.string()).nonempty() }),
  Branded: z.object({ id: z.string().brand("Id"), mail: z.email().max(80).describe("Where to write.") }),
  Catch: z.object({ level: z.enum(["low", "high"]).catch("low"), prefault: z.string().prefault("x") }),
  NamedRoot: z.object({ a: z.string() }).meta({ id: "Foo", title: "Foo" }),
  DiscriminatedRoot: Pet,
  ArrayRoot: z.array(Address),
  StringRoot: z.string().max(100),
  Math: z.object({ steps: z.array(z.object({ explanation: z.string(), output: z.string() })), finalAnswer: z.string() }),
  Ui: z.object({ type: z.enum(["div", "button", "form"]), label: z.string(), get children() { return z.array(models.Ui); },
    attributes: z.array(z.object({ name: z.string(), value: z.string() })) }),
  Agent: z.object({ thought: z.string(), action: z.discriminatedUnion("type", [
    z.object({ type: z.literal("search"), query: z.string().min(1) }),
    z.object({ type: z.literal("open"), url: z.url(), timeout: z.int().positive().optional() }),
    z.object({ type: z.literal("finish"), answer: z.string() })]) }),
  Invoice: z.object({ number: z.string(), issued: z.iso.date(), currency: z.enum(["EUR", "USD"]).default("EUR"),
    items: z.array(z.object({ text: z.string(), quantity: z.int().positive(), price: z.number().nonnegative() })).min(1) }),
};

const schemas = Object.fromEntries(Object.entries(models).map(([name, model]) => [name, z.toJSONSchema(model)]));
// What a caller passes before defaults are filled in, and other drafts.
schemas.DefaultsInput = z.toJSONSchema(models.Defaults, { io: "input" });
schemas.Draft7 = z.toJSONSchema(models.Tuples, { target: "draft-7" });
schemas.Draft4 = z.toJSONSchema(models.NumberBounds, { target: "draft-4" });
schemas.OpenApi = z.toJSONSchema(models.Optionals, { target: "openapi-3.0" });
schemas.Reused = z.toJSONSchema(models.Nested, { reused: "ref" });
console.log(JSON.stringify(schemas));
