//! A configured model: its tool, its source, and the defaults of its calls.

mod files;
mod resolve;
mod source;

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::address::Address;
use super::file::{
    CacheType, ConfigFile, FlashAttention, Lora, ModelSettings, SandboxMode, Speculative,
    SplitMode, ThinkingOutput,
};
use super::sampling::SamplingParams;
use super::template_arguments;
use super::units::{GpuLayers, Size, SpinCount};
use crate::gguf;
use crate::printable::printable;
use crate::process::Cpus;
use crate::schema::Limits;
pub(crate) use files::{FileFault, ModelFiles, Stamp};
pub(super) use resolve::resolve;
pub(crate) use source::{GgufSource, Source};

/// A configured model and its own tool. Serializes as the keys of its table.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct ModelConfig {
    /// Name in the configuration, which logs and errors use.
    #[serde(skip)]
    pub name: String,
    /// Name of the model's own MCP tool; `None` if only tools of `[tools]` use the model.
    pub tool_name: Option<String>,
    /// Title of the tool.
    pub title: Option<String>,
    /// Further names of the model and its tool.
    pub aliases: Vec<String>,
    /// Description of the tool for clients.
    pub description: Option<String>,
    /// Source of the answers. A changed source needs a new runner.
    #[serde(flatten)]
    pub source: Source,
    /// Values for arguments that a call leaves out.
    #[serde(flatten)]
    pub defaults: Defaults,
    /// Whether the model is loaded when the server starts.
    pub preload: bool,
    /// Whether the model is never evicted.
    pub pin: bool,
    /// Idle time after which the model is unloaded; `None` keeps it.
    pub idle_ttl: Option<Duration>,
}

/// Launch settings of a model's process. Changing any of them restarts the process.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
#[expect(clippy::struct_excessive_bools, reason = "each is a key of its own")]
pub(crate) struct LoadSettings {
    /// Path of the GGUF file; for a split model, its first part.
    pub path: PathBuf,
    /// Layers to offload to GPUs.
    pub n_gpu_layers: GpuLayers,
    /// Index of the GPU that computes what is not divided among several.
    pub main_gpu: u32,
    /// How the model is divided among several GPUs.
    pub split_mode: SplitMode,
    /// Context of one call, in tokens; 0 is the model's trained context.
    pub n_ctx: u32,
    /// Maximum number of calls that are answered at once.
    pub parallel: usize,
    /// KV cache cells of all calls; 0 is `n_ctx` for each of `parallel`, as far as memory allows.
    pub kv_cells: u32,
    /// Type of the keys in the KV cache.
    pub cache_type_k: CacheType,
    /// Type of the values in the KV cache.
    pub cache_type_v: CacheType,
    /// Whether the prefix cache is on.
    pub cache_prompt: bool,
    /// Whether answers have draft tokens (prompt lookup).
    pub speculative: Speculative,
    /// Memory for prompt prefixes outside the KV cache.
    pub cache_ram: Size,
    /// Whether to use flash attention.
    pub flash_attn: FlashAttention,
    /// Maximum number of tokens in a batch.
    pub n_batch: usize,
    /// CPU threads that compute, at most one for each CPU.
    pub n_threads: usize,
    /// Whether fewer threads compute while other programs use the CPUs.
    pub adaptive_threads: bool,
    /// How long a waiting thread spins before it sleeps.
    pub spin_count: SpinCount,
    /// Whether to map the file into memory instead of reading it.
    pub mmap: bool,
    /// Whether to lock the weights in memory.
    pub mlock: bool,
    /// `LoRA` adapter.
    pub lora: Option<Lora>,
    /// Chat template that replaces the one in the file.
    pub chat_template: Option<String>,
    /// Markers of reasoning from the configuration (`thinking_tags`).
    pub thinking_tags: Option<[String; 2]>,
    /// Maximum number of queued calls of one client.
    pub max_queue: usize,
    /// Sandbox of the process.
    pub sandbox: SandboxMode,
}

impl Default for LoadSettings {
    /// Returns the built-in defaults, for a worker that a test drives by hand.
    fn default() -> Self {
        Self::new(
            &ModelSettings::default(),
            PathBuf::new(),
            &ConfigFile::default(),
            Cpus::single(1),
        )
    }
}

/// Defaults of a tool's calls.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Defaults {
    /// Longest answer, in tokens.
    pub max_tokens: u32,
    /// Largest `max_tokens` that a call may ask for.
    pub max_tokens_limit: Option<u32>,
    /// Sampling parameters.
    #[serde(flatten)]
    pub sampling: SamplingParams,
    /// Texts that end the answer.
    pub stop: Vec<String>,
    /// System prompt.
    pub system: Option<String>,
    /// Appended to the system message.
    pub prompt_suffix: Option<String>,
    /// Handling of the model's reasoning.
    pub thinking: ThinkingOutput,
    /// Most tokens of reasoning; `None` is the default limit.
    pub thinking_budget: Option<u32>,
    /// Variables of the chat template.
    pub template_arguments: Map<String, Value>,
    /// Time limit of a call, from its arrival.
    pub deadline: Option<Duration>,
    /// Whether a truncated answer ends with a note that says so.
    pub cut_note: bool,
    /// Limits of the parts of a JSON answer that its schema leaves open.
    #[serde(flatten)]
    pub limits: Limits,
}

impl ModelConfig {
    /// Returns the address of `key` of this model.
    pub(crate) fn address(&self, key: &str) -> Address {
        Address::of_model(&self.name, key)
    }

