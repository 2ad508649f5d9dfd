//! Tests that need signals, `/proc`, bash, or limits of the system.

mod docs; // what the documentation says is so
mod examples; // each folder, as its README starts it
mod faults; // killed processes, changed files, a full disk
mod hostile; // requests that are meant to confuse
mod http; // MCP over HTTP: sessions, streams, disconnects, the end
mod lifecycle; // processes, signals, ends
mod load; // two hundred connections, honest and not
mod log_file; // moved while it is written
mod memory; // limits, page cache, shared weights
mod model_files; // model files that are missing, incomplete or replaced
mod mutated; // a hundred thousand broken messages
mod observe; // how it is, for those that look after it
mod refused; // who learns of a refusal, and how
mod registry; // several models: room, idleness, leases
mod reload; // edits while the server runs
mod revocation; // revoked rights, whatever else is wrong
#[cfg(target_env = "gnu")]
mod sandbox; // hostile code in a model's process
mod secrecy; // what never reaches a log
mod sessions; // sessions that survive a restart, and are served by every replica
mod shared_prefix; // what begins all calls of a tool
mod signals; // which of them end the server
mod stalls; // calls that cannot go on, next to others
mod strangers; // who has no token, and who ends half a connection
mod stuck; // processes that hang or keep dying
mod supervised; // by a service manager
mod surroundings; // the environment of a server: mounts, limits, no `/proc`
mod system_limits; // a system that refuses to start processes and threads
mod unload; // models that are unloaded and restarted on request
