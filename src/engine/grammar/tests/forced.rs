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
