//! x
pub mod app;
pub mod cli;
pub mod config;
pub mod cpu;
pub mod engine;
pub mod gguf;
pub mod mcp;
pub mod process;
pub mod registry;
pub mod telemetry;
pub mod tools;
pub mod transport;
pub mod worker;
