//! Chunk size of chunked prefill: how many prompt tokens the next step decodes. Pure.
//!
//! Every stream waits for the whole step, and so does a cancel. Measured on 2 cores, chunks of 512 tokens raise the inter-token latency of
//! a stream to between 1.2 and 1.6 s, chunks of 32 tokens to 0.13 s, and prefill takes about as long. So a step has a target duration, and
//! the chunk is the number of tokens that fits at the last measured speed.

use std::time::Duration;

/// Target duration of a step with streams and long prompts. A short call beside a prompt of 3,000 tokens then takes a quarter of the time
/// that it takes if prompts come first.
const LONG_PROMPT_STEP: Duration = Duration::from_millis(36);

/// Target duration of a step with streams and prompts that are nearly done, whose calls soon stream, too. Readers do not notice so short a
/// pause. Also the longest target if many prompts wait for few streams.
const SHORT_PROMPT_STEP: Duration = Duration::from_millis(120);

/// Remaining prefill time up to which prompts are nearly done: six steps of [`SHORT_PROMPT_STEP`].
const NEARLY_DONE: Duration = Duration::from_millis(720);

/// Target duration of a step without streams. A cancel or a new call usually waits no longer.
const PROMPT_STEP: Duration = Duration::from_secs(1);

/// Rows in a tile of flash attention on a CPU (`GGML_FA_TILE_Q` of ggml's `ops.cpp`). ggml computes fewer rows in another way, with other
/// last bits. Without streams a prompt is therefore decoded in whole tiles, so the text does not depend on the speed. The first chunk is
/// one tile, since no speed is known yet.
pub(crate) const TILE: usize = 64;

/// Longest time for a tile: a slower one is decoded in parts. The last step of a prompt may take nearly two tiles.
const LONGEST_TILE: Duration = Duration::from_secs(3);

/// Divisor of the chunk size for shared prefixes that are decoded ahead of calls: a new call waits for such a step.
const WARM_SHARE: usize = 4;

/// Fewest prompt tokens in a step. With fewer, the fixed cost of a step dominates.
const MIN_CHUNK: usize = 8;

/// Work of the next step.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Work {
    /// Generating sequences.
    pub streams: usize,
    /// Prompts in prefill.
    pub prompts: usize,
    /// Tokens of these prompts that have yet to be decoded, and the forced and draft tokens of the streams.
    pub pending: usize,
}

/// Chooses chunk sizes by the measured speed of steps. A moving average weighs the newest step by half, since attention slows down as a
/// prompt grows.
///
/// The unit tests show its choices: a prompt alone at 1 ms a token gets chunks of 768 tokens, and beside two streams of 10 ms a step at
/// 2 ms a token, chunks of 13.
#[derive(Debug)]
pub(crate) struct ChunkSizer {
    /// Rows of a ubatch, in whole tiles. A partial ubatch costs more per row.
    n_ubatch: usize,
    /// Duration of a step without prompts.
    generate_step: Option<Duration>,
    /// Additional duration of a step for each prompt token.
    prompt_token: Option<Duration>,
}

impl ChunkSizer {
    /// Creates a sizer without measurements, for a decoder with `n_ubatch` rows in a ubatch.
    pub(crate) fn new(n_ubatch: usize) -> Self {
        Self {
            n_ubatch: if n_ubatch > TILE {
                n_ubatch / TILE * TILE
            } else {
                n_ubatch
            },
            generate_step: None,
            prompt_token: None,
        }
    }

    /// Records that a step of `generated` and `prompt` tokens took `elapsed`.
    pub(crate) fn observe(&mut self, generated: usize, prompt: usize, elapsed: Duration) {
        let Ok(prompt @ 1..) = u32::try_from(prompt) else {
            blend(&mut self.generate_step, elapsed);
            return;
        };
        let beside = match self.generate_step {
            Some(step) if generated > 0 => step,
            _ => Duration::ZERO,
        };
        // If the step was faster than a step without prompts, half of it is attributed to the prompt.
        let own = elapsed.checked_sub(beside).unwrap_or(elapsed / 2) / prompt;
        // A few rows take nearly as long as a tile, so a slow short step says nothing about the speed.
        let is_short = generated == 0 && (prompt as usize) < TILE;
        if !is_short || self.prompt_token.is_some_and(|known| own < known) {
            blend(&mut self.prompt_token, own);
        }
    }

