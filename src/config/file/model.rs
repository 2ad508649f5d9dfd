//! `[models.NAME]` and `[defaults]`.

use std::collections::BTreeMap;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{NAME_PATTERN, NOT_BLANK};
use crate::config::effect::Effect;
use crate::config::ranges;
use crate::config::sampling::SamplingParams;
use crate::config::units::{GpuLayers, IdleTime, Size, SpinCount, Time};
use crate::schema::Limits;

/// Type of the numbers in the KV cache (`ggml.h: ggml_type`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub(crate) enum CacheType {
    F32,
    #[default]
    F16,
    Bf16,
    #[serde(rename = "q8_0")]
    Q8_0,
    #[serde(rename = "q5_1")]
    Q5_1,
    #[serde(rename = "q5_0")]
    Q5_0,
    #[serde(rename = "q4_1")]
    Q4_1,
    #[serde(rename = "q4_0")]
    Q4_0,
}

impl CacheType {
    /// Returns the bytes of 32 numbers.
    pub(crate) fn bytes_of_32(self) -> u64 {
        match self {
            Self::F32 => 128,
            Self::F16 | Self::Bf16 => 64,
            Self::Q8_0 => 34,
            Self::Q5_1 => 24,
            Self::Q5_0 => 22,
            Self::Q4_1 => 20,
            Self::Q4_0 => 18,
        }
    }

    /// Returns whether numbers are stored in quantized blocks. Quantized values require flash attention.
    pub(crate) fn is_quantized(self) -> bool {
        !matches!(self, Self::F32 | Self::F16 | Self::Bf16)
    }
}

/// The values of `flash_attn`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub(crate) enum FlashAttention {
    #[default]
    Auto,
    On,
    Off,
}

/// The values of `speculative`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub(crate) enum Speculative {
    #[default]
    Auto,
    Off,
}

/// How a model is divided among several GPUs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub(crate) enum SplitMode {
    None,
    #[default]
    Layer,
    Row,
}

/// The values of `thinking`: how a model's reasoning is handled.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub(crate) enum ThinkingOutput {
    #[default]
    Strip,
    Keep,
    Before,
    Off,
}

/// `[models.NAME.lora]`: an adapter that changes the model's weights.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(inline)]
pub(crate) struct Lora {
    /// The adapter's GGUF file.
    #[serde(default)]
    #[schemars(extend("format" = "path"))]
    pub path: PathBuf,
    /// Strength of the adapter; 1 is as it was trained.
    #[serde(default = "full_scale")]
    #[schemars(range(min = ranges::LORA_SCALE.min, max = ranges::LORA_SCALE.max))]
    pub scale: f64,
}

fn full_scale() -> f64 {
    1.0
}

/// The keys of a model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(extend("additionalProperties" = false))]
#[expect(clippy::struct_excessive_bools, reason = "each is a key of its own")]
pub(crate) struct ModelSettings {
    /// The GGUF file; for a split model, its first part.
    #[schemars(extend("format" = "path"), example = json!("model.gguf"))]
    #[schemars(extend("x-reload" = Effect::RestartsModel))]
    pub path: Option<PathBuf>,
    /// Description of the tool for clients: what it is good for.
    #[schemars(example = json!("Fast, for simple questions."))]
    pub description: Option<String>,
    /// Title of the tool, for people. By default `Chat with`, followed by the name in the file's header.
    #[schemars(length(min = 1, max = 200), regex(pattern = NOT_BLANK), example = json!("Quick answers"))]
    pub title: Option<String>,
    /// Further names of the model, such as its name in another program. They are accepted as `model` of a tool, in `tools` of a token, by the commands `unload` and `restart`, and in calls of the model's tool. The list of tools has only the name of the tool.
    #[schemars(length(max = 16), inner(length(min = 1, max = 128)), example = json!(["qwen2.5:7b"]))]
    pub aliases: Vec<String>,
    /// Name of the tool; the model's own by default.
    #[schemars(regex(pattern = NAME_PATTERN), example = json!("ask_small"))]
    pub tool_name: Option<String>,
    /// Whether the model is a chat tool itself.
    pub tool: bool,
    /// Load the model when the server starts, not when it is first called.
    pub preload: bool,
    /// Never evict the model for another one. It is still unloaded when it idles: see `idle_ttl`.
    pub pin: bool,
    /// Idle time after which the model is unloaded; `"never"` keeps it, and 0 unloads it after each call. By default, the value in `[registry]`.
    pub idle_ttl: Option<IdleTime>,

