//! Keywords, each enforced or refused.

use super::*;

/// Keywords, each with a schema that uses it: let through (that they are enforced is tested with the grammar), or refused at a
/// place.
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
        json!({"type": "string", "const": "a"}),
        json!({"type": ["string", "null"], "const": null}),
        json!({"anyOf": [string(), {"type": "null"}]}),
        json!({"type": ["string", "null"]}),
        json!({"type": "boolean", "title": "t", "description": "d", "default": true, "examples": [true]}),
        of("string", "maxLength", json!(3.0)),
        of("array", "uniqueItems", json!(false)),
        json!({"definitions": {"a": string()}, "anyOf": [{"$ref": "#/definitions/a"}]}),
        json!({"$defs": {"a": string()}, "type": "object", "properties": {"x": {"$ref": "#/$defs/a"}}}),
    ] {
        let made = AnswerSchema::of(&schema);
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
        (json!({"type": ["string", 1]}), "#"),
        (json!({"const": u64::MAX}), "#/const"),
        (json!({"enum": [[9_007_199_254_740_993_i64]]}), "#/enum"),
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
        (json!({"type": "string", "const": 1}), "#/const"),
        (json!({"enum": ["a"], "const": "a"}), "#/const"),
        (of("string", "format", json!("email")), "#/format"),
        (of("string", "pattern", json!("a".repeat(201))), "#/pattern"),
        (json!({"type": "array"}), "#"),
        (json!({}), "#"),
        (json!(true), "#"),
    ] {
        let refused = AnswerSchema::of(&schema);
        let found = refused.as_ref().err().map(|fault| fault.pointer.as_str());
        assert_eq!(found, Some(pointer), "{schema}: {refused:?}");
    }
}

#[test]
fn what_is_let_through_has_an_end() {
    let schema = json!({"type": "object", "properties": {
        "text": {"type": "string"},
        "list": {"type": "array", "items": {"type": "integer"}},
        "number": {"type": "number"},
    }});
    let made = AnswerSchema::json(&schema).unwrap();
    assert_eq!(
        made.enforced,
        json!({"type": "object", "properties": {
            "text": {"type": "string", "minLength": 0, "maxLength": MAX_STRING},
            "list": {"type": "array", "items": {"type": "integer", "minimum": -9_007_199_254_740_991_i64, "maximum": 9_007_199_254_740_991_i64}, "minItems": 0, "maxItems": MAX_ITEMS},
            "number": {"type": "number", "multipleOf": 1e-8, "minimum": -9_007_199_254_740_991.0, "maximum": 9_007_199_254_740_991.0},
        }, "required": [], "additionalProperties": false})
    );
    assert!(AnswerSchema::json(&json!({"type": "string"})).is_err());
}

#[test]
fn a_schema_without_end_is_refused_whatever_its_form() {
    let mut deep = json!({"type": "null"});
    for _ in 0..40 {
        deep = json!({"type": "array", "items": deep});
    }
    assert!(AnswerSchema::of(&deep).is_err());
    // The same by references, and in a listed value.
    let mut chain = json!({"a0": {"type": "null"}});
    let mut value = json!(1);
    for n in 1..40 {
        let former = format!("#/$defs/a{}", n - 1);
        chain[format!("a{n}")] = json!({"type": "array", "items": {"$ref": former}});
        value = json!([value]);
    }
    assert!(AnswerSchema::of(&json!({"$defs": chain, "$ref": "#/$defs/a39"})).is_err());
    assert!(AnswerSchema::of(&json!({"const": value})).is_err());
    // References that double at every level.
    let mut defs = json!({"a0": {"type": "string"}});
    for n in 1..40 {
        let former = format!("#/$defs/a{}", n - 1);
        defs[format!("a{n}")] = json!({"anyOf": [{"$ref": former}, {"$ref": former}]});
    }
    assert!(AnswerSchema::of(&json!({"$defs": defs, "$ref": "#/$defs/a39"})).is_err());
}

fn reason(schema: &Value) -> String {
    AnswerSchema::of(schema).unwrap_err().to_string()
}

