//! How many prompt tokens the next step may take: pure arithmetic over measured steps.
//!
//! A running stream waits for the whole step, and so does a cancel; measured on 2 cores, chunks of 512 tokens stall a
//! stream for 1.2 to 1.6 s per token, chunks of 32 for 0.13 s, at about the same total time of the prefill. So a step
//! is given a time, and the chunk is what fits into it at the speed that was last seen.

use std::time::Duration;

/// A step's length beside streams where prompts are long: a short call beside a prompt of 3,000 tokens then takes a quarter of what
/// it takes where prompts go first.
const LONG_PROMPT_STEP: Duration = Duration::from_millis(36);

/// A step's length beside streams where prompts are nearly done: their calls soon stream too, and all share their steps. A
/// reader does not see a pause as short. Also the longest where many prompts wait for few streams.
const SHORT_PROMPT_STEP: Duration = Duration::from_millis(120);

/// Prompts are nearly done where they take no longer than this, six such steps.
const NEARLY_DONE: Duration = Duration::from_millis(720);

/// A step's length when nothing streams: how late a cancel or a new call is noticed, as a rule.
const PROMPT_STEP: Duration = Duration::from_secs(1);

/// Rows that flash attention on a CPU computes together (`GGML_FA_TILE_Q` of ggml's `ops.cpp`), and fewer in another way, which
/// gives other last bits. When nothing streams a prompt is read in whole tiles, the first one before any speed is known:
/// then the text does not depend on the speed.
pub(crate) const TILE: usize = 64;

/// A tile that takes longer is read in parts; the last step of a prompt may take nearly two of them.
const LONGEST_TILE: Duration = Duration::from_secs(3);

/// The part of a step that a fixed prompt takes when nothing else is to be done: a call that comes waits for it.
const WARM_SHARE: usize = 4;

/// Fewer tokens than this a step would let the fixed cost of a step dominate.
const MIN_CHUNK: usize = 8;

/// What there is to be decoded.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Work {
    /// Sequences that generate, a token each.
    pub streams: usize,
    /// Prompts that are being read.
    pub prompts: usize,
    /// Their tokens that are still to be decoded.
    pub pending: usize,
}

/// What was learnt of the speed of steps. Of two measurements the newer weighs half: attention makes a prompt slower as
/// it grows, so the past counts little.
#[derive(Debug)]
pub(crate) struct Pace {
    /// Rows that the decoder computes in one pass: a part of a pass costs more per row.
    pass: usize,
    /// A step of generated tokens alone.
    generate_step: Option<Duration>,
    /// One prompt token, beyond the generated ones beside it.
    prompt_token: Option<Duration>,
}

impl Pace {
    /// Nothing is known yet; the decoder computes `pass` rows at once, and no batch has more than it can take.
    pub(crate) fn new(pass: usize) -> Self {
        Self {
            pass: if pass > TILE {
                pass / TILE * TILE
            } else {
                pass
            },
            generate_step: None,
            prompt_token: None,
        }
    }

    /// Learns from a step of `generated` and `prompt` tokens that took `elapsed`.
    pub(crate) fn observe(&mut self, generated: usize, prompt: usize, elapsed: Duration) {
        let Ok(prompt @ 1..) = u32::try_from(prompt) else {
            blend(&mut self.generate_step, elapsed);
            return;
        };
        let beside = match self.generate_step {
            Some(step) if generated > 0 => step,
            _ => Duration::ZERO,
        };
        // A step can come out faster than generation alone ever was; then half of it is the prompt's.
        let own = elapsed.checked_sub(beside).unwrap_or(elapsed / 2) / prompt;
        // A few rows take nearly as long as a tile, so a slow short step tells nothing.
        let is_short = generated == 0 && (prompt as usize) < TILE;
        if !is_short || self.prompt_token.is_some_and(|known| own < known) {
            blend(&mut self.prompt_token, own);
        }
    }

