//! [`Vocabulary`] and [`GrammarVocabulary`] for llama.cpp.

use std::sync::Arc;

use llama_cpp_2::token::LlamaToken;
use llama_cpp_2::token_type::LlamaTokenAttr;
use llama_cpp_2::vocab::{LlamaVocab, VocabType};

use super::Weights;
use crate::engine::grammar::{GrammarVocabulary, Tokenizer};
use crate::engine::thinking::families::Markers;
use crate::engine::token::Token;
use crate::engine::vocabulary::{AdjacentChars, SpecialToken, Vocabulary};

/// Text in front of a text inside an answer, for tokenisers that add a space to the beginning of every text. No token contains it together
/// with other characters, so it never merges with the text.
const SENTINEL: &[u8] = b"\x01";

/// Vocabulary of a model. Other threads may use it while the decoder works.
#[derive(Debug, Clone)]
pub(crate) struct ModelVocabulary {
    weights: Arc<Weights>,
}

impl ModelVocabulary {
    pub(super) fn new(weights: Arc<Weights>) -> Self {
        Self { weights }
    }

    fn vocab(&self) -> LlamaVocab<'_> {
        self.weights.model.vocab()
    }

    /// Returns the texts of the BOS and EOS tokens, empty if there is no such token.
    pub(crate) fn bos_and_eos(&self) -> (String, String) {
        (
            self.special_text(self.vocab().bos()),
            self.special_text(self.vocab().eos()),
        )
    }

    fn special_text(&self, token: LlamaToken) -> String {
        // -1 means "none", and looking up its text aborts the process.
        if token.0 < 0 {
            return String::new();
        }
        String::from_utf8_lossy(&self.vocab().token_to_piece(token, true, None)).into_owned()
    }

    fn tokens(&self) -> impl Iterator<Item = LlamaToken> {
        (0..self.vocab().n_tokens()).map(LlamaToken)
    }

    /// Returns the text of `token` as in the model file, where a space may be another character.
    fn raw_text(&self, token: LlamaToken) -> Option<String> {
        Some(self.vocab().text(token)?.to_str().ok()?.to_owned())
    }

    /// Returns whether the tokeniser adds a space before a text.
    fn adds_space(&self) -> bool {
        let tokens = self.vocab().tokenize(b"a", false, false);
        let first = tokens.first().and_then(|token| self.raw_text(*token));
        !matches!(first.as_deref(), Some("a" | "<0x61>"))
    }

    /// Returns the tokens that end an answer, in ascending order.
    pub(super) fn ends(&self) -> Vec<Token> {
        let ends = self.tokens().filter(|token| self.vocab().is_eog(*token));
        ends.map(|token| Token(token.0)).collect()
    }

    /// Returns the control tokens that are a marker of reasoning or a part of one, in ascending order. Other control tokens have no text
    /// in an answer.
    pub(super) fn marker_tokens(&self, markers: &[Markers]) -> Vec<Token> {
        let is_marker = |text: &str| markers.iter().any(|markers| markers.has_part(text));
        let controls = self
            .tokens()
            .filter(|token| self.vocab().attr(*token).contains(LlamaTokenAttr::Control));
        controls
            .filter(|token| is_marker(&self.special_text(*token)))
            .map(|token| Token(token.0))
            .collect()
    }
}

impl GrammarVocabulary for ModelVocabulary {
    fn token_bytes(&self) -> Vec<Vec<u8>> {
        self.tokens()
            .map(|token| {
                let is_text = !self.vocab().is_eog(token);
                let bytes = || self.vocab().token_to_piece(token, false, None);
                if is_text { bytes() } else { Vec::new() }
            })
            .collect()
    }

    fn eog_token(&self) -> Option<Token> {
        let mut tokens = self.tokens();
        let end = tokens.find(|token| self.vocab().is_eog(*token));
        end.map(|token| Token(token.0))
    }

    fn tokenizer(&self) -> Tokenizer {
        let vocabulary = self.clone();
        let sentinel = if self.adds_space() { SENTINEL } else { b"" };
        let length = self.vocab().tokenize(sentinel, false, false).len();
        Box::new(move |text| {
            let text = [sentinel, text].concat();
            let tokens = vocabulary.vocab().tokenize(&text, false, false);
            let tokens = tokens.into_iter().skip(length);
            tokens.map(|token| token.0.cast_unsigned()).collect()
        })
    }
}

impl Vocabulary for ModelVocabulary {
    fn tokenize(&self, text: &str, parse_special: bool) -> Vec<Token> {
        // Room for a token for each byte, and for an added space: with less room llama.cpp does the work twice.
        let mut tokens = Vec::with_capacity(text.len() + '\u{2581}'.len_utf8());
        self.vocab()
            .tokenize_into(text.as_bytes(), &mut tokens, false, parse_special);
        tokens.into_iter().map(|token| Token(token.0)).collect()
    }

    fn bos(&self) -> Option<Token> {
        Some(Token(self.vocab().bos().0)).filter(|bos| bos.0 >= 0)
    }

    fn adds_bos(&self) -> bool {
        self.vocab().should_add_bos()
    }

