//! Describes schemas and values in words, for error messages and hints.

use serde_json::Value;

use crate::config::file::{NAME_PATTERN, NOT_BLANK};
use crate::config::foreign::switch;
use crate::config::units;

/// Format of the filters of `tracing`.
pub(super) const LOG_LEVEL: &str = "log level";

/// [`NAME_PATTERN`] in words.
pub(super) const NAME: &str = "1 to 64 letters, digits, `_` or `-`";

/// The allowed names of arguments, in words: templates use them as variables.
pub(super) const ARGUMENT: &str = "1 to 64 letters, digits or `_`, and must not begin with a digit";

/// Describes the values that a schema allows.
pub(super) fn allowed(schema: &Value) -> String {
    let range = range(schema).map(|range| format!(" from {range}"));
    let bound = |key: &str, words: &str| {
        let bound = schema.get(key)?;
        Some(format!(" {words} {}", plain(bound)))
    };
    let range = range
        .or_else(|| bound("minimum", "of at least"))
        .or_else(|| bound("maximum", "of at most"))
        .unwrap_or_default();
    if let Some(options) = schema.get("enum").and_then(Value::as_array) {
        let options: Vec<String> = options
            .iter()
            .map(|option| match option {
                Value::String(text) => format!("`{text}`"),
                other => other.to_string(),
            })
            .collect();
        return one_of(&options);
    }
    let examples = schema.get("examples").and_then(Value::as_array);
    match (schema["format"].as_str(), examples) {
        (Some(LOG_LEVEL), _) => return "a level such as `info`, or levels by module such as `warn,llama_mcp_server=debug`".into(),
        // The format of a number gives its width.
        (Some(format), Some(examples)) if examples.iter().any(Value::is_string) => {
            let examples: Vec<String> = examples.iter().map(|example| example.as_str().map_or_else(|| format!("`{example}`"), |text| format!("`{text}`"))).collect();
            let seconds = seconds(schema).unwrap_or_default();
            return format!("a {format} such as {}{seconds}", one_of(&examples)).replace("a idle", "an idle");
        }
        _ => {}
    }
    match schema["type"].as_str() {
        Some("integer") => format!("a whole number{range}"),
        Some("number") => format!("a number{range}"),
        Some("boolean") => "true or false".into(),
        Some("array") => {
            let items = match schema["items"]["type"].as_str() {
                Some("integer") => "whole numbers",
                Some("number") => "numbers",
                Some("boolean") => "true or false",
                _ => "strings",
            };
            let count = count(schema, "minItems", "maxItems");
            let count = count.map(|count| format!(", {count}")).unwrap_or_default();
            let unique = if schema["uniqueItems"] == true {
                ", each only once"
            } else {
                ""
            };
            format!("an array of {items}{count}{unique}")
        }
        Some("object") => match count(schema, "minProperties", "maxProperties") {
            Some(count) => format!("a table of {count} keys"),
            None => "a table".into(),
        },
        Some("string") if schema["pattern"] == NAME_PATTERN => NAME.into(),
        Some("string") => {
            let count = count(schema, "minLength", "maxLength");
            let count = count.map(|count| format!(" of {count} characters"));
            let not_blank = if schema["pattern"] == NOT_BLANK {
                " that is not blank"
            } else {
                ""
            };
            format!("a string{}{not_blank}", count.unwrap_or_default())
        }
        _ => "a string".into(),
    }
}

/// Describes the number of characters or items that a schema allows.
fn count(schema: &Value, min: &str, max: &str) -> Option<String> {
    let bound = |key: &str| schema.get(key).filter(|bound| **bound != 0);
    match (bound(min), schema.get(max)) {
        (Some(min), Some(max)) if min == max => Some(format!("exactly {min}")),
        (Some(min), Some(max)) => Some(format!("{min} to {max}")),
        (None, Some(max)) => Some(format!("at most {max}")),
        (Some(min), None) => Some(format!("at least {min}")),
        (None, None) => None,
    }
}