    /// Prompt tokens for the next step, at most `room`.
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
            return self.whole(fits).min(room);
        }
        let generate_step = self.generate_step.unwrap_or_default();
        let pending = u32::try_from(work.pending).unwrap_or(u32::MAX);
        let step = if prompt_token.saturating_mul(pending) <= NEARLY_DONE {
            SHORT_PROMPT_STEP
        } else {
            // As much longer as more calls wait for their prompts than for their streams.
            let share = u32::try_from(work.prompts / work.streams).unwrap_or(u32::MAX);
            LONG_PROMPT_STEP
                .saturating_mul(share.max(1))
                .min(SHORT_PROMPT_STEP)
        };
        // Where generation alone takes long, prompts get as long: streams are half as fast at worst.
        let time = step.saturating_sub(generate_step).max(generate_step);
        fits(time).max(MIN_CHUNK).min(room)
    }

    /// Rows of a fixed prompt for the next step, when nothing else is to be done.
    pub(crate) fn warm_chunk(&self, room: usize) -> usize {
        let chunk = self.chunk(Work::default(), room);
        (chunk / WARM_SHARE).next_multiple_of(TILE).min(chunk)
    }

    /// Rows of the next step where one prompt is read alone, `left` of them to where it ends or is saved, of a `chunk`, which may come
    /// out nearly a tile longer: such that none of its passes has fewer rows than a tile, where a pass has two of them.
    pub(crate) fn alone(&self, left: usize, chunk: usize) -> usize {
        let rows = chunk.min(left);
        let is_short = |rows: usize| (1..TILE).contains(&rows);
        if chunk < TILE || left <= TILE || !(is_short(left - rows) || is_short(rows % self.pass)) {
            rows
        } else if left <= self.pass {
            left
        } else {
            (rows / TILE - 1).max(1) * TILE
        }
    }

    /// A chunk when nothing streams: whole passes, or else whole tiles, of what fits into a time.
    fn whole(&self, fits: impl Fn(Duration) -> usize) -> usize {
        let chunk = fits(PROMPT_STEP);
        let wholes = [self.pass, TILE].map(|rows| chunk / rows * rows);
        let whole = wholes.into_iter().find(|rows| *rows > 0);
        whole.unwrap_or_else(|| fits(LONGEST_TILE).clamp(MIN_CHUNK, TILE))
    }
}

