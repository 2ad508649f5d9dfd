//! Objects: named properties, or maps.

use std::collections::HashSet;
use std::sync::LazyLock;

use serde_json::{Value, json};

use super::conjunction::{Part, count_range, pointer_to};
use super::formats::TextFormat;
use super::lower::{Lowering, NoValue};
use super::negation::ABSENT;
use super::node::{Entries, Kind, Node, ObjectNode, Property};
use super::references::escaped;
use super::validator::Validator;
use super::{Table, fault, pattern};

/// The schema of all strings.
static STRING: LazyLock<Value> = LazyLock::new(|| json!({"type": "string"}));

impl<'c> Lowering<'c> {
    pub(super) fn object(&mut self, parts: &[Part<'c>]) -> Node {
        let (min, max) = count_range(parts, "minProperties", "maxProperties");
        let names = names(parts);
        let listed = names.is_empty().then(|| self.listed_names(parts)).flatten();
        let is_closed = ["additionalProperties", "unevaluatedProperties"]
            .iter()
            .any(|key| {
                parts
                    .iter()
                    .any(|part| part.table.get(*key) == Some(&Value::Bool(false)))
            });
        let mut object = ObjectNode {
            properties: Vec::new(),
            entries: None,
            min,
            max,
            is_closed,
            pointer: parts
                .first()
                .map_or_else(|| "#".into(), |part| part.at.clone()),
        };
        if names.is_empty() && listed.is_none() {
            match self.entries(parts) {
                Ok(entries) => object.entries = entries,
                Err(NoValue) => return Node::never(),
            }
            if object.entries.is_none() && min > 0 {
                return self.contradiction(fault(
                    &pointer_to(parts, "minProperties"),
                    "no property is allowed; name some in `properties`",
                ));
            }
            return Node::new(Kind::Object(object));
        }
        let names = listed.unwrap_or(names);
        if self.is_too_much(names.len() * parts.len()) {
            return Node::never();
        }
        let check = self.names_validator(parts);
        let (required, absent) = (names_in(parts, "required"), names_in(parts, ABSENT));
        let mut is_dead = false;
        for name in names {
            let may_be_there = !absent.contains(name.as_str())
                && check.as_ref().is_ok_and(|check| {
                    let check = check.as_ref();
                    check.is_none_or(|check| check.is_valid(&Value::from(name.as_str())))
                });
            let is_required = required.contains(name.as_str());
            match self.property(parts, &name, is_required, may_be_there) {
                Ok(Some(property)) => object.properties.push(property),
                Ok(None) => {}
                // Other properties may have faults, too.
                Err(NoValue) => is_dead = true,
            }
        }
        if is_dead {
            return Node::never();
        }
        self.note_other_properties(parts);
        self.bounded(object, parts)
    }

    /// Returns the property called `name`. Returns `None` if the property is optional and not allowed.
    fn property(
        &mut self,
        parts: &[Part<'c>],
        name: &str,
        is_required: bool,
        may_be_there: bool,
    ) -> Result<Option<Property>, NoValue> {
        let missing = |lowering: &mut Self| {
            let reason = format!(
                "`{name}` is required but not allowed; add it to `properties` or remove it here"
            );
            if is_required {
                lowering.contradiction(fault(&pointer_to(parts, "required"), reason));
                Err(NoValue)
            } else {
                Ok(None)
            }
        };
        if !may_be_there {
            return missing(self);
        }
        let Some(schemas) = self.schemas_of(parts, name) else {
            return missing(self);
        };
        if schemas.is_empty() {
            self.note(
                &pointer_to(parts, "required"),
                format!("`{name}` is not in `properties`: any value is allowed"),
            );
        }
        let node = self.all(&schemas);
        if node.is_never() {
            // The reason was already reported.
            return if is_required { Err(NoValue) } else { Ok(None) };
        }
        Ok(Some(Property {
            name: name.to_owned(),
            node,
            is_required,
        }))
    }

    /// Returns the schemas that the value of property `name` must follow, or `None` if a part forbids the property.
    fn schemas_of(&mut self, parts: &[Part<'c>], name: &str) -> Option<Vec<(&'c Value, String)>> {
        let mut schemas = Vec::new();
        for Part { table, at } in parts {
            let known = schemas.len();
            if let Some(schema) = table
                .get("properties")
                .and_then(|properties| properties.get(name))
            {
                schemas.push((schema, format!("{at}/properties/{}", escaped(name))));
            }
            for (pattern, schema) in map(table, "patternProperties") {
                if self.is_name_of(pattern, name, at) {
                    schemas.push((
                        schema,
                        format!("{at}/patternProperties/{}", escaped(pattern)),
                    ));
                }
            }
            if schemas.len() > known {
                continue;
            }
            match table.get("additionalProperties") {
                Some(Value::Bool(false)) => return None,
                Some(schema) => schemas.push((schema, format!("{at}/additionalProperties"))),
                None => {}
            }
        }
        Some(schemas)
    }

    /// Returns whether `pattern`, a key of `patternProperties` at `at`, occurs in `name`.
    fn is_name_of(&mut self, pattern: &str, name: &str, at: &str) -> bool {
        if !self.name_patterns.contains_key(pattern) {
            let compiled = self.count_pattern(at).and_then(|()| {
                let invalid = |_invalid| fault(at, format!("`{pattern}` is not a valid pattern"));
                Validator::compile_pattern(pattern).map_err(invalid)
            });
            let compiled = compiled.map_err(|fault| self.no_value(fault)).ok();
            self.name_patterns.insert(pattern.to_owned(), compiled);
        }
        let compiled = self.name_patterns.get(pattern).and_then(Option::as_ref);
        compiled.is_some_and(|compiled| compiled.is_valid(&Value::from(name)))
    }

    /// Returns the validator of names that `propertyNames` requires, if there is one. Fails if no name is allowed.
    fn names_validator(&mut self, parts: &[Part<'c>]) -> Result<Option<Validator>, ()> {
        let schemas = parts
            .iter()
            .filter_map(|part| part.table.get("propertyNames"));
        let schemas: Vec<&Value> = schemas.collect();
        if schemas.contains(&&Value::Bool(false)) {
            return Err(());
        }
        let tables = schemas.into_iter().filter_map(Value::as_object);
        let tables: Vec<Table> = tables.cloned().collect();
        Ok(if tables.is_empty() {
            None
        } else {
            self.validator(&tables)
        })
    }

    /// Returns the names that `propertyNames` lists.
    fn listed_names(&mut self, parts: &[Part<'c>]) -> Option<Vec<String>> {
        let mut names = None;
        for part in parts {
            let Some(schema) = part.table.get("propertyNames") else {
                continue;
            };
            if let Kind::Values(values) = self
                .schema(schema, &format!("{}/propertyNames", part.at))
                .kind
            {
                let texts = values.iter().filter_map(Value::as_str).map(str::to_owned);
                names = Some(texts.collect());
            }
        }
        names
    }

    /// Returns the properties of a map, or `None` if no property is allowed.
    fn entries(&mut self, parts: &[Part<'c>]) -> Result<Option<Entries>, NoValue> {
        let mut keys = Vec::new();
        let mut values = Vec::new();
        for Part { table, at } in parts {
            let mut patterns = map(table, "patternProperties");
            if let Some((written, schema)) = patterns.next() {
                let place = format!("{at}/patternProperties/{}", escaped(written));
                let others = table.get("additionalProperties");
                if patterns.next().is_some()
                    || others.is_some_and(|others| *others != Value::Bool(false))
                {
                    self.note(
                        &place,
                        "only properties that match this pattern are written",
                    );
                }
                keys.push(
                    pattern::translate(written)
                        .map_err(|reason| self.no_value(fault(&place, reason)))?,
                );
                values.push((schema, place));
                continue;
            }
            let more = table
                .get("additionalProperties")
                .map(|schema| (schema, "additionalProperties"));
            let more = more
                .or_else(|| Some((table.get("unevaluatedProperties")?, "unevaluatedProperties")));
            match more {
                Some((Value::Bool(false), _)) => return Ok(None),
                Some((schema, key)) => values.push((schema, format!("{at}/{key}"))),
                None => {}
            }
        }
        for part in parts {
            if let Some(schema) = part.table.get("propertyNames") {
                let at = format!("{}/propertyNames", part.at);
                if !self.names_as_pattern(schema, &at, &mut keys)? {
                    return Ok(None);
                }
            }
        }
        if keys.len() > 1 {
            self.note(&parts[0].at, "only the first pattern of property names is enforced; the others are checked on the finished answer");
        }
        let value = self.all(&values);
        Ok((!value.is_never()).then(|| Entries {
            keys,
            value: Box::new(value),
        }))
    }

    /// Adds the patterns that `propertyNames` requires to `keys`. Returns `false` if no name is allowed.
    fn names_as_pattern(
        &mut self,
        schema: &'c Value,
        at: &str,
        keys: &mut Vec<String>,
    ) -> Result<bool, NoValue> {
        // Names are strings, whether or not the schema says so.
        let node = self.all(&[(schema, at.to_owned()), (&STRING, at.to_owned())]);
        match node.kind {
            Kind::Never => return Ok(false),
            Kind::Any => {}
            Kind::Text(text) => {
                keys.extend(
                    text.patterns
                        .iter()
                        .filter_map(|pattern| pattern.enforced.clone()),
                );
                let format = text.format.map(TextFormat::names_pattern);
                keys.extend(format.map(|pattern| format!("^(?:{pattern})$")));
                if text.min > 0 || text.max.is_some() {
                    let most = text.max.map(|most| most.to_string()).unwrap_or_default();
                    keys.push(format!("^(?s:.){{{},{most}}}$", text.min));
                }
            }
            _ => {
                return Err(self.no_value(fault(
                    at,
                    "unsupported `propertyNames`; use `pattern`, lengths or `enum`",
                )));
            }
        }
        Ok(true)
    }

    fn note_other_properties(&mut self, parts: &[Part<'c>]) {
        for Part { table, at } in parts {
            let more = table
                .get("additionalProperties")
                .is_some_and(|more| *more != Value::Bool(false));
            for (key, is_there) in [
                ("additionalProperties", more),
                ("patternProperties", table.contains_key("patternProperties")),
            ] {
                if is_there && table.contains_key("properties") {
                    self.note(&format!("{at}/{key}"), "other properties are not written; add the ones that you need to `properties`");
                }
            }
        }
    }

    /// Bounds the number of properties of `object`. The grammar counts only required properties, and can require one more.
    fn bounded(&mut self, mut object: ObjectNode, parts: &[Part<'c>]) -> Node {
        let count =
            |object: &ObjectNode| u64::try_from(object.properties.len()).unwrap_or(u64::MAX);
        let required = |object: &ObjectNode| {
            let required = object
                .properties
                .iter()
                .filter(|property| property.is_required)
                .count();
            u64::try_from(required).unwrap_or(u64::MAX)
        };
        if let Some(max) = object.max.filter(|max| count(&object) > *max) {
            let at = pointer_to(parts, "maxProperties");
            if required(&object) > max {
                return self.contradiction(fault(
                    &at,
                    "must be at least the number of required properties",
                ));
            }
            let mut optional = max - required(&object);
            object.properties.retain(|property| {
                let stays = property.is_required || optional > 0;
                optional -= u64::from(stays && !property.is_required);
                stays
            });
            self.note(&at, format!("only the first {max} properties are written"));
        }
        object.max = None;
        if object.min > count(&object) {
            return self.contradiction(fault(
                &pointer_to(parts, "minProperties"),
                "must be at most the number of properties",
            ));
        }
        let lacking = object.min.saturating_sub(required(&object) + 1);
        if lacking > 0 {
            self.note(
                &pointer_to(parts, "minProperties"),
                "the first properties are always written",
            );
            let optional = object.properties.iter_mut();
            let optional = optional.filter(|property| !property.is_required);
            for first in optional.take(usize::try_from(lacking).unwrap_or(usize::MAX)) {
                first.is_required = true;
            }
        }
        if object.min <= required(&object) {
            object.min = 0;
        }
        Node::new(Kind::Object(object))
    }
}

/// Returns the names of the properties that parts declare or require, in order.
fn names(parts: &[Part<'_>]) -> Vec<String> {
    let declared = parts
        .iter()
        .flat_map(|part| map(part.table, "properties").map(|(name, _)| name.as_str()));
    let required = parts
        .iter()
        .flat_map(|part| strings(part.table, "required"));
    let mut seen = HashSet::new();
    let names = declared.chain(required).filter(|name| seen.insert(*name));
    names.map(str::to_owned).collect()
}

/// Returns the names that `key` lists in any part.
fn names_in<'c>(parts: &[Part<'c>], key: &str) -> HashSet<&'c str> {
    let names = parts.iter().flat_map(|part| strings(part.table, key));
    names.collect()
}

fn map<'t>(table: &'t Table, key: &str) -> impl Iterator<Item = (&'t String, &'t Value)> + use<'t> {
    table
        .get(key)
        .and_then(Value::as_object)
        .into_iter()
        .flatten()
}

fn strings<'t>(table: &'t Table, key: &str) -> impl Iterator<Item = &'t str> + use<'t> {
    let list = table.get(key).and_then(Value::as_array);
    list.into_iter().flatten().filter_map(Value::as_str)
}
