//! Local GGUF models as MCP tools, by llama.cpp: the architecture on one page.
//!
//! # Processes
//!
//! ```text
//! client ─ stdio or HTTP ─▶ llama-mcp-server                     one per loaded model
//!                            transport → mcp → tools → registry ═ JSON lines ═▶ llama-mcp-server worker
//!                                                                  over pipes    engine → llama.cpp
//! ```
//!
//! The server never touches llama.cpp. A loaded model runs in a child process of the same binary, the hidden sub-command
//! `worker`, because llama.cpp ends its process where it meets an assertion, a GPU out of memory or a broken file: only
//! that model's calls fail then, and the next call starts it again. Unloading is the end of a process, so all memory goes
//! back. A worker sandboxes itself before llama.cpp reads the file, since a GGUF is untrusted input:
//! `worker/sandbox.rs`. It may write what a GPU's driver caches (`worker/driver_cache.rs`), and nothing else. `doctor` and
//! builds for GPUs ask llama.cpp in such a process, too, what it finds on the machine ([`worker::machine`]), and chat templates
//! are tried in one of their own ([`worker::trials`]).
//!
//! # Layers
//!
//! A module imports from its own layer and those below it, and no modules import each other in a circle without a reason.
//! `tests/it/layers.rs` reads this table and the sources, and checks both.
//!
//! | layer | modules | holds |
//! | --- | --- | --- |
//! | 12 | `main`, [`program`], `fuzzing` | the program from its command line to its exit code; what the fuzz targets call |
//! | 11 | [`app`], [`commands`] | wiring and lifetime; subcommands |
//! | 10 | [`reload`] | edits of the configuration |
//! | 9 | [`check`], [`cli`], [`live`] | whether a configuration can be run; the command line; the running parts of the server |
//! | 8 | [`transport`] | stdio and HTTP |
//! | 7 | [`mcp`] | JSON-RPC, protocol revisions, the dispatcher, progress |
//! | 6 | [`tools`], [`status`] | arguments → request, generation → result; the status of the server |
//! | 5 | [`registry`] | which models are loaded, and which of them serves a call |
//! | 4 | [`backend`] | what runs a model: the seam between the registry and processes |
//! | 3 | [`worker`] | the wire protocol, and the process of a model |
//! | 2 | [`engine`] | the seam's data types; scheduler, template, text, llama.cpp |
//! | 1 | [`config`] | file, variables and flags → validated settings |
//! | 0 | [`error_code`], [`fair`], [`gguf`], [`gpu`], [`heap`], [`json`], [`mcp_clients`], [`mod@memory`], [`printable`], [`process`], [`schema`], [`signals`], [`supervisor`], [`telemetry`], [`threads`] | what can go wrong, fairness of heavy work, the file, GPU support of the build, the allocator, JSON, the clients that `install` supports, how much memory there is, foreign text, the system, JSON Schemas of answers, its signals, who started it, the log, short-lived threads |
//!
//! Beside them `cpu.c` checks the CPU before any code of Rust runs. Foreign crates stay behind walls: `tests/it/layers.rs` lists the crates
//! that only some modules may name, and those modules.
//!
//! # Threads
//!
//! Threads of the server:
//!
//! | thread | does |
//! | --- | --- |
//! | the runtime's two | move messages, and never block |
//! | the runtime's blocking threads | render the prompts of typed tools, try schemas of calls, check finished answers, derive keys of sessions, render metrics, read an edited configuration, and look at models' files, one model at a time |
//! | `reader`, `writer`, `watcher` | over stdio: read, write, and watch whether stdout has a reader (a blocked read cannot be cancelled) |
//! | `spawner` | starts workers: the kernel's parent-death signal follows the parent *thread* |
//! | `heavy`, short-lived | parses a large message or tries a schema, at a low priority; [`fair`] lets few run at once, in turns among clients |
//! | `results` | reads the results of a process of [`worker::trials`] |
//! | `output`, `reaper` | read the output of a process of [`worker::machine`], and wait for the end of one that took too long |
//! | unnamed, short-lived | each reading of a schema and each use of a template, with the stack that it may need |
//! | the log's, the file watcher's, jemalloc's | write the log, watch the configuration, return memory to the system |
//!
//! Threads of a worker:
//!
//! | thread | does |
//! | --- | --- |
//! | main | reads what to load, restricts itself and with it all threads to come, then owns queue, scheduler, model and context |
//! | `commands` | reads commands |
//! | `loader` | loads the model and ends |
//! | `short prompts`, `long prompts` | prepare prompts of up to 8 KiB, and longer ones at a low priority (Linux) |
//! | `turns` | waits for the CPUs ([`worker::cpu_lock`]) |
//! | `signals` | waits for SIGTERM |
//! | unnamed, short-lived | each rendering and each tokenisation, with the stack that it may need |
//!
//! # What is counted
//!
//! [`telemetry::metrics`] counts for the whole process, as logs are written: code that does something calls one of its functions. Each
//! edit gives it the names of models, tools and tokens, whose series start at 0. A call's end is counted and logged by
//! [`telemetry::call`], under the id that its answer names; what went wrong has an [`error_code`].
//! `/metrics` renders that, after it asked the models' processes what they hold; nothing is sent around where nobody asks. `/status`
//! ([`status`]) asks the same of them, the registry how the models stand, and the reloader how the last edit went.
//!
//! # Life of a configuration
//!
//! [`cli`] gives what was typed; [`config::load`] reads the file ([`config::source`], with the place of every value), puts in
//! what texts name, and lays variables and flags over it, each layer checked by the schema ([`config::validate`]) that is
//! made of the structures in [`config::file`]; [`config::foreign`] translates the keys of other programs. What no schema says is checked
//! in [`config`], models' headers among it, and what only upper layers know (memory, templates) in [`check`].
//! Every check runs on the valid parts, and all problems are reported at once. A fault of a model's or a token's file is a doubt
//! instead: the rest is served ([`config::ModelFiles`], [`check::Checked::doubts`]). A setting that works and is probably a mistake is a
//! warning ([`config::warning`], `check/warnings.rs`).
//!
//! # Life of an edit
//!
//! [`reload`] notices that a file's content has changed, loads and checks all of it, and keeps the active configuration if anything
//! is wrong. [`config::diff`] names what changes for the log, and [`config::file`] declares for each key when an edit takes effect.
//! Then [`live`] applies the edit, in this order: the registry takes the models in, where one that is loaded as
//! before keeps its edition and with it its process; the dispatcher gets the new catalog; and only then the former editions
//! take no more calls, so that a call which they refuse ([`registry::residency::Refusal::Superseded`]) finds the new catalog
//! and is made again by it. A call that a model answers keeps the settings and the process with which it began.
//! An edit that breaks a model or tool that works is rejected as a whole (`reload/faults.rs`).
//! A rejected edit still revokes the rights over HTTP that it no longer grants ([`config::rights`]).
//!
//! # Life of a call
//!
//! 1. [`transport::stdio`] reads a line, or [`transport::http`] a body that [`transport::guard`] let through, which tells whose
//!    token it brought; [`mcp::jsonrpc`] makes a message of it, and [`mcp::era`] tells how it is meant, from the message and its
//!    headers alone. Over HTTP a legacy request is part of a
//!    session, which another process may have opened ([`transport::http`]); a modern one is a connection of its own.
//! 2. [`mcp::dispatcher`] enters its id into the table of those in flight, so a cancel that is read next finds it, and
//!    finds the handler. `initialize`, `server/discover`, `ping` and all lists never wait for a model.
//! 3. [`tools::chat`] or [`tools::typed`] makes a [`tools::answering::Question`] of the arguments, by type and range, and that a
//!    [`engine::GenerateRequest`]. If the answer follows a schema, [`schema`] has read it and
//!    [`tools::structured`] has tried its grammar.
//! 4. [`registry`] gives a lease: [`registry::residency`] decides, under one short lock, to join the running worker, to start
//!    one, or to wait until models that idle or calls that end have made room. While there is a lease, the model stays.
//!    The memory that a model needs, of the machine and of GPUs, is estimated from its header ([`gguf::memory`]) until its process can
//!    be measured.
//! 5. [`backend`] hands the request to the model: [`backend::local`] sends it down a pipe. News come back as [`engine::Update`]s and end in a
//!    `watch` channel, of which [`mcp::progress`] tells the client by time. Dropping the call's future, for whatever
//!    reason, cancels it: the worker frees the sequence before its next decode.
//! 6. In the worker, [`engine::prompt`] renders and tokenises prompts, in turns among clients; short and long prompts have separate threads. [`engine::grammar`] makes a grammar of a schema,
//!    [`engine::queue`] holds the call until it is its client's turn and a sequence and its cells are free, and each turn of
//!    [`engine::scheduler`] decodes a token for every generating sequence and as much of the prompts as fits the time
//!    ([`engine::chunk_size`]). [`engine::thinking`] separates a model's reasoning from its answer; a grammar applies from the answer on.
//! 7. The tool turns the [`engine::Generation`] into a result; one that follows a schema is checked once more
//!    ([`tools::structured`]).
//!
//! # The cache of prompts
//!
//! A prompt is decoded from where it differs from what was decoded before ([`engine::prefix`], pure;
//! `engine/scheduler/cache.rs`, which acts). A sequence keeps its tokens after its call. When another call needs the sequence,
//! what is worth it is saved to memory as llama.cpp's state of it, and found again there. Of calls that come together and begin
//! alike one decodes what they share, and the others wait for that. What all calls of a tool begin with ([`tools::shared_prefix`]) a
//! worker is told when it starts, and again when an edit changes it: it is prepared while no call's prompt waits to be, decoded
//! while no call wants to be, and the last to go. In a pool eight are kept, and half of its cells at most.
//!
//! How a prefix is shared depends on the layout of the cache ([`engine::limits::Reuse`]):
//!
//! - As a rule each sequence has cells of its own, and attention looks at those alone. A prefix is copied, by way of a saved
//!   state: that costs what its bytes cost, far less than its tokens. llama.cpp decodes sequences in one pass only where their
//!   numbers follow each other, so those that stream are kept neighbours ([`engine::compaction`], pure).
//! - Where a tool has a long fixed prompt, or memory lacks for all, the sequences share one pool of cells (`kv_unified`), and a
//!   prefix lies there once, for all who begin with it. Behind a tool's prompt, on a CPU, attention is computed without flash
//!   attention: all of them read the common cells as one product of matrices ([`engine::limits::Limits::has_flash_attention`]).
//! - Where windows slide or states recur, nothing can be cut off the end of what a sequence holds: a prefix is used whole or not at
//!   all, so states are saved where prompts part (`ActiveCall::checkpoints`): at the end of a tool's prompt, where calls that came
//!   together differ, and at the end of long prompts.
//!
//! On a CPU the same seed gives the same text to a call that runs alone where nothing of its prompt is in the cache, or where that is
//! switched off. A batch's shape changes the last bits of logits, and flash attention computes 64 rows and more in another way than
//! fewer (`ggml_compute_forward_flash_attn_ext_f16` of ggml's `ops.cpp`): so the pieces in which such a prompt is decoded end at whole
//! tiles of 64 rows, and the last has at least one, however fast the machine is ([`engine::chunk_size`]); but where a tile would take more
//! than three seconds. Beside other calls, or from a cached prefix, the text is the same up to the first near-tie; on a GPU, too.
//!
//! [`engine::Usage::cached_tokens`] counts what was not decoded. Where a worker's time went, a line of its log tells at debug level
//! whenever it runs out of work ([`engine::timing`]).
//!
//! Loaded models share the CPUs by turns, a step each ([`worker::cpu_lock`]).
//!
//! A watchdog kills a worker that has work but finishes no step for too long (`worker/client/watchdog.rs`). A worker leaves SIGTERM to
//! the server, which may be ending itself and then lets calls finish. A model whose process dies three times in a row without an answer
//! is not started again (`registry/residency/breaker.rs`), and a prompt that killed two processes is refused for a while
//! (`registry/suspects.rs`). A model that is unloaded or restarted on request gets another edition, like an edited model.
//!
//! A worker that dies or is killed by the watchdog ends the calls that had begun with an error; those that still waited are sent once
//! more, to the next worker. A call whose prompt was just being prepared counts as begun: it may be what the worker died of.

#![cfg_attr(test, allow(clippy::unwrap_used, reason = "tests fail loudly"))]

mod app;
mod backend;
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
