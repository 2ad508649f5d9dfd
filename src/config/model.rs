//! A model as the program runs it.

mod files;
mod resolve;
mod source;

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::address::Address;
use super::file::{
    CacheType, ConfigFile, FlashAttention, Lora, ModelSettings, SandboxMode, SplitMode,
    ThinkingOutput,
};
use super::sampling::SamplingParams;
use super::template_arguments;
use super::units::{GpuLayers, Size};
use crate::gguf;
use crate::printable::printable;
use crate::process::Cpus;
use crate::schema::Limits;
pub(crate) use files::{FileFault, ModelFiles, Stamp};
pub(super) use resolve::resolve;
pub(crate) use source::{GgufSource, Source};

/// A model and the tool that it is. Serialised, it is its keys.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct ModelConfig {
    /// Its name in the file; what logs and errors call it.
    #[serde(skip)]
    pub name: String,
    /// Name of the model's own MCP tool; `None` if only tools of `[tools]` use the model.
    pub tool_name: Option<String>,
    /// Title of its tool.
    pub title: Option<String>,
    /// Further names of the model, and of its tool.
    pub aliases: Vec<String>,
    /// Description of its tool for clients.
    pub description: Option<String>,
    /// Where its answers come from. Another source is another runner.
    #[serde(flatten)]
    pub source: Source,
    /// What a call gets that does not say.
    #[serde(flatten)]
    pub defaults: Defaults,
    /// Loaded when the server starts.
    pub preload: bool,
    /// Never unloaded for room.
    pub pin: bool,
    /// Unloaded when it idled for so long.
    pub idle_ttl: Option<Duration>,
}

/// How to load a model and run its context, as configured. Changing any of these restarts the model's process.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct LoadSettings {
    /// The GGUF.
    pub path: PathBuf,
    /// Layers to offload to GPUs.
    pub n_gpu_layers: GpuLayers,
    /// The GPU that is used where there is a choice.
    pub main_gpu: u32,
    /// How it is divided among several.
    pub split_mode: SplitMode,
    /// Tokens of one call; 0 is what the model was trained for.
    pub n_ctx: u32,
    /// Calls at once.
    pub parallel: usize,
    /// Cells of the cache; 0 is as many as all calls may need, as far as memory allows.
    pub kv_cells: u32,
    /// How keys are kept.
    pub cache_type_k: CacheType,
    /// How values are kept.
    pub cache_type_v: CacheType,
    /// Whether prompts are read from where they differ from what was read before.
    pub cache_prompt: bool,
    /// Memory for beginnings of prompts outside the cache.
    pub cache_ram: Size,
    /// Whether attention is computed in one pass.
    pub flash_attn: FlashAttention,
    /// Tokens of one batch.
    pub n_batch: usize,
    /// Threads that compute; at most the CPUs there are.
    pub n_threads: usize,
    /// Map the file instead of reading it.
    pub mmap: bool,
    /// Lock the weights into memory.
    pub mlock: bool,
    /// An adapter.
    pub lora: Option<Lora>,
    /// Instead of the file's own.
    pub chat_template: Option<String>,
    /// Markers of reasoning from the configuration (`thinking_tags`).
    pub thinking_tags: Option<[String; 2]>,
    /// Calls that may wait.
    pub max_queue: usize,
    /// What its process may do.
    pub sandbox: SandboxMode,
}

impl Default for LoadSettings {
    /// The built-in defaults, for a worker that is driven by hand.
    fn default() -> Self {
        Self::of(
            &ModelSettings::default(),
            PathBuf::new(),
            &ConfigFile::default(),
            Cpus::single(1),
        )
    }
}

/// The defaults of a tool's arguments.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Defaults {
    /// Tokens of an answer.
    pub max_tokens: u32,
    /// What a call may ask for at most.
    pub max_tokens_limit: Option<u32>,
    /// How tokens are chosen.
    #[serde(flatten)]
    pub sampling: SamplingParams,
    /// Texts that end the answer.
    pub stop: Vec<String>,
    /// Before every conversation.
    pub system: Option<String>,
    /// Appended to the system message.
    pub prompt_suffix: Option<String>,
    /// What becomes of thinking.
    pub thinking: ThinkingOutput,
    /// Most tokens of reasoning; `None` is the default limit.
    pub thinking_budget: Option<u32>,
    /// Variables of the chat template.
    pub template_arguments: Map<String, Value>,
    /// From a call's arrival.
    pub deadline: Option<Duration>,
    /// Whether a text that is cut says so.
    pub cut_note: bool,
    /// Limits of the parts of a JSON answer that its schema leaves open.
    #[serde(flatten)]
    pub limits: Limits,
}

impl ModelConfig {
    /// Where its `key` stands.
    pub(crate) fn address(&self, key: &str) -> Address {
        Address::of_model(&self.name, key)
    }

    /// Returns whether `name` is its name or one of its aliases.
    pub(crate) fn is_called(&self, name: &str) -> bool {
        self.name == name || self.aliases.iter().any(|alias| alias == name)
    }

    /// Returns its source, if llama.cpp runs the model on this machine. Every source does today.
    pub(crate) fn gguf(&self) -> &GgufSource {
        let Source::Gguf(gguf) = &self.source;
        gguf
    }

    /// Returns its source to change, if llama.cpp runs the model on this machine.
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

    /// Tokens of one call, prompt and answer; where memory is short it is less.
    pub(crate) fn context(&self) -> u32 {
        match self.gguf().settings.n_ctx {
            0 => self.trained_context(),
            asked => asked.min(self.trained_context()),
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
    /// Of `model`, whose file is at `path`, in a server of `settings`, on a machine of `cpus`.
    pub(super) fn of(
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
            cache_ram: model.cache_ram,
            flash_attn: model.flash_attn,
            n_batch: model.n_batch,
            n_threads: capped_threads(model.n_threads, cpus),
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
    /// Of `model`.
    pub(super) fn of(model: &ModelSettings) -> Self {
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

/// `wanted` threads, 0 for one on each core: two of one core share what computes. More than there are CPUs would only wait for
/// each other.
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
