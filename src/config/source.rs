//! A TOML file, parsed once: its values as a tree, and where each stands in the text.

use std::collections::HashMap;
use std::ops::Range;
use std::path::{Path, PathBuf};

use serde_json::{Map, Number, Value};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::address::Address;

/// A file as it was written.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Source {
    /// As it was named.
    pub path: PathBuf,
    /// Its text.
    pub text: String,
    /// Its values; what could not be parsed is left out.
    pub tree: Value,
    /// What could not, with its place.
    pub syntax: Vec<(String, Option<Range<usize>>)>,
    /// Values that have a syntax error in them: the tree holds a guess of the parser.
    pub broken: Vec<Address>,
    places: HashMap<Address, Place>,
}

/// Bytes of the text.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Place {
    key: Range<usize>,
    value: Range<usize>,
}

impl Source {
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

    /// Where the value at `address` stands; of one that has none, the nearest table around it.
    pub(crate) fn place_of(&self, address: &Address) -> Option<Range<usize>> {
        let mut address = Some(address.clone());
        while let Some(here) = address {
            if let Some(place) = self.places.get(&here) {
                // A table's own place is all of it: its name says which.
                let is_table = here.get(&self.tree).is_some_and(Value::is_object);
                return Some(if is_table { &place.key } else { &place.value }.clone());
            }
            address = here.parent();
        }
        None
    }

    /// Where the key at `address` stands.
    pub(crate) fn place_of_key(&self, address: &Address) -> Option<Range<usize>> {
        self.places.get(address).map(|place| place.key.clone())
    }

    /// Whether the lines of a place speak of a secret, misspelled or cut ones too. Where texts of several lines are
    /// `broken`, all before it count.
    pub(crate) fn may_show_secret(&self, place: &Range<usize>, broken: bool) -> bool {
        let before = &self.text[..place.end];
        let has_long_texts = before.contains(r#"""""#) || before.contains("'''");
        let start = if broken && has_long_texts {
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
            // `auto` is a likely value of other keys.
            (word != "auto" && strsim::osa_distance(word, "auth") <= 1)
                // `max_tokens` is a number.
                || (word != "tokens" && strsim::osa_distance(word, "token") <= 1)
                || matches!(
                    word,
                    "secret" | "password" | "passwd" | "bearer" | "key" | "apikey"
                )
        })
    }

    /// Line and column of a place, in characters, from 1.
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

    /// `FILE:LINE:COLUMN` of a place.
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
        // What does not fit is left as text, which is then refused with the range that does.
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
