//! How the next token of one call is chosen, from the logits of its row.

use llama_cpp_2::sampling::LlamaSampler;
use llama_cpp_2::token::LlamaToken;
use llama_cpp_2::token::data::LlamaTokenData;
use llama_cpp_2::token::data_array::LlamaTokenDataArray;
use llama_cpp_2::vocab::LlamaVocab;

use crate::engine::decoder::Sampled;
use crate::engine::grammar::{Grammar, Mask};
use crate::engine::prompt::Token;
use crate::engine::{EngineError, EngineErrorKind, SamplingParams, sampling};

/// How the tokens of one call are chosen.
#[derive(Debug)]
pub struct Sampler {
    chain: LlamaSampler,
    grammar: Option<Grammar>,
}

impl Sampler {
    /// One that has seen `prompt` and follows `grammar`.
    pub(super) fn new(
        params: &SamplingParams,
        vocab: &LlamaVocab<'_>,
        prompt: &[Token],
        grammar: Option<Grammar>,
    ) -> Self {
        let mut chain = sampling::chain(params, vocab.n_tokens(), vocab.suppress_tokens());
        let window = sampling::penalty_window(params).unsigned_abs() as usize;
        let seen = prompt.len().saturating_sub(window);
        chain.accept_many(prompt[seen..].iter().map(|token| LlamaToken(*token)));
        Self { chain, grammar }
    }

    /// Chooses and accepts the next token; `candidates` is memory to work in.
    ///
    /// With a grammar a token is drawn as without one, and only if it is not allowed another one among those that are: most
    /// tokens need no mask of the whole vocabulary. By temperature alone that is the same as drawing among these at once;
    /// `top_k`, `top_p` and `min_p` cut among all tokens first, and among the allowed ones the second time.
    pub(super) fn sample(
        &mut self,
        logits: &[f32],
        vocab: &LlamaVocab<'_>,
        candidates: &mut LlamaTokenDataArray,
    ) -> Result<Sampled, EngineError> {
        let chosen = select(&mut self.chain, logits, vocab, candidates, None);
        let mut token = chosen.expect("a vocabulary is not empty");
        let mut is_last = false;
        if let Some(grammar) = &mut self.grammar {
            if !grammar.allows(token.0, vocab.is_eog(token))? {
                let mask = grammar.mask()?;
                let chosen = select(&mut self.chain, logits, vocab, candidates, Some(&mask));
                token = chosen.ok_or_else(|| {
                    let text = "the model has no token for what the schema wants next";
                    EngineError::new(EngineErrorKind::Grammar, text)
                })?;
            }
            if !vocab.is_eog(token) {
                grammar.take(token.0)?;
                is_last = grammar.is_complete();
            }
        }
        self.chain.accept(token);
        Ok(Sampled {
            token: token.0,
            is_end: vocab.is_eog(token),
            is_last,
        })
    }
}

/// What `chain` selects among the tokens that are allowed; none where none is. Nothing is accepted.
fn select(
    chain: &mut LlamaSampler,
    logits: &[f32],
    vocab: &LlamaVocab<'_>,
    candidates: &mut LlamaTokenDataArray,
    mask: Option<&Mask>,
) -> Option<LlamaToken> {
    let allowed =
        |token: LlamaToken| mask.is_none_or(|mask| mask.allows(token.0, vocab.is_eog(token)));
    let tokens = (0..).map(LlamaToken).zip(logits);
    candidates.data.clear();
    candidates.data.extend(
        tokens
            .filter(|(token, _)| allowed(*token))
            .map(|(token, logit)| LlamaTokenData::new(token, *logit, 0.0)),
    );
    candidates.selected = None;
    candidates.sorted = false;
    if candidates.data.is_empty() {
        return None;
    }
    // Not `LlamaSampler::sample`: it accepts by itself, and lets C++ exceptions through.
    chain.apply(candidates);
    let selected = candidates.selected_token();
    Some(selected.expect("every chain ends in a sampler that selects"))
}
