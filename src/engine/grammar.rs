//! A JSON Schema → the tokens that may come next, by llguidance.
//!
//! Its matcher is used directly: every error of it ends the call. Whitespace is the one separator after `,` and `:`, since a
//! model that may write as much of it as it likes may never do anything else.
//!
//! Which schemas are let through is decided before ([`crate::schema`]): llguidance ignores keywords that it does
//! not know.

use std::fmt;
use std::sync::Arc;

use llguidance::api::TopLevelGrammar;
use llguidance::toktrie::{ApproximateTokEnv, SimpleVob, TokEnv, TokRxInfo, TokTrie};
use llguidance::{Matcher, ParserFactory};
use serde_json::{Value, json};

use super::token::Token;
use super::{EngineError, EngineErrorKind};

/// What a vocabulary is to grammars.
pub(crate) trait GrammarVocabulary {
    /// The bytes of every token, in order; none for control tokens, which no text is made of.
    fn words(&self) -> Vec<Vec<u8>>;
    /// A token that ends an answer.
    fn end(&self) -> Option<Token>;
}

/// Tokens of a word of llguidance's masks.
const WORD: usize = u32::BITS as usize;

/// Makes grammars for one vocabulary. Costs 0.2 to 1 s to make, and 40 MB for 262,144 tokens.
pub(crate) struct Grammars {
    factory: ParserFactory,
    tokens: TokEnv,
}

/// Where an answer stands in its grammar.
#[derive(Clone)]
pub(crate) struct Grammar {
    matcher: Box<Matcher>,
    tokens: TokEnv,
}

impl fmt::Debug for Grammars {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Grammars").finish_non_exhaustive()
    }
}

impl fmt::Debug for Grammar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Grammar").finish_non_exhaustive()
    }
}

impl Grammars {
    /// For the model of `vocabulary`.
    ///
    /// # Errors
    /// `Grammar` where it has no end.
    pub(crate) fn new(vocabulary: &impl GrammarVocabulary) -> Result<Self, EngineError> {
        let end = vocabulary.end().and_then(|end| u32::try_from(end).ok());
        let end = end.ok_or_else(|| error("the model has no token that ends an answer"))?;
        let words = vocabulary.words();
        let size = u32::try_from(words.len()).map_err(|cause| error(&cause.to_string()))?;
        let trie = TokTrie::from(&TokRxInfo::new(size, end), &words);
        let tokens: TokEnv = Arc::new(ApproximateTokEnv::new(trie));
        Self::of(&tokens)
    }

    /// For no model in particular: which schemas can be enforced does not depend on one.
    ///
    /// # Errors
    /// None that is known.
    pub(crate) fn of_bytes() -> Result<Self, EngineError> {
        Self::of(&ApproximateTokEnv::single_byte_env())
    }

    fn of(tokens: &TokEnv) -> Result<Self, EngineError> {
        let mut factory =
            ParserFactory::new_simple(tokens).map_err(|cause| error(&cause.to_string()))?;
        factory.quiet();
        let tokens = Arc::clone(tokens);
        Ok(Self { factory, tokens })
    }

    /// A grammar of the JSON texts that `schema` allows.
    ///
    /// # Errors
    /// `Grammar` where it cannot be enforced.
    pub(crate) fn json(&self, schema: &Value) -> Result<Grammar, EngineError> {
        self.grammar(schema).map_err(|reason| error(&reason))
    }

    /// Checks that a grammar can be made of `schema`.
    ///
    /// # Errors
    /// The reason why it cannot.
    pub(crate) fn check(&self, schema: &Value) -> Result<(), String> {
        let made = self.grammar(schema);
        let begun = made.and_then(|mut grammar| grammar.begin());
        begun.map_err(|cause| reason_of(&cause).to_owned())
    }

    fn grammar(&self, schema: &Value) -> Result<Grammar, String> {
        let mut schema = schema.clone();
        if let Some(table) = schema.as_object_mut() {
            table.insert(
                "x-guidance".into(),
                json!({"whitespace_flexible": false, "item_separator": ", ", "key_separator": ": "}),
            );
        }
        let grammar = TopLevelGrammar::from_json_schema(schema);
        let matcher = Matcher::new(self.factory.create_parser(grammar));
        match matcher.get_error() {
            None => Ok(Grammar {
                matcher: Box::new(matcher),
                tokens: Arc::clone(&self.tokens),
            }),
            Some(cause) => Err(cause),
        }
    }
}

