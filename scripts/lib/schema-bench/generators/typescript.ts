// Ordinary types of TypeScript, for ts-json-schema-generator: one JSON Schema for each exported type.

export interface Person {
  name: string;
  age: number;
  isMember: boolean;
}

/** A person who is mentioned in a text. */
export interface Described {
  /** As it is written in the text. */
  name: string;
  /**
   * Two capital letters.
   * @pattern ^[A-Z]{2}$
   * @examples ["PE", "CL"]
   */
  country: string;
}

export interface Optionals {
  name: string;
  nick?: string;
  mail: string | null;
  age?: number | null;
}

export interface Address {
  street: string;
  city: string;
}

export interface Nested {
  home: Address;
  work?: Address;
  others: Address[];
}

export enum Color {
  Red = "red",
  Green = "green",
}

export enum Level {
  Low,
  High,
}

export interface Enums {
  color: Color;
  level: Level;
  size: "s" | "m" | "l";
  one: "x";
  mixed: "a" | 1 | true | null;
}

export interface Arrays {
  words: string[];
  matrix: number[][];
  fixed: readonly string[];
}

export interface Constraints {
  /**
   * @minimum 0
   * @maximum 100
   * @asType integer
   */
  score: number;
  /** @exclusiveMinimum 0 */
  ratio: number;
  /**
   * @minLength 1
   * @maxLength 20
   */
  short: string;
  /**
   * @minItems 1
   * @maxItems 5
   */
  some: string[];
  /** @multipleOf 2 */
  even: number;
}

export interface Formats {
  /** @format email */
  email: string;
  /** @format uri */
  url: string;
  /** @format date-time */
  at: string;
  /** @format uuid */
  id: string;
}

export interface JsDate {
  at: Date;
}

export interface Defaults {
  /** @default "en" */
  language?: string;
  /** @default 3 */
  retries?: number;
}

export interface UniqueItems {
  /** @uniqueItems true */
  tags: string[];
}

export interface Tuples {
  point: [number, number];
  entry: [string, number?];
  rest: [string, ...number[]];
}

export interface Records {
  scores: Record<string, number>;
  people: { [name: string]: Address };
}

export interface EnumRecord {
  counts: Record<"a" | "b", number>;
  some: Partial<Record<Color, number>>;
}

export interface IndexSignature {
  name: string;
  [key: string]: unknown;
}

export interface Unions {
  value: string | number;
  many: string[] | string | null;
}

export interface Cat {
  kind: "cat";
  lives: number;
}

export interface Dog {
  kind: "dog";
  breed: string;
}

export type Pet = Cat | Dog;

export interface PetOwner {
  pet: Pet;
  others: Pet[];
}

/** @discriminator kind */
export type TaggedPet = Cat | Dog;

export interface Tagged {
  pet: TaggedPet;
}

export interface Tree {
  name: string;
  children: Tree[];
}

export interface LinkedList {
  value: number;
  next: LinkedList | null;
}

export interface Box<T> {
  content: T;
  label?: string;
}

export interface Generics {
  words: Box<string>;
  people: Box<Address>;
  nested: Box<Box<number>>;
}

export type StringBox = Box<string>;

export interface Page<T> {
  items: T[];
  total: number;
}

export type AddressPage = Page<Address>;

export interface AnyFields {
  any: any;
  unknown: unknown;
  object: object;
}

export interface Base {
  id: string;
}

export interface Inherited extends Base {
  title: string;
}

export type Intersection = Base & { title: string };

export interface IntersectionField {
  both: Base & Address;
}

export type Picked = Pick<Address, "city">;
export type Omitted = Omit<Nested, "work">;
export type PartialAddress = Partial<Address>;
export type AllRequired = Required<Optionals>;

export interface TemplateLiterals {
  size: `${number}px`;
  id: `user-${string}`;
}

export interface Aliases {
  id: Identifier;
  when: Timestamp;
}

export type Identifier = string;
/** @format date-time */
export type Timestamp = string;

export interface Deprecated {
  /** @deprecated use name */
  title?: string;
  name: string;
  /** @nullable */
  maybe: string;
}

export interface KeyOf {
  key: keyof Address;
}

export interface Empty {}

export interface Step {
  explanation: string;
  output: string;
}

export interface MathAnswer {
  steps: Step[];
  finalAnswer: string;
}

export interface Search {
  type: "search";
  query: string;
}

export interface Finish {
  type: "finish";
  answer: string;
}

export interface AgentStep {
  thought: string;
  action: Search | Finish;
}

export type PetRoot = Cat | Dog;
export type ListRoot = Address[];
