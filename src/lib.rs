//! Serves local GGUF models as MCP tools, with llama.cpp: the architecture on one page.
//!
//! # Processes
//!
//! ```text
//! client ─ stdio or HTTP ─▶ llama-mcp-server                     one per loaded model
//!                            transport → mcp → tools → registry ═ JSON lines ═▶ llama-mcp-server worker
//!                                                                  over pipes    engine → llama.cpp
//! ```
//!
//! The server itself never calls llama.cpp, which aborts its process if an assertion fails, a file is corrupt, or a GPU is out of memory.
//! Each loaded model runs in a worker process: the same binary with the hidden subcommand `worker`. If a worker dies, only calls of its
//! model fail, and the next call starts a new worker. To unload a model, the server ends its worker, which frees all memory of the model.
//!
//! A GGUF file is untrusted input, so a worker enters a sandbox before llama.cpp reads the file (`worker/sandbox.rs`). The only files that it
//! may then write are shader caches of GPU drivers (`worker/driver_cache.rs`). Two other kinds of processes isolate untrusted work: one detects
//! the devices of the machine ([`worker::machine`]), and one renders chat templates to check them ([`worker::trials`]).
//!
//! # Layers
//!
//! A module imports only from its own layer and those below. Every import cycle must have a stated reason.
//! `tests/it/layers.rs` checks both, using this table.
//!
//! | layer | modules | responsibility |
//! | --- | --- | --- |
//! | 12 | `main`, [`program`], `fuzzing` | the process from its command line to its exit code; entry points of the fuzz targets |
//! | 11 | [`app`], [`commands`] | startup and shutdown of the server; subcommands |
//! | 10 | [`reload`] | hot reload of the configuration |
//! | 9 | [`check`], [`cli`], [`live`] | checks of a configuration against models and machine; the command line; the running server |
//! | 8 | [`transport`] | stdio and HTTP |
//! | 7 | [`mcp`] | JSON-RPC, protocol revisions, dispatch, progress |
//! | 6 | [`tools`], [`status`] | arguments → request, generation → result; the status of the server |
//! | 5 | [`registry`] | which models are loaded, and which edition of a model serves a call |
//! | 4 | [`backend`] | the interface between the registry and whatever runs a model |
//! | 3 | [`worker`] | the worker process and its wire protocol |
//! | 2 | [`engine`] | requests and answers; scheduler, chat templates, grammars, llama.cpp |
//! | 1 | [`config`] | file, environment variables and flags → validated settings |
//! | 0 | [`gguf`], [`json`], [`schema`], [`printable`] | headers of model files; JSON text; JSON Schemas of answers; display of untrusted text |
//! | 0 | [`error_code`], [`telemetry`] | stable error codes; logs and metrics |
//! | 0 | [`gpu`], [`heap`], [`mod@memory`] | the GPU backend of the build; the allocator; memory of the machine or container |
//! | 0 | `cgroup`, [`fair`], [`process`], [`signals`], [`supervisor`], [`threads`] | cgroups of Linux; fairness of CPU-heavy work; the operating system; signals; systemd; short-lived threads |
//! | 0 | [`mcp_clients`] | clients that `install` supports |
//!
//! `src/cpu.c` belongs to no layer: it checks the CPU before any Rust code runs. Only some modules may name certain crates, such as
//! llama-cpp-2; `tests/it/layers.rs` lists these crates and modules.
//!
//! # Threads
//!
//! The server leaves the CPUs to the workers:
//!
//! | thread | task |
//! | --- | --- |
//! | two worker threads of the Tokio runtime | move messages, and never block |
//! | blocking threads of the Tokio runtime | render prompts of typed tools, compile the schemas of calls, validate answers, derive session keys, render metrics, read edited configurations, check the files of models, read the free memory |
//! | `reader`, `writer`, `watcher` | over stdio: read stdin, write stdout, and detect when stdout loses its reader, since a blocked read cannot be cancelled |
//! | `spawner` | starts workers: the kernel's parent-death signal follows the parent *thread* |
//! | `heavy`, short-lived | parses a large message or checks a schema, at low priority; [`fair`] limits how many run, round robin among clients |
//! | `results` | reads the results of [`worker::trials`] |
//! | `output`, `reaper` | read the output of [`worker::machine`], and reap its process after a timeout |
//! | unnamed, short-lived | read a schema or render a template, on a stack that is large enough for it |
//! | threads of the log, the file watcher and jemalloc | write the log, watch the configuration, return memory to the system |
//!
//! A worker computes with llama.cpp's own threads, and has these:
//!
//! | thread | task |
//! | --- | --- |
//! | main | reads the launch command, enters the sandbox (later threads inherit it), then owns the queue, scheduler, model and context |
//! | `commands` | reads further commands |
//! | `loader` | loads the model, and ends |
//! | `short prompts`, `long prompts` | render and tokenise prompts of up to 8 KiB, and longer ones at low priority |
//! | `turns` | waits for a CPU turn ([`worker::cpu_lock`]) |
//! | `signals` | waits for SIGTERM |
//! | unnamed, short-lived | render or tokenise, on a stack that is large enough for it |
//!
//! # Configuration
//!
//! 1. [`cli`] parses the command line into overrides.
//! 2. [`config::load`] reads the file ([`config::source_text`] keeps the position of every value), resolves `${…}` in strings, and merges
//!    environment variables and flags over it. The structures in [`config::file`] generate the schema that every layer is checked against
//!    ([`config::validate`]). [`config::foreign`] recognises the keys of other programs.
//! 3. [`config`] checks what a schema cannot express and reads the headers of the models. [`check`] checks what involves higher
//!    layers: templates, tools, GPUs and memory.
//!
//! Every check runs on the valid parts, so one run reports all problems. A fault in the file of a model or token does not stop the server,
//! which runs without that part ([`check::Checked::tolerated_faults`]). A setting that works but is probably a mistake causes a warning
//! ([`config::warning`]).
//!
//! # Hot reload
//!
//! [`reload`] notices that the content of a file has changed, then loads and checks the whole configuration. If anything is wrong, it rejects
//! the edit and keeps the active configuration. [`config::diff`] lists the changes for the log, and [`config::file`] declares when an edit of
//! each key takes effect. [`live`] applies a valid edit in this order:
//!
//! 1. HTTP gets the new rules, so revoked tokens are refused from here on.
//! 2. The registry stages the models. A model whose launch settings and files are unchanged keeps its edition, and thus its process.
//! 3. The dispatcher gets the new catalog of tools.
//! 4. Former editions accept no more calls. A call that one of them refuses ([`registry::residency::Refusal::Superseded`]) is retried with
//!    the new catalog.
//!
//! In-flight calls keep their settings and their process. An edit that breaks a working model or tool is rejected as a whole
//! (`reload/faults.rs`), but access rights over HTTP that the edit removes are revoked even then ([`config::rights`]).
//!
//! # Life of a call
//!
//! 1. [`transport::stdio`] reads a line, or [`transport::http`] a body after [`transport::guard`] has checked the token. [`mcp::jsonrpc`]
//!    parses it, and [`mcp::era`] chooses the protocol era from the message and its headers. Over HTTP, a legacy request belongs to a
//!    session, which another replica may have opened; a modern request is independent of all others.
//! 2. [`mcp::dispatcher`] registers the id of the request, so that a later cancel finds it, and calls its handler. `initialize`,
//!    `server/discover`, `ping` and all lists never wait for a model.
//! 3. [`tools::chat`] or [`tools::typed`] validates the arguments and turns them into a [`tools::answering::Question`], then into an
//!    [`engine::GenerateRequest`]. For structured output, [`schema`] has parsed the JSON Schema, and [`tools::structured`] has compiled its
//!    grammar.
//! 4. [`registry`] grants a lease; as long as it is held, the model stays loaded. [`registry::residency`] decides under one short lock whether
//!    the call joins the running worker, starts one, or waits until idle models are evicted or running calls end. The memory of a model is
//!    estimated from its header ([`gguf::memory`]) until its process can be measured.
//! 5. [`backend`] sends the request to the model; [`backend::local`] writes it to the pipe of a worker. [`engine::Update`]s come back
//!    through a `watch` channel, from which [`mcp::progress`] notifies the client at intervals. Dropping the future of the call cancels it: the
//!    worker frees the sequence before its next decode.
//! 6. In the worker, [`engine::prompt`] renders and tokenises the prompt, and [`engine::grammar`] compiles the schema. [`engine::queue`]
//!    holds the call, round robin among clients, until a sequence and enough cells are free. Each step of [`engine::scheduler`] decodes the
//!    next token of every generating sequence, the forced and draft tokens after it ([`engine::grammar`], [`engine::lookup`]), and as many
//!    prompt tokens as fit into the step ([`engine::chunk_size`]). [`engine::thinking`] separates the model's reasoning from its answer; a
//!    grammar constrains only the answer.
//! 7. The tool turns the [`engine::Generation`] into a result. A structured answer is validated against its schema once more
//!    ([`tools::structured`]).
//!
//! # Prefix cache
//!
//! Prefill starts where a prompt first differs from cached tokens: [`engine::prefix`] has the policy, which is pure, and
//! `engine/scheduler/cache.rs` carries it out. A sequence keeps its tokens after its call. If another call needs the sequence, a valuable
//! prefix is first saved to memory as a llama.cpp state. If concurrent calls share a prefix, one of them decodes it while the others wait.
//!
//! The shared prefix of a tool ([`tools::shared_prefix`]) is sent to the worker at its start and after each edit. The worker tokenises and
//! decodes it only while no call needs the thread or the step, and evicts such prefixes last. A pool pins at most eight shared prefixes, in
//! at most half of its cells.
//!
//! How a prefix is shared depends on the layout of the KV cache ([`engine::limits::Reuse`]):
//!
//! - By default, each sequence has its own cells, and attention reads only these. A prefix is copied as a saved state, which is far cheaper
//!   than decoding it. llama.cpp decodes several sequences in one pass only if their numbers are consecutive, so [`engine::compaction`] keeps
//!   generating sequences together.
//! - If a tool has a long shared prefix, or memory is scarce, all sequences share one pool of cells (`kv_unified`), in which a prefix is
//!   stored once for all calls. On a CPU, calls that share a long prompt then run without flash attention, as all of them read the shared
//!   cells in one matrix product ([`engine::limits::Limits::has_flash_attention`]).
//! - With sliding windows or recurrent states, a sequence cannot be truncated: a prefix is reused as a whole or not at all. So states are saved
//!   at checkpoints (`ActiveCall::checkpoints`): at the end of a tool's prompt, where concurrent calls diverge, and at the end of long prompts.
//!
//! [`engine::Usage::cached_tokens`] counts the prompt tokens that were not decoded.
//!
//! # Reproducible answers
//!
//! On a CPU, the same seed gives the same text if the call runs alone and no part of its prompt comes from the cache. The shape of a batch
//! changes the last bits of logits, and flash attention computes 64 rows or more differently than fewer
//! (`ggml_compute_forward_flash_attn_ext_f16` in ggml's `ops.cpp`). So if a single prompt is decoded, it is decoded in whole tiles of 64
//! rows, however fast the machine is, unless a tile takes more than three seconds ([`engine::chunk_size`]). The draft tokens of a call that
//! runs alone depend only on its tokens, not on measured times, with the same exception ([`engine::lookup`]). Together with other calls,
//! from a cached prefix, or on a GPU, the text is the same up to the first near-tie. The same applies if the number of threads changes because of other programs
//! (`adaptive_threads`): with 512 cells and more, flash attention splits the cells among the threads, and adds up the parts.
//!
//! # Sharing the machine
//!
//! - **CPUs**: loaded models take turns, one step each ([`worker::cpu_lock`]). While other programs use the CPUs, a model computes with fewer
//!   threads (`worker/serve/thread_count.rs`), and its waiting threads spin for as long as suits the machine ([`worker::spin_count`]). Both
//!   can be configured.
//! - **Memory**: all models together stay within `memory_budget`; the registry evicts idle models, least recently used first, to load another
//!   ([`registry::residency`]).
//! - **GPUs**: [`check`] decides which models run on a GPU, from the backend of the build ([`gpu`]), the devices that llama.cpp finds, and
//!   `n_gpu_layers`. The memory need of a model says how many layers then fit ([`backend::Need`]), and all later decisions follow it.
//!
//! # Failures
//!
//! - A watchdog kills a worker that has work but goes too long without finishing a step (`backend/local/watchdog.rs`).
//! - If a worker dies, its running calls end with an error, and the queued ones move to the next worker. A call whose prompt was being
//!   prepared counts as running, since its prompt may be the cause.
//! - If llama.cpp cannot create a context for another number of threads, the worker returns to the former number, and running calls fail.
//!   If that fails, too, the worker reports an error and ends (`Event::Failed` in `worker.rs`).
//! - A model whose worker dies three times in a row without an answer is not started again (`registry/residency/breaker.rs`). A prompt that
//!   killed two workers is refused for a while (`registry/suspects.rs`).
//! - A model that is unloaded or restarted on request gets a new edition, like an edited model.
//! - A worker that receives SIGTERM reports it to the server and continues: a server that shuts down gracefully lets calls finish.
//!
//! # Metrics and status
//!
//! [`telemetry::metrics`] has the metrics of the process; other modules update them with plain function calls, as if they wrote to a log. A
//! reload registers the names of models, tools and tokens, whose series start at 0. [`telemetry::call`] counts and logs the end of each
//! call, under the same `request_id` as in the result. Every kind of failure has an [`error_code`]. `/metrics` and `/status` ask the
//! workers for their state only when they are read. `/status` ([`status`]) also has the state of the models and the result of the last
//! edit. [`engine::timing`] logs where the time of a worker went, at debug level, each time the worker becomes idle.

#![cfg_attr(
    test,
    allow(clippy::unwrap_used, reason = "a panic is how a test fails")
)]

mod app;
mod backend;
#[cfg(target_os = "linux")]
mod cgroup;
mod check;
mod cli;
mod commands;
mod config;
mod engine;
mod error_code;
mod fair;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
mod gguf;
mod gpu;
mod heap;
mod json;
mod live;
mod mcp;
mod mcp_clients;
mod memory;
mod printable;
mod process;
mod program;
mod registry;
mod reload;
mod schema;
mod signals;
mod status;
mod supervisor;
mod telemetry;
mod threads;
mod tools;
mod transport;
mod worker;

pub use program::main;

/// Items that the integration tests use. Any version may change them.
#[doc(hidden)]
pub mod internals {
    pub use crate::config::warning::WarningKind;
    pub use crate::engine::template::{ChatTemplate, Variables, check_messages, stack_size};
    pub use crate::engine::thinking::families::{after_reasoning, markers_of, unknown_markers};
    pub use crate::engine::{EngineError, Message, Role};
    pub use crate::error_code::ErrorCode;
    pub use crate::mcp::jsonrpc;
}
