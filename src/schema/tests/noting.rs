//! Tests of notes, and of the JSON pointers of faults.

use super::*;
use crate::schema::recursion::MAX_LEVEL;

/// Returns the notes of an answer whose property `v` follows `schema`, with JSON pointers into `schema`.
fn notes_of_property(schema: &Value) -> Vec<String> {
    let whole = json!({"type": "object", "properties": {"v": schema}, "required": ["v"]});
    let notes = notes(&whole);
    notes
        .iter()
        .map(|note| note.replace("#/properties/v", "#"))
        .collect()
}

#[test]
fn notes_on_a_tuple_use_the_keywords_of_its_draft() {
    let pair = json!([{"type": "null"}, {"type": "boolean", "colour": 1}]);
    let expected = |place: &str| {
        [
            format!("at `#/{place}/1/colour`: unknown keyword, ignored"),
            format!("at `#/{place}`: all items of the tuple are written"),
            format!("at `#/{place}`: no items are written after the tuple"),
            format!(
                "at `#/{place}`: clients see one schema for all items: drafts write tuples differently"
            ),
        ]
    };
    assert_eq!(
        notes_of_property(&json!({"type": "array", "items": pair})),
        expected("items")
    );
    assert_eq!(
        notes_of_property(&json!({"type": "array", "prefixItems": pair})),
        expected("prefixItems")
    );
    let wrong = json!({"type": "string", "pattern": "(?i)a"});
    let schema =
        json!({"type": "array", "minItems": 1, "items": [wrong], "additionalItems": wrong});
    assert_eq!(faults(&schema)[0], "#/items/0/pattern");
    let schema = json!({"type": "array", "items": [{"type": "null"}], "additionalItems": wrong});
    assert_eq!(faults(&schema), ["#/additionalItems/pattern"]);
}

#[test]
fn a_tuple_of_items_with_one_schema_has_no_notes() {
    let schema = json!({"type": "array", "prefixItems": [{"type": "null"}, {"type": "null"}], "items": false});
    let notes = notes_of_property(&schema);
    assert!(
        !notes.iter().any(|note| note.contains("clients")),
        "{notes:?}"
    );
}

#[test]
fn unenforced_formats_and_contents_are_noted() {
    for (schema, expected) in [
        (
            json!({"type": "string", "format": "binary"}),
            "at `#/format`: ignored: the format `binary` does not constrain JSON values",
        ),
        (
            json!({"type": "string", "contentEncoding": "base64"}),
            "at `#/contentEncoding`: ignored: the content of strings is not enforced",
        ),
        (
            json!({"type": "string", "contentMediaType": "text/html"}),
            "at `#/contentMediaType`: ignored: the content of strings is not enforced",
        ),
        (
            json!({"type": "integer", "format": "date"}),
            "at `#/format`: has no effect on the type `integer`",
        ),
        (
            json!({"type": "string", "format": "uri-reference"}),
            "at `#/format`: clients do not see the format `uri-reference`: not all of their validators support it",
        ),
    ] {
        assert_eq!(notes_of_property(&schema), [expected]);
    }
}

#[test]
fn constraints_of_a_map_that_clients_do_not_see_are_noted() {
    let schema = json!({"type": "object", "patternProperties": {"^a": {"type": "null"}}, "minProperties": 1});
    assert_eq!(
        notes(&schema),
        [
            "at `#`: clients do not see the pattern of the property names",
            "at `#`: clients do not see `minProperties` and `maxProperties`"
        ]
    );
}

#[test]
fn recursion_is_noted_for_every_form_of_reference() {
    for reference in ["$ref", "$dynamicRef"] {
        for beside in [json!({}), json!({"minProperties": 0})] {
            let mut next = beside;
            next[reference] = "#/$defs/list".into();
            let list = json!({"$defs": {"list": {"type": "object", "properties": {"next": next}}}, "type": "object", "properties": {"list": {"$ref": "#/$defs/list"}}});
            let note =
                format!("at `#/$defs/list`: recursive: at most {MAX_LEVEL} levels are written");
            assert!(notes(&list).contains(&note), "{list}: {:?}", notes(&list));
        }
    }
}

#[test]
fn a_fault_in_a_definition_is_reported_once() {
    let schema = json!({"type": "object", "properties": {
        "a": {"not": {"$ref": "#/$defs/text"}, "minLength": -1},
        "b": {"$ref": "#/properties/a"},
    }, "$defs": {"text": {"type": "string"}}});
    assert_eq!(
        faults(&schema),
        ["#/properties/a/minLength", "#/properties/a/not"]
    );
}

#[test]
fn a_schema_that_requires_more_than_half_of_a_limit_raises_the_limit_with_a_note() {
    let list = |least: u64| json!({"type": "array", "items": {"type": "null"}, "minItems": least});
    assert_eq!(read(&list(50)).unwrap().enforced["maxItems"], 100);
    assert_eq!(notes(&list(50)), [] as [String; 0]);
    for least in [51, 100, 1000] {
        let most = 2 * least;
        assert_eq!(read(&list(least)).unwrap().enforced["maxItems"], most);
        assert_eq!(
            notes(&list(least)),
            [format!(
                "at `#`: requires {least}, more than half of `json_max_items` (100); the limit is raised to {most}"
            )]
        );
    }
}

#[test]
fn schema_text_may_begin_with_a_byte_order_mark() {
    let answer = AnswerSchema::from_text("\u{feff}{\"type\": \"object\"}", LIMITS).unwrap();
    assert_eq!(answer.written, json!({"type": "object"}));
}

#[test]
fn schema_text_that_nests_too_deeply_is_refused_with_the_limit() {
    let nested = |levels: usize| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
    let error = |text: &str| {
        AnswerSchema::from_text(text, LIMITS)
            .unwrap_err()
            .to_string()
    };
    assert_eq!(
        error(&nested(MAX_TEXT_LEVELS + 1)),
        "the JSON nests more than 127 levels deep, at line 1; reduce the nesting, for example with `$ref`"
    );
    assert_eq!(
        error(&nested(MAX_TEXT_LEVELS)),
        "at `#`: a schema must be an object, `true` or `false`"
    );
    assert!(error("{").starts_with("invalid JSON: "));
}

#[test]
fn a_schema_with_many_recursive_references_is_read_in_bounded_time() {
    let properties: Table = (0..100)
        .map(|n| {
            (
                format!("p{n}"),
                json!({"type": "array", "items": {"$ref": "#"}}),
            )
        })
        .collect();
    let start = std::time::Instant::now();
    drop(read(&json!({"type": "object", "properties": properties})));
    assert!(start.elapsed().as_secs() < 10, "{:?}", start.elapsed());
}

#[test]
fn clients_see_bounds_of_an_argument_that_exceed_those_of_answers() {
    for argument in [
        json!({"type": "number", "minimum": 1e17}),
        json!({"type": "number", "minimum": 1e-10, "maximum": 2e-10}),
        json!({"type": "integer", "maximum": -9_007_199_254_740_993_i64}),
    ] {
        let arguments = json!({"type": "object", "properties": {"a": argument}, "required": ["a"]});
        assert_eq!(advertised(&arguments), arguments);
        assert_eq!(faults(&arguments), ["#/properties/a"]);
    }
}
