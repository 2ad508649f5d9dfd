//! Wiring and lifetime: config → registry → dispatcher → transport, and signals: the first starts a graceful shutdown, the second ends the
//! server at once.

use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use tokio::net::TcpListener;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing_appender::rolling::Rotation;

use crate::backend::Backend;
use crate::check::Checked;
use crate::config::Transport;
use crate::config::file::{LogFormat, LogRotation, LogSettings};
use crate::config::http::HttpConfig;
use crate::error_code::{Coded, ErrorCode};
use crate::live::Live;
use crate::process::{self, ProtocolOutput};
use crate::reload::{Reloader, Sources};
use crate::signals::{EndSignals, Signals};
use crate::status::Board;
use crate::supervisor::{self, ServiceState};
use crate::telemetry::log_file::LogFile;
use crate::telemetry::{LogOutput, metrics};
use crate::threads;
use crate::transport;
use crate::transport::http::Ending;
use crate::transport::stdio::{OpenError, Stdio};

/// Longest wait for the models' processes to end. A process that does not end by itself is killed earlier.
const CLOSE_LIMIT: Duration = Duration::from_secs(3);

/// Stack size of each thread, in bytes. The check of an answer recurses for every level of the value and of its schema: at most 127 levels of
/// 100 schemas each.
const THREAD_STACK: usize = 32 * 1024 * 1024;

/// Least number of threads that a server starts with: those of the runtime, the spawner, the log and the allocator, and those of stdin and
/// stdout, or of connections and the file watcher.
pub(crate) const THREADS: usize = 9;

/// Number of the runtime's threads. The server only moves messages and leaves the CPUs to the workers.
const SERVER_THREADS: usize = 2;

/// Serves the `checked` configuration until the client or a signal ends the server, and applies edits of its files.
///
/// # Errors
/// The system provides no runtime, signals or pipes, or the address is in use.
pub(crate) fn run(
    checked: Checked,
    sources: Sources,
    signals: Signals,
    output: Box<dyn ProtocolOutput>,
) -> anyhow::Result<()> {
    let runtime = start_runtime().context("could not start the runtime")?;
    let result = runtime.block_on(serve(checked, sources, signals, output));
    // A thread may be blocked on stdin: do not wait for it.
    runtime.shutdown_background();
    result
}

/// Starts the runtime and one of its threads for blocking work. The thread is kept: if the system refused one later, blocking work would
/// wait forever.
fn start_runtime() -> io::Result<Runtime> {
    threads::or_exit(|| {
        let runtime = Builder::new_multi_thread()
            .worker_threads(SERVER_THREADS)
            .thread_stack_size(THREAD_STACK)
            .thread_keep_alive(Duration::MAX)
            .enable_all()
            .build()?;
        runtime.spawn_blocking(|| ());
        Ok(runtime)
    })
}

/// Returns the destination and format of the log.
pub(crate) fn log_output(log: &LogSettings) -> LogOutput {
    let file = |path: &PathBuf| LogFile {
        path: path.clone(),
        rotation: match log.rotation {
            LogRotation::Daily => Rotation::DAILY,
            LogRotation::Hourly => Rotation::HOURLY,
            LogRotation::Never => Rotation::NEVER,
        },
        max_size: log.max_size.0,
        keep: log.keep,
    };
    LogOutput {
        level: log.level.clone(),
        is_json: log.format == LogFormat::Json,
        file: log.file.as_ref().map(file),
    }
}

async fn serve(
    checked: Checked,
    sources: Sources,
    signals: Signals,
    output: Box<dyn ProtocolOutput>,
) -> anyhow::Result<()> {
    log_findings(&checked);
    let ending = Ending::default();
    let has_file = checked.layers.file.is_some();
    let signals = signals.listen(has_file);
    let signals = signals.context("could not listen to signals")?;
    tokio::spawn(end_on_signal(signals, ending.clone()));
    // Before a model is loaded, so that a port that is in use is reported at once.
    let endpoint = Endpoint::open(&checked.config.transport, output, &ending).await?;
    print_endpoint(&checked.config.log, endpoint.address()?);
    let backend = backend(&checked.config.log, &ending)?;
    let rules = endpoint.rules();
    let shown_rules = rules.as_ref().map(watch::Sender::subscribe);
    let live = Live::start(&checked.config, backend, rules);
    let (dispatcher, registry, tools) = (live.dispatcher(), live.registry(), live.tools());
    let reloader = Reloader::new(sources, checked, live);
    let board = Board::new(
        Arc::clone(&registry),
        tools,
        shown_rules,
        reloader.as_ref().map(Reloader::status),
    );
    match reloader {
        Some(reloader) => drop(tokio::spawn(reload(reloader, ending.drain.clone()))),
        None => supervisor::notify(ServiceState::Ready),
    }
    let served = match endpoint {
        Endpoint::Stdio(stdio) => {
            let served = transport::stdio::serve(stdio, dispatcher).await;
            served.context("stdio failed")
        }
        Endpoint::Http(listener, rules) => {
            let rules_in_force = rules.subscribe();
            // The reload has the only other sender.
            drop(rules);
            let served =
                transport::http::serve(dispatcher, board, rules_in_force, listener, ending).await;
            served.context("HTTP failed")
        }
    };
    if tokio::time::timeout(CLOSE_LIMIT, registry.close())
        .await
        .is_err()
    {
        tracing::warn!("a model's process has not ended yet; it ends with this process");
    }
    served
}

