//! The sampling parameters as arguments of calls.

use std::sync::LazyLock;

use serde_json::Value;

use super::sampling::SamplingOverrides;
use super::validate::{ValueCheck, schema_of};

/// A sampling parameter as an argument of calls.
#[derive(Debug)]
pub(crate) struct Parameter {
    pub name: String,
    /// The JSON Schema of its values, with a description.
    pub schema: Value,
    pub check: ValueCheck,
}

/// Prefix of the parameters that only the configuration may set. llama.cpp searches the whole vocabulary for the sequence breakers of DRY,
/// which stalls all calls of the model for tenths of a second or more.
const COSTLY: &str = "dry_";

/// The sampling parameters that calls may set, in the order of their declaration.
pub(crate) static PARAMETERS: LazyLock<Vec<Parameter>> = LazyLock::new(|| {
    let schema = Value::from(schema_of::<SamplingOverrides>());
    let properties = schema["properties"].as_object().into_iter().flatten();
    let properties = properties.filter(|(name, _)| !name.starts_with(COSTLY));
    let parameter = |(name, schema): (&String, &Value)| Parameter {
        name: name.clone(),
        check: ValueCheck::new(schema),
        schema: schema.clone(),
    };
    properties.map(parameter).collect()
});

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::config::SamplingParams;

    #[test]
    fn every_default_is_in_its_range() {
        let defaults = json!(SamplingParams::default().for_answer(false));
        for Parameter { name, check, .. } in PARAMETERS.iter() {
            let default = &defaults[name];
            assert!(default.is_null() || check.check(default).is_ok(), "{name}");
        }
    }
}
