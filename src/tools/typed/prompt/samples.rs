//! Samples of the arguments of a prompt, for trials. Pure.

use std::iter;
use std::sync::LazyLock;

use regex::Regex;
use serde_json::{Map, Value, json};

use crate::config::tool::Argument;
use crate::config::validate::ValueCheck;
use crate::tools::typed::sample::{self, SampleSize};

/// Most samples of one tool.
const MAX_SAMPLES: usize = 200;

/// Most literal strings and numbers of a template that are tried as values.
const MAX_LITERALS: usize = 20;

/// A text of several lines, with separators at which templates may split it.
const PARTS: &str = "a: b\nc = d, e\n\nf";

/// The length of a long text or array.
const LONG: usize = 1000;

/// Returns samples of the values of `arguments`.
///
/// A sample combines the values of an `enum` or a boolean, empty, short and long values, and the literal strings and numbers of the template
/// `source`, also as items.
pub(super) fn samples(
    source: &str,
    arguments: &[Argument],
) -> impl Iterator<Item = Map<String, Value>> {
    let literals = literals(source);
    let candidates: Vec<(String, Vec<Value>)> = arguments
        .iter()
        .map(|argument| (argument.name.clone(), candidates(argument, &literals)))
        .collect();
    let numbers = candidates.iter().map(|(_, values)| values.len());
    let all = numbers.fold(1_usize, usize::saturating_mul);
    // If there are too many combinations, a selection is tried in which every value of every argument occurs.
    let most = all.min(MAX_SAMPLES);
    (0..most).map(move |at| {
        let mut rest = at;
        let value = |(name, values): &(String, Vec<Value>)| {
            let chosen = if all > most { at } else { rest } % values.len();
            rest /= values.len();
            (name.clone(), values[chosen].clone())
        };
        candidates.iter().map(value).collect()
    })
}

/// Returns the values to try for `argument`, at least one.
fn candidates(argument: &Argument, literals: &[Value]) -> Vec<Value> {
    let schema = &argument.schema;
    let listed = schema["enum"].as_array();
    if let Some(listed) = listed.filter(|listed| !listed.is_empty()) {
        return listed.clone();
    }
    let one = std::slice::from_ref(argument);
    let plain = [SampleSize::Small, SampleSize::Large].map(|size| sample::values(one, size));
    let mut all: Vec<Value> = plain.into_iter().flat_map(Map::into_values).collect();
    let long = match all.first() {
        Some(Value::Array(items)) => items.iter().cycle().take(LONG).cloned().collect(),
        _ => "a".repeat(LONG).into(),
    };
    let more = [json!(""), json!([]), json!(0), long, PARTS.into()];
    let more = more.into_iter().chain(argument.default.clone());
    let texts = literals.iter().cloned();
    let items = iter::once(&json!(PARTS))
        .chain(literals)
        .map(|item| json!([item]))
        .collect::<Vec<_>>();
    let check = ValueCheck::new(schema);
    for value in more.chain(texts).chain(items) {
        if !all.contains(&value) && check.check(&value).is_ok() {
            all.push(value);
        }
    }
    all
}

/// Returns the literal strings and numbers of `source`.
fn literals(source: &str) -> Vec<Value> {
    static LITERAL: LazyLock<Regex> = LazyLock::new(|| {
        Regex::new(r#""((?:[^"\\]|\\.)*)"|'((?:[^'\\]|\\.)*)'|-?\b\d+(?:\.\d+)?\b"#)
            .expect("the pattern is a constant and valid")
    });
    let found = LITERAL.captures_iter(source).take(MAX_LITERALS);
    found
        .flat_map(|found| match found.get(1).or(found.get(2)) {
            Some(text) => vec![unescaped(text.as_str()).into()],
            None => near(&found[0]),
        })
        .collect()
}

/// Returns the literal `text` with its escapes replaced: `\n` becomes a line break.
fn unescaped(text: &str) -> String {
    let mut plain = String::new();
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        if c != '\\' {
            plain.push(c);
            continue;
        }
        match chars.next() {
            Some('n') => plain.push('\n'),
            Some('t') => plain.push('\t'),
            Some('r') => plain.push('\r'),
            Some(escaped @ ('"' | '\'' | '\\')) => plain.push(escaped),
            escaped => plain.extend(iter::once(c).chain(escaped)),
        }
    }
    plain
}

/// Returns the number `text` and its neighbours: a template may compare with `>`.
fn near(text: &str) -> Vec<Value> {
    match (text.parse::<i64>(), text.parse::<f64>()) {
        (Ok(number), _) => [-1, 0, 1]
            .iter()
            .filter_map(|by| number.checked_add(*by))
            .map(Value::from)
            .collect(),
        (_, Ok(number)) => [-1.0, 0.0, 1.0].map(|by| Value::from(number + by)).into(),
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn argument(name: &str, schema: Value) -> Argument {
        Argument {
            name: name.into(),
            schema,
            default: None,
        }
    }

    #[test]
    fn every_value_of_an_enum_and_every_literal_of_the_template_is_tried() {
        let arguments = [
            argument("mode", json!({"type": "string", "enum": ["a", "b", "c"]})),
            argument("text", json!({"type": "string"})),
            argument("count", json!({"type": "integer", "minimum": 0})),
            argument(
                "list",
                json!({"type": "array", "items": {"type": "string"}}),
            ),
        ];
        let source = r"{% if text == 'yes' and count > 70 and '\n\t' in text %}";
        let tried: Vec<_> = samples(source, &arguments).collect();
        assert!(tried.len() <= MAX_SAMPLES);
        for (name, value) in [
            ("mode", json!("b")),
            ("text", json!("yes")),
            ("text", json!("")),
            ("text", json!("\n\t")),
            ("text", json!(PARTS)),
            ("list", json!(["yes"])),
            ("list", json!([PARTS])),
            ("count", json!(71)),
        ] {
            assert!(tried.iter().any(|sample| sample[name] == value), "{value}");
        }
        assert!(tried.iter().all(|sample| sample["count"] != json!(-1)));
        assert_eq!(samples(source, &[]).count(), 1);
    }
}
