//! Tests that the selected tokens are those of llama.cpp's whole sampler chain over the whole vocabulary.

use std::collections::BTreeMap;

use llama_cpp_2::token::logit_bias::LlamaLogitBias;
use proptest::prelude::*;
use proptest::sample::{Index, select};

use super::*;

/// Tokens of an answer, more than the shorter penalty windows contain.
const STEPS: u64 = 24;

/// Returns distinct logits from −12 to 12, most of them near 0, in an order that depends on `seed`.
fn logits(n_vocab: u16, seed: u64) -> Vec<f32> {
    let mut order: Vec<u16> = (0..n_vocab).collect();
    let mut state = seed;
    for at in (1..order.len()).rev() {
        // Knuth's MMIX generator, whose upper bits are the most random.
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        order.swap(at, (state >> 33) as usize % (at + 1));
    }
    let share = |rank: u16| f32::from(rank) / f32::from(n_vocab) * 2.0 - 1.0;
    order
        .into_iter()
        .map(|rank| 12.0 * share(rank).powi(3))
        .collect()
}

/// Returns all samplers in the order of [`sampling`]: those that change logits, and those that draw.
fn whole_chain(
    params: &SamplingParams,
    n_vocab: i32,
    biases: &[(Token, f32)],
) -> (LlamaSampler, LlamaSampler) {
    let biases = biases.iter();
    let biases: Vec<_> = biases
        .map(|(token, bias)| LlamaLogitBias::new(LlamaToken(token.0), *bias))
        .collect();
    let biases = LlamaSampler::logit_bias(n_vocab, &biases);
    let penalties = sampling::penalties(params, n_vocab, None);
    let penalties = penalties.map(|penalties| penalties.sampler);
    let changes = LlamaSampler::chain([biases].into_iter().chain(penalties), true);
    (changes, sampling::draw(params))
}

fn selected_by((changes, draw): &mut (LlamaSampler, LlamaSampler), logits: &[f32]) -> Token {
    let tokens = (0..).map(LlamaToken).zip(logits);
    let is_possible = |candidate: &LlamaTokenData| candidate.logit() > f32::NEG_INFINITY;
    let candidates = tokens.map(|(token, logit)| LlamaTokenData::new(token, *logit, 0.0));
    let mut candidates = LlamaTokenDataArray::from_iter(candidates.filter(is_possible), false);
    changes.apply(&mut candidates);
    // Typical sampling computes with the logarithm of each probability.
    candidates.data.retain(is_possible);
    draw.apply(&mut candidates);
    Token(candidates.selected_token().unwrap().0)
}

prop_compose! {
    fn params()(
        temperature in select(vec![0.0, 0.7, 1.5]),
        top_k in select(vec![0, 1, 5, 40, 300, 100_000]),
        top_p in select(vec![0.3, 0.9, 1.0]),
        typical_p in select(vec![0.5, 1.0, 1.0]),
        min_p in select(vec![0.0, 0.05, 0.5]),
        xtc_probability in select(vec![0.0, 0.0, 0.7]),
        repeat_penalty in select(vec![0.8, 1.0, 1.1, 1.9]),
        presence_penalty in select(vec![-1.0, 0.0, 0.6]),
        frequency_penalty in select(vec![0.0, 0.4]),
        repeat_last_n in select(vec![0, 1, 16, 64]),
        seed in 0..1000_u32,
    ) -> SamplingParams {
        SamplingParams {
            temperature, top_p, top_k, typical_p, min_p, xtc_probability, presence_penalty, frequency_penalty, repeat_last_n,
            repeat_penalty: Some(repeat_penalty),
            seed: i64::from(seed),
            ..SamplingParams::default()
        }
    }
}

proptest! {
    #[test]
    fn the_selected_tokens_are_those_of_the_whole_chain_over_the_whole_vocabulary(
        params in params(),
        n_vocab in select(vec![1_u16, 50, 777, 5000]),
        prompt in prop::collection::vec(any::<Index>(), 0..100),
        biased in prop::collection::vec((any::<Index>(), select(vec![f32::NEG_INFINITY, -3.0, 9.0])), 0..4),
        // A grammar allows one of this many tokens.
        one_of in select(vec![1, 1, 3, 100]),
    ) {
        let token = |index: &Index| Token(index.index(n_vocab.into()).try_into().unwrap());
        let biases: BTreeMap<Token, f32> = biased.iter().map(|(index, bias)| (token(index), *bias)).collect();
        let biases: Vec<(Token, f32)> = biases.into_iter().collect();
        let is_suppressed = |token| biases.contains(&(token, f32::NEG_INFINITY));
        let prompt: Vec<Token> = prompt.iter().map(token).collect();
        let size = i32::from(n_vocab);
        let mut whole = whole_chain(&params, size, &biases);
        whole.0.accept_many(prompt.iter().map(|token| LlamaToken(token.0)));
        let mut selector = TokenSelector::new(&params, size, biases.clone(), None);
        selector.accept(&prompt);
        let mut buffers = Buffers::default();
        for step in 0..STEPS {
            let mut logits = logits(n_vocab, u64::from(params.llama_seed()) * STEPS + step);
            for (_, logit) in logits.iter_mut().enumerate().filter(|(token, _)| token % one_of != 0) {
                *logit = f32::NEG_INFINITY;
            }
            let possible = (0..size).zip(&logits).any(|(token, logit)| {
                *logit > f32::NEG_INFINITY && !is_suppressed(Token(token))
            });
            let chosen = selector.select(&logits, &mut buffers);
            prop_assert_eq!(chosen.is_some(), possible);
            let Some(chosen) = chosen else { break };
            prop_assert_eq!(chosen, selected_by(&mut whole, &logits));
            whole.0.accept(LlamaToken(chosen.0));
            selector.accept(&[chosen]);
        }
    }
}

#[test]
fn a_logit_that_is_nan_is_never_selected() {
    let mut selector = TokenSelector::new(&SamplingParams::default(), 200, Vec::new(), None);
    let mut logits = vec![f32::NAN; 200];
    assert_eq!(selector.select(&logits, &mut Buffers::default()), None);
    logits[150] = -3.0;
    assert_eq!(
        selector.select(&logits, &mut Buffers::default()),
        Some(Token(150))
    );
}
