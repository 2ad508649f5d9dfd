//! The log of a running server.

use std::io::{BufRead, BufReader, Read};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::{self, JoinHandle};

use super::LIMIT;

/// The log of a server, read while the server runs.
pub(crate) struct Log {
    text: Arc<(Mutex<String>, Condvar)>,
    reader: Option<JoinHandle<()>>,
}

impl Log {
    /// Reads `stderr` to its end in a thread.
    pub(crate) fn follow(stderr: impl Read + Send + 'static) -> Self {
        let text = Arc::new((Mutex::default(), Condvar::new()));
        let shared = Arc::clone(&text);
        let reader = thread::spawn(move || {
            let mut stderr = BufReader::new(stderr);
            let mut line = Vec::new();
            while stderr
                .read_until(b'\n', &mut line)
                .is_ok_and(|read| read > 0)
            {
                let (text, grown): &(Mutex<String>, Condvar) = &shared;
                text.lock()
                    .unwrap()
                    .push_str(&String::from_utf8_lossy(&line));
                grown.notify_all();
                line.clear();
            }
            shared.1.notify_all();
        });
        Self {
            text,
            reader: Some(reader),
        }
    }

    /// Waits until `wanted` returns `Some` for the log so far.
    pub(crate) fn find<T>(&self, wanted: impl Fn(&str) -> Option<T>) -> T {
        let (text, grown) = &*self.text;
        let mut found = None;
        let text = text.lock().unwrap();
        let (text, _) = grown
            .wait_timeout_while(text, LIMIT, |text| {
                found = wanted(text);
                found.is_none()
            })
            .unwrap();
        found.unwrap_or_else(|| panic!("not in the log: {text}"))
    }

    /// Returns whether `text` has been logged so far.
    #[cfg(target_os = "linux")]
    pub(crate) fn has(&self, text: &str) -> bool {
        self.text.0.lock().unwrap().contains(text)
    }

    /// Waits until `text` has been logged.
    pub(crate) fn wait_for(&self, text: &str) {
        self.find(|log| log.contains(text).then_some(()));
    }

    /// Waits until `text` has been logged at least `times` times.
    pub(crate) fn wait_for_times(&self, text: &str, times: usize) {
        self.find(|log| (log.matches(text).count() >= times).then_some(()));
    }

    /// Returns the whole log. Call it after the server has exited.
    pub(crate) fn all(&mut self) -> String {
        if let Some(reader) = self.reader.take() {
            reader.join().unwrap();
        }
        self.text.0.lock().unwrap().clone()
    }
}
