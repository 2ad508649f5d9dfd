//! Property tests: the grammar of a random schema allows only texts that the validator accepts.

use proptest::prelude::*;

use super::*;

/// Generates small patterns as people write them.
fn pattern() -> impl Strategy<Value = String> {
    let atom = prop_oneof![
        "[ab1.]".prop_map(|text| text),
        Just("\\d".to_owned()),
        Just("\\w".to_owned()),
        Just("\\s".to_owned()),
        Just("\\D".to_owned()),
        Just("[^a]".to_owned()),
        Just("[\\s1]".to_owned()),
        Just("\\.".to_owned()),
    ];
    let part = atom.prop_recursive(3, 12, 3, |inner| {
        let anchored =
            (inner.clone(), any::<bool>(), any::<bool>()).prop_map(|(inner, begins, ends)| {
                format!(
                    "{}{inner}{}",
                    if begins { "^" } else { "" },
                    if ends { "$" } else { "" }
                )
            });
        prop_oneof![
            proptest::collection::vec(inner.clone(), 1..3).prop_map(|parts| parts.concat()),
            (inner.clone(), "[?*+]|\\{1,2\\}")
                .prop_map(|(inner, times)| format!("({inner}){times}")),
            (anchored.clone(), anchored.clone()).prop_map(|(a, b)| format!("{a}|{b}")),
            (anchored.clone(), anchored.clone()).prop_map(|(a, b)| format!("({a}|{b})")),
            anchored,
        ]
    });
    part.prop_filter("rejected patterns are not enforced", |pattern| {
        let schema = json!({"type": "object", "properties": {"v": {"type": "string", "pattern": pattern, "maxLength": 6}}});
        AnswerSchema::json(&schema, LIMITS)
            .is_ok_and(|answer| answer.doubtful.iter().all(|(_, part)| check(part).is_ok()))
    })
}

fn number() -> impl Strategy<Value = Value> {
    prop_oneof![
        (-30..30_i64).prop_map(Value::from),
        (-3000..3000_i32).prop_map(|n| Value::from(f64::from(n) / 100.0)),
        (-30..30_i32, 0..20_i32)
            .prop_map(|(n, power)| Value::from(f64::from(n) * 0.1_f64.powi(power))),
        any::<i64>().prop_map(Value::from),
        (-1e20..1e20).prop_map(Value::from),
    ]
}

fn bounded_number() -> impl Strategy<Value = Value> {
    let bound = || proptest::option::of(number());
    let step = prop_oneof![
        3 => Just(None),
        1 => (1..50_i64).prop_map(|n| Some(Value::from(n))),
        1 => (1..500_i32).prop_map(|n| Some(Value::from(f64::from(n) / 100.0))),
    ];
    let kind = prop_oneof![Just("integer"), Just("number")];
    (kind, bound(), bound(), bound(), bound(), step).prop_map(|(kind, a, b, c, d, step)| {
        let mut schema = json!({"type": kind});
        let keys = [
            "minimum",
            "exclusiveMinimum",
            "maximum",
            "exclusiveMaximum",
            "multipleOf",
        ];
        for (key, value) in keys.into_iter().zip([a, b, c, d, step]) {
            if let Some(value) = value {
                schema[key] = value;
            }
        }
        schema
    })
}

/// Cases of each property. A build without optimisation takes ten times as long for each.
const CASES: u32 = if cfg!(debug_assertions) { 30 } else { 300 };

/// Generates schemas of answers with a few fields of all kinds.
fn fields() -> impl Strategy<Value = Value> {
    let words = proptest::collection::btree_set("[abü\"{]{1,4}", 1..4);
    let field = prop_oneof![
        words.prop_map(|words| json!({"enum": words})),
        Just(json!({"type": "boolean"})),
        Just(json!({"type": "null"})),
        Just(json!({"type": "string", "maxLength": 2})),
        Just(json!({"type": "integer", "minimum": 8, "maximum": 11})),
        Just(
            json!({"type": "array", "items": {"enum": ["x", "yy"]}, "minItems": 1, "maxItems": 2})
        ),
        Just(
            json!({"type": "object", "properties": {"in": {"const": "ner"}}, "required": ["in"], "additionalProperties": false})
        ),
    ];
    proptest::collection::vec((field, any::<bool>()), 1..4).prop_map(|fields| {
        let name = |at: usize| format!("f{at}");
        let required: Vec<_> = (0..fields.len()).filter(|at| fields[*at].1).map(name).collect();
        let properties = fields.into_iter().enumerate();
        let properties: serde_json::Map<_, _> = properties.map(|(at, (field, _))| (name(at), field)).collect();
        json!({"type": "object", "properties": properties, "required": required, "additionalProperties": false})
    })
}

