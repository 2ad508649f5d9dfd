//! What is chosen, beside llama.cpp's whole chain over the whole vocabulary.

use llama_cpp_2::token::logit_bias::LlamaLogitBias;
use proptest::prelude::*;
use proptest::sample::{Index, select};

use super::*;

/// Tokens of an answer: more than the shorter windows hold.
const STEPS: u64 = 24;

/// Distinct logits from about −12 to 12, most of them in the middle; others for every seed.
fn logits(n_vocab: u16, seed: u64) -> Vec<f32> {
    let mut order: Vec<u16> = (0..n_vocab).collect();
    let mut state = seed;
    for at in (1..order.len()).rev() {
        // Knuth's MMIX generator; its upper bits are the good ones.
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

/// All samplers, in the order of [`sampling`].
fn whole_chain(params: &SamplingParams, n_vocab: i32, suppressed: &[LlamaToken]) -> LlamaSampler {
    let never = |token: &LlamaToken| LlamaLogitBias::new(*token, f32::NEG_INFINITY);
    let never: Vec<_> = suppressed.iter().map(never).collect();
    let suppress = LlamaSampler::logit_bias(n_vocab, &never);
    let penalties = sampling::penalties(params, n_vocab);
    let samplers = [suppress]
        .into_iter()
        .chain(penalties)
        .chain([sampling::draw(params)]);
    LlamaSampler::chain(samplers, true)
}

fn chosen_by(chain: &mut LlamaSampler, logits: &[f32]) -> Token {
    let tokens = (0..).map(LlamaToken).zip(logits);
    let allowed = tokens.filter(|(_, logit)| **logit > f32::NEG_INFINITY);
    let candidates = allowed.map(|(token, logit)| LlamaTokenData::new(token, *logit, 0.0));
    let mut candidates = LlamaTokenDataArray::from_iter(candidates, false);
    chain.apply(&mut candidates);
    candidates.selected_token().unwrap().0
}

prop_compose! {
    fn params()(
        temperature in select(vec![0.0, 0.7, 1.5]),
        top_k in select(vec![0, 1, 5, 40, 300, 100_000]),
        top_p in select(vec![0.3, 0.9, 1.0]),
        min_p in select(vec![0.0, 0.05, 0.5]),
        repeat_penalty in select(vec![0.8, 1.0, 1.1, 1.9]),
        presence_penalty in select(vec![-1.0, 0.0, 0.6]),
        frequency_penalty in select(vec![0.0, 0.4]),
        repeat_last_n in select(vec![0, 1, 16, 64]),
        seed in 0..1000_u32,
    ) -> SamplingParams {
        SamplingParams {
            temperature, top_p, top_k, min_p, repeat_penalty, presence_penalty, frequency_penalty, repeat_last_n, seed,
        }
    }
}

proptest! {
    #[test]
    fn the_same_tokens_are_chosen_as_by_the_whole_chain_over_the_whole_vocabulary(
        params in params(),
        n_vocab in select(vec![1_u16, 50, 777, 5000]),
        prompt in prop::collection::vec(any::<Index>(), 0..100),
        suppressed in prop::collection::vec(any::<Index>(), 0..4),
        // One of so many may come next by a grammar.
        one_of in select(vec![1, 1, 3, 100]),
    ) {
        let token = |index: &Index| Token::try_from(index.index(n_vocab.into())).unwrap();
        let suppressed: Vec<_> = suppressed.iter().map(|index| LlamaToken(token(index))).collect();
        let prompt: Vec<Token> = prompt.iter().map(token).collect();
        let size = i32::from(n_vocab);
        let mut whole = whole_chain(&params, size, &suppressed);
        whole.accept_many(prompt.iter().map(|token| LlamaToken(*token)));
        let mut choice = Choice::new(&params, size, &suppressed);
        choice.accept(&prompt);
        let mut work = Work::default();
        for step in 0..STEPS {
            let mut logits = logits(n_vocab, u64::from(params.seed) * STEPS + step);
            for (_, logit) in logits.iter_mut().enumerate().filter(|(token, _)| token % one_of != 0) {
                *logit = f32::NEG_INFINITY;
            }
            let possible = (0..size).zip(&logits).any(|(token, logit)| {
                *logit > f32::NEG_INFINITY && !suppressed.contains(&LlamaToken(token))
            });
            let chosen = choice.select(&logits, &mut work);
            prop_assert_eq!(chosen.is_some(), possible);
            let Some(chosen) = chosen else { break };
            prop_assert_eq!(chosen, chosen_by(&mut whole, &logits));
            whole.accept(LlamaToken(chosen));
            choice.accept(&[chosen]);
        }
    }
}

#[test]
fn what_is_no_number_is_never_chosen() {
    let mut choice = Choice::new(&SamplingParams::default(), 200, &[]);
    let mut logits = vec![f32::NAN; 200];
    assert_eq!(choice.select(&logits, &mut Work::default()), None);
    logits[150] = -3.0;
    assert_eq!(choice.select(&logits, &mut Work::default()), Some(150));
}
