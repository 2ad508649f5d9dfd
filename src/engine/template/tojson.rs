//! The `tojson` filter of `transformers`: Python's `json.dumps`, without escapes for HTML.

use std::io::{self, Write};

use minijinja::value::Kwargs;
use minijinja::{Error, ErrorKind, State, Value};
use serde::Serialize;
use serde_json::ser::{Formatter, Serializer};

use super::budget;

/// Maximum indent. A greater one would only serve to exhaust memory.
const MAX_INDENT: usize = 16;

/// Formats a value: `value | tojson(indent=none, ensure_ascii=false, separators=none, sort_keys=false)`.
#[expect(
    clippy::needless_pass_by_value,
    reason = "minijinja passes keyword arguments by value"
)]
pub(super) fn tojson(
    state: &State<'_, '_>,
    value: &Value,
    indent: Option<usize>,
    options: Kwargs,
) -> Result<String, Error> {
    let indent = match indent {
        Some(indent) => Some(indent),
        None => options.get::<Option<usize>>("indent")?,
    };
    let indent = indent.map(|indent| indent.min(MAX_INDENT));
    let ensure_ascii = options
        .get::<Option<bool>>("ensure_ascii")?
        .unwrap_or(false);
    let sort_keys = options.get::<Option<bool>>("sort_keys")?.unwrap_or(false);
    let separators = options.get::<Option<Vec<String>>>("separators")?;
    options.assert_all_used()?;

    budget::check_json(state, value)?;
    let mut json = serde_json::to_value(value).map_err(bad_json)?;
    if sort_keys {
        json.sort_all_objects();
    }
    let (item, key) = match separators.as_deref() {
        Some([item, key]) => (item.clone(), key.clone()),
        Some(_) => {
            return Err(Error::new(
                ErrorKind::InvalidOperation,
                "tojson: `separators` must be two strings",
            ));
        }
        // Like `json.dumps`: no space after a comma at the end of a line.
        None if indent.is_some() => (",".to_owned(), ": ".to_owned()),
        None => (", ".to_owned(), ": ".to_owned()),
    };
    let mut out = budget::limited_buffer(state);
    let format = PythonFormat {
        item,
        key,
        indent,
        ensure_ascii,
        depth: 0,
        has_value: false,
    };
    json.serialize(&mut Serializer::with_formatter(&mut out, format))
        .map_err(|error| {
            if error.is_io() {
                Error::from(ErrorKind::OutOfFuel)
            } else {
                bad_json(error)
            }
        })?;
    String::from_utf8(out.into_inner())
        .map_err(|error| Error::new(ErrorKind::InvalidOperation, error.to_string()))
}

fn bad_json(error: serde_json::Error) -> Error {
    Error::new(
        ErrorKind::BadSerialization,
        "tojson: the value cannot be written as JSON",
    )
    .with_source(error)
}

struct PythonFormat {
    item: String,
    key: String,
    indent: Option<usize>,
    ensure_ascii: bool,
    depth: usize,
    has_value: bool,
}

impl PythonFormat {
    fn new_line<W: ?Sized + Write>(&self, writer: &mut W) -> io::Result<()> {
        match self.indent {
            Some(indent) => write!(writer, "\n{:1$}", "", indent * self.depth),
            None => Ok(()),
        }
    }

    fn open<W: ?Sized + Write>(&mut self, writer: &mut W, bracket: &[u8]) -> io::Result<()> {
        self.depth += 1;
        self.has_value = false;
        writer.write_all(bracket)
    }

    fn close<W: ?Sized + Write>(&mut self, writer: &mut W, bracket: &[u8]) -> io::Result<()> {
        self.depth -= 1;
        if self.has_value {
            self.new_line(writer)?;
        }
        self.has_value = true;
        writer.write_all(bracket)
    }

    fn next<W: ?Sized + Write>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        if !first {
            writer.write_all(self.item.as_bytes())?;
        }
        self.new_line(writer)
    }
}

impl Formatter for PythonFormat {
    fn begin_array<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.open(writer, b"[")
    }

    fn end_array<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.close(writer, b"]")
    }

    fn begin_array_value<W: ?Sized + Write>(
        &mut self,
        writer: &mut W,
        first: bool,
    ) -> io::Result<()> {
        self.next(writer, first)
    }

    fn end_array_value<W: ?Sized + Write>(&mut self, _: &mut W) -> io::Result<()> {
        self.has_value = true;
        Ok(())
    }

    fn begin_object<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.open(writer, b"{")
    }

    fn end_object<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.close(writer, b"}")
    }

    fn begin_object_key<W: ?Sized + Write>(
        &mut self,
        writer: &mut W,
        first: bool,
    ) -> io::Result<()> {
        self.next(writer, first)
    }

    fn begin_object_value<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        writer.write_all(self.key.as_bytes())
    }

    fn end_object_value<W: ?Sized + Write>(&mut self, _: &mut W) -> io::Result<()> {
        self.has_value = true;
        Ok(())
    }

    fn write_string_fragment<W: ?Sized + Write>(
        &mut self,
        writer: &mut W,
        fragment: &str,
    ) -> io::Result<()> {
        if !self.ensure_ascii {
            return writer.write_all(fragment.as_bytes());
        }
        for unit in fragment.encode_utf16() {
            match u8::try_from(unit) {
                Ok(byte) if byte.is_ascii() => writer.write_all(&[byte])?,
                _ => write!(writer, "\\u{unit:04x}")?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use minijinja::{Environment, context};
    use serde_json::json;

    fn dumps(call: &str) -> String {
        let mut environment = Environment::new();
        environment.add_filter("tojson", super::tojson);
        let value = json!({"b": [1, "é<"], "a": {}, "c": []});
        environment
            .render_str(
                &format!("{{{{ v | {call} }}}}"),
                context! { v => minijinja::value::Serde(value) },
            )
            .unwrap()
    }

    // Expected texts are the output of Python's `json.dumps`.
    #[test]
    fn json_is_written_as_in_python() {
        assert_eq!(dumps("tojson"), r#"{"b": [1, "é<"], "a": {}, "c": []}"#);
        assert_eq!(
            dumps("tojson(sort_keys=true)"),
            r#"{"a": {}, "b": [1, "é<"], "c": []}"#
        );
        assert_eq!(
            dumps("tojson(ensure_ascii=true, separators=(',', ':'))"),
            r#"{"b":[1,"\u00e9<"],"a":{},"c":[]}"#
        );
        assert_eq!(
            dumps("tojson(indent=2)"),
            "{\n  \"b\": [\n    1,\n    \"é<\"\n  ],\n  \"a\": {},\n  \"c\": []\n}"
        );
    }
}
