//! Limits of a worker, planned from the configuration, the model and the available memory. Pure.

use super::chunk_size::TILE;
use crate::config::LoadSettings;
use crate::config::file::{FlashAttention, Speculative};
use crate::gguf::memory::CELL_STEP;

/// Fewest rows of a batch for prompts, in addition to one for every sequence.
const MIN_PROMPT_ROWS: usize = 32;

/// Largest share of the available memory for the KV cache. Compute buffers and other processes need the rest.
const CACHE_SHARE_PERCENT: u64 = 80;

/// Rows of a ubatch on a GPU, where wider is faster.
const GPU_ROWS: usize = 512;

/// Rows of a ubatch on a CPU. More rows cost memory without a gain in speed: 2 MiB each with a vocabulary of 262,144 tokens.
const CPU_ROWS: usize = 256;

/// Rows of a ubatch without flash attention, which stores an attention score for each row and cell: 1 GiB for 256 rows and 32,768 cells
/// with 8 billion parameters. Measured with prompts of 1,500 tokens, in tokens a second: `SmolLM2` 402, 394 and 407 with 64, 128 and 256
/// rows, Gemma 855 and 931 with 64 and 256.
const ROWS_WITH_SCORES: usize = 128;

/// Additional sequences for the shared prefixes of tools, in a pool. A sequence only marks cells and takes no memory of its own.
const PINNED_SEQUENCES: usize = 8;

/// Fewest tokens of a tool's shared prefix that make the sequences share a pool of cells.
const LONG_SHARED_PREFIX: u64 = 512;

/// Bytes of a token, estimated for text that is not tokenised yet.
const BYTES_PER_TOKEN: u64 = 4;

/// Context size of one call, and the context size that the model was trained for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ContextSize {
    /// Most tokens of one call, prompt and answer.
    pub n_ctx: u32,
    /// Trained context, in tokens. Beyond it the model writes nonsense.
    pub trained: u32,
}

impl ContextSize {
    /// Returns the advice for a context that is too short.
    pub fn advice(self) -> String {
        self.advice_for(0)
    }

    /// Returns the advice for a context that is too short for `tokens`.
    pub fn advice_for(self, tokens: usize) -> String {
        let Self { n_ctx, trained } = self;
        if n_ctx < trained && tokens < trained as usize {
            format!("give the model a larger `n_ctx` (at most {trained})")
        } else {
            format!(
                "choose a model with a longer context (this one was trained for {trained} tokens)"
            )
        }
    }
}

/// How the prefix cache reuses a prefix.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reuse {
    /// The prefix cache is off.
    Nothing,
    /// Copies the prefix: each sequence has cells of its own, or the model has sliding windows or a recurrent state.
    Copies,
    /// Shares the cells of the prefix, in a pool.
    Cells,
}

/// Limits of a worker, and the layout of its KV cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Limits {
    /// Most calls that are active at once, at least 1.
    pub parallel: usize,
    /// Most tokens of one call, prompt and answer.
    pub n_ctx: u32,
    /// Trained context, in tokens; at least `n_ctx`.
    pub n_ctx_train: u32,
    /// Cells of the KV cache over all sequences, at least `n_ctx`.
    pub kv_cells: u32,
    /// Most tokens of one batch, more than `parallel`.
    pub n_batch: usize,
    /// Whether all sequences share one pool of cells. Otherwise each sequence has cells of its own.
    pub is_pool: bool,
    /// Whether most calls are expected to begin with the same long prefix.
    pub has_long_shared_prefix: bool,
    /// How the prefix cache reuses a prefix.
    pub reuse: Reuse,
    /// Most bytes of saved prefixes, outside the KV cache.
    pub cache_bytes: u64,
    /// Whether answers have draft tokens ([`Drafter`](super::lookup::Drafter)).
    pub is_speculative: bool,
}

impl Limits {
    /// Returns the limits that `load` requests, before anything is known about the model.
    pub(crate) fn requested(load: &LoadSettings) -> Self {
        Self {
            parallel: load.parallel,
            n_ctx: load.n_ctx,
            n_ctx_train: u32::MAX,
            kv_cells: u32::MAX,
            n_batch: load.n_batch,
            is_pool: false,
            has_long_shared_prefix: false,
            reuse: Reuse::Nothing,
            cache_bytes: 0,
            is_speculative: false,
        }
    }

    /// Returns the context size of one call.
    pub(crate) fn context(&self) -> ContextSize {
        ContextSize {
            n_ctx: self.n_ctx,
            trained: self.n_ctx_train,
        }
    }

