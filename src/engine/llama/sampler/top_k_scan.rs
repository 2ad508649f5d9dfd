//! The tokens of the greatest logits, without an array of the whole vocabulary.
//!
//! Two passes. The first takes the greatest of every block of logits, which compilers turn into vector instructions, and the
//! bound out of these: the `count`-th greatest of them is at most the `count`-th greatest of all. The second looks only into
//! blocks that reach the bound: `count` of them, except among equals.

use crate::engine::token::Token;

/// Logits of a block. Larger ones leave fewer greatest to choose the bound among, and more to look at in the second pass.
const BLOCK: usize = 64;

/// Greatest of a block that are kept beside each other: one vector of AVX-512, two of AVX2.
const LANES: usize = 16;

/// Memory to work in, kept between tokens.
#[derive(Debug, Default)]
pub(super) struct Greatest {
    maxima: Vec<f32>,
    bound: Vec<f32>,
}

impl Greatest {
    /// Calls `found` with the tokens of the `count` greatest logits, in order of tokens, and with more of them where that costs
    /// less than to leave them out. What is no number, or −∞, is never among them.
    pub(super) fn of(&mut self, logits: &[f32], count: usize, mut found: impl FnMut(Token, f32)) {
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

    /// What at least `count` logits reach; the least number where there are fewer blocks.
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

/// The greatest of a block; −∞ where none is a number.
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
