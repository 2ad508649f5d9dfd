//! See `llama_mcp_server::fuzzing::config`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| llama_mcp_server::fuzzing::config(bytes));
