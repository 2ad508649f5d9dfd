//! Parsing of a call's arguments. Every error names the argument, the value that was found and the values that are allowed.
//!
//! The parser accepts values in another form if they have only one meaning: null and meaningless empty values are absent, 3.0 is an integer,
//! and JSON text is parsed if the type is not a string. Unknown names are errors.

mod messages;
mod names;

use serde_json::{Map, Value};

use crate::config::SamplingOverrides;
use crate::config::ranges::Range;
use crate::config::sampling_arguments::PARAMETERS;
use crate::config::validate::{ValueFault, shown};
use crate::engine::Message;
use crate::json::integer::whole_value;
use crate::json::{self, from_text};
use messages::messages;
pub(crate) use names::{Missing, check_names};

/// A fault of the arguments, as one sentence for the caller.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct ArgumentError(String);

impl ArgumentError {
    /// Creates the error of the argument `name`, whose value is `found`.
    fn new(name: &str, allowed: impl std::fmt::Display, found: &Value) -> Self {
        Self(format!(
            "`{name}`: must be {allowed}, found {}",
            shown(found)
        ))
    }

    /// Returns the error of the argument `name`, or of its member that has the fault.
    pub(crate) fn from_fault(name: &str, fault: &ValueFault) -> Self {
        let member = fault.member.as_deref().unwrap_or_default();
        Self(format!("`{name}{member}`: must be {}", fault.message))
    }

    /// Creates an error with the message `text`.
    pub(crate) fn says(text: impl Into<String>) -> Self {
        Self(text.into())
    }
}

/// Reader of the arguments of one call. Each method removes the argument that it returns.
#[derive(Debug)]
pub(crate) struct ArgumentReader {
    arguments: Map<String, Value>,
}

impl ArgumentReader {
    /// Creates a reader of `arguments`, whose names were checked.
    pub(crate) fn new(mut arguments: Map<String, Value>) -> Self {
        arguments.retain(|_, value| !value.is_null());
        Self { arguments }
    }

    /// Removes the empty one of two alternative arguments, `text` (a string) and `array`, if both are given: some clients send every
    /// argument.
    pub(crate) fn leave_out_empty(&mut self, text: &str, array: &str) {
        if !self.arguments.contains_key(text) || !self.arguments.contains_key(array) {
            return;
        }
        if self.arguments[text] == "" {
            self.arguments.remove(text);
            return;
        }
        match self.take(array, "array") {
            None => {}
            Some(Value::Array(items)) if items.is_empty() => {}
            Some(value) => drop(self.arguments.insert(array.to_owned(), value)),
        }
    }

    /// Takes the argument `name` of the type `kind`, any type except a string. An empty string is absent.
    fn take(&mut self, name: &str, kind: &str) -> Option<Value> {
        let value = from_text(self.arguments.remove(name)?, kind);
        let is_blank = value.as_str().is_some_and(|text| text.trim().is_empty());
        (!value.is_null() && !is_blank).then_some(value)
    }

    /// Takes a whole number.
    ///
    /// # Errors
    /// The argument is not a whole number in `range`.
    pub(crate) fn integer(
        &mut self,
        name: &str,
        range: Range<i64>,
    ) -> Result<Option<i64>, ArgumentError> {
        let Some(value) = self.take(name, "integer") else {
            return Ok(None);
        };
        whole_value(&value)
            .filter(|number| range.contains(*number))
            .map(Some)
            .ok_or_else(|| ArgumentError::new(name, format_args!("a whole number {range}"), &value))
    }

    /// Takes a number.
    ///
    /// # Errors
    /// The argument is not a number in `range`.
    pub(crate) fn number(
        &mut self,
        name: &str,
        range: Range<f64>,
    ) -> Result<Option<f64>, ArgumentError> {
        let Some(value) = self.take(name, "number") else {
            return Ok(None);
        };
        value
            .as_f64()
            .filter(|number| range.contains(*number))
            .map(Some)
            .ok_or_else(|| ArgumentError::new(name, format_args!("a number {range}"), &value))
    }

    /// Takes a string.
    ///
    /// # Errors
    /// The argument is not a string.
    pub(crate) fn string(&mut self, name: &str) -> Result<Option<String>, ArgumentError> {
        match self.arguments.remove(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(other) => Err(ArgumentError::new(name, "a string", &other)),
        }
    }

