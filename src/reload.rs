//! Hot reload of the configuration: causes → revoke rights → load → apply, or keep the active configuration.
//!
//! One task applies one edit after the other. A cause (a change in a folder, the polling interval, SIGHUP) only says that something may have
//! changed; the content of the files decides. It is read before the files are loaded, so an edit that is saved meanwhile differs from it and
//! is loaded next.
//!
//! A drive that hangs blocks the reading of models' files for as long as it hangs. So rights are revoked first, and a load has a time
//! limit. A load that exceeds the limit goes on, and no second load begins. Its result is applied if the content is still the same.

mod faults;
mod file_stamps;
mod revoke;
mod watch;

use std::future::pending;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use jiff::Timestamp;
use tokio::sync;
use tokio::task::{JoinHandle, block_in_place, spawn_blocking};
use tokio::time::timeout;

use crate::check::{self, Checked};
use crate::config::diff::ConfigDiff;
use crate::config::problem::Problem;
use crate::config::source_text::SourceText;
use crate::config::units::human_time;
use crate::config::{Config, ConfigError, Overrides, Surroundings, Transport};
use crate::live::Live;
use crate::status::ConfigStatus;
use crate::supervisor::{self, ServiceState};
use crate::telemetry::metrics;
use faults::Faults;
use file_stamps::{ContentHash, Files, Snapshot, on_thread};
use revoke::{Reading, WAITS_FOR_CLOSE, WAITS_FOR_VALID};
use watch::{Cause, Causes, WatchState};

/// Time limit of a check, after which the edit is rejected for now, and time after which the log reports a slow reading of files. A chat
/// template alone may take 30 seconds on a busy machine.
const LOAD_LIMIT: Duration = Duration::from_secs(30);

/// Longest time that a revocation waits for the check of the rest of an edit, so that clients see one change and not two.
const REVOCATION_DELAY: Duration = Duration::from_secs(2);

/// Reason why an edit is not applied.
#[derive(Debug, thiserror::Error)]
enum Rejection {
    /// The configuration is invalid.
    #[error("{}", .0.to_text())]
    Invalid(ConfigError),
    /// The check takes longer than [`LOAD_LIMIT`].
    #[error(
        "error: the check of the configuration takes more than {}; a drive with a file that it names may hang; the edit applies once the check has ended; if it never ends, restart the server",
        human_time(LOAD_LIMIT)
    )]
    Slow,
    /// The check panicked.
    #[error(
        "error: the configuration could not be checked because of a fault in the program; see the log"
    )]
    Panicked,
}

/// The check of a configuration on a blocking thread.
type Load = JoinHandle<Result<Checked, ConfigError>>;

/// The load of one content of the files.
#[derive(Debug)]
struct ContentLoad {
    /// Content for which the load was begun.
    content: ContentHash,
    load: Load,
}

/// Sources of the configuration.
#[derive(Debug, Clone)]
pub(crate) struct Sources {
    /// The command line.
    pub typed: Overrides,
    /// Variables and machine.
    pub around: Surroundings,
    /// Time of the first reading. Files that were saved since are read again.
    pub read_at: SystemTime,
}

/// Owner of the active configuration.
#[derive(Debug)]
pub(crate) struct Reloader {
    sources: Sources,
    config: Config,
    /// The file with the text of the active configuration.
    active: Arc<SourceText>,
    /// Names of the tokens that a rejected configuration may hide, which stay valid.
    hidden: Vec<String>,
    files: Files,
    /// Content that is active, or that was rejected last; `None` if files were saved while the server started.
    content: Option<ContentHash>,
    /// Warnings about the active configuration, which are logged already.
    warnings: Vec<Problem>,
    /// Parts of the active configuration that do not work.
    faults: Faults,
    /// A load that exceeded [`LOAD_LIMIT`].
    slow: Option<ContentLoad>,
    /// Whether rights were revoked since a configuration was applied. If the edit is undone, they must be granted again.
    is_narrowed: bool,
    /// A reading of rights that exceeded [`LOAD_LIMIT`].
    slow_rights: Option<Reading>,
    status: sync::watch::Sender<ConfigStatus>,
    live: Live,
}

