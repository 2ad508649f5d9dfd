//! Parses a TOML file into a tree of values, each with its place in the text.

use std::collections::HashMap;
use std::ops::Range;
use std::path::{Path, PathBuf};

use serde_json::{Map, Number, Value};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::address::Address;

/// The text of a configuration file, and its values.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct SourceText {
    /// Path as given.
    pub path: PathBuf,
    /// Content of the file.
    pub text: String,
    /// Values of the file, without the parts that could not be parsed.
    pub tree: Value,
    /// Syntax errors, each with its place if it is known.
    pub syntax: Vec<(String, Option<Range<usize>>)>,
    /// Addresses of values with a syntax error inside. The tree contains the guesses of the parser for them.
    pub broken: Vec<Address>,
    places: HashMap<Address, Place>,
}

/// Byte ranges of a key and its value in the text.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Place {
    key: Range<usize>,
    value: Range<usize>,
}

impl SourceText {
    /// Parses `text`, the content of `path`.
    pub(crate) fn parse(path: &Path, text: String) -> Self {
        let mut places = HashMap::new();
        let (document, errors) = DeTable::parse_recoverable(&text);
        let tree = table(document.get_ref(), &Address::default(), &mut places);
        let syntax: Vec<_> = errors
            .into_iter()
            .map(|error| (error.message().to_owned(), error.span()))
            .collect();
        let is_broken = |address: &Address, place: &Place| {
            let is_value = address.get(&tree).is_some_and(|value| !value.is_object());
            let mut errors = syntax.iter().filter_map(|(_, error)| error.as_ref());
            is_value && errors.any(|error| place.value.contains(&error.start))
        };
        let broken = places
            .iter()
            .filter(|(address, place)| is_broken(address, place));
        let broken = broken.map(|(address, _)| address.clone()).collect();
        Self {
            path: path.into(),
            tree,
            syntax,
            broken,
            places,
            text,
        }
    }

    /// Returns the place of the value at `address`, or else of the nearest table around it.
    pub(crate) fn place_of(&self, address: &Address) -> Option<Range<usize>> {
        let mut address = Some(address.clone());
        while let Some(here) = address {
            if let Some(place) = self.places.get(&here) {
                // The value of a table is all of its lines, so its name is shown instead.
                let is_table = here.get(&self.tree).is_some_and(Value::is_object);
                return Some(if is_table { &place.key } else { &place.value }.clone());
            }
            address = here.parent();
        }
        None
    }

    /// Returns the place of the key at `address`.
    pub(crate) fn place_of_key(&self, address: &Address) -> Option<Range<usize>> {
        self.places.get(address).map(|place| place.key.clone())
    }

    /// Returns whether the lines at `place` may show a secret, judging by words such as `auth` or `token`, even misspelled. In a file that
    /// `is_broken`, the place may be inside a multi-line string, so all lines before it count, too.
    pub(crate) fn may_show_secret(&self, place: &Range<usize>, is_broken: bool) -> bool {
        let before = &self.text[..place.end];
        let has_multiline_string = before.contains(r#"""""#) || before.contains("'''");
        let start = if is_broken && has_multiline_string {
            0
        } else {
            self.text[..place.start].rfind('\n').map_or(0, |at| at + 1)
        };
        let end = self.text[place.end..]
            .find('\n')
            .map_or(self.text.len(), |at| place.end + at);
        let lines = self.text[start..end].to_lowercase();
        let mut words = lines.split(|c: char| !c.is_alphanumeric());
        words.any(|word| {
            // `auto` is a value of other keys.
            (word != "auto" && strsim::osa_distance(word, "auth") <= 1)
                // `tokens` is a part of `max_tokens`, a number.
                || (word != "tokens" && strsim::osa_distance(word, "token") <= 1)
                || matches!(
                    word,
                    "secret" | "password" | "passwd" | "bearer" | "key" | "apikey"
                )
        })
    }

    /// Returns line and column of a place. Both start at 1, and columns count characters.
    pub(crate) fn line_and_column(&self, place: &Range<usize>) -> (usize, usize) {
        let before = &self.text[..place.start];
        let line = before.matches('\n').count() + 1;
        let column = before
            .rsplit('\n')
            .next()
            .unwrap_or_default()
            .chars()
            .count()
            + 1;
        (line, column)
    }

    /// Returns `FILE:LINE:COLUMN` of a place.
    pub(crate) fn position(&self, place: &Range<usize>) -> String {
        let (line, column) = self.line_and_column(place);
        format!("{}:{line}:{column}", self.path.display())
    }
}

fn table(entries: &DeTable<'_>, address: &Address, places: &mut HashMap<Address, Place>) -> Value {
    let entries = entries.iter().map(|(key, value)| {
        let name = key.get_ref().to_string();
        let address = address.join(&name);
        let place = Place {
            key: key.span(),
            value: value.span(),
        };
        places.insert(address.clone(), place);
        (name, tree(value, &address, places))
    });
    Value::Object(entries.collect::<Map<_, _>>())
}

fn tree(
    value: &Spanned<DeValue<'_>>,
    address: &Address,
    places: &mut HashMap<Address, Place>,
) -> Value {
    match value.get_ref() {
        DeValue::String(text) => Value::String(text.to_string()),
        // A number that does not fit becomes a string, which the schema rejects with the allowed range.
        DeValue::Integer(integer) => i64::from_str_radix(integer.as_str(), integer.radix())
            .map_or_else(
                |_too_large| Value::String(integer.as_str().into()),
                Value::from,
            ),
        DeValue::Float(float) => float
            .as_str()
            .parse()
            .ok()
            .and_then(Number::from_f64)
            .map_or_else(|| Value::String(float.as_str().into()), Value::Number),
        DeValue::Boolean(truth) => Value::Bool(*truth),
        DeValue::Datetime(time) => Value::String(time.to_string()),
        DeValue::Array(items) => (0..)
            .zip(items.iter())
            .map(|(at, item): (usize, _)| {
                let address = address.join(at.to_string());
                let place = Place {
                    key: item.span(),
                    value: item.span(),
                };
                places.insert(address.clone(), place);
                tree(item, &address, places)
            })
            .collect(),
        DeValue::Table(entries) => table(entries, address, places),
    }
}
