//! Tests of the schema that clients see.

use proptest::prelude::*;

use super::properties::{schema, whole};
use super::*;

/// Returns a description of something in `node` that an advertised schema must not have.
fn fault_of(node: &Value, is_root: bool) -> Option<String> {
    let table = node.as_object()?;
    if is_root
        && (node["type"] != "object"
            || ["anyOf", "oneOf", "allOf", "not", "enum", "$ref"]
                .iter()
                .any(|key| table.contains_key(*key)))
    {
        return Some(format!("root {node}"));
    }
    let kind = node.get("type").and_then(Value::as_str);
    let is_wrong = table.get("type").is_some_and(|kind| !kind.is_string())
        || table.contains_key("items") && kind != Some("array")
        || table.contains_key("properties") && kind != Some("object")
        || table
            .get("additionalProperties")
            .is_some_and(Value::is_boolean)
        || node["multipleOf"]
            .as_f64()
            .is_some_and(|step| step.fract() != 0.0)
        || node["pattern"].as_str().is_some_and(|pattern| {
            pattern.contains("\\p") || portable::portable(pattern).as_deref() != Some(pattern)
        })
        || [
            "$schema",
            "$id",
            "oneOf",
            "allOf",
            "prefixItems",
            "patternProperties",
            "not",
            "if",
            "const",
            "x-order",
        ]
        .iter()
        .any(|key| table.contains_key(*key));
    if is_wrong {
        return Some(node.to_string());
    }
    let below = ["items", "additionalProperties"]
        .into_iter()
        .filter_map(|key| table.get(key));
    let lists = table
        .get("anyOf")
        .and_then(Value::as_array)
        .into_iter()
        .flatten();
    let maps = ["properties", "$defs"]
        .into_iter()
        .filter_map(|key| table.get(key)?.as_object());
    let mut all = below.chain(lists).chain(maps.flat_map(|map| map.values()));
    all.find_map(|node| fault_of(node, false))
}

#[test]
fn keywords_that_clients_mishandle_are_omitted_and_noted() {
    let schema = json!({
        "$schema": "http://json-schema.org/draft-07/schema#",
        "$id": "https://example.org/a",
        "type": ["object"],
        "properties": {
            "price": {"type": "number", "multipleOf": 0.01, "description": "In euro."},
            "count": {"type": "integer", "multipleOf": 5},
            "name": {"type": "string", "pattern": "^\\p{Lu}"},
            "link": {"type": "string", "pattern": "^https\\:\\/\\/[a-z\\_]{3}\\d$"},
            "size": {"type": ["integer", "null"]},
            "mark": {"enum": ["a", 1, null]},
            "pair": {"type": "array", "prefixItems": [{"type": "null"}, {"type": "boolean"}]},
        },
        "additionalProperties": false,
    });
    let answer = AnswerSchema::json(&schema, LIMITS).unwrap();
    assert_eq!(
        answer.advertised,
        json!({"type": "object", "properties": {
            "price": {"description": "In euro.", "type": "number"},
            "count": {"type": "integer", "multipleOf": 5},
            "name": {"type": "string"},
            "link": {"type": "string", "pattern": "^https://[a-z_]{3}[0-9]$"},
            "size": {"anyOf": [{"type": "integer"}, {"type": "null"}]},
            "mark": {"anyOf": [{"type": "string", "enum": ["a"]}, {"type": "integer", "enum": [1]}, {"type": "null", "enum": [null]}]},
            "pair": {"type": "array", "items": {"anyOf": [{"type": "null"}, {"type": "boolean"}]}, "minItems": 2, "maxItems": 2},
        }, "required": []})
    );
    let notes: Vec<String> = answer
        .notes
        .iter()
        .map(|note| note.text.clone())
        .filter(|text| text.contains("clients"))
        .collect();
    assert_eq!(notes.len(), 3, "{notes:?}");
}

#[test]
fn clients_see_an_object_if_the_root_is_a_reference_or_has_options() {
    let referring = json!({"$ref": "#/$defs/Foo", "$defs": {"Foo": {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]}}});
    let object =
        json!({"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]});
    assert_eq!(advertised(&referring), object);
    let options = json!({"anyOf": [object, {"type": "object", "properties": {"a": {"type": "null"}, "b": {"type": "null"}}, "required": ["a", "b"]}]});
    assert_eq!(
        advertised(&options),
        json!({"type": "object", "properties": {"a": {"anyOf": [{"type": "string"}, {"type": "null"}]}, "b": {"type": "null"}}, "required": ["a"]})
    );
}

#[test]
fn clients_see_one_level_of_a_recursive_schema() {
    let tree = json!({"$defs": {"Tree": {"type": "object", "properties": {"children": {"type": "array", "items": {"$ref": "#/$defs/Tree"}}}, "required": ["children"]}}, "$ref": "#/$defs/Tree"});
    assert_eq!(
        advertised(&tree),
        json!({"type": "object", "properties": {"children": {"type": "array", "items": {"type": "object"}}}, "required": ["children"]})
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn every_client_can_read_every_advertised_schema(schema in schema()) {
        let advertised = advertised(&whole(&schema));
        prop_assert_eq!(fault_of(&advertised, true), None);
        for draft in [jsonschema::draft7::options(), jsonschema::draft202012::options()] {
            prop_assert!(draft.build(&advertised).is_ok(), "{}", advertised);
        }
    }
}