    /// Returns the number of rows for the next step in addition to one for each stream, at most `room`.
    pub(crate) fn chunk(&self, work: Work, room: usize) -> usize {
        let Some(prompt_token) = self.prompt_token else {
            let first = if work.streams == 0 { TILE } else { MIN_CHUNK };
            return first.min(room);
        };
        let fits = |time: Duration| {
            let tokens = time.as_nanos() / prompt_token.as_nanos().max(1);
            usize::try_from(tokens).unwrap_or(usize::MAX).min(room)
        };
        if work.streams == 0 {
            return self.whole_tiles(fits).min(room);
        }
        let generate_step = self.generate_step.unwrap_or_default();
        let pending = u32::try_from(work.pending).unwrap_or(u32::MAX);
        let step = if prompt_token.saturating_mul(pending) <= NEARLY_DONE {
            SHORT_PROMPT_STEP
        } else {
            // In proportion to the number of prompts for each stream.
            let share = u32::try_from(work.prompts / work.streams).unwrap_or(u32::MAX);
            LONG_PROMPT_STEP
                .saturating_mul(share.max(1))
                .min(SHORT_PROMPT_STEP)
        };
        // At least as long as generation takes: at worst, prompts halve the speed of streams.
        let time = step.saturating_sub(generate_step).max(generate_step);
        fits(time).max(MIN_CHUNK).min(room)
    }

    /// Returns the number of tokens of a shared prefix for the next step, while no call is active.
    pub(crate) fn warm_chunk(&self, room: usize) -> usize {
        let chunk = self.chunk(Work::default(), room);
        (chunk / WARM_SHARE).next_multiple_of(TILE).min(chunk)
    }

    /// Returns the rows of the next step for the only prompt, so that no ubatch has fewer rows than a tile. `left` rows remain to the next
    /// checkpoint or the end of the prompt. The result may be nearly a tile more than `chunk`.
    ///
    /// A prompt with 266 tokens left and ubatches of 256 rows takes steps of 192 and 74 rows. One step would have ubatches of 256 and 10.
    pub(crate) fn align_single_prompt(&self, left: usize, chunk: usize) -> usize {
        let rows = chunk.min(left);
        let is_short = |rows: usize| (1..TILE).contains(&rows);
        if chunk < TILE
            || left <= TILE
            || !(is_short(left - rows) || is_short(rows % self.n_ubatch))
        {
            rows
        } else if left <= self.n_ubatch {
            left
        } else {
            (rows / TILE - 1).max(1) * TILE
        }
    }

    /// Returns the chunk of a step without streams: whole ubatches that fit the target duration, otherwise whole tiles, otherwise a part
    /// of a tile.
    fn whole_tiles(&self, fits: impl Fn(Duration) -> usize) -> usize {
        let chunk = fits(PROMPT_STEP);
        let wholes = [self.n_ubatch, TILE].map(|rows| chunk / rows * rows);
        let whole = wholes.into_iter().find(|rows| *rows > 0);
        whole.unwrap_or_else(|| self.tile_rows())
    }

    /// Returns the number of rows in a tile, or in the part of one that takes [`LONGEST_TILE`].
    pub(crate) fn tile_rows(&self) -> usize {
        let fitting = |token: Duration| LONGEST_TILE.as_nanos() / token.as_nanos().max(1);
        let rows = self.prompt_token.map_or(u128::MAX, fitting);
        usize::try_from(rows)
            .unwrap_or(usize::MAX)
            .clamp(MIN_CHUNK, TILE)
    }
}