#[test]
fn numbers_without_any_value_are_refused() {
    let bounds = "are written from -9007199254740991 to 9007199254740991";
    for (schema, told) in [
        (
            json!({"type": "integer", "minimum": 3, "exclusiveMaximum": 4, "multipleOf": 2}),
            format!(
                "at `#`: `minimum` 3 with `exclusiveMaximum` 4 with `multipleOf` 2 leaves no value: integers {bounds}"
            ),
        ),
        (
            json!({"type": "number", "minimum": 0.1, "maximum": 0.2, "multipleOf": 0.25}),
            format!(
                "at `#`: `minimum` 0.1 with `maximum` 0.2 with `multipleOf` 0.25 leaves no value: numbers {bounds}, with at most 8 digits after the point"
            ),
        ),
        // Equal as doubles.
        (
            json!({"type": "integer", "minimum": 9_007_199_254_740_993_i64, "maximum": 9_007_199_254_740_992_i64}),
            format!(
                "at `#`: `minimum` 9007199254740993 with `maximum` 9007199254740992 leaves no value: integers {bounds}"
            ),
        ),
        (
            json!({"type": "number", "minimum": 1e300}),
            format!(
                "at `#`: `minimum` 1e+300 leaves no value: numbers {bounds}, with at most 8 digits after the point"
            ),
        ),
        (
            json!({"type": "number", "exclusiveMinimum": 0, "maximum": 1e-300}),
            format!(
                "at `#`: `exclusiveMinimum` 0 with `maximum` 1e-300 leaves no value: numbers {bounds}, with at most 8 digits after the point"
            ),
        ),
        (
            json!({"type": "integer", "multipleOf": 0}),
            "at `#/multipleOf`: must be a number above 0".into(),
        ),
        (
            json!({"type": "number", "multipleOf": -0.5}),
            "at `#/multipleOf`: must be a number above 0".into(),
        ),
        (
            json!({"type": "number", "multipleOf": 1e-9}),
            "at `#/multipleOf`: must have at most 8 digits after the point".into(),
        ),
        (
            json!({"type": "integer", "multipleOf": 5_000_000_001_i64}),
            "at `#/multipleOf`: has too many digits to be enforced".into(),
        ),
        (
            json!({"type": "integer", "minimum": "1"}),
            "at `#/minimum`: must be a number".into(),
        ),
    ] {
        assert_eq!(reason(&schema), told);
    }
}

#[test]
fn patterns_that_json_schema_reads_otherwise_are_refused() {
    for (pattern, told) in [
        (
            "(?i)a",
            "flags, as in `(?i)`, cannot be enforced: write both cases, for example `[aA]`",
        ),
        (
            "(?i:a)",
            "flags, as in `(?i)`, cannot be enforced: write both cases, for example `[aA]`",
        ),
        ("a(?=b)", "lookahead and lookbehind cannot be enforced"),
        ("(?<!a)b", "lookahead and lookbehind cannot be enforced"),
        (
            "(a)\\1",
            "references to groups, as in `\\1`, cannot be enforced",
        ),
        ("\\bword\\b", "`\\b` cannot be enforced"),
        ("\\Aa", "`\\A` cannot be enforced"),
        (
            "a^b",
            "`^` is enforced where the pattern or an alternative of it begins, `$` where it ends, and nowhere else",
        ),
        (
            "(a$)?",
            "`^` is enforced where the pattern or an alternative of it begins, `$` where it ends, and nowhere else",
        ),
        (
            "[]a]",
            "`[]` and `[^]` cannot be enforced; a bracket in a class is written `\\]`",
        ),
        (
            "[^]]",
            "`[]` and `[^]` cannot be enforced; a bracket in a class is written `\\]`",
        ),
        (
            "[a[b]",
            "is no pattern that can be enforced: unclosed character class",
        ),
        ("[[:alpha:]]", "a bracket in a class is written `\\[`"),
        (
            "[a&&b]",
            "`&&`, `--` and `~~` in a class cannot be enforced: put a backslash before each character",
        ),
        (
            "(?P<stop>a)",
            "a group with a name cannot be enforced: write `(…)`",
        ),
        (
            "(?<name>a)",
            "a group with a name cannot be enforced: write `(…)`",
        ),
        ("\\x{41}", "U+0041 is written `\\u0041`"),
        ("\\a", "U+0007 is written `\\u0007`"),
        ("\\pL", "a class of Unicode is written `\\p{L}`"),
        (
            "a{2,1}",
            "is no pattern that can be enforced: invalid repetition count range, the start must be <= the end",
        ),
        (
            "((\\p{L}{100}){100}){100}",
            "takes too much memory; repeat less, or fewer kinds of characters",
        ),
    ] {
        let told = format!("at `#/pattern`: {told}");
        assert_eq!(reason(&json!({"type": "string", "pattern": pattern})), told);
    }
}
