//! What a worker has to give, planned from what was asked, what the model can, and the memory there is: pure.

use super::chunk_size::TILE;
use crate::config::LoadSettings;
use crate::config::file::FlashAttention;

/// llama.cpp pads a context to this many cells (`llama-context.cpp`), so fewer save nothing.
pub(crate) const CELL_STEP: u32 = 256;

/// Rows that a batch has for prompts, at least, beside one for every sequence.
const MIN_PROMPT_ROWS: usize = 32;

/// The share of the memory there is that the cache may take; the compute buffers and other processes need some too.
const CACHE_SHARE_PERCENT: u64 = 80;

/// Rows that one pass of the compute graph takes on a GPU, where wider is faster.
const GPU_ROWS: usize = 512;

/// The same on a CPU: more are no faster and cost memory, 2 MiB a row where the vocabulary has 262,144 tokens.
const CPU_ROWS: usize = 256;

/// The same where the scores of attention are kept for each row and each cell, 1 GiB for 256 rows of 8 billion parameters over
/// 32,768 cells. Measured without flash attention, prompts of 1,500 tokens: 64, 128 and 256 rows gave `SmolLM2` 402, 394 and 407
/// tokens a second, 64 and 256 gave Gemma 855 and 931.
const ROWS_WITH_SCORES: usize = 128;

/// Sequences beside those of calls in which the prompts of tools are kept, where cells are shared. Each is a mark on cells and
/// takes no memory of its own.
const PINNED_SEQUENCES: usize = 8;

/// From this many tokens on a tool's fixed prompt decides how the cache is laid out.
const LONG_FIXED_PROMPT: u64 = 512;

/// Bytes of a token, about, before anything is tokenised.
const BYTES_PER_TOKEN: u64 = 4;

/// Context of one call, and the context that the model was trained for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ContextSize {
    /// Tokens of one call, prompt and answer.
    pub n_ctx: u32,
    /// Trained context, in tokens; beyond it the model writes nonsense.
    pub trained: u32,
}

impl ContextSize {
    /// Returns the advice for a context that is too short.
    pub fn way_out(self) -> String {
        let Self { n_ctx, trained } = self;
        if n_ctx < trained {
            format!("give the model a larger `n_ctx` (at most {trained})")
        } else {
            format!(
                "choose a model with a longer context (this one was trained for {trained} tokens)"
            )
        }
    }
}

/// How a prompt starts from what lies in the cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reuse {
    /// Not at all.
    Nothing,
    /// From a copy: each sequence has cells of its own, or the model's windows slide or its state recurs.
    Copies,
    /// From the same cells, in a pool.
    Cells,
}

/// What a worker has to give.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Limits {
    /// Sequences at once, at least 1.
    pub parallel: usize,
    /// Tokens of one call, prompt and answer.
    pub n_ctx: u32,
    /// Trained context, in tokens; at least `n_ctx`.
    pub n_ctx_train: u32,
    /// Cells of the cache, over all calls: where there are enough each has its own, else they share them. At least `n_ctx`.
    pub kv_cells: u32,
    /// Tokens of one batch, more than `parallel`.
    pub n_batch: usize,
    /// Whether the sequences share one pool of cells: what one does not use, another may.
    pub is_pool: bool,
    /// Whether most calls are expected to begin with the same long prompt.
    pub has_common_prompt: bool,
    /// How prompts start from what lies in the cache.
    pub reuse: Reuse,
    /// Bytes that saved prefixes may take outside it.
    pub cache_bytes: u64,
}

impl Limits {
    /// What `load` asks for, before anything is known.
    pub(crate) fn asked(load: &LoadSettings) -> Self {
        Self {
            parallel: load.parallel,
            n_ctx: load.n_ctx,
            n_ctx_train: u32::MAX,
            kv_cells: u32::MAX,
            n_batch: load.n_batch,
            is_pool: false,
            has_common_prompt: false,
            reuse: Reuse::Nothing,
            cache_bytes: 0,
        }
    }

    /// Returns the context size of one call.
    pub(crate) fn context(&self) -> ContextSize {
        ContextSize {
            n_ctx: self.n_ctx,
            trained: self.n_ctx_train,
        }
    }

    /// Sequences of the context: those of calls, then those of tools' prompts.
    pub(crate) fn sequences(&self) -> usize {
        match self.reuse {
            Reuse::Cells => self.parallel + PINNED_SEQUENCES,
            _ => self.parallel,
        }
    }

