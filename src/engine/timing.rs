//! Where the time of tokens goes, for the log: one line at debug level whenever a worker runs out of work.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

/// What was spent since the last line, shared by those that spend it; all on the thread that decodes.
#[derive(Debug, Clone, Default)]
pub(crate) struct Timing(Rc<Cell<Times>>);

/// Sums.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Times {
    /// Batches that were decoded.
    pub steps: u32,
    /// Tokens that were sampled.
    pub tokens: u32,
    /// How many of them their grammar refused at first, so that the tokens it allows had to be computed.
    pub masks: u32,
    /// Inside llama.cpp's decode, prompts included.
    pub decode: Duration,
    /// From logits to tokens.
    pub sample: Duration,
    /// Telling the server.
    pub emit: Duration,
}

impl Timing {
    /// Adds to the sums.
    pub(crate) fn add(&self, spend: impl FnOnce(&mut Times)) {
        let mut times = self.0.get();
        spend(&mut times);
        self.0.set(times);
    }

    /// Logs the sums, where there are any, and begins anew.
    pub(crate) fn log(&self) {
        let times = self.0.take();
        if times.tokens == 0 {
            return;
        }
        let per_token = |time: Duration| (time / times.tokens).as_micros();
        tracing::debug!(
            steps = times.steps,
            tokens = times.tokens,
            masks = times.masks,
            decode_us = per_token(times.decode),
            sample_us = per_token(times.sample),
            emit_us = per_token(times.emit),
            "time spent, by token"
        );
    }
}
