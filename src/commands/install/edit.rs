//! One server's entry in the text of a client's configuration: text in, text out. All else stays as it is, comments,
//! order and indentation included.

use jsonc_parser::cst::{CstInputValue, CstObject, CstObjectProp, CstRootNode};
use jsonc_parser::{ParseOptions, errors::ParseError};
use serde_json::Value;
use thiserror::Error;

/// The stem of this program's file, by which an entry is known as one of ours.
const PROGRAM: &str = "llama-mcp-server";

/// Windows' Notepad puts it in front; the parser would stumble over it.
const BYTE_ORDER_MARK: char = '\u{feff}';

/// Where entries stand: the client's own key, and the server's name under it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Slot<'a> {
    /// `mcpServers`, and the like.
    pub key: &'a str,
    /// The server's name.
    pub name: &'a str,
}

/// How a client starts the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    /// Whether the client wants to be told that it is one over stdio.
    pub has_type: bool,
    /// The program.
    pub command: String,
    /// What it is started with.
    pub args: Vec<String>,
}

/// Why a text is not edited.
#[derive(Debug, Error)]
pub(crate) enum EditError {
    /// Neither JSON nor JSON with comments.
    #[error("line {}, column {}: {}; nothing was written", .0.line_display(), .0.column_display(), .0.kind())]
    Broken(ParseError),
    /// Something else where an object is to be.
    #[error("{0} is not an object; nothing was written")]
    NotAnObject(String),
    /// Programs read one of them, and not all the same one.
    #[error("`{0}` stands there twice; remove one of them")]
    Twice(String),
    /// The name is taken.
    #[error("`{name}` is another server there, {command}; `--name` gives this one another name")]
    Foreign {
        /// Its name.
        name: String,
        /// What it starts, in words.
        command: String,
    },
}

/// Puts `entry` into `text`. What the entry has beside command and arguments (`env` …) it keeps.
///
/// # Errors
/// Where the text is broken, or the name belongs to another server.
pub(crate) fn set(text: &str, slot: Slot<'_>, entry: &Entry) -> Result<String, EditError> {
    edit(text, |root| {
        let root = root
            .object_value_or_create()
            .ok_or_else(|| EditError::NotAnObject("what it holds".to_owned()))?;
        let servers = match object(&root, slot.key)? {
            Some(servers) => servers,
            None => root.object_value_or_set(slot.key),
        };
        let Some(there) = ours(&servers, slot.name)? else {
            let fields = entry.fields().into_iter();
            let fields = fields.map(|(key, value)| (key.to_owned(), input(&value)));
            servers.append(slot.name, CstInputValue::Object(fields.collect()));
            return Ok(());
        };
        for (key, value) in entry.fields() {
            match only(&there, key)? {
                Some(field) if value_of(&field) == Some(value.clone()) => {}
                Some(field) => field.set_value(input(&value)),
                None => drop(there.append(key, input(&value))),
            }
        }
        Ok(())
    })
}

/// Takes the entry out of `text`, if it is there.
///
/// # Errors
/// Where the text is broken, or the name belongs to another server.
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

/// What editors allow in their settings; none of JSON5.
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

/// The property `name`, of which there is one at most.
fn only(object: &CstObject, name: &str) -> Result<Option<CstObjectProp>, EditError> {
    let mut found = object
        .properties()
        .into_iter()
        .filter(|property| property.decoded_name().as_deref() == Some(name));
    match (found.next(), found.next()) {
        (_, Some(_)) => Err(EditError::Twice(name.to_owned())),
        (property, None) => Ok(property),
    }
}

/// The object under `name`.
fn object(parent: &CstObject, name: &str) -> Result<Option<CstObject>, EditError> {
    let Some(property) = only(parent, name)? else {
        return Ok(None);
    };
    match property.object_value() {
        Some(object) => Ok(Some(object)),
        None => Err(EditError::NotAnObject(format!("`{name}`"))),
    }
}

/// The entry `name`, which must be one of this program.
fn ours(servers: &CstObject, name: &str) -> Result<Option<CstObject>, EditError> {
    let Some(entry) = object(servers, name)? else {
        return Ok(None);
    };
    let command = only(&entry, "command")?.and_then(|command| value_of(&command));
    let command = match &command {
        // As Zed had it until 2025.
        Some(Value::Object(command)) => command.get("path"),
        other => other.as_ref(),
    };
    let command = command.and_then(Value::as_str).unwrap_or_default();
    if is_this_program(command) {
        return Ok(Some(entry));
    }
    let command = match command {
        "" => "which is reached by an address".to_owned(),
        command => format!("`{command}`"),
    };
    Err(EditError::Foreign {
        name: name.to_owned(),
        command,
    })
}

/// Whether `command` names a file of this program, on any system and in any folder.
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