    /// Rows of one pass, of which each sequence needs one.
    pub(crate) fn n_ubatch(&self, load: &LoadSettings, on_gpu: bool) -> usize {
        let rows = match (on_gpu, self.has_flash_attention(load, on_gpu)) {
            (true, _) => GPU_ROWS,
            (_, true) => CPU_ROWS,
            (_, false) => ROWS_WITH_SCORES,
        };
        // Whole tiles, so that a prompt alone is read in such ([`Pace`](super::chunk_size::Pace)).
        let rows = rows.max(self.sequences()).next_multiple_of(TILE);
        rows.min(self.n_batch)
    }

    /// Whether attention is computed in one pass over the cache, as far as `load` leaves that open.
    ///
    /// On a CPU, over a pool whose sequences share a prompt, it is slower so: without it all of them read the shared cells as one
    /// product of matrices. Measured with `SmolLM2` on 2 cores (AVX-512), eight streams behind 1,500 common tokens: 242 tokens a
    /// second without it, 180 with it. With nothing in common, 1,500 tokens each: 94 without it and 129 with it, prompts 181 and
    /// 397.
    pub(crate) fn has_flash_attention(&self, load: &LoadSettings, on_gpu: bool) -> bool {
        match load.flash_attn {
            FlashAttention::On => true,
            FlashAttention::Off => false,
            FlashAttention::Auto => {
                on_gpu || !self.has_common_prompt || load.cache_type_v.is_quantized()
            }
        }
    }
}

/// What limits are planned from.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Facts {
    /// The context that the model was trained for.
    pub n_ctx_train: u32,
    /// Bytes of one cell over all layers.
    pub bytes_per_cell: u64,
    /// Bytes of memory that can still be taken, where known.
    pub available_memory: Option<u64>,
    /// No window slides and no state recurs: every cell stays until it is removed.
    pub keeps_all: bool,
    /// Bytes of the longest prompt that all calls of one tool share; 0 if there is none.
    pub shared_prefix_bytes: u64,
}

impl Facts {
    /// Whether one pool of cells is better although there are cells for a cache of each sequence. Over a cache of its own a
    /// sequence's attention looks at its own tokens alone: eight streams with little in common gain 8 to 25 % (`SmolLM2`, 2
    /// cores, AVX-512). Over a pool a common prompt is held once, and all read it together: eight streams behind 1,500 common
    /// tokens gain 50 % ([`Limits::has_flash_attention`]).
    fn has_long_fixed_prompt(&self, load: &LoadSettings) -> bool {
        let tokens = self.shared_prefix_bytes / BYTES_PER_TOKEN;
        self.keeps_all && load.parallel > 1 && tokens >= LONG_FIXED_PROMPT
    }
}

impl Limits {
    /// Plans for what `load` asks; an `n_ctx` of 0 is what the model was trained for, as far as it fits.
    ///
    /// A context beyond the trained one gives nonsense, so it is capped. The cache has room for all sequences at full
    /// length where memory allows it, and for one in any case.
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
        // A cache for each call, and llama.cpp pads each.
        let most = u64::from(n_ctx)
            .next_multiple_of(CELL_STEP.into())
            .saturating_mul(parallel as u64);
        let wanted = match load.kv_cells {
            0 => most,
            // More than all calls can use would only take memory.
            cells => most.min(cells.into()),
        };
        let cells = wanted.min(fitting).max(n_ctx.into());
        let kv_cells = u32::try_from(cells.next_multiple_of(CELL_STEP.into()))
            .unwrap_or(u32::MAX - CELL_STEP + 1);
        let is_scarce = u64::from(kv_cells) < parallel as u64 * u64::from(n_ctx);
        let has_common_prompt = load.cache_prompt && facts.has_long_fixed_prompt(load);
        let is_pool = is_scarce || has_common_prompt;
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
            has_common_prompt,
            reuse,
            cache_bytes: load.cache_ram.0,
            // llama.cpp cuts n_batch to the cells, and a batch above that would end the process.
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
    fn all_sequences_fit_where_memory_allows_it() {
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
    fn the_trained_context_is_cut_to_what_fits() {
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
    fn little_memory_means_fewer_cells_but_one_call_always_fits() {
        let with = |bytes| Facts {
            available_memory: Some(bytes),
            ..FACTS
        };
        assert_eq!(plan(4096, 4, 2048, with(10_000_000)).kv_cells, 8192);
        assert_eq!(plan(4000, 4, 2048, with(1000)).kv_cells, 4096);
    }

    #[test]
    fn cells_that_are_asked_for_are_given_but_never_less_than_one_call_needs() {
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
    fn attention_keeps_its_scores_where_calls_share_a_long_prompt_and_then_in_narrower_passes() {
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
    fn a_batch_has_room_for_prompts_and_never_exceeds_the_cells() {
        assert_eq!(plan(4096, 64, 1, FACTS).n_batch, 96);
        assert_eq!(plan(10, 1, 2048, FACTS).n_batch, 256);
    }
}
