//! Tests of the decoder with a tiny model.

use super::*;
use crate::engine::limits::Reuse;
use crate::engine::llama::{Backend, cpu_backend};
use crate::engine::vocabulary::Vocabulary;
use crate::gguf;

const LIMITS: Limits = Limits {
    parallel: 3,
    n_ctx: 256,
    n_ctx_train: 512,
    kv_cells: 512,
    n_batch: 64,
    is_pool: true,
    has_long_shared_prefix: false,
    reuse: Reuse::Cells,
    cache_bytes: 1 << 20,
    is_speculative: false,
};

fn settings() -> LoadSettings {
    LoadSettings {
        path: "tests/models/tiny-crab-chat.Q8_0.gguf".into(),
        n_gpu_layers: crate::config::units::GpuLayers::Count(0),
        n_threads: 1,
        ..LoadSettings::default()
    }
}

fn load(settings: &LoadSettings) -> Model {
    cpu_backend().unwrap();
    let header = gguf::read_header(&settings.path).unwrap();
    Model::load_with(Backend::of_tests(), header, settings, |_| {}).unwrap()
}

impl LlamaDecoder<'_> {
    /// Decodes `tokens` from `position` on in `sequence`, and then the most probable tokens. Returns the first ten of these.
    fn continue_with(
        &mut self,
        sequence: usize,
        mut position: usize,
        tokens: &[Token],
    ) -> Vec<Token> {
        let params = SamplingParams {
            temperature: 0.0,
            ..SamplingParams::default()
        };
        let mut sampler = self.sampler(&params, tokens, None, &AnswerStart::Answer);
        let mut next = tokens.to_vec();
        let mut sampled = Vec::new();
        while sampled.len() < 10 {
            self.decode(&rows(sequence, position, &next)).unwrap();
            position += next.len();
            let token = self.sample(next.len() - 1, &mut sampler).unwrap().token;
            sampled.push(token);
            next = vec![token];
        }
        sampled
    }
}

/// Returns the rows of `tokens`, the last of which requests logits.
fn rows(sequence: usize, position: usize, tokens: &[Token]) -> Vec<Row> {
    let last = tokens.len() - 1;
    let row = |(at, token): (usize, &Token)| Row {
        token: *token,
        position: u32::try_from(position + at).unwrap(),
        sequence,
        logits: at == last,
    };
    tokens.iter().enumerate().map(row).collect()
}

#[test]
fn a_change_of_threads_keeps_all_sequences_their_shared_cells_and_saved_states() {
    let settings = settings();
    let model = load(&settings);
    let prompt = model
        .vocabulary()
        .tokenize("What is the capital of Peru? The capital", false);
    let (prefix, rest) = prompt.split_at(prompt.len() - 2);
    let length = prefix.len();
    let pinned = LIMITS.parallel;
    let mut decoder = model.decoder(LIMITS, &settings).unwrap();
    decoder.decode(&rows(pinned, 0, prefix)).unwrap();
    let (saved, _) = decoder.save(pinned).unwrap();
    assert!(decoder.share(pinned, 0, length) && decoder.share(pinned, 1, length));
    let expected = decoder.continue_with(0, length, rest);
    assert!(decoder.truncate(0, length));
    let bytes = decoder.bytes_to_switch();

    let (mut decoder, content) = decoder.with_threads(2).unwrap();
    assert_eq!((decoder.n_threads(), content), (2, Content::Kept));
    // Sequences that shared cells still share them.
    assert_eq!(decoder.bytes_to_switch(), bytes);
    for sequence in [pinned, 0, 1] {
        assert_eq!(
            decoder.continue_with(sequence, length, rest),
            expected,
            "{sequence}"
        );
    }
    assert!(decoder.restore(2, &saved));
    assert_eq!(decoder.continue_with(2, length, rest), expected);
}

#[test]
fn the_weights_outlive_the_model_while_a_prompt_uses_its_vocabulary() {
    let settings = settings();
    let vocabulary = load(&settings).vocabulary();
    assert!(!vocabulary.tokenize("Peru", false).is_empty());
}
