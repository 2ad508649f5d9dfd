//! Filters of Python's Jinja2 that minijinja lacks, with the same arguments in the same order.

mod wrap;

use minijinja::value::{Kwargs, Rest, ValueKind, ValueOrKwargs};
use minijinja::{Environment, Error, ErrorKind, State, Value, filters as builtin};
use minijinja_contrib::filters as contrib;

use super::budget;
use super::padding::{centered, checked_width};

/// Adds the filters to `environment`.
pub(super) fn add_to(environment: &mut Environment<'_>) {
    environment.add_filter("center", center);
    environment.add_filter("filesizeformat", contrib::filesizeformat);
    environment.add_filter("striptags", contrib::striptags);
    environment.add_filter("truncate", truncate);
    environment.add_filter("urlencode", urlencode);
    environment.add_filter("wordcount", wordcount);
    environment.add_filter("wordwrap", wordwrap);
    let checked: [(&'static str, Value, Check); 5] = [
        (
            "format",
            Value::from_function(builtin::format),
            check_format,
        ),
        ("join", Value::from_function(builtin::join), check_join),
        (
            "pprint",
            Value::from_function(builtin::pprint),
            check_pprint,
        ),
        (
            "string",
            Value::from_function(builtin::string),
            check_string,
        ),
        ("sum", Value::from_function(builtin::sum), check_sum),
    ];
    for (name, filter, check) in checked {
        add_checked(environment, name, filter, check);
    }
}

/// Checks the arguments of a filter.
type Check = fn(&State<'_, '_>, &[Value]) -> Result<(), Error>;

/// Adds minijinja's `filter` called `name`, which runs only if `check` accepts its arguments.
fn add_checked(environment: &mut Environment<'_>, name: &'static str, filter: Value, check: Check) {
    let checked = move |state: &mut State<'_, '_>, args: Rest<ValueOrKwargs>| {
        let args = args.into_values();
        check(state, &args)?;
        filter.call(state, &args)
    };
    environment.add_filter(name, checked);
}

fn check_format(state: &State<'_, '_>, args: &[Value]) -> Result<(), Error> {
    match args {
        [text, args @ ..] if let Some(text) = text.as_str() => {
            budget::check_formatted(state, text, '%', args)
        }
        _ => Ok(()),
    }
}

fn check_join(state: &State<'_, '_>, args: &[Value]) -> Result<(), Error> {
    let [values, options @ ..] = args else {
        return Ok(());
    };
    let mut joiner = 0;
    for option in options {
        joiner = joiner.max(budget::printed_bytes(state, option)?);
    }
    budget::check_joined(state, values, joiner)
}

/// Checks the length of the text, in which each line is indented by its level.
fn check_pprint(state: &State<'_, '_>, args: &[Value]) -> Result<(), Error> {
    args.iter()
        .try_for_each(|value| budget::charge_printed(state, format_args!("{value:#?}")).map(|_| ()))
}

fn check_string(state: &State<'_, '_>, args: &[Value]) -> Result<(), Error> {
    args.iter()
        .try_for_each(|value| budget::printed_bytes(state, value).map(|_| ()))
}

/// Refuses a text as the start of a sum, as Python does, because every addition would copy it.
fn check_sum(_: &State<'_, '_>, args: &[Value]) -> Result<(), Error> {
    let options = args.get(1..).unwrap_or_default();
    let named = options.last().and_then(|last| last.get_attr("start").ok());
    let starts = options.get(1).into_iter().chain(&named);
    if starts
        .chain(args.first())
        .any(|start| start.as_str().is_some())
    {
        let text = "sum: cannot add texts; use `join`";
        return Err(Error::new(ErrorKind::InvalidOperation, text));
    }
    Ok(())
}

/// Assigns arguments to `names`: positional ones from `args`, keyword ones from `named`.
pub(super) fn assign_arguments(
    names: &[&str],
    args: &[Value],
    named: &Kwargs,
) -> Result<Kwargs, Error> {
    if args.len() > names.len() {
        return Err(Error::from(ErrorKind::TooManyArguments));
    }
    let mut all = Vec::new();
    for (name, value) in names.iter().zip(args) {
        all.push(((*name).to_owned(), value.clone()));
    }
    for name in named.args() {
        all.push((name.to_owned(), named.get::<Value>(name)?));
    }
    Ok(all.into_iter().collect())
}

#[expect(
    clippy::needless_pass_by_value,
    reason = "minijinja passes arguments by value"
)]
fn truncate(
    state: &mut State<'_, '_>,
    value: &Value,
    args: Rest<Value>,
    named: Kwargs,
) -> Result<Value, Error> {
    let names = ["length", "killwords", "end", "leeway"];
    contrib::truncate(state, value, assign_arguments(&names, &args, &named)?)
}

