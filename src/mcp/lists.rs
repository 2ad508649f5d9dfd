//! The list methods: every list has one page, and some lists are always empty.

use serde_json::{Map, Value, json};

use super::jsonrpc::{ErrorObject, INVALID_PARAMS};

/// Returns an empty list called `name`, for a feature that the server does not support.
///
/// Clients of earlier revisions request such lists although the server does not advertise the capability, and some of them
/// disconnect if the response is an error.
///
/// # Errors
/// Fails if the client sent a cursor.
pub(super) fn empty_list(name: &str, params: &Map<String, Value>) -> Result<Value, ErrorObject> {
    check_cursor(params)?;
    Ok(json!({name: []}))
}

/// Checks the `cursor` of a list request. Every list has one page, so every cursor is unknown.
///
/// # Errors
/// Fails if the client sent a cursor.
pub(super) fn check_cursor(params: &Map<String, Value>) -> Result<(), ErrorObject> {
    match params.get("cursor") {
        None | Some(Value::Null) => Ok(()),
        Some(Value::String(cursor)) if cursor.is_empty() => Ok(()),
        Some(_) => Err(ErrorObject::new(
            INVALID_PARAMS,
            "`cursor`: unknown cursor; omit it: the list has a single page",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_is_refused_unless_it_is_null_or_empty() {
        let list = |params: Value| {
            let list = empty_list("prompts", params.as_object().unwrap());
            list.map_err(|error| error.code)
        };
        for params in [json!({}), json!({"cursor": null}), json!({"cursor": ""})] {
            assert_eq!(list(params), Ok(json!({"prompts": []})));
        }
        for cursor in [json!("2"), json!(2), json!({})] {
            assert_eq!(list(json!({"cursor": cursor})), Err(INVALID_PARAMS));
        }
    }
}
