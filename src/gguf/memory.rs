//! What a model will take, told from its header: pure.
//!
//! The formulas are those by which llama.cpp allocates (`llama-kv-cache.cpp`, `llama-context.cpp`); after a load the
//! worker's measured memory takes the place of the estimate.

use std::ops::Range;

use super::Header;

/// llama.cpp pads a context to this many cells.
const CELL_STEP: u64 = 256;

/// Code, tables of the vocabulary and small buffers of a worker (measured: 25 to 55 MiB).
const BASE_BYTES: u64 = 50 << 20;

/// How a model is run, as far as memory depends on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Run {
    /// Sequences at once.
    pub parallel: u64,
    /// Cells of the cache over all of them.
    pub kv_cells: u64,
    /// Rows of one pass of the compute graph.
    pub n_ubatch: u64,
    /// Bytes of 32 numbers of a key.
    pub key_bytes_of_32: u64,
    /// Bytes of 32 numbers of a value.
    pub value_bytes_of_32: u64,
    /// Whether all sequences share the cells; else each has its part of them.
    pub is_pool: bool,
    /// Whether attention is computed in one pass, without keeping its scores.
    pub has_flash_attention: bool,
    /// Number of last layers in a GPU's own memory, with the output counted as one; 0 if no GPU has its own memory.
    pub gpu_layers: u64,
}

/// A quantity for the machine's memory, and the same for the GPUs' memory.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Split<T> {
    /// In the machine's memory.
    pub machine: T,
    /// In the GPUs' own memory.
    pub gpu: T,
}

impl Run {
    /// Streams of cells, and the cells of each.
    fn streams(self) -> (u64, u64) {
        let streams = if self.is_pool {
            1
        } else {
            self.parallel.max(1)
        };
        (streams, self.kv_cells / streams)
    }
}

/// Bytes that a loaded model takes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Estimate {
    /// Its tensors.
    pub weights: u64,
    /// Keys and values.
    pub cache: u64,
    /// What one pass computes in, and the rest.
    pub compute: u64,
}

impl Estimate {
    /// All of it.
    pub(crate) fn total(self) -> u64 {
        self.weights
            .saturating_add(self.cache)
            .saturating_add(self.compute)
    }
}

impl Header {
    /// Returns how many layers can be offloaded, with the output counted as one.
    pub(crate) fn offloadable(&self) -> u64 {
        self.n_head_kv.len() as u64 + 1
    }

    /// Returns the first layer that a GPU holds; `None` if it holds nothing. The output is offloaded first, then the last layer
    /// (`llama-model.cpp: i_gpu_start`).
    fn first_on_gpu(&self, run: Run) -> Option<usize> {
        let layers = run.gpu_layers.min(self.offloadable());
        let first = self.offloadable() - layers;
        usize::try_from(first).ok().filter(|_| layers > 0)
    }

    /// What the model takes when it is run so.
    pub(crate) fn estimate(&self, run: Run) -> Split<Estimate> {
        let cache = self.per_side(run, |layer| self.cache_of_layer(layer, run));
        let buffers = self.buffer_bytes(run);
        let Some(first) = self.first_on_gpu(run) else {
            let machine = Estimate {
                weights: self.weight_bytes,
                cache: cache.machine,
                compute: buffers.saturating_add(BASE_BYTES),
            };
            return Split {
                machine,
                gpu: Estimate::default(),
            };
        };
        let held = self.weights.on_gpu_from(first);
        let moved = held.saturating_sub(self.weights.copied());
        Split {
            machine: Estimate {
                weights: self.weight_bytes.saturating_sub(moved),
                cache: cache.machine,
                // Layers that stay are computed there.
                compute: BASE_BYTES.saturating_add(if first > 0 { buffers } else { 0 }),
            },
            gpu: Estimate {
                weights: held,
                cache: cache.gpu,
                compute: buffers,
            },
        }
    }

