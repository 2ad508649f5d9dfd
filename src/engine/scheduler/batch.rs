//! Plans the rows of a step: one for every generating sequence, and chunks of prompts.

use super::super::chunk_size::Work;
use super::super::decoder::{Decoder, Row};
use super::Scheduler;
use super::active::ActiveCall;

/// The rows of one step.
#[derive(Debug)]
pub(super) struct Batch {
    /// Rows of the generating sequences, one for each, and then those of prompts.
    pub(super) rows: Vec<Row>,
    /// Number of generating sequences.
    pub(super) generating: usize,
}

impl<D: Decoder> Scheduler<D> {
    /// Returns the next batch.
    pub(super) fn plan_batch(&self) -> Batch {
        let mut rows = Vec::new();
        let mut prompts = Vec::new();
        for (sequence, active) in self.sequences.iter().enumerate() {
            let Some(active) = active else { continue };
            match active.next_token {
                Some(token) => rows.push(Row {
                    token,
                    position: active.usage.prompt_tokens + active.usage.completion_tokens - 1,
                    sequence,
                    logits: !active.reasoning.is_forced(),
                }),
                None if active.has_begun => prompts.push((sequence, active)),
                None => {}
            }
        }
        let generating = rows.len();
        let left = |active: &ActiveCall<_>| active.prompt.len() - active.prefilled;
        let work = Work {
            streams: generating,
            prompts: prompts.len(),
            pending: prompts.iter().map(|(_, active)| left(active)).sum(),
        };
        let room = self.limits.n_batch - generating;
        let mut chunk = self.chunk_sizer.chunk(work, room);
        if let (0, [(_, active)]) = (generating, &prompts[..]) {
            chunk = self
                .chunk_sizer
                .align_single_prompt(active.next_stop() - active.prefilled, chunk);
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
}