/// Returns the range of numbers that a schema allows, such as `0 to 5`. Returns `None` for strings with units.
pub(super) fn range(schema: &Value) -> Option<String> {
    schema["type"].as_str()?;
    bounds(schema)
}

/// Returns the range of a time, such as `, from 1 to 3600 seconds`. Returns `None` if it is the range of all times.
fn seconds(schema: &Value) -> Option<String> {
    let is_own = schema["format"] == units::TIME && schema["maximum"] != units::LONGEST.as_secs();
    let bounds = bounds(schema).filter(|_| is_own)?;
    Some(format!(", from {bounds} seconds"))
}

fn bounds(schema: &Value) -> Option<String> {
    let (min, max) = (schema.get("minimum")?, schema.get("maximum")?);
    Some(format!("{} to {}", plain(min), plain(max)))
}

/// Returns the JSON text of `value`, a whole number without a fraction: `1` for 1.0.
pub(crate) fn plain(value: &Value) -> String {
    let text = value.to_string();
    match text.strip_suffix(".0") {
        Some(whole) if value.is_number() => whole.to_owned(),
        _ => text,
    }
}

fn one_of(options: &[String]) -> String {
    match options {
        [all @ .., last] if !all.is_empty() => format!("{} or {last}", all.join(", ")),
        _ => options.concat(),
    }
}

/// Returns a hint for a common mistake.
pub(super) fn hint(schema: &Value, found: &Value) -> Option<String> {
    let kind = schema["type"].as_str();
    let format = schema["format"].as_str();
    if let (Value::String(text), Some(units::TIME | units::IDLE_TIME)) = (found, format)
        && let Some(hours) = in_hours(text)
    {
        return Some(format!("hours are the largest unit: write `\"{hours}h\"`"));
    }
    match (kind, found) {
        (_, Value::Number(_)) if format == Some(units::IDLE_TIME) => {
            Some("write `\"never\"` for no limit".into())
        }
        (Some("integer" | "number"), Value::String(text))
            if text.parse::<f64>().is_ok_and(f64::is_finite) =>
        {
            Some(format!("remove the quotes: `{text}`"))
        }
        (Some("boolean"), Value::String(text)) if text == "true" || text == "false" => {
            Some(format!("remove the quotes: `{text}`"))
        }
        (Some("boolean"), found) => switch(found).map(|is_on| format!("write `{is_on}`")),
        (Some("string"), Value::Number(number)) => Some(format!("quote it: `\"{number}\"`")),
        (Some("object"), Value::String(_)) => {
            let example = schema.get("examples")?.get(0)?;
            Some(format!("write a table, such as `'{example}'`"))
        }
        (Some("array"), Value::String(text)) => Some(format!(
            "put it into brackets: `[{}]`",
            Value::from(text.as_str())
        )),
        (_, Value::String(text)) => {
            let options = schema.get("enum")?.as_array()?;
            let options: Vec<&str> = options.iter().filter_map(Value::as_str).collect();
            nearest(text, &options).map(|option| format!("did you mean `{option}`?"))
        }
        _ => None,
    }
}

/// Converts a time in days or weeks to hours, rounded up.
fn in_hours(text: &str) -> Option<f64> {
    let text = text.trim();
    let number = text.trim_end_matches(char::is_alphabetic);
    let days = match &text[number.len()..] {
        "d" | "day" | "days" => 1.0,
        "w" | "week" | "weeks" => 7.0,
        _ => return None,
    };
    let number: f64 = number.trim().parse().ok()?;
    Some((number * days * 24.0).ceil()).filter(|hours| (0.0..1e6).contains(hours))
}