    /// Returns whether `name` is the model's name or one of its aliases.
    pub(crate) fn is_called(&self, name: &str) -> bool {
        self.name == name || self.aliases.iter().any(|alias| alias == name)
    }

    /// Returns the GGUF file and its settings. Every source is one today.
    pub(crate) fn gguf(&self) -> &GgufSource {
        let Source::Gguf(gguf) = &self.source;
        gguf
    }

    /// Returns the GGUF file and its settings, to change them.
    pub(crate) fn gguf_mut(&mut self) -> &mut GgufSource {
        let Source::Gguf(gguf) = &mut self.source;
        gguf
    }

    /// Returns whether a runner that was started for `other`, and loaded it with the stamp `loaded`, can also serve this model.
    pub(crate) fn is_loaded_like(&self, other: &Self, loaded: Stamp) -> bool {
        self.name == other.name && self.source.is_loaded_like(&other.source, loaded)
    }

    /// Takes over the files that `former` has read, see [`Source::keep_files_of`].
    pub(crate) fn keep_files_of(&mut self, former: &Self) {
        if self.name == former.name {
            self.source.keep_files_of(&former.source);
        }
    }

    /// Returns the full name of the model: the name in its header, else the name of its file. Both are untrusted text.
    pub(crate) fn full_name(&self) -> String {
        let named = self.gguf().files.as_ref().ok();
        let named = named.and_then(|files| files.header.name.clone());
        named.unwrap_or_else(|| {
            let stem = self.gguf().settings.path.file_stem().unwrap_or_default();
            printable(&stem.to_string_lossy(), gguf::MAX_SHOWN)
        })
    }

    /// Returns the context of one call, in tokens. The planned context is smaller if memory is short.
    pub(crate) fn context(&self) -> u32 {
        match self.gguf().settings.n_ctx {
            0 => self.trained_context(),
            n_ctx => n_ctx.min(self.trained_context()),
        }
    }

    /// Returns the model's trained context, in tokens; `u32::MAX` if its file does not contain it or cannot be read.
    pub(crate) fn trained_context(&self) -> u32 {
        let files = self.gguf().files.as_ref().ok();
        let trained = files.and_then(|files| files.header.n_ctx_train);
        let trained = trained.unwrap_or(u64::MAX);
        u32::try_from(trained).unwrap_or(u32::MAX)
    }
}

impl LoadSettings {
    /// Returns the number of threads of a model that does not set `n_threads`, on `cpus`.
    pub(crate) fn default_threads(cpus: Cpus) -> usize {
        capped_threads(ModelSettings::default().n_threads, cpus)
    }

    /// Returns the launch settings of `model` with the file at `path`. `settings` has the keys of the server, and `cpus` limits the threads.
    pub(super) fn new(
        model: &ModelSettings,
        path: PathBuf,
        settings: &ConfigFile,
        cpus: Cpus,
    ) -> Self {
        Self {
            path,
            n_gpu_layers: model.n_gpu_layers,
            main_gpu: model.main_gpu,
            split_mode: model.split_mode,
            n_ctx: model.n_ctx,
            parallel: model.parallel,
            kv_cells: model.kv_cells,
            cache_type_k: model.cache_type_k,
            cache_type_v: model.cache_type_v,
            cache_prompt: model.cache_prompt,
            speculative: model.speculative,
            cache_ram: model.cache_ram,
            flash_attn: model.flash_attn,
            n_batch: model.n_batch,
            n_threads: capped_threads(model.n_threads, cpus),
            adaptive_threads: model.adaptive_threads,
            spin_count: model.spin_count,
            mmap: model.mmap,
            mlock: model.mlock,
            lora: model.lora.clone(),
            chat_template: model.chat_template.clone(),
            thinking_tags: model
                .thinking_tags
                .clone()
                .and_then(|tags| tags.try_into().ok()),
            max_queue: settings.server.max_queue,
            sandbox: settings.registry.sandbox,
        }
    }
}

impl Defaults {
    /// Returns the defaults that `model` sets.
    pub(super) fn from_settings(model: &ModelSettings) -> Self {
        Self {
            max_tokens: model
                .max_tokens
                .min(model.max_tokens_limit.unwrap_or(u32::MAX)),
            max_tokens_limit: model.max_tokens_limit,
            sampling: model.sampling.clone(),
            stop: model.stop.clone(),
            system: model.system.clone(),
            prompt_suffix: model.prompt_suffix.clone(),
            thinking: model.thinking,
            thinking_budget: model.thinking_budget,
            template_arguments: template_arguments::given(model.template_arguments.as_ref()),
            deadline: model.deadline.map(|deadline| deadline.0),
            cut_note: model.cut_note,
            limits: Limits {
                string: model.json_max_string,
                items: model.json_max_items,
            },
        }
    }
}

/// Returns the number of threads for `n_threads = wanted`, at most one for each CPU: more would only wait for each other. 0 is one for each
/// core, since two threads of a core share its arithmetic units.
pub(super) fn capped_threads(wanted: usize, cpus: Cpus) -> usize {
    match wanted {
        0 => cpus.cores,
        wanted => wanted.min(cpus.all),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_are_capped_by_the_cpus_and_zero_means_one_for_each_core() {
        let cpus = Cpus { all: 8, cores: 4 };
        let threads = [0, 1, 6, 12].map(|wanted| capped_threads(wanted, cpus));
        assert_eq!(threads, [4, 1, 6, 8]);
    }
}
