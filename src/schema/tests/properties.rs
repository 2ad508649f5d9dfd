//! Property tests with generated schemas, and values that follow them or nearly do.

use proptest::prelude::*;

use super::*;

/// Generates schemas of all kinds, some of which are contradictory.
pub(super) fn schema() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(json!({"type": "string"})),
        Just(json!({"type": ["string", "null"], "title": "t", "x-order": 1})),
        Just(json!({"type": "string", "pattern": "^[\\w\\-]+\\@$"})),
        Just(json!({"type": "string", "pattern": "^\\p{L}*$", "maxLength": 5})),
        Just(json!({"type": "string", "format": "date", "minLength": 3})),
        Just(json!({"type": "integer", "minimum": 1, "multipleOf": 2})),
        Just(json!({"type": "number", "multipleOf": 0.1})),
        Just(json!({"enum": ["a", 1, null, [1], {"a": 1}]})),
        Just(json!({"const": "a"})),
        Just(json!({"$ref": "#/$defs/a"})),
        Just(json!({"$ref": "#/$defs/tree", "description": "d"})),
        Just(json!({})),
        Just(json!({"minimum": 3})),
        Just(json!(true)),
    ];
    leaf.prop_recursive(4, 24, 3, |inner| {
        let some = || proptest::collection::vec(inner.clone(), 1..3);
        prop_oneof![
            some().prop_map(|schemas| json!({"anyOf": schemas})),
            some().prop_map(|schemas| json!({"oneOf": schemas, "type": ["object", "string"]})),
            some().prop_map(|schemas| json!({"allOf": schemas})),
            some().prop_map(|schemas| json!({"type": "array", "prefixItems": schemas})),
            (inner.clone(), any::<bool>()).prop_map(|(items, is_unique)| json!({"type": "array", "items": items, "maxItems": 3, "uniqueItems": is_unique})),
            inner.clone().prop_map(|value| json!({"type": "object", "additionalProperties": value})),
            inner.clone().prop_map(|value| json!({"type": "object", "patternProperties": {"^a": value}})),
            (some(), any::<bool>()).prop_map(|(values, is_required)| {
                let names = ["a", "b", "c"];
                let properties: Map<String, Value> = names.iter().map(ToString::to_string).zip(values).collect();
                let required: Vec<&String> = properties.keys().filter(|_| is_required).collect();
                json!({"type": "object", "properties": properties, "required": required, "additionalProperties": false})
            }),
        ]
    })
}

/// Returns an object schema whose property `v` follows `schema`, with the definitions that generated schemas refer to.
pub(super) fn whole(schema: &Value) -> Value {
    json!({"$schema": "http://json-schema.org/draft-07/schema#", "type": "object", "properties": {"v": schema}, "required": ["v"], "$defs": {
        "a": {"type": "string"},
        "tree": {"type": "object", "properties": {"more": {"type": "array", "items": {"$ref": "#/$defs/tree"}}}},
    }})
}

/// Generates values that follow an enforced schema from random bytes. Once the bytes are used up, values are as short as possible.
struct Sampler<'s> {
    enforced: &'s Value,
    bytes: std::vec::IntoIter<u8>,
}

