//! Strings: their lengths, their patterns, and the formats that can be enforced.

use serde_json::{Map, Value, json};

use super::pattern;
use super::walk::lengths;
use super::{SchemaFault, fault};
use crate::config::shape::suggestion;

/// Characters of a string that says no `maxLength`.
pub const MAX_STRING: u64 = 1000;

/// Days that there are, as RFC 3339 writes them.
const DATE: &str = "(?:[0-9]{4}-(?:(?:0[13578]|1[02])-(?:0[1-9]|[12][0-9]|3[01])|(?:0[469]|11)-(?:0[1-9]|[12][0-9]|30)|02-(?:0[1-9]|1[0-9]|2[0-8]))|(?:[0-9]{2}(?:0[48]|[2468][048]|[13579][26])|(?:[02468][048]|[13579][26])00)-02-29)";

/// A time without leap seconds, whose moments no pattern can tell, and with a fraction that ends: the grammar's own has none.
const TIME: &str = r"(?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](?:\.[0-9]{1,9})?(?:Z|[+-](?:[01][0-9]|2[0-3]):[0-5][0-9])";

/// Texts of these formats are enforced.
const FORMATS: [&str; 6] = ["date", "time", "date-time", "ipv4", "ipv6", "uuid"];

/// A string without a pattern.
pub(super) fn string(table: &Map<String, Value>, at: &str) -> Result<Value, SchemaFault> {
    let Some(format) = text(table, at, "format")? else {
        let (min, max) = lengths(table, at, "minLength", "maxLength", MAX_STRING)?;
        return Ok(json!({"type": "string", "minLength": min, "maxLength": max}));
    };
    if let Some(other) = ["pattern", "minLength", "maxLength"]
        .iter()
        .find(|key| table.contains_key(**key))
    {
        let reason = format!("`{other}` beside `format` is not enforced");
        return Err(fault(&format!("{at}/{other}"), reason));
    }
    if !FORMATS.contains(&format) {
        let reason = format!(
            "the format `{format}` is not enforced; {}",
            suggestion(format, &FORMATS)
        );
        return Err(fault(&format!("{at}/format"), reason));
    }
    let pattern = match format {
        "date" => format!("^{DATE}$"),
        "time" => format!("^{TIME}$"),
        "date-time" => format!("^{DATE}T{TIME}$"),
        // The others end by themselves.
        _ => return Ok(json!({"type": "string", "format": format})),
    };
    Ok(json!({"type": "string", "pattern": pattern}))
}

/// A string with a pattern.
pub(super) fn with_pattern(table: &Map<String, Value>, at: &str) -> Result<Value, SchemaFault> {
    let (min, max) = lengths(table, at, "minLength", "maxLength", MAX_STRING)?;
    let written = text(table, at, "pattern")?.unwrap_or_default();
    let pattern =
        pattern::enforced(written).map_err(|reason| fault(&format!("{at}/pattern"), reason))?;
    Ok(json!({"type": "string", "minLength": min, "maxLength": max, "pattern": pattern}))
}

fn text<'schema>(
    table: &'schema Map<String, Value>,
    at: &str,
    key: &str,
) -> Result<Option<&'schema str>, SchemaFault> {
    match table.get(key) {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(_) => Err(fault(&format!("{at}/{key}"), "must be a string")),
    }
}
