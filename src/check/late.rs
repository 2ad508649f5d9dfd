//! Checks that may take long: the chat templates of model files are foreign code. They come after a start or an edit, and their findings
//! go to the log.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;

use super::{Checked, load};
use crate::config::{Overrides, Surroundings};

/// How often late checks were started. Only the latest are of interest.
static LATEST: AtomicU64 = AtomicU64::new(0);

/// One after the other: each may keep a CPU busy.
static TURN: Mutex<()> = Mutex::new(());

/// Starts the checks that [`super::load_quickly`] left out for `quick`, which `typed` and `around` gave. They run on a thread of their
/// own and log what they find. Checks that were started before, and have not begun, are dropped.
pub fn start(quick: &Checked, typed: &Overrides, around: &Surroundings) {
    let mut models = quick.config.models.iter();
    let is_foreign = models
        .any(|model| model.load.chat_template.is_none() && model.header.chat_template.is_some());
    if !is_foreign {
        return;
    }
    let number = LATEST.fetch_add(1, Ordering::Relaxed) + 1;
    let (notes, doubts) = (quick.layers.notes.clone(), quick.doubts.clone());
    let (typed, around) = (typed.clone(), around.clone());
    let check = move || {
        let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        if LATEST.load(Ordering::Relaxed) != number {
            return;
        }
        // What cannot be loaded any more is an edit, which is told by itself.
        let Ok(checked) = load(&typed, &around) else {
            return;
        };
        for note in checked
            .layers
            .notes
            .iter()
            .filter(|note| !notes.contains(note))
        {
            tracing::info!("{note}");
        }
        for doubt in checked
            .doubts
            .iter()
            .filter(|doubt| !doubts.contains(doubt))
        {
            tracing::warn!("what follows does not work, the server runs without it\n{doubt}");
        }
    };
    let started = thread::Builder::new().name("checks".into()).spawn(check);
    if let Err(error) = started {
        tracing::warn!(%error, "chat templates are not checked");
    }
}
