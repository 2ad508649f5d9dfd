//! Tests of the tokens that a grammar forces.

use super::*;

/// Returns the text that the grammar forces next.
fn forced(grammar: &mut Grammar) -> String {
    let tokens = grammar.fast_forward().unwrap();
    tokens
        .iter()
        .map(|token| char::from(u8::try_from(token.0).unwrap()))
        .collect()
}

#[test]
fn a_grammar_forces_everything_but_the_open_parts_of_an_answer() {
    let schema = json!({
        "type": "object",
        "properties": {"mood": {"enum": ["good", "bad"]}, "days": {"type": "integer", "minimum": 10, "maximum": 19}},
        "required": ["mood", "days"],
        "additionalProperties": false,
    });
    let mut grammar = GRAMMARS.with(|grammars| grammars.json(&schema)).unwrap();
    assert_eq!(forced(&mut grammar), r#"{"mood": ""#);
    assert_eq!(forced(&mut grammar), "", "the model chooses");
    grammar.accept(b'b'.into()).unwrap();
    assert_eq!(forced(&mut grammar), r#"ad", "days": 1"#);
    grammar.accept(b'4'.into()).unwrap();
    assert_eq!(forced(&mut grammar), "}");
    assert!(grammar.is_complete());
}

#[test]
fn hundreds_of_fixed_properties_are_forced_at_once() {
    let names: Vec<String> = (0..400).map(|at| format!("property_{at}")).collect();
    let properties: serde_json::Map<String, Value> = names
        .iter()
        .map(|name| (name.clone(), json!({"const": "a fixed text"})))
        .collect();
    let schema = json!({"type": "object", "properties": properties, "required": names, "additionalProperties": false});
    let mut grammar = GRAMMARS.with(|grammars| grammars.json(&schema)).unwrap();
    let mut text = String::new();
    loop {
        let next = forced(&mut grammar);
        if next.is_empty() {
            break;
        }
        text.push_str(&next);
    }
    assert!(grammar.is_complete(), "{} bytes", text.len());
    let answer: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(answer.as_object().map(serde_json::Map::len), Some(400));
}

#[test]
fn nothing_is_forced_inside_a_free_text() {
    let schema = json!({"type": "string"});
    let mut grammar = GRAMMARS.with(|grammars| grammars.json(&schema)).unwrap();
    assert_eq!(forced(&mut grammar), "\"");
    for byte in *b"so it is" {
        grammar.accept(byte.into()).unwrap();
        assert_eq!(forced(&mut grammar), "");
    }
    grammar.accept(b'"'.into()).unwrap();
    assert!(grammar.is_complete());
}
