//! Tests of the schema that is enforced.

use super::*;

/// Returns the schema that the grammar follows.
fn enforced(schema: &Value) -> Value {
    read(schema).unwrap().enforced
}

const INTEGER: fn() -> Value = || json!({"type": "integer", "minimum": -9_007_199_254_740_991_i64, "maximum": 9_007_199_254_740_991_i64});

#[test]
fn every_value_is_bounded() {
    let schema = json!({"type": "object", "properties": {
        "text": {"type": "string"},
        "long": {"type": "string", "maxLength": 1_000_000},
        "list": {"type": "array", "items": {"type": "integer"}},
        "map": {"type": "object", "additionalProperties": {"type": "boolean"}},
    }});
    let made = enforced(&schema);
    let properties = &made["properties"];
    assert_eq!(properties["text"]["maxLength"], 1000);
    assert_eq!(properties["long"]["maxLength"], 1000);
    assert_eq!(
        properties["list"],
        json!({"type": "array", "items": INTEGER(), "minItems": 0, "maxItems": 100})
    );
    assert_eq!(properties["map"]["maxProperties"], 100);
    assert_eq!(made["additionalProperties"], false);
}

#[test]
fn an_unconstrained_object_may_have_any_properties() {
    let made = enforced(&json!({"type": "object"}));
    assert_eq!(made["additionalProperties"], false);
    let values: Vec<&Value> = made["patternProperties"]
        .as_object()
        .unwrap()
        .values()
        .collect();
    assert_eq!(values, [&json!({"$ref": "#/$defs/any.3"})]);
    assert_eq!(
        enforced(&json!({"type": "object", "additionalProperties": false}))["properties"],
        json!({})
    );
}

#[test]
fn schemas_of_all_of_are_merged() {
    let schema = json!({
        "$defs": {"named": {"type": "object", "properties": {"name": {"type": "string", "minLength": 1}}, "required": ["name"]}},
        "allOf": [{"$ref": "#/$defs/named"}, {"properties": {"name": {"maxLength": 9}, "age": {"type": "number", "minimum": 0}}}],
        "properties": {"age": {"type": "integer", "maximum": 150}},
    });
    assert_eq!(
        enforced(&schema),
        json!({"type": "object", "properties": {
            "name": {"type": "string", "minLength": 1, "maxLength": 9},
            "age": {"type": "integer", "minimum": 0, "maximum": 150},
        }, "required": ["name"], "additionalProperties": false})
    );
}

#[test]
fn alternatives_are_multiplied_out_with_the_keywords_next_to_them() {
    let schema = json!({"type": "object", "properties": {"a": {"type": "null"}, "b": {"type": "null"}}, "anyOf": [{"required": ["a"]}, {"required": ["b"]}]});
    let made = enforced(&schema);
    let required: Vec<&Value> = made["anyOf"]
        .as_array()
        .unwrap()
        .iter()
        .map(|option| &option["required"])
        .collect();
    assert_eq!(required, [&json!(["a"]), &json!(["b"])]);
}

#[test]
fn options_of_one_of_exclude_each_other_after_a_property_is_removed() {
    let schema = json!({"type": "object", "properties": {"a": {"type": "null"}, "b": {"type": "null"}}, "oneOf": [{"required": ["a"]}, {"required": ["b"]}]});
    let made = enforced(&schema);
    let names: Vec<Vec<&String>> = made["anyOf"]
        .as_array()
        .unwrap()
        .iter()
        .map(|option| option["properties"].as_object().unwrap().keys().collect())
        .collect();
    assert_eq!(names, [["a"], ["b"]]);
    let by_value = json!({"oneOf": [
        {"type": "object", "properties": {"kind": {"const": "cat"}}, "required": ["kind"]},
        {"type": "object", "properties": {"kind": {"const": "dog"}}, "required": ["kind"]},
    ]});
    assert!(!notes(&by_value).iter().any(|note| note.contains("oneOf")));
    let overlapping = json!({"oneOf": [{"type": "integer"}, {"type": "number"}]});
    assert!(notes(&overlapping)[0].starts_with("at `#/oneOf`: options may overlap"));
}

