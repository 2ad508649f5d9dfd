//! Plans the rows of a step: those of the generating sequences, and chunks of prompts.

use super::super::chunk_size::Work;
use super::super::decoder::{Decoder, Row};
use super::Scheduler;
use super::active::ActiveCall;

/// The rows of one step.
#[derive(Debug)]
pub(super) struct Batch {
    /// Rows of the generating sequences, and then those of prompts. Rows of one sequence follow each other.
    pub(super) rows: Vec<Row>,
    /// Number of generating sequences.
    pub(super) generating: usize,
}

impl<D: Decoder> Scheduler<D> {
    /// Returns the next batch.
    pub(super) fn plan_batch(&self) -> Batch {
        let active = self.sequences.iter().enumerate();
        let active = active.filter_map(|(sequence, active)| Some((sequence, active.as_ref()?)));
        let (streams, others): (Vec<_>, Vec<_>) =
            active.partition(|(_, active)| active.is_generating());
        let mut prompts = others;
        prompts.retain(|(_, active)| active.has_begun);

        let generating = streams.len();
        let left = |active: &ActiveCall<_>| active.prompt.len() - active.prefilled;
        let more = |active: &ActiveCall<_>| self.additional_rows(active, generating);
        let work = Work {
            streams: generating,
            prompts: prompts.len(),
            pending: prompts
                .iter()
                .map(|(_, active)| left(active))
                .sum::<usize>()
                + streams
                    .iter()
                    .map(|(_, active)| more(active))
                    .sum::<usize>(),
        };
        let room = self.limits.n_batch - generating;
        let mut chunk = self.chunk_sizer.chunk(work, room);
        if let (0, [(_, active)]) = (generating, &prompts[..]) {
            chunk = self
                .chunk_sizer
                .align_single_prompt(active.next_stop() - active.prefilled, chunk);
        }

        let mut rows = Vec::new();
        for (done, (sequence, active)) in streams.iter().enumerate() {
            let share = more(active).min(chunk.div_ceil(generating - done));
            chunk -= share;
            rows.extend(active.answer_rows(*sequence, 1 + share));
        }
        prompts.sort_by_key(|(_, active)| left(active));
        let mut of_prompts = Vec::new();
        for (done, (sequence, active)) in prompts.iter().enumerate() {
            // Each prompt gets at least one row: short prompts must not starve a long one.
            let share = chunk.div_ceil(prompts.len() - done).max(1);
            let of_prompt = active.prompt_rows(*sequence, share);
            chunk = chunk.saturating_sub(of_prompt.len());
            of_prompts.push(of_prompt);
        }
        // llama.cpp decodes neighbouring sequences in one pass only if they also follow each other in the batch.
        of_prompts.sort_by_key(|of_prompt: &Vec<Row>| of_prompt.first().map(|row| row.sequence));
        rows.extend(of_prompts.into_iter().flatten());
        Batch { rows, generating }
    }

    /// Returns the rows that a generating call, one of `streams`, may have in a step besides its first one.
    ///
    /// Without a pool, llama.cpp decodes them in an additional pass over the weights (`split_equal` in `llama-batch.cpp`). That pays only if
    /// it has at least as many rows as the pass of all streams. Otherwise the tokens are decoded one in a step.
    fn additional_rows(&self, active: &ActiveCall<D::Sampler>, streams: usize) -> usize {
        let more = active.pending.len() - 1;
        let is_worth_a_pass = self.limits.is_pool || streams == 1 || more >= streams;
        if is_worth_a_pass { more } else { 0 }
    }
}
