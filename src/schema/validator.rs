//! Validation of values: finished answers, values that a schema lists, and samples of formats.

use serde_json::{Value, json};

use super::{CheckError, SchemaFault, fault};

/// Maximum size of a compiled pattern, in bytes.
pub(super) const PATTERN_BYTES: usize = 1 << 20;

/// Maximum number of steps that a pattern with lookarounds may take.
const BACKTRACKS: usize = 100_000;

/// A compiled schema.
#[derive(Debug)]
pub(super) struct Validator(jsonschema::Validator);

impl Validator {
    /// Compiles `document`, a schema of draft 2020-12.
    pub(super) fn compile(document: &Value) -> Result<Self, SchemaFault> {
        let patterns = jsonschema::PatternOptions::fancy_regex()
            .backtrack_limit(BACKTRACKS)
            .size_limit(PATTERN_BYTES)
            .dfa_size_limit(PATTERN_BYTES);
        jsonschema::draft202012::options()
            .should_validate_formats(true)
            .with_pattern_options(patterns)
            .build(document)
            .map(Self)
            .map_err(|error| fault("#", error))
    }

    /// Compiles a validator of texts that the ECMA-262 `pattern` matches.
    pub(super) fn compile_pattern(pattern: &str) -> Result<Self, SchemaFault> {
        Self::compile(&json!({"pattern": pattern}))
    }

    /// Returns whether `value` follows the schema.
    pub(super) fn is_valid(&self, value: &Value) -> bool {
        self.0.is_valid(value)
    }

    /// Checks that `value` follows the schema.
    ///
    /// # Errors
    /// `Invalid` for the first fault of `value`.
    pub(super) fn check(&self, value: &Value) -> Result<(), CheckError> {
        let checked = self.0.validate(value);
        checked.map_err(|error| CheckError::Invalid {
            pointer: error.instance_path().to_string(),
            reason: error.to_string(),
        })
    }
}