#[test]
fn dependencies_on_a_property_become_alternatives() {
    let base = json!({"type": "object", "properties": {"card": {"type": "null"}, "address": {"type": "null"}}});
    for (key, value) in [
        ("dependentRequired", json!({"card": ["address"]})),
        ("dependencies", json!({"card": ["address"]})),
        (
            "dependentSchemas",
            json!({"card": {"required": ["address"]}}),
        ),
    ] {
        let mut schema = base.clone();
        schema[key] = value;
        let options = enforced(&schema)["anyOf"].clone();
        assert_eq!(
            options[0]["properties"],
            json!({"address": {"type": "null"}}),
            "{key}"
        );
        assert_eq!(options[1]["required"], json!(["card", "address"]), "{key}");
    }
}

#[test]
fn conditions_on_listed_values_become_alternatives() {
    let schema = json!({
        "type": "object",
        "properties": {"country": {"enum": ["CA", "US"]}, "code": {"type": "string"}},
        "required": ["country", "code"],
        "if": {"properties": {"country": {"const": "US"}}, "required": ["country"]},
        "then": {"properties": {"code": {"maxLength": 5}}},
        "else": {"properties": {"code": {"maxLength": 6}}},
    });
    let options = enforced(&schema)["anyOf"].clone();
    let case = |n: usize| {
        (
            options[n]["properties"]["country"].clone(),
            options[n]["properties"]["code"]["maxLength"].clone(),
        )
    };
    assert_eq!(case(0), (json!({"enum": ["US"]}), json!(5)));
    assert_eq!(case(1), (json!({"enum": ["CA"]}), json!(6)));
}

#[test]
fn tuples_are_complete_in_every_draft() {
    for schema in [
        json!({"type": "array", "prefixItems": [{"type": "null"}, {"type": "boolean"}]}),
        json!({"type": "array", "items": [{"type": "null"}, {"type": "boolean"}], "additionalItems": false}),
    ] {
        assert_eq!(
            enforced(&schema),
            json!({"type": "array", "items": false, "minItems": 2, "maxItems": 2, "prefixItems": [{"type": "null"}, {"type": "boolean"}]})
        );
    }
}

#[test]
fn keywords_of_older_drafts_are_converted() {
    let bound = json!({"type": "integer", "minimum": 3, "exclusiveMinimum": true, "maximum": 9, "exclusiveMaximum": false});
    assert_eq!(
        enforced(&bound),
        json!({"type": "integer", "minimum": 4, "maximum": 9})
    );
    for reference in [
        "#/definitions/Box%3Cstring%3E",
        "#/definitions/Box<string>",
        "#box",
        "https://example.org/a.json#box",
    ] {
        let schema = json!({"$id": "https://example.org/a.json", "definitions": {"Box<string>": {"$anchor": "box", "type": "null"}}, "$ref": reference});
        assert_eq!(enforced(&schema), json!({"type": "null"}), "{reference}");
    }
}

#[test]
fn number_formats_become_bounds_and_unenforced_formats_are_noted() {
    assert_eq!(
        enforced(&json!({"type": "integer", "format": "uint8"})),
        json!({"type": "integer", "minimum": 0, "maximum": 255})
    );
    assert_eq!(
        notes(&json!({"type": "number", "format": "double"})),
        ["at `#/format`: ignored: the format `double` does not constrain JSON values"]
    );
    assert_eq!(
        notes(&json!({"type": "string", "format": "phone"})),
        ["at `#/format`: the format `phone` is not enforced; use `pattern` to enforce one"]
    );
}

#[test]
fn a_pattern_that_no_grammar_can_follow_is_accepted_if_the_format_implies_it() {
    let email = json!({"type": "string", "format": "email", "pattern": "^(?!\\.)(?!.*\\.\\.)([A-Za-z0-9_'+\\-\\.]*)[A-Za-z0-9_+-]@([A-Za-z0-9][A-Za-z0-9\\-]*\\.)+[A-Za-z]{2,}$"});
    assert_eq!(
        notes(&email),
        ["at `#/pattern`: checked on the finished answer only; `format` is enforced"]
    );
    let other = json!({"type": "string", "format": "email", "pattern": "^(?=X)"});
    assert_eq!(faults(&other), ["#/pattern"]);
}

#[test]
fn each_format_allows_its_samples() {
    for format in formats::TEXT_FORMATS {
        let name = format.name;
        if let formats::FormatRule::Pattern(pattern) = format.pattern {
            assert!(
                pattern::matches_all(&format!("^(?:{pattern})$"), format.samples),
                "{name}"
            );
        }
        let known = Validator::compile(&json!({"type": "string", "format": name})).unwrap();
        for sample in format.samples {
            assert!(known.is_valid(&json!(sample)), "{name}: {sample}");
        }
    }
}
