//! Finds the tokens with the greatest logits, without an array of the whole vocabulary.
//!
//! The first pass computes the maximum of each block of logits, for which the compiler uses vector instructions. The `count`-th greatest
//! maximum is a lower bound of the `count`-th greatest logit. The second pass searches only the blocks whose maximum reaches that bound:
//! `count` blocks, unless maxima are equal.

use crate::engine::token::Token;

/// Logits of a block. With larger blocks, the bound is chosen among fewer maxima, and the second pass searches more logits.
const BLOCK: usize = 64;

/// Maxima of a block that are computed in parallel: one vector of AVX-512, or two of AVX2.
const LANES: usize = 16;

/// Buffers of a scan, reused for the next one.
#[derive(Debug, Default)]
pub(super) struct TopKScan {
    maxima: Vec<f32>,
    bound: Vec<f32>,
}

impl TopKScan {
    /// Calls `found` with the tokens of the `count` greatest logits, in ascending order of tokens. May include more tokens. Skips logits that
    /// are NaN or −∞.
    pub(super) fn scan(&mut self, logits: &[f32], count: usize, mut found: impl FnMut(Token, f32)) {
        self.maxima.clear();
        self.maxima.extend(logits.chunks(BLOCK).map(maximum));
        let bound = self.bound(count);
        let blocks = logits
            .chunks(BLOCK)
            .zip(&self.maxima)
            .zip((0..).step_by(BLOCK));
        for ((block, _), first) in blocks.filter(|((_, maximum), _)| **maximum >= bound) {
            let tokens = (first..).zip(block);
            tokens
                .filter(|(_, logit)| **logit >= bound)
                .for_each(|(token, logit)| found(Token(token), *logit));
        }
    }

    /// Returns a bound that at least `count` logits reach. If there are fewer blocks, returns the least finite number.
    fn bound(&mut self, count: usize) -> f32 {
        if count == 0 {
            return f32::INFINITY;
        }
        self.bound.clone_from(&self.maxima);
        if count > self.bound.len() {
            return f32::MIN;
        }
        let (_, bound, _) = self
            .bound
            .select_nth_unstable_by(count - 1, |a, b| b.total_cmp(a));
        bound.max(f32::MIN)
    }
}

/// Returns the maximum of a block, or −∞ if all of it is NaN.
fn maximum(block: &[f32]) -> f32 {
    let greater = |a: f32, b: f32| if b > a { b } else { a };
    let (vectors, rest) = block.as_chunks::<LANES>();
    let mut maxima = [f32::NEG_INFINITY; LANES];
    for vector in vectors {
        for (maximum, logit) in maxima.iter_mut().zip(vector) {
            *maximum = greater(*maximum, *logit);
        }
    }
    maxima
        .iter()
        .chain(rest)
        .copied()
        .fold(f32::NEG_INFINITY, greater)
}
