//! Revokes the rights that an edit removes, although the rest of the edit is rejected or has to wait.

use std::sync::Arc;

use tokio::task::{JoinHandle, block_in_place, spawn_blocking};
use tokio::time::timeout;

use super::watch::WatchState;
use super::{LOAD_LIMIT, Reloader, Sources};
use crate::config::diff::ConfigDiff;
use crate::config::rights::Rights;
use crate::config::{Config, Transport};

/// Logged if a rejected edit revokes rights.
pub(super) const WAITS_FOR_VALID: &str = "rights that the rejected configuration removes are revoked; rights that it adds wait for a valid configuration";

/// Logged if an edit revokes rights while a program still writes a file of the configuration.
pub(super) const WAITS_FOR_CLOSE: &str = "rights that the edit removes are revoked; the rest of the edit waits for a file that is still open for writing";

/// Rights as two texts state them, with the token files as they are now.
#[derive(Debug)]
pub(super) struct Stated {
    /// Rights by the text of the active configuration: token files may have changed. `None` if they are unknown.
    active: Option<Rights>,
    /// Rights by the edited file. `None` if they are unknown.
    edited: Option<Rights>,
}

/// The reading of rights on a blocking thread.
pub(super) type Reading = JoinHandle<Stated>;

impl Reloader {
    /// Revokes the rights that the edited configuration no longer grants, even if it is invalid, and those of tokens whose files have changed.
    /// Does nothing if `is_incomplete` returns that a file is still being written. Reads no model file.
    pub(super) async fn narrow(&mut self, is_incomplete: &impl Fn() -> bool) {
        if self.config.transport == Transport::Stdio {
            return;
        }
        let Some(stated) = self.read_rights().await else {
            return;
        };
        let Transport::Http(http) = &self.config.transport else {
            return;
        };
        if is_incomplete() {
            return;
        }
        // Files of tokens count even if nothing of the edited configuration can be read.
        let rights = stated.active.iter().chain(&stated.edited);
        let narrowed = rights.fold((**http).clone(), |http, rights| {
            rights.narrow(&http, &self.config.models)
        });
        let hidden = narrowed.tokens.iter().filter(|token| {
            let may_hide = |edited: &Rights| edited.may_hide(&token.name);
            token.secret.is_ok() && stated.edited.as_ref().is_none_or(may_hide)
        });
        let hidden = hidden.map(|token| token.name.clone()).collect();
        self.warn_of_hidden(hidden);
        let narrowed = Transport::Http(Box::new(narrowed));
        if narrowed != self.config.transport {
            self.live.set_rules(&narrowed);
            self.config.transport = narrowed;
            self.is_narrowed = true;
        }
    }

    /// Reads the rights that are stated now. Returns `None` if a drive hangs.
    async fn read_rights(&mut self) -> Option<Stated> {
        loop {
            let slow = self.slow_rights.take();
            let is_new = slow.is_none();
            let mut reading = slow.unwrap_or_else(|| {
                let (sources, active) = (self.sources.clone(), Arc::clone(&self.active));
                spawn_blocking(move || {
                    let Sources { typed, around, .. } = &sources;
                    let text = active.text.clone();
                    Stated {
                        active: Rights::of_text(typed, around, &active.path, text),
                        edited: Rights::read(typed, around),
                    }
                })
            });
            match timeout(LOAD_LIMIT, &mut reading).await {
                // If it panics, the check of the configuration fails, too.
                Ok(stated) if is_new => return stated.ok(),
                // The file may have been edited since.
                Ok(_) => {}
                Err(_elapsed) => {
                    self.slow_rights = Some(reading);
                    return None;
                }
            }
        }
    }

    /// Revokes rights while a program writes a file on which no rights depend. The rest of the edit waits for the close of that file.
    pub(super) async fn revoke_early(&mut self, watch_state: &WatchState) {
        let former = self.config.clone();
        self.narrow(&|| watch_state.is_guard_written()).await;
        self.warn_of_narrowing(&former, WAITS_FOR_CLOSE);
    }

    /// Revokes the rights that an edit removes which also ends HTTP: the server stays on HTTP until it is restarted.
    pub(super) async fn revoke_before_restart(&mut self, is_incomplete: &impl Fn() -> bool) {
        let former = self.config.transport.clone();
        self.narrow(is_incomplete).await;
        if self.config.transport != former {
            tracing::warn!(
                "the server stays on HTTP until it is restarted; rights that the edit removes are revoked"
            );
        }
    }

    /// Logs once which tokens stay valid since a rejected configuration may hide them.
    fn warn_of_hidden(&mut self, hidden: Vec<String>) {
        if !hidden.is_empty() && hidden != self.hidden {
            tracing::warn!(
                "the rejected configuration may hide these tokens, so they stay valid: {}; correct the file to revoke one",
                hidden.join(", ")
            );
        }
        self.hidden = hidden;
    }

    /// Logs which rights an edit has revoked since `former`, and what the rest of the edit `waits` for.
    pub(super) fn warn_of_narrowing(&self, former: &Config, waits: &str) {
        if self.config.transport != former.transport {
            let diff = block_in_place(|| ConfigDiff::between(former, &self.config));
            tracing::warn!("{waits}\n{diff}");
        }
    }
}