    /// Takes an object.
    ///
    /// # Errors
    /// The argument is not an object.
    pub(crate) fn object(
        &mut self,
        name: &str,
    ) -> Result<Option<Map<String, Value>>, ArgumentError> {
        match self.take(name, "object") {
            None => Ok(None),
            Some(Value::Object(object)) => Ok(Some(object)),
            Some(other) => Err(ArgumentError::new(name, "an object", &other)),
        }
    }

    /// Takes one string, or an array of at most `most` strings, each of at most `longest` characters. Removes empty strings, and returns
    /// `None` if no string is left. A string is one item, unless it is a JSON array of strings.
    ///
    /// # Errors
    /// The argument has another type, or more or longer strings.
    pub(crate) fn strings(
        &mut self,
        name: &str,
        most: usize,
        longest: usize,
    ) -> Result<Option<Vec<String>>, ArgumentError> {
        let allowed = format!(
            "a string of 1 to {longest} characters, or an array of at most {most} such strings"
        );
        let mut items = match self.arguments.remove(name) {
            None => return Ok(None),
            Some(Value::Array(items)) => items,
            Some(Value::String(text)) => {
                strings_of(&text).unwrap_or_else(|| vec![Value::String(text)])
            }
            Some(other) => return Err(ArgumentError::new(name, &allowed, &other)),
        };
        items.retain(|item| item != "");
        if items.len() > most {
            return Err(ArgumentError(format!(
                "`{name}`: must be {allowed}, found {} strings",
                items.len()
            )));
        }
        let strings = items.into_iter().map(|item| match item {
            Value::String(text) if text.chars().count() <= longest => Ok(text),
            other => Err(ArgumentError::new(name, &allowed, &other)),
        });
        let strings: Vec<String> = strings.collect::<Result<_, _>>()?;
        Ok((!strings.is_empty()).then_some(strings))
    }

    /// Takes the sampling parameters.
    ///
    /// # Errors
    /// A value does not follow the schema of its parameter.
    pub(crate) fn sampling(&mut self) -> Result<SamplingOverrides, ArgumentError> {
        let mut given = Map::new();
        for parameter in PARAMETERS.iter() {
            let kind = parameter.schema["type"].as_str().unwrap_or_default();
            let Some(value) = self.take(parameter.name, kind) else {
                continue;
            };
            let value = match (kind, whole_value(&value)) {
                ("integer", Some(number)) => number.into(),
                _ => value,
            };
            let checked = parameter.check.check(&value);
            checked.map_err(|fault| ArgumentError::from_fault(parameter.name, &fault))?;
            given.insert(parameter.name.to_owned(), value);
        }
        Ok(serde_json::from_value(given.into()).expect("each value follows its schema"))
    }

    /// Takes the messages of a conversation.
    ///
    /// # Errors
    /// A message is invalid. The error names it and its invalid member.
    pub(crate) fn messages(&mut self, name: &str) -> Result<Option<Vec<Message>>, ArgumentError> {
        let value = self.take(name, "array");
        value.map(|value| messages(name, value)).transpose()
    }
}

