//! Wiring and lifetime: config → registry → dispatcher → transport; signals, of which the first lets the server end in
//! order, and the second ends it at once.

use std::io::Write as _;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::watch;
use tracing_appender::rolling::Rotation;

use crate::backend::Backend;
use crate::backend::local::Launcher;
use crate::check::Checked;
use crate::config::file::{LogFormat, LogRotation, LogSettings};
use crate::config::http::HttpConfig;
use crate::config::{Config, Transport};
use crate::error_code::{Coded, ErrorCode};
use crate::mcp::dispatcher::Dispatcher;
use crate::process::{self, ProtocolOutput};
use crate::registry::{Edition, Registry};
use crate::reload::{Reloader, Sources};
use crate::signals::{EndSignals, Signals};
use crate::status::{Board, ToolStatus};
use crate::supervisor::{self, Phase};
use crate::telemetry::log_file::LogFile;
use crate::telemetry::{LogOutput, metrics};
use crate::threads;
use crate::tools::Catalog;
use crate::tools::shared_prefix::fixed_prompts;
use crate::transport;
use crate::transport::http::Ending;
use crate::transport::stdio::{OpenError, Stdio};

/// Serves what was `checked` until the client or a signal ends it; edits of the files that it came from are applied.
///
/// # Errors
/// Where the system gives no runtime, signals or pipes.
pub(crate) fn run(
    checked: Checked,
    sources: Sources,
    signals: Signals,
    output: Box<dyn ProtocolOutput>,
) -> anyhow::Result<()> {
    let runtime = start_runtime().context("could not start the runtime")?;
    let result = runtime.block_on(serve(checked, sources, signals, output));
    // A thread that is blocked on stdin is not waited for.
    runtime.shutdown_background();
    result
}

