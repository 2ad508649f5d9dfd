//! Turns at the CPUs: loaded models together compute with no more threads than there are.
//!
//! llama.cpp's threads wait for each other at every operation, so two models that want the same cores lose much more than half
//! their speed each. A worker therefore takes a turn for every step, by a lock on a file that all workers share; the
//! kernel gives a dead worker's turn back. Whoever waits for a turn holds the queue, so a worker that is busy without
//! pause cannot take the next turn before it.
//!
//! A worker may be hostile, and hold a turn or the queue for ever. So nobody waits without bound (`WaitBudget`): a model whose
//! patience is used up computes without turns, slower, until its request for one comes through.

mod files;
mod wait_budget;
mod waiter;

use std::fs::File;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::config::model::CpuTurns;
pub(crate) use files::TurnFiles;
use wait_budget::WaitBudget;
use waiter::Waiter;

/// How long a turn is waited for at most. A step takes a second as a rule, and nearly six where a tile of a prompt takes three.
const MAX_WAIT: Duration = Duration::from_secs(10);

/// A worker's view of the turns.
#[derive(Debug)]
pub(crate) struct Turns {
    locks: Arc<Locks>,
    waiter: Waiter,
    budget: Mutex<WaitBudget>,
}

/// The lock files: one for the queue, one for each place.
#[derive(Debug)]
struct Locks {
    queue: File,
    /// At least one.
    places: Vec<File>,
}

/// A turn to compute. It has no place if patience was used up. Dropping it frees the place.
#[derive(Debug)]
pub(crate) struct Turn<'turns> {
    turns: &'turns Turns,
    place: Option<usize>,
    began: Instant,
}

impl Turns {
    /// Opens what the server has made.
    ///
    /// # Errors
    /// If the files cannot be opened.
    pub(crate) fn open(turns: &CpuTurns) -> io::Result<Self> {
        Self::with_budget(turns, MAX_WAIT)
    }

    fn with_budget(turns: &CpuTurns, max_wait: Duration) -> io::Result<Self> {
        let places = turns.places.iter();
        let places: Vec<File> = places
            .map(|path| files::open(path))
            .collect::<Result<_, _>>()?;
        if places.is_empty() {
            return Err(io::ErrorKind::NotFound.into());
        }
        let locks = Arc::new(Locks {
            queue: files::open(&turns.queue)?,
            places,
        });
        Ok(Self {
            waiter: Waiter::new(Arc::clone(&locks)),
            locks,
            budget: Mutex::new(WaitBudget::new(max_wait)),
        })
    }

    /// Waits for a turn until the patience ends. Blocks, and calls `heartbeat` several times a second meanwhile.
    ///
    /// # Errors
    /// If the system cannot lock files there.
    pub(crate) fn acquire(&self, heartbeat: impl Fn()) -> io::Result<Turn<'_>> {
        let place = self.place(&heartbeat)?;
        Ok(Turn {
            turns: self,
            place,
            began: Instant::now(),
        })
    }

    /// Locks a place. Returns `None` if that takes too long.
    fn place(&self, heartbeat: &dyn Fn()) -> io::Result<Option<usize>> {
        if self.waiter.is_waiting() {
            return Ok(None);
        }
        if let Some(place) = self.locks.try_take() {
            return Ok(Some(place));
        }
        let began = Instant::now();
        let limit = self.budget().left();
        let place = self.waiter.wait(limit, heartbeat);
        self.budget().waited(began.elapsed());
        if matches!(place, Ok(None)) {
            tracing::debug!("no CPU turn within {limit:?}; computing without one");
        }
        place
    }

    fn budget(&self) -> std::sync::MutexGuard<'_, WaitBudget> {
        self.budget.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Locks {
    /// Takes a free place if nobody waits for one.
    fn try_take(&self) -> Option<usize> {
        self.queue.try_lock().ok()?;
        let place = self.try_place();
        unlock(&self.queue);
        place
    }

    /// Waits for a place behind those that wait already; blocks.
    fn take(&self) -> io::Result<usize> {
        self.queue.lock()?;
        let taken = if let Some(place) = self.try_place() {
            Ok(place)
        } else {
            // Any will do: all are taken for one step.
            let place = std::process::id() as usize % self.places.len();
            self.places[place].lock().map(|()| place)
        };
        unlock(&self.queue);
        taken
    }

    fn try_place(&self) -> Option<usize> {
        self.places
            .iter()
            .position(|place| place.try_lock().is_ok())
    }

    fn release(&self, place: usize) {
        unlock(&self.places[place]);
    }
}

fn unlock(file: &File) {
    if let Err(error) = file.unlock() {
        tracing::error!(%error, "a turn at the CPUs could not be given back");
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        if let Some(place) = self.place {
            self.turns.locks.release(place);
        }
        self.turns.budget().computed(self.began.elapsed());
    }
}

#[cfg(test)]
mod tests;
