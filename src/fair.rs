//! Concurrency limit for CPU-heavy work of clients: a few at a time, one per client, round robin, at low priority.

use std::collections::{HashSet, VecDeque};
use std::fmt;
use std::panic::resume_unwind;
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};
use std::thread;

use tokio::sync::oneshot;

use crate::process;

/// Limits the parsing of large messages and the checks of schemas.
pub(crate) static HEAVY: LazyLock<FairSemaphore> = LazyLock::new(|| {
    let cpus = thread::available_parallelism().map_or(1, usize::from);
    FairSemaphore::new((cpus / 2).clamp(1, MAX_HEAVY))
});

/// Most permits for heavy work: the models need the other CPUs.
const MAX_HEAVY: usize = 4;

/// The stack of a thread for heavy work, in bytes.
const STACK: usize = 32 * 1024 * 1024;

/// A semaphore for CPU-heavy work. A client holds at most one permit, and waiting clients are served round robin.
#[derive(Debug)]
pub(crate) struct FairSemaphore(Mutex<State>);

#[derive(Debug)]
struct State {
    free: usize,
    /// Clients that hold a permit.
    holders: HashSet<String>,
    /// Waiting clients, the next one first. Each has its waiters in the order of their arrival.
    waiting: VecDeque<(String, VecDeque<oneshot::Sender<Permit>>)>,
}

/// A permit to do heavy work. Dropping it admits the next waiter.
#[derive(Debug)]
pub(crate) struct Permit {
    semaphore: &'static FairSemaphore,
    /// `None` once the permit was released.
    client: Option<String>,
}

impl FairSemaphore {
    /// Creates a semaphore with `permits`.
    pub(crate) fn new(permits: usize) -> Self {
        Self(Mutex::new(State {
            free: permits,
            holders: HashSet::new(),
            waiting: VecDeque::new(),
        }))
    }

    /// Waits for a permit for `client`. Dropping the future leaves the queue.
    pub(crate) async fn acquire(&'static self, client: &str) -> Permit {
        let (sender, permit) = oneshot::channel();
        self.lock().push(client, sender);
        self.admit();
        permit.await.expect("a sender waits until it is served")
    }

    /// Serves waiters as long as there are permits for them.
    fn admit(&'static self) {
        loop {
            let next = self.lock().next();
            let Some((client, sender)) = next else { return };
            let permit = Permit {
                semaphore: self,
                client: Some(client),
            };
            if let Err(mut permit) = sender.send(permit)
                && let Some(client) = permit.client.take()
            {
                // The waiter is gone. Released by hand, since dropping the permit would call this method recursively.
                self.lock().release(&client);
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn push(&mut self, client: &str, sender: oneshot::Sender<Permit>) {
        match self.waiting.iter_mut().find(|(known, _)| known == client) {
            Some((_, senders)) => {
                senders.retain(|sender| !sender.is_closed());
                senders.push_back(sender);
            }
            None => self.waiting.push_back((client.to_owned(), [sender].into())),
        }
    }

    /// Grants a permit to the next waiter of the first client that holds none, and removes the waiter. The client becomes the last in the queue.
    fn next(&mut self) -> Option<(String, oneshot::Sender<Permit>)> {
        if self.free == 0 {
            return None;
        }
        let at = self
            .waiting
            .iter()
            .position(|(client, _)| !self.holders.contains(client))?;
        let (client, mut senders) = self.waiting.remove(at)?;
        let sender = senders.pop_front()?;
        if !senders.is_empty() {
            self.waiting.push_back((client.clone(), senders));
        }
        self.free -= 1;
        self.holders.insert(client.clone());
        Some((client, sender))
    }

    fn release(&mut self, client: &str) {
        self.free += 1;
        self.holders.remove(client);
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if let Some(client) = self.client.take() {
            self.semaphore.lock().release(&client);
            self.semaphore.admit();
        }
    }
}

/// Permits that a large message holds while it exists as a tree of JSON values. Clones share them. The default is for a small message,
/// which holds none.
#[derive(Clone, Default)]
pub(crate) struct MessagePermits(Option<Arc<Mutex<Option<Permits>>>>);

/// Permits of any type, which are released when they are dropped.
type Permits = Box<dyn Send>;

impl MessagePermits {
    /// Creates the `permits` of a large message.
    pub(crate) fn new(permits: impl Send + 'static) -> Self {
        Self(Some(Arc::new(Mutex::new(Some(Box::new(permits))))))
    }

    /// Returns whether the message is large: its client holds a permit of [`HEAVY`] until the tree is gone.
    pub(crate) fn is_large(&self) -> bool {
        self.0.is_some()
    }

    /// Does `work` on the tree. For a large message, the work is done outside of the runtime.
    pub(crate) fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        match &self.0 {
            None => work(),
            Some(_) => run_blocking(work),
        }
    }

    /// Does `work`, which turns the tree into something smaller, and releases the permits. For a large message, the work is done outside of
    /// the runtime.
    pub(crate) fn run_and_release<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        let done = self.run(work);
        if let Some(permits) = &self.0 {
            drop(
                permits
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .take(),
            );
        }
        done
    }
}

impl fmt::Debug for MessagePermits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MessagePermits")
            .field("is_large", &self.is_large())
            .finish_non_exhaustive()
    }
}

