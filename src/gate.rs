//! Work of clients that keeps a CPU busy: a few pieces at a time, one for each client, in turns and at low priority.

use std::collections::{HashSet, VecDeque};
use std::fmt;
use std::panic::resume_unwind;
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};
use std::thread;

use tokio::sync::oneshot;

use crate::process;

/// Large messages that are parsed, and schemas that are tried.
pub static HEAVY: LazyLock<Gate> = LazyLock::new(|| {
    let cpus = thread::available_parallelism().map_or(1, usize::from);
    Gate::new((cpus / 2).clamp(1, MAX_HEAVY))
});

/// More is of little use: the models want the CPUs.
const MAX_HEAVY: usize = 4;

/// The stack of a thread for heavy work, in bytes.
const STACK: usize = 32 * 1024 * 1024;

/// A door to work that keeps a CPU busy. At most as many are inside as there are places, and no client is inside twice.
#[derive(Debug)]
pub struct Gate(Mutex<State>);

#[derive(Debug)]
struct State {
    free: usize,
    inside: HashSet<String>,
    /// Clients in the order of their next turns, each with those that wait, in the order of their coming.
    waiting: VecDeque<(String, VecDeque<oneshot::Sender<Pass>>)>,
}

/// A place inside. Dropping it lets the next one in.
#[derive(Debug)]
pub struct Pass {
    gate: &'static Gate,
    /// `None` once it has left.
    client: Option<String>,
}

impl Gate {
    /// A gate with `places`.
    pub fn new(places: usize) -> Self {
        Self(Mutex::new(State {
            free: places,
            inside: HashSet::new(),
            waiting: VecDeque::new(),
        }))
    }

    /// Waits for a place for `client`. Dropping the future gives the turn up.
    pub async fn enter(&'static self, client: &str) -> Pass {
        let (sender, pass) = oneshot::channel();
        self.lock().push(client, sender);
        self.admit();
        pass.await.expect("a sender waits until it is served")
    }

    /// Lets in whoever can be.
    fn admit(&'static self) {
        loop {
            let next = self.lock().next();
            let Some((client, sender)) = next else { return };
            let pass = Pass {
                gate: self,
                client: Some(client),
            };
            if let Err(mut pass) = sender.send(pass)
                && let Some(client) = pass.client.take()
            {
                // It has just ceased to wait. Its drop must not let the next one in: that would recurse.
                self.lock().leave(&client);
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn push(&mut self, client: &str, sender: oneshot::Sender<Pass>) {
        match self.waiting.iter_mut().find(|(known, _)| known == client) {
            Some((_, senders)) => {
                senders.retain(|sender| !sender.is_closed());
                senders.push_back(sender);
            }
            None => self.waiting.push_back((client.to_owned(), [sender].into())),
        }
    }

    /// Takes out the next one of the first client that is not inside, and gives it a place. That client is behind the others then.
    fn next(&mut self) -> Option<(String, oneshot::Sender<Pass>)> {
        if self.free == 0 {
            return None;
        }
        let at = self
            .waiting
            .iter()
            .position(|(client, _)| !self.inside.contains(client))?;
        let (client, mut senders) = self.waiting.remove(at)?;
        let sender = senders.pop_front()?;
        if !senders.is_empty() {
            self.waiting.push_back((client.clone(), senders));
        }
        self.free -= 1;
        self.inside.insert(client.clone());
        Some((client, sender))
    }

    fn leave(&mut self, client: &str) {
        self.free += 1;
        self.inside.remove(client);
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        if let Some(client) = self.client.take() {
            self.gate.lock().leave(&client);
            self.gate.admit();
        }
    }
}

/// What a large message keeps from others as long as it is a tree of values. Clones share it. The default is that of a small message,
/// which keeps nothing.
#[derive(Clone, Default)]
pub struct Burden(Option<Arc<Mutex<Option<Holds>>>>);

type Holds = Box<dyn Send>;

impl Burden {
    /// The burden of a large message, which `holds` permits.
    pub fn new(holds: impl Send + 'static) -> Self {
        Self(Some(Arc::new(Mutex::new(Some(Box::new(holds))))))
    }

    /// Does `work` on the tree, beside the runtime for a large message.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        match &self.0 {
            None => work(),
            Some(_) => beside_runtime(work),
        }
    }

    /// Does `work`, which turns the tree into something smaller, and gives back what it held. For a large message the work is done beside
    /// the runtime.
    pub fn finish<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        let done = self.run(work);
        if let Some(holds) = &self.0 {
            drop(holds.lock().unwrap_or_else(PoisonError::into_inner).take());
        }
        done
    }
}

