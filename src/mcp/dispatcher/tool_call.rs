//! The parameters of `tools/call`, and the error for a tool that does not exist.

use serde_json::{Map, Value};

use super::MAX_NAME;
use crate::config::validate::suggestion;
use crate::error_code::ErrorCode;
use crate::json;
use crate::mcp::caller::Access;
use crate::mcp::jsonrpc::{ErrorObject, INVALID_PARAMS};
use crate::printable::printable;
use crate::telemetry::call;
use crate::tools::{Arguments, Catalog, ToolOutput};

/// Extracts the name of the tool and its arguments from the parameters of a call, and drops the rest.
pub(super) fn name_and_arguments(
    mut params: Map<String, Value>,
) -> Result<(String, Arguments), ErrorObject> {
    let invalid = |message| Err(ErrorObject::new(INVALID_PARAMS, message));
    let Some(Value::String(name)) = params.remove("name") else {
        return invalid("`name` must be the name of a tool");
    };
    let arguments = params.remove("arguments").unwrap_or_default();
    match json::from_text(arguments, "object") {
        Value::Null => Ok((name, Arguments::new())),
        Value::Object(arguments) => Ok((name, arguments)),
        Value::String(text) if text.trim().is_empty() => Ok((name, Arguments::new())),
        _ => invalid("`arguments` must be an object"),
    }
}

/// Returns the error for a tool that does not exist or that `access` does not allow. If a reload removed the tool, it is a tool
/// error, which the client's model can read.
pub(super) fn unknown_tool(
    catalog: &Catalog,
    access: &Access,
    name: &str,
) -> Result<ToolOutput, ErrorObject> {
    let is_removed = catalog.was_removed(name) && access.allows(name);
    let name = &*printable(name, MAX_NAME);
    let mut names = catalog.names();
    names.retain(|name| access.allows(name));
    let hint = match &names[..] {
        [] => "there are no tools".into(),
        names => suggestion(name, names),
    };
    if is_removed {
        let text =
            format!("the tool `{name}` was removed by a reload of the configuration; {hint}");
        call::refused(ErrorCode::ToolRemoved);
        return Ok(ErrorCode::ToolRemoved.says(text).into());
    }
    Err(ErrorObject::new(
        INVALID_PARAMS,
        format!("unknown tool `{name}`; {hint}"),
    ))
}
