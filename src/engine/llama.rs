//! llama.cpp: loads a model, and gives its decoder and its vocabulary. Used only in workers.
//!
//! llama.cpp aborts the process if an assertion fails, so the code that calls it keeps its conditions: a batch never exceeds `n_batch`,
//! sequence ids are our own, only rows that requested logits are sampled, and token ids come from llama.cpp itself.

mod cpu;
mod decoder;
mod device;
mod dry;
mod error;
mod sampler;
mod sampling;
mod vocabulary;

use std::cell::RefCell;
use std::num::{NonZeroU32, TryFromIntError};
use std::ops::Deref;
use std::sync::Arc;

use llama_cpp_2::context::LlamaContext;
use llama_cpp_2::context::params::{KvCacheType, LlamaContextParams};
use llama_cpp_2::llama_backend::LlamaBackend;
use llama_cpp_2::llama_batch::LlamaBatch;
use llama_cpp_2::model::params::{LlamaModelParams, LlamaSplitMode};
use llama_cpp_2::model::{LlamaLoraAdapter, LlamaModel};

use super::limits::{Facts, Limits};
use super::thinking::families::{Markers, markers_of};
use super::timing::Timing;
use super::vocabulary::Vocabulary;
pub(crate) use cpu::cpu_backend;
pub(crate) use decoder::LlamaDecoder;
pub(crate) use device::devices;
use dry::DrySamplers;
use error::{adapter_error, gguf_error, load_error, reason};
use sampler::Scratch;
pub(crate) use vocabulary::ModelVocabulary;
#[cfg(test)]
pub(crate) use vocabulary::with_vocabulary;

use super::{EngineError, EngineErrorKind};
use crate::config::file::{CacheType, FlashAttention, SplitMode};
use crate::config::{LoadSettings, ranges};
use crate::gguf::memory::Run;
use crate::gguf::{self, CHUNKED, Header, WINDOW_SIZES};

/// Flash attention if llama.cpp supports it here (`llama.h: llama_flash_attn_type`).
const FLASH_AUTO: i32 = -1;

/// Flash attention always.
const FLASH_ON: i32 = 1;

/// Flash attention never.
const FLASH_OFF: i32 = 0;

/// A loaded model.
#[derive(Debug)]
pub(crate) struct Model {
    // Dropped before the weights, which llama.cpp requires.
    adapter: RefCell<Option<(LlamaLoraAdapter, f32)>>,
    weights: Arc<Weights>,
    /// Header of the file. The server plans the model's memory from it, too.
    header: Header,
}

/// The weights and vocabulary of a model, and the backend that must outlive them. Prepared prompts share them, and may be dropped last.
#[derive(Debug)]
struct Weights {
    // Fields are dropped in this order, which llama.cpp requires.
    model: LlamaModel,
    backend: Backend,
}

/// llama.cpp's backend.
#[derive(Debug)]
enum Backend {
    Own(LlamaBackend),
    /// The backend of all tests of the process, which can have only one.
    #[cfg(test)]
    Shared(&'static LlamaBackend),
}

#[cfg(test)]
impl Backend {
    /// Returns the backend of all tests.
    fn of_tests() -> Self {
        static BACKEND: std::sync::LazyLock<LlamaBackend> = std::sync::LazyLock::new(|| {
            Model::capture_logs();
            LlamaBackend::init().unwrap()
        });
        Self::Shared(&BACKEND)
    }
}

impl Deref for Backend {
    type Target = LlamaBackend;

    fn deref(&self) -> &LlamaBackend {
        match self {
            Self::Own(backend) => backend,
            #[cfg(test)]
            Self::Shared(backend) => backend,
        }
    }
}

impl Model {
    /// Sends llama.cpp's log to tracing, with the target `llama-cpp-2`. Call it once, before the first load.
    pub(crate) fn capture_logs() {
        llama_cpp_2::send_logs_to_tracing(llama_cpp_2::LogOptions::default());
    }

    /// Loads the model file of `load`, and its adapter. Blocks until both are loaded, and calls `progress` with percents from this thread.
    ///
    /// # Errors
    /// `Load`, with the last errors of llama.cpp's log, since its functions return no reason.
    pub(crate) fn load(
        load: &LoadSettings,
        progress: impl FnMut(u8) + 'static,
    ) -> Result<Self, EngineError> {
        let path = &load.path;
        // A file without a valid header is not worth a try: llama.cpp may abort this process.
        let header = gguf::read_header(path).map_err(|fault| gguf_error(&fault))?;
        cpu_backend()?;
        let backend = LlamaBackend::init().map_err(|error| load_error(path, &error.to_string()))?;
        Self::load_with(Backend::Own(backend), header, load, progress)
    }

