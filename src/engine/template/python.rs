//! The environment that templates for Python's Jinja2 expect: methods of Python's strings, lists and maps, filters that minijinja lacks,
//! and functions that `transformers` adds.

use minijinja::value::from_args;
use minijinja::{Environment, Error, ErrorKind, Output, State, Value, escape_formatter};

use super::{UNDEFINED_CALL, budget, filters, methods, tojson};

/// Adds the methods, filters and functions to `environment`.
pub(super) fn add_to(environment: &mut Environment<'_>) {
    environment.set_unknown_method_callback(method);
    environment.set_formatter(print);
    // `debug` is not part of Jinja2, and prints all that a template has.
    environment.add_global("debug", Value::UNDEFINED);
    environment.add_function("raise_exception", raise_exception);
    environment.add_function("strftime_now", strftime_now);
    environment.add_filter("tojson", tojson::tojson);
    filters::add_to(environment);
}

/// Prints `value` if fuel pays for it. A list may contain one long text many times.
fn print(out: &mut Output<'_>, state: &mut State<'_, '_>, value: &Value) -> Result<(), Error> {
    if value.as_object().is_some() {
        budget::printed_bytes(state, value)?;
    }
    escape_formatter(out, state, value)
}

/// Calls the Python method `method` of `value`. Refuses large widths in `format`.
pub(super) fn method(
    state: &mut State<'_, '_>,
    value: &Value,
    method: &str,
    args: &[Value],
) -> Result<Value, Error> {
    let longest_number = |text: &str| {
        text.split(|c: char| !c.is_ascii_digit())
            .map(str::len)
            .max()
    };
    if method == "format" && value.as_str().and_then(longest_number) > Some(MAX_WIDTH_DIGITS) {
        return Err(Error::new(
            ErrorKind::InvalidOperation,
            "format: the width is too large",
        ));
    }
    if value.is_undefined() {
        // The method may exist, but the value is undefined.
        let text = format!("`{method}`{UNDEFINED_CALL}");
        return Err(Error::new(ErrorKind::UndefinedError, text));
    }
    if let Some(text) = value.as_str() {
        budget::charge(state, text.len())?;
        match method {
            // Half of the characters may be separators.
            "split" | "rsplit" | "splitlines" => budget::check_items(state, text.len() / 2)?,
            // The filters of these names first check that fuel pays for the result.
            "replace" => {
                let (_, _, _): (&str, &str, Option<i32>) = from_args(args)?;
                let args = [std::slice::from_ref(value), args].concat();
                return state.apply_filter("replace", &args);
            }
            "join" => {
                let (values,): (&Value,) = from_args(args)?;
                return state.apply_filter("join", &[values.clone(), value.clone()]);
            }
            "format" => budget::check_formatted(state, text, '{', args)?,
            _ => {}
        }
    }
    match value
        .as_str()
        .map(|text| methods::call(state, text, method, args))
    {
        Some(Ok(Some(result))) => Ok(result),
        Some(Err(error)) => Err(error),
        Some(Ok(None)) | None => {
            minijinja_contrib::pycompat::unknown_method_callback(state, value, method, args)
        }
    }
}

/// Maximum number of digits of a width.
const MAX_WIDTH_DIGITS: usize = 4;

fn raise_exception(message: String) -> Result<Value, Error> {
    Err(Error::new(ErrorKind::InvalidOperation, message))
}

fn strftime_now(format: &str) -> Result<String, Error> {
    jiff::fmt::strtime::format(format, &jiff::Zoned::now()).map_err(|error| {
        Error::new(
            ErrorKind::InvalidOperation,
            format!("strftime_now(`{format}`): {error}"),
        )
    })
}
