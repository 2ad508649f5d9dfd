//! Keywords, each enforced or refused.

use super::*;

/// Keywords, each with a schema that uses it: enforced, or refused at a place.
#[test]
fn every_keyword_is_enforced_or_refused() {
    let of = |kind: &str, key: &str, value: Value| {
        let mut schema = json!({"type": kind, key: value});
        if kind == "array" && key != "items" {
            schema["items"] = json!({"type": "null"});
        }
        schema
    };
    let string = || json!({"type": "string"});
    for schema in [
        of("string", "maxLength", json!(3)),
        of("string", "minLength", json!(3)),
        of("string", "pattern", json!("^a+$")),
        of("string", "format", json!("date")),
        of("integer", "minimum", json!(1)),
        of("number", "exclusiveMaximum", json!(1)),
        of("number", "multipleOf", json!(0.5)),
        of("array", "items", string()),
        of("array", "maxItems", json!(3)),
        of("array", "minItems", json!(3)),
        of("object", "properties", json!({"a": string()})),
        of("object", "additionalProperties", json!(false)),
        json!({"enum": ["a", 1, null]}),
        json!({"type": "string", "enum": ["a"]}),
        json!({"const": "a"}),
        json!({"anyOf": [string(), {"type": "null"}]}),
        json!({"type": ["string", "null"]}),
        json!({"type": "boolean", "title": "t", "description": "d", "default": true, "examples": [true]}),
        json!({"$defs": {"a": string()}, "type": "object", "properties": {"x": {"$ref": "#/$defs/a"}}}),
    ] {
        let made = enforceable(&schema, false);
        assert!(made.is_ok(), "{schema}: {made:?}");
    }
    for (schema, pointer) in [
        (
            of("string", "contentEncoding", json!("base64")),
            "#/contentEncoding",
        ),
        (of("string", "format", json!("uri-template")), "#/format"),
        (of("string", "maxLength", json!(2001)), "#/maxLength"),
        (of("array", "uniqueItems", json!(true)), "#/uniqueItems"),
        (of("array", "contains", string()), "#/contains"),
        (of("array", "prefixItems", json!([])), "#/prefixItems"),
        (
            of("object", "patternProperties", json!({})),
            "#/patternProperties",
        ),
        (of("object", "propertyNames", json!({})), "#/propertyNames"),
        (of("object", "minProperties", json!(1)), "#/minProperties"),
        (
            of("object", "dependentRequired", json!({})),
            "#/dependentRequired",
        ),
        (
            of("object", "additionalProperties", json!(true)),
            "#/additionalProperties",
        ),
        (of("object", "required", json!(["a"])), "#/required"),
        (of("integer", "nullable", json!(true)), "#/nullable"),
        (of("integer", "minimun", json!(1)), "#/minimun"),
        (of("integer", "maxLength", json!(1)), "#/maxLength"),
        (json!({"type": "integer", "minimum": 3, "maximum": 1}), "#"),
        (
            json!({"type": "string", "minLength": 3, "maxLength": 1}),
            "#/minLength",
        ),
        (json!({"oneOf": [string()]}), "#/oneOf"),
        (json!({"not": string()}), "#/not"),
        (json!({"type": "string", "not": string()}), "#/not"),
        (json!({"anyOf": [string()], "allOf": []}), "#/allOf"),
        (json!({"$ref": "https://example.org/x"}), "#/$ref"),
        (json!({"$ref": "#/$defs/none"}), "#/$ref"),
        (json!({"$ref": "#"}), "#/$ref"),
        (json!({"type": "string", "enum": [1]}), "#/enum"),
        (of("string", "format", json!("email")), "#/format"),
        (of("string", "pattern", json!("a".repeat(201))), "#/pattern"),
        (json!({"type": "array"}), "#"),
        (json!({}), "#"),
        (json!(true), "#"),
    ] {
        let refused = enforceable(&schema, false);
        let found = refused.as_ref().err().map(|fault| fault.pointer.as_str());
        assert_eq!(found, Some(pointer), "{schema}: {refused:?}");
    }
}

#[test]
fn what_is_let_through_has_an_end() {
    let schema = json!({"type": "object", "properties": {
        "text": {"type": "string"},
        "list": {"type": "array", "items": {"type": "integer"}},
    }});
    let made = enforceable(&schema, true).unwrap();
    assert_eq!(
        made,
        json!({"type": "object", "properties": {
            "text": {"type": "string", "minLength": 0, "maxLength": MAX_STRING},
            "list": {"type": "array", "items": {"type": "integer", "minimum": -EXACT, "maximum": EXACT}, "minItems": 0, "maxItems": MAX_ITEMS},
        }, "required": [], "additionalProperties": false})
    );
    assert!(enforceable(&json!({"type": "string"}), true).is_err());
}

#[test]
fn a_schema_without_end_is_refused_whatever_its_form() {
    let mut deep = json!({"type": "null"});
    for _ in 0..40 {
        deep = json!({"type": "array", "items": deep});
    }
    assert!(enforceable(&deep, false).is_err());
    // The same by references, and in a listed value.
    let mut chain = json!({"a0": {"type": "null"}});
    let mut value = json!(1);
    for n in 1..40 {
        let former = format!("#/$defs/a{}", n - 1);
        chain[format!("a{n}")] = json!({"type": "array", "items": {"$ref": former}});
        value = json!([value]);
    }
    assert!(enforceable(&json!({"$defs": chain, "$ref": "#/$defs/a39"}), false).is_err());
    assert!(enforceable(&json!({"const": value}), false).is_err());
    // References that double at every level.
    let mut defs = json!({"a0": {"type": "string"}});
    for n in 1..40 {
        let former = format!("#/$defs/a{}", n - 1);
        defs[format!("a{n}")] = json!({"anyOf": [{"$ref": former}, {"$ref": former}]});
    }
    assert!(enforceable(&json!({"$defs": defs, "$ref": "#/$defs/a39"}), false).is_err());
}
