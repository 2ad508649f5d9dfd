//! JSON without duplicate keys.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

/// Parses `text`, and refuses duplicate keys. `serde_json` itself keeps the last member of a key.
///
/// ```text
/// parse_unique(r#"{"a": 1, "b": {"a": 2}}"#)    // Ok
/// parse_unique(r#"{"a": 1, "a": 2}"#)           // Err("the name `a` occurs twice in an object at …")
/// ```
///
/// # Errors
/// Fails if `text` is not valid JSON, nests deeper than 127 levels, or has a duplicate key in an object.
pub(crate) fn parse_unique(text: &str) -> serde_json::Result<Value> {
    let mut reader = serde_json::Deserializer::from_str(text);
    let value = Unique.deserialize(&mut reader)?;
    reader.end()?;
    Ok(value)
}

struct Unique;

impl<'de> DeserializeSeed<'de> for Unique {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> Result<Value, D::Error> {
        reader.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Unique {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut made = Vec::new();
        while let Some(item) = items.next_element_seed(Self)? {
            made.push(item);
        }
        Ok(made.into())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Value, A::Error> {
        let mut made = Map::new();
        while let Some(name) = members.next_key::<String>()? {
            if made.contains_key(&name) {
                let twice = format!("the name `{name}` occurs twice in an object");
                return Err(A::Error::custom(twice));
            }
            let value = members.next_value_seed(Self)?;
            made.insert(name, value);
        }
        Ok(made.into())
    }
}
