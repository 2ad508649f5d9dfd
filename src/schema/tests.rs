//! Tests of what is enforced, advertised, noted and refused.

mod advertising;
mod enforcing;
mod hostile;
mod noting;
mod properties;
mod reading;
mod truncating;

use super::*;
use crate::schema::recursion::MAX_LEVEL;

/// Limits that are small enough to be written out in tests.
const LIMITS: Limits = Limits {
    string: 1000,
    items: 100,
};

fn read(schema: &Value) -> Result<AnswerSchema, SchemaFaults> {
    AnswerSchema::read_on_large_stack(schema, LIMITS, false)
}

/// Returns the JSON pointers of the faults of `schema`.
fn faults(schema: &Value) -> Vec<String> {
    let faults = read(schema)
        .err()
        .map(|faults| faults.0)
        .unwrap_or_default();
    faults.into_iter().map(|fault| fault.pointer).collect()
}

fn reason(schema: &Value) -> String {
    read(schema).unwrap_err().to_string()
}

fn notes(schema: &Value) -> Vec<String> {
    let notes = read(schema).unwrap().notes;
    notes.iter().map(ToString::to_string).collect()
}

#[test]
fn all_faults_of_a_schema_are_reported_at_once() {
    let schema = json!({"type": "object", "properties": {
        "a": {"type": "string", "pattern": "(?i)a"},
        "b": {"type": "integer", "minimun": 1},
        "c": {"$ref": "#/$defs/none"},
        "d/e": {"type": "integer", "minimum": 3, "maximum": 1},
        "f": {"not": {"type": "string", "pattern": "a"}},
    }});
    assert_eq!(
        faults(&schema),
        [
            "#/properties/b/minimun",
            "#/properties/c/$ref",
            "#/properties/f/not",
            "#/properties/a/pattern",
            "#/properties/d~1e"
        ]
    );
}

#[test]
fn a_misspelled_keyword_is_a_fault_and_a_keyword_of_another_dialect_is_not() {
    for (slip, meant) in [
        ("minimun", "minimum"),
        ("maxlength", "maxLength"),
        ("additional_properties", "additionalProperties"),
        ("requierd", "required"),
    ] {
        let message = reason(&json!({"type": "object", slip: 1}));
        assert_eq!(
            message,
            format!("at `#/{slip}`: unknown keyword; did you mean `{meant}`?")
        );
    }
    let words = json!({"type": "string", "example": "a", "x-order": 1, "markdownDescription": "b", "id": "c", "xml": {}});
    assert_eq!(notes(&words), [] as [String; 0]);
    assert_eq!(
        notes(&json!({"type": "null", "colour": 1})),
        ["at `#/colour`: unknown keyword, ignored"]
    );
}

#[test]
fn a_wrapper_around_the_schema_is_a_fault_that_names_the_key_to_pass() {
    let wrapper = json!({"name": "answer", "strict": true, "schema": {"type": "object"}});
    assert_eq!(
        reason(&wrapper),
        "at `#`: this object contains the schema; pass only the value of `schema`"
    );
}

#[test]
fn unsupported_keywords_are_refused_with_their_json_pointers() {
    let string = || json!({"type": "string"});
    for (schema, pointer) in [
        (json!({"type": "string", "minLength": -1}), "#/minLength"),
        (json!({"type": "object", "required": true}), "#/required"),
        (json!({"type": ["string", 1]}), "#/type"),
        (json!({"type": "any"}), "#/type"),
        (json!({"const": u64::MAX}), "#/const"),
        (json!({"enum": [[9_007_199_254_740_993_i64]]}), "#/enum"),
        (json!({"enum": []}), "#/enum"),
        (
            json!({"type": "string", "minLength": 3, "maxLength": 1}),
            "#/minLength",
        ),
        (
            json!({"type": "array", "minItems": 3, "maxItems": 1}),
            "#/minItems",
        ),
        (json!({"not": string()}), ""),
        (json!({"not": {"type": "string", "minLength": 3}}), "#/not"),
        (json!({"type": "string", "not": {"const": "a"}}), "#"),
        (
            json!({"if": {"type": "object", "minProperties": 2}, "then": string()}),
            "#/if",
        ),
        (json!({"anyOf": []}), "#/anyOf"),
        (json!({"$ref": "https://example.org/x"}), "#/$ref"),
        (json!({"$ref": "#/$defs/none"}), "#/$ref"),
        (json!({"type": "string", "enum": [1]}), "#/enum"),
        (json!({"type": "string", "const": 1}), "#/const"),
        (json!({"enum": ["a"], "const": "b"}), "#"),
        (
            json!({"type": "string", "pattern": "a".repeat(2001)}),
            "#/pattern",
        ),
        (
            json!({"type": "array", "contains": string(), "maxContains": 2}),
            "#/contains",
        ),
        (json!(false), "#"),
        (json!(1), "#"),
        (
            json!({"allOf": [{"type": "string"}, {"type": "integer"}]}),
            "#/allOf/0",
        ),
    ] {
        let found = faults(&schema);
        let expected: Vec<&str> = Some(pointer)
            .filter(|pointer| !pointer.is_empty())
            .into_iter()
            .collect();
        let is_at = found.len() == expected.len()
            && found
                .iter()
                .zip(expected)
                .all(|(found, expected)| found.starts_with(expected));
        assert!(is_at, "{schema}: {found:?}");
    }
}

