//! Estimates the memory of a model from its header. Pure.
//!
//! The formulas follow the allocations of llama.cpp (`llama-kv-cache.cpp`, `llama-context.cpp`). Once a model is loaded, the measured
//! memory of its worker replaces the estimate.

use std::ops::Range;

use super::Header;

/// Multiple to which llama.cpp pads the cells of a context (`llama-context.cpp`).
pub(crate) const CELL_STEP: u32 = 256;

/// Code, vocabulary tables and small buffers of a worker, in bytes (measured: 25 to 55 MiB).
pub(crate) const BASE_BYTES: u64 = 50 << 20;

/// The settings of a worker that its memory depends on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Run {
    /// Number of sequences.
    pub parallel: u64,
    /// KV cache cells of all sequences together.
    pub kv_cells: u64,
    /// Tokens in one ubatch.
    pub n_ubatch: u64,
    /// Bytes of 32 numbers of a key.
    pub key_bytes_of_32: u64,
    /// Bytes of 32 numbers of a value.
    pub value_bytes_of_32: u64,
    /// Whether all sequences share one pool of cells. Otherwise each has an equal part.
    pub is_pool: bool,
    /// Whether flash attention is used, which does not store the attention scores.
    pub has_flash_attention: bool,
    /// Number of last layers in the GPU's own memory, with the output counted as one. 0 if the GPU has no memory of its own.
    pub gpu_layers: u64,
}

/// A quantity of the machine's memory and the same quantity of the GPUs' memory.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Split<T> {
    pub machine: T,
    /// The quantity for memory that belongs to GPUs.
    pub gpu: T,
}

impl Run {
    /// Returns the number of KV cache streams, and the cells of each.
    fn streams(self) -> (u64, u64) {
        let streams = if self.is_pool {
            1
        } else {
            self.parallel.max(1)
        };
        (streams, self.kv_cells / streams)
    }
}

/// Memory of a loaded model, in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Estimate {
    /// The tensors.
    pub weights: u64,
    /// The KV cache.
    pub cache: u64,
    /// The compute buffers, and everything else.
    pub compute: u64,
}

impl Estimate {
    /// Returns the sum of all parts.
    pub(crate) fn total(self) -> u64 {
        self.weights
            .saturating_add(self.cache)
            .saturating_add(self.compute)
    }
}

impl Header {
    /// Returns the number of layers that can be offloaded, with the output counted as one.
    pub(crate) fn offloadable(&self) -> u64 {
        self.n_head_kv.len() as u64 + 1
    }

    /// Returns the first layer that a GPU holds. Returns `None` if no layer is offloaded. The output is offloaded first, then the last
    /// layer (`llama-model.cpp: i_gpu_start`).
    fn first_on_gpu(&self, run: Run) -> Option<usize> {
        let layers = run.gpu_layers.min(self.offloadable());
        let first = self.offloadable() - layers;
        usize::try_from(first).ok().filter(|_| layers > 0)
    }

