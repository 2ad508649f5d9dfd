//! Methods of Python's strings that `minijinja_contrib` does not have.

use minijinja::value::from_args;
use minijinja::{Error, ErrorKind, Value};

use super::python::{centered, checked_width};

/// Returns what `text.method(args)` gives, or `None` if the method is not one of these.
pub(super) fn call(text: &str, method: &str, args: &[Value]) -> Result<Option<Value>, Error> {
    let value = match method {
        "casefold" => without_arguments(args, text.to_lowercase())?,
        "title" => without_arguments(args, title(text))?,
        "swapcase" => without_arguments(args, swap_case(text))?,
        "removeprefix" => {
            let (prefix,): (&str,) = from_args(args)?;
            text.strip_prefix(prefix).unwrap_or(text).into()
        }
        "removesuffix" => {
            let (suffix,): (&str,) = from_args(args)?;
            text.strip_suffix(suffix).unwrap_or(text).into()
        }
        "partition" => {
            let separator = separator(args)?;
            match text.split_once(separator) {
                Some((before, after)) => [before, separator, after].into_iter().collect(),
                None => [text, "", ""].into_iter().collect(),
            }
        }
        "rpartition" => {
            let separator = separator(args)?;
            match text.rsplit_once(separator) {
                Some((before, after)) => [before, separator, after].into_iter().collect(),
                None => ["", "", text].into_iter().collect(),
            }
        }
        "rsplit" => {
            let (separator, most): (Option<&str>, Option<i64>) = from_args(args)?;
            rsplit(text, separator, most)?
        }
        "index" => position(text.find(needle(args)?), text)?,
        "rindex" => position(text.rfind(needle(args)?), text)?,
        "ljust" => padded(text, args, |missing| (0, missing))?,
        "rjust" => padded(text, args, |missing| (missing, 0))?,
        "center" => {
            let (width, _): (usize, Option<&str>) = from_args(args)?;
            padded(text, args, |missing| centered(missing, width))?
        }
        "zfill" => {
            let (width,): (usize,) = from_args(args)?;
            let (sign, digits) = text.split_at(usize::from(text.starts_with(['+', '-'])));
            let missing = checked_width(width)?.saturating_sub(text.chars().count());
            format!("{sign}{}{digits}", "0".repeat(missing)).into()
        }
        _ => return Ok(None),
    };
    Ok(Some(value))
}

fn without_arguments(args: &[Value], text: String) -> Result<Value, Error> {
    let () = from_args(args)?;
    Ok(text.into())
}

/// Makes every letter after a letter lowercase, and every other letter uppercase.
fn title(text: &str) -> String {
    let mut title = String::with_capacity(text.len());
    let mut is_inside = false;
    for c in text.chars() {
        if is_inside {
            title.extend(c.to_lowercase());
        } else {
            title.extend(c.to_uppercase());
        }
        is_inside = c.is_alphabetic();
    }
    title
}

fn swap_case(text: &str) -> String {
    let swapped = text
        .chars()
        .flat_map(|c| -> Box<dyn Iterator<Item = char>> {
            if c.is_uppercase() {
                Box::new(c.to_lowercase())
            } else {
                Box::new(c.to_uppercase())
            }
        });
    swapped.collect()
}

fn needle<'a>(args: &'a [Value]) -> Result<&'a str, Error> {
    let (needle,): (&'a str,) = from_args(args)?;
    Ok(needle)
}

fn separator(args: &[Value]) -> Result<&str, Error> {
    match needle(args)? {
        "" => Err(invalid("empty separator")),
        separator => Ok(separator),
    }
}

fn position(byte: Option<usize>, text: &str) -> Result<Value, Error> {
    let byte = byte.ok_or_else(|| invalid("substring not found"))?;
    Ok(text[..byte].chars().count().into())
}

fn rsplit(text: &str, separator: Option<&str>, most: Option<i64>) -> Result<Value, Error> {
    // As in Python, a negative number means no limit.
    let most = most.and_then(|most| usize::try_from(most).ok());
    let most = most.unwrap_or(usize::MAX - 1) + 1;
    let mut pieces: Vec<&str> = match separator {
        Some("") => return Err(invalid("empty separator")),
        Some(separator) => text.rsplitn(most, separator).collect(),
        None => {
            let mut pieces = Vec::new();
            let mut rest = text.trim_end();
            while !rest.is_empty() && pieces.len() + 1 < most {
                let start = rest.rfind(char::is_whitespace).map_or(0, |at| {
                    at + rest[at..].chars().next().map_or(0, char::len_utf8)
                });
                pieces.push(&rest[start..]);
                rest = rest[..start].trim_end();
            }
            pieces.extend((!rest.is_empty()).then_some(rest));
            pieces
        }
    };
    pieces.reverse();
    Ok(pieces.into_iter().collect())
}

/// Pads `text` on both sides; `sides` splits the number of missing characters.
fn padded(
    text: &str,
    args: &[Value],
    sides: impl Fn(usize) -> (usize, usize),
) -> Result<Value, Error> {
    let (width, fill): (usize, Option<&str>) = from_args(args)?;
    let fill = fill.unwrap_or(" ");
    if fill.chars().count() != 1 {
        return Err(invalid(
            "the fill character must be exactly one character long",
        ));
    }
    let missing = checked_width(width)?.saturating_sub(text.chars().count());
    let (left, right) = sides(missing);
    Ok(format!("{}{text}{}", fill.repeat(left), fill.repeat(right)).into())
}

fn invalid(text: &str) -> Error {
    Error::new(ErrorKind::InvalidOperation, text.to_owned())
}