/// Does `work` at low priority and waits for it. If this is a thread of the runtime, another thread takes over its tasks meanwhile. The
/// caller's own task waits: it cannot be cancelled until `work` is done.
pub(crate) fn run_blocking<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    use tokio::runtime::{Handle, RuntimeFlavor};
    match Handle::try_current().map(|runtime| runtime.runtime_flavor()) {
        Ok(RuntimeFlavor::MultiThread) => tokio::task::block_in_place(|| at_low_priority(work)),
        _ => at_low_priority(work),
    }
}

/// Does `work` on a new thread at low priority, and waits for it. No thread is reused, because a thread cannot raise its priority again.
pub(crate) fn at_low_priority<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    let work = Mutex::new(Some(work));
    let take = || work.lock().unwrap_or_else(PoisonError::into_inner).take();
    let done = thread::scope(|scope| {
        let thread = thread::Builder::new()
            .name("heavy".into())
            .stack_size(STACK);
        let thread = thread.spawn_scoped(scope, || {
            process::lower_priority();
            take().map(|work| work())
        });
        let done = thread.map(|thread| thread.join().unwrap_or_else(|panic| resume_unwind(panic)));
        done.ok().flatten()
    });
    done.unwrap_or_else(|| {
        // The system refused to start a thread, so the work is done here.
        let work = take().expect("no thread has taken the work");
        work()
    })
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    use super::*;

    fn semaphore(permits: usize) -> &'static FairSemaphore {
        Box::leak(Box::new(FairSemaphore::new(permits)))
    }

    /// Returns the permit of a future that is ready.
    fn poll(future: &mut (impl Future<Output = Permit> + Unpin)) -> Option<Permit> {
        match std::pin::Pin::new(future).poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(permit) => Some(permit),
            Poll::Pending => None,
        }
    }

    #[test]
    fn a_client_holds_one_permit_and_does_not_block_others() {
        let semaphore = semaphore(2);
        let mut first = pin!(semaphore.acquire("a"));
        let first = poll(&mut first).unwrap();
        let mut second = pin!(semaphore.acquire("a"));
        assert!(poll(&mut second).is_none());
        let mut other = pin!(semaphore.acquire("b"));
        let other = poll(&mut other).unwrap();
        drop(first);
        assert!(poll(&mut second).is_some());
        drop(other);
    }

    #[test]
    fn clients_are_served_round_robin_however_many_waiters_each_has() {
        let semaphore = semaphore(1);
        let mut holder = pin!(semaphore.acquire("x"));
        let mut held = poll(&mut holder).unwrap();
        let mut waiting: Vec<_> = ["a", "a", "a", "b", "c", "b"]
            .into_iter()
            .map(|client| (client, Box::pin(semaphore.acquire(client))))
            .collect();
        for (_, one) in &mut waiting {
            assert!(poll(one).is_none());
        }
        let mut order = Vec::new();
        while !waiting.is_empty() {
            drop(held);
            let mut served = waiting.iter_mut().enumerate();
            let (at, permit) = served
                .find_map(|(at, (_, one))| Some((at, poll(one)?)))
                .unwrap();
            order.push(waiting.remove(at).0);
            held = permit;
        }
        assert_eq!(order, ["a", "b", "c", "a", "b", "a"]);
    }

    #[test]
    fn many_cancelled_waiters_neither_accumulate_nor_overflow_the_stack() {
        let semaphore = semaphore(1);
        let mut holder = pin!(semaphore.acquire("a"));
        let held = poll(&mut holder).unwrap();
        for number in 0..20_000 {
            let client = if number % 2 == 0 {
                "a".to_owned()
            } else {
                format!("b{number}")
            };
            assert!(poll(&mut Box::pin(semaphore.acquire(&client))).is_none());
        }
        assert!(semaphore.lock().waiting[0].1.len() < 2);
        drop(held);
        let mut last = pin!(semaphore.acquire("c"));
        assert!(poll(&mut last).is_some());
    }

    #[test]
    fn a_cancelled_waiter_does_not_block_others() {
        let semaphore = semaphore(1);
        let mut holder = pin!(semaphore.acquire("a"));
        let held = poll(&mut holder).unwrap();
        let mut gone = Box::pin(semaphore.acquire("b"));
        assert!(poll(&mut gone).is_none());
        drop(gone);
        let mut last = pin!(semaphore.acquire("c"));
        assert!(poll(&mut last).is_none());
        drop(held);
        assert!(poll(&mut last).is_some());
    }
}
