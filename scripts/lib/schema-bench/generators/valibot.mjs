// Ordinary models of Valibot. Prints the JSON Schemas that @valibot/to-json-schema makes of them, by name.
import { toJsonSchema } from "@valibot/to-json-schema";
import * as v from "valibot";

const Address = v.object({ street: v.string(), city: v.string() });
const Cat = v.object({ kind: v.literal("cat"), lives: v.pipe(v.number(), v.integer()) });
const Dog = v.object({ kind: v.literal("dog"), breed: v.string() });
const Pet = v.variant("kind", [Cat, Dog]);
const Tree = v.object({ name: v.string(), children: v.array(v.lazy(() => Tree)) });
const LinkedList = v.object({ value: v.number(), next: v.nullable(v.lazy(() => LinkedList)) });
const page = (item) => v.object({ items: v.array(item), total: v.pipe(v.number(), v.integer(), v.minValue(0)) });
const text = (...checks) => v.pipe(v.string(), ...checks);

const models = {
  Person: v.object({ name: v.string(), age: v.number(), isMember: v.boolean() }),
  Described: v.pipe(v.object({ name: text(v.title("Name"), v.description("As written."), v.examples(["Ana"])) }), v.description("A person.")),
  Optionals: v.object({ name: v.string(), nick: v.optional(v.string()), mail: v.nullable(v.string()), age: v.nullish(v.number()) }),
  Defaults: v.object({ language: v.optional(v.string(), "en"), retries: v.optional(v.number(), 3) }),
  Nested: v.object({ home: Address, work: v.optional(Address), others: v.array(Address) }),
  Enums: v.object({ size: v.picklist(["s", "m", "l"]), color: v.enum({ Red: "red", Green: "green" }), one: v.literal("x") }),
  Arrays: v.object({ words: v.array(v.string()), some: v.pipe(v.array(v.number()), v.minLength(1), v.maxLength(5)) }),
  NumberBounds: v.object({ score: v.pipe(v.number(), v.integer(), v.minValue(0), v.maxValue(100)), even: v.pipe(v.number(), v.multipleOf(2)) }),
  ExclusiveBounds: v.object({ ratio: v.pipe(v.number(), v.gtValue(0), v.ltValue(1)) }),
  StringBounds: v.object({ short: text(v.minLength(1), v.maxLength(20)), code: text(v.regex(/^[A-Z]{2}\d{4}$/)), six: text(v.length(6)) }),
  NonEmpty: v.object({ word: text(v.nonEmpty()), list: v.pipe(v.array(v.string()), v.nonEmpty()) }),
  Email: v.object({ email: text(v.email()) }),
  Url: v.object({ url: text(v.url()) }),
  Uuid: v.object({ id: text(v.uuid()) }),
  IsoTimes: v.object({ day: text(v.isoDate()), at: text(v.isoTimestamp()), minutes: text(v.isoDateTime()) }),
  Addresses: v.object({ v4: text(v.ipv4()), v6: text(v.ipv6()) }),
  Encoded: v.object({ text: text(v.base64()), hex: text(v.hexColor()), digits: text(v.digits()) }),
  Identifiers: v.object({ ulid: text(v.ulid()), nanoid: text(v.nanoid()), cuid2: text(v.cuid2()) }),
  Tuples: v.object({ point: v.tuple([v.number(), v.number()]), strict: v.strictTuple([v.string()]) }),
  TupleRest: v.object({ row: v.tupleWithRest([v.string()], v.number()) }),
  LooseTuple: v.object({ row: v.looseTuple([v.string(), v.number()]) }),
  Records: v.object({ scores: v.record(v.string(), v.number()), people: v.record(v.string(), Address) }),
  KeyRecord: v.object({ counts: v.record(text(v.minLength(2)), v.number()) }),
  Unions: v.object({ value: v.union([v.string(), v.number()]), many: v.union([v.array(v.string()), v.string()]) }),
  ObjectUnion: v.object({ pet: v.union([Cat, Dog]) }),
  Variant: v.object({ pet: Pet }),
  VariantList: v.object({ pets: v.array(Pet) }),
  Intersect: v.object({ both: v.intersect([v.object({ a: v.string() }), v.object({ b: v.number() })]) }),
  Merged: v.object({ ...Address.entries, zip: v.string() }),
  Tree,
  LinkedList,
  GenericPage: v.object({ people: page(Address), words: page(v.string()) }),
  AnyFields: v.object({ any: v.any(), unknown: v.unknown() }),
  Strict: v.strictObject({ name: v.string(), inner: v.strictObject({ x: v.number() }) }),
  Loose: v.looseObject({ name: v.string() }),
  ObjectWithRest: v.objectWithRest({ name: v.string() }, v.number()),
  Partial: v.partial(Address),
  Picked: v.pick(Address, ["city"]),
  Nulls: v.object({ nothing: v.null(), maybe: v.nullable(v.picklist(["a", "b"])) }),
  Metadata: v.object({ day: v.pipe(v.string(), v.isoDate(), v.metadata({ unit: "day" })) }),
  Values: v.object({ fixed: text(v.value("x")), tags: v.pipe(v.array(v.string()), v.length(2)) }),
  VariantRoot: Pet,
  ArrayRoot: v.array(Address),
};

const schemas = Object.fromEntries(Object.entries(models).map(([name, model]) => [name, toJsonSchema(model)]));
schemas.Definitions = toJsonSchema(v.object({ from: Address, to: Address }), { definitions: { Address } });
schemas.Draft2020 = toJsonSchema(models.Tuples, { target: "draft-2020-12" });
schemas.OpenApi = toJsonSchema(models.Optionals, { target: "openapi-3.0" });
console.log(JSON.stringify(schemas));
