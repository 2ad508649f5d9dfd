//! The binary: everything is in the library.

use std::process::ExitCode;

/// glibc's allocator keeps what a burst of large messages took: 860 MB in an idle server. This one gives it back within seconds.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    llama_mcp_server::main()
}
