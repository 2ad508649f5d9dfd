//! Integration tests: they start the real program with real models. All are one binary, so that linking happens once.

#![allow(
    clippy::unwrap_used,
    clippy::needless_pass_by_value,
    reason = "a test fails by a panic"
)]
#![cfg_attr(
    not(target_os = "linux"),
    allow(
        dead_code,
        unused_imports,
        reason = "only the tests for Linux use them"
    )
)]

mod aliases; // aliases of models, titles of tools
mod arguments; // which arguments calls accept, and errors for the others
mod chat; // exact answers of a tiny model
mod chat_templates; // checks of chat templates, which run in a separate process
mod cli; // flags, help, exit codes
mod config; // the configuration file: layers, texts, tools, reference
mod config_check; // `config check` reports every error in one run, and each only once
mod config_problems; // errors of the configuration: wording, location, hint
mod config_warnings; // settings that work but are probably a mistake
mod corpus; // chat templates that the fuzzer found
mod doctor; // the `doctor` command and its report
mod fairness; // fair queueing between clients
mod file_kinds; // files that are not chat models
mod foreign; // names, flags and values of other programs
mod guard; // requests that the HTTP server refuses
mod http_start; // startup of the HTTP server: address, token
mod install; // the `install` command registers the server with clients
mod layers; // which modules may import which
mod lenient; // input that deviates slightly and is accepted
#[cfg(target_os = "linux")]
mod linux; // tests that need signals, `/proc`, bash or system limits
mod manual; // shell completions and the man page
mod meaning; // a real model: facts, seeds, concurrent calls
mod message_text; // messages with malformed text
mod messages; // the schema check that all other tests rely on
mod metrics; // which series exist, in which format, and who sees them
mod misplaced; // misplaced tables and keys, invalid names
mod modern; // the protocol revision without a handshake
mod monitoring; // alert rules and dashboards
mod omissions; // messages that a chat template drops
mod poisoned; // metadata of untrusted model files
mod prefixes; // prefix caching does not change answers
mod profiles; // several chat tools of one loaded model
mod protocol; // JSON-RPC and MCP over stdio
mod real_templates; // chat templates of real models render as in jinja2
mod refused; // how refused requests are reported
mod result_meta; // `result_meta`
mod sampling; // sampling parameters in the configuration and in calls
mod shipping; // release archives and the Rust version
mod speculative; // speculative decoding does not change answers
mod status; // the `status` command
mod support; // servers and clients that the tests share
mod thinking; // reasoning of every model family, before text and before JSON
mod tokens; // permissions and limits of tokens
mod tools; // the list of tools
mod typed; // tools with typed arguments and answers
mod variables; // environment variables
mod worker; // the worker process without MCP
