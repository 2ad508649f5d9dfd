//! Tests of references, cycles of definitions, and faults that do not hide each other.

use super::*;

/// Returns whether the canonical form of `schema` allows `value`.
fn allows(schema: &Value, value: &Value) -> bool {
    read(schema).unwrap().check(value).is_ok()
}

#[test]
fn references_in_a_schema_with_an_id_are_relative_to_it() {
    let inner = json!({"$id": "inner.json", "type": "object", "required": ["q"],
        "properties": {"q": {"$ref": "#/$defs/z"}, "self": {"$ref": "#"}, "named": {"$ref": "#here"}},
        "$defs": {"z": {"type": "boolean"}, "h": {"$anchor": "here", "type": "string"}}});
    let schema = json!({"$id": "https://example.com/root.json", "type": "object",
        "$defs": {"z": {"type": "integer"}, "h": {"$anchor": "here", "type": "null"}, "i": inner},
        "properties": {"b": {"$ref": "inner.json"}, "c": {"$ref": "#/$defs/z"}, "d": {"$ref": "#here"}}});
    for (value, is_allowed) in [
        (json!({"b": {"q": true}, "c": 7, "d": null}), true),
        (json!({"b": {"q": 7}}), false),
        (json!({"c": true}), false),
        (json!({"d": "x"}), false),
        (
            json!({"b": {"q": true, "self": {"q": false}, "named": "x"}}),
            true,
        ),
        (json!({"b": {"q": true, "self": {"b": {}}}}), false),
        (json!({"b": {"q": true, "named": null}}), false),
    ] {
        assert_eq!(allows(&schema, &value), is_allowed, "{value}");
    }
}

#[test]
fn id_is_an_identifier_only_in_old_drafts() {
    let schema = |draft: &str| {
        json!({"$schema": draft, "type": "object", "definitions": {"z": {"type": "integer"},
            "i": {"id": "inner.json", "type": "object", "properties": {"q": {"$ref": "#/definitions/z"}},
                "definitions": {"z": {"type": "boolean"}}}},
            "properties": {"b": {"$ref": "#/definitions/i"}}})
    };
    let (old, new) = (
        schema("http://json-schema.org/draft-04/schema#"),
        schema("http://json-schema.org/draft-07/schema#"),
    );
    assert!(allows(&old, &json!({"b": {"q": true}})));
    assert!(allows(&new, &json!({"b": {"q": 7}})));
}

#[test]
fn a_level_of_mutual_recursion_is_one_pass_through_the_cycle() {
    let step = |next: &str, is_required: bool| {
        let required: &[&str] = if is_required { &["n"] } else { &[] };
        json!({"type": "object", "properties": {"n": {"$ref": format!("#/$defs/{next}")}}, "required": required})
    };
    let mut steps: Table = (0..7)
        .map(|n| (format!("t{n}"), step(&format!("t{}", n + 1), true)))
        .collect();
    steps.insert("t7".into(), step("t0", false));
    let schema = json!({"$ref": "#/$defs/t0", "$defs": steps});
    assert_eq!(
        notes(&schema)[0],
        "at `#/$defs/t0`: recursive: at most 5 levels are written"
    );
    let around = |rounds: usize| {
        let last = json!({});
        (0..rounds * 8 - 1).fold(last, |value, _| json!({"n": value}))
    };
    let enforced = jsonschema::draft202012::new(&read(&schema).unwrap().enforced).unwrap();
    assert!(enforced.is_valid(&around(1)));
    assert!(enforced.is_valid(&around(5)));
    assert!(!enforced.is_valid(&around(6)));
}

#[test]
fn property_names_follow_their_format() {
    for (format, name) in [
        ("date", "2024-02-29"),
        ("uuid", "f81d4fae-7dec-11d0-a765-00a0c91e6bf6"),
        ("ipv4", "127.0.0.1"),
    ] {
        let schema = json!({"type": "object", "propertyNames": {"format": format}, "additionalProperties": {"type": "integer"}});
        let enforced = jsonschema::draft202012::new(&read(&schema).unwrap().enforced).unwrap();
        assert!(enforced.is_valid(&json!({name: 1})), "{format}");
        assert!(!enforced.is_valid(&json!({": ": 1})), "{format}");
    }
}

