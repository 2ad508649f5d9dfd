//! The real program with real models, from outside: one binary, so that it is linked once.

#![allow(
    clippy::unwrap_used,
    clippy::needless_pass_by_value,
    reason = "tests fail loudly"
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
mod docs; // what the documentation says is so
mod doctor; // what it finds, and its report
mod examples; // each folder, as its README starts it
mod fairness; // one client beside another
#[cfg(target_os = "linux")]
mod faults; // killed processes, changed files, a full disk
mod file_kinds; // files that are not chat models
mod fixed; // what begins all calls of a tool
mod foreign; // names, flags and values of other programs
mod guard; // what HTTP refuses
mod hostile; // requests that are meant to confuse
mod http; // MCP over HTTP: sessions, streams, disconnects, the end
mod http_start; // how it starts: address, token
mod install; // clients are told, and start what they were told
mod layers; // who may import whom
mod lenient; // what is slightly off, and taken all the same
mod lifecycle; // processes, signals, ends
mod load; // two hundred connections, honest and not
#[cfg(unix)]
mod log_file; // moved while it is written
mod manual; // completions, and the page for man
mod meaning; // a real model: facts, seeds, eight calls at once
#[cfg(target_os = "linux")]
mod memory; // limits, page cache, shared weights
mod message_text; // messages whose text is slightly off
mod messages; // that wrong messages of the server are noticed
mod metrics; // which series there are, in which format, and for whom
mod misplaced; // tables and keys at the wrong place, and wrong names
mod model_files; // model files that are missing, incomplete or replaced
mod modern; // the revision without a handshake
mod monitoring; // alert rules and dashboards
mod mutated; // a hundred thousand broken messages
mod observe; // how it is, for those that look after it
mod omissions; // messages that a chat template leaves out
mod poisoned; // what a stranger's model file says
mod prefixes; // prompts start from what is in the cache, and nobody can tell
mod profiles; // several chat tools over one loaded model
mod protocol; // JSON-RPC and MCP over stdio
mod refused; // who learns of a refusal, and how
mod registry; // several models: room, idleness, leases
mod reload; // edits while the server runs
mod result_meta; // how an answer came about, where it is wanted
mod revocation; // revoked rights, whatever else is wrong
mod sampling; // sampling parameters: in the configuration, in calls, and what they do
#[cfg(all(target_os = "linux", target_env = "gnu"))]
mod sandbox; // hostile code in a model's process
mod secrecy; // what never reaches a log
mod sessions; // sessions that survive a restart, and are served by every replica
mod shipping; // archives of a release, and the Rust version
#[cfg(target_os = "linux")]
mod signals; // which of them end the server
#[cfg(target_os = "linux")]
mod stalls; // calls that cannot go on, next to others
mod status; // how a server is, as the command asks it
mod strangers; // who has no token, and who ends half a connection
#[cfg(target_os = "linux")]
mod stuck; // processes that hang or keep dying
mod supervised; // by a service manager
mod support; // a server and its client
mod surroundings; // the environment of a server: mounts, limits, no `/proc`
#[cfg(target_os = "linux")]
mod system_limits; // a system that refuses to start processes and threads
mod templates; // the chat templates of real models, as jinja2 renders them
mod thinking; // reasoning of every family, before free answers and before JSON
mod tokens; // who may do what over HTTP, and how much
mod tools; // what clients are told of the tools
mod typed; // tools without code
#[cfg(target_os = "linux")]
mod unload; // models that are unloaded and restarted on request
mod variables; // of the environment
mod worker; // the worker by hand, without MCP
