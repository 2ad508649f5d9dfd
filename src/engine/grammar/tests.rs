//! Tests of the texts that the grammars of schemas allow, byte by byte.

mod forced;
mod properties;

use super::*;
use crate::schema::{AnswerSchema, Limits};

/// Small limits, so that a test can exceed them.
const LIMITS: Limits = Limits {
    string: 1000,
    items: 100,
};

thread_local! {
    static GRAMMARS: Grammars = Grammars::of_bytes().unwrap();
}

fn check(schema: &Value) -> Result<(), GrammarError> {
    GRAMMARS.with(|grammars| grammars.check(schema))
}

#[test]
fn a_schema_with_too_many_optional_properties_is_rejected_before_a_call() {
    let properties = |count: usize| {
        let named = (0..count).map(|at| (format!("p{at}"), json!({"type": "string"})));
        json!({"type": "object", "properties": named.collect::<serde_json::Map<_, _>>()})
    };
    assert_eq!(check(&properties(100)), Ok(()));
    let reason = check(&properties(3000)).unwrap_err().to_string();
    assert!(reason.contains("list fewer"), "{reason}");
}

/// Returns whether the grammar of `schema` allows `text`, byte by byte, and whether the answer is complete then.
fn reads(schema: &Value, text: &str) -> (bool, bool) {
    // Serialised, as on the wire.
    let schema = serde_json::from_str(&schema.to_string()).unwrap();
    let mut grammar = GRAMMARS.with(|grammars| grammars.json(&schema)).unwrap();
    let mut allowed = Vec::new();
    for byte in text.bytes() {
        let token = Token::from(byte);
        if !grammar.allows(token).unwrap() {
            return (false, false);
        }
        let mask = grammar.mask().unwrap();
        mask.apply(&[0.0; 256], &[], &mut allowed);
        assert!(allowed[usize::from(byte)] == 0.0);
        grammar.accept(token).unwrap();
    }
    (true, grammar.is_complete() || grammar.may_end().unwrap())
}

/// Returns the schema of an object whose property `v` follows `schema`.
fn answer(schema: &Value) -> AnswerSchema {
    let schema = json!({"type": "object", "properties": {"v": schema}, "required": ["v"]});
    AnswerSchema::json(&schema, LIMITS).unwrap()
}

/// Returns whether the grammar allows `text` as `v`, and whether the original schema allows it.
fn judged(answer: &AnswerSchema, text: &str) -> (bool, bool) {
    let text = format!("{{\"v\": {text}}}");
    let value: Value = serde_json::from_str(&text).unwrap();
    (
        reads(&answer.enforced, &text) == (true, true),
        answer.check(&value).is_ok(),
    )
}