    fn load_with(
        backend: Backend,
        header: Header,
        load: &LoadSettings,
        mut progress: impl FnMut(u8) + 'static,
    ) -> Result<Self, EngineError> {
        let path = &load.path;
        let mut last = None;
        let params = LlamaModelParams::default()
            .with_n_gpu_layers(load.n_gpu_layers.most())
            .with_main_gpu(i32::try_from(load.main_gpu).unwrap_or_default())
            .with_split_mode(match load.split_mode {
                SplitMode::None => LlamaSplitMode::None,
                SplitMode::Layer => LlamaSplitMode::Layer,
                SplitMode::Row => LlamaSplitMode::Row,
            })
            .with_use_mmap(load.mmap)
            .with_use_mlock(load.mlock)
            .with_progress_callback(move |share| {
                let percent = percent(share);
                if last != Some(percent) {
                    last = Some(percent);
                    progress(percent);
                }
                true
            });
        let mut model = LlamaModel::load_from_file(&backend, path, &params)
            .map_err(|error| load_error(path, &error.to_string()))?;
        let adapter = match &load.lora {
            None => None,
            Some(lora) => Some((
                // Loaded before the context: llama.cpp places its tensors beside those that they change.
                model
                    .lora_adapter_init(&lora.path)
                    .map_err(|error| adapter_error(&lora.path, &error.to_string()))?,
                ranges::to_f32(lora.scale),
            )),
        };
        let model = Self {
            adapter: RefCell::new(adapter),
            weights: Arc::new(Weights { model, backend }),
            header,
        };
        model.compare_with_header();
        Ok(model)
    }

    /// Returns whether a GPU computes layers of the model.
    pub(crate) fn is_on_gpu(&self, load: &LoadSettings) -> bool {
        load.n_gpu_layers.is_any() && self.weights.backend.supports_gpu_offload()
    }

    /// Returns the bytes of the weights in the machine's memory. On a GPU they take none of it.
    pub(crate) fn weights_on_machine(&self, load: &LoadSettings) -> u64 {
        if self.is_on_gpu(load) {
            0
        } else {
            self.weights.model.size()
        }
    }

    /// Returns the facts from which [`Limits`] are planned. `available_memory` is what the weights leave.
    pub(crate) fn facts(
        &self,
        load: &LoadSettings,
        available_memory: Option<u64>,
        shared_prefix_bytes: u64,
    ) -> Facts {
        // All layers count, wherever they are.
        let run = Run {
            key_bytes_of_32: load.cache_type_k.bytes_of_32(),
            value_bytes_of_32: load.cache_type_v.bytes_of_32(),
            ..Run::default()
        };
        Facts {
            shared_prefix_bytes,
            n_ctx_train: self.weights.model.n_ctx_train(),
            keeps_all: self.window().is_none(),
            bytes_per_cell: self.header.bytes_per_cell(run).machine,
            available_memory,
        }
    }

    /// Logs a warning if llama.cpp and the header of the file disagree on whether the cache keeps all cells. The plan of the server follows
    /// the header, and the scheduler follows llama.cpp.
    fn compare_with_header(&self) {
        let (planned, found) = (self.header.keeps_all, self.window().is_none());
        if planned != found {
            tracing::warn!(
                planned,
                found,
                architecture = self.header.architecture,
                "the planned KV cache differs from that of llama.cpp, so its memory may be estimated wrongly; please report this model"
            );
        }
    }

    /// Returns the longest sequence, in tokens, that drops no cells, or `None` if every cell stays until it is removed.
    ///
    /// A sliding window drops cells, in all or some layers (`*.sliding_window`, and chunks of Llama 4 in llama.cpp's `llama-model.cpp`). A
    /// recurrent state keeps none.
    fn window(&self) -> Option<usize> {
        let is_window = |key: &str| WINDOW_SIZES.iter().any(|name| key.ends_with(name));
        let keys = (0..self.weights.model.meta_count()).filter_map(|at| {
            let key = self.weights.model.meta_key_by_index(at).ok()?;
            is_window(&key).then_some(at)
        });
        let windows = keys.map(|at| {
            self.weights
                .model
                .meta_val_str_by_index(at)
                .ok()?
                .parse()
                .ok()
        });
        // A size of 0 says that no window slides.
        let windows = windows.filter(|window| *window != Some(0));
        let keeps_nothing = self.weights.model.is_recurrent()
            || self.weights.model.is_hybrid()
            || self.header.architecture == CHUNKED;
        let all = windows.chain(keeps_nothing.then_some(None));
        all.map(Option::unwrap_or_default).min()
    }

    /// Returns the source of the model's chat template, `None` for a base model.
    pub(crate) fn chat_template(&self) -> Option<String> {
        self.weights
            .model
            .chat_template(None)
            .ok()?
            .to_string()
            .ok()
    }

