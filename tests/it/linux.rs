//! Tests that need signals, `/proc`, bash or system limits.

mod docs; // the commands and tables of the documentation
mod examples; // each example, started as its README says
mod faults; // killed processes, changed files, a full disk
mod hostile; // malicious and oversized requests
mod http; // MCP over HTTP: sessions, streams, disconnects, shutdown
mod lifecycle; // startup, signals, shutdown
mod load; // two hundred connections, half of them misbehaving
mod log_file; // log rotation by another program
mod memory; // memory limits, page cache, shared weights
mod model_files; // model files that are missing, incomplete or replaced
mod mutated; // a hundred thousand broken messages
mod observe; // health checks and metrics
mod registry; // several models: eviction, idle timeout, leases
mod reload; // hot reload
mod revocation; // revoked permissions, even if other settings are invalid
#[cfg(target_env = "gnu")]
mod sandbox; // malicious code in a worker process
mod secrecy; // prompts and answers stay out of the logs
mod sessions; // sessions that survive a restart and move between replicas
mod shared_prefix; // shared prefixes of a tool's calls
mod signals; // which signals end the server
mod stalls; // stalled calls do not block others
mod strangers; // clients without a token, half-closed connections
mod stuck; // processes that hang or crash repeatedly
mod supervised; // systemd notifications
mod surroundings; // mounts, resource limits, no `/proc`
mod system_limits; // a system that refuses new processes and threads
mod threads; // threads of a model next to busy programs
mod unload; // models that are unloaded and restarted on request
