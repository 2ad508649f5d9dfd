//! The real program with real models, from outside: one binary, so that it is linked once.

#![allow(
    clippy::unwrap_used,
    clippy::needless_pass_by_value,
    reason = "tests fail loudly"
)]
#![cfg_attr(
    not(target_os = "linux"),
    allow(dead_code, unused_imports, reason = "only tests for Linux use them")
)]

mod aliases; // aliases of models, and titles of their tools
mod arguments; // what a call may ask, and how it is refused
mod chat; // answers of a tiny model that are known to the letter
mod chat_templates; // whether chat templates print what tools say, tried in a process of their own
mod cli; // flags, help, exit codes
mod config; // the file: layers, texts, tools, reference
mod config_check; // one run reports all faults, each once
mod config_problems; // what is wrong with it, and how that is told
mod config_warnings; // settings that work and are probably a mistake
mod corpus; // chat templates that the fuzzer found
mod doctor; // what it finds, and its report
mod fairness; // one client beside another
mod file_kinds; // files that are not chat models
mod foreign; // names, flags and values of other programs
mod guard; // what HTTP refuses
mod http_start; // how it starts: address, token
mod install; // clients are told, and start what they were told
mod layers; // who may import whom
mod lenient; // what is slightly off, and taken all the same
#[cfg(target_os = "linux")]
mod linux; // needs signals, `/proc`, bash or limits of the system
mod manual; // completions, and the page for man
mod meaning; // a real model: facts, seeds, eight calls at once
mod message_text; // messages whose text is slightly off
mod messages; // that wrong messages of the server are noticed
mod metrics; // which series there are, in which format, and for whom
mod misplaced; // tables and keys at the wrong place, and wrong names
mod modern; // the revision without a handshake
mod monitoring; // alert rules and dashboards
mod omissions; // messages that a chat template leaves out
mod poisoned; // what a stranger's model file says
mod prefixes; // prompts start from what is in the cache, and nobody can tell
mod profiles; // several chat tools over one loaded model
mod protocol; // JSON-RPC and MCP over stdio
mod real_templates; // the chat templates of real models, as jinja2 renders them
mod result_meta; // how an answer came about, where it is wanted
mod sampling; // sampling parameters: in the configuration, in calls, and what they do
mod shipping; // archives of a release, and the Rust version
mod status; // how a server is, as the command asks it
mod support; // a server and its client
mod thinking; // reasoning of every family, before free answers and before JSON
mod tokens; // who may do what over HTTP, and how much
mod tools; // what clients are told of the tools
mod typed; // tools without code
mod variables; // of the environment
mod worker; // the worker by hand, without MCP
