//! Arguments of a call → typed values. Every refusal names the argument, what was given and what is allowed.
//!
//! null is absent, 3.0 is an integer, unknown keys are errors.

use serde_json::{Map, Value};

use crate::config::ranges::Range;
use crate::config::shape::{shown, suggestion};
use crate::config::whole::whole_value;
use crate::engine::{Message, Role};

/// What is wrong with the arguments: one sentence for the caller.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ArgumentError(String);

impl ArgumentError {
    /// A refusal of argument `name`.
    fn new(name: &str, allowed: impl std::fmt::Display, found: &Value) -> Self {
        Self(format!(
            "`{name}`: must be {allowed}, found {}",
            shown(found)
        ))
    }

    /// A refusal in words.
    pub fn says(text: impl Into<String>) -> Self {
        Self(text.into())
    }
}

/// The arguments of one call, taken out one by one.
#[derive(Debug)]
pub struct ArgumentReader {
    arguments: Map<String, Value>,
}

impl ArgumentReader {
    /// # Errors
    /// A key that is not `known`.
    pub fn new(mut arguments: Map<String, Value>, known: &[&str]) -> Result<Self, ArgumentError> {
        if let Some(unknown) = arguments.keys().find(|key| !known.contains(&key.as_str())) {
            return Err(ArgumentError(format!(
                "`{unknown}` is not an argument of this tool; {}",
                suggestion(unknown, known)
            )));
        }
        arguments.retain(|_, value| !value.is_null());
        Ok(Self { arguments })
    }

    /// # Errors
    /// Not a whole number in `range`.
    pub fn integer(&mut self, name: &str, range: Range<i64>) -> Result<Option<i64>, ArgumentError> {
        let Some(value) = self.arguments.remove(name) else {
            return Ok(None);
        };
        whole_value(&value)
            .filter(|number| range.contains(*number))
            .map(Some)
            .ok_or_else(|| ArgumentError::new(name, format_args!("a whole number {range}"), &value))
    }

    /// # Errors
    /// Not a number in `range`.
    pub fn number(&mut self, name: &str, range: Range<f64>) -> Result<Option<f64>, ArgumentError> {
        let Some(value) = self.arguments.remove(name) else {
            return Ok(None);
        };
        value
            .as_f64()
            .filter(|number| range.contains(*number))
            .map(Some)
            .ok_or_else(|| ArgumentError::new(name, format_args!("a number {range}"), &value))
    }

    /// # Errors
    /// Not a string.
    pub fn string(&mut self, name: &str) -> Result<Option<String>, ArgumentError> {
        match self.arguments.remove(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(other) => Err(ArgumentError::new(name, "a string", &other)),
        }
    }

    /// # Errors
    /// Not an object.
    pub fn object(&mut self, name: &str) -> Result<Option<Map<String, Value>>, ArgumentError> {
        match self.arguments.remove(name) {
            None => Ok(None),
            Some(Value::Object(object)) => Ok(Some(object)),
            Some(other) => Err(ArgumentError::new(name, "an object", &other)),
        }
    }

    /// One string or an array of at most `most`, each of at most `longest` characters.
    ///
    /// # Errors
    /// Anything else, or an empty string.
    pub fn strings(
        &mut self,
        name: &str,
        most: usize,
        longest: usize,
    ) -> Result<Option<Vec<String>>, ArgumentError> {
        let Some(value) = self.arguments.remove(name) else {
            return Ok(None);
        };
        let allowed = format!(
            "a string of 1 to {longest} characters, or an array of at most {most} such strings"
        );
        let items = match &value {
            Value::Array(items) if items.len() > most => {
                return Err(ArgumentError(format!(
                    "`{name}`: must be {allowed}, found {} strings",
                    items.len()
                )));
            }
            Value::Array(items) => items.as_slice(),
            single => std::slice::from_ref(single),
        };
        items
            .iter()
            .map(|item| match item {
                Value::String(text) if (1..=longest).contains(&text.chars().count()) => {
                    Ok(text.clone())
                }
                other => Err(ArgumentError::new(name, &allowed, other)),
            })
            .collect::<Result<_, _>>()
            .map(Some)
    }