    /// Layers on the GPU: 0 is none, 99 all, and `"auto"` as many as fit into the GPU's free memory. Builds without a GPU backend ignore it.
    #[schemars(extend("x-reload" = Effect::RestartsModel))]
    pub n_gpu_layers: GpuLayers,
    /// The GPU that is used where there is a choice.
    #[schemars(range(min = 0, max = 255))]
    #[schemars(extend("x-reload" = Effect::RestartsModel))]
    pub main_gpu: u32,
    /// How the model is divided among several GPUs: by `layer`, by `row`, or not (`none`).
    #[schemars(extend("x-reload" = Effect::RestartsModel))]
    pub split_mode: SplitMode,
    /// Context of one call in tokens, prompt and answer; 0 means the context that the model was trained for. A larger value is capped at that.
    #[schemars(range(min = ranges::N_CTX.min, max = ranges::N_CTX.max))]
    #[schemars(extend("x-reload" = Effect::RestartsModel))]
    pub n_ctx: u32,
    /// Calls that are answered at once.
    #[schemars(range(min = ranges::PARALLEL.min, max = ranges::PARALLEL.max))]
    #[schemars(extend("x-reload" = Effect::RestartsModel))]
    pub parallel: usize,
    /// Cells of the cache, one a token, over all calls; 0 is `n_ctx` for each of `parallel`, as far as memory allows.
    #[schemars(range(min = ranges::N_CTX.min, max = ranges::N_CTX.max))]
    #[schemars(extend("x-reload" = Effect::RestartsModel))]
    pub kv_cells: u32,
    /// Type of the keys in the KV cache: `f32`, `f16`, `bf16`, `q8_0`, `q5_1`, `q5_0`, `q4_1` or `q4_0`. Smaller types save memory and cost some quality.
    #[schemars(extend("x-reload" = Effect::RestartsModel))]
    pub cache_type_k: CacheType,
    /// Type of the values in the KV cache, one of the same; quantized types require flash attention.
    #[schemars(extend("x-reload" = Effect::RestartsModel))]
    pub cache_type_v: CacheType,
    /// Cache prompts, so that a prompt which begins like an earlier one, or like a tool's shared prefix (its `system`, and its `prompt` up to the first argument), is decoded only from where they differ. `false` decodes every prompt in full.
    #[schemars(extend("x-reload" = Effect::RestartsModel))]
    pub cache_prompt: bool,
    /// Speculative decoding without a draft model (prompt lookup). `auto` drafts the next tokens of an answer that repeats its prompt or itself, and decodes them in one step, as long as the model accepts enough of them. `off` drafts nothing.
    #[schemars(extend("x-reload" = Effect::RestartsModel))]
    pub speculative: Speculative,
    /// Most memory for prompt prefixes outside the KV cache. With 0, calls share prefixes only if they share a pool of cells (`kv_cells`).
    #[schemars(extend("x-reload" = Effect::RestartsModel))]
    pub cache_ram: Size,
    /// Flash attention: `on`, `off` or `auto`. `auto` is on, except on a CPU with a tool whose shared prefix has about 2,000 characters or more: calls that share such a prefix are faster without it.
    #[schemars(extend("x-reload" = Effect::RestartsModel))]
    pub flash_attn: FlashAttention,
    /// Most tokens of a batch.
    #[schemars(range(min = ranges::N_BATCH.min, max = ranges::N_BATCH.max))]
    #[schemars(extend("x-reload" = Effect::RestartsModel))]
    pub n_batch: usize,
    /// CPU threads; 0 is one for each core. The number is capped at the CPUs that this process may use, and loaded models share them. While other programs use the CPUs, a model computes with fewer threads (`adaptive_threads`).
    #[schemars(range(min = ranges::N_THREADS.min, max = ranges::N_THREADS.max))]
    #[schemars(extend("x-reload" = Effect::RestartsModel))]
    pub n_threads: usize,
    /// Compute with fewer threads while other programs use the CPUs. `false` always computes with `n_threads`.
    #[schemars(extend("x-reload" = Effect::RestartsModel))]
    pub adaptive_threads: bool,
    /// Iterations for which a waiting thread spins before it sleeps (`GOMP_SPINCOUNT` of GNU OpenMP). `"auto"` measures the machine, unless `GOMP_SPINCOUNT` or `OMP_WAIT_POLICY` is set; a number from 0 to 1000000000 takes precedence over both.
    #[schemars(extend("x-reload" = Effect::RestartsModel))]
    pub spin_count: SpinCount,
    /// Map the file into memory instead of reading it.
    #[schemars(extend("x-reload" = Effect::RestartsModel))]
    pub mmap: bool,
    /// Lock the weights in memory, so that they are never swapped out. The system must allow it (`ulimit -l`); if it does not, the log and `doctor` say so.
    #[schemars(extend("x-reload" = Effect::RestartsModel))]
    pub mlock: bool,
    /// An adapter: `{ path = "adapter.gguf", scale = 1.0 }`.
    #[schemars(example = json!({"path": "adapter.gguf", "scale": 1.0}))]
    #[schemars(extend("x-reload" = Effect::RestartsModel))]
    pub lora: Option<Lora>,
    /// Jinja template that makes a prompt of messages, instead of the file's own; `${file:template.jinja}` reads one.
    #[schemars(example = json!("${file:template.jinja}"))]
    #[schemars(extend("x-reload" = Effect::RestartsModel))]
    pub chat_template: Option<String>,

