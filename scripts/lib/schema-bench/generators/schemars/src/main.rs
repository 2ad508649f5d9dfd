//! Ordinary types of serde. Prints the JSON Schemas that schemars makes of them, by name.
#![allow(dead_code)]

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

use chrono::{DateTime, NaiveDate, NaiveDateTime, NaiveTime, Utc};
use rust_decimal::Decimal;
use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, schema_for};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use url::Url;
use uuid::Uuid;

macro_rules! model {
    ($(#[$about:meta])* $kind:ident $($rest:tt)*) => {
        #[derive(Serialize, Deserialize, JsonSchema)]
        $(#[$about])*
        $kind $($rest)*
    };
}

model! {
    /// A person who is mentioned in a text.
    struct Person {
        /// As it is written in the text.
        name: String,
        age: u8,
        is_member: bool,
        height: f64,
    }
}
model! { struct Integers { a: i8, b: i16, c: i32, d: i64, e: u8, f: u16, g: u32, h: u64, i: usize, j: NonZeroU32 } }
model! { struct WideIntegers { a: i128, b: u128 } }
model! { struct Floats { a: f32, b: f64 } }
model! { struct Optionals { name: String, nick: Option<String>, #[serde(skip_serializing_if = "Option::is_none")] age: Option<u32> } }
model! {
    #[serde(default)]
    struct Defaults { language: String, retries: u32, tags: Vec<String> }
}
impl Default for Defaults {
    fn default() -> Self {
        Self { language: "en".into(), retries: 3, tags: Vec::new() }
    }
}
model! { struct Address { street: String, city: String } }
model! { struct Nested { home: Address, work: Option<Address>, others: Vec<Address> } }
model! {
    #[serde(rename_all = "camelCase")]
    struct Renamed { first_name: String, #[serde(rename = "surname")] last_name: String, #[serde(alias = "zip")] post_code: String }
}
model! {
    #[serde(rename_all = "snake_case")]
    enum Color { Red, Green, DarkBlue }
}
model! {
    enum DescribedEnum {
        /// The first one.
        One,
        /// The second one.
        Two,
    }
}
model! { struct Enums { color: Color, described: DescribedEnum, maybe: Option<Color> } }
model! { enum External { Unit, Newtype(String), Tuple(i32, String), Struct { x: f64, y: f64 } } }
model! { struct ExternalField { shape: External } }
model! {
    #[serde(tag = "kind", rename_all = "lowercase")]
    enum Internal { Cat { lives: u8 }, Dog { breed: String }, Fish }
}
model! { struct InternalField { pet: Internal } }
model! {
    #[serde(tag = "kind", content = "data")]
    enum Adjacent { Text(String), Number(f64), Nothing }
}
model! { struct AdjacentField { value: Adjacent } }
model! {
    #[serde(untagged)]
    enum Untagged { Number(i64), Text(String), List(Vec<String>), Object { a: String } }
}
model! { struct UntaggedField { value: Untagged } }
model! { struct Lists { words: Vec<String>, matrix: Vec<Vec<f64>>, queue: VecDeque<i32>, fixed: [u8; 4] } }
model! { struct Sets { a: HashSet<String>, b: BTreeSet<u32> } }
model! { struct Maps { scores: HashMap<String, f64>, people: BTreeMap<String, Address>, numbers: BTreeMap<u32, String> } }
model! { struct Tuples { point: (f64, f64), entry: (String, u32, bool), one: (String,) } }
model! { struct Newtype(String); }
model! { struct TupleStruct(i32, String); }
model! { struct Newtypes { id: Newtype, pair: TupleStruct } }
model! { struct Unit; }
model! { struct Units { unit: Unit, nothing: () } }
model! { struct Tree { name: String, children: Vec<Tree> } }
model! { struct LinkedList { value: i32, next: Option<Box<LinkedList>> } }
model! { enum Expression { Number(f64), Add(Box<Expression>, Box<Expression>), Negate(Box<Expression>) } }
model! { struct Formula { root: Expression } }
model! { struct Page<T> { items: Vec<T>, total: u64 } }
model! { struct Generics { people: Page<Address>, words: Page<String> } }
model! { struct AnyFields { any: Value, object: Map<String, Value>, list: Vec<Value> } }
model! { struct Flattened { id: String, #[serde(flatten)] address: Address } }
model! { struct FlattenedMap { id: String, #[serde(flatten)] rest: HashMap<String, Value> } }
model! { struct FlattenedTyped { id: String, #[serde(flatten)] rest: BTreeMap<String, u32> } }
model! { struct FlattenedEnum { id: String, #[serde(flatten)] pet: Internal } }
model! {
    #[serde(deny_unknown_fields)]
    struct Closed { name: String }
}
model! { struct Dates { at: DateTime<Utc>, day: NaiveDate, clock: NaiveTime, local: NaiveDateTime } }
model! { struct Uuids { id: Uuid, parent: Option<Uuid> } }
model! { struct Urls { url: Url } }
model! { struct Decimals { price: Decimal } }
model! { struct Addresses { any: IpAddr, v4: Ipv4Addr, v6: Ipv6Addr } }
model! { struct Standard { took: Duration, path: PathBuf, letter: char, range: std::ops::Range<u32>, result: Result<u32, String> } }
model! {
    struct Validated {
        #[schemars(range(min = 0, max = 100))]
        score: i32,
        #[schemars(range(min = 0.0, max = 1.0))]
        ratio: f64,
        #[schemars(length(min = 1, max = 20))]
        short: String,
        #[schemars(length(min = 1, max = 5))]
        some: Vec<String>,
        #[schemars(regex(pattern = r"^[A-Z]{2}\d{4}$"))]
        code: String,
    }
}
model! { struct Contact { #[schemars(email)] email: String, #[schemars(url)] website: String } }
model! {
    #[schemars(title = "Invoice", extend("x-version" = 2))]
    struct Extended { #[schemars(extend("x-order" = 1))] number: String, #[deprecated] old: Option<String> }
}
model! { struct Step { explanation: String, output: String } }
model! { struct MathAnswer { steps: Vec<Step>, final_answer: String, confidence: f32 } }
model! {
    #[serde(tag = "type", rename_all = "snake_case")]
    enum Action { Search { query: String, limit: Option<u32> }, Open(Url), Finish { answer: String } }
}
model! {
    #[serde(tag = "type", rename_all = "snake_case")]
    enum SimpleAction {
        /// Looks something up.
        Search { query: String, limit: Option<u32> },
        /// Ends the work.
        Finish { answer: String },
    }
}
model! { struct AgentStep { thought: String, action: SimpleAction } }
model! { struct Invoice { number: String, issued: NaiveDate, lines: Vec<Line>, paid: bool } }
model! { struct Line { text: String, quantity: u32, price: Decimal } }

fn main() {
    let mut schemas = Map::new();
    macro_rules! schemas {
        ($($kind:ty),* $(,)?) => {
            $(schemas.insert(stringify!($kind).replace(['<', '>'], "_"), schema_for!($kind).to_value());)*
        };
    }
    schemas![
        Person, Integers, WideIntegers, Floats, Optionals, Defaults, Nested, Renamed, Enums, External, ExternalField, Internal,
        InternalField, Adjacent, AdjacentField, Untagged, UntaggedField, Lists, Sets, Maps, Tuples, Newtypes, Units, Tree, LinkedList,
        Formula, Page<Address>, Generics, AnyFields, Flattened, FlattenedMap, FlattenedTyped, FlattenedEnum, Closed, Dates,
        Uuids, Urls, Decimals, Addresses, Standard, Validated, Contact, Extended, MathAnswer, SimpleAction, AgentStep, Invoice,
    ];
    let mut other = |name: &str, settings: SchemaSettings| {
        let schema = settings.into_generator().into_root_schema_for::<Nested>();
        schemas.insert(name.into(), schema.to_value());
    };
    other("NestedDraft07", SchemaSettings::draft07());
    other("NestedOpenApi3", SchemaSettings::openapi3());
    other("NestedInline", SchemaSettings::default().with(|settings| settings.inline_subschemas = true));
    println!("{}", Value::Object(schemas));
}