    /// Bytes of one cell, where no window slides.
    pub(crate) fn bytes_per_cell(&self, run: Run) -> Split<u64> {
        self.per_side(run, |layer| self.layer_bytes(self.n_head_kv[layer], run))
    }

    /// Returns the sums of `bytes` over the layers on each side.
    fn per_side(&self, run: Run, bytes: impl Fn(usize) -> u64) -> Split<u64> {
        let layers = self.n_head_kv.len();
        let first = self.first_on_gpu(run).unwrap_or(layers);
        let sum = |layers: Range<usize>| layers.map(&bytes).fold(0, u64::saturating_add);
        Split {
            machine: sum(0..first),
            gpu: sum(first..layers),
        }
    }

    fn layer_bytes(&self, heads: u64, run: Run) -> u64 {
        let keys = heads
            .saturating_mul(self.key_length)
            .saturating_mul(run.key_bytes_of_32);
        let values = heads
            .saturating_mul(self.value_length)
            .saturating_mul(run.value_bytes_of_32);
        keys.saturating_add(values) / 32
    }

    fn cache_of_layer(&self, layer: usize, run: Run) -> u64 {
        let cells = match &self.sliding_window {
            // Each sequence keeps its window, and each stream room for what is just being read.
            Some((window, sliding)) if sliding.get(layer) == Some(&true) => {
                let (streams, cells) = run.streams();
                let windows = window
                    .saturating_mul(run.parallel / streams)
                    .saturating_add(run.n_ubatch);
                windows.min(cells).next_multiple_of(CELL_STEP) * streams
            }
            _ => run.kv_cells,
        };
        cells.saturating_mul(self.layer_bytes(self.n_head_kv[layer], run))
    }

    /// Logits and activations of `n_ubatch` rows, and the scores of attention where they are kept; 4 bytes a number.
    fn buffer_bytes(&self, run: Run) -> u64 {
        let numbers = self.scores_of_row(run).saturating_add(
            self.n_vocab
                .saturating_add(6 * self.n_embd.min(1 << 32))
                .saturating_add(2 * self.n_ff.min(1 << 32)),
        );
        numbers.saturating_mul(4 * run.n_ubatch)
    }

    /// Of one layer, which are computed one after the other.
    fn scores_of_row(&self, run: Run) -> u64 {
        if run.has_flash_attention {
            return 0;
        }
        let (_, cells) = run.streams();
        cells.saturating_mul(self.n_head.min(1 << 16))
    }