    /// Returns the markers of the model's reasoning.
    fn markers(&self, load: &LoadSettings) -> Vec<Markers> {
        let own = || self.chat_template().unwrap_or_default();
        let template = load.chat_template.clone().unwrap_or_else(own);
        let specials = self.vocabulary().special_texts();
        markers_of(&template, &specials, load.thinking_tags.as_ref())
    }

    /// Returns the vocabulary.
    pub(crate) fn vocabulary(&self) -> ModelVocabulary {
        ModelVocabulary::new(Arc::clone(&self.weights))
    }

    /// Creates the decoder, with a context for `limits`.
    ///
    /// # Errors
    /// `Load` if llama.cpp cannot create it, usually for lack of memory.
    pub(crate) fn decoder(
        &self,
        limits: Limits,
        load: &LoadSettings,
    ) -> Result<LlamaDecoder<'_>, EngineError> {
        Ok(LlamaDecoder {
            model: self,
            limits,
            load: load.clone(),
            context: self.context(&limits, load)?,
            window: self.window(),
            vocab: self.weights.model.vocab(),
            dry: DrySamplers::new(&self.weights.model),
            marker_tokens: self.vocabulary().marker_tokens(&self.markers(load)),
            batch: LlamaBatch::new(limits.n_batch, 1),
            ends: self.vocabulary().ends(),
            scratch: Scratch::default(),
            timing: Timing::default(),
        })
    }

    /// Creates llama.cpp's context for `limits`, with the adapter.
    ///
    /// # Errors
    /// `Load` if llama.cpp cannot create it, usually for lack of memory.
    fn context(
        &self,
        limits: &Limits,
        load: &LoadSettings,
    ) -> Result<LlamaContext<'_>, EngineError> {
        let refused = |cause: &str| context_error(limits, cause);
        let params = self.context_params(limits, load)?;
        let mut context = self
            .weights
            .model
            .new_context(&self.weights.backend, params)
            .map_err(|error| refused(&reason(&error.to_string())))?;
        if let Some((adapter, scale)) = &mut *self.adapter.borrow_mut() {
            context.lora_adapter_set(adapter, *scale).map_err(|error| {
                refused(&format!("the adapter does not fit the model ({error})"))
            })?;
        }
        Ok(context)
    }

    /// Returns llama.cpp's parameters of a context for `limits`.
    fn context_params(
        &self,
        limits: &Limits,
        load: &LoadSettings,
    ) -> Result<LlamaContextParams, EngineError> {
        let too_large = |error: TryFromIntError| context_error(limits, &error.to_string());
        let on_gpu = self.is_on_gpu(load);
        let n_batch = u32::try_from(limits.n_batch).map_err(too_large)?;
        let n_ubatch = u32::try_from(limits.n_ubatch(load, on_gpu)).map_err(too_large)?;
        let n_seq_max = u32::try_from(limits.sequences()).map_err(too_large)?;
        let n_threads = i32::try_from(load.n_threads).map_err(too_large)?;
        let flash_attention = match load.flash_attn {
            FlashAttention::On => FLASH_ON,
            _ if !limits.has_flash_attention(load, on_gpu) => FLASH_OFF,
            _ => FLASH_AUTO,
        };
        Ok(LlamaContextParams::default()
            .with_n_ctx(NonZeroU32::new(limits.kv_cells))
            .with_n_batch(n_batch)
            .with_n_ubatch(n_ubatch)
            .with_n_seq_max(n_seq_max)
            .with_n_threads(n_threads)
            .with_n_threads_batch(n_threads)
            .with_kv_unified(limits.is_pool)
            // Layers with a sliding window keep only the window; the default keeps everything.
            .with_swa_full(false)
            .with_flash_attention_policy(flash_attention)
            .with_type_k(cache_type(load.cache_type_k))
            .with_type_v(cache_type(load.cache_type_v))
            .with_no_perf(true))
    }
}

/// Returns the error for a context that could not be created.
fn context_error(limits: &Limits, cause: &str) -> EngineError {
    let cells = limits.kv_cells;
    EngineError::new(
        EngineErrorKind::Load,
        format!("could not create a context of {cells} cells: {cause}"),
    )
    .hint("lower `n_ctx` or `parallel`")
}

fn cache_type(kind: CacheType) -> KvCacheType {
    match kind {
        CacheType::F32 => KvCacheType::F32,
        CacheType::F16 => KvCacheType::F16,
        CacheType::Bf16 => KvCacheType::BF16,
        CacheType::Q8_0 => KvCacheType::Q8_0,
        CacheType::Q5_1 => KvCacheType::Q5_1,
        CacheType::Q5_0 => KvCacheType::Q5_0,
        CacheType::Q4_1 => KvCacheType::Q4_1,
        CacheType::Q4_0 => KvCacheType::Q4_0,
    }
}

fn percent(share: f32) -> u8 {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "the number is clamped to 0..=100"
    )]
    let percent = (share * 100.0).clamp(0.0, 100.0) as u8;
    percent
}