    /// Returns the number of sequences in the context: those of calls, then the pinned ones of tools.
    pub(crate) fn sequences(&self) -> usize {
        match self.reuse {
            Reuse::Cells => self.parallel + PINNED_SEQUENCES,
            _ => self.parallel,
        }
    }

    /// Returns the rows of a ubatch, at least one for each sequence.
    pub(crate) fn n_ubatch(&self, load: &LoadSettings, on_gpu: bool) -> usize {
        let rows = match (on_gpu, self.has_flash_attention(load, on_gpu)) {
            (true, _) => GPU_ROWS,
            (_, true) => CPU_ROWS,
            (_, false) => ROWS_WITH_SCORES,
        };
        // In whole tiles, as a prompt alone is decoded ([`ChunkSizer`](super::chunk_size::ChunkSizer)).
        let rows = rows.max(self.sequences()).next_multiple_of(TILE);
        rows.min(self.n_batch)
    }

    /// Returns whether to use flash attention, if `load` leaves that open.
    ///
    /// On a CPU, flash attention is slower over a pool whose sequences share a long prompt: without it, all sequences read the shared cells
    /// in one matrix product. Measured with `SmolLM2` on 2 cores (AVX-512) and eight streams, in tokens a second:
    ///
    /// | prompts | with | without |
    /// | --- | --- | --- |
    /// | 1,500 common tokens | 180 | 242 |
    /// | 1,500 tokens each, none common | 129, prefill 397 | 94, prefill 181 |
    pub(crate) fn has_flash_attention(&self, load: &LoadSettings, on_gpu: bool) -> bool {
        match load.flash_attn {
            FlashAttention::On => true,
            FlashAttention::Off => false,
            FlashAttention::Auto => {
                on_gpu || !self.has_long_shared_prefix || load.cache_type_v.is_quantized()
            }
        }
    }
}

/// Facts about the model and the machine, for [`Limits::plan`].
#[derive(Debug, Clone, Copy)]
pub(crate) struct Facts {
    /// Trained context, in tokens.
    pub n_ctx_train: u32,
    /// Bytes of one cell over all layers.
    pub bytes_per_cell: u64,
    /// Available memory in bytes, if known.
    pub available_memory: Option<u64>,
    /// Whether every cell stays until it is removed: the model has neither sliding windows nor a recurrent state.
    pub keeps_all: bool,
    /// Bytes of the longest prompt that all calls of one tool share; 0 if there is none.
    pub shared_prefix_bytes: u64,
}

impl Facts {
    /// Returns whether most calls begin with a long shared prefix, so that a pool of cells is faster even with enough cells for each
    /// sequence.
    ///
    /// With cells of its own, a sequence's attention reads only its own tokens: eight streams with little in common gain 8 to 25 %. In a
    /// pool a common prompt is stored once, and all sequences read it together: eight streams behind 1,500 common tokens gain 50 %
    /// (`SmolLM2`, 2 cores, AVX-512; [`Limits::has_flash_attention`]).
    fn has_long_shared_prefix(&self, load: &LoadSettings) -> bool {
        let tokens = self.shared_prefix_bytes / BYTES_PER_TOKEN;
        self.keeps_all && load.parallel > 1 && tokens >= LONG_SHARED_PREFIX
    }
}