/// Starts the runtime and one of its threads for blocking work. The thread is kept: if the system refused one later, blocking work would
/// wait forever.
fn start_runtime() -> std::io::Result<Runtime> {
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

/// Where and what to log.
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

/// How long the models' processes may take to end: one that does not is killed after two seconds.
const CLOSE_LIMIT: Duration = Duration::from_secs(3);

/// The stack of each thread. The check of an answer calls itself for every level of the value and of its schema: 100 schemas for each
/// of 127 levels at most.
const THREAD_STACK: usize = 32 * 1024 * 1024;

/// Smallest number of threads that a server starts with: the runtime's, one that starts processes, the log's, the allocator's, and those of
/// stdin and stdout, or of connections and the file watcher.
pub(crate) const THREADS: usize = 9;

/// The server only moves messages; the CPUs are the worker's.
const SERVER_THREADS: usize = 2;

async fn serve(
    checked: Checked,
    sources: Sources,
    signals: Signals,
    output: Box<dyn ProtocolOutput>,
) -> anyhow::Result<()> {
    for note in &checked.layers.notes {
        tracing::info!("{note}");
    }
    for warning in &checked.layers.warnings {
        tracing::warn!(kind = warning.code, "{}", warning.line());
    }
    checked.warn_of_doubts();
    let ending = Ending::default();
    let has_file = checked.layers.file.is_some();
    let signals = signals.listen(has_file);
    let signals = signals.context("could not listen to signals")?;
    tokio::spawn(end_on_signal(signals, ending.clone()));
    // Before a model is loaded: a port that is in use is told at once.
    let http = match &checked.config.transport {
        Transport::Stdio => None,
        Transport::Http(http) => {
            let listener = transport::http::listen(http)
                .await
                .with_context(|| could_not_listen(http))?;
            metrics::install();
            Some((listener, Arc::new((**http).clone())))
        }
    };
    let stdio = match http {
        None => Some(Stdio::open(output, &ending.drain).map_err(stdio_failed)?),
        Some(_) => None,
    };
    let address = match &http {
        Some((listener, _)) => Some(listener.local_addr()?),
        None => None,
    };
    print_log_file(&checked.config.log, address);
    let config = http.as_ref().map(|(_, config)| Arc::clone(config));
    let live = Live::start(&checked.config, config, &ending)?;
    let (dispatcher, registry) = (Arc::clone(&live.dispatcher), Arc::clone(&live.registry));
    let (rules, tools) = (
        live.http.as_ref().map(watch::Sender::subscribe),
        live.tools.subscribe(),
    );
    let reloader = Reloader::new(sources, checked, live);
    let board = Board::new(
        Arc::clone(&registry),
        tools,
        rules.clone(),
        reloader.as_ref().map(Reloader::status),
    );
    if let Some(reloader) = reloader {
        let drain = ending.drain.clone();
        tokio::spawn(async move {
            // At the end nothing begins any more.
            let ran = drain.run_until_cancelled(reloader.run()).await;
            if let Some(Err(error)) = ran {
                tracing::warn!(%error, "the configuration cannot be reloaded; restart the server to apply edits");
                supervisor::tell(Phase::Ready);
            }
        });
    } else {
        supervisor::tell(Phase::Ready);
    }
    let served = if let Some(stdio) = stdio {
        let served = transport::stdio::serve(stdio, dispatcher).await;
        served.context("stdio failed")
    } else if let Some(((listener, _), rules)) = http.zip(rules) {
        let served = transport::http::serve(dispatcher, board, rules, listener, ending).await;
        served.context("HTTP failed")
    } else {
        Ok(())
    };
    if tokio::time::timeout(CLOSE_LIMIT, registry.close())
        .await
        .is_err()
    {
        tracing::warn!("a model's process is still there: it ends with this one");
    }
    served
}

/// Prints on standard error how to reach the server and where its log is, if it logs to a file: a terminal would show nothing otherwise.
fn print_log_file(log: &LogSettings, address: Option<SocketAddr>) {
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
    drop(writeln!(std::io::stderr(), "{line}"));
}

/// The running parts of the server, as the active configuration describes them.
#[derive(Debug)]
pub(crate) struct Live {
    launcher: Launcher,
    registry: Arc<Registry>,
    dispatcher: Arc<Dispatcher>,
    /// The tools, for `status`.
    tools: watch::Sender<Vec<ToolStatus>>,
    /// Those that were loaded without a call.
    preloaded: Vec<Edition>,
    http: Option<watch::Sender<Arc<HttpConfig>>>,
}

impl Live {
    /// Starts what `config` says, and begins to load what is to be ready.
    fn start(
        config: &Config,
        http: Option<Arc<HttpConfig>>,
        ending: &Ending,
    ) -> anyhow::Result<Self> {
        let program = process::this_program().context("could not find this program's file")?;
        let launcher = Launcher::new(program).map_err(Coded::from)?;
        let launcher = launcher.with_drain(ending.drain.clone());
        let registry = Arc::new(Registry::new(Backend::Local(launcher.clone())));
        let mut live = Self {
            launcher,
            registry,
            dispatcher: Arc::new(Dispatcher::new(Catalog::default())),
            tools: watch::Sender::default(),
            preloaded: Vec::new(),
            http: http.map(watch::Sender::new),
        };
        live.apply(config);
        Ok(live)
    }

    /// Makes `config` the active configuration. Parts that it does not change keep running; parts that it changes or removes finish their
    /// calls.
    pub(crate) fn apply(&mut self, config: &Config) {
        self.launcher.set_log_level(config.log.level.clone());
        self.launcher
            .set_stall_timeout(config.registry.stall_timeout.0);
        // Before models are staged, so that revoked tokens are refused from here on.
        self.set_rules(&config.transport);
        let fixed = fixed_prompts(config);
        let registry = &self.registry;
        // A model that was unloaded on request stays unloaded.
        for edition in &mut self.preloaded {
            *edition = registry.current(*edition);
        }
        let editions = registry.stage(&config.models, &fixed, &config.registry);
        let catalog = Catalog::new(config, &editions, &self.registry);
        self.show(config, &catalog);
        // Before the former models take no more calls: a call that they refuse finds this one.
        self.dispatcher.replace(catalog);
        self.registry.retire_all_but(&editions);
        let models = config.models.iter().zip(editions);
        let preloaded: Vec<_> = models.filter(|(model, _)| model.preload).collect();
        for (model, edition) in &preloaded {
            if !self.preloaded.contains(edition) {
                self.registry.preload(&model.name, *edition);
            }
        }
        self.preloaded = preloaded.into_iter().map(|(_, edition)| edition).collect();
    }

    /// Shows the tools of `catalog` to those that look after the server, and creates the metrics of all names.
    fn show(&self, config: &Config, catalog: &Catalog) {
        let tools = catalog.with_models();
        let shown = tools.iter().map(|(name, model)| ToolStatus {
            name: (*name).to_owned(),
            model: (*model).to_owned(),
        });
        self.tools.send_replace(shown.collect());
        let tokens = match &config.transport {
            Transport::Http(http) => &http.tokens[..],
            Transport::Stdio => &[],
        };
        metrics::expect(&metrics::Names {
            models: config.models.iter().map(|model| &*model.name).collect(),
            tools,
            tokens: tokens.iter().map(|token| &*token.name).collect(),
        });
    }

    /// Applies the rules for requests. Announces a change of tools if tokens have changed, since each token may have its own tools.
    pub(crate) fn set_rules(&self, transport: &Transport) {
        if let (Some(rules), Transport::Http(new)) = (&self.http, transport) {
            let changed = Arc::new(rules.borrow().with_live_keys_of(new));
            let old = rules.send_replace(Arc::clone(&changed));
            if old.tokens != changed.tokens {
                self.dispatcher.announce();
            }
        }
    }
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
        "could not listen on {}; `--host` and `--port` choose another address",
        addresses.join(" or ")
    ))
}

/// The first signal lets the server end in order, the second ends it at once.
async fn end_on_signal(mut signals: EndSignals, ending: Ending) {
    for token in [ending.drain, ending.stop] {
        signals.next().await;
        tracing::info!("ending by a signal");
        supervisor::tell(Phase::Stopping);
        token.cancel();
    }
}