/// Where clients reach the server.
enum Endpoint {
    /// The standard streams of this process.
    Stdio(Stdio),
    /// A socket, and the rules for requests, which follow the active configuration.
    Http(TcpListener, watch::Sender<Arc<HttpConfig>>),
}

impl Endpoint {
    /// Opens the endpoint for the `chosen` transport. `output` is standard output.
    async fn open(
        chosen: &Transport,
        output: Box<dyn ProtocolOutput>,
        ending: &Ending,
    ) -> anyhow::Result<Self> {
        match chosen {
            Transport::Stdio => {
                let stdio = Stdio::open(output, &ending.drain).map_err(stdio_failed)?;
                Ok(Self::Stdio(stdio))
            }
            Transport::Http(http) => {
                let listener = transport::http::listen(http).await;
                let listener = listener.with_context(|| could_not_listen(http))?;
                metrics::install();
                let rules = watch::Sender::new(Arc::new((**http).clone()));
                Ok(Self::Http(listener, rules))
            }
        }
    }

    /// Returns the address of the socket; `None` over stdio.
    fn address(&self) -> io::Result<Option<SocketAddr>> {
        match self {
            Self::Stdio(_) => Ok(None),
            Self::Http(listener, _) => listener.local_addr().map(Some),
        }
    }

    /// Returns the rules for requests over HTTP; `None` over stdio.
    fn rules(&self) -> Option<watch::Sender<Arc<HttpConfig>>> {
        match self {
            Self::Stdio(_) => None,
            Self::Http(_, rules) => Some(rules.clone()),
        }
    }
}

/// Logs the notes, warnings and tolerated faults of the check.
fn log_findings(checked: &Checked) {
    for note in &checked.layers.notes {
        tracing::info!("{note}");
    }
    for warning in &checked.layers.warnings {
        tracing::warn!(kind = warning.code, "{}", warning.line());
    }
    checked.log_tolerated_faults();
}

/// Applies edits of the configuration until `drain` is cancelled: a shutdown begins no further reload.
async fn reload(reloader: Reloader, drain: CancellationToken) {
    let ran = drain.run_until_cancelled(reloader.run()).await;
    if let Some(Err(error)) = ran {
        tracing::warn!(%error, "the configuration cannot be reloaded; restart the server to apply edits");
        supervisor::notify(ServiceState::Ready);
    }
}

/// Returns the backend of models' processes, which are this program.
fn backend(log: &LogSettings, ending: &Ending) -> anyhow::Result<Backend> {
    let program =
        process::this_program().context("could not determine the path of this program")?;
    let backend = Backend::local(program, log.level.clone(), ending.drain.clone());
    Ok(backend.map_err(Coded::from)?)
}

/// Prints on standard error how to reach the server and where its log is, if it logs to a file: a terminal would show nothing otherwise.
fn print_endpoint(log: &LogSettings, address: Option<SocketAddr>) {
    let Some(file) = log_output(log).file else {
        return;
    };
    let served = match address {
        Some(address) => format!("listening on http://{address}/mcp"),
        None => "serving standard input and output".into(),
    };
    let path = file.current();
    let line = format!(
        "llama-mcp-server: {served}; the log is in {}",
        path.display()
    );
    // If standard error is closed, nobody can read the line.
    drop(writeln!(io::stderr(), "{line}"));
}

/// Returns the error of a stdio transport that could not be opened.
fn stdio_failed(error: OpenError) -> anyhow::Error {
    match error {
        OpenError::NoThread(limit) => Coded::from(limit).into(),
        OpenError::NotWatched(error) => anyhow::Error::new(error).context("stdio failed"),
    }
}

fn could_not_listen(http: &HttpConfig) -> Coded {
    let addresses: Vec<String> = http.addresses.iter().map(ToString::to_string).collect();
    ErrorCode::CannotListen.says(format!(
        "could not listen on {}; choose another address with `--host` and `--port`",
        addresses.join(" or ")
    ))
}

/// Starts a graceful shutdown at the first signal, and ends the server at the second.
async fn end_on_signal(mut signals: EndSignals, ending: Ending) {
    for token in [ending.drain, ending.stop] {
        signals.next().await;
        tracing::info!("ending by a signal");
        supervisor::notify(ServiceState::Stopping);
        token.cancel();
    }
}
