//! Commands as they come from stdin, a line each.

use std::io::{BufRead, BufReader, Lines, Stdin, stdin};

use crate::worker::{Command, Launch};

/// The commands until stdin ends; blocks between them. What is no command is logged, and skipped.
pub(super) struct Commands(Lines<BufReader<Stdin>>);

impl Commands {
    pub(super) fn of_stdin() -> Self {
        Self(BufReader::new(stdin()).lines())
    }

    /// The model to serve; none where the worker is to end before it was told.
    pub(super) fn wait_for_load(&mut self) -> Option<Launch> {
        loop {
            match self.next()? {
                Command::Load(launch) => return Some(*launch),
                Command::Shutdown => return None,
                other => {
                    tracing::error!(command = other.name(), "the first command must be `load`");
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
                Err(error) => tracing::error!(%error, "a command was not understood"),
            }
        }
    }
}
