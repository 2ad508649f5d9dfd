//! Tokenises a prompt, in time bounded by the context, even for a text that cannot fit.

use super::split::Segment;
use super::{Piece, PromptBuilder, Token, Vocabulary};
use crate::engine::{EngineError, EngineErrorKind};
use crate::threads::{NotDone, on_stack};

/// Longest text, in bytes, that is tokenised to its end even if it cannot fit, so that the error has the exact number of tokens.
pub(super) const EXACT_COUNT_LIMIT: usize = 64 * 1024;

/// Bytes of stack for each byte of text. llama.cpp splits a text with regular expressions that recurse for every character (`std::wregex`
/// in `unicode.cpp`): measured 0.3 to 0.55 KiB a character. A stack overflow ends the process.
const STACK_PER_BYTE: usize = 1024;

/// Bytes of stack in addition to [`STACK_PER_BYTE`].
const STACK_BASE: usize = 1024 * 1024;

/// Bytes for each token that still fits, from which a text is first tokenised in part. A token of prose has four to five bytes.
const BYTES_PER_TOKEN: usize = 8;

/// Divisor of the tokens that do not count in the first part of a text, since the whole text may merge them to fewer.
const UNCERTAIN: usize = 8;

impl<V: Vocabulary> PromptBuilder<V> {
    /// Tokenises `pieces`. Runs on a thread of its own, with the stack that the longest segment may need.
    ///
    /// # Errors
    /// `ContextOverflow` as soon as a text of more than [`EXACT_COUNT_LIMIT`] bytes has too many tokens, `Template` if the tokeniser fails.
    pub(super) fn tokenize(&self, pieces: &[Piece]) -> Result<Vec<Token>, EngineError> {
        let all: usize = pieces.iter().map(|piece| piece.text.len()).sum();
        let mut segments = Vec::new();
        for piece in pieces {
            segments.extend(self.splitter.segments(&piece.text, piece.is_template));
        }
        let bytes = segments.iter().map(|segment| segment.text.len()).max();
        let bytes = bytes.unwrap_or(0);
        let most = if all > EXACT_COUNT_LIMIT {
            self.context.n_ctx as usize
        } else {
            usize::MAX
        };
        let stack = STACK_BASE + STACK_PER_BYTE * bytes;
        match on_stack(stack, || self.tokenize_segments(&segments, most)) {
            Ok(tokens) => tokens,
            Err(NotDone::NoThread(limit)) => Err(limit.into()),
            Err(NotDone::Panicked) => {
                let text =
                    format!("could not tokenise a text of {bytes} bytes: the tokeniser failed");
                Err(EngineError::new(EngineErrorKind::Template, text).hint("shorten the text"))
            }
        }
    }

    fn tokenize_segments(
        &self,
        segments: &[Segment<'_>],
        most: usize,
    ) -> Result<Vec<Token>, EngineError> {
        let check = |least: usize| {
            if least < most {
                return Ok(());
            }
            Err(EngineError::overflow(least, false, self.context))
        };
        let mut tokens = Vec::new();
        for Segment { text, has_controls } in segments {
            let mut bytes = most
                .saturating_sub(tokens.len())
                .saturating_mul(BYTES_PER_TOKEN)
                .max(EXACT_COUNT_LIMIT);
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
