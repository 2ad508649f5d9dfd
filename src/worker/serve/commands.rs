//! Reads commands from stdin, one per line.

use std::io::{BufRead, BufReader, Lines, Stdin, stdin};

use crate::worker::{Command, Launch};

/// Iterator over the commands until stdin ends. Blocks for each one, and skips invalid lines with an error in the log.
pub(super) struct Commands(Lines<BufReader<Stdin>>);

impl Commands {
    /// Reads commands from stdin.
    pub(super) fn from_stdin() -> Self {
        Self(BufReader::new(stdin()).lines())
    }

    /// Waits for the first command and returns the model to load. Returns `None` if the worker must end before that.
    pub(super) fn wait_for_load(&mut self) -> Option<Launch> {
        loop {
            match self.next()? {
                Command::Load(launch) => return Some(*launch),
                Command::Shutdown => return None,
                other => {
                    let command: &str = other.into();
                    tracing::error!(command, "the first command must be `load`");
                }
            }
        }
    }
}

impl Iterator for Commands {
    type Item = Command;

    fn next(&mut self) -> Option<Command> {
        loop {
            match serde_json::from_str(&self.0.next()?.ok()?) {
                Ok(command) => return Some(command),
                Err(error) => tracing::error!(%error, "invalid command"),
            }
        }
    }
}
