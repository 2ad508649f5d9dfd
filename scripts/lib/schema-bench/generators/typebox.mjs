// Ordinary models of TypeBox, which are JSON Schemas. Prints them by name.
import { Type } from "@sinclair/typebox";

const Address = Type.Object({ street: Type.String(), city: Type.String() });
const Cat = Type.Object({ kind: Type.Literal("cat"), lives: Type.Integer() });
const Dog = Type.Object({ kind: Type.Literal("dog"), breed: Type.String() });
const page = (item) => Type.Object({ items: Type.Array(item), total: Type.Integer({ minimum: 0 }) });
const Sizes = { Small: "s", Large: "l" };

const models = {
  Person: Type.Object({ name: Type.String(), age: Type.Number(), isMember: Type.Boolean() }),
  Described: Type.Object({ name: Type.String({ description: "As written.", examples: ["Ana"] }) }, { title: "Person", $id: "Person" }),
  Optionals: Type.Object({ name: Type.String(), nick: Type.Optional(Type.String()), age: Type.Union([Type.Number(), Type.Null()]) }),
  Defaults: Type.Object({ language: Type.String({ default: "en" }), retries: Type.Integer({ default: 3 }) }),
  Nested: Type.Object({ home: Address, work: Type.Optional(Address), others: Type.Array(Address) }),
  Enums: Type.Object({ size: Type.Enum(Sizes), word: Type.Union([Type.Literal("a"), Type.Literal("b")]), one: Type.Literal(1) }),
  StringEnum: Type.Object({ word: Type.Unsafe({ type: "string", enum: ["a", "b"] }) }),
  Arrays: Type.Object({ words: Type.Array(Type.String()), some: Type.Array(Type.Integer(), { minItems: 1, maxItems: 5 }) }),
  UniqueItems: Type.Object({ tags: Type.Array(Type.String(), { uniqueItems: true }) }),
  Contains: Type.Object({ mixed: Type.Array(Type.Number(), { contains: Type.Literal(1), minContains: 1 }) }),
  NumberBounds: Type.Object({ score: Type.Integer({ minimum: 0, maximum: 100 }), ratio: Type.Number({ exclusiveMinimum: 0, exclusiveMaximum: 1 }),
    even: Type.Integer({ multipleOf: 2 }) }),
  StringBounds: Type.Object({ short: Type.String({ minLength: 1, maxLength: 20 }), code: Type.String({ pattern: "^[A-Z]{2}\\d{4}$" }), slug: Type.String({ pattern: "^[a-z-]+$" }) }),
  Formats: Type.Object({ at: Type.String({ format: "date-time" }), day: Type.String({ format: "date" }), id: Type.String({ format: "uuid" }) }),
  MoreFormats: Type.Object({ email: Type.String({ format: "email" }), url: Type.String({ format: "uri" }), v4: Type.String({ format: "ipv4" }) }),
  Tuples: Type.Object({ point: Type.Tuple([Type.Number(), Type.Number()]), empty: Type.Tuple([]) }),
  Records: Type.Object({ scores: Type.Record(Type.String(), Type.Number()), people: Type.Record(Type.String(), Address) }),
  EnumRecord: Type.Object({ counts: Type.Record(Type.Union([Type.Literal("a"), Type.Literal("b")]), Type.Number()) }),
  NumberRecord: Type.Object({ byNumber: Type.Record(Type.Number(), Type.String()) }),
  PatternRecord: Type.Object({ byCode: Type.Record(Type.RegExp(/^[A-Z]{3}$/), Type.String()) }),
  Unions: Type.Object({ value: Type.Union([Type.String(), Type.Number()]) }),
  ObjectUnion: Type.Object({ pet: Type.Union([Cat, Dog]) }),
  Intersect: Type.Object({ both: Type.Intersect([Type.Object({ a: Type.String() }), Type.Object({ b: Type.Number() })]) }),
  IntersectClosed: Type.Intersect([Address, Type.Object({ zip: Type.String() })], { unevaluatedProperties: false }),
  Composite: Type.Composite([Address, Type.Object({ zip: Type.String() })]),
  Tree: Type.Recursive((This) => Type.Object({ name: Type.String(), children: Type.Array(This) })),
  RecursiveNamed: Type.Recursive((This) => Type.Object({ value: Type.Number(), next: Type.Union([This, Type.Null()]) }), { $id: "Node" }),
  GenericPage: Type.Object({ people: page(Address), words: page(Type.String()) }),
  AnyFields: Type.Object({ any: Type.Any(), unknown: Type.Unknown() }),
  Closed: Type.Object({ name: Type.String() }, { additionalProperties: false }),
  Open: Type.Object({ name: Type.String() }, { additionalProperties: true }),
  TypedExtra: Type.Object({ name: Type.String() }, { additionalProperties: Type.Number() }),
  Partial: Type.Partial(Address),
  Picked: Type.Pick(Address, ["city"]),
  KeyOf: Type.Object({ key: Type.KeyOf(Address) }),
  TemplateLiteral: Type.Object({ size: Type.TemplateLiteral([Type.Literal("w-"), Type.Union([Type.Literal("1"), Type.Literal("2")])]) }),
  Not: Type.Object({ other: Type.Not(Type.String()) }),
  Module: Type.Module({ Address, Person: Type.Object({ home: Type.Ref("Address"), others: Type.Array(Type.Ref("Address")) }) }).Import("Person"),
  EmptyObject: Type.Object({ meta: Type.Object({}) }),
};
console.log(JSON.stringify(models));