impl Limits {
    /// Plans the limits for `load`. An `n_ctx` of 0 is the trained context, as far as memory allows.
    ///
    /// A larger `n_ctx` is capped to the trained context, beyond which a model writes nonsense. The KV cache has cells for `parallel` calls
    /// of full length if memory allows it, and always for one.
    ///
    /// ```text
    /// n_ctx 4096, parallel 4, trained for 8192     → 16,384 cells, each sequence has its own
    /// the same, memory for 8,192 cells only        →  8,192 cells, one pool
    /// ```
    pub(crate) fn plan(load: &LoadSettings, facts: Facts) -> Self {
        let (n_ctx, parallel, n_batch) = (load.n_ctx, load.parallel, load.n_batch);
        let trained = facts.n_ctx_train.max(1);
        let fitting = facts.available_memory.map_or(u64::MAX, |memory| {
            memory / 100 * CACHE_SHARE_PERCENT / facts.bytes_per_cell.max(1)
        });
        let n_ctx = if n_ctx == 0 {
            u32::try_from(fitting)
                .unwrap_or(u32::MAX)
                .clamp(CELL_STEP.min(trained), trained)
        } else {
            n_ctx.min(trained)
        };
        // Cells for each sequence, which llama.cpp pads.
        let most = u64::from(n_ctx)
            .next_multiple_of(CELL_STEP.into())
            .saturating_mul(parallel as u64);
        let wanted = match load.kv_cells {
            0 => most,
            // No more than all calls can use.
            cells => most.min(cells.into()),
        };
        let cells = wanted.min(fitting).max(n_ctx.into());
        let kv_cells = u32::try_from(cells.next_multiple_of(CELL_STEP.into()))
            .unwrap_or(u32::MAX - CELL_STEP + 1);
        let is_scarce = u64::from(kv_cells) < parallel as u64 * u64::from(n_ctx);
        let has_long_shared_prefix = load.cache_prompt && facts.has_long_shared_prefix(load);
        let is_pool = is_scarce || has_long_shared_prefix;
        let reuse = match (load.cache_prompt, is_pool && facts.keeps_all) {
            (false, _) => Reuse::Nothing,
            (true, true) => Reuse::Cells,
            (true, false) => Reuse::Copies,
        };
        Self {
            parallel,
            n_ctx,
            n_ctx_train: trained,
            kv_cells,
            is_pool,
            has_long_shared_prefix,
            reuse,
            cache_bytes: load.cache_ram.0,
            is_speculative: load.speculative == Speculative::Auto,
            // llama.cpp reduces n_batch to the number of cells, and a larger batch would abort the process.
            n_batch: n_batch
                .max(parallel + MIN_PROMPT_ROWS)
                .min(kv_cells as usize),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(n_ctx: u32, parallel: usize, n_batch: usize, facts: Facts) -> Limits {
        let load = LoadSettings {
            n_ctx,
            parallel,
            n_batch,
            ..LoadSettings::default()
        };
        Limits::plan(&load, facts)
    }

    const FACTS: Facts = Facts {
        n_ctx_train: 8192,
        bytes_per_cell: 1000,
        available_memory: None,
        keeps_all: true,
        shared_prefix_bytes: 0,
    };

    #[test]
    fn all_sequences_fit_if_memory_allows_it() {
        let limits = plan(4096, 4, 2048, FACTS);
        assert_eq!(
            (limits.n_ctx, limits.kv_cells, limits.n_batch),
            (4096, 16_384, 2048)
        );
    }

    #[test]
    fn a_context_beyond_the_trained_one_is_capped_and_zero_means_the_trained_one() {
        assert_eq!(plan(100_000, 1, 2048, FACTS).n_ctx, 8192);
        assert_eq!(plan(0, 1, 2048, FACTS).n_ctx, 8192);
    }

    #[test]
    fn the_trained_context_is_reduced_to_what_fits_into_memory() {
        let little = Facts {
            available_memory: Some(1_000_000),
            ..FACTS
        };
        assert_eq!(plan(0, 4, 2048, little).n_ctx, 800);
        let nothing = Facts {
            available_memory: Some(0),
            ..FACTS
        };
        assert_eq!(plan(0, 4, 2048, nothing).n_ctx, 256);
    }

    #[test]
    fn little_memory_gives_fewer_cells_but_always_enough_for_one_call() {
        let with = |bytes| Facts {
            available_memory: Some(bytes),
            ..FACTS
        };
        assert_eq!(plan(4096, 4, 2048, with(10_000_000)).kv_cells, 8192);
        assert_eq!(plan(4000, 4, 2048, with(1000)).kv_cells, 4096);
    }

    #[test]
    fn configured_cells_are_used_but_never_fewer_than_one_call_needs() {
        let with = |kv_cells| {
            let load = LoadSettings {
                kv_cells,
                ..LoadSettings::default()
            };
            Limits::plan(&load, FACTS).kv_cells
        };
        assert_eq!([with(10_000), with(100)], [10_240, 4096]);
    }

    #[test]
    fn calls_that_share_a_long_prompt_use_no_flash_attention_and_a_narrower_ubatch() {
        let layout = |shared_prefix_bytes, kv_cells| {
            let load = LoadSettings {
                kv_cells,
                ..LoadSettings::default()
            };
            let facts = Facts {
                shared_prefix_bytes,
                ..FACTS
            };
            let limits = Limits::plan(&load, facts);
            let has_flash_attention = limits.has_flash_attention(&load, false);
            (
                limits.is_pool,
                has_flash_attention,
                limits.n_ubatch(&load, false),
            )
        };
        assert_eq!(layout(6000, 0), (true, false, 128));
        assert_eq!(layout(600, 0), (false, true, 256));
        assert_eq!(layout(600, 4096), (true, true, 256));
    }

    #[test]
    fn a_batch_has_rows_for_prompts_and_never_exceeds_the_cells() {
        assert_eq!(plan(4096, 64, 1, FACTS).n_batch, 96);
        assert_eq!(plan(10, 1, 2048, FACTS).n_batch, 256);
    }
}
