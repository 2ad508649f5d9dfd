//! Reads the messages of a conversation.

use serde_json::Value;

use super::ArgumentError;
use crate::engine::{Message, Role};
use crate::json::from_text;

/// Reads the messages of the argument `name`.
pub(super) fn messages(name: &str, value: Value) -> Result<Vec<Message>, ArgumentError> {
    match value {
        Value::Array(items) if !items.is_empty() => (0..)
            .zip(items)
            .map(|(at, item)| message(&format!("{name}[{at}]"), item))
            .collect(),
        other => {
            let allowed = "an array of at least one message";
            Err(ArgumentError::new(name, allowed, &other))
        }
    }
}

const ROLES: &str = "`system`, `user` or `assistant`";
const CONTENT: &str = "a string or an array of `{\"type\":\"text\",\"text\":…}` parts";

fn message(name: &str, value: Value) -> Result<Message, ArgumentError> {
    let value = from_text(value, "object");
    let Value::Object(mut members) = value else {
        return Err(ArgumentError::new(
            name,
            "an object with `role` and `content`",
            &value,
        ));
    };
    let mut member = |member: &str, allowed: &str| {
        members.remove(member).ok_or_else(|| {
            ArgumentError(format!("`{name}.{member}` is missing: must be {allowed}"))
        })
    };
    let role = match member("role", ROLES)? {
        Value::String(role) if role == "system" => Role::System,
        Value::String(role) if role == "user" => Role::User,
        Value::String(role) if role == "assistant" => Role::Assistant,
        other => {
            return Err(ArgumentError::new(&format!("{name}.role"), ROLES, &other));
        }
    };
    let content = content(&format!("{name}.content"), member("content", CONTENT)?)?;
    if let Some(unknown) = members.keys().next() {
        return Err(ArgumentError(format!(
            "`{name}.{unknown}` is not a member of a message; it takes `role`, `content`"
        )));
    }
    Ok(Message { role, content })
}

/// Reads a string, or text parts that together are one text.
fn content(name: &str, value: Value) -> Result<String, ArgumentError> {
    let parts = match value {
        Value::String(text) => return Ok(text),
        Value::Array(parts) if !parts.is_empty() => parts,
        other => {
            return Err(ArgumentError::new(name, CONTENT, &other));
        }
    };
    (0..)
        .zip(parts)
        .map(|(at, part)| {
            let part = from_text(part, "object");
            let kind = part.get("type").and_then(Value::as_str);
            let text = part.get("text").and_then(Value::as_str);
            match (kind, text) {
                (Some("text"), Some(text)) => Ok(text.to_owned()),
                (Some(kind), _) if kind != "text" => Err(ArgumentError(format!(
                    "`{name}[{at}].type`: must be `text`, found `{kind}`; this tool reads text only"
                ))),
                _ => Err(ArgumentError::new(
                    &format!("{name}[{at}]"),
                    "a `{\"type\":\"text\",\"text\":…}` part",
                    &part,
                )),
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_message_holds_a_string_or_text_parts() {
        let parts = json!([{"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]}]);
        assert_eq!(
            messages("a", parts).unwrap(),
            [Message {
                role: Role::User,
                content: "ab".into()
            }]
        );
    }

    #[test]
    fn the_error_of_an_invalid_message_names_its_member() {
        let refused = |value: Value| messages("a", value).unwrap_err().to_string();
        assert_eq!(
            refused(json!([])),
            "`a`: must be an array of at least one message, found an empty array"
        );
        assert_eq!(
            refused(json!([{"role": "tool", "content": ""}])),
            "`a[0].role`: must be `system`, `user` or `assistant`, found the string \"tool\""
        );
        assert_eq!(
            refused(json!([{"role": "user", "content": [{"type": "image"}]}])),
            "`a[0].content[0].type`: must be `text`, found `image`; this tool reads text only"
        );
        assert_eq!(
            refused(json!([{"role": "user", "content": "", "name": 1}])),
            "`a[0].name` is not a member of a message; it takes `role`, `content`"
        );
        assert_eq!(
            refused(json!([{"role": "user"}])),
            "`a[0].content` is missing: must be a string or an array of `{\"type\":\"text\",\"text\":…}` parts"
        );
    }
}
