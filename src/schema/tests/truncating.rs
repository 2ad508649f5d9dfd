//! Tests of answers that end at a limit of the configuration.

use super::*;

#[test]
fn a_part_of_an_answer_that_reached_a_configured_limit_is_found() {
    let answer = read(&json!({"type": "object", "properties": {
        "text": {"type": "string"},
        "short": {"type": "string", "maxLength": 3},
        "list": {"type": "array", "items": {"type": "integer"}},
    }}))
    .unwrap();
    let truncated = |pointer: &str, limit: &str| {
        let (pointer, limit) = (pointer.to_owned(), limit.to_owned());
        Some(Truncation { pointer, limit })
    };
    let full = "ü".repeat(1000);
    assert_eq!(
        answer.truncated_part(&json!({"text": full})),
        truncated("/text", "1000 characters of a string")
    );
    assert_eq!(
        answer.truncated_part(&json!({"list": vec![1; 100]})),
        truncated("/list", "100 items of an array")
    );
    assert_eq!(
        answer
            .truncated_part(&json!({"text": "a".repeat(999), "short": "abc", "list": vec![1; 99]})),
        None
    );
    // Parts that end at the schema's own maximum or minimum are complete.
    let bounded = read(&json!({"type": "object", "properties": {
        "text": {"type": "string", "maxLength": 1000},
        "long": {"type": "string", "minLength": 3000},
        "list": {"type": "array", "items": {"type": "integer"}, "maxItems": 100},
        "open": {"type": "string"},
    }}))
    .unwrap();
    let whole = json!({"text": full, "long": "a".repeat(3000), "list": vec![1; 100], "open": ""});
    assert_eq!(bounded.truncated_part(&whole), None);
    let long = json!({"long": "a".repeat(6000)});
    let expected = truncated("/long", "6000 characters of a string");
    assert_eq!(bounded.truncated_part(&long), expected);
}
