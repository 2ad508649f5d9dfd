//! Constrained decoding: turns a JSON Schema into masks of allowed tokens, using llguidance.
//!
//! Every error of llguidance's matcher ends the call. Between tokens of JSON the grammar allows exactly one space after `,` and `:`: a
//! model that can write any amount of white space may write nothing else.
//!
//! llguidance ignores unknown keywords, so [`crate::schema`] rejects unsupported schemas first.

mod canonical;

use std::fmt;
use std::sync::Arc;

use llguidance::api::TopLevelGrammar;
use llguidance::toktrie::{ApproximateTokEnv, SimpleVob, TokEnv, TokRxInfo, TokTrie};
use llguidance::{Matcher, ParserFactory};
use serde_json::{Value, json};

use canonical::CanonicalTokens;

use super::token::Token;
use super::{EngineError, EngineErrorKind};

/// A vocabulary, as grammars use it.
pub(crate) trait GrammarVocabulary {
    /// Returns the bytes of every token, in order. Control tokens have none, since they are not part of a text.
    fn token_bytes(&self) -> Vec<Vec<u8>>;
    /// Returns a token that ends an answer.
    fn eog_token(&self) -> Option<Token>;
    /// Returns the model's tokeniser for text inside an answer: it parses no control tokens, and adds neither tokens nor spaces.
    fn tokenizer(&self) -> Tokenizer;
}

/// Function that returns the tokens of a text. It may be called from any thread.
pub(crate) type Tokenizer = Box<dyn Fn(&[u8]) -> Vec<u32> + Send + Sync>;

/// Tokens in a word of llguidance's masks.
const WORD_BITS: usize = u32::BITS as usize;

/// Compiles grammars for one vocabulary. Takes 0.2 to 1 s to build, and 40 MB for 262,144 tokens.
pub(crate) struct Grammars {
    factory: ParserFactory,
    tokens: TokEnv,
}

/// A grammar and the position of an answer in it.
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
    /// Builds the tables of `vocabulary`.
    ///
    /// # Errors
    /// `Grammar` if no token ends an answer.
    pub(crate) fn new(vocabulary: &impl GrammarVocabulary) -> Result<Self, EngineError> {
        let end = vocabulary
            .eog_token()
            .and_then(|end| u32::try_from(end.0).ok());
        let end =
            end.ok_or_else(|| GrammarError("the model has no token that ends an answer".into()))?;
        let words = vocabulary.token_bytes();
        let size = u32::try_from(words.len()).map_err(GrammarError::new)?;
        let trie = TokTrie::from(&TokRxInfo::new(size, end), &words);
        let tokens: TokEnv = Arc::new(CanonicalTokens::new(trie, vocabulary.tokenizer()));
        Self::from_tokens(&tokens)
    }

    /// Builds tables without a model, with single bytes as tokens, to check schemas: whether a schema can be enforced does not depend on
    /// the model.
    ///
    /// # Errors
    /// The errors of llguidance; none is known.
    pub(crate) fn of_bytes() -> Result<Self, EngineError> {
        Self::from_tokens(&ApproximateTokEnv::single_byte_env())
    }

    fn from_tokens(tokens: &TokEnv) -> Result<Self, EngineError> {
        let mut factory = ParserFactory::new_simple(tokens).map_err(GrammarError::new)?;
        factory.quiet();
        let tokens = Arc::clone(tokens);
        Ok(Self { factory, tokens })
    }

    /// Compiles `schema` to a grammar of the JSON texts that it allows.
    ///
    /// # Errors
    /// Fails if `schema` cannot be enforced.
    pub(crate) fn json(&self, schema: &Value) -> Result<Grammar, GrammarError> {
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
            Some(cause) => Err(GrammarError::new(cause)),
        }
    }

    /// Checks that `schema` can be compiled to a grammar, and that an answer can begin.
    ///
    /// # Errors
    /// Fails if `schema` cannot be enforced.
    pub(crate) fn check(&self, schema: &Value) -> Result<(), GrammarError> {
        self.json(schema)?.begin()
    }
}

/// Returns the reason for llguidance's error `cause`. Errors that a schema can cause after our own checks are put in terms of the schema.
fn explain(cause: &str) -> &str {
    let known = [
        (
            "too big (limit for this grammar",
            "the schema is too large; list fewer properties and values",
        ),
        (
            "Regex is empty",
            "no text matches it: `pattern` and lengths contradict each other; change one of them",
        ),
        (
            "Unable to determine if regex is empty",
            "the pattern is too complex together with its lengths; lower `maxLength` or simplify the pattern",
        ),
        // Reported only once a text has begun.
        (
            "Current row has",
            "too many properties or texts can come next; list fewer optional properties, or require some",
        ),
        (
            "too many expressions",
            "a pattern is too complex for a long text; lower `maxLength` or simplify the pattern",
        ),
    ];
    let known = known.iter().find(|(words, _)| cause.contains(words));
    // The other lines are llguidance's own state.
    let first = cause.lines().next().unwrap_or_default();
    known.map_or(first, |(_, reason)| reason)
}

/// A reason why a grammar cannot enforce a schema, in terms of the schema.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct GrammarError(String);

