//! Tokenises text inside an answer as the model's own tokeniser does, so that llguidance can report the tokens that a grammar dictates.

use llguidance::toktrie::{TokTrie, TokenId, TokenizerEnv};

use super::Tokenizer;

/// Longest text that the model's tokeniser gets, in bytes. It may recurse for every character and runs on the thread that decodes, whose
/// stack holds several thousand such calls.
const MAX_CANONICAL: usize = 4096;

/// A vocabulary with the model's tokeniser.
pub(super) struct CanonicalTokens {
    trie: TokTrie,
    tokenizer: Tokenizer,
}

impl CanonicalTokens {
    pub(super) fn new(trie: TokTrie, tokenizer: Tokenizer) -> Self {
        Self { trie, tokenizer }
    }
}

impl TokenizerEnv for CanonicalTokens {
    fn tok_trie(&self) -> &TokTrie {
        &self.trie
    }

    /// The tokens always spell `text`. A tokeniser changes bytes that are not UTF-8, such as a part of a character that is dictated while
    /// the rest is open. Such a text gets the longest tokens that match, from left to right.
    fn tokenize_bytes(&self, text: &[u8]) -> Vec<TokenId> {
        if text.len() <= MAX_CANONICAL {
            let tokens = (self.tokenizer)(text);
            if self.trie.decode_raw(&tokens) == text {
                return tokens;
            }
        }
        self.trie.greedy_tokenize(text)
    }
}
