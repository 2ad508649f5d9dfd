//! The table of names in other programs. The page `docs/coming-from.md` has the same rows, which a test checks.

use super::Meaning;

/// Returns the row for a key that works as in the other programs.
const fn key(names: &'static [&'static str], key: &'static str) -> Meaning {
    noted(names, key, "")
}

/// Returns the row for a key that differs, with a note about the difference.
const fn noted(names: &'static [&'static str], key: &'static str, note: &'static str) -> Meaning {
    Meaning {
        names,
        key: Some(key),
        note,
    }
}

/// Returns the row for settings that have no key here.
const fn none(names: &'static [&'static str], note: &'static str) -> Meaning {
    Meaning {
        names,
        key: None,
        note,
    }
}

/// The rows. Names are those of flags (without hyphens), keys and variables.
#[rustfmt::skip]
pub(super) const TABLE: &[Meaning] = &[
    // Files.
    key(&["m", "model", "model-path", "gguf", "file", "filename", "from", "LLAMA_ARG_MODEL"], "path"),
    noted(&["hf", "hfr", "hf-repo", "hff", "hf-file", "dr", "docker-repo", "mu", "model-url", "repo", "repo-id", "url"], "path", "nothing is downloaded; download the .gguf file and give its path"),
    none(&["hf-token", "pull"], "not supported: nothing is downloaded"),
    none(&["models-dir", "models-preset", "models-autoload", "OLLAMA_MODELS"], "not supported: write a table `[models.NAME]` with a `path` for each model"),
    none(&["mm", "mmproj", "mmproj-url", "mmproj-auto", "mmproj-offload", "projector", "clip", "vision", "image-min-tokens", "image-max-tokens"], "not supported: models read text only, neither images nor audio"),
    none(&["md", "model-draft", "draft", "draft-model", "spec-model", "spec-type", "draft-max", "draft-n", "draft-min", "draft-p-min", "ngld", "gpu-layers-draft", "n-gpu-layers-draft", "ctx-size-draft", "lookup-cache-static"], "not supported: draft models; `speculative` drafts tokens from the prompt instead"),
    none(&["embedding", "embeddings", "pooling", "rerank", "reranking", "embd-normalize"], "not supported: models generate text only"),
    noted(&["lora-scaled", "adapter", "adapters", "lora-adapter"], "lora", "`lora = { path = \"adapter.gguf\", scale = 1.0 }`"),
    none(&["control-vector", "control-vector-scaled", "lora-base", "lora-init-without-apply"], "not supported"),
    // Names.
    noted(&["a", "alias", "model-alias", "id", "served-model-name"], "aliases", "a list of further names"),
    noted(&["display-name"], "title", "what people call the tool"),
    noted(&["unlisted", "hidden"], "tool", "`tool = false` hides the model"),
    // Context and batches.
    noted(&["c", "ctx-size", "ctx", "context", "context-size", "context-length", "num-ctx", "max-model-len", "max-seq-len", "OLLAMA_CONTEXT_LENGTH", "LLAMA_ARG_CTX_SIZE"], "n_ctx", "the context of one call, not of all calls together"),
    key(&["b", "batch-size", "batch", "num-batch", "eval-batch-size", "LLAMA_ARG_BATCH"], "n_batch"),
    none(&["ub", "ubatch-size", "n-ubatch", "ubatch", "LLAMA_ARG_UBATCH"], "not needed: the physical batch size is chosen automatically"),
    key(&["np", "n-parallel", "num-parallel", "slots", "n-slots", "concurrency-limit", "max-concurrent-predictions", "max-num-seqs", "OLLAMA_NUM_PARALLEL", "LLAMA_ARG_N_PARALLEL"], "parallel"),
    none(&["cb", "cont-batching", "continuous-batching", "no-cont-batching"], "not needed: continuous batching is always on"),
    none(&["keep", "n-keep", "num-keep", "context-shift", "ctx-shift", "no-context-shift", "context-overflow-policy"], "not supported: a prompt that is longer than the context is an error; nothing is truncated silently"),
    noted(&["kvu", "kv-unified", "unified-kv-cache"], "kv_cells", "the number of cells that all calls share"),
    key(&["ctk", "kv-cache-type", "k-cache-quant", "OLLAMA_KV_CACHE_TYPE", "type-k"], "cache_type_k"),
    key(&["ctv", "v-cache-quant", "type-v"], "cache_type_v"),
    noted(&["cram", "cache-ram-mib"], "cache_ram", "a size with its unit, such as `\"8GiB\"`"),
    none(&["cache-reuse", "slot-prompt-similarity", "sps", "slot-save-path", "swa-full", "ctx-checkpoints", "defrag-thold", "checkpoint-every-n-tokens", "prompt-cache", "prompt-cache-all", "prompt-cache-ro"], "not needed: prompt prefixes are cached automatically"),
    key(&["fa", "flash-attention", "OLLAMA_FLASH_ATTENTION", "LLAMA_ARG_FLASH_ATTN"], "flash_attn"),
    none(&["rope-scaling", "rope-scale", "rope-freq-base", "rope-freq-scale", "rope-frequency-base", "rope-frequency-scale", "yarn-orig-ctx", "yarn-ext-factor", "yarn-attn-factor", "yarn-beta-slow", "yarn-beta-fast", "override-kv"], "not supported: the values in the model's file apply"),
    // CPU and GPU.
    key(&["t", "threads", "num-thread", "num-threads", "cpu-threads", "cpu-thread-pool-size", "LLAMA_ARG_THREADS"], "n_threads"),
    noted(&["tb", "threads-batch", "n-threads-batch"], "n_threads", "prefill and generation use the same number of threads"),
    noted(&["poll", "poll-batch"], "spin_count", "a number of iterations for prefill and generation, not a level from 0 to 100; `\"auto\"` measures the machine"),
    none(&["cpu-mask", "cpu-range", "cpu-strict", "prio", "numa"], "not supported: set CPUs and priorities with tools of the system, such as `taskset` and `nice`"),
    key(&["ngl", "gpu-layers", "num-gpu", "n-gpu", "gpu", "gpu-offload", "LLAMA_ARG_N_GPU_LAYERS"], "n_gpu_layers"),
    noted(&["fit", "fitt", "fit-target", "fit-ctx", "fitc"], "n_gpu_layers", "`\"auto\"` offloads as many layers as fit into the GPU's free memory"),
    none(&["ot", "override-tensor", "cmoe", "cpu-moe", "ncmoe", "n-cpu-moe", "nkvo", "no-kv-offload", "kv-offload", "offload-kv-cache", "low-vram"], "not supported: lower `n_gpu_layers` if the model does not fit into the GPU's memory"),
    none(&["ts", "tensor-split", "dev", "device", "rpc", "tensor-parallel-size"], "not supported: llama.cpp splits a model by the free memory of the GPUs; `CUDA_VISIBLE_DEVICES` selects the GPUs"),
    key(&["mg", "LLAMA_ARG_MAIN_GPU"], "main_gpu"),
    key(&["sm", "LLAMA_ARG_SPLIT_MODE"], "split_mode"),
    noted(&["no-mmap", "use-mmap", "try-mmap", "direct-io", "dio", "no-direct-io"], "mmap", "`mmap = false` reads the file instead"),
    key(&["use-mlock", "keep-model-in-memory"], "mlock"),
    key(&["gpu-memory-utilization", "OLLAMA_GPU_OVERHEAD", "OLLAMA_MAX_VRAM"], "registry.memory_budget"),
    // Prompts.
    key(&["sys", "system-prompt", "system-message"], "system"),
    noted(&["chat-template-file", "template-file", "template", "prompt-template"], "chat_template", "in Jinja; `chat_template = \"${file:template.jinja}\"` reads a file"),
    none(&["jinja", "no-jinja", "use-jinja"], "not needed: chat templates are always rendered as Jinja"),
    noted(&["chat-template-kwargs", "reasoning-effort"], "template_arguments", "for example `template_arguments = { reasoning_effort = \"low\" }`"),
    noted(&["think", "reasoning", "reasoning-format", "enable-thinking", "rea"], "thinking", "`\"strip\"`, `\"before\"`, `\"keep\"` or `\"off\"`"),
    key(&["reasoning-budget", "think-budget", "thinking-budget-tokens"], "thinking_budget"),
    none(&["reasoning-budget-message", "reasoning-parser", "tool-call-parser", "enable-auto-tool-choice"], "not supported"),
    // Answers.
    key(&["n", "predict", "n-predict", "num-predict", "max-new-tokens", "max-completion-tokens", "max-output-tokens", "LLAMA_ARG_N_PREDICT"], "max_tokens"),
    key(&["temp"], "temperature"),
    key(&["repetition-penalty"], "repeat_penalty"),
    key(&["top-k-sampling"], "top_k"),
    key(&["top-p-sampling"], "top_p"),
    key(&["min-p-sampling"], "min_p"),
    key(&["typical"], "typical_p"),
    key(&["dry-sequence-breaker"], "dry_sequence_breakers"),
    key(&["s", "rng-seed"], "seed"),
    key(&["r", "reverse-prompt", "stop-sequence", "stop-sequences", "stop-strings"], "stop"),
    noted(&["timeout", "to", "request-timeout", "read-timeout"], "deadline", "at the deadline, a call returns the text that it has"),
    none(&["tfs-z", "mirostat", "mirostat-ent", "mirostat-lr", "mirostat-eta", "mirostat-tau", "dynatemp-range", "dynatemp-exp", "top-n-sigma", "adaptive-target", "samplers", "sampler-seq", "sampling-seq", "ignore-eos", "min-keep", "n-probs", "logprobs", "penalize-nl", "penalize-newline"], "not supported: `config reference` lists the sampling parameters"),
    none(&["grammar", "grammar-file", "j", "jf", "json-schema", "json-schema-file", "format", "response-format", "structured-output"], "not supported as such: `output` or `choices` in `[tools.NAME]`, or `json_schema` in a call, constrain the answer"),
    noted(&["structured", "output-schema", "response-schema", "returns"], "tools.output", "a JSON Schema as a table"),
    noted(&["type"], "tools.kind", "`\"prompt\"`, the default, or `\"chat\"`"),
    // Which models are loaded.
    noted(&["ttl", "global-ttl", "keep-alive", "jit-ttl", "idle-timeout", "unload-after", "sleep-idle-seconds", "OLLAMA_KEEP_ALIVE"], "idle_ttl", "`\"15m\"`, or `\"never\"`"),
    key(&["models-max", "max-models", "max-loaded-models", "OLLAMA_MAX_LOADED_MODELS"], "registry.max_loaded"),
    key(&["load-on-startup", "autoload", "on-startup"], "preload"),
    none(&["warmup", "no-warmup"], "not needed: a model is warm once it is loaded; `preload = true` loads it when the server starts"),
    noted(&["persistent"], "pin", "a model with `pin = true` is never evicted"),
    none(&["groups", "group", "swap", "exclusive", "members", "matrix", "hooks"], "not supported as such: `max_loaded` in `[registry]` limits how many models are loaded, and a model with `pin = true` is never evicted"),
    none(&["macros", "macro"], "not supported as such: `[defaults]` sets keys for all models, and `${env:NAME}` inserts an environment variable"),
    noted(&["cmd"], "path", "this program runs the models itself"),
    none(&["cmd-stop", "proxy", "check-endpoint", "use-model-name", "health-check-timeout", "start-port", "peers", "send-loading-state"], "not needed: this program runs the models itself; give each a `path`"),
    none(&["filters", "strip-params", "set-params", "set-params-by-id", "profiles", "preset", "presets"], "write a chat tool for each profile: `[tools.NAME]` with `kind = \"chat\"`, its own `system` and sampling"),
    none(&["env"], "not supported: set environment variables for the server itself"),
    // The server.
    noted(&["api-key", "api-token", "auth-token", "LLAMA_API_KEY"], "server.auth", "clients send it as a bearer token"),
    key(&["api-key-file"], "server.auth_file"),
    key(&["api-keys"], "server.tokens"),
    noted(&["listen", "bind", "OLLAMA_HOST", "LLAMA_ARG_HOST"], "server.host", "an address or a name, without `http://`; its port belongs to `port`"),
    key(&["LLAMA_ARG_PORT"], "server.port"),
    key(&["OLLAMA_ORIGINS", "origins"], "server.allowed_origins"),
    key(&["OLLAMA_MAX_QUEUE"], "server.max_queue"),
    none(&["ssl-key-file", "ssl-cert-file", "tls", "ssl"], "not supported: put a proxy with TLS in front of the server"),
    none(&["metrics", "props", "endpoint-slots", "metrics-max-in-memory"], "not needed: over HTTP the server always has `/metrics` and `/status`"),
    none(&["webui", "no-webui", "ui", "webui-config", "path-prefix", "api-prefix", "media-path", "tools-builtin"], "not supported: the server speaks MCP and has no web pages"),
    noted(&["sse", "streamable-http", "stdio"], "server.transport", "`\"http\"` is Streamable HTTP, and `\"stdio\"` the default"),
    none(&["threads-http"], "not needed"),
    none(&["offline"], "not needed: the server makes no outgoing connections"),
    key(&["log-verbosity", "log-level", "verbosity", "lv", "v", "verbose", "OLLAMA_DEBUG"], "log.level"),
    key(&["log-file", "log-path"], "log.file"),
    key(&["log-format"], "log.format"),
    none(&["log-disable", "log-colors", "log-prefix", "log-timestamps", "log-to-stdout", "log-time-format"], "not supported: `[log]` has `level`, `format` and `file`"),
];