fn blend(value: &mut Option<Duration>, newest: Duration) {
    *value = Some(value.map_or(newest, |old| (old + newest) / 2));
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    const PASS: usize = 256;

    /// One prompt, with so much of it left.
    fn work(streams: usize, pending: usize) -> Work {
        Work {
            streams,
            prompts: 1,
            pending,
        }
    }

    #[test]
    fn the_first_chunk_is_one_tile() {
        assert_eq!(Pace::new(PASS).chunk(work(0, 3000), 2048), TILE);
        assert_eq!(Pace::new(PASS).chunk(work(0, 3000), 5), 5);
    }

    #[test]
    fn a_prompt_alone_fills_its_time_with_whole_passes_or_tiles() {
        let alone = |token: Duration, room| {
            let mut pace = Pace::new(PASS);
            pace.observe(0, 64, 64 * token);
            pace.chunk(work(0, 3000), room)
        };
        assert_eq!(alone(MS, 2048), 768);
        assert_eq!(alone(2 * MS, 2048), 256);
        assert_eq!(alone(5 * MS, 2048), 192);
        assert_eq!(alone(2 * MS, 100), 64);
        assert_eq!(alone(2 * MS, 50), 50);
    }

    #[test]
    fn a_prompt_alone_is_read_in_whole_tiles_until_one_takes_three_seconds() {
        let alone = |token: Duration| {
            let mut pace = Pace::new(PASS);
            pace.observe(0, 64, 64 * token);
            pace.chunk(work(0, 3000), 2048)
        };
        assert_eq!(alone(40 * MS), TILE);
        // Then each part tells nothing new of the speed, unless it is faster.
        assert_eq!(alone(60 * MS), 50);
        assert_eq!(alone(3000 * MS), MIN_CHUNK);
    }

    #[test]
    fn a_short_step_that_took_long_does_not_make_prompts_slow() {
        let mut pace = Pace::new(PASS);
        pace.observe(0, 10, 500 * MS);
        assert_eq!(pace.chunk(work(0, 3000), 2048), TILE);
        pace.observe(0, 64, 640 * MS);
        pace.observe(0, 1, 250 * MS);
        assert_eq!(pace.chunk(work(0, 3000), 2048), TILE);
        pace.observe(0, 10, 10 * MS);
        assert!(
            pace.chunk(work(0, 3000), 2048) > TILE,
            "but a fast one does"
        );
    }

    #[test]
    fn a_fixed_prompt_is_read_in_tiles_too() {
        let mut pace = Pace::new(PASS);
        assert_eq!(pace.warm_chunk(2048), TILE);
        pace.observe(0, 64, 64 * MS);
        assert_eq!(pace.warm_chunk(2048), 192);
        pace.observe(0, 64, 6400 * MS);
        assert!((8..64).contains(&pace.warm_chunk(2048)));
    }

    #[test]
    fn of_a_prompt_alone_no_pass_is_shorter_than_a_tile() {
        for pass in [128, 150, 192, 256, 512] {
            let pace = Pace::new(pass);
            for chunk in (TILE..1024).step_by(TILE) {
                for prompt in TILE..1500 {
                    let mut left = prompt;
                    while left > 0 {
                        let rows = pace.alone(left, chunk);
                        let last = (rows - 1) % (pass / TILE * TILE) + 1;
                        let is_right = rows < chunk + TILE
                            && last >= TILE
                            && (rows == left || rows.is_multiple_of(TILE));
                        assert!(rows <= left && is_right, "{rows} {left} {chunk} {pass}");
                        left -= rows;
                    }
                }
            }
        }
        let pace = Pace::new(PASS);
        assert_eq!([pace.alone(50, 256), pace.alone(300, 40)], [50, 40]);
    }

    #[test]
    fn beside_a_stream_the_whole_step_takes_its_time_and_no_more() {
        let mut pace = Pace::new(PASS);
        pace.observe(2, 0, 10 * MS);
        pace.observe(2, 32, 74 * MS);
        assert!(
            (12..=13).contains(&pace.chunk(work(2, 3000), 2048)),
            "{pace:?}"
        );
    }

    #[test]
    fn prompts_that_are_nearly_done_may_take_longer() {
        let mut pace = Pace::new(PASS);
        pace.observe(2, 0, 20 * MS);
        pace.observe(2, 32, 84 * MS);
        assert!(
            (48..=50).contains(&pace.chunk(work(2, 300), 2048)),
            "{pace:?}"
        );
        assert!(
            (8..=10).contains(&pace.chunk(work(2, 400), 2048)),
            "{pace:?}"
        );
    }

    #[test]
    fn the_more_calls_wait_for_their_prompts_the_longer_those_that_stream_wait() {
        let mut pace = Pace::new(PASS);
        pace.observe(1, 0, 16 * MS);
        pace.observe(1, 100, 116 * MS);
        let chunk = |streams, prompts| {
            let pending = 3000;
            pace.chunk(
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
    fn where_generation_is_slow_prompts_take_as_long() {
        let mut pace = Pace::new(PASS);
        pace.observe(1, 0, 100 * MS);
        pace.observe(1, 10, 200 * MS);
        assert_eq!(pace.chunk(work(1, 3000), 2048), 10);
        pace.observe(1, 0, 200 * MS);
        assert!(
            pace.chunk(work(1, 20), 2048) >= 10,
            "also where they are nearly done"
        );
    }

    #[test]
    fn a_slow_machine_still_makes_progress() {
        let mut pace = Pace::new(PASS);
        pace.observe(1, 0, 300 * MS);
        pace.observe(1, 8, 4000 * MS);
        assert_eq!(pace.chunk(work(1, 3000), 2048), MIN_CHUNK);
    }

    #[test]
    fn a_speed_that_changes_is_followed() {
        let mut pace = Pace::new(PASS);
        pace.observe(0, 100, 100 * MS);
        let fast = pace.chunk(work(0, 3000), 2048);
        for _ in 0..6 {
            pace.observe(0, 100, 1000 * MS);
        }
        assert!(pace.chunk(work(0, 3000), 2048) < fast / 8);
    }
}
