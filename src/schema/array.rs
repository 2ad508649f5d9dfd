//! Arrays: lists and tuples.

use serde_json::Value;

use super::conjunction::{Part, count_range, pointer_to};
use super::fault;
use super::lower::{Lowering, NoValue};
use super::node::{ArrayNode, Kind, Node};

/// Maximum number of items that are written to satisfy one `contains`.
const MAX_CONTAINED: u64 = 16;

impl<'c> Lowering<'c> {
    pub(super) fn array(&mut self, parts: &[Part<'c>]) -> Node {
        let (mut min, mut max) = count_range(parts, "minItems", "maxItems");
        let length = parts
            .iter()
            .map(|part| prefix(part).len())
            .max()
            .unwrap_or(0);
        if self.is_too_much(length * parts.len()) {
            return Node::never();
        }
        let mut made: Vec<Node> = Vec::new();
        for at in 0..length {
            let item = match schemas_at(parts, at) {
                Some(schemas) => self.all(&schemas),
                None => Node::never(),
            };
            if item.is_never() {
                break;
            }
            made.push(item);
        }
        let is_whole = made.len() == length;
        let count = u64::try_from(made.len()).unwrap_or(u64::MAX);
        let is_tuple = length > 0;
        if is_tuple && min < count && max.is_none_or(|max| max >= count) {
            self.note(
                &pointer_to(parts, "prefixItems"),
                "all items of the tuple are written",
            );
            min = count;
        }
        let items = is_whole.then(|| self.items(parts, min > count)).flatten();
        let (made, items) = match self.contained(parts, made, items, &mut min) {
            Ok(both) => both,
            Err(NoValue) => return Node::never(),
        };
        let count = u64::try_from(made.len()).unwrap_or(u64::MAX);
        if items.is_none() {
            max = Some(max.map_or(count, |max| max.min(count)));
        }
        self.unique(parts, items.as_deref(), count, &mut max);
        if max.is_some_and(|max| min > max) {
            // Fewer items than required: some have no value, for a reason that was already reported.
            let (least, most) = count_range(parts, "minItems", "maxItems");
            if let Some(most) = most.filter(|most| least > *most) {
                let reason = format!("must be at most `maxItems`, {most}");
                return self.contradiction(fault(&pointer_to(parts, "minItems"), reason));
            }
            return Node::never();
        }
        Node::new(Kind::Array(ArrayNode {
            prefix: made,
            items,
            min,
            max,
            pointer: pointer_to(parts, "prefixItems"),
        }))
    }

    /// Returns the items after the prefix. Returns `None` if there are none. Items without a schema are written only if they are `needed`.
    fn items(&mut self, parts: &[Part<'c>], needed: bool) -> Option<Box<Node>> {
        let schemas: Vec<(&Value, String)> = parts
            .iter()
            .filter_map(|part| {
                let key = ["items", "unevaluatedItems"]
                    .into_iter()
                    .find(|key| part.table.contains_key(*key))?;
                Some((part.table.get(key)?, format!("{}/{key}", part.at)))
            })
            .collect();
        let is_tuple = parts.iter().any(|part| !prefix(part).is_empty());
        if schemas.is_empty() && is_tuple && !needed {
            self.note(
                &pointer_to(parts, "prefixItems"),
                "no items are written after the tuple",
            );
            return None;
        }
        let items = self.all(&schemas);
        (!items.is_never()).then(|| Box::new(items))
    }

    /// Returns `made` with the items that `contains` requires and `items` appended.
    fn contained(
        &mut self,
        parts: &[Part<'c>],
        mut made: Vec<Node>,
        items: Option<Box<Node>>,
        min: &mut u64,
    ) -> Result<(Vec<Node>, Option<Box<Node>>), NoValue> {
        for part in parts {
            let Some(schema) = part.table.get("contains") else {
                continue;
            };
            let at = format!("{}/contains", part.at);
            let least = part
                .table
                .get("minContains")
                .and_then(Value::as_u64)
                .unwrap_or(1);
            if part.table.contains_key("maxContains") || least > MAX_CONTAINED {
                let reason = format!(
                    "`maxContains` and a `minContains` above {MAX_CONTAINED} are unsupported; remove them"
                );
                return Err(self.no_value(fault(&at, reason)));
            }
            let mut schemas = schemas_at(parts, usize::MAX).unwrap_or_default();
            schemas.push((schema, at.clone()));
            for _ in 0..least {
                let item = self.all(&schemas);
                if item.is_never() || items.is_none() {
                    self.contradiction(fault(
                        &at,
                        "no item satisfies `contains`; change `contains` or `items`",
                    ));
                    return Err(NoValue);
                }
                made.push(item);
            }
            if least > 0 {
                self.note(&at, "satisfied by the first items of the array");
                *min = (*min).max(u64::try_from(made.len()).unwrap_or(u64::MAX));
            }
        }
        Ok((made, items))
    }

    /// Notes that the grammar does not enforce unique items, and limits the number of items to the number of distinct values.
    fn unique(
        &mut self,
        parts: &[Part<'c>],
        items: Option<&Node>,
        prefix: u64,
        max: &mut Option<u64>,
    ) {
        let is_unique =
            |part: &&Part<'_>| part.table.get("uniqueItems") == Some(&Value::Bool(true));
        if !parts.iter().any(|part| is_unique(&part)) {
            return;
        }
        self.note(
            &pointer_to(parts, "uniqueItems"),
            "checked on the finished answer only",
        );
        let values = match items.map(|items| &items.kind) {
            Some(Kind::Values(values)) => u64::try_from(values.len()).unwrap_or(u64::MAX),
            Some(Kind::Boolean) => 2,
            Some(Kind::Null) => 1,
            _ => return,
        };
        let most = prefix.saturating_add(values);
        *max = Some(max.map_or(most, |max| max.min(most)));
    }
}

/// Returns the schemas that the item at index `at` must follow. Returns `None` if a part forbids the item.
fn schemas_at<'c>(parts: &[Part<'c>], at: usize) -> Option<Vec<(&'c Value, String)>> {
    let mut schemas = Vec::new();
    for part in parts {
        if let Some(schema) = prefix(part).get(at) {
            schemas.push((schema, format!("{}/prefixItems/{at}", part.at)));
            continue;
        }
        match part.table.get("items") {
            Some(Value::Bool(false)) => return None,
            Some(schema) => schemas.push((schema, format!("{}/items", part.at))),
            None => {}
        }
    }
    Some(schemas)
}

/// Returns the schemas of the first items.
fn prefix<'c>(part: &Part<'c>) -> &'c [Value] {
    let schemas = part.table.get("prefixItems").and_then(Value::as_array);
    schemas.map_or(&[], Vec::as_slice)
}