    /// Bytes that the scores of attention take for one more cell, where they are kept.
    pub(crate) fn score_bytes_per_cell(&self, run: Run) -> u64 {
        let (streams, _) = run.streams();
        let one = Run {
            kv_cells: streams,
            ..run
        };
        self.scores_of_row(one).saturating_mul(4 * run.n_ubatch) / streams
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Gemma 3 270M: 18 layers, of which every sixth looks back over everything.
    fn gemma() -> Header {
        Header {
            architecture: "gemma3".into(),
            name: None,
            n_ctx_train: Some(32_768),
            chat_template: None,
            tuning: crate::gguf::Tuning::Base,
            weight_bytes: 235 << 20,
            mapped_bytes: 235 << 20,
            weights: crate::gguf::Weights::default(),
            file: None,
            other_parts: Vec::new(),
            n_vocab: 262_144,
            n_embd: 640,
            n_ff: 2048,
            n_head: 4,
            n_head_kv: vec![1; 18],
            key_length: 256,
            value_length: 256,
            keeps_all: false,
            sliding_window: Some((512, (0..18).map(|layer| layer % 6 < 5).collect())),
        }
    }

    const RUN: Run = Run {
        parallel: 8,
        kv_cells: 8192,
        n_ubatch: 512,
        key_bytes_of_32: 64,
        value_bytes_of_32: 64,
        is_pool: true,
        has_flash_attention: true,
        gpu_layers: 0,
    };

    #[test]
    fn the_cache_is_what_llama_cpp_allocates() {
        // Its log: 24.00 MiB for 3 full layers, 67.50 MiB for 15 with windows.
        assert_eq!(
            gemma().estimate(RUN).machine.cache,
            (24 << 20) + (67 << 20) + (1 << 19)
        );
    }

    #[test]
    fn a_cache_for_each_sequence_has_room_for_reading_in_each() {
        let own = Run {
            is_pool: false,
            kv_cells: 4 * 4096,
            parallel: 4,
            n_ubatch: 256,
            ..RUN
        };
        // 3 full layers, and 15 of 4 x (512 + 256) cells; 1 KiB a cell and layer.
        let cells = 3 * 4 * 4096 + 15 * 4 * 768;
        assert_eq!(gemma().estimate(own).machine.cache, cells * 1024);
    }

    #[test]
    fn scores_of_attention_are_counted_where_they_are_kept() {
        let kept = Run {
            has_flash_attention: false,
            ..RUN
        };
        let more = gemma().estimate(kept).machine.compute - gemma().estimate(RUN).machine.compute;
        assert_eq!(more, 4 * 8192 * 512 * 4);
        assert_eq!(more, 8192 * gemma().score_bytes_per_cell(kept));
    }

    #[test]
    fn the_compute_buffer_is_what_llama_cpp_allocates_and_the_base() {
        let buffer = gemma().estimate(RUN).machine.compute - BASE_BYTES;
        // Its log: 530.78 MiB.
        assert!((520 << 20..545 << 20).contains(&buffer), "{buffer}");
    }

    #[test]
    fn numbers_of_a_broken_file_do_not_overflow() {
        let broken = Header {
            n_head_kv: vec![u64::MAX; 3],
            n_vocab: u64::MAX,
            ..gemma()
        };
        assert_eq!(broken.estimate(RUN).machine.total(), u64::MAX);
    }

    /// Runs of a model on a GPU that holds so many layers.
    fn offloaded(gpu_layers: u64) -> Split<Estimate> {
        let mut header = gemma();
        for layer in 0..18 {
            header
                .weights
                .add(&format!("blk.{layer}.ffn_up.weight"), 5 << 20);
        }
        header.weights.add("token_embd.weight", 145 << 20);
        header.estimate(Run { gpu_layers, ..RUN })
    }

    #[test]
    fn a_gpu_takes_the_output_first_and_all_but_the_embedding_last() {
        let weights = |gpu_layers| {
            let Split { machine, gpu } = offloaded(gpu_layers);
            (machine.weights >> 20, gpu.weights >> 20)
        };
        // The embedding is the matrix for the output, too, and then on both sides.
        assert_eq!(weights(0), (235, 0));
        assert_eq!(weights(1), (235, 145));
        assert_eq!(weights(2), (230, 150));
        assert_eq!(weights(19), (145, 235));
        assert_eq!(weights(99), weights(19));
    }

    #[test]
    fn buffers_are_on_each_side_that_computes() {
        let none = offloaded(0).machine.compute;
        let some = offloaded(7);
        assert_eq!(
            (some.machine.compute, some.gpu.compute),
            (none, none - BASE_BYTES)
        );
        let all = offloaded(19);
        assert_eq!(
            (all.machine.compute, all.gpu.compute),
            (BASE_BYTES, none - BASE_BYTES)
        );
    }

    proptest! {
        #[test]
        fn the_cache_of_both_sides_is_the_whole_and_a_gpu_takes_more_with_each_layer(layers in 0_u64..25) {
            let (one, more) = (offloaded(layers), offloaded(layers + 1));
            prop_assert_eq!(one.machine.cache + one.gpu.cache, offloaded(0).machine.cache);
            prop_assert!(one.gpu.total() <= more.gpu.total());
            prop_assert!(one.gpu.cache <= more.gpu.cache);
            let run = Run { gpu_layers: layers, ..RUN };
            let Split { machine, gpu } = gemma().bytes_per_cell(run);
            prop_assert_eq!(machine + gpu, gemma().bytes_per_cell(RUN).machine);
        }
    }
}