#[test]
fn a_grammar_allows_exactly_the_texts_of_its_schema() {
    let schema = json!({
        "type": "object",
        "properties": {"a": {"type": "integer", "minimum": 1, "maximum": 20}, "b": {"enum": ["x", "y"]}},
        "required": ["a", "b"],
        "additionalProperties": false,
    });
    for (text, expected) in [
        (r#"{"a": 20, "b": "y"}"#, (true, true)),
        (r#"{"a": 20"#, (true, false)),
        (r#"{"a": 21"#, (false, false)),
        (r#"{"b"#, (false, false)),
        (r#"{"a":  1"#, (false, false)),
        (r#"{"a": 1, "b": "z"#, (false, false)),
        (r#"{"a": 1, "b": "x"} "#, (false, false)),
    ] {
        assert_eq!(reads(&schema, text), expected, "{text}");
    }
}

/// Schemas, each with texts that satisfy it and texts that violate it.
const KEYWORDS: &[(&str, &[&str], &[&str])] = &[
    (r#"{"type": "null"}"#, &["null"], &["0", "\"\""]),
    (r#"{"type": "boolean"}"#, &["true", "false"], &["null", "1"]),
    (
        r#"{"type": "string"}"#,
        &["\"a\"", "\"\\n\\\"ü\""],
        &["1", "null"],
    ),
    (
        r#"{"type": ["string", "null"]}"#,
        &["\"a\"", "null"],
        &["1", "true"],
    ),
    (
        r#"{"type": "string", "minLength": 2}"#,
        &["\"ab\"", "\"üü\""],
        &["\"\"", "\"ü\""],
    ),
    (
        r#"{"type": "string", "maxLength": 2.0}"#,
        &["\"\"", "\"üü\""],
        &["\"abc\""],
    ),
    (
        r#"{"type": "string", "pattern": "^a+$"}"#,
        &["\"aa\""],
        &["\"\"", "\"ab\"", "\"ba\""],
    ),
    (
        r#"{"type": "string", "pattern": "a"}"#,
        &["\"a\"", "\"bab\""],
        &["\"\"", "\"b\""],
    ),
    (
        r#"{"type": "string", "pattern": "^\\w+@\\w+\\.\\w+$"}"#,
        &["\"a@b.c\""],
        &["\"a\"", "\"ä@b.c\""],
    ),
    (
        r#"{"type": "string", "format": "date"}"#,
        &["\"2024-02-29\"", "\"2000-02-29\"", "\"2023-12-31\""],
        &[
            "\"2023-02-29\"",
            "\"1900-02-29\"",
            "\"2023-04-31\"",
            "\"x\"",
        ],
    ),
    (
        r#"{"type": "string", "format": "time"}"#,
        &["\"23:59:59Z\"", "\"00:00:00.123456789+01:00\""],
        &["\"24:00:00Z\"", "\"12:00:61Z\"", "\"12:00:00\""],
    ),
    (
        r#"{"type": "string", "format": "date-time"}"#,
        &["\"2024-02-29T12:00:00.5-11:30\""],
        &["\"2023-02-29T12:00:00Z\"", "\"2024-02-29 12:00:00Z\""],
    ),
    (
        r#"{"type": "string", "format": "ipv4"}"#,
        &["\"127.0.0.1\"", "\"255.249.199.99\""],
        &["\"256.0.0.1\"", "\"1.2.3\""],
    ),
    (
        r#"{"type": "string", "format": "ipv6"}"#,
        &["\"::1\"", "\"fe80::1:2\"", "\"::\""],
        &["\"1::2::3\"", "\"12345::\""],
    ),
    (
        r#"{"type": "string", "format": "uuid"}"#,
        &["\"01234567-89ab-cdef-0123-456789abcdef\""],
        &["\"0123456789abcdef0123456789abcdef\""],
    ),
    (r#"{"type": "integer"}"#, &["0", "-12"], &["1.5", "\"1\""]),
    (
        r#"{"type": "integer", "minimum": -3}"#,
        &["-3", "7"],
        &["-4"],
    ),
    (
        r#"{"type": "integer", "maximum": 20}"#,
        &["20", "-1"],
        &["21", "100"],
    ),
    (
        r#"{"type": "integer", "exclusiveMinimum": 3}"#,
        &["4"],
        &["3"],
    ),
    (
        r#"{"type": "integer", "exclusiveMaximum": 3.5}"#,
        &["3"],
        &["4"],
    ),
    (
        r#"{"type": "integer", "multipleOf": 7}"#,
        &["0", "-14", "21"],
        &["8", "1"],
    ),
    (
        r#"{"type": "integer", "multipleOf": 2.5}"#,
        &["5", "10"],
        &["2", "4"],
    ),
    (
        r#"{"type": "number"}"#,
        &["0", "-0.5", "12.25"],
        &["\"1\"", "null"],
    ),
    (
        r#"{"type": "number", "minimum": 0.5}"#,
        &["0.5", "1"],
        &["0.4", "-1"],
    ),
    (
        r#"{"type": "number", "maximum": 0.5}"#,
        &["0.5", "-7.25"],
        &["0.51", "1"],
    ),
    (
        r#"{"type": "number", "exclusiveMinimum": 0, "maximum": 0.5}"#,
        &["0.01"],
        &["0", "0.0"],
    ),
    (
        r#"{"type": "number", "exclusiveMaximum": 1}"#,
        &["0.99"],
        &["1", "1.0"],
    ),
    (
        r#"{"type": "number", "multipleOf": 0.5}"#,
        &["0.5", "2", "-1.5"],
        &["0.25", "1.1"],
    ),
    (
        r#"{"type": "number", "multipleOf": 0.07}"#,
        &["0.07", "0.14", "7"],
        &["0.08", "1"],
    ),
    (
        r#"{"enum": ["a", 1, null]}"#,
        &["\"a\"", "1", "null"],
        &["\"b\"", "2"],
    ),
    (
        r#"{"type": "string", "enum": ["a"]}"#,
        &["\"a\""],
        &["\"\""],
    ),
    (
        r#"{"const": {"a": [1.5]}}"#,
        &["{\"a\": [1.5]}"],
        &["{\"a\": [1]}", "{}"],
    ),
    (
        r#"{"anyOf": [{"type": "null"}, {"enum": ["x"]}]}"#,
        &["null", "\"x\""],
        &["\"y\"", "0"],
    ),
    (
        r#"{"type": "array", "items": {"type": "null"}}"#,
        &["[]", "[null, null]"],
        &["[1]", "null"],
    ),
    (
        r#"{"type": "array", "items": {"type": "null"}, "minItems": 1}"#,
        &["[null]"],
        &["[]"],
    ),
    (
        r#"{"type": "array", "items": {"type": "null"}, "maxItems": 1}"#,
        &["[null]"],
        &["[null, null]"],
    ),
    (
        r#"{"type": "object", "properties": {"a": {"type": "null"}}, "required": ["a"]}"#,
        &["{\"a\": null}"],
        &["{}", "{\"a\": 1}"],
    ),
    (
        r#"{"type": "object", "properties": {"a": {"type": "null"}}, "additionalProperties": false}"#,
        &["{\"a\": null}", "{}"],
        &["{\"b\": null}", "{\"a\": null, \"b\": null}"],
    ),
];

#[test]
fn every_supported_keyword_is_enforced() {
    for (schema, right, wrong) in KEYWORDS {
        let answer = answer(&serde_json::from_str(schema).unwrap());
        for text in *right {
            assert_eq!(judged(&answer, text), (true, true), "{schema}: {text}");
        }
        for text in *wrong {
            assert_eq!(judged(&answer, text), (false, false), "{schema}: {text}");
        }
    }
    let schema = json!({"type": "object", "$defs": {"a": {"const": 1}}, "properties": {"v": {"$ref": "#/$defs/a"}}, "required": ["v"]});
    let referring = AnswerSchema::json(&schema, LIMITS).unwrap();
    assert_eq!(judged(&referring, "1"), (true, true));
    assert_eq!(judged(&referring, "2"), (false, false));
}

#[test]
fn every_value_has_a_bounded_length() {
    for (kind, begin, more) in [
        (json!({"type": "integer"}), "", "1"),
        (json!({"type": "number"}), "", "1"),
        (json!({"type": "number"}), "0.", "1"),
        (json!({"type": "number"}), "0.", "0"),
        (json!({"type": "number", "minimum": 0}), "7.", "0"),
        (json!({"type": "number", "maximum": 1e300}), "", "9"),
        (json!({"type": "number", "multipleOf": 0.25}), "", "1"),
        (json!({"type": "number", "multipleOf": 2}), "2.", "0"),
        (json!({"type": "integer", "multipleOf": 3}), "-", "3"),
        (
            json!({"type": "string", "format": "time"}),
            "\"12:00:00.",
            "1",
        ),
        (
            json!({"type": "string", "format": "date-time"}),
            "\"2024-01-01T12:00:00.",
            "1",
        ),
        (json!({"type": "string", "pattern": "^a+$"}), "\"", "a"),
    ] {
        let answer = answer(&kind);
        let longest = usize::try_from(LIMITS.string).unwrap();
        let text = format!("{{\"v\": {begin}{}", more.repeat(longest + 1));
        assert_eq!(reads(&answer.enforced, &text), (false, false), "{kind}");
    }
    for exponent in ["1e", "1E", "0.5e"] {
        let text = format!("{{\"v\": {exponent}");
        assert!(!reads(&answer(&json!({"type": "number"})).enforced, &text).0);
    }
}

#[test]
fn a_schema_that_cannot_be_enforced_is_an_error() {
    let reason = |pattern: &str, max: u64| {
        check(&json!({"type": "string", "pattern": pattern, "maxLength": max}))
            .unwrap_err()
            .to_string()
    };
    assert_eq!(
        reason("^a{5}$", 3),
        "no text matches it: `pattern` and lengths contradict each other; change one of them"
    );
    let schema = json!({"type": "string", "minLength": 5, "maxLength": 2});
    assert!(check(&schema).is_err());
}

#[test]
fn a_character_outside_a_class_cannot_be_written_as_an_escape() {
    for (pattern, left_out) in [
        (r#"^[^"]{1,3}$"#, r#""\"""#),
        (r"^[^\\]{1,3}$", r#""\\""#),
        (r#"^[^"\\]+$"#, r#""\"""#),
        (r"^[\t-~]$", r#""\u0001""#),
        (r"^[ !#-~]$", r#""\"""#),
        (r"^[\s\S]$", r#""ab""#),
        (r"^\W$", r#""a""#),
        (r"^\D$", r#""1""#),
        (r"^[\n\r\t]$", r#""\"""#),
        (r"^[\x00-\x1f]$", r#""\"""#),
        (r"^[\x00-\x1fA]$", r#""\\""#),
        (r"^(a|[\x00-\x1f!]){2}$", r#""a\"""#),
        (r"^\p{Cc}{2}$", r#""\\\\""#),
        (r"^\P{Po}$", r#""\"""#),
    ] {
        let answer = answer(&json!({"type": "string", "pattern": pattern}));
        assert_eq!(judged(&answer, left_out), (false, false), "{pattern}");
    }
    let narrowed = answer(&json!({"type": "string", "pattern": r#"^x[^"]*y$"#}));
    for text in [r#""xy""#, r#""xa\nb\u0001 ü\\y""#] {
        assert_eq!(judged(&narrowed, text), (true, true), "{text}");
    }
}

#[test]
fn text_before_the_grammar_applies_is_accepted_if_the_grammar_allows_it() {
    let schema = json!({"type": "object", "properties": {"a": {"const": 1}}, "required": ["a"], "additionalProperties": false});
    let mut grammar = GRAMMARS.with(|grammars| grammars.json(&schema)).unwrap();
    assert!(!grammar.accept_text("Well").unwrap());
    assert!(grammar.accept_text("{\"a").unwrap());
    for byte in "\": 1}".bytes() {
        assert!(grammar.allows(byte.into()).unwrap());
        grammar.accept(byte.into()).unwrap();
    }
    assert!(grammar.is_complete());
}
