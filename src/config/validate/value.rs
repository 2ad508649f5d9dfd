//! Checks single values, arrays and tables with schemas that are compiled once.

use jsonschema::Validator;
use serde_json::{Map, Value};

use super::messages::allowed;
use super::shown;
use crate::printable::printable;

/// The longest name that is repeated in an error, in characters.
const MAX_NAME: usize = 64;

/// A compiled schema of a value.
#[derive(Debug)]
pub(crate) struct ValueCheck {
    schema: Value,
    /// Compiled schema; `None` if it is invalid, so that no value matches.
    validator: Option<Validator>,
    max_items: Option<u64>,
    /// The check of each item of an array, or of each value of a table.
    members: Option<Box<ValueCheck>>,
    /// The check of each key of a table.
    names: Option<Box<ValueCheck>>,
}

/// Violation of a schema by a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ValueFault {
    /// Invalid member, as `[1]` or `.name`; `None` if the value itself is invalid.
    pub member: Option<String>,
    /// Allowed values, and the value that was found.
    pub message: String,
}

impl ValueCheck {
    /// Compiles `schema`.
    pub(crate) fn new(schema: &Value) -> Self {
        let members = schema.get("items").or(schema.get("additionalProperties"));
        let members = members.filter(|members| members.is_object());
        Self {
            validator: jsonschema::draft202012::options().build(schema).ok(),
            max_items: schema.get("maxItems").and_then(Value::as_u64),
            members: members.map(|members| Box::new(Self::new(members))),
            names: schema
                .get("propertyNames")
                .map(|names| Box::new(Self::new(names))),
            schema: schema.clone(),
        }
    }

    /// Checks that `value`, if it is an array, does not have too many items. This is cheap even for a huge array.
    ///
    /// # Errors
    /// Returns an error if the array has too many items.
    pub(crate) fn check_length(&self, value: &Value) -> Result<(), ValueFault> {
        match (value, self.max_items) {
            (Value::Array(items), Some(max)) if items.len() as u64 > max => {
                let message = format!("{}, found {} items", allowed(&self.schema), items.len());
                Err(ValueFault {
                    member: None,
                    message,
                })
            }
            _ => Ok(()),
        }
    }

    /// Checks `value` against the schema.
    ///
    /// # Errors
    /// Returns the fault of the first invalid item or value, or else of `value` as a whole.
    pub(crate) fn check(&self, value: &Value) -> Result<(), ValueFault> {
        self.check_length(value)?;
        if self.is_valid(value) {
            return Ok(());
        }
        let has = |key: &str| self.schema.get(key).is_some();
        let has_members = match value {
            Value::Array(_) => has("items"),
            Value::Object(_) => has("additionalProperties"),
            _ => false,
        };
        let of_member = self.members.as_ref().filter(|_| has_members);
        Err(of_member
            .and_then(|of_member| of_member.first_fault(value))
            .or_else(|| self.fault_of_keys(value.as_object()?))
            .unwrap_or_else(|| ValueFault {
                member: None,
                message: self.message(value),
            }))
    }

    /// Returns the fault of the keys of `table`: an invalid one, or too many.
    fn fault_of_keys(&self, table: &Map<String, Value>) -> Option<ValueFault> {
        let names = self.names.as_ref()?;
        let message = match table
            .keys()
            .find(|name| !names.is_valid(&Value::from(name.as_str())))
        {
            Some(name) => format!(
                "a table, each key {}, found the key `{}`",
                allowed(&names.schema),
                printable(name, MAX_NAME)
            ),
            None => format!("{}, found {} keys", allowed(&self.schema), table.len()),
        };
        Some(ValueFault {
            member: None,
            message,
        })
    }

    /// Returns the fault of the first member of `value` that is wrong by itself.
    fn first_fault(&self, value: &Value) -> Option<ValueFault> {
        let (member, found) = match value {
            Value::Array(items) => {
                let mut items = items.iter().enumerate();
                let (at, item) = items.find(|(_, item)| !self.is_valid(item))?;
                (format!("[{at}]"), item)
            }
            Value::Object(table) => {
                let (name, value) = table.iter().find(|(_, value)| !self.is_valid(value))?;
                (format!(".{}", printable(name, MAX_NAME)), value)
            }
            _ => return None,
        };
        Some(ValueFault {
            member: Some(member),
            message: self.message(found),
        })
    }

    fn is_valid(&self, value: &Value) -> bool {
        let validator = self.validator.as_ref();
        validator.is_some_and(|validator| validator.is_valid(value))
    }

    fn message(&self, value: &Value) -> String {
        format!("{}, found {}", allowed(&self.schema), shown(value))
    }
}