impl Reloader {
    /// Creates the reloader of the configuration that the server starts with. Returns `None` if that has no file.
    pub(crate) fn new(mut sources: Sources, checked: Checked, live: Live) -> Option<Self> {
        let active = Arc::clone(checked.layers.file.as_ref()?);
        let file = active.path.clone();
        // Later loads read the file that was found, not one that appears in another folder.
        sources.typed.config = Some(file.clone());
        let files = Files::of(file.clone(), &checked);
        let is_newer = |file: &PathBuf| {
            let modified = std::fs::metadata(file).and_then(|metadata| metadata.modified());
            modified.is_ok_and(|modified| modified >= sources.read_at)
        };
        let content = block_in_place(|| {
            let is_as_read = !files.paths.iter().any(is_newer);
            is_as_read.then(|| files.content())
        });
        Some(Self {
            content,
            sources,
            active,
            hidden: Vec::new(),
            files,
            status: sync::watch::Sender::new(ConfigStatus::new(&file, faults::shown(&checked))),
            faults: Faults::of(&checked),
            warnings: checked.layers.warnings,
            slow: None,
            is_narrowed: false,
            slow_rights: None,
            config: checked.config,
            live,
        })
    }

    /// Returns the results of the last edits, and follows them.
    pub(crate) fn status(&self) -> sync::watch::Receiver<ConfigStatus> {
        self.status.subscribe()
    }

    /// Applies edits until the future is dropped.
    ///
    /// # Errors
    /// The system does not deliver signals.
    pub(crate) async fn run(mut self) -> std::io::Result<()> {
        let (mut causes, mut watched) = Causes::new(self.config.watch)?;
        let watch_state = causes.watch_state();
        // From here on, SIGHUP is handled.
        supervisor::notify(ServiceState::Ready);
        loop {
            let files = self.files.clone();
            let snapshot = on_thread(move || Snapshot::read(&files, watched)).await;
            watched = snapshot.watched;
            self.note_stale_mounts(snapshot.stale);
            if snapshot.is_watch_new {
                tracing::debug!("the files of the configuration are watched");
            }
            // What was saved before the start of the watch is not reported.
            let is_missed = (snapshot.is_watch_new || self.content.is_none())
                && self.content != Some(snapshot.content);
            let mut cause = if is_missed {
                Cause::Time
            } else {
                tokio::select! {
                    cause = causes.next(snapshot.has_reports) => cause,
                    // Not while a file is being written: its close is the next cause.
                    () = self.end_of_slow_load(), if !watch_state.check_writers() => Cause::Time,
                }
            };
            let mut content = self.files.read().await;
            if self.content != Some(content) && cause == Cause::Time {
                (content, cause) = causes.steady(content, || self.files.read()).await;
            }
            if cause == Cause::RightsOnly {
                self.revoke_early(&watch_state).await;
                continue;
            }
            let is_asked = cause == Cause::Asked;
            if is_asked {
                watch_state.clear();
            }
            // A file that an edit lacks may appear without any change to the files that are known.
            let has_failed = self.status.borrow().refused.is_some();
            // A supervisor that asked for the reload waits for its end. A retry of a rejected edit is not announced.
            if is_asked || self.content != Some(content) {
                supervisor::notify(ServiceState::Reloading);
                self.reload(content, is_asked, &watch_state).await;
                supervisor::notify(ServiceState::Ready);
            } else if has_failed || self.is_narrowed || self.slow.is_some() {
                self.reload(content, is_asked, &watch_state).await;
            }
        }
    }

