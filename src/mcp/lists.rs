//! Lists: each has one page, and some are always empty.

use serde_json::{Map, Value, json};

use super::jsonrpc::{ErrorObject, INVALID_PARAMS};

/// Returns an empty list of something that this server does not have. Clients of earlier revisions request such lists although no
/// capability is advertised, and some drop a server that answers with an error.
///
/// # Errors
/// The client sent a cursor.
pub(super) fn empty_list(name: &str, params: &Map<String, Value>) -> Result<Value, ErrorObject> {
    check_cursor(params)?;
    Ok(json!({name: []}))
}

/// Checks the `cursor` of a list. All lists have one page, so every cursor is unknown.
///
/// # Errors
/// The client sent a cursor.
pub(super) fn check_cursor(params: &Map<String, Value>) -> Result<(), ErrorObject> {
    match params.get("cursor") {
        None | Some(Value::Null) => Ok(()),
        Some(Value::String(cursor)) if cursor.is_empty() => Ok(()),
        Some(_) => Err(ErrorObject::new(
            INVALID_PARAMS,
            "`cursor`: unknown cursor; leave it out, the list has one page",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_is_refused_unless_it_says_nothing() {
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