#[test]
fn a_zod_time_without_an_offset_follows_its_pattern() {
    let pattern = r"^(?:[01]\d|2[0-3]):[0-5]\d(?::[0-5]\d(?:\.\d+)?)?$";
    let schema = json!({"type": "string", "format": "time", "pattern": pattern});
    let notes = &notes(&schema)[0];
    assert!(
        notes.starts_with("at `#/format`: not enforced: `pattern` allows only times without"),
        "{notes}"
    );
    assert!(allows(&schema, &json!("12:30:45")));
    let with_zone = json!({"type": "string", "format": "time", "pattern": "^.*Z$"});
    assert!(!allows(&with_zone, &json!("noon Z")));
}

#[test]
fn faults_of_required_properties_and_endless_references_hide_no_other_fault() {
    let wrong = json!({"type": "integer", "minimum": 3, "maximum": 1});
    let schema = json!({"type": "object", "required": ["a", "b", "i"], "properties": {
        "a": wrong, "b": wrong, "i": {"anyOf": [{"$ref": "#/properties/i"}, {"type": "null"}]}}});
    assert_eq!(
        faults(&schema),
        ["#/properties/i", "#/properties/a", "#/properties/b"]
    );
}

#[test]
fn the_json_pointer_of_a_fault_points_into_the_written_schema() {
    let excluded =
        json!({"type": "object", "properties": {"a": {"type": "string", "not": {"const": "x"}}}});
    assert_eq!(faults(&excluded), ["#/properties/a"]);
    assert_eq!(faults(&json!({"type": "object", "$ref": "#"})), ["#"]);
}

#[test]
fn a_value_that_only_one_alternative_forbids_is_not_noted() {
    let schema = json!({"type": "object", "properties": {"country": {"enum": ["US", "CA"]}, "zip": {"type": "string"}},
        "required": ["country"],
        "if": {"properties": {"country": {"const": "US"}}, "required": ["country"]}, "then": {"required": ["zip"]}});
    let notes = notes(&schema);
    assert!(
        !notes.iter().any(|note| note.contains("never occurs")),
        "{notes:?}"
    );
}

#[test]
fn a_map_with_a_name_pattern_notes_that_other_properties_are_not_written() {
    let schema = json!({"type": "object", "patternProperties": {"^[ab]$": {"type": "integer"}}, "additionalProperties": {"type": "null"}});
    let notes = notes(&schema);
    assert!(
        notes[0].contains("only properties that match this pattern are written"),
        "{notes:?}"
    );
}

#[test]
fn pydantic_decimals_are_written_as_numbers() {
    let start = "^(?!^[-+.]*$)[+-]?0*";
    for (rest, written, not_written) in [
        (
            r"\d*\.?\d*$",
            vec!["0", "-12.50", "1234567.891"],
            vec![".", "", "1e5", "+."],
        ),
        (
            r"\d*\.?\d{0,2}0*$",
            vec!["0", "-12.50", "1234567"],
            vec!["1.234", "."],
        ),
        (
            r"(?:\d{0,6}|(?=[\d.]{1,9}0*$)\d{0,6}\.\d{0,2}0*$)",
            vec!["0", "-123456.78", "123456"],
            vec!["1.234", "1234567"],
        ),
        (
            r"(?:\d{0,0}|(?=[\d.]{1,3}0*$)\d{0,0}\.\d{0,2}0*$)",
            vec!["0.25", "-0.5"],
            vec!["1.25"],
        ),
        (
            r"(?:\d{0,8}|(?=[\d.]{1,9}0*$)\d*\.\d*0*$)",
            vec!["12345678", "-1234.5678"],
            vec!["123456789", "."],
        ),
    ] {
        let schema = json!({"type": "string", "pattern": format!("{start}{rest}")});
        let answer = read(&schema).unwrap();
        let enforced = jsonschema::draft202012::new(&answer.enforced).unwrap();
        for text in written {
            assert!(
                enforced.is_valid(&json!(text)),
                "{text} {}",
                answer.enforced
            );
            assert_eq!(answer.check(&json!(text)), Ok(()), "{text}");
        }
        for text in not_written {
            assert!(
                !enforced.is_valid(&json!(text)),
                "{text} {}",
                answer.enforced
            );
        }
    }
}
