//! The vocabulary of a model, as far as preparing a prompt needs it.

use std::collections::HashSet;

use super::token::Token;

/// A model's vocabulary. Threads other than the model's use it, too.
pub(crate) trait Vocabulary: Sync {
    /// Returns the tokens of `text`, with nothing added. Control tokens are recognised only with `parse_special`.
    fn tokenize(&self, text: &str, parse_special: bool) -> Vec<Token>;
    /// Returns the token that begins a text; `None` if the vocabulary has none.
    fn bos(&self) -> Option<Token>;
    /// Returns whether every prompt must begin with that token.
    fn adds_bos(&self) -> bool;
    /// The texts that stand for tokens of their own with a meaning to the model: control tokens, and the role markers
    /// of `template`, which some vocabularies class otherwise. None is empty.
    fn control_texts(&self, template: &str) -> Vec<String>;
    /// Returns the length of the longest token, in bytes.
    fn longest_token(&self) -> usize;
    /// Returns the tokens that are white space, in order.
    fn blanks(&self) -> Vec<Token>;
    /// Returns the texts of all special tokens. No text is empty.
    fn special_texts(&self) -> Vec<String>;
    /// Returns the tokens that are taken out of a text before all others. `None` if a text cannot be cut behind them.
    fn specials(&self) -> Option<Vec<Special>> {
        None
    }
    /// Returns the pairs of characters that are side by side in a token. `None` if a text cannot be cut between others.
    fn neighbours(&self) -> Option<Neighbours> {
        None
    }
    /// Returns the tokens with which `text` may begin, ignoring a space before it, and the number of its bytes that each covers.
    fn begins(&self, text: &str) -> Vec<(Token, usize)>;
}

/// A token that llama.cpp takes out of a text before everything else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Special {
    /// The text of the token, as llama.cpp searches for it. Not empty.
    pub text: String,
    /// Whether it is recognised in the text of a template only.
    pub is_control: bool,
}

/// Pairs of characters that are side by side in a token. A space is U+2581, as in the tokens.
pub(crate) type Neighbours = HashSet<[char; 2]>;