impl GrammarError {
    /// Creates the error for llguidance's `cause`.
    fn new(cause: impl fmt::Display) -> Self {
        Self(explain(&cause.to_string()).to_owned())
    }
}

impl From<GrammarError> for EngineError {
    fn from(error: GrammarError) -> Self {
        Self::new(
            EngineErrorKind::Grammar,
            format!("the schema cannot be enforced: {error}"),
        )
    }
}

impl Grammar {
    /// Begins an object, if the grammar allows one: some errors appear only then.
    fn begin(&mut self) -> Result<(), GrammarError> {
        let mut begin = || {
            let tokens = self.tokens.tokenize("{\"");
            let valid = self.matcher.validate_tokens(&tokens)?;
            self.matcher.consume_tokens(&tokens[..valid])?;
            self.matcher.compute_mask().map(drop)
        };
        begin().map_err(GrammarError::new)
    }

    /// Returns whether `token` may come next. For a token that ends the answer, use [`Self::may_end`].
    ///
    /// # Errors
    /// Fails if the grammar cannot be followed.
    pub(crate) fn allows(&mut self, token: Token) -> Result<bool, GrammarError> {
        let token = u32::try_from(token.0).map_err(GrammarError::new)?;
        let valid = self.matcher.validate_tokens(&[token]);
        Ok(valid.map_err(GrammarError::new)? == 1)
    }

    /// Returns whether the answer may end here.
    ///
    /// # Errors
    /// Fails if the grammar cannot be followed.
    pub(crate) fn may_end(&mut self) -> Result<bool, GrammarError> {
        self.matcher.is_accepting().map_err(GrammarError::new)
    }

    /// Returns the mask of all tokens that may come next.
    ///
    /// # Errors
    /// Fails if the grammar cannot be followed.
    pub(crate) fn mask(&mut self) -> Result<Mask, GrammarError> {
        let may_end = self.may_end()?;
        let tokens = self.matcher.compute_mask().map_err(GrammarError::new)?;
        Ok(Mask { tokens, may_end })
    }

    /// Accepts `token`, which must be allowed and must not end the answer.
    ///
    /// # Errors
    /// Fails if the grammar cannot be followed.
    pub(crate) fn accept(&mut self, token: Token) -> Result<(), GrammarError> {
        let token = u32::try_from(token.0).map_err(GrammarError::new)?;
        let accepted = self.matcher.consume_token(token);
        accepted.map_err(GrammarError::new)
    }

    /// Accepts the tokens that the grammar forces next, and returns them; empty if it allows several. They end before the first token with
    /// an alternative: after `{"` of `{"name": "…"}`, they are `name":`, since ` "` or ` "A` may follow.
    ///
    /// # Errors
    /// Fails if the grammar cannot be followed.
    pub(crate) fn fast_forward(&mut self) -> Result<Vec<Token>, GrammarError> {
        let tokens = self.matcher.consume_ff_tokens();
        if let Some(cause) = self.matcher.get_error() {
            return Err(GrammarError::new(cause));
        }
        let tokens = tokens
            .into_iter()
            .map(|token| i32::try_from(token).map(Token));
        tokens.collect::<Result<_, _>>().map_err(GrammarError::new)
    }

    /// Accepts `text` if the grammar allows it next. Otherwise returns `false` and changes nothing.
    ///
    /// # Errors
    /// Fails if the grammar cannot be followed.
    pub(crate) fn accept_text(&mut self, text: &str) -> Result<bool, GrammarError> {
        let tokens = self.tokens.tokenize(text);
        let valid = self.matcher.validate_tokens(&tokens);
        let is_valid = valid.map_err(GrammarError::new)? == tokens.len();
        if is_valid {
            let accepted = self.matcher.consume_tokens(&tokens);
            accepted.map_err(GrammarError::new)?;
        }
        Ok(is_valid)
    }

    /// Returns whether the answer is complete and no token may follow.
    pub(crate) fn is_complete(&self) -> bool {
        self.matcher.is_stopped() && !self.matcher.is_error()
    }
}

/// Mask of the tokens that may come next.
#[derive(Debug)]
pub(crate) struct Mask {
    tokens: SimpleVob,
    may_end: bool,
}

impl Mask {
    /// Copies `logits`, indexed by token, to `allowed`, with −∞ for tokens that may not come next. `ends` are all tokens that end an
    /// answer.
    pub(crate) fn apply(&self, logits: &[f32], ends: &[Token], allowed: &mut Vec<f32>) {
        allowed.clear();
        allowed.resize(logits.len(), f32::NEG_INFINITY);
        let blocks = logits.chunks(WORD_BITS).zip(allowed.chunks_mut(WORD_BITS));
        let blocks = self.tokens.as_slice().iter().zip(blocks);
        for (word, (logits, allowed)) in blocks.filter(|(word, _)| **word != 0) {
            for (bit, (logit, allowed)) in logits.iter().zip(allowed).enumerate() {
                if word >> bit & 1 == 1 {
                    *allowed = *logit;
                }
            }
        }
        for end in ends.iter().filter_map(|end| end.index()) {
            allowed[end] = if self.may_end {
                logits[end]
            } else {
                f32::NEG_INFINITY
            };
        }
    }
}

#[cfg(test)]
mod tests;