/// Returns the bytes that `grammar` allows next.
fn open_bytes(grammar: &mut Grammar) -> Vec<u8> {
    let mut allowed = Vec::new();
    grammar
        .mask()
        .unwrap()
        .apply(&[0.0; 256], &[], &mut allowed);
    (0..=u8::MAX)
        .filter(|byte| allowed[usize::from(*byte)] == 0.0)
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(CASES))]

    /// The text is therefore the same as if every token had been sampled within the grammar.
    #[test]
    fn a_forced_token_is_the_only_one_that_may_come_next(schema in fields(), choices in proptest::collection::vec(any::<prop::sample::Index>(), 100)) {
        let mut fast = GRAMMARS.with(|grammars| grammars.json(&schema)).unwrap();
        let mut slow = GRAMMARS.with(|grammars| grammars.json(&schema)).unwrap();
        for choice in choices {
            for token in fast.fast_forward().unwrap() {
                prop_assert!(!slow.is_complete() && !slow.may_end().unwrap());
                prop_assert_eq!(open_bytes(&mut slow), [u8::try_from(token.0).unwrap()]);
                slow.accept(token).unwrap();
            }
            prop_assert_eq!(fast.is_complete(), slow.is_complete());
            if slow.is_complete() {
                break;
            }
            let open = open_bytes(&mut slow);
            let token = Token::from(*choice.get(&open));
            for grammar in [&mut fast, &mut slow] {
                grammar.accept(token).unwrap();
            }
        }
    }

    #[test]
    fn grammar_and_validator_agree_on_a_pattern(pattern in pattern(), texts in proptest::collection::vec("[ab1.\n\r\u{2028}\u{a0}\u{661}_ ü]{0,4}", 8)) {
        let answer = answer(&json!({"type": "string", "pattern": pattern, "maxLength": 6}));
        for text in texts {
            let (is_written, is_right) = judged(&answer, &Value::from(text.as_str()).to_string());
            prop_assert_eq!(is_written, is_right, "{} {:?}", pattern, text);
        }
    }

    #[test]
    fn the_grammar_allows_only_numbers_that_satisfy_the_schema(schema in bounded_number(), texts in proptest::collection::vec("-?(0|[1-9][0-9]{0,2}|[1-9][0-9]{15})(\\.[0-9]{1,3})?", 12)) {
        let whole = json!({"type": "object", "properties": {"v": schema}, "required": ["v"]});
        let Ok(answer) = AnswerSchema::json(&whole, LIMITS) else {
            return Ok(());
        };
        prop_assert_eq!(check(&answer.enforced), Ok(()));
        for text in texts {
            let (is_written, is_right) = judged(&answer, &text);
            let value: f64 = text.parse().unwrap();
            prop_assert!(is_right || !is_written, "{} {} is written", schema, text);
            // The grammar is narrower: no 1.0 for an integer, no -0, and no integer that a double cannot represent.
            let is_narrowed = value.abs() > 9_007_199_254_740_991.0
                || (value.abs() > 90_071_992.0 && schema["multipleOf"].is_f64())
                || (value == 0.0 && text.starts_with('-'))
                || (text.contains('.') && (schema["type"] == "integer" || schema["multipleOf"].is_number()));
            // Some bounds are expressed as text that requires a certain number of trailing zeros.
            let (whole, fraction) = text.split_once('.').unwrap_or((&text, ""));
            let digits = fraction.trim_end_matches('0');
            let mut lengths = digits.len()..=8;
            let is_written = is_written
                || (digits.is_empty() && judged(&answer, whole).0)
                || lengths.any(|length| length > 0 && judged(&answer, &format!("{whole}.{digits:0<length$}")).0);
            prop_assert!(is_written || !is_right || is_narrowed, "{} {} is not", schema, text);
        }
    }
}
