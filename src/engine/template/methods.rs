//! Methods of Python strings that `minijinja_contrib` lacks, or supports without some of their arguments.

use minijinja::value::{Kwargs, Rest, from_args};
use minijinja::{Error, ErrorKind, State, Value};

use super::budget::check_bytes;
use super::filters::assign_arguments;
use super::padding::{centered, checked_width};

/// Maximum distance of tab stops, because it multiplies the length of a text of tabs.
const MAX_TAB: usize = 64;

/// Calls `text.method(args)`. Returns `None` if the method is not one of this module.
pub(super) fn call(
    state: &State<'_, '_>,
    text: &str,
    method: &str,
    args: &[Value],
) -> Result<Option<Value>, Error> {
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
        "split" => {
            let (separator, most) = split_arguments(args)?;
            split(text, separator.as_deref(), most)?
        }
        "rsplit" => {
            let (separator, most) = split_arguments(args)?;
            rsplit(text, separator.as_deref(), most)?
        }
        "splitlines" => {
            let options = named_arguments(&["keepends"], args)?;
            let keeps_ends = options.get::<Option<Value>>("keepends")?;
            options.assert_all_used()?;
            split_lines(text, keeps_ends.is_some_and(|keeps| keeps.is_true()))
        }
        "expandtabs" => {
            let options = named_arguments(&["tabsize"], args)?;
            let size = options.get::<Option<i64>>("tabsize")?.unwrap_or(8);
            options.assert_all_used()?;
            let size = usize::try_from(size).unwrap_or(0);
            let tabs = text.matches('\t').count();
            check_bytes(state, tabs.saturating_mul(size).saturating_add(text.len()))?;
            expand_tabs(text, size)?.into()
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

/// Capitalises each word: letters after a letter become lowercase, and all other letters become uppercase.
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

/// Assigns the arguments of a method to `names`.
fn named_arguments(names: &[&str], args: &[Value]) -> Result<Kwargs, Error> {
    let (args, named): (Rest<Value>, Kwargs) = from_args(args)?;
    assign_arguments(names, &args, &named)
}

/// Returns the separator and the maximum number of splits.
fn split_arguments(args: &[Value]) -> Result<(Option<String>, usize), Error> {
    let options = named_arguments(&["sep", "maxsplit"], args)?;
    let separator = options.get::<Option<String>>("sep")?;
    let most = options.get::<Option<i64>>("maxsplit")?;
    options.assert_all_used()?;
    // As in Python, a negative number means no limit.
    let most = most.and_then(|most| usize::try_from(most).ok());
    Ok((separator, most.unwrap_or(usize::MAX).saturating_add(1)))
}

fn split(text: &str, separator: Option<&str>, most: usize) -> Result<Value, Error> {
    let pieces: Vec<&str> = match separator {
        Some("") => return Err(invalid("empty separator")),
        Some(separator) => text.splitn(most, separator).collect(),
        None => {
            let mut pieces = Vec::new();
            let mut rest = text.trim_start();
            while pieces.len() + 1 < most
                && let Some((piece, behind)) = rest.split_once(char::is_whitespace)
            {
                pieces.push(piece);
                rest = behind.trim_start();
            }
            pieces.extend((!rest.is_empty()).then_some(rest));
            pieces
        }
    };
    Ok(pieces.into_iter().collect())
}

/// Splits `text` at all line ends that Python knows, not only at line feeds.
fn split_lines(text: &str, keeps_ends: bool) -> Value {
    let mut lines = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        let length = rest.find(is_line_end).unwrap_or(rest.len());
        let behind = &rest[length..];
        let end = if behind.starts_with("\r\n") {
            2
        } else {
            behind.chars().next().map_or(0, char::len_utf8)
        };
        lines.push(&rest[..length + if keeps_ends { end } else { 0 }]);
        rest = &behind[end..];
    }
    lines.into_iter().collect()
}

fn is_line_end(c: char) -> bool {
    matches!(
        c,
        '\n'..='\r' | '\u{1c}'..='\u{1e}' | '\u{85}' | '\u{2028}' | '\u{2029}'
    )
}

/// Replaces each tab with spaces up to the next multiple of `size` columns.
fn expand_tabs(text: &str, size: usize) -> Result<String, Error> {
    if size > MAX_TAB {
        let text = format!("expandtabs: the tab size must be at most {MAX_TAB}");
        return Err(Error::new(ErrorKind::InvalidOperation, text));
    }
    let mut expanded = String::with_capacity(text.len());
    let mut column = 0;
    for c in text.chars() {
        match c {
            '\t' => {
                let spaces = if size == 0 { 0 } else { size - column % size };
                expanded.extend(std::iter::repeat_n(' ', spaces));
                column += spaces;
            }
            '\n' | '\r' => {
                expanded.push(c);
                column = 0;
            }
            _ => {
                expanded.push(c);
                column += 1;
            }
        }
    }
    Ok(expanded)
}

fn rsplit(text: &str, separator: Option<&str>, most: usize) -> Result<Value, Error> {
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

/// Pads `text` on both sides. `sides` divides the missing characters.
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
