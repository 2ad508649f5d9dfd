//! Plans the rows of a step: those of the generating sequences, and chunks of prompts.

use super::super::chunk_size::Work;
use super::super::decoder::{Decoder, Row};
use super::super::lookup::{Cost, MAX_DRAFT};
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

/// A generating sequence, and its rows in addition to the first one.
struct Stream {
    sequence: usize,
    /// Draft tokens, whose rows come last.
    draft: Vec<Token>,
    /// Number of additional rows: forced tokens, and then draft tokens.
    additional: usize,
}

impl<D: Decoder> Scheduler<D> {
    /// Returns the next batch, of at most `n_batch` rows.
    pub(super) fn plan_batch(&mut self) -> Batch {
        let mut streams = self.streams();
        let generating = streams.len();
        let active = self.sequences.iter().enumerate();
        let active = active.filter_map(|(sequence, active)| Some((sequence, active.as_ref()?)));
        let is_prompt = |active: &ActiveCall<_>| active.has_begun && !active.is_generating();
        let mut prompts: Vec<_> = active.filter(|(_, active)| is_prompt(active)).collect();
        let left = |active: &ActiveCall<_>| active.prompt.len() - active.prefilled;
        let of_prompts: usize = prompts.iter().map(|(_, active)| left(active)).sum();
        let of_streams: usize = streams.iter().map(|stream| stream.additional).sum();
        let work = Work {
            streams: generating,
            prompts: prompts.len(),
            pending: of_prompts + of_streams,
        };
        // Each stream and each prompt gets at least one row.
        let room = self.limits.n_batch - generating;
        let mut chunk = self.chunk_sizer.chunk(work, room);
        let mut rows = Vec::new();
        chunk -= self.grant(&mut streams, prompts.len(), chunk);
        for stream in &streams {
            let active = self.sequences[stream.sequence].iter();
            rows.extend(active.flat_map(|active| {
                active.answer_rows(stream.sequence, &stream.draft, 1 + stream.additional)
            }));
        }

        if let (0, [(_, active)]) = (generating, &prompts[..]) {
            chunk = self
                .chunk_sizer
                .align_single_prompt(active.next_stop() - active.prefilled, chunk);
        }
        prompts.sort_by_key(|(_, active)| left(active));
        let mut of_prompts = Vec::new();
        for (done, (sequence, active)) in prompts.iter().enumerate() {
            // Short prompts must not starve a long one.
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

    /// Limits the additional rows of `streams` in a step with `prompts` prompts. `chunk` is the number of rows for prompts and for
    /// additional rows of streams. Returns how many of these rows the streams take.
    ///
    /// A stream that runs alone takes no rows of `chunk`, which depends on measured times: its text must be reproducible. It gets up to a
    /// tile, or what fits into three seconds. Otherwise, streams take at most half of `chunk`, since each of their rows costs up to twice
    /// as much as a row of a tile, for which `chunk` was measured. The rest is left to prompts.
    fn grant(&self, streams: &mut [Stream], prompts: usize, chunk: usize) -> usize {
        let count = streams.len();
        if let ([stream], 0) = (&mut *streams, prompts) {
            let room = self.limits.n_batch.min(self.chunk_sizer.tile_rows()) - 1;
            stream.additional = stream.additional.min(room);
            return 0;
        }
        let mut left = chunk.saturating_sub(prompts) / 2;
        let mut granted = 0;
        let mut order: Vec<&mut Stream> = streams
            .iter_mut()
            .filter(|stream| stream.additional > 0)
            .collect();
        order.sort_by_key(|stream| stream.additional);
        let wanting = order.len();
        for (done, stream) in order.into_iter().enumerate() {
            let share = stream.additional.min(left.div_ceil(wanting - done));
            // Without a pool, llama.cpp decodes these rows in an additional pass over the weights (`split_equal` in `llama-batch.cpp`).
            // That pays only if the pass has as many rows as there are streams.
            let is_worth_a_pass = self.limits.is_pool || share >= count;
            stream.additional = if is_worth_a_pass { share } else { 0 };
            left -= stream.additional;
            granted += stream.additional;
        }
        granted
    }

    /// Returns the generating sequences with all rows that they could use.
    fn streams(&mut self) -> Vec<Stream> {
        let active = || self.sequences.iter().flatten();
        let count = active().filter(|active| active.is_generating()).count();
        // Prompts make better use of the time that drafts take. Without a pool, a draft would need an additional pass, which does not pay.
        let has_prompts = active().any(|active| active.has_begun && !active.is_generating());
        let drafts = !has_prompts && (self.limits.is_pool || count == 1);
        let cost = Cost::for_streams(count);
        let mut streams = Vec::new();
        for (sequence, active) in self.sequences.iter_mut().enumerate() {
            let Some(active) = active.as_mut().filter(|active| active.is_generating()) else {
                continue;
            };
            let draft = if drafts {
                draft(&self.decoder, sequence, active, cost)
            } else {
                Vec::new()
            };
            streams.push(Stream {
                sequence,
                additional: active.pending.len() - 1 + draft.len(),
                draft,
            });
        }
        streams
    }
}

/// Returns the draft tokens that follow the pending tokens of a call; empty if rejected ones could not be removed again.
fn draft<D: Decoder>(
    decoder: &D,
    sequence: usize,
    active: &mut ActiveCall<D::Sampler>,
    cost: Cost,
) -> Vec<Token> {
    let Some(drafter) = &mut active.drafter else {
        return Vec::new();
    };
    let length = (active.usage.prompt_tokens + active.usage.completion_tokens) as usize;
    if !decoder.keeps_all_cells(length + MAX_DRAFT) || !decoder.can_truncate(sequence) {
        return Vec::new();
    }
    let left = active.max_tokens - active.usage.completion_tokens;
    let tokens = drafter.draft(cost, left.saturating_sub(1) as usize).iter();
    // A control token of the prompt is never text of an answer.
    let tokens = tokens.take_while(|token| !decoder.piece(**token).is_empty());
    tokens.copied().collect()
}
