//! Wiring and lifetime: config → registry → dispatcher → transport; signals, of which the first lets the server end in
//! order, and the second ends it at once.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use tracing_appender::rolling::Rotation;

use crate::config::file::{LogFormat, LogRotation, LogSettings};
use crate::config::http::HttpConfig;
use crate::config::{Config, Transport};
use crate::mcp::dispatcher::Dispatcher;
use crate::process::ProtocolOutput;
use crate::registry::Registry;
use crate::telemetry::{LogFile, LogOutput};
use crate::tools::Catalog;
use crate::transport;
use crate::transport::http::Ending;
use crate::worker::client::{Launcher, WorkerEnvironment};

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

/// Where and what to log.
pub fn log_output(log: &LogSettings) -> LogOutput {
    let file = |path: &PathBuf| LogFile {
        path: path.clone(),
        rotation: match log.rotation {
            LogRotation::Daily => Rotation::DAILY,
            LogRotation::Hourly => Rotation::HOURLY,
            LogRotation::Never => Rotation::NEVER,
        },
        keep: log.keep,
    };
    LogOutput {
        level: log.level.clone(),
        is_json: log.format == LogFormat::Json,
        file: log.file.as_ref().map(file),
    }
}

/// How long the models' processes may take to end: one that does not is killed after two seconds.
const CLOSE_LIMIT: Duration = Duration::from_secs(3);

/// The server only moves messages; the CPUs are the worker's.
const SERVER_THREADS: usize = 2;

async fn serve(config: &Config, output: Box<dyn ProtocolOutput>) -> anyhow::Result<()> {
    let ending = Ending::default();
    end_on_signal(ending.clone()).context("could not listen to signals")?;
    // Before a model is loaded: a port that is in use is told at once.
    let listener = match &config.transport {
        Transport::Stdio => None,
        Transport::Http(http) => Some((
            http,
            transport::http::listen(http)
                .await
                .with_context(|| could_not_listen(http))?,
        )),
    };
    let registry = start(config)?;
    let dispatcher = Arc::new(Dispatcher::new(Catalog::new(config, &registry)));
    let served = match listener {
        None => transport::stdio::serve(dispatcher, output, ending.drain)
            .await
            .context("stdio failed"),
        Some((http, listener)) => transport::http::serve(dispatcher, http, listener, ending)
            .await
            .context("HTTP failed"),
    };
    if tokio::time::timeout(CLOSE_LIMIT, registry.close())
        .await
        .is_err()
    {
        tracing::warn!("a model's process is still there: it ends with this one");
    }
    served
}

/// The registry, which begins to load what is to be ready.
fn start(config: &Config) -> anyhow::Result<Arc<Registry>> {
    let program = Launcher::this_program().context("could not find this program's file")?;
    let environment = WorkerEnvironment {
        hidden: config.secret_variables.clone(),
        log_level: config.log.level.clone(),
    };
    let launcher = Launcher::new(program, environment).context("could not start a thread")?;
    let registry = Arc::new(Registry::new(launcher, &config.models, &config.registry));
    registry.preload();
    Ok(registry)
}

fn could_not_listen(http: &HttpConfig) -> String {
    let addresses: Vec<String> = http.addresses.iter().map(ToString::to_string).collect();
    format!(
        "could not listen on {}; `--host` and `--port` choose another address",
        addresses.join(" or ")
    )
}

/// SIGTERM and SIGINT (Ctrl-C elsewhere).
fn end_on_signal(ending: Ending) -> std::io::Result<()> {
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        tokio::spawn(async move {
            for token in [ending.drain, ending.stop] {
                tokio::select! {
                    _ = terminate.recv() => {}
                    _ = interrupt.recv() => {}
                }
                tracing::info!("ending by a signal");
                token.cancel();
            }
        });
    }
    #[cfg(not(unix))]
    tokio::spawn(async move {
        for token in [ending.drain, ending.stop] {
            if tokio::signal::ctrl_c().await.is_ok() {
                token.cancel();
            }
        }
    });
    Ok(())
}