#[test]
fn a_root_that_is_not_an_object_is_refused() {
    for schema in [
        json!({"type": "string"}),
        json!({"type": ["object", "null"]}),
        json!({}),
    ] {
        assert!(AnswerSchema::json(&schema, LIMITS).is_err(), "{schema}");
    }
    for schema in [
        json!({"$ref": "#/$defs/a", "$defs": {"a": {"type": "object"}}}),
        json!({"type": ["object"]}),
        json!({"properties": {"a": {}}}),
        json!({"oneOf": [{"type": "object", "required": ["a"]}, {"type": "object", "required": ["b"]}]}),
    ] {
        assert!(AnswerSchema::json(&schema, LIMITS).is_ok(), "{schema}");
    }
}

#[test]
fn endless_recursion_is_refused_and_recursion_that_can_end_is_bounded() {
    let message = reason(
        &json!({"$defs": {"a": {"type": "object", "properties": {"a": {"$ref": "#/$defs/a"}}, "required": ["a"]}}, "$ref": "#/$defs/a"}),
    );
    assert!(message.contains("the recursion never ends"), "{message}");
    let list = json!({"$defs": {"list": {"type": "object", "properties": {"next": {"anyOf": [{"$ref": "#/$defs/list"}, {"type": "null"}]}}, "required": ["next"]}}, "$ref": "#/$defs/list"});
    assert_eq!(
        notes(&list),
        [format!(
            "at `#/$defs/list`: recursive: at most {MAX_LEVEL} levels are written"
        )]
    );
    let mut deep = json!({"type": "null"});
    for _ in 0..100 {
        deep = json!({"type": "array", "items": deep});
    }
    assert_eq!(faults(&deep).len(), 1);
    // References that double at every level.
    let mut definitions =
        json!({"a0": {"type": "object", "properties": {"a": {"type": "string"}}}});
    for n in 1..40 {
        let former = format!("#/$defs/a{}", n - 1);
        definitions[format!("a{n}")] =
            json!({"required": ["a"], "anyOf": [{"$ref": former}, {"$ref": former}]});
    }
    let message = reason(&json!({"$defs": definitions, "$ref": "#/$defs/a39"}));
    assert!(message.contains("would take too long"), "{message}");
    let option = |name: &str| json!({"required": [name]});
    let choice = json!({"anyOf": [option("a"), option("b"), option("c")]});
    let message = reason(&json!({"type": "object", "allOf": vec![choice; 20]}));
    assert!(message.contains("multiplied out"), "{message}");
}

/// Returns a schema of which each level refers to the next one twice.
fn doubling(levels: usize, leaf: &Value) -> Value {
    let mut definitions = json!({});
    for level in 0..levels {
        let next = json!({"$ref": format!("#/$defs/d{}", level + 1)});
        definitions[format!("d{level}")] =
            json!({"type": "object", "properties": {"x": next, "y": next}, "required": ["x", "y"]});
    }
    definitions[format!("d{levels}")] = leaf.clone();
    definitions
}