    /// A system prompt before every conversation.
    #[schemars(example = json!("Answer briefly."))]
    pub system: Option<String>,
    /// Appended to the system prompt, for example `/no_think`.
    #[schemars(example = json!("/no_think"))]
    pub prompt_suffix: Option<String>,
    /// Handling of the model's reasoning: `strip` removes it from the answer, `keep` leaves it in a free answer, `before` asks for it and removes it, `off` switches it off in the template and closes a block that opens anyway. An answer that must be JSON or one of several choices comes after the reasoning, unless this is `off`.
    pub thinking: ThinkingOutput,
    /// Most tokens of reasoning; at this limit its block is closed and the answer begins. 0 allows no reasoning. By default a free answer has no such limit, and an answer that must be JSON or one of several choices has half of `max_tokens`. A quarter of `max_tokens` is always reserved for such an answer.
    #[schemars(range(min = ranges::THINKING_BUDGET.min, max = ranges::THINKING_BUDGET.max), example = json!(1000))]
    pub thinking_budget: Option<u32>,
    /// The two markers before and after the model's reasoning, for a model whose template and vocabulary do not show them.
    #[schemars(length(min = 2, max = 2), inner(length(min = ranges::THINKING_TAG.min, max = ranges::THINKING_TAG.max)), example = json!(["[THINK]", "[/THINK]"]))]
    #[schemars(extend("x-reload" = Effect::RestartsModel))]
    pub thinking_tags: Option<Vec<String>>,
    /// Variables of the chat template, such as `{ reasoning_effort = "low" }`. Those of a tool and of a call take precedence, name by name.
    #[schemars(example = json!({"reasoning_effort": "low"}))]
    pub template_arguments: Option<BTreeMap<String, Value>>,
    /// Longest answer, in tokens, unless the call sets `max_tokens`.
    #[schemars(range(min = ranges::MAX_TOKENS.min, max = ranges::MAX_TOKENS.max))]
    pub max_tokens: u32,
    /// Longest answer that a call may ask for, in tokens.
    #[schemars(range(min = ranges::MAX_TOKENS.min, max = ranges::MAX_TOKENS.max), example = json!(4096))]
    pub max_tokens_limit: Option<u32>,
    /// Time from a call's arrival after which it ends with the text that it has.
    #[schemars(range(min = ranges::DEADLINE.min, max = ranges::DEADLINE.max))]
    pub deadline: Option<Time>,
    /// End an answer that `max_tokens`, the context or `deadline` truncates with a line that says so. Does not apply to tools with a prompt: they have their own `cut_note`.
    pub cut_note: bool,
    /// Longest string in a JSON answer, in characters, unless the schema sets a lower `maxLength`; twice its `minLength` if that is more. An answer that reaches this limit is an error.
    #[schemars(range(min = ranges::JSON_MAX_STRING.min, max = ranges::JSON_MAX_STRING.max))]
    pub json_max_string: u64,
    /// Most items of an array, and most properties of a map, in a JSON answer, unless the schema sets a lower maximum; twice its minimum if that is more. An answer that reaches this limit is an error.
    #[schemars(range(min = ranges::JSON_MAX_ITEMS.min, max = ranges::JSON_MAX_ITEMS.max))]
    pub json_max_items: u64,
    #[serde(flatten)]
    pub sampling: SamplingParams,
    /// Texts that end an answer; they are not part of it.
    #[schemars(length(max = ranges::MAX_STOPS), inner(length(min = 1, max = ranges::MAX_STOP_CHARS)))]
    pub stop: Vec<String>,
}

impl Default for ModelSettings {
    fn default() -> Self {
        Self {
            path: None,
            description: None,
            title: None,
            aliases: Vec::new(),
            tool_name: None,
            tool: true,
            preload: false,
            pin: false,
            idle_ttl: None,
            n_gpu_layers: GpuLayers::Count(99),
            main_gpu: 0,
            split_mode: SplitMode::Layer,
            n_ctx: 4096,
            parallel: 4,
            kv_cells: 0,
            cache_type_k: CacheType::F16,
            cache_type_v: CacheType::F16,
            cache_prompt: true,
            speculative: Speculative::Auto,
            // A system prompt of 2,000 tokens takes 250 MiB in Llama 3 8B, and 44 in SmolLM2 135M.
            cache_ram: Size::mebibytes(256),
            flash_attn: FlashAttention::Auto,
            n_batch: 2048,
            n_threads: 4,
            adaptive_threads: true,
            spin_count: SpinCount::Auto,
            mmap: true,
            mlock: false,
            lora: None,
            chat_template: None,
            system: None,
            prompt_suffix: None,
            thinking: ThinkingOutput::Strip,
            thinking_budget: None,
            thinking_tags: None,
            template_arguments: None,
            max_tokens: 2048,
            max_tokens_limit: None,
            deadline: None,
            json_max_string: Limits::default().string,
            json_max_items: Limits::default().items,
            cut_note: true,
            sampling: SamplingParams::default(),
            stop: Vec::new(),
        }
    }
}