    fn control_texts(&self, template: &str) -> Vec<String> {
        let is_marker = |text: &str| {
            text.starts_with(['<', '[']) && text.ends_with(['>', ']']) && template.contains(text)
        };
        self.tokens()
            .filter_map(|token| {
                let attributes = self.vocab().attr(token);
                let text = || Some(self.special_text(token)).filter(|text| !text.is_empty());
                if attributes.contains(LlamaTokenAttr::Control)
                    || attributes.contains(LlamaTokenAttr::Unknown)
                {
                    text()
                } else if attributes.contains(LlamaTokenAttr::UserDefined) {
                    text().filter(|text| is_marker(text))
                } else {
                    None
                }
            })
            .collect()
    }

    fn longest_token(&self) -> usize {
        let lengths = self
            .tokens()
            .map(|token| self.vocab().token_to_piece(token, true, None).len());
        lengths.max().unwrap_or(1)
    }

    fn blanks(&self) -> Vec<Token> {
        let is_blank = |token: &LlamaToken| {
            let piece = self.vocab().token_to_piece(*token, false, None);
            !piece.is_empty() && piece.iter().all(u8::is_ascii_whitespace)
        };
        self.tokens()
            .filter(is_blank)
            .map(|token| Token(token.0))
            .collect()
    }

    fn special_texts(&self) -> Vec<String> {
        let is_special = |token: &LlamaToken| {
            let attributes = self.vocab().attr(*token);
            attributes.contains(LlamaTokenAttr::Control)
                || attributes.contains(LlamaTokenAttr::UserDefined)
        };
        let texts = self.tokens().filter(is_special);
        let texts = texts.map(|token| self.special_text(token));
        texts.filter(|text| !text.is_empty()).collect()
    }

    fn special_tokens(&self) -> Option<Vec<SpecialToken>> {
        use LlamaTokenAttr::{Control, LStrip, RStrip, Unknown, UserDefined};
        let mut specials = Vec::new();
        for token in self.tokens() {
            let attributes = self.vocab().attr(token);
            if !attributes.intersects(Control | UserDefined | Unknown) {
                continue;
            }
            // Such a token also matches the blanks around it.
            if attributes.intersects(LStrip | RStrip) {
                return None;
            }
            specials.push(SpecialToken {
                text: self.raw_text(token)?,
                is_control: attributes.intersects(Control | Unknown),
            });
        }
        specials.retain(|special| !special.text.is_empty());
        Some(specials)
    }

    fn adjacent_chars(&self) -> Option<AdjacentChars> {
        if self.vocab().vocab_type() != VocabType::SPM || self.adds_space() {
            return None;
        }
        let texts = self.tokens().filter_map(|token| self.raw_text(token));
        let mut pairs = AdjacentChars::new();
        for text in texts {
            let neighbours = text.chars().zip(text.chars().skip(1));
            pairs.extend(neighbours.map(|(one, other)| [one, other]));
        }
        Some(pairs)
    }

    fn begins(&self, text: &str) -> Vec<(Token, usize)> {
        let length = |token: LlamaToken| {
            let piece = self.special_text(token);
            let own = piece.trim_start_matches(' ');
            let is_beginning = text.starts_with(own) || own.starts_with(text);
            (is_beginning && !own.is_empty()).then(|| (Token(token.0), own.len().min(text.len())))
        };
        self.tokens().filter_map(length).collect()
    }
}

/// Calls `work` with the vocabulary of the model at `path`. Does nothing if the file does not exist: large models are not part of the
/// repository.
#[cfg(test)]
pub(crate) fn with_vocabulary(path: &str, work: impl FnOnce(&ModelVocabulary)) {
    use llama_cpp_2::model::LlamaModel;
    use llama_cpp_2::model::params::LlamaModelParams;

    use super::Backend;

    if !std::path::Path::new(path).exists() {
        return;
    }
    let params = LlamaModelParams::default().with_vocab_only(true);
    let backend = Backend::of_tests();
    let model = LlamaModel::load_from_file(&backend, path, &params).unwrap();
    work(&ModelVocabulary::new(Arc::new(Weights { model, backend })));
}

#[cfg(test)]
mod tests {
    use super::*;

    const MODELS: [&str; 3] = [
        "models/SmolLM2-135M-Instruct.Q4_1.gguf",
        "models/gemma-3-270m-q4_k_m.gguf",
        "tests/models/tiny-crab-chat.Q8_0.gguf",
    ];

    #[test]
    fn text_inside_an_answer_gets_the_tokens_that_it_has_after_other_text() {
        for model in MODELS {
            with_vocabulary(model, |vocabulary| {
                let tokenizer = vocabulary.tokenizer();
                let bytes = vocabulary.token_bytes();
                for text in ["mood\": \"", "ad\", \"days\": 1", "\"}", "ü", " good"] {
                    let tokens = tokenizer(text.as_bytes());
                    let spelled = tokens.iter().flat_map(|token| &bytes[*token as usize]);
                    assert!(spelled.eq(text.as_bytes()), "{model}: {text}");
                    let before = vocabulary.tokenize("{\n", false);
                    let all = vocabulary.tokenize(&format!("{{\n{text}"), false);
                    let after = all[before.len()..]
                        .iter()
                        .map(|token| token.0.cast_unsigned());
                    assert!(after.eq(tokens), "{model}: {text}");
                }
            });
        }
    }
}
