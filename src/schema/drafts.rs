//! Older drafts of JSON Schema: converts their keywords to those of 2020-12, and JSON pointers back for messages.

use serde_json::Value;

use super::Table;

/// Converts keywords of older drafts in `made` to keywords of 2020-12.
pub(super) fn modernise(written: &Table, made: &mut Table) {
    for (exclusive, inclusive) in [
        ("exclusiveMinimum", "minimum"),
        ("exclusiveMaximum", "maximum"),
    ] {
        if let Some(Value::Bool(is_exclusive)) = made.get(exclusive) {
            let bound = made.get(inclusive).cloned().filter(|_| *is_exclusive);
            made.remove(exclusive);
            if let Some(bound) = bound {
                made.remove(inclusive);
                made.insert(exclusive.into(), bound);
            }
        }
    }
    let more = made.remove("additionalItems");
    if let Some(more) = more.filter(|_| written.get("items").is_some_and(Value::is_array)) {
        made.insert("items".into(), more);
    }
}

/// Converts `pointer`, which points into the canonical form of `written`, to the keywords that the author used. The result ends at the
/// last segment that exists in `written`.
///
/// ```text
/// {"items": [{"type": "null"}], "additionalItems": {"type": "boolean"}}
/// #/prefixItems/0 is written #/items/0, and #/items is written #/additionalItems
/// ```
pub(super) fn as_written(written: &Value, pointer: &str) -> String {
    let mut made = String::from("#");
    let mut at = Some(written);
    let mut segments = pointer.split('/').skip(1).peekable();
    while let Some(segment) = segments.next() {
        let is_position = |next: &&str| next.parse::<usize>().is_ok();
        let key = match at {
            Some(Value::Object(table)) => {
                written_key(table, segment, segments.peek().is_some_and(is_position))
            }
            _ => segment,
        };
        let name = key.replace("~1", "/").replace("~0", "~");
        at = match at {
            Some(Value::Array(items)) => name.parse().ok().and_then(|n: usize| items.get(n)),
            Some(Value::Object(table)) => table.get(&name),
            _ => None,
        };
        let is_last = segments.peek().is_none();
        if at.is_none() && !is_last {
            return made;
        }
        made.push('/');
        made.push_str(key);
    }
    made
}

/// Returns the keyword of `table` that became `key`. `has_position`: the next segment of the pointer is the index of an item.
fn written_key<'k>(table: &Table, key: &'k str, has_position: bool) -> &'k str {
    let is_tuple = table.get("items").is_some_and(Value::is_array);
    match key {
        "prefixItems" if is_tuple => "items",
        "items" if is_tuple && !has_position && table.contains_key("additionalItems") => {
            "additionalItems"
        }
        "dependentRequired" | "dependentSchemas"
            if !table.contains_key(key) && table.contains_key("dependencies") =>
        {
            "dependencies"
        }
        key => key,
    }
}