/// Returns the name among `known` that was probably meant by `found`.
pub(crate) fn nearest<'a>(found: &str, known: &[&'a str]) -> Option<&'a str> {
    /// Similarity below which a match is accidental (measured on all pairs of keys).
    const MIN_SIMILARITY: f64 = 0.8;
    let best = known
        .iter()
        .map(|name| (similarity(found, name), *name))
        .max_by(|a, b| a.0.total_cmp(&b.0));
    best.filter(|(similarity, _)| *similarity >= MIN_SIMILARITY)
        .map(|(_, name)| name)
}

/// Returns the similarity of two names, from 0 to 1.
fn similarity(found: &str, known: &str) -> f64 {
    let found = found.to_lowercase().replace('-', "_");
    strsim::jaro_winkler(&found, &known.to_lowercase())
}

/// Returns a hint that names the known keys most similar to `found`, and the command that lists all keys.
pub(super) fn similar(found: &str, known: &[&str]) -> String {
    /// Maximum number of keys in the hint.
    const MAX_KEYS: usize = 3;
    /// Similarity below which names look unrelated to a reader.
    const MIN_SIMILARITY: f64 = 0.6;
    let mut ranked: Vec<(f64, &str)> = known
        .iter()
        .map(|name| (similarity(found, name), *name))
        .filter(|(similarity, _)| *similarity >= MIN_SIMILARITY)
        .collect();
    ranked.sort_by(|a, b| b.0.total_cmp(&a.0));
    let named: Vec<String> = (ranked.iter().take(MAX_KEYS))
        .map(|(_, name)| format!("`{name}`"))
        .collect();
    let list = "`llama-mcp-server config reference` lists all keys";
    match &named[..] {
        [] => list.to_owned(),
        named => format!("similar keys: {}; {list}", named.join(", ")),
    }
}

/// Returns a hint for the unknown name `found`: the most similar of the `known` names, or all of them.
pub(crate) fn suggestion(found: &str, known: &[&str]) -> String {
    if known.is_empty() {
        return "none are defined".into();
    }
    nearest(found, known).map_or_else(
        || {
            format!(
                "available: {}",
                known
                    .iter()
                    .map(|name| format!("`{name}`"))
                    .collect::<Vec<_>>()
                    .join(", ")
            )
        },
        |name| format!("did you mean `{name}`?"),
    )
}

/// Longest quoted value, in characters.
const MAX_SHOWN: usize = 60;

/// Quotes a value for an error message. Long values are truncated.
pub(crate) fn shown(value: &Value) -> String {
    let (kind, text) = match value {
        Value::Object(_) => return "an object".into(),
        Value::Array(items) if items.is_empty() => return "an empty array".into(),
        Value::Array(items) => return format!("an array of {}", items.len()),
        Value::String(_) => ("the string ", value.to_string()),
        _ => ("", value.to_string()),
    };
    let cut: String = text.chars().take(MAX_SHOWN).collect();
    let more = if cut.len() < text.len() { "…" } else { "" };
    format!("{kind}{cut}{more}")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{allowed, in_hours, similar};

    #[test]
    fn at_most_three_similar_keys_are_suggested() {
        let known = ["alpha_a", "alpha_b", "alpha_c", "alpha_d", "zzz"];
        let hint = similar("alpha", &known);
        assert_eq!(hint.matches("`alpha_").count(), 3, "{hint}");
        assert!(hint.ends_with("; `llama-mcp-server config reference` lists all keys"));
        assert!(!similar("qqq", &known).contains("similar"));
    }

    #[test]
    fn days_and_weeks_are_converted_to_hours() {
        let hours = ["1d", "2 weeks", "0.1 day", "1h", "d", "-1d"].map(in_hours);
        assert_eq!(
            hours,
            [Some(24.0), Some(336.0), Some(3.0), None, None, None]
        );
    }

    #[test]
    fn a_fixed_number_of_items_is_not_described_as_a_range() {
        let tags =
            json!({"type": "array", "items": {"type": "string"}, "minItems": 2, "maxItems": 2});
        assert_eq!(allowed(&tags), "an array of strings, exactly 2");
    }
}
