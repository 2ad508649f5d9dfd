//! See `llama_mcp_server::fuzzing::worker`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| llama_mcp_server::fuzzing::worker(bytes));
