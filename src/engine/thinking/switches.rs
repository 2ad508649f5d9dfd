//! Variables of chat templates that switch reasoning on or off.

use std::sync::LazyLock;

use regex::Regex;
use serde_json::{Map, Value, json};

/// Returns the known variables of `template` that switch reasoning, with the values that switch it `on` or off.
///
/// ```text
/// switches("{% if enable_thinking %}<think>{% endif %}", false) == {"enable_thinking": false}
/// ```
pub(crate) fn switches(template: &str, on: bool) -> Map<String, Value> {
    let mut switches = Map::new();
    let has = |name: &str| words_of(template).any(|(_, word)| word == name);
    for name in ["enable_thinking", "thinking", "reasoning"] {
        if has(name) {
            switches.insert(name.into(), on.into());
        }
    }
    let near = |name: &str, value: &str| {
        let quoted = [format!("'{value}'"), format!("\"{value}\"")];
        words_of(template)
            .filter(|(_, word)| *word == name)
            .any(|(at, _)| {
                let behind: String = template[at..].chars().take(NEAR).collect();
                quoted.iter().any(|quoted| behind.contains(quoted))
            })
    };
    for (name, offs, ons) in [
        ("thinking_mode", &["disabled"][..], &["enabled"][..]),
        (
            "reasoning_effort",
            &["none", "no_think", "minimal"][..],
            &["high"][..],
        ),
    ] {
        let can_be_off = offs.iter().find(|value| near(name, value));
        let wanted = if on {
            ons.iter().find(|value| near(name, value))
        } else {
            can_be_off
        };
        if let (Some(_), Some(value)) = (can_be_off, wanted) {
            switches.insert(name.into(), json!(value));
        }
    }
    if !on && has("thinking_budget") {
        switches.insert("thinking_budget".into(), 0.into());
    }
    switches
}

/// Number of characters after a variable in which its values are searched for.
const NEAR: usize = 150;

/// Returns the names in `template` with their positions, without members such as `message.thinking`.
fn words_of(template: &str) -> impl Iterator<Item = (usize, &str)> {
    static WORD: LazyLock<Regex> = LazyLock::new(|| {
        Regex::new("[.A-Za-z_][A-Za-z0-9_]*").expect("the constant pattern is valid")
    });
    let words = WORD.find_iter(template);
    words.map(|found| (found.start(), found.as_str()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasoning_is_switched_off_with_the_variables_of_the_template() {
        let off = |template| Value::Object(switches(template, false));
        assert_eq!(off("{{ messages }}"), json!({}));
        assert_eq!(off("{{ message.thinking }}"), json!({}));
        assert_eq!(
            off("{% if not thinking is defined %}"),
            json!({"thinking": false})
        );
        assert_eq!(
            off("{% if thinking_mode == \"disabled\" %}"),
            json!({"thinking_mode": "disabled"})
        );
        assert_eq!(
            off("{% elif reasoning_effort not in ['high', 'low', 'no_think'] %}"),
            json!({"reasoning_effort": "no_think"})
        );
        // This template has no value that switches reasoning off.
        assert_eq!(off("{% set reasoning_effort = 'medium' %}"), json!({}));
        assert_eq!(
            off("{% if thinking_budget == 0 %}"),
            json!({"thinking_budget": 0})
        );
    }

    #[test]
    fn reasoning_is_switched_on_with_the_variables_of_the_template() {
        let on = |template| Value::Object(switches(template, true));
        assert_eq!(
            on("{% if enable_thinking %}"),
            json!({"enable_thinking": true})
        );
        assert_eq!(
            on("{% if reasoning_effort not in ['high', 'no_think'] %}"),
            json!({"reasoning_effort": "high"})
        );
        assert_eq!(on("{% if thinking_budget %}"), json!({}));
    }
}