    /// Waits for the end of the load that exceeded its limit; for ever if there is none. Cancel safe.
    async fn end_of_slow_load(&self) {
        let Some(ContentLoad { load, .. }) = &self.slow else {
            return pending().await;
        };
        while !load.is_finished() {
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    }

    /// Applies the configuration with this `content`, or rejects it.
    ///
    /// If a program has begun to write a file meanwhile, the content may be incomplete. Unless this reload `is_asked`, it then has no effect,
    /// and the close of the file triggers the next one. Rights that were revoked before stay revoked.
    async fn reload(&mut self, content: ContentHash, is_asked: bool, watch_state: &WatchState) {
        let is_incomplete = || !is_asked && watch_state.is_guard_written();
        let former = self.config.clone();
        let loaded = self.load(content, &is_incomplete).await;
        if !is_asked && watch_state.check_writers() {
            return self.warn_of_narrowing(&former, WAITS_FOR_CLOSE);
        }
        self.content = Some(content);
        let accept = |checked| {
            let accepted = block_in_place(|| self.faults.accept(checked));
            accepted.map_err(Rejection::Invalid)
        };
        match loaded.and_then(accept) {
            Ok(checked) => {
                let is_http = matches!(checked.config.transport, Transport::Http(_));
                // Each typed tool is compiled and rendered twice, which may take seconds with a slow template.
                block_in_place(|| self.apply(&former, checked));
                if !is_http {
                    self.revoke_before_restart(&is_incomplete).await;
                }
            }
            Err(rejection) => {
                self.narrow(&is_incomplete).await;
                self.warn_of_narrowing(&former, WAITS_FOR_VALID);
                self.refuse(&rejection, is_asked);
            }
        }
    }

    /// Reports in `status` which files were replaced outside of their mount, and logs a warning once for each.
    fn note_stale_mounts(&mut self, stale: Vec<(PathBuf, Problem)>) {
        let stale = stale
            .into_iter()
            .map(|(file, warning)| (file.display().to_string(), warning));
        let (files, warnings): (Vec<_>, Vec<_>) = stale.unzip();
        self.status.send_if_modified(|status| {
            let is_changed = status.stale_mounts != files;
            status.stale_mounts = files;
            is_changed
        });
        self.warn_of(warnings);
    }

    /// Logs those of `warnings` that are not logged already.
    fn warn_of(&mut self, warnings: Vec<Problem>) {
        for warning in warnings {
            // Numbers in a message may change with the file.
            let is_known = |known: &Problem| {
                (known.code, &known.address) == (warning.code, &warning.address)
                    && (known.address.is_some() || known.message == warning.message)
            };
            if !self.warnings.iter().any(is_known) {
                tracing::warn!(kind = warning.code, "{}", warning.line());
                self.warnings.push(warning);
            }
        }
    }

    /// Loads the configuration with this `content`. If the load takes long, revokes the rights that the edit no longer grants meanwhile.
    async fn load(
        &mut self,
        content: ContentHash,
        is_incomplete: &impl Fn() -> bool,
    ) -> Result<Checked, Rejection> {
        loop {
            let slow = self.slow.take();
            let mut running = slow.unwrap_or_else(|| {
                let sources = self.sources.clone();
                let load = move || check::load_again(&sources.typed, &sources.around);
                ContentLoad {
                    content,
                    load: spawn_blocking(load),
                }
            });
            let mut done = timeout(REVOCATION_DELAY, &mut running.load).await;
            if done.is_err() {
                self.narrow(is_incomplete).await;
                done = timeout(LOAD_LIMIT, &mut running.load).await;
            }
            match done {
                Ok(done) if running.content == content => {
                    let checked = done.map_err(|_panic| Rejection::Panicked)?;
                    return checked.map_err(Rejection::Invalid);
                }
                // The content was edited after this load began.
                Ok(_) => {}
                Err(_elapsed) => {
                    self.slow = Some(running);
                    return Err(Rejection::Slow);
                }
            }
        }
    }

    /// Makes `checked` the active configuration. Blocks.
    fn apply(&mut self, former: &Config, mut checked: Checked) {
        for model in &mut checked.config.models {
            let mut known = former.models.iter();
            if let Some(known) = known.find(|known| known.name == model.name) {
                model.keep_files_of(known);
            }
        }
        let diff = ConfigDiff::between(former, &checked.config);
        self.config = self.config.with_live_keys_of(&checked.config);
        self.live.apply(&self.config);
        if diff.is_empty() {
            tracing::info!("the configuration was reloaded: nothing changes");
        } else {
            tracing::info!("the new configuration is active\n{diff}");
        }
        if former.would_open(&checked.config) {
            tracing::warn!(
                "the configuration no longer has a token; the server refuses every request with 401 until an edit adds a token; to serve without tokens, restart the server"
            );
        }
        checked.log_tolerated_faults();
        self.warn_of(checked.layers.warnings.clone());
        self.files = Files::of(self.files.main.clone(), &checked);
        self.faults = Faults::of(&checked);
        let faults = faults::shown(&checked);
        let file = checked.layers.file;
        self.active = file.unwrap_or_else(|| Arc::clone(&self.active));
        self.hidden.clear();
        self.is_narrowed = false;
        self.warnings = checked.layers.warnings;
        let restart_required = diff.restart_required();
        metrics::reloaded(true);
        metrics::restart_required(!restart_required.is_empty());
        self.status
            .send_modify(|status| status.applied(Timestamp::now(), restart_required, faults));
    }

    /// Logs the rejected edit: once for each error, and again for each reload that was asked for.
    fn refuse(&self, rejection: &Rejection, is_asked: bool) {
        let text = rejection.to_string();
        let known = self.status.borrow().refused.clone();
        if !is_asked && known.is_some_and(|known| known.error == text) {
            return;
        }
        metrics::reloaded(false);
        tracing::error!(
            "the edit of the configuration was rejected; the previous configuration stays active\n{text}"
        );
        self.status
            .send_modify(|status| status.refused(Timestamp::now(), text));
    }
}
