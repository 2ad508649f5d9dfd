//! Tokenises text inside an answer as the model's own tokeniser does, so that llguidance can report the tokens that a grammar forces.

use llguidance::toktrie::{TokTrie, TokenId, TokenizerEnv};

use super::Tokenizer;

/// Longest text that the model's tokeniser gets, in bytes; a longer one is split greedily. llama.cpp may recurse for every character, and the
/// thread that decodes has a stack of 1 MiB on some systems. Names of properties and choices are shorter.
const MAX_TEXT: usize = 512;

/// Text for a check of the tokeniser: its tokens must spell the same text.
const SAMPLE: &str = "{\"name\": \"a b\", \"größe_2\": [12, -3.5]}";

/// A vocabulary with the model's tokeniser. `is_canonical` is `false` if the tokens of the tokeniser do not spell [`SAMPLE`].
pub(super) struct CanonicalTokens {
    trie: TokTrie,
    tokenizer: Tokenizer,
    is_canonical: bool,
}

impl CanonicalTokens {
    pub(super) fn new(trie: TokTrie, tokenizer: Tokenizer) -> Self {
        let mut tokens = Self {
            trie,
            tokenizer,
            is_canonical: false,
        };
        tokens.is_canonical = tokens.tokens_of(SAMPLE.as_bytes()).is_some();
        tokens
    }

    /// Returns the tokens of the model's tokeniser; `None` if they do not spell `text`. The tokeniser replaces invalid UTF-8, such as the
    /// forced first byte of a character whose other bytes are not forced, and some tokenisers change spaces.
    fn tokens_of(&self, text: &[u8]) -> Option<Vec<TokenId>> {
        let tokens = (self.tokenizer)(text);
        (self.trie.decode_raw(&tokens) == text).then_some(tokens)
    }
}

impl TokenizerEnv for CanonicalTokens {
    fn tok_trie(&self) -> &TokTrie {
        &self.trie
    }

    /// If the model's tokeniser cannot be used, `text` is split into the longest tokens that match, from left to right.
    fn tokenize_bytes(&self, text: &[u8]) -> Vec<TokenId> {
        let canonical = (text.len() <= MAX_TEXT).then(|| self.tokens_of(text));
        let canonical = canonical.flatten();
        canonical.unwrap_or_else(|| self.trie.greedy_tokenize(text))
    }

    /// With `false`, llguidance forces no tokens, and the model chooses them one by one.
    fn tokenize_is_canonical(&self) -> bool {
        self.is_canonical
    }
}
