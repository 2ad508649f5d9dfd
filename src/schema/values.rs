//! Listed values, strings and numbers.

use std::collections::HashSet;

use serde_json::Value;

use super::conjunction::{Part, count_range, pointer_to};
use super::formats::TextFormat;
use super::lower::{Lowering, Producer};
use super::negation::EXCLUDED;
use super::node::{Kind, Node, NumberNode, Pattern, TextNode};
use super::number::{number, remainders};
use super::types::{self, has_type};
use super::validator::Validator;
use super::{SchemaFault, Table, fault, formats, pattern};
use crate::json::depth;
use crate::json::integer::{whole, whole_value};

/// Maximum nesting of arrays and objects in a listed value.
const MAX_DEPTH: usize = 64;

/// Maximum number of values that a note shows.
const MAX_SHOWN: usize = 10;

/// Maximum number of patterns in a schema. Each is compiled twice: for the check and for the grammar.
const MAX_PATTERNS: usize = 100;

impl<'c> Lowering<'c> {
    /// Returns the node of those `values` that the other keywords of `parts` allow.
    pub(super) fn values(
        &mut self,
        parts: &[Part<'c>],
        values: &[(String, &'c Value)],
        types: Option<&[&str]>,
    ) -> Node {
        let at = values.first().map_or_else(
            || {
                parts
                    .first()
                    .map_or_else(|| "#".to_owned(), |part| part.at.clone())
            },
            |(at, _)| at.clone(),
        );
        for (at, value) in values {
            if depth(value) > MAX_DEPTH {
                return self.fault(fault(
                    at,
                    format!("values nest more than {MAX_DEPTH} levels deep; reduce the nesting"),
                ));
            }
            if let Some(number) = inexact(value) {
                // A listed value cannot be rounded, because clients see it.
                self.fault(fault(
                    at,
                    format!(
                        "{number} cannot be represented exactly as a double; write it as a string"
                    ),
                ));
            }
        }
        let more = self.keywords_of(parts, values);
        let excluded: HashSet<String> = parts
            .iter()
            .filter_map(|part| part.table.get(EXCLUDED)?.as_array())
            .flatten()
            .map(Value::to_string)
            .collect();
        let is_allowed = |value: &&Value| {
            types.is_none_or(|types| types.iter().any(|kind| has_type(value, kind)))
                && (excluded.is_empty() || !excluded.contains(&value.to_string()))
                && more.as_ref().is_none_or(|more| more.is_valid(value))
        };
        let values = values.iter().map(|(_, value)| *value);
        let (allowed, left): (Vec<&Value>, Vec<&Value>) = values.partition(is_allowed);
        let allowed: Vec<Value> = allowed.into_iter().cloned().collect();
        if allowed.is_empty() {
            return self.contradiction(fault(
                &at,
                "no listed value satisfies the other keywords; change the list, or remove them",
            ));
        }
        // The value may still be allowed by another alternative.
        if !left.is_empty() && self.branches == 0 {
            self.note(
                &at,
                format!(
                    "{} never occurs: another keyword forbids it",
                    shortened_list(&left)
                ),
            );
        }
        Node::new(Kind::Values(allowed))
    }

    /// Compiles a validator of `values` against the keywords of `parts`. Returns `None` if no keyword applies to one of them.
    fn keywords_of(
        &mut self,
        parts: &[Part<'c>],
        values: &[(String, &'c Value)],
    ) -> Option<Validator> {
        let applies = |key: &str| {
            let types = types::TYPES.iter();
            let mut types = types.filter(|kind| types::keywords_of(kind).contains(&key));
            types.any(|kind| values.iter().any(|(_, value)| has_type(value, kind)))
        };
        let relevant = |part: &Part<'c>| -> Table {
            let keys = part.table.iter().filter(|(key, _)| applies(key));
            keys.map(|(key, value)| (key.clone(), value.clone()))
                .collect()
        };
        let tables: Vec<Table> = parts.iter().map(relevant).collect();
        let is_constrained = tables.iter().any(|table| !table.is_empty());
        is_constrained.then(|| self.validator(&tables)).flatten()
    }

    /// Counts the pattern at `at`. Fails if the schema has too many patterns.
    pub(super) fn count_pattern(&mut self, at: &str) -> Result<(), SchemaFault> {
        self.patterns += 1;
        if self.patterns > MAX_PATTERNS {
            return Err(fault(
                at,
                format!("the schema has more than {MAX_PATTERNS} patterns; use fewer"),
            ));
        }
        Ok(())
    }

    pub(super) fn number(&mut self, is_integer: bool, parts: &[Part<'c>]) -> Node {
        let is_said = |part: &&Part<'_>| {
            types::keywords_of("number")
                .iter()
                .any(|key| part.table.contains_key(*key))
        };
        let at = parts
            .iter()
            .find(is_said)
            .or(parts.first())
            .map_or("#", |part| part.at.as_str());
        let at = at.to_owned();
        let at = at.as_str();
        let merged = match merged_numbers(parts) {
            Ok(merged) => merged,
            Err(fault) => return self.fault(fault),
        };
        let enforced = match (number(is_integer, &merged, at), self.producer) {
            (Err(_), Producer::Client) => Ok(Value::Bool(false)),
            (enforced, _) => enforced,
        };
        if enforced.is_ok()
            && self.producer == Producer::Model
            && self.has_too_many_remainders(remainders(&merged))
        {
            let at = format!("{at}/multipleOf");
            let reason = "is too large: the sum of all `multipleOf` in a schema, decimal points ignored (0.25 counts as 25), must be at most 100000; use smaller ones";
            return self.fault(fault(&at, reason));
        }
        match enforced {
            Ok(enforced) => Node::new(Kind::Number(NumberNode {
                is_integer,
                keywords: merged,
                enforced,
                pointer: at.to_owned(),
            })),
            Err(fault) => self.contradiction(fault),
        }
    }

    pub(super) fn text(&mut self, parts: &[Part<'c>]) -> Node {
        let mut has_fault = false;
        let (min, max) = count_range(parts, "minLength", "maxLength");
        if max.is_some_and(|max| min > max) {
            let at = pointer_to(parts, "minLength");
            let reason = format!("must be at most `maxLength`, {}", max.unwrap_or_default());
            self.contradiction(fault(&at, reason));
            has_fault = true;
        }
        let formats = parts
            .iter()
            .filter_map(|part| formats::string_format(part.table.get("format")?.as_str()?));
        let format = formats.into_iter().next();
        let patterns = self.patterns(parts, format);
        let Some(patterns) = patterns.filter(|_| !has_fault) else {
            return Node::never();
        };
        for _ in &patterns {
            if let Err(fault) = self.count_pattern(&pointer_to(parts, "pattern")) {
                return self.fault(fault);
            }
        }
        let key = if patterns.is_empty() {
            "format"
        } else {
            "pattern"
        };
        Node::new(Kind::Text(TextNode {
            min,
            max,
            patterns,
            format,
            pointer: pointer_to(parts, key),
        }))
    }

    /// Returns the distinct patterns of `parts`. Returns `None` if one has a fault. All faults are reported.
    fn patterns(
        &mut self,
        parts: &[Part<'c>],
        format: Option<&TextFormat>,
    ) -> Option<Vec<Pattern>> {
        let mut patterns: Vec<Pattern> = Vec::new();
        let mut has_fault = false;
        for part in parts {
            let Some(written) = part.table.get("pattern").and_then(Value::as_str) else {
                continue;
            };
            if patterns.iter().any(|known| known.written == written) {
                continue;
            }
            match self.enforced(&format!("{}/pattern", part.at), written, format) {
                Ok(enforced) => patterns.push(Pattern {
                    written: written.to_owned(),
                    enforced,
                }),
                Err(reason) => {
                    self.fault(reason);
                    has_fault = true;
                }
            }
        }
        (!has_fault).then_some(patterns)
    }

    /// Translates the pattern `written` at `at` for the grammar. Returns `None`, with a note, if `format` implies the pattern.
    fn enforced(
        &mut self,
        at: &str,
        written: &str,
        format: Option<&TextFormat>,
    ) -> Result<Option<String>, SchemaFault> {
        match pattern::translate(written) {
            Ok(enforced) => Ok(Some(enforced)),
            Err(_)
                if format.is_some_and(|format| pattern::matches_all(written, format.samples)) =>
            {
                let note = "checked on the finished answer only; `format` is enforced";
                self.note(at, note);
                Ok(None)
            }
            Err(reason) => Err(fault(at, reason)),
        }
    }
}

/// Returns the values that `enum` and `const` allow, each with its JSON pointer. Returns `None` if there is neither.
pub(super) fn listed<'c>(parts: &[Part<'c>]) -> Option<Vec<(String, &'c Value)>> {
    let mut lists = parts.iter().flat_map(|part| {
        let list = part
            .table
            .get("enum")
            .and_then(Value::as_array)
            .map(|values| ("enum", values.as_slice()));
        let single = part
            .table
            .get("const")
            .map(|value| ("const", std::slice::from_ref(value)));
        list.into_iter()
            .chain(single)
            .map(|(key, values)| (format!("{}/{key}", part.at), values))
    });
    let (at, first) = lists.next()?;
    let mut seen = HashSet::new();
    let mut values: Vec<&Value> = first
        .iter()
        .filter(|value| seen.insert(value.to_string()))
        .collect();
    for (_, list) in lists {
        let list: HashSet<String> = list.iter().map(Value::to_string).collect();
        values.retain(|value| list.contains(&value.to_string()));
    }
    Some(
        values
            .into_iter()
            .map(|value| (at.clone(), value))
            .collect(),
    )
}

/// Formats `values` as a list, shortened after [`MAX_SHOWN`] values.
fn shortened_list(values: &[&Value]) -> String {
    let shown = values.iter().take(MAX_SHOWN).map(ToString::to_string);
    let shown = shown.collect::<Vec<_>>().join(", ");
    match values.len().saturating_sub(MAX_SHOWN) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

/// Merges the number keywords of all parts.
fn merged_numbers(parts: &[Part<'_>]) -> Result<Table, SchemaFault> {
    let mut merged = Table::new();
    for part in parts {
        for key in ["minimum", "exclusiveMinimum", "maximum", "exclusiveMaximum"] {
            if let Some(value) = part.table.get(key) {
                tighten(&mut merged, key, value);
            }
        }
        let format = part.table.get("format").and_then(Value::as_str);
        if let Some((least, most)) = format.and_then(formats::number_range) {
            for (key, bound) in [("minimum", least), ("maximum", most)] {
                if let Ok(bound) = i64::try_from(bound) {
                    tighten(&mut merged, key, &bound.into());
                }
            }
        }
        if let Some(step) = part.table.get("multipleOf") {
            let both = merged.get("multipleOf").map_or_else(
                || Some(step.clone()),
                |former| common_multiple(former, step),
            );
            let both = both.ok_or_else(|| {
                fault(
                    &format!("{}/multipleOf", part.at),
                    "unsupported together with another `multipleOf`; write one that implies both",
                )
            })?;
            merged.insert("multipleOf".into(), both);
        }
    }
    Ok(merged)
}

/// Replaces the bound `key` with `value` if `value` is tighter.
fn tighten(merged: &mut Table, key: &str, value: &Value) {
    let bounds = merged.get(key).and_then(Value::as_f64).zip(value.as_f64());
    let is_tighter = bounds.is_none_or(|(former, new)| {
        if key.ends_with("inimum") {
            new > former
        } else {
            new < former
        }
    });
    if is_tighter {
        merged.insert(key.to_owned(), value.clone());
    }
}

/// Returns the least common multiple, if both numbers are integers or one divides the other.
fn common_multiple(one: &Value, other: &Value) -> Option<Value> {
    let (a, b) = (one.as_f64()?, other.as_f64()?);
    if whole(a / b).is_some() {
        return Some(one.clone());
    }
    if whole(b / a).is_some() {
        return Some(other.clone());
    }
    let (a, b) = (whole(a)?, whole(b)?);
    let (mut divisor, mut rest) = (a, b);
    while rest != 0 {
        (divisor, rest) = (rest, divisor % rest);
    }
    (a / divisor).checked_mul(b).map(Value::from)
}

/// Returns a number in `value` that a double cannot represent exactly.
fn inexact(value: &Value) -> Option<&Value> {
    match value {
        Value::Array(items) => items.iter().find_map(inexact),
        Value::Object(table) => table.values().find_map(inexact),
        Value::Number(number) if !number.is_f64() => {
            let double = value.as_f64().map(Value::from);
            let is_same = double.is_some_and(|double| whole_value(&double) == value.as_i64());
            (!is_same || !value.is_i64()).then_some(value)
        }
        _ => None,
    }
}
