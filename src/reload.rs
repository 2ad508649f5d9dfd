//! Edits of the configuration become live: causes → load → plan → apply, or keep what is in force.
//!
//! One task does it, one edit after the other. A cause (a change in a folder, the time for a look, SIGHUP) says only
//! that something may be different; what counts is the content of the files. It is read before they are loaded, so an edit
//! that is saved meanwhile differs from it and is loaded next.

mod watch;

use std::collections::BTreeSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::PathBuf;
use std::time::SystemTime;

use jiff::Timestamp;
use tokio::sync;
use tokio::task::JoinError;

use crate::app::Live;
use crate::check::{self, Checked};
use crate::config::diff::ConfigDiff;
use crate::config::interpolate::read_text;
use crate::config::rights::Rights;
use crate::config::{Config, ConfigError, Overrides, Surroundings, Transport};
use crate::process::mounted::{self, Mounted};
use crate::status::ConfigStatus;
use crate::supervisor::{self, Phase};
use crate::telemetry::metrics;
use watch::{Cause, Causes};

/// What a configuration is made of.
#[derive(Debug, Clone)]
pub struct Sources {
    /// The command line.
    pub typed: Overrides,
    /// Variables and machine.
    pub around: Surroundings,
    /// When they were first read: what was saved since is read again.
    pub read_at: SystemTime,
}

/// A configuration that was checked, or else the rights that it states. An error if the check panicked.
type Loaded = Result<(Result<Checked, ConfigError>, Option<Rights>), JoinError>;

/// The owner of the configuration in force.
#[derive(Debug)]
pub struct Reloader {
    sources: Sources,
    config: Config,
    /// The file, and those that its texts name.
    files: Vec<PathBuf>,
    /// Of what is in force, or was refused last.
    content: u64,
    status: sync::watch::Sender<ConfigStatus>,
    live: Live,
}

impl Reloader {
    /// Of what is in force at the start. None where that is of no file.
    pub fn new(mut sources: Sources, checked: Checked, live: Live) -> Option<Self> {
        let file = checked.layers.file.as_ref()?.path.clone();
        // The one that was found stays the one.
        sources.typed.config = Some(file.clone());
        let files = files_of(file.clone(), &checked);
        let is_newer = |file: &PathBuf| {
            let modified = std::fs::metadata(file).and_then(|metadata| metadata.modified());
            modified.is_ok_and(|modified| modified >= sources.read_at)
        };
        let is_as_read = !files.iter().any(is_newer);
        Some(Self {
            content: if is_as_read { content_of(&files) } else { 0 },
            sources,
            files,
            config: checked.config,
            status: sync::watch::Sender::new(ConfigStatus::of(file)),
            live,
        })
    }

    /// How the last edits went.
    pub fn status(&self) -> sync::watch::Receiver<ConfigStatus> {
        self.status.subscribe()
    }

    /// Takes edits over until the future is dropped.
    ///
    /// # Errors
    /// Where the system gives no signals.
    pub async fn run(mut self) -> std::io::Result<()> {
        let mut causes = Causes::new(self.config.watch)?;
        // From here on it is heard when it is asked to read again.
        supervisor::tell(Phase::Ready);
        loop {
            causes.observe(&self.files);
            self.note_stale_mounts();
            if self.content == 0 {
                let content = content_of(&self.files);
                let loaded = self.load().await;
                self.take(loaded, content, false);
            }
            let mut cause = causes.next().await;
            let mut content = content_of(&self.files);
            if content != self.content && cause == Cause::Time {
                (content, cause) = causes.steady(content, || content_of(&self.files)).await;
            }
            let is_asked = cause == Cause::Asked;
            // A file that is missing to an edit may come without any change of those that are known.
            let has_failed = self.status.borrow().refused.is_some();
            // Whoever asked waits for the end of it; another look at what was refused is nobody's business.
            let is_told = is_asked || content != self.content;
            if !is_told && !has_failed {
                continue;
            }
            if is_told {
                supervisor::tell(Phase::Reloading);
            }
            let loaded = self.load().await;
            // A program that began to write meanwhile may have left half a file; its close is the next cause.
            if is_asked || !causes.is_written() {
                self.take(loaded, content, is_asked);
            }
            if is_told {
                supervisor::tell(Phase::Ready);
            }
        }
    }

