//! The environment that templates for Python's Jinja2 expect: Python's methods of strings, lists and maps, the filters that minijinja
//! lacks, and the functions that `transformers` adds.

use minijinja::{Environment, Error, ErrorKind, State, Value};

use super::{filters, methods, tojson};

/// Adds these methods, filters and functions to `environment`.
pub(super) fn add_to(environment: &mut Environment<'_>) {
    environment.set_unknown_method_callback(method);
    environment.add_function("raise_exception", raise_exception);
    environment.add_function("strftime_now", strftime_now);
    environment.add_filter("tojson", tojson::tojson);
    filters::add_to(environment);
}

/// Calls Python's `method` of `value`. Refuses large widths in `format`, which fuel does not bound.
fn method(
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
        // The method may exist; the value is what is missing.
        let text = format!("`{method}` was called on an undefined value");
        return Err(Error::new(ErrorKind::UndefinedError, text));
    }
    match value.as_str().map(|text| methods::call(text, method, args)) {
        Some(Ok(Some(result))) => Ok(result),
        Some(Err(error)) => Err(error),
        Some(Ok(None)) | None => {
            minijinja_contrib::pycompat::unknown_method_callback(state, value, method, args)
        }
    }
}

/// Widths of four digits are more than any prompt needs.
const MAX_WIDTH_DIGITS: usize = 4;

/// The largest width to which a text is padded.
const MAX_WIDTH: usize = 9_999;

/// Returns `width` if it is at most [`MAX_WIDTH`].
pub(super) fn checked_width(width: usize) -> Result<usize, Error> {
    if width <= MAX_WIDTH {
        return Ok(width);
    }
    let text = format!("the width must be at most {MAX_WIDTH}");
    Err(Error::new(ErrorKind::InvalidOperation, text))
}

/// The spaces left and right of a text that `str.center` puts in the middle of `width`, if `missing` are to be added.
pub(super) fn centered(missing: usize, width: usize) -> (usize, usize) {
    let left = missing / 2 + (missing & width & 1);
    (left, missing - left)
}

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
