//! Time per generated token, by activity. A worker logs it at debug level each time it becomes idle.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

/// Times since the last log line. Clones share them; all are on the thread that decodes.
#[derive(Debug, Clone, Default)]
pub(crate) struct Timing(Rc<Cell<Times>>);

/// Sums of counts and times.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Times {
    /// Decoded batches.
    pub steps: u32,
    /// Sampled tokens.
    pub tokens: u32,
    /// Sampled tokens that a grammar rejected, so that its mask of allowed tokens had to be computed.
    pub masks: u32,
    /// Time in llama.cpp's decode, prefill included.
    pub decode: Duration,
    /// Time from logits to tokens.
    pub sample: Duration,
    /// Time to write updates to the server.
    pub emit: Duration,
}

impl Timing {
    /// Changes the sums.
    pub(crate) fn add(&self, change: impl FnOnce(&mut Times)) {
        let mut times = self.0.get();
        change(&mut times);
        self.0.set(times);
    }

    /// Logs the sums and resets them. Logs nothing if no token was sampled.
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
            "time per token"
        );
    }
}
