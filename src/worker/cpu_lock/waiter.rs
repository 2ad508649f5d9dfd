//! A thread that waits for a turn, so that the computing thread can stop waiting: a blocked file lock cannot be cancelled.

use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use super::Locks;
use crate::worker::TURNS;

/// Interval of the heartbeats of a waiting thread, shorter than the shortest `stall_timeout`.
const HEARTBEAT_INTERVAL: Duration = Duration::from_millis(250);

/// Handle of the waiting thread. The thread starts with the first wait, so that the sandbox applies to it.
#[derive(Debug)]
pub(super) struct Waiter {
    shared: Arc<Shared>,
    is_started: Mutex<bool>,
}

#[derive(Debug)]
struct Shared {
    locks: Arc<Locks>,
    request: Mutex<Request>,
    changed: Condvar,
}

/// State of the request for a turn. There is at most one.
#[derive(Debug)]
enum Request {
    /// No request was made.
    None,
    /// The thread waits for a turn.
    Waiting,
    /// The caller stopped waiting, but the thread still waits.
    Abandoned,
    /// The thread has locked this place, or failed.
    Done(io::Result<usize>),
    /// The waiter was dropped: no further request will come.
    Closed,
}

impl Waiter {
    /// Creates a waiter for `locks`.
    pub(super) fn new(locks: Arc<Locks>) -> Self {
        Self {
            shared: Arc::new(Shared {
                locks,
                request: Mutex::new(Request::None),
                changed: Condvar::new(),
            }),
            is_started: Mutex::new(false),
        }
    }

    /// Returns whether the thread still waits for a turn for which the caller has stopped waiting.
    pub(super) fn is_waiting(&self) -> bool {
        matches!(*self.shared.request(), Request::Abandoned)
    }

    /// Returns whether both the thread and its caller wait for a turn.
    #[cfg(test)]
    pub(super) fn is_awaited(&self) -> bool {
        matches!(*self.shared.request(), Request::Waiting)
    }

    /// Waits for a turn, at most for `limit`, and calls `heartbeat` several times a second meanwhile. Returns the place, or `None` after
    /// `limit`.
    ///
    /// # Errors
    /// The system cannot lock the files, or cannot start the thread.
    pub(super) fn wait(&self, limit: Duration, heartbeat: &dyn Fn()) -> io::Result<Option<usize>> {
        self.start()?;
        *self.shared.request() = Request::Waiting;
        self.shared.changed.notify_all();
        let until = Instant::now() + limit;
        let mut request = loop {
            let left = until.saturating_duration_since(Instant::now());
            let request = self.shared.wait_for_end(left.min(HEARTBEAT_INTERVAL));
            if !matches!(*request, Request::Waiting) || left.is_zero() {
                break request;
            }
            drop(request);
            heartbeat();
        };
        if let Request::Done(place) = std::mem::replace(&mut *request, Request::None) {
            return place.map(Some);
        }
        *request = Request::Abandoned;
        Ok(None)
    }

    fn start(&self) -> io::Result<()> {
        let started = self.is_started.lock();
        let mut is_started = started.unwrap_or_else(PoisonError::into_inner);
        if !*is_started {
            let shared = Arc::clone(&self.shared);
            let builder = thread::Builder::new().name(TURNS.into());
            builder.spawn(move || while shared.serve_one() {})?;
            *is_started = true;
        }
        Ok(())
    }
}

impl Drop for Waiter {
    fn drop(&mut self) {
        *self.shared.request() = Request::Closed;
        self.shared.changed.notify_all();
    }
}

impl Shared {
    fn request(&self) -> MutexGuard<'_, Request> {
        self.request.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until the request is done, at most for `limit`.
    fn wait_for_end(&self, limit: Duration) -> MutexGuard<'_, Request> {
        let is_waiting = |request: &mut Request| matches!(request, Request::Waiting);
        let waited = self
            .changed
            .wait_timeout_while(self.request(), limit, is_waiting);
        waited.unwrap_or_else(PoisonError::into_inner).0
    }

    /// Waits for a request, and then for its turn. Returns `false` once the waiter is dropped.
    fn serve_one(&self) -> bool {
        let is_idle = |request: &mut Request| matches!(request, Request::None | Request::Done(_));
        let request = self.changed.wait_while(self.request(), is_idle);
        let request = request.unwrap_or_else(PoisonError::into_inner);
        if matches!(*request, Request::Closed) {
            return false;
        }
        drop(request);
        let locked = self.locks.lock_place();
        let mut request = self.request();
        if matches!(*request, Request::Waiting) {
            *request = Request::Done(locked);
            self.changed.notify_all();
            return true;
        }
        if let Ok(place) = locked {
            self.locks.release(place);
        }
        let is_closed = matches!(*request, Request::Closed);
        if !is_closed {
            *request = Request::None;
        }
        !is_closed
    }
}