impl Sampler<'_> {
    /// Returns a random number below `count`.
    fn draw(&mut self, count: usize) -> usize {
        usize::from(self.bytes.next().unwrap_or(0)) % count
    }

    /// Generates a value of `node`. Returns `None` if this sampler finds none.
    fn value(&mut self, node: &Value) -> Option<Value> {
        if let Some(reference) = node["$ref"].as_str() {
            return self.value(self.enforced.pointer(reference.strip_prefix('#')?)?);
        }
        for key in ["enum", "anyOf"] {
            let Some(options) = node[key].as_array() else {
                continue;
            };
            let option = &options[self.draw(options.len())];
            return if key == "enum" {
                Some(option.clone())
            } else {
                self.value(option)
            };
        }
        match node["type"].as_str()? {
            "null" => Some(Value::Null),
            "boolean" => Some((self.draw(2) == 1).into()),
            "array" => self.array(node),
            "object" => self.object(node),
            kind => {
                let scalars = match kind {
                    "string" => json!(["", "a", "ab@", "2024-02-29", "abcdefghij"]),
                    _ => json!([0, 1, 2, 4, 10, -2, 0.5, 0.1, 0.3]),
                };
                let check = Validator::compile(node).ok()?;
                let scalars = scalars.as_array()?.iter();
                let fitting: Vec<&Value> = scalars.filter(|value| check.is_valid(value)).collect();
                let at = self.draw(fitting.len().max(1));
                fitting.get(at).map(|value| (*value).clone())
            }
        }
    }

    fn array(&mut self, node: &Value) -> Option<Value> {
        let least = node["minItems"].as_u64().unwrap_or(0);
        let more = u64::try_from(self.draw(3)).ok()?;
        let most = node["maxItems"].as_u64().unwrap_or(u64::MAX);
        let count = usize::try_from((least + more).min(most)).ok()?;
        let prefix = node["prefixItems"]
            .as_array()
            .map_or(&[][..], Vec::as_slice);
        let items = (0..count).map(|at| self.value(prefix.get(at).unwrap_or(&node["items"])));
        items.collect()
    }

    fn object(&mut self, node: &Value) -> Option<Value> {
        let mut made = Table::new();
        for (name, property) in node["properties"].as_object().into_iter().flatten() {
            let is_required = node["required"].as_array()?.iter().any(|key| key == name);
            if is_required || self.draw(2) == 1 {
                made.insert(name.clone(), self.value(property)?);
            }
        }
        for property in node["patternProperties"].as_object().into_iter().flatten() {
            for name in ["a", "ab", "abc"].into_iter().take(self.draw(3)) {
                made.insert(name.to_owned(), self.value(property.1)?);
            }
        }
        Some(made.into())
    }
}

/// Replaces the part of `value` that `at` selects with `with`.
fn mutate(value: &mut Value, mut at: usize, with: Value) {
    let parts: Vec<&mut Value> = match value {
        Value::Array(items) => items.iter_mut().collect(),
        Value::Object(table) => table.values_mut().collect(),
        _ => Vec::new(),
    };
    let count = parts.len() + 1;
    let part = at % count;
    at /= count;
    match parts.into_iter().nth(part) {
        Some(part) => mutate(part, at, with),
        None => *value = with,
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn a_value_of_the_enforced_schema_follows_the_advertised_and_the_written_schema(
        schema in schema(),
        bytes in proptest::collection::vec(any::<u8>(), 0..24),
        mutation in proptest::option::of((any::<usize>(), scalar())),
    ) {
        let answer = AnswerSchema::json(&whole(&schema), LIMITS);
        // Fails if too many schemas are refused.
        prop_assume!(answer.is_ok());
        let answer = answer.unwrap();
        let enforced = &answer.enforced;
        let value = Sampler { enforced, bytes: bytes.into_iter() }.value(enforced);
        prop_assume!(value.is_some());
        let mut value = value.unwrap();
        let check = jsonschema::draft202012::new(enforced).unwrap();
        match mutation {
            None => prop_assert!(check.is_valid(&value), "{} is drawn, {} enforced", value, enforced),
            Some((at, with)) => mutate(&mut value, at, with),
        }
        if check.is_valid(&value) {
            let advertised = jsonschema::draft7::new(&answer.advertised).unwrap();
            prop_assert!(advertised.is_valid(&value), "{} is enforced, {} advertised", value, answer.advertised);
            let has_note = answer.notes.iter().any(|note| note.text.contains("finished answer"));
            prop_assert!(has_note || answer.check(&value).is_ok(), "{} {:?}", value, answer.check(&value));
        }
    }
}

fn scalar() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(json!("a")),
        Just(json!("2024-02-29")),
        Just(json!(null)),
        Just(json!(2)),
        Just(json!(0.5)),
        Just(json!(true)),
        Just(json!({})),
        Just(json!([])),
    ]
}