    /// Estimates the memory of the model with the settings `run`.
    pub(crate) fn estimate(&self, run: Run) -> Split<Estimate> {
        let cache = self.per_memory(run, |layer| self.layer_cache_bytes(layer, run));
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
                // The machine computes the layers that are not offloaded.
                compute: BASE_BYTES.saturating_add(if first > 0 { buffers } else { 0 }),
            },
            gpu: Estimate {
                weights: held,
                cache: cache.gpu,
                compute: buffers,
            },
        }
    }

    /// Returns the bytes of one KV cache cell without sliding windows.
    pub(crate) fn bytes_per_cell(&self, run: Run) -> Split<u64> {
        self.per_memory(run, |layer| self.layer_bytes(self.n_head_kv[layer], run))
    }

    /// Returns the sums of `bytes` over the layers in each memory.
    fn per_memory(&self, run: Run, bytes: impl Fn(usize) -> u64) -> Split<u64> {
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

    fn layer_cache_bytes(&self, layer: usize, run: Run) -> u64 {
        let cells = match &self.sliding_window {
            // Each sequence keeps its window, and each stream needs cells for the current ubatch.
            Some(window) if window.layers.get(layer) == Some(&true) => {
                let (streams, cells) = run.streams();
                let windows = window
                    .size
                    .saturating_mul(run.parallel / streams)
                    .saturating_add(run.n_ubatch);
                windows.min(cells).next_multiple_of(CELL_STEP.into()) * streams
            }
            _ => run.kv_cells,
        };
        cells.saturating_mul(self.layer_bytes(self.n_head_kv[layer], run))
    }

    /// Returns the bytes of logits and activations of one ubatch, and of the attention scores if they are stored. A number has 4 bytes.
    fn buffer_bytes(&self, run: Run) -> u64 {
        let numbers = self.scores_per_token(run).saturating_add(
            self.n_vocab
                .saturating_add(6 * self.n_embd.min(1 << 32))
                .saturating_add(2 * self.n_ff.min(1 << 32)),
        );
        numbers.saturating_mul(4 * run.n_ubatch)
    }

    /// Returns the number of attention scores of one token. Layers are computed one after the other, so one layer is enough.
    fn scores_per_token(&self, run: Run) -> u64 {
        if run.has_flash_attention {
            return 0;
        }
        let (_, cells) = run.streams();
        cells.saturating_mul(self.n_head.min(1 << 16))
    }

    /// Returns the bytes of attention scores for one more cell, if scores are stored.
    pub(crate) fn score_bytes_per_cell(&self, run: Run) -> u64 {
        let (streams, _) = run.streams();
        let one = Run {
            kv_cells: streams,
            ..run
        };
        self.scores_per_token(one).saturating_mul(4 * run.n_ubatch) / streams
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::gguf::SlidingWindow;

    /// Gemma 3 270M: 18 layers, of which every sixth attends to the whole context.
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
            sliding_window: Some(SlidingWindow {
                size: 512,
                layers: (0..18).map(|layer| layer % 6 < 5).collect(),
            }),
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
    fn the_estimated_cache_is_what_llama_cpp_allocates() {
        // llama.cpp's log: 24.00 MiB for 3 full layers, 67.50 MiB for 15 layers with windows.
        assert_eq!(
            gemma().estimate(RUN).machine.cache,
            (24 << 20) + (67 << 20) + (1 << 19)
        );
    }

    #[test]
    fn without_a_pool_each_sequence_has_cells_for_its_own_ubatch() {
        let own = Run {
            is_pool: false,
            kv_cells: 4 * 4096,
            parallel: 4,
            n_ubatch: 256,
            ..RUN
        };
        // 3 full layers, and 15 of 4 x (512 + 256) cells; 1 KiB for each cell and layer.
        let cells = 3 * 4 * 4096 + 15 * 4 * 768;
        assert_eq!(gemma().estimate(own).machine.cache, cells * 1024);
    }

    #[test]
    fn attention_scores_count_only_without_flash_attention() {
        let kept = Run {
            has_flash_attention: false,
            ..RUN
        };
        let more = gemma().estimate(kept).machine.compute - gemma().estimate(RUN).machine.compute;
        assert_eq!(more, 4 * 8192 * 512 * 4);
        assert_eq!(more, 8192 * gemma().score_bytes_per_cell(kept));
    }

    #[test]
    fn the_estimated_compute_memory_is_what_llama_cpp_allocates_plus_the_base() {
        let buffer = gemma().estimate(RUN).machine.compute - BASE_BYTES;
        // llama.cpp's log: 530.78 MiB.
        assert!((520 << 20..545 << 20).contains(&buffer), "{buffer}");
    }

    #[test]
    fn extreme_numbers_of_a_broken_file_do_not_overflow() {
        let broken = Header {
            n_head_kv: vec![u64::MAX; 3],
            n_vocab: u64::MAX,
            ..gemma()
        };
        assert_eq!(broken.estimate(RUN).machine.total(), u64::MAX);
    }

    /// Returns the estimate for a model of which a GPU holds `gpu_layers` layers.
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
    fn the_output_is_offloaded_first_and_the_embedding_never() {
        let weights = |gpu_layers| {
            let Split { machine, gpu } = offloaded(gpu_layers);
            (machine.weights >> 20, gpu.weights >> 20)
        };
        // The embedding is also the output matrix, and then it is in both memories.
        assert_eq!(weights(0), (235, 0));
        assert_eq!(weights(1), (235, 145));
        assert_eq!(weights(2), (230, 150));
        assert_eq!(weights(19), (145, 235));
        assert_eq!(weights(99), weights(19));
    }

    #[test]
    fn compute_buffers_are_in_each_memory_that_computes() {
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
        fn the_caches_of_both_memories_add_up_and_the_gpus_grows_with_each_layer(layers in 0_u64..25) {
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
