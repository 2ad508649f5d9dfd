//! What preparing a prompt must know of a model's vocabulary.

use std::collections::HashSet;

use super::token::Token;

/// What preparing a prompt needs of a vocabulary; called from threads beside the model's.
pub(crate) trait Vocabulary: Sync {
    /// The tokens of `text`, nothing added; control tokens are recognised only where `parse_special` says so.
    fn tokenize(&self, text: &str, parse_special: bool) -> Vec<Token>;
    /// The token that begins a text, where there is one.
    fn bos(&self) -> Option<Token>;
    /// Whether the model wants it at the beginning of every prompt.
    fn adds_bos(&self) -> bool;
    /// The texts that stand for tokens of their own with a meaning to the model: control tokens, and the role markers
    /// of `template`, which some vocabularies class otherwise. None is empty.
    fn control_texts(&self, template: &str) -> Vec<String>;
    /// Bytes of the longest token.
    fn longest_token(&self) -> usize;
    /// The tokens that are white space, in order.
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
