//! Wiring and lifetime: config → registry → dispatcher → transport; signals.

use std::sync::Arc;

use anyhow::Context;
use tokio_util::sync::CancellationToken;

use crate::config::Config;
use crate::mcp::dispatcher::Dispatcher;
use crate::process::ProtocolOutput;
use crate::registry::Registry;
use crate::tools::Catalog;
use crate::transport;
use crate::worker::client::Launcher;

/// Serves `config` over stdio until the client or a signal ends it.
///
/// # Errors
/// Where the system gives no runtime, signals or pipes.
pub fn run(config: &Config, output: Box<dyn ProtocolOutput>) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(SERVER_THREADS)
        .enable_all()
        .build()
        .context("could not start the runtime")?;
    let result = runtime.block_on(serve(config, output));
    // A thread that is blocked on stdin is not waited for.
    runtime.shutdown_background();
    result
}

/// The server only moves messages; the CPUs are the worker's.
const SERVER_THREADS: usize = 2;

async fn serve(config: &Config, output: Box<dyn ProtocolOutput>) -> anyhow::Result<()> {
    let shutdown = CancellationToken::new();
    cancel_on_signal(shutdown.clone()).context("could not listen to signals")?;
    let program = Launcher::this_program().context("could not find this program's file")?;
    let launcher = Launcher::new(program).context("could not start a thread")?;
    let registry = Arc::new(Registry::new(launcher, config.model.clone()));
    registry.preload();
    let dispatcher = Arc::new(Dispatcher::new(Catalog::new(config, Arc::clone(&registry))));
    transport::stdio::serve(dispatcher, output, shutdown)
        .await
        .context("stdio failed")
}

/// SIGTERM and SIGINT (Ctrl-C elsewhere) end the server in order.
fn cancel_on_signal(shutdown: CancellationToken) -> std::io::Result<()> {
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        tokio::spawn(async move {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            shutdown.cancel();
            tracing::info!("ending by a signal");
        });
    }
    #[cfg(not(unix))]
    tokio::spawn(async move {
        if tokio::signal::ctrl_c().await.is_ok() {
            shutdown.cancel();
        }
    });
    Ok(())
}
