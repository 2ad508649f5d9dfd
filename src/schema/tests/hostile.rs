//! Tests with schemas that would take too much time, memory or stack without bounds.

use super::*;

/// Asserts that `schema` is refused with a reason that contains `text`, or accepted if `text` is empty. Without the bound, this would
/// take minutes or all memory.
fn assert_ends(schema: &Value, text: &str) {
    let start = std::time::Instant::now();
    match read(schema) {
        Ok(_) => assert_eq!(text, "", "it is accepted"),
        Err(faults) => assert!(faults.to_string().contains(text), "{faults}"),
    }
    assert!(start.elapsed().as_secs() < 20, "{:?}", start.elapsed());
}

#[test]
fn alternatives_combined_with_long_lists_are_bounded() {
    let names: Vec<String> = (0..20_000).map(|n| format!("a{n}")).collect();
    let numbers: Vec<u32> = (0..40_000).collect();
    let anything = |count: usize| vec![json!({}); count];
    for schema in [
        json!({"type": "object", "required": names, "anyOf": anything(10_000)}),
        json!({"type": "object", "properties": {"a": {"enum": numbers, "anyOf": anything(10_000)}}}),
        json!({"type": "object", "allOf": anything(25_000), "anyOf": anything(24_000)}),
        json!({"type": "object", "description": "x".repeat(300_000), "minProperties": 1, "anyOf": anything(10_000)}),
    ] {
        assert_ends(&schema, "multiplied out");
    }
}

#[test]
fn long_lists_of_values_are_compared_in_linear_time() {
    let values = |from: u32| (from..from + 30_000).collect::<Vec<u32>>();
    let excluded = json!({"enum": values(0), "not": {"enum": values(29_999)}});
    assert_ends(
        &json!({"type": "object", "properties": {"a": excluded}}),
        "",
    );
    assert_eq!(
        notes(&excluded),
        ["at `#/enum`: 29999 never occurs: another keyword forbids it"]
    );
}

#[test]
fn options_that_exclude_each_other_are_compared_within_a_budget() {
    let names: Vec<String> = (0..100).map(|n| format!("p{n}")).collect();
    let options = vec![json!({"$ref": "#/$defs/a"}); 10_000];
    let schema = json!({"type": "object", "properties": {"a": {"oneOf": options}},
        "$defs": {"a": {"type": "object", "required": names, "additionalProperties": {"type": "null"}}}});
    assert_ends(&schema, "");
    assert!(notes(&schema).iter().any(|note| note.contains("overlap")));
}

#[test]
fn chains_of_references_are_bounded() {
    let chain = |count: usize, link: &dyn Fn(Value) -> Value| {
        let links = (0..count).map(|n| {
            let next = json!({"$ref": format!("#/$defs/d{}", (n + 1) % count)});
            (format!("d{n}"), link(next))
        });
        let mut links: Table = links.collect();
        links.insert(format!("d{}", count - 1), json!({"type": "null"}));
        json!({"type": "object", "properties": {"a": {"$ref": "#/$defs/d0"}}, "$defs": links})
    };
    let negated = |next: Value| (0..60).fold(next, |schema, _| json!({"not": schema}));
    assert_ends(&chain(5_000, &|next| next), "too ");
    assert_ends(&chain(50, &|next| next), "");
    assert_ends(&chain(500, &negated), "too ");
    let property = |next: Value| json!({"type": "object", "properties": {"a": next}});
    assert_ends(&chain(5_000, &property), "too ");
    // The last one contains the first chains, so that no chain is long by itself.
    let mut several = chain(5_000, &|next| next);
    let order: Table = (0..5_000)
        .rev()
        .step_by(40)
        .map(|n| (format!("p{n}"), json!({"$ref": format!("#/$defs/d{n}")})))
        .collect();
    several["properties"] = order.into();
    assert_ends(&several, "too ");
}

#[test]
fn definitions_that_all_refer_to_each_other_are_read_in_bounded_time() {
    let links = (0..5_000).map(|n| {
        let next = json!({"$ref": format!("#/$defs/d{}", n * 2 + 1)});
        let hub = json!({"$ref": "#/$defs/d0"});
        (
            format!("d{n}"),
            json!({"type": "object", "properties": {"a": next, "b": hub}}),
        )
    });
    let links: Table = links.collect();
    let start = std::time::Instant::now();
    drop(read(&json!({"$ref": "#/$defs/d0", "$defs": links})));
    assert!(start.elapsed().as_secs() < 20, "{:?}", start.elapsed());
}

#[test]
fn the_number_of_faults_of_negations_is_bounded() {
    let property = |n: u32| (format!("p{n}"), json!({"not": {"minimum": 1}}));
    let properties: Table = (0..10_000).map(property).collect();
    let schema = json!({"type": "object", "properties": properties});
    assert_eq!(read(&schema).unwrap_err().0.len(), MAX_REPORTS);
}

#[test]
fn an_answer_that_takes_too_long_to_check_is_refused() {
    let mut definitions = json!({"d16": {"type": "integer"}});
    for level in 0..16 {
        let next = json!({"$ref": format!("#/$defs/d{}", level + 1)});
        definitions[format!("d{level}")] = json!({"allOf": [next, next]});
    }
    let schema = json!({"type": "object", "$defs": definitions, "required": ["a"],
        "properties": {"a": {"type": "array", "items": {"$ref": "#/$defs/d0"}}}});
    let answer = read(&schema).unwrap();
    assert_eq!(answer.check(&json!({"a": [1, 2, 3]})), Ok(()));
    let error = answer.check(&json!({"a": vec![1; 5000]})).unwrap_err();
    assert_eq!(error, CheckError::TooCostly);
}
