//! Turns at the CPUs: loaded models together compute with no more threads than there are.
//!
//! llama.cpp's threads wait for each other at every operation, so two models that want the same cores lose much more than half
//! their speed each. A worker therefore takes a turn for every step, by a lock on a file that all workers share; the
//! kernel gives a dead worker's turn back. Whoever waits for a turn holds the queue, so a worker that is busy without
//! pause cannot take the next turn before it.

use std::fs::{File, OpenOptions};
use std::io;
use std::path::PathBuf;

use crate::config::model::CpuTurns;

/// A worker's view of the turns.
#[derive(Debug)]
pub struct Turns {
    queue: File,
    places: Vec<File>,
}

/// A turn, given back when it is dropped.
#[derive(Debug)]
pub struct Turn<'turns>(&'turns File);

impl Turns {
    /// Opens what the server has made.
    ///
    /// # Errors
    /// Where the files cannot be opened.
    pub fn open(turns: &CpuTurns) -> io::Result<Self> {
        let mut files =
            paths(turns).map(|path| OpenOptions::new().read(true).write(true).open(path));
        let queue = files.next().ok_or(io::ErrorKind::NotFound)??;
        Ok(Self {
            queue,
            places: files.collect::<io::Result<_>>()?,
        })
    }

    /// Waits for a turn; blocks.
    ///
    /// # Errors
    /// Where the system cannot lock files there.
    pub fn take(&self) -> io::Result<Turn<'_>> {
        self.queue.lock()?;
        let free = self.places.iter().find(|place| place.try_lock().is_ok());
        let taken = if let Some(place) = free {
            Ok(place)
        } else {
            // Any will do: all are taken for one step.
            let place = &self.places[std::process::id() as usize % self.places.len()];
            place.lock().map(|()| place)
        };
        self.queue.unlock()?;
        taken.map(Turn)
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        if let Err(error) = self.0.unlock() {
            tracing::error!(%error, "a turn at the CPUs could not be given back");
        }
    }
}

/// The server's side: the files, as long as it is there.
#[derive(Debug)]
pub struct TurnFiles(CpuTurns);

impl TurnFiles {
    /// Turns for models of which the widest computes with `n_threads`, on `cpus`.
    ///
    /// # Errors
    /// Where no files can be made in the folder for temporary ones.
    pub fn create(n_threads: usize, cpus: usize) -> io::Result<Self> {
        let name = format!("llama-mcp-server-{}", uuid::Uuid::new_v4());
        let turns = CpuTurns {
            path: std::env::temp_dir().join(name),
            places: Self::places(n_threads, cpus),
        };
        for path in paths(&turns) {
            File::create_new(path)?;
        }
        Ok(Self(turns))
    }

    /// How many models of `n_threads` may compute at once on `cpus`.
    pub fn places(n_threads: usize, cpus: usize) -> usize {
        (cpus / n_threads.max(1)).max(1)
    }

    /// What a worker is told.
    pub fn turns(&self) -> CpuTurns {
        self.0.clone()
    }
}

impl Drop for TurnFiles {
    fn drop(&mut self) {
        for path in paths(&self.0) {
            if let Err(error) = std::fs::remove_file(path) {
                tracing::debug!(%error, "a file of turns stays");
            }
        }
    }
}

/// The queue's file and the places'.
fn paths(turns: &CpuTurns) -> impl Iterator<Item = PathBuf> + use<> {
    let path = turns.path.clone();
    (0..=turns.places).map(move |n| path.with_added_extension(n.to_string()))
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;
    use std::thread;

    use super::*;

    #[test]
    fn there_are_as_many_turns_as_threads_fit_the_cpus() {
        let places = [(4, 2), (2, 2), (1, 2), (4, 16)].map(|(n_threads, cpus)| {
            let files = TurnFiles::create(n_threads, cpus).unwrap();
            files.turns().places
        });
        assert_eq!(places, [1, 1, 2, 4]);
    }

    #[test]
    fn who_waits_comes_before_who_has_just_had_a_turn() {
        let files = TurnFiles::create(1, 1).unwrap();
        let (busy, other) = (
            Turns::open(&files.turns()).unwrap(),
            Turns::open(&files.turns()).unwrap(),
        );
        let mine = busy.take().unwrap();
        let (took, order) = channel();
        thread::scope(|scope| {
            let other_took = took.clone();
            let other = &other;
            scope.spawn(move || {
                let turn = other.take().unwrap();
                other_took.send("other").unwrap();
                drop(turn);
            });
            // It waits as soon as it holds the queue.
            while other_is_not_waiting(&busy) {
                thread::yield_now();
            }
            drop(mine);
            let again = busy.take().unwrap();
            took.send("busy").unwrap();
            drop(again);
        });
        assert_eq!(order.try_iter().collect::<Vec<_>>(), ["other", "busy"]);
    }

    fn other_is_not_waiting(turns: &Turns) -> bool {
        let is_free = turns.queue.try_lock().is_ok();
        if is_free {
            turns.queue.unlock().unwrap();
        }
        is_free
    }
}
