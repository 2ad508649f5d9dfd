//! CPU turns: locks that keep loaded models from computing with more threads than there are CPUs.
//!
//! llama.cpp's threads wait for each other at every operation, so two models on the same cores each lose much more than half of their
//! speed. A worker therefore acquires a turn for every step: a lock on one of the files that all workers share, called places. The kernel
//! releases the lock of a worker that dies. A waiting worker holds the lock on the queue file, so a worker that is always busy cannot
//! acquire the next turn first.
//!
//! A worker may be hostile and hold a place or the queue forever. So no worker waits without bound ([`WaitBudget`]): once its budget is
//! used up it computes without turns, slower, until its pending request succeeds.

mod files;
mod wait_budget;
mod waiter;

use std::fs::File;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::worker::CpuLocks;
pub(crate) use files::TurnFiles;
use wait_budget::WaitBudget;
use waiter::Waiter;

/// Longest wait for a turn. A step usually takes up to a second, and nearly six if a tile of a prompt takes three.
const MAX_WAIT: Duration = Duration::from_secs(10);

/// A worker's access to the CPU turns.
#[derive(Debug)]
pub(crate) struct Turns {
    locks: Arc<Locks>,
    waiter: Waiter,
    budget: Mutex<WaitBudget>,
}

/// The open lock files: one for the queue, and one for each place.
#[derive(Debug)]
struct Locks {
    queue: File,
    /// Files of the places, at least one.
    places: Vec<File>,
}

/// Guard of a turn. `place` is `None` if the wait budget was used up. Dropping the guard releases the place.
#[derive(Debug)]
pub(crate) struct Turn<'turns> {
    turns: &'turns Turns,
    place: Option<usize>,
    began: Instant,
}

impl Turns {
    /// Opens the lock files that the server has created.
    ///
    /// # Errors
    /// The files cannot be opened.
    pub(crate) fn open(locks: &CpuLocks) -> io::Result<Self> {
        Self::with_budget(locks, MAX_WAIT)
    }

    fn with_budget(turns: &CpuLocks, max_wait: Duration) -> io::Result<Self> {
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

    /// Waits for a turn, at most as long as the wait budget lasts. Blocks, and calls `heartbeat` several times a second meanwhile.
    ///
    /// # Errors
    /// The system cannot lock the files.
    pub(crate) fn acquire(&self, heartbeat: impl Fn()) -> io::Result<Turn<'_>> {
        let place = self.place(&heartbeat)?;
        Ok(Turn {
            turns: self,
            place,
            began: Instant::now(),
        })
    }

    /// Returns whether other workers hold all turns at the moment, or wait for one. Does not block. The caller must not hold a turn.
    pub(crate) fn are_all_taken(&self) -> bool {
        match self.locks.try_lock_place() {
            Some(place) => {
                self.locks.release(place);
                false
            }
            None => true,
        }
    }

    /// Locks a place. Returns `None` if that exceeds the wait budget.
    fn place(&self, heartbeat: &dyn Fn()) -> io::Result<Option<usize>> {
        if self.waiter.is_waiting() {
            return Ok(None);
        }
        if let Some(place) = self.locks.try_lock_place() {
            return Ok(Some(place));
        }
        let began = Instant::now();
        let limit = self.budget().left();
        let place = self.waiter.wait(limit, heartbeat);
        self.budget().waited(began.elapsed());
        if matches!(place, Ok(None)) {
            tracing::debug!("no CPU turn within {limit:?}: computing without one");
        }
        place
    }

    fn budget(&self) -> std::sync::MutexGuard<'_, WaitBudget> {
        self.budget.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Locks {
    /// Locks a free place if no worker waits for one. Does not block.
    fn try_lock_place(&self) -> Option<usize> {
        self.queue.try_lock().ok()?;
        let place = self.try_any_place();
        unlock(&self.queue);
        place
    }

    /// Waits for a place behind the workers that already wait. Blocks.
    fn lock_place(&self) -> io::Result<usize> {
        self.queue.lock()?;
        let locked = if let Some(place) = self.try_any_place() {
            Ok(place)
        } else {
            // Any place will do, since each is held for one step.
            let place = std::process::id() as usize % self.places.len();
            self.places[place].lock().map(|()| place)
        };
        unlock(&self.queue);
        locked
    }

    fn try_any_place(&self) -> Option<usize> {
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
        tracing::error!(%error, "could not release a CPU turn");
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
