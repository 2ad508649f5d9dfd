//! See [`llama_mcp_server_fuzz::heavy::budget`].
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| llama_mcp_server_fuzz::heavy::budget(bytes));
