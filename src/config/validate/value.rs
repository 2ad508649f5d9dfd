//! Checks of single values, and of arrays of such, by schemas that are compiled once.

use jsonschema::Validator;
use serde_json::Value;

use super::messages::allowed;
use super::shown;

/// A compiled schema of a value.
#[derive(Debug)]
pub(crate) struct ValueCheck {
    schema: Value,
    /// `None` if the schema is not valid: nothing follows it.
    validator: Option<Validator>,
    max_items: Option<u64>,
    items: Option<Box<ValueCheck>>,
}

/// A fault of a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ValueFault {
    /// The number of the item that is wrong; `None` for the value itself.
    pub item: Option<usize>,
    /// The values that are allowed, and the value that was found.
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

    /// Checks that `value`, if it is an array, has no more items than are allowed: that costs nothing.
    ///
    /// # Errors
    /// The number of items that is allowed.
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

    /// Checks that `value` follows the schema.
    ///
    /// # Errors
    /// The first item that is wrong, else the value.
    pub(crate) fn check(&self, value: &Value) -> Result<(), ValueFault> {
        self.check_length(value)?;
        if self.follows(value) {
            return Ok(());
        }
        if let (Some(of_items), Value::Array(items)) = (&self.items, value)
            && let Some(at) = items.iter().position(|item| !of_items.follows(item))
        {
            return Err(ValueFault {
                item: Some(at),
                message: of_items.message(&items[at]),
            });
        }
        Err(ValueFault {
            item: None,
            message: self.message(value),
        })
    }

    fn follows(&self, value: &Value) -> bool {
        let validator = self.validator.as_ref();
        validator.is_some_and(|validator| validator.is_valid(value))
    }

    fn message(&self, value: &Value) -> String {
        format!("{}, found {}", allowed(&self.schema), shown(value))
    }
}
