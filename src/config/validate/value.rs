//! Checks single values and arrays with schemas that are compiled once.

use jsonschema::Validator;
use serde_json::Value;

use super::messages::allowed;
use super::shown;

/// A compiled schema of a value.
#[derive(Debug)]
pub(crate) struct ValueCheck {
    schema: Value,
    /// Compiled schema; `None` if it is invalid, so that no value matches.
    validator: Option<Validator>,
    max_items: Option<u64>,
    items: Option<Box<ValueCheck>>,
}

/// Violation of a schema by a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ValueFault {
    /// Index of the invalid item; `None` if the value itself is invalid.
    pub item: Option<usize>,
    /// Allowed values, and the value that was found.
    pub message: String,
}

impl ValueCheck {
    /// Compiles `schema`.
    pub(crate) fn new(schema: &Value) -> Self {
        let items = schema.get("items").filter(|items| items.is_object());
        Self {
            validator: jsonschema::draft202012::options().build(schema).ok(),
            max_items: schema.get("maxItems").and_then(Value::as_u64),
            items: items.map(|items| Box::new(Self::new(items))),
            schema: schema.clone(),
        }
    }

    /// Checks that `value`, if it is an array, does not have too many items. This is cheap even for a huge array.
    ///
    /// # Errors
    /// The array has too many items.
    pub(crate) fn check_length(&self, value: &Value) -> Result<(), ValueFault> {
        match (value, self.max_items) {
            (Value::Array(items), Some(max)) if items.len() as u64 > max => {
                let message = format!("{}, found {} items", allowed(&self.schema), items.len());
                Err(ValueFault {
                    item: None,
                    message,
                })
            }
            _ => Ok(()),
        }
    }

    /// Checks `value` against the schema.
    ///
    /// # Errors
    /// The first item that is invalid, or else the value.
    pub(crate) fn check(&self, value: &Value) -> Result<(), ValueFault> {
        self.check_length(value)?;
        if self.is_valid(value) {
            return Ok(());
        }
        if let (Some(items_check), Value::Array(items)) = (&self.items, value)
            && let Some(at) = items.iter().position(|item| !items_check.is_valid(item))
        {
            return Err(ValueFault {
                item: Some(at),
                message: items_check.message(&items[at]),
            });
        }
        Err(ValueFault {
            item: None,
            message: self.message(value),
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