impl fmt::Debug for Burden {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Burden")
            .field("is_large", &self.0.is_some())
            .finish_non_exhaustive()
    }
}

/// Does `work` at low priority and waits for it, while other threads serve what this thread of the runtime would serve.
pub fn beside_runtime<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    use tokio::runtime::{Handle, RuntimeFlavor};
    match Handle::try_current().map(|runtime| runtime.runtime_flavor()) {
        Ok(RuntimeFlavor::MultiThread) => tokio::task::block_in_place(|| at_low_priority(work)),
        _ => at_low_priority(work),
    }
}

/// Does `work` on a thread of its own, to which others are preferred, and waits for it. A thread cannot raise its priority again.
pub fn at_low_priority<T: Send>(work: impl FnOnce() -> T + Send) -> T {
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
        // The system has no thread to spare.
        let work = take().expect("no thread has taken it");
        work()
    })
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    use super::*;

    fn gate(places: usize) -> &'static Gate {
        Box::leak(Box::new(Gate::new(places)))
    }

    /// The pass of a future that has one.
    fn poll(future: &mut (impl Future<Output = Pass> + Unpin)) -> Option<Pass> {
        match std::pin::Pin::new(future).poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(pass) => Some(pass),
            Poll::Pending => None,
        }
    }

    #[test]
    fn a_client_is_inside_once_and_others_pass_by_those_who_wait() {
        let gate = gate(2);
        let mut first = pin!(gate.enter("a"));
        let first = poll(&mut first).unwrap();
        let mut second = pin!(gate.enter("a"));
        assert!(poll(&mut second).is_none());
        let mut other = pin!(gate.enter("b"));
        let other = poll(&mut other).unwrap();
        drop(first);
        assert!(poll(&mut second).is_some());
        drop(other);
    }

    #[test]
    fn clients_take_turns_whatever_each_has_waiting() {
        let gate = gate(1);
        let mut inside = pin!(gate.enter("x"));
        let mut inside = poll(&mut inside).unwrap();
        let mut waiting: Vec<_> = ["a", "a", "a", "b", "c", "b"]
            .into_iter()
            .map(|client| (client, Box::pin(gate.enter(client))))
            .collect();
        for (_, one) in &mut waiting {
            assert!(poll(one).is_none());
        }
        let mut order = Vec::new();
        while !waiting.is_empty() {
            drop(inside);
            let mut served = waiting.iter_mut().enumerate();
            let (at, pass) = served
                .find_map(|(at, (_, one))| Some((at, poll(one)?)))
                .unwrap();
            order.push(waiting.remove(at).0);
            inside = pass;
        }
        assert_eq!(order, ["a", "b", "c", "a", "b", "a"]);
    }

    #[test]
    fn any_number_of_clients_may_cease_to_wait() {
        let gate = gate(1);
        let mut inside = pin!(gate.enter("a"));
        let inside = poll(&mut inside).unwrap();
        for number in 0..100_000 {
            let client = if number % 2 == 0 {
                "a".to_owned()
            } else {
                format!("b{number}")
            };
            assert!(poll(&mut Box::pin(gate.enter(&client))).is_none());
        }
        assert!(gate.lock().waiting[0].1.len() < 2);
        drop(inside);
        let mut last = pin!(gate.enter("c"));
        assert!(poll(&mut last).is_some());
    }

    #[test]
    fn who_does_not_wait_any_more_holds_nobody_up() {
        let gate = gate(1);
        let mut inside = pin!(gate.enter("a"));
        let inside = poll(&mut inside).unwrap();
        let mut gone = Box::pin(gate.enter("b"));
        assert!(poll(&mut gone).is_none());
        drop(gone);
        let mut last = pin!(gate.enter("c"));
        assert!(poll(&mut last).is_none());
        drop(inside);
        assert!(poll(&mut last).is_some());
    }
}