fn blend(value: &mut Option<Duration>, newest: Duration) {
    *value = Some(value.map_or(newest, |old| (old + newest) / 2));
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    const UBATCH: usize = 256;

    /// Work of one prompt with `pending` tokens left.
    fn work(streams: usize, pending: usize) -> Work {
        Work {
            streams,
            prompts: 1,
            pending,
        }
    }

    #[test]
    fn the_first_chunk_is_one_tile() {
        assert_eq!(ChunkSizer::new(UBATCH).chunk(work(0, 3000), 2048), TILE);
        assert_eq!(ChunkSizer::new(UBATCH).chunk(work(0, 3000), 5), 5);
    }

    #[test]
    fn a_prompt_alone_fills_the_step_with_whole_ubatches_or_tiles() {
        let alone = |token: Duration, room| {
            let mut sizer = ChunkSizer::new(UBATCH);
            sizer.observe(0, 64, 64 * token);
            sizer.chunk(work(0, 3000), room)
        };
        assert_eq!(alone(MS, 2048), 768);
        assert_eq!(alone(2 * MS, 2048), 256);
        assert_eq!(alone(5 * MS, 2048), 192);
        assert_eq!(alone(2 * MS, 100), 64);
        assert_eq!(alone(2 * MS, 50), 50);
    }

    #[test]
    fn a_prompt_alone_is_decoded_in_whole_tiles_unless_a_tile_takes_over_three_seconds() {
        let alone = |token: Duration| {
            let mut sizer = ChunkSizer::new(UBATCH);
            sizer.observe(0, 64, 64 * token);
            sizer.chunk(work(0, 3000), 2048)
        };
        assert_eq!(alone(40 * MS), TILE);
        // Parts of a tile do not change the measured speed unless they are faster.
        assert_eq!(alone(60 * MS), 50);
        assert_eq!(alone(3000 * MS), MIN_CHUNK);
    }

    #[test]
    fn a_slow_step_of_a_few_rows_does_not_count_as_slow_prefill() {
        let mut sizer = ChunkSizer::new(UBATCH);
        sizer.observe(0, 10, 500 * MS);
        assert_eq!(sizer.chunk(work(0, 3000), 2048), TILE);
        sizer.observe(0, 64, 640 * MS);
        sizer.observe(0, 1, 250 * MS);
        assert_eq!(sizer.chunk(work(0, 3000), 2048), TILE);
        sizer.observe(0, 10, 10 * MS);
        assert!(
            sizer.chunk(work(0, 3000), 2048) > TILE,
            "but a fast one does"
        );
    }

    #[test]
    fn a_shared_prefix_is_decoded_in_tiles() {
        let mut sizer = ChunkSizer::new(UBATCH);
        assert_eq!(sizer.warm_chunk(2048), TILE);
        sizer.observe(0, 64, 64 * MS);
        assert_eq!(sizer.warm_chunk(2048), 192);
        sizer.observe(0, 64, 6400 * MS);
        assert!((8..64).contains(&sizer.warm_chunk(2048)));
    }

    #[test]
    fn no_ubatch_of_a_prompt_alone_is_shorter_than_a_tile() {
        for n_ubatch in [128, 150, 192, 256, 512] {
            let sizer = ChunkSizer::new(n_ubatch);
            for chunk in (TILE..1024).step_by(TILE) {
                for prompt in TILE..1500 {
                    let mut left = prompt;
                    while left > 0 {
                        let rows = sizer.align_single_prompt(left, chunk);
                        let last = (rows - 1) % (n_ubatch / TILE * TILE) + 1;
                        let is_right = rows < chunk + TILE
                            && last >= TILE
                            && (rows == left || rows.is_multiple_of(TILE));
                        assert!(rows <= left && is_right, "{rows} {left} {chunk} {n_ubatch}");
                        left -= rows;
                    }
                }
            }
        }
        let sizer = ChunkSizer::new(UBATCH);
        assert_eq!(
            [
                sizer.align_single_prompt(50, 256),
                sizer.align_single_prompt(300, 40)
            ],
            [50, 40]
        );
    }

    #[test]
    fn a_step_with_streams_and_a_long_prompt_keeps_to_its_target_duration() {
        let mut sizer = ChunkSizer::new(UBATCH);
        sizer.observe(2, 0, 10 * MS);
        sizer.observe(2, 32, 74 * MS);
        assert!(
            (12..=13).contains(&sizer.chunk(work(2, 3000), 2048)),
            "{sizer:?}"
        );
    }

    #[test]
    fn prompts_that_are_nearly_done_get_longer_steps() {
        let mut sizer = ChunkSizer::new(UBATCH);
        sizer.observe(2, 0, 20 * MS);
        sizer.observe(2, 32, 84 * MS);
        assert!(
            (48..=50).contains(&sizer.chunk(work(2, 300), 2048)),
            "{sizer:?}"
        );
        assert!(
            (8..=10).contains(&sizer.chunk(work(2, 400), 2048)),
            "{sizer:?}"
        );
    }

    #[test]
    fn steps_get_longer_the_more_prompts_there_are_for_each_stream() {
        let mut sizer = ChunkSizer::new(UBATCH);
        sizer.observe(1, 0, 16 * MS);
        sizer.observe(1, 100, 116 * MS);
        let chunk = |streams, prompts| {
            let pending = 3000;
            sizer.chunk(
                Work {
                    streams,
                    prompts,
                    pending,
                },
                2048,
            )
        };
        let chunks = [(1, 1), (4, 4), (2, 3), (2, 4), (1, 7), (1, 50)];
        assert_eq!(
            chunks.map(|(streams, prompts)| chunk(streams, prompts)),
            [20, 20, 20, 56, 104, 104]
        );
    }

    #[test]
    fn prompts_get_as_much_time_as_slow_generation_takes() {
        let mut sizer = ChunkSizer::new(UBATCH);
        sizer.observe(1, 0, 100 * MS);
        sizer.observe(1, 10, 200 * MS);
        assert_eq!(sizer.chunk(work(1, 3000), 2048), 10);
        sizer.observe(1, 0, 200 * MS);
        assert!(
            sizer.chunk(work(1, 20), 2048) >= 10,
            "also if they are nearly done"
        );
    }

    #[test]
    fn a_slow_machine_still_makes_progress() {
        let mut sizer = ChunkSizer::new(UBATCH);
        sizer.observe(1, 0, 300 * MS);
        sizer.observe(1, 8, 4000 * MS);
        assert_eq!(sizer.chunk(work(1, 3000), 2048), MIN_CHUNK);
    }

    #[test]
    fn the_chunk_follows_a_change_of_speed() {
        let mut sizer = ChunkSizer::new(UBATCH);
        sizer.observe(0, 100, 100 * MS);
        let fast = sizer.chunk(work(0, 3000), 2048);
        for _ in 0..6 {
            sizer.observe(0, 100, 1000 * MS);
        }
        assert!(sizer.chunk(work(0, 3000), 2048) < fast / 8);
    }
}
