//! Tokenising the pieces of a prompt: in time that grows with the context, not with a text that cannot fit it.

use super::{PromptBuilder, Token, Vocabulary};
use crate::engine::{EngineError, EngineErrorKind};
use crate::threads::{NotDone, on_stack};

/// Longest text, in bytes, whose exact number of tokens an error has even if the text cannot fit.
pub(super) const EXACT: usize = 64 * 1024;

/// llama.cpp splits a text by regular expressions that recurse for every character (`std::wregex` in `unicode.cpp`):
/// measured 0.3 to 0.55 KiB a character, and an overflow ends the process.
const STACK_PER_BYTE: usize = 1024;

/// The stack of a short text.
const STACK_BASE: usize = 1024 * 1024;

/// Bytes of a text for each token that still fits, before a longer text is tried in part. A token of prose has four to five.
const BYTES_PER_TOKEN: usize = 8;

/// The last tokens of the beginning of a text may be fewer in the whole text: this fraction of them is not counted.
const UNCERTAIN: usize = 8;

impl<V: Vocabulary> PromptBuilder<V> {
    /// Tokenises `pieces`, of which `true` stands for the text of a template. Works on a thread of its own, with the stack that the
    /// longest piece may need.
    ///
    /// # Errors
    /// `ContextOverflow` as soon as a text of more than [`EXACT`] bytes has too many tokens.
    pub(super) fn tokenize(&self, pieces: &[(String, bool)]) -> Result<Vec<Token>, EngineError> {
        let all: usize = pieces.iter().map(|(text, _)| text.len()).sum();
        let mut cut = Vec::new();
        for (text, is_template) in pieces {
            cut.extend(self.cuts.pieces(text, *is_template));
        }
        let bytes = cut.iter().map(|(text, _)| text.len()).max().unwrap_or(0);
        let most = if all > EXACT {
            self.context.n_ctx as usize
        } else {
            usize::MAX
        };
        let stack = STACK_BASE + STACK_PER_BYTE * bytes;
        match on_stack(stack, || self.tokenize_pieces(&cut, most)) {
            Ok(tokens) => tokens,
            Err(NotDone::NoThread(limit)) => Err(limit.into()),
            Err(NotDone::Panicked) => {
                let text =
                    format!("a text of {bytes} bytes could not be tokenised: the tokeniser failed");
                Err(EngineError::new(EngineErrorKind::Template, text).hint("shorten it"))
            }
        }
    }

    fn tokenize_pieces(
        &self,
        pieces: &[(&str, bool)],
        most: usize,
    ) -> Result<Vec<Token>, EngineError> {
        let check = |least: usize| {
            if least < most {
                return Ok(());
            }
            let least = format!("at least {least}");
            Err(EngineError::overflow(&least, self.context))
        };
        let mut tokens = Vec::new();
        for (text, has_controls) in pieces {
            let mut bytes = most
                .saturating_sub(tokens.len())
                .saturating_mul(BYTES_PER_TOKEN)
                .max(EXACT);
            while bytes < text.len() {
                let beginning = &text[..text.floor_char_boundary(bytes)];
                let count = self.vocabulary.tokenize(beginning, *has_controls).len();
                check(tokens.len() + count - count / UNCERTAIN)?;
                bytes = bytes.saturating_mul(2);
            }
            tokens.extend(self.vocabulary.tokenize(text, *has_controls));
            check(tokens.len())?;
        }
        Ok(tokens)
    }
}