/// Returns the reason of llguidance's error `cause`: in the words of a schema, if schemas that passed our own checks can have it.
fn reason_of(cause: &str) -> &str {
    let known = [
        (
            "too big (limit for this grammar",
            "the schema is too large for the grammar; name fewer properties and values",
        ),
        (
            "Regex is empty",
            "no text follows it: pattern and lengths contradict each other",
        ),
        (
            "Unable to determine if regex is empty",
            "is too complex together with its lengths; give a smaller `maxLength`, or a simpler pattern",
        ),
        // Known only when a text has been begun.
        (
            "Current row has",
            "too many properties or texts may come next; name fewer optional properties, or require some",
        ),
        (
            "too many expressions",
            "a pattern is too complex for a long text; give a smaller `maxLength`, or a simpler pattern",
        ),
    ];
    let known = known.iter().find(|(words, _)| cause.contains(words));
    // What follows the first line is llguidance's own state.
    let first = cause.lines().next().unwrap_or_default();
    known.map_or(first, |(_, reason)| reason)
}

fn error(cause: &str) -> EngineError {
    let reason = reason_of(cause);
    EngineError::new(
        EngineErrorKind::Grammar,
        format!("the schema cannot be enforced: {reason}"),
    )
}

impl Grammar {
    /// Begins an object, if the grammar allows one: some limits are met only then.
    fn begin(&mut self) -> Result<(), String> {
        let mut begin = || {
            let tokens = self.tokens.tokenize("{\"");
            let valid = self.matcher.validate_tokens(&tokens)?;
            self.matcher.consume_tokens(&tokens[..valid])?;
            self.matcher.compute_mask().map(drop)
        };
        begin().map_err(|cause| cause.to_string())
    }

    /// Whether `token` may come next.
    ///
    /// # Errors
    /// What keeps the grammar from being followed.
    pub(crate) fn allows(&mut self, token: Token, is_end: bool) -> Result<bool, EngineError> {
        let allowed = if is_end {
            self.matcher.is_accepting()
        } else {
            let token = [u32::try_from(token).map_err(|cause| error(&cause.to_string()))?];
            self.matcher.validate_tokens(&token).map(|valid| valid == 1)
        };
        allowed.map_err(|cause| error(&cause.to_string()))
    }

    /// All tokens that may come next.
    ///
    /// # Errors
    /// As [`Self::allows`].
    pub(crate) fn mask(&mut self) -> Result<Mask, EngineError> {
        let ends = self.allows(0, true)?;
        let tokens = self.matcher.compute_mask();
        let tokens = tokens.map_err(|cause| error(&cause.to_string()))?;
        Ok(Mask { tokens, ends })
    }

    /// `token`, which is allowed and no end, comes next.
    ///
    /// # Errors
    /// As [`Self::allows`].
    pub(crate) fn take(&mut self, token: Token) -> Result<(), EngineError> {
        let token = u32::try_from(token).map_err(|cause| error(&cause.to_string()))?;
        let taken = self.matcher.consume_token(token);
        taken.map_err(|cause| error(&cause.to_string()))
    }

    /// Accepts `text` if the grammar allows it next. Otherwise returns `false` and changes nothing.
    ///
    /// # Errors
    /// As [`Self::allows`].
    pub(crate) fn take_text(&mut self, text: &str) -> Result<bool, EngineError> {
        let tokens = self.tokens.tokenize(text);
        let valid = self.matcher.validate_tokens(&tokens);
        let is_valid = valid.map_err(|cause| error(&cause.to_string()))? == tokens.len();
        if is_valid {
            let taken = self.matcher.consume_tokens(&tokens);
            taken.map_err(|cause| error(&cause.to_string()))?;
        }
        Ok(is_valid)
    }

    /// The answer is whole, and nothing may follow.
    pub(crate) fn is_complete(&self) -> bool {
        self.matcher.is_stopped() && !self.matcher.is_error()
    }
}

/// Tokens that may come next.
#[derive(Debug)]
pub(crate) struct Mask {
    tokens: SimpleVob,
    ends: bool,
}

impl Mask {
    /// Puts `logits`, by the place of their token, into `allowed`, with −∞ for those that may not come next. `ends` are all
    /// tokens that end an answer.
    pub(crate) fn apply(&self, logits: &[f32], ends: &[Token], allowed: &mut Vec<f32>) {
        allowed.clear();
        allowed.resize(logits.len(), f32::NEG_INFINITY);
        let blocks = logits.chunks(WORD).zip(allowed.chunks_mut(WORD));
        let blocks = self.tokens.as_slice().iter().zip(blocks);
        for (word, (logits, allowed)) in blocks.filter(|(word, _)| **word != 0) {
            for (bit, (logit, allowed)) in logits.iter().zip(allowed).enumerate() {
                if word >> bit & 1 == 1 {
                    *allowed = *logit;
                }
            }
        }
        for end in ends.iter().filter_map(|end| usize::try_from(*end).ok()) {
            allowed[end] = if self.ends {
                logits[end]
            } else {
                f32::NEG_INFINITY
            };
        }
    }
}

#[cfg(test)]
mod tests;