#[test]
fn exponential_schemas_neither_take_long_nor_overflow_the_stack() {
    for endless in [
        json!({"$ref": "#/$defs/b", "$defs": {"b": {"anyOf": [{"$ref": "#/$defs/b"}, {"type": "object"}]}}}),
        json!({"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}}),
        json!({"type": "object", "$ref": "#"}),
    ] {
        assert!(reason(&endless).contains("refers to itself for the same value"));
    }
    let mut all = json!({"a40": {"type": "integer"}});
    for level in 0..40 {
        let next = json!({"$ref": format!("#/$defs/a{}", level + 1)});
        all[format!("a{level}")] = json!({"allOf": [next, next]});
    }
    let all = json!({"type": "object", "properties": {"a": {"$ref": "#/$defs/a0"}}, "$defs": all});
    assert!(reason(&all).contains("checking an answer would take too long"));
    let choices =
        json!({"type": "object", "allOf": vec![json!({"anyOf": [{"title": "x"}]}); 4000]});
    assert!(reason(&choices).contains("more than 64 `anyOf` and `oneOf` in one place"));
    let shared = json!({"$defs": doubling(40, &json!({"type": "string"})), "oneOf": [{"$ref": "#/$defs/d0"}, {"$ref": "#/$defs/d0", "title": "again"}]});
    assert!(notes(&shared)[0].contains("may overlap"));
    let mut unions = json!({"u40": {"type": "object"}});
    for level in 0..40 {
        let next = format!("#/$defs/u{}", level + 1);
        unions[format!("u{level}")] =
            json!({"anyOf": [{"$ref": next}, {"$ref": next, "title": level.to_string()}]});
    }
    let unions = json!({"$ref": "#/$defs/u0", "$defs": unions});
    assert!(reason(&unions).contains("checking an answer would take too long"));
    let faults = json!({"type": "object", "properties": (0..9000).map(|n| (format!("p{n}"), json!({"minimun": 1}))).collect::<Map<_, _>>()});
    assert_eq!(read(&faults).unwrap_err().0.len(), MAX_REPORTS);
}

#[test]
fn dependencies_of_old_and_new_drafts_apply_together() {
    let schema = json!({"type": "object", "properties": {"a": {"type": "null"}, "b": {"type": "null"}, "c": {"type": "null"}},
        "dependencies": {"a": ["b"]}, "dependentRequired": {"a": ["c"]}, "required": ["a"]});
    let answer = AnswerSchema::json(&schema, LIMITS).unwrap();
    assert!(answer.check(&json!({"a": null, "b": null})).is_err());
    assert!(answer.check(&json!({"a": null, "c": null})).is_err());
    assert!(
        answer
            .check(&json!({"a": null, "b": null, "c": null}))
            .is_ok()
    );
}

#[test]
fn references_resolve_to_identifiers_in_schemas_but_not_in_values() {
    let schema = json!({"$defs": {"a": {"enum": [{"$anchor": "x", "type": "null"}]}, "b": {"$anchor": "x", "type": "boolean"}}, "$ref": "#x"});
    assert_eq!(read(&schema).unwrap().enforced, json!({"type": "boolean"}));
}

#[test]
fn number_schemas_that_allow_no_value_are_refused() {
    let bounds = "are written from -9007199254740991 to 9007199254740991";
    for (schema, expected) in [
        (
            json!({"type": "integer", "minimum": 3, "exclusiveMaximum": 4, "multipleOf": 2}),
            format!(
                "at `#`: `minimum` 3 with `exclusiveMaximum` 4 with `multipleOf` 2 leaves no value: integers {bounds}"
            ),
        ),
        (
            json!({"type": "number", "minimum": 1e300}),
            format!(
                "at `#`: `minimum` 1e+300 leaves no value: numbers {bounds}, with at most 8 digits after the decimal point"
            ),
        ),
        (
            json!({"type": "integer", "multipleOf": 0}),
            "at `#/multipleOf`: must be a positive number".into(),
        ),
        (
            json!({"type": "number", "multipleOf": 1e-9}),
            "at `#/multipleOf`: must have at most 8 digits after the decimal point".into(),
        ),
        (
            json!({"type": "integer", "multipleOf": 100_001}),
            "at `#/multipleOf`: is too large: the sum of all `multipleOf` in a schema, decimal points ignored (0.25 counts as 25), must be at most 100000; use smaller ones".into(),
        ),
        (
            json!({"type": "integer", "multipleOf": 5_000_000_001_i64}),
            "at `#/multipleOf`: has too many digits to enforce; use fewer".into(),
        ),
        (
            json!({"type": "integer", "minimum": "1"}),
            "at `#/minimum`: must be a number".into(),
        ),
    ] {
        assert_eq!(reason(&schema), expected);
    }
}

#[test]
fn patterns_that_rust_and_ecma_262_interpret_differently_are_refused() {
    for (pattern, expected) in [
        (
            "(?i)a",
            "flags such as `(?i)` cannot be enforced; write both cases, for example `[aA]`",
        ),
        (
            "(?i:a)",
            "flags such as `(?i)` cannot be enforced; write both cases, for example `[aA]`",
        ),
        (
            "a(?=b)",
            "lookahead and lookbehind cannot be enforced; write what is allowed, or remove the pattern",
        ),
        (
            "(?<!a)b",
            "lookahead and lookbehind cannot be enforced; write what is allowed, or remove the pattern",
        ),
        (
            "(a)\\1",
            "backreferences such as `\\1` cannot be enforced; write the repeated part again",
        ),
        ("\\bword\\b", "`\\b` cannot be enforced; remove it"),
        ("\\Aa", "`\\A` cannot be enforced; remove it"),
        (
            "a^b",
            "`^` must begin the pattern or an alternative, and `$` must end it",
        ),
        (
            "[]a]",
            "`[]` and `[^]` cannot be enforced; write a bracket in a class as `\\]`",
        ),
        (
            "[a[b]",
            "invalid or unsupported pattern: unclosed character class",
        ),
        ("[[:alpha:]]", "unsupported `[` in a class; write `\\[`"),
        (
            "[a&&b]",
            "`&&`, `--` and `~~` in a class cannot be enforced; put a backslash before each character",
        ),
        ("(?<name>a)", "named groups cannot be enforced; write `(…)`"),
        ("\\x{41}", "unsupported escape; write U+0041 as `\\u0041`"),
        ("\\pL", "unsupported Unicode class; write `\\p{L}`"),
        (
            "((\\p{L}{100}){100}){100}",
            "requires too much memory; use fewer repetitions or smaller character classes",
        ),
    ] {
        let text = format!("at `#/pattern`: {expected}");
        assert_eq!(reason(&json!({"type": "string", "pattern": pattern})), text);
    }
}