    /// Loads and checks the configuration, and reads its rights if it is rejected.
    async fn load(&self) -> Loaded {
        let sources = self.sources.clone();
        let load = move || {
            let loaded = check::load(&sources.typed, &sources.around);
            let is_rejected = loaded.is_err();
            let rights = is_rejected.then(|| Rights::read(&sources.typed, &sources.around));
            (loaded, rights.flatten())
        };
        tokio::task::spawn_blocking(load).await
    }

    /// Applies what was loaded from files of this `content`, or rejects it.
    fn take(&mut self, loaded: Loaded, content: u64, is_asked: bool) {
        self.content = content;
        match loaded {
            Ok((Ok(checked), _)) => self.apply(checked),
            Ok((Err(error), rights)) => {
                self.narrow(rights.as_ref());
                self.refuse(&error, is_asked);
            }
            Err(panic) => tracing::error!(%panic, "the configuration could not be checked"),
        }
    }

    /// Notes for `status` which files were replaced outside of their mount, and warns once of each.
    fn note_stale_mounts(&self) {
        let files = self.files.iter();
        let stale: Vec<PathBuf> = files
            .filter(|file| Mounted::of(file).is_stale)
            .cloned()
            .collect();
        let known = self.status.borrow().stale_mounts.clone();
        if stale == known {
            return;
        }
        let noted = stale.clone();
        self.status
            .send_modify(|status| status.stale_mounts = noted);
        for file in stale.iter().filter(|file| !known.contains(file)) {
            tracing::warn!("{}", mounted::stale(file));
        }
    }

    fn apply(&mut self, checked: Checked) {
        let diff = ConfigDiff::between(&self.config, &checked.config);
        self.live.apply(&checked.config);
        if diff == ConfigDiff::default() {
            tracing::info!("the configuration was read again: nothing changes");
        } else {
            tracing::info!("an edit of the configuration is in force\n{diff}");
        }
        for doubt in &checked.doubts {
            tracing::warn!("what follows does not work, the server runs without it\n{doubt}");
        }
        let file = self.files[0].clone();
        self.files = files_of(file, &checked);
        self.config = self.config.with_live_keys_of(checked.config);
        metrics::reloaded(true);
        self.status
            .send_modify(|status| status.applied(Timestamp::now()));
    }

    /// Takes away the rights that a rejected configuration no longer states.
    fn narrow(&mut self, rights: Option<&Rights>) {
        let (Some(rights), Transport::Http(http)) = (rights, &self.config.transport) else {
            return;
        };
        let narrowed = Transport::Http(Box::new(rights.narrow(http)));
        if narrowed == self.config.transport {
            return;
        }
        let config = Config {
            transport: narrowed,
            ..self.config.clone()
        };
        let diff = ConfigDiff::between(&self.config, &config);
        self.live.set_rules(&config.transport);
        self.config = config;
        tracing::warn!(
            "rights that the rejected configuration takes away have ended; what it grants waits for a valid configuration\n{diff}"
        );
    }

    /// Tells it once, and to whoever asks.
    fn refuse(&self, error: &ConfigError, is_asked: bool) {
        let text = error.told();
        let known = self.status.borrow().refused.clone();
        if !is_asked && known.is_some_and(|known| known.error == text) {
            return;
        }
        metrics::reloaded(false);
        tracing::error!(
            "the edit of the configuration is not taken over, what was in force stays\n{text}"
        );
        self.status
            .send_modify(|status| status.refused(Timestamp::now(), text));
    }
}

/// `file`, and all whose content is part of the configuration.
fn files_of(file: PathBuf, checked: &Checked) -> Vec<PathBuf> {
    let mut files = vec![file];
    files.extend(checked.layers.files.iter().cloned());
    let mut seen = BTreeSet::new();
    files.retain(|file| seen.insert(file.clone()));
    files
}

/// Tells one content of `files` from another; a missing one counts.
fn content_of(files: &[PathBuf]) -> u64 {
    let mut hasher = DefaultHasher::new();
    for file in files {
        read_text(file).ok().hash(&mut hasher);
    }
    hasher.finish()
}