    /// A conversation.
    ///
    /// # Errors
    /// Names the message and its member that is wrong.
    pub fn messages(&mut self, name: &str) -> Result<Option<Vec<Message>>, ArgumentError> {
        let Some(value) = self.arguments.remove(name) else {
            return Ok(None);
        };
        match value {
            Value::Array(items) if !items.is_empty() => (0..)
                .zip(items)
                .map(|(at, item)| message(&format!("{name}[{at}]"), item))
                .collect::<Result<_, _>>()
                .map(Some),
            other => Err(ArgumentError::new(
                name,
                "an array of at least one message",
                &other,
            )),
        }
    }
}

const ROLES: &str = "`system`, `user` or `assistant`";
const CONTENT: &str = "a string or an array of `{\"type\":\"text\",\"text\":…}` parts";

fn message(name: &str, value: Value) -> Result<Message, ArgumentError> {
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

/// A string, or text parts, which are one text.
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
    use crate::config::ranges;

    fn reader(arguments: Value) -> ArgumentReader {
        let Value::Object(arguments) = arguments else {
            panic!("arguments are an object")
        };
        ArgumentReader::new(arguments, &["a"]).unwrap()
    }

    fn refusal<T: std::fmt::Debug>(result: Result<T, ArgumentError>) -> String {
        result.unwrap_err().to_string()
    }

    #[test]
    fn null_is_absent_and_a_whole_double_is_an_integer() {
        assert_eq!(
            reader(json!({"a": null})).integer("a", ranges::TOP_K),
            Ok(None)
        );
        assert_eq!(
            reader(json!({"a": 3.0})).integer("a", ranges::TOP_K),
            Ok(Some(3))
        );
        assert_eq!(
            reader(json!({"a": 1})).number("a", ranges::TOP_P),
            Ok(Some(1.0))
        );
    }

    #[test]
    fn refusals_name_the_argument_what_was_given_and_what_is_allowed() {
        let integer =
            |value: Value| refusal(reader(json!({"a": value})).integer("a", ranges::MAX_TOKENS));
        assert_eq!(
            integer(json!(-1)),
            "`a`: must be a whole number from 1 to 1000000000, found -1"
        );
        assert_eq!(
            integer(json!(1.5)),
            "`a`: must be a whole number from 1 to 1000000000, found 1.5"
        );
        assert_eq!(
            integer(json!("7")),
            "`a`: must be a whole number from 1 to 1000000000, found the string \"7\""
        );
        assert_eq!(
            refusal(reader(json!({"a": 7})).number("a", ranges::TOP_P)),
            "`a`: must be a number from 0 to 1, found 7"
        );
        assert_eq!(
            refusal(reader(json!({"a": [1]})).string("a")),
            "`a`: must be a string, found an array of 1"
        );
        assert_eq!(
            refusal(reader(json!({"a": ["x", ""]})).strings("a", 4, 9)),
            "`a`: must be a string of 1 to 9 characters, or an array of at most 4 such strings, found the string \"\""
        );
    }

    #[test]
    fn an_unknown_key_is_refused_with_those_that_exist() {
        let mut arguments = Map::new();
        arguments.insert("temprature".into(), json!(1));
        assert_eq!(
            refusal(ArgumentReader::new(arguments, &["text", "temperature"])),
            "`temprature` is not an argument of this tool; did you mean `temperature`?"
        );
    }

    #[test]
    fn a_message_holds_a_string_or_text_parts() {
        let messages = json!({"a": [{"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]}]});
        assert_eq!(
            reader(messages).messages("a").unwrap().unwrap(),
            [Message {
                role: Role::User,
                content: "ab".into()
            }]
        );
    }

    #[test]
    fn a_wrong_message_is_named() {
        let messages = |value: Value| refusal(reader(json!({"a": value})).messages("a"));
        assert_eq!(
            messages(json!([])),
            "`a`: must be an array of at least one message, found an empty array"
        );
        assert_eq!(
            messages(json!([{"role": "tool", "content": ""}])),
            "`a[0].role`: must be `system`, `user` or `assistant`, found the string \"tool\""
        );
        assert_eq!(
            messages(json!([{"role": "user", "content": [{"type": "image"}]}])),
            "`a[0].content[0].type`: must be `text`, found `image`; this tool reads text only"
        );
        assert_eq!(
            messages(json!([{"role": "user", "content": "", "name": 1}])),
            "`a[0].name` is not a member of a message; it takes `role`, `content`"
        );
        assert_eq!(
            messages(json!([{"role": "user"}])),
            "`a[0].content` is missing: must be a string or an array of `{\"type\":\"text\",\"text\":…}` parts"
        );
    }
}