/// Returns the items of `text` if it is a JSON array of strings.
fn strings_of(text: &str) -> Option<Vec<Value>> {
    match json::parse(text) {
        Ok(Value::Array(items)) if items.iter().all(Value::is_string) => Some(items),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::config::ranges;

    const SHARE: Range<f64> = Range { min: 0.0, max: 1.0 };

    fn reader(arguments: Value) -> ArgumentReader {
        let Value::Object(arguments) = arguments else {
            panic!("arguments are an object")
        };
        ArgumentReader::new(arguments)
    }

    fn refusal<T: std::fmt::Debug>(result: Result<T, ArgumentError>) -> String {
        result.unwrap_err().to_string()
    }

    #[test]
    fn null_is_absent_and_a_whole_double_is_an_integer() {
        assert_eq!(
            reader(json!({"a": null})).integer("a", ranges::THINKING_BUDGET),
            Ok(None)
        );
        assert_eq!(
            reader(json!({"a": 3.0})).integer("a", ranges::THINKING_BUDGET),
            Ok(Some(3))
        );
        assert_eq!(reader(json!({"a": 1})).number("a", SHARE), Ok(Some(1.0)));
    }

    #[test]
    fn errors_name_the_argument_the_value_found_and_the_values_allowed() {
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
            integer(json!("seven")),
            "`a`: must be a whole number from 1 to 1000000000, found the string \"seven\""
        );
        assert_eq!(
            integer(json!("0")),
            "`a`: must be a whole number from 1 to 1000000000, found 0"
        );
        assert_eq!(
            refusal(reader(json!({"a": 7})).number("a", SHARE)),
            "`a`: must be a number from 0 to 1, found 7"
        );
        assert_eq!(
            refusal(reader(json!({"a": [1]})).string("a")),
            "`a`: must be a string, found an array of 1"
        );
        assert_eq!(
            refusal(reader(json!({"a": ["x", "0123456789"]})).strings("a", 4, 9)),
            "`a`: must be a string of 1 to 9 characters, or an array of at most 4 such strings, found the string \"0123456789\""
        );
    }

    #[test]
    fn json_text_is_parsed_unless_a_string_is_expected() {
        let a = |value: Value| reader(json!({ "a": value }));
        assert_eq!(
            a(json!(" 1e2 ")).integer("a", ranges::THINKING_BUDGET),
            Ok(Some(100))
        );
        assert_eq!(a(json!("0.5")).number("a", SHARE), Ok(Some(0.5)));
        assert_eq!(
            a(json!("{\"b\":1}")).object("a"),
            Ok(Some(Map::from_iter([("b".into(), json!(1))])))
        );
        let hi = json!([{"role": "user", "content": "[1]"}]);
        let part = json!({"type": "text", "text": "[1]"}).to_string();
        for messages in [
            hi.clone(),
            json!(hi.to_string()),
            json!([hi[0].to_string()]),
            json!([{"role": "user", "content": [part]}]),
        ] {
            let read = a(messages).messages("a").unwrap().unwrap();
            assert_eq!(read[0].content, "[1]");
        }
        assert_eq!(a(json!("7")).string("a"), Ok(Some("7".into())));
    }

    #[test]
    fn a_stop_text_is_itself_unless_it_is_an_array_of_strings() {
        let stop = |value: Value| reader(json!({ "a": value })).strings("a", 4, 9);
        for (value, texts) in [
            (json!("x"), &["x"][..]),
            (json!("[1]"), &["[1]"]),
            (json!("[\"x\""), &["[\"x\""]),
            (json!("[\"x\",\"y\"]"), &["x", "y"]),
            (json!(["x", "", "y"]), &["x", "y"]),
            (json!("\"x\""), &["\"x\""]),
        ] {
            assert_eq!(stop(value).unwrap().unwrap(), texts);
        }
    }

    #[test]
    fn an_empty_value_that_means_nothing_is_absent() {
        for empty in [json!(""), json!(" "), json!("null")] {
            let a = || reader(json!({"a": empty}));
            assert_eq!(a().integer("a", ranges::THINKING_BUDGET), Ok(None));
            assert_eq!(a().number("a", SHARE), Ok(None));
            assert_eq!(a().object("a"), Ok(None));
            assert_eq!(a().messages("a"), Ok(None));
        }
        for empty in [json!(""), json!([]), json!([""]), json!("[]")] {
            assert_eq!(reader(json!({"a": empty})).strings("a", 4, 9), Ok(None));
        }
        assert_eq!(
            reader(json!({"a": ""})).string("a"),
            Ok(Some(String::new()))
        );
        let left = |a: Value, b: Value| {
            let mut reader = reader(json!({"a": a, "b": b}));
            reader.leave_out_empty("a", "b");
            reader.arguments.keys().cloned().collect::<String>()
        };
        assert_eq!(left(json!("x"), json!([])), "a");
        assert_eq!(left(json!("x"), json!("[]")), "a");
        assert_eq!(left(json!(""), json!([1])), "b");
        assert_eq!(left(json!(""), json!([])), "b");
        assert_eq!(left(json!("x"), json!([1])), "ab");
        assert_eq!(left(json!(""), json!(null)), "a");
    }
}
