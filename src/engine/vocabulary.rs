//! The vocabulary of a model, as far as the preparation of prompts needs it.

use std::collections::HashSet;

use super::token::Token;

/// The vocabulary of a model. Threads other than the decoder's call it.
pub(crate) trait Vocabulary: Sync {
    /// Returns the tokens of `text`, without any added. Control tokens are parsed only if `parse_special`.
    fn tokenize(&self, text: &str, parse_special: bool) -> Vec<Token>;
    /// Returns the token that begins a text (BOS), if there is one.
    fn bos(&self) -> Option<Token>;
    /// Returns whether the model requires the BOS token at the beginning of every prompt.
    fn adds_bos(&self) -> bool;
    /// Returns the texts of control tokens, and of the role markers in `template`, which some vocabularies class otherwise. No text is
    /// empty.
    fn control_texts(&self, template: &str) -> Vec<String>;
    /// Returns the bytes of the longest token.
    fn longest_token(&self) -> usize;
    /// Returns the tokens of white space, in order.
    fn blanks(&self) -> Vec<Token>;
    /// Returns the texts of all special tokens. No text is empty.
    fn special_texts(&self) -> Vec<String>;
    /// Returns the special tokens, which are matched in a text before all others. `None` if a text cannot be split behind them.
    fn special_tokens(&self) -> Option<Vec<SpecialToken>> {
        None
    }
    /// Returns the pairs of characters that are adjacent in a token. `None` if a text cannot be split between other pairs.
    fn adjacent_chars(&self) -> Option<AdjacentChars> {
        None
    }
    /// Returns the tokens with which `text` may begin, ignoring a leading space, and the number of its bytes that each one covers.
    fn begins(&self, text: &str) -> Vec<(Token, usize)>;
}

/// A token that llama.cpp matches in a text before all others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SpecialToken {
    /// Text of the token, as llama.cpp searches for it; not empty.
    pub text: String,
    /// Whether the token is matched only in the text of a template.
    pub is_control: bool,
}

/// Pairs of characters that are adjacent in a token. A space is U+2581, as in tokens.
pub(crate) type AdjacentChars = HashSet<[char; 2]>;
