//! The sampling parameters, each declared once.
//!
//! The table generates the keys of models and tools, the arguments of calls, their JSON Schemas and documentation, and the parameters of the
//! engine. The ranges exclude every value with which llama.cpp would abort its process.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

/// Whether calls may set a sampling parameter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CallUse {
    /// Calls may set it, and the input schema lists it, which takes about 40 tokens of every conversation in which a client offers the tool.
    Listed,
    /// Calls may set it, but the input schema does not list it.
    Unlisted,
    /// Only the configuration may set it.
    Configured,
}

macro_rules! sampling_params {
    ($($(#[$attribute:meta])* $name:ident: $type:ty = $default:expr => $use:ident;)*) => {
        /// Sampling parameters, all with a value.
        #[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
        #[serde(default)]
        pub(crate) struct SamplingParams {
            $($(#[$attribute])* pub $name: $type,)*
        }

        impl Default for SamplingParams {
            fn default() -> Self {
                Self { $($name: $default,)* }
            }
        }

        /// The sampling parameters that a tool or a call sets.
        #[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
        #[serde(default)]
        pub(crate) struct SamplingOverrides {
            $($(#[$attribute])* pub $name: Option<$type>,)*
        }

        /// The names of the parameters, each with its use in calls.
        pub(super) const USES: &[(&str, CallUse)] = &[$((stringify!($name), CallUse::$use),)*];

        impl SamplingParams {
            /// Returns these parameters, overridden by what `overrides` sets.
            pub(crate) fn with(self, overrides: SamplingOverrides) -> Self {
                Self { $($name: overrides.$name.unwrap_or(self.$name),)* }
            }
        }
    };
}

sampling_params! {
    /// Randomness; 0 takes the likeliest token.
    // Beyond 2 the text is noise already; above 5 logits lose all difference.
    #[schemars(range(min = 0.0, max = 5.0), example = 0.2)]
    temperature: f64 = 0.7 => Listed;

    /// Only the likeliest tokens that make up this share are drawn from; 1 is off.
    #[schemars(range(min = 0.0, max = 1.0), example = 0.9)]
    top_p: f64 = 0.9 => Listed;

    /// Only so many of the likeliest tokens are drawn from; 0 is off.
    // More than any vocabulary has tokens.
    #[schemars(range(min = 0, max = 10_000_000), example = 40)]
    top_k: i32 = 40 => Listed;

    /// Locally typical sampling: only tokens about as likely as the model expects, up to this share together, are drawn from; 1 is off.
    #[schemars(range(min = 0.0, max = 1.0), example = 0.95)]
    typical_p: f64 = 1.0 => Unlisted;

    /// Only tokens at least this share as likely as the likeliest are drawn from; 0 is off.
    #[schemars(range(min = 0.0, max = 1.0), example = 0.05)]
    min_p: f64 = 0.0 => Listed;

    /// Exclude top choices (XTC): how often, as a share of the tokens drawn, all tokens above `xtc_threshold` except the least likely of them are excluded; 0 is off. Not applied with `temperature` 0 or to an answer that follows a schema.
    #[schemars(range(min = 0.0, max = 1.0), example = 0.5)]
    xtc_probability: f64 = 0.0 => Unlisted;

    /// Probability from which XTC may exclude a token.
    // Above 0.5 there is at most one such token, and the last one is never excluded.
    #[schemars(range(min = 0.0, max = 0.5), example = 0.1)]
    xtc_threshold: f64 = 0.1 => Unlisted;

    /// Added to the logits of tokens, by the token's id or by a text, each of whose tokens gets it: -100 forbids a token. Control tokens such as `<|im_end|>` are given by id. The table of a tool or a call replaces the model's.
    // The range of OpenAI's API.
    #[schemars(
        extend(
            "additionalProperties" = json!({"type": "number", "minimum": -100, "maximum": 100}),
            "propertyNames" = json!({"type": "string", "minLength": 1, "maxLength": 100}),
            "maxProperties" = 300,
        ),
        example = json!({" sorry": -5, "13": -100})
    )]
    logit_bias: Option<BTreeMap<String, f64>> = None => Unlisted;

    /// Makes tokens that occurred less likely; 1 is off. If nothing sets it, it is 1.1, or 1 for an answer that follows a schema, since such answers often repeat values.
    // 0 would divide by nothing; far from 1 nothing is left of the model's choice.
    #[schemars(range(min = 0.1, max = 10.0), example = 1.1)]
    repeat_penalty: Option<f64> = None => Listed;

    /// Taken from the logit of every token that occurred; 0 is off.
    // The range of OpenAI's API; negative values make repetition likelier.
    #[schemars(range(min = -2.0, max = 2.0), example = 0.1)]
    presence_penalty: f64 = 0.0 => Unlisted;

    /// Taken from it for every time that it occurred; 0 is off.
    #[schemars(range(min = -2.0, max = 2.0), example = 0.1)]
    frequency_penalty: f64 = 0.0 => Unlisted;

    /// How many of the last tokens the penalties look at; 0 switches them off.
    #[schemars(range(min = 0, max = 1_000_000), example = 64)]
    repeat_last_n: u32 = 64 => Unlisted;

    /// DRY, a penalty of tokens that would continue a repetition: its strength; 0 is off. After a repeated sequence of n tokens, `dry_multiplier` × `dry_base`^(n − `dry_allowed_length`) is taken from the logit. A call cannot set the parameters of DRY. Not applied to an answer that follows a schema.
    // Not for calls: llama.cpp searches the whole vocabulary for the sequence breakers of DRY, which stalls all calls of the model for tenths
    // of a second or more.
    #[schemars(range(min = 0.0, max = 100.0), example = 0.8)]
    dry_multiplier: f64 = 0.0 => Configured;

    /// How fast the penalty of DRY grows with the length of a repetition.
    #[schemars(range(min = 1.0, max = 100.0), example = 1.75)]
    dry_base: f64 = 1.75 => Configured;

    /// Tokens of the longest repetition without a penalty of DRY.
    #[schemars(range(min = 1, max = 1_000_000), example = 2)]
    dry_allowed_length: i32 = 2 => Configured;

    /// How many of the last tokens DRY looks at; -1 is the whole context, 0 switches it off.
    #[schemars(range(min = -1, max = 1_000_000), example = -1)]
    dry_penalty_last_n: i32 = -1 => Configured;

    /// Texts at which DRY ends every repetition.
    #[schemars(length(max = 16), inner(length(min = 1, max = 40)), example = json!(["\n", ":", "\"", "*"]))]
    dry_sequence_breakers: Vec<String> = ["\n", ":", "\"", "*"].map(str::to_owned).to_vec() => Configured;

    /// Seed of the random choice; -1 draws one for every call.
    // 4294967295 means "random" to llama.cpp.
    #[schemars(range(min = -1, max = 4_294_967_294_i64), example = 42)]
    seed: i64 = 42 => Listed;
}

/// The default of `repeat_penalty` for free text.
const REPEAT_PENALTY: f64 = 1.1;

impl SamplingParams {
    /// Returns the parameters for an answer that follows a schema (`is_constrained`), or for free text.
    ///
    /// JSON repeats values more often than prose: with a penalty, a model lists eight equal numbers as eight different ones. It also repeats
    /// keys, which DRY would avoid. XTC would exclude the likeliest token, which is the right one.
    #[must_use]
    pub(crate) fn for_answer(mut self, is_constrained: bool) -> Self {
        let unset = if is_constrained { 1.0 } else { REPEAT_PENALTY };
        self.repeat_penalty.get_or_insert(unset);
        if is_constrained {
            self.dry_multiplier = 0.0;
            self.xtc_probability = 0.0;
        }
        self
    }

    /// Replaces a seed of -1 with the seed that `draw` returns.
    #[must_use]
    pub(crate) fn with_seed(mut self, draw: impl FnOnce() -> u32) -> Self {
        if self.seed < 0 {
            self.seed = draw().into();
        }
        self
    }

    /// Returns the seed as llama.cpp takes it; 0 if none was drawn.
    pub(crate) fn llama_seed(&self) -> u32 {
        u32::try_from(self.seed).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_override_changes_only_its_parameter() {
        let overrides = SamplingOverrides {
            top_k: Some(1),
            repeat_penalty: Some(Some(1.2)),
            ..SamplingOverrides::default()
        };
        let expected = SamplingParams {
            top_k: 1,
            repeat_penalty: Some(1.2),
            ..SamplingParams::default()
        };
        assert_eq!(SamplingParams::default().with(overrides), expected);
    }

    #[test]
    fn an_answer_that_follows_a_schema_has_no_default_penalty_no_dry_and_no_xtc() {
        let params = SamplingParams {
            dry_multiplier: 0.8,
            xtc_probability: 0.5,
            ..SamplingParams::default()
        };
        let free = params.clone().for_answer(false);
        assert_eq!(
            (
                free.repeat_penalty,
                free.dry_multiplier,
                free.xtc_probability
            ),
            (Some(1.1), 0.8, 0.5)
        );
        let constrained = params.for_answer(true);
        let SamplingParams {
            repeat_penalty,
            dry_multiplier,
            xtc_probability,
            ..
        } = constrained;
        assert_eq!(
            (repeat_penalty, dry_multiplier, xtc_probability),
            (Some(1.0), 0.0, 0.0)
        );
    }
}