#[expect(
    clippy::needless_pass_by_value,
    reason = "minijinja passes arguments by value"
)]
fn center(text: String, args: Rest<Value>, named: Kwargs) -> Result<String, Error> {
    let options = assign_arguments(&["width"], &args, &named)?;
    let width = options.get::<Option<usize>>("width")?.unwrap_or(80);
    options.assert_all_used()?;
    let missing = checked_width(width)?.saturating_sub(text.chars().count());
    let (left, right) = centered(missing, width);
    Ok(format!("{}{text}{}", " ".repeat(left), " ".repeat(right)))
}

/// Counts words as Python's `\w+` does: runs of letters, digits and underscores.
#[expect(
    clippy::needless_pass_by_value,
    reason = "minijinja passes the text of a filter by value"
)]
fn wordcount(state: &State<'_, '_>, text: String) -> Result<usize, Error> {
    budget::charge(state, text.len())?;
    let words = text.split(|c: char| !c.is_alphanumeric() && c != '_');
    Ok(words.filter(|word| !word.is_empty()).count())
}

/// Percent-encodes a text for the path of a URL, or pairs, for example of a map, for its query.
fn urlencode(state: &State<'_, '_>, value: &Value) -> Result<String, Error> {
    let bytes = budget::printed_bytes(state, value)?;
    budget::charge(state, bytes)?;
    if value.kind() == ValueKind::String || value.is_number() {
        return Ok(percent_encode(&value.to_string(), "/", "%20"));
    }
    let pair = |key: &Value, value: &Value| {
        let encoded = |value: &Value| percent_encode(&value.to_string(), "", "+");
        format!("{}={}", encoded(key), encoded(value))
    };
    let mut pairs = Vec::new();
    for item in value.try_iter()? {
        pairs.push(if value.kind() == ValueKind::Map {
            pair(&item, &value.get_item(&item)?)
        } else {
            pair(&item.get_item_by_index(0)?, &item.get_item_by_index(1)?)
        });
    }
    Ok(pairs.join("&"))
}

/// Percent-encodes `text` except the characters of `safe`, as Python's `quote` and `quote_plus` do.
fn percent_encode(text: &str, safe: &str, space: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        let c = char::from(byte);
        if c.is_ascii_alphanumeric() || "_.-~".contains(c) || safe.contains(c) {
            encoded.push(c);
        } else if c == ' ' {
            encoded.push_str(space);
        } else {
            encoded.extend(["%", &format!("{byte:02X}")]);
        }
    }
    encoded
}

#[expect(
    clippy::needless_pass_by_value,
    reason = "minijinja passes arguments by value"
)]
fn wordwrap(
    state: &State<'_, '_>,
    value: &Value,
    args: Rest<Value>,
    named: Kwargs,
) -> Result<String, Error> {
    let names = [
        "width",
        "break_long_words",
        "wrapstring",
        "break_on_hyphens",
    ];
    let options = assign_arguments(&names, &args, &named)?;
    let width = options.get::<Option<usize>>("width")?.unwrap_or(79);
    let breaks = wrap::Breaks {
        long_words: options
            .get::<Option<bool>>("break_long_words")?
            .unwrap_or(true),
        hyphens: options
            .get::<Option<bool>>("break_on_hyphens")?
            .unwrap_or(true),
    };
    let newline = options
        .get::<Option<String>>("wrapstring")?
        .unwrap_or_else(|| "\n".to_owned());
    options.assert_all_used()?;
    if width == 0 {
        let text = "wordwrap: the width must be at least 1";
        return Err(Error::new(ErrorKind::InvalidOperation, text));
    }
    budget::printed_bytes(state, value)?;
    let text = value.to_string();
    budget::charge(state, text.len())?;
    // A line has at least one character.
    let most = text.len().saturating_mul(newline.len().saturating_add(1));
    budget::check_bytes(state, most)?;
    let wrapped = text
        .lines()
        .map(|line| wrap::lines(line, width, breaks).join(&newline));
    Ok(wrapped.collect::<Vec<_>>().join(&newline))
}

#[cfg(test)]
mod tests;
