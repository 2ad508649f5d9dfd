//! The sampling parameters as arguments of calls.

use std::sync::LazyLock;

use serde_json::Value;

use super::sampling::{CallUse, SamplingOverrides, USES};
use super::validate::{ValueCheck, schema_of};

/// A sampling parameter as an argument of calls.
#[derive(Debug)]
pub(crate) struct Parameter {
    pub name: &'static str,
    /// Whether the input schema of chat tools lists it.
    pub is_listed: bool,
    /// The JSON Schema of its values, with a description.
    pub schema: Value,
    pub check: ValueCheck,
}

/// The sampling parameters that calls may set, in the order of their declaration.
pub(crate) static PARAMETERS: LazyLock<Vec<Parameter>> = LazyLock::new(|| {
    let schema = Value::from(schema_of::<SamplingOverrides>());
    let allowed = USES
        .iter()
        .filter(|(_, call_use)| *call_use != CallUse::Configured);
    let parameter = |(name, call_use): &(&'static str, CallUse)| {
        let schema = &schema["properties"][name];
        Parameter {
            name,
            is_listed: *call_use == CallUse::Listed,
            check: ValueCheck::new(schema),
            schema: schema.clone(),
        }
    };
    allowed.map(parameter).collect()
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
            let default = &defaults[*name];
            assert!(default.is_null() || check.check(default).is_ok(), "{name}");
        }
    }

    #[test]
    fn the_description_of_repeat_penalty_states_its_default() {
        let penalty = PARAMETERS
            .iter()
            .find(|parameter| parameter.name == "repeat_penalty");
        let about = &penalty.unwrap().schema["description"];
        let default = |is_constrained| {
            let params = SamplingParams::default().for_answer(is_constrained);
            params.repeat_penalty.unwrap()
        };
        let (free, constrained) = (default(false), default(true));
        let stated = format!("it is {free}, or {constrained} for an answer that follows a schema");
        assert!(about.as_str().unwrap().contains(&stated), "{about}");
    }
}
