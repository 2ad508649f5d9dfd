//! Edits the entry of a server in the JSON text of a client's configuration. Pure.
//!
//! Everything else in the text stays as it is, including comments, order and indentation.

use jsonc_parser::cst::{CstInputValue, CstObject, CstObjectProp, CstRootNode};
use jsonc_parser::{ParseOptions, errors::ParseError};
use serde_json::Value;
use thiserror::Error;

/// File name of this program without extension. An entry with this command belongs to this program.
const PROGRAM: &str = "llama-mcp-server";

/// Byte order mark, which some Windows editors put first. The parser does not accept it.
const BYTE_ORDER_MARK: char = '\u{feff}';

/// Place of an entry: the key of the table of servers, and the name of the server in it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Slot<'a> {
    /// Key of the table of servers, such as `mcpServers`.
    pub key: &'a str,
    /// Name of the server.
    pub name: &'a str,
}

/// The entry of a server: the command with which a client starts it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    /// Whether the entry has `"type": "stdio"`.
    pub has_type: bool,
    /// Path of the program.
    pub command: String,
    /// Arguments of the program.
    pub args: Vec<String>,
}

/// The reason why a text cannot be edited.
#[derive(Debug, Error)]
pub(crate) enum EditError {
    /// The text is neither JSON nor JSON with comments.
    #[error("line {}, column {}: {}; correct it, then run this again", .0.line_display(), .0.column_display(), .0.kind())]
    Broken(ParseError),
    /// A value is not an object.
    #[error("{0} must be a JSON object; correct it, then run this again")]
    NotAnObject(String),
    /// A key occurs twice. Programs differ in which of the two they read.
    #[error("`{0}` occurs twice; remove one of the two")]
    DuplicateKey(String),
    /// Another server has the name.
    #[error(
        "the name `{name}` is taken by another server ({command}); choose another with `--name`"
    )]
    NameTaken {
        /// Name of both servers.
        name: String,
        /// Command of the other server, or how else it is reached.
        command: String,
    },
}

/// Writes `entry` into `text`. An existing entry keeps its other keys, such as `env`.
///
/// # Errors
/// The text is invalid, or another server has the name.
pub(crate) fn set(text: &str, slot: Slot<'_>, entry: &Entry) -> Result<String, EditError> {
    edit(text, |root| {
        let root = root
            .object_value_or_create()
            .ok_or_else(|| EditError::NotAnObject("the file".to_owned()))?;
        let servers = match object(&root, slot.key)? {
            Some(servers) => servers,
            None => root.object_value_or_set(slot.key),
        };
        let Some(existing) = ours(&servers, slot.name)? else {
            let fields = entry.fields().into_iter();
            let fields = fields.map(|(key, value)| (key.to_owned(), input(&value)));
            servers.append(slot.name, CstInputValue::Object(fields.collect()));
            return Ok(());
        };
        for (key, value) in entry.fields() {
            match only(&existing, key)? {
                Some(field) if value_of(&field) == Some(value.clone()) => {}
                Some(field) => field.set_value(input(&value)),
                None => drop(existing.append(key, input(&value))),
            }
        }
        Ok(())
    })
}

/// Removes the entry from `text`, if there is one.
///
/// # Errors
/// The text is invalid, or another server has the name.
pub(crate) fn remove(text: &str, slot: Slot<'_>) -> Result<String, EditError> {
    edit(text, |root| {
        let servers = match root.object_value() {
            Some(root) => object(&root, slot.key)?,
            None => None,
        };
        if let Some(servers) = servers
            && ours(&servers, slot.name)?.is_some()
            && let Some(entry) = servers.get(slot.name)
        {
            entry.remove();
        }
        Ok(())
    })
}

impl Entry {
    fn fields(&self) -> Vec<(&'static str, Value)> {
        let kind = self.has_type.then(|| ("type", "stdio".into()));
        let command = ("command", self.command.as_str().into());
        let args = ("args", self.args.as_slice().into());
        kind.into_iter().chain([command, args]).collect()
    }
}

fn edit(
    text: &str,
    change: impl FnOnce(&CstRootNode) -> Result<(), EditError>,
) -> Result<String, EditError> {
    let json = text.strip_prefix(BYTE_ORDER_MARK).unwrap_or(text);
    let mark = &text[..text.len() - json.len()];
    let root = CstRootNode::parse(json, &json_with_comments()).map_err(EditError::Broken)?;
    change(&root)?;
    Ok(format!("{mark}{root}"))
}

/// Returns the options for JSON as editors allow it in their settings: with comments and trailing commas, but not JSON5.
fn json_with_comments() -> ParseOptions {
    ParseOptions {
        allow_comments: true,
        allow_trailing_commas: true,
        allow_loose_object_property_names: false,
        allow_missing_commas: false,
        allow_single_quoted_strings: false,
        allow_hexadecimal_numbers: false,
        allow_unary_plus_numbers: false,
        allow_bare_decimal_point_numbers: false,
        allow_non_finite_numbers: false,
        allow_extended_string_escapes: false,
    }
}

/// Returns the property `name` of `object`.
///
/// # Errors
/// The property occurs twice.
fn only(object: &CstObject, name: &str) -> Result<Option<CstObjectProp>, EditError> {
    let mut found = object
        .properties()
        .into_iter()
        .filter(|property| property.decoded_name().as_deref() == Some(name));
    match (found.next(), found.next()) {
        (_, Some(_)) => Err(EditError::DuplicateKey(name.to_owned())),
        (property, None) => Ok(property),
    }
}

/// Returns the object in the property `name` of `parent`.
fn object(parent: &CstObject, name: &str) -> Result<Option<CstObject>, EditError> {
    let Some(property) = only(parent, name)? else {
        return Ok(None);
    };
    match property.object_value() {
        Some(object) => Ok(Some(object)),
        None => Err(EditError::NotAnObject(format!("`{name}`"))),
    }
}

/// Returns the entry `name` of `servers`, which must belong to this program.
fn ours(servers: &CstObject, name: &str) -> Result<Option<CstObject>, EditError> {
    let Some(entry) = object(servers, name)? else {
        return Ok(None);
    };
    let command = only(&entry, "command")?.and_then(|command| value_of(&command));
    let command = match &command {
        // The format of Zed until 2025.
        Some(Value::Object(command)) => command.get("path"),
        other => other.as_ref(),
    };
    let command = command.and_then(Value::as_str).unwrap_or_default();
    if is_this_program(command) {
        return Ok(Some(entry));
    }
    let command = match command {
        "" => "reached by URL".to_owned(),
        command => format!("`{command}`"),
    };
    Err(EditError::NameTaken {
        name: name.to_owned(),
        command,
    })
}

/// Returns whether `command` is a path of this program, on any system and in any folder.
fn is_this_program(command: &str) -> bool {
    let file = command.rsplit(['/', '\\']).next().unwrap_or_default();
    file.strip_suffix(".exe").unwrap_or(file) == PROGRAM
}

fn value_of(property: &CstObjectProp) -> Option<Value> {
    property.value()?.to_serde_value()
}

fn input(value: &Value) -> CstInputValue {
    match value {
        Value::Array(items) => CstInputValue::Array(items.iter().map(input).collect()),
        other => CstInputValue::String(other.as_str().unwrap_or_default().to_owned()),
    }
}

#[cfg(test)]
mod tests;
