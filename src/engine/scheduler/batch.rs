//! Plans the rows of a step: those of the generating sequences, and chunks of prompts.

use super::super::chunk_size::Work;
use super::super::decoder::{Decoder, Row};
use super::super::lookup::MAX_DRAFT;
use super::super::token::Token;
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

/// The rows that a generating sequence could have besides its first one.
struct Additional {
    sequence: usize,
    /// Number of these rows.
    rows: usize,
    /// Drafted tokens of the last of these rows.
    draft: Vec<Token>,
}

impl<D: Decoder> Scheduler<D> {
    /// Returns the next batch.
    pub(super) fn plan_batch(&mut self) -> Batch {
        let streams = self.additional_rows();
        let generating = streams.len();
        let active = self.sequences.iter().enumerate();
        let active = active.filter_map(|(sequence, active)| Some((sequence, active.as_ref()?)));
        let is_prompt = |active: &ActiveCall<_>| active.has_begun && !active.is_generating();
        let mut prompts: Vec<_> = active.filter(|(_, active)| is_prompt(active)).collect();
        let left = |active: &ActiveCall<_>| active.prompt.len() - active.prefilled;
        let work = Work {
            streams: generating,
            prompts: prompts.len(),
            pending: prompts
                .iter()
                .map(|(_, active)| left(active))
                .sum::<usize>()
                + streams.iter().map(|stream| stream.rows).sum::<usize>(),
        };
        let room = self.limits.n_batch - generating;
        let mut chunk = self.chunk_sizer.chunk(work, room);
        if let (0, [(_, active)]) = (generating, &prompts[..]) {
            chunk = self
                .chunk_sizer
                .align_single_prompt(active.next_stop() - active.prefilled, chunk);
        }

        let mut rows = Vec::new();
        for (done, stream) in streams.iter().enumerate() {
            let share = stream.rows.min(chunk.div_ceil(generating - done));
            chunk -= share;
            let active = self.sequences[stream.sequence].iter();
            rows.extend(
                active.flat_map(|active| {
                    active.answer_rows(stream.sequence, &stream.draft, 1 + share)
                }),
            );
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

    /// Returns the generating sequences, with the rows that each one may have besides its first.
    ///
    /// Without a pool, llama.cpp decodes them in an additional pass over the weights (`split_equal` in `llama-batch.cpp`). That pays only if
    /// it has at least as many rows as the pass of all streams. Otherwise the tokens are decoded one in a step, and none is drafted.
    fn additional_rows(&mut self) -> Vec<Additional> {
        let active = || self.sequences.iter().flatten();
        let streams = active().filter(|active| active.is_generating()).count();
        let has_prompts = active().any(|active| active.has_begun && !active.is_generating());
        let is_one_pass = self.limits.is_pool || streams == 1;
        let cost = self.chunk_sizer.draft_cost(streams);
        let mut additional = Vec::new();
        for (sequence, active) in self.sequences.iter_mut().enumerate() {
            let Some(active) = active.as_mut().filter(|active| active.is_generating()) else {
                continue;
            };
            let written = active.usage.prompt_tokens + active.usage.completion_tokens;
            // Rows beyond a sliding window could not be removed again.
            let can_remove = self
                .decoder
                .can_truncate_saved(written as usize + MAX_DRAFT)
                && self.decoder.can_truncate(sequence);
            let draft = match &mut active.drafter {
                // A prompt gains more from the time that a draft takes.
                Some(drafter) if is_one_pass && !has_prompts && can_remove => {
                    let left = active.max_tokens - active.usage.completion_tokens;
                    drafter.draft(cost, left as usize - 1).to_vec()
                }
                _ => Vec::new(),
            };
            let rows = active.pending.len() - 1 + draft.len();
            let is_worth_a_pass = is_one_pass || rows >= streams;
            additional.push(Additional {
                sequence,
                rows: if is_worth_a_pass { rows } else { 0 },
                draft,
            });
        }
        additional
    }
}
