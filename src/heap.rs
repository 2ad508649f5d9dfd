//! The allocator: returning memory to the system, and separate heaps for untrusted work.
//!
//! Both require jemalloc, which is the allocator only on Linux with glibc.

#[cfg(all(target_os = "linux", target_env = "gnu"))]
pub(crate) use jemalloc::{Heap, start_purging};
#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
pub(crate) use other::{Heap, start_purging};

#[cfg(all(target_os = "linux", target_env = "gnu"))]
mod jemalloc {
    use std::num::NonZero;

    use tikv_jemalloc_ctl::{
        Access, AsName, Result, background_thread, epoch, max_background_threads,
    };

    /// Starts jemalloc's background thread, so that even an idle server returns memory. Workers must not call it: they must be
    /// single-threaded when they enter their sandbox.
    pub(crate) fn start_purging() {
        // One thread for all arenas: if the system refuses another one, jemalloc keeps writing errors.
        let started =
            max_background_threads::write(1).and_then(|()| background_thread::write(true));
        if let Err(error) = started {
            tracing::debug!(%error, "could not start the allocator's background thread; an idle server keeps memory");
        }
    }

    /// A separate heap, which is an arena of jemalloc.
    #[derive(Debug)]
    pub(crate) struct Heap {
        /// The number of the arena. `None` if jemalloc has no more arenas.
        arena: Option<NonZero<u32>>,
    }

    impl Heap {
        /// Creates an empty heap, which lives as long as the process.
        pub(crate) fn create() -> Self {
            let created: Result<u32> = b"arenas.create\0"[..].name().read();
            Self {
                // Arena 0 always exists, so a new arena has another number.
                arena: created.ok().and_then(NonZero::new),
            }
        }

        /// Makes this thread allocate from this heap until the thread ends.
        pub(crate) fn enter(&self) {
            if let Some(arena) = self.arena
                && let Err(error) = b"thread.arena\0"[..].name().write(arena.get())
            {
                tracing::debug!(%error, "a thread does not use its own heap");
            }
        }

        /// Returns the bytes in use; `None` if they are unknown.
        pub(crate) fn bytes(&self) -> Option<usize> {
            epoch::advance().ok()?;
            let name = format!("stats.arenas.{}.pactive\0", self.arena?);
            let pages: usize = name.name().read().ok()?;
            let page: usize = b"arenas.page\0"[..].name().read().ok()?;
            pages.checked_mul(page)
        }
    }
}

#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
#[expect(
    clippy::unused_self,
    reason = "the interface is that of jemalloc's heap"
)]
mod other {
    /// Does nothing: other allocators return memory by themselves.
    pub(crate) fn start_purging() {}

    /// The only heap of the process, whose size is unknown.
    #[derive(Debug)]
    pub(crate) struct Heap;

    impl Heap {
        /// Creates a heap.
        pub(crate) fn create() -> Self {
            Self
        }

        /// Does nothing.
        pub(crate) fn enter(&self) {}

        /// Returns `None`.
        pub(crate) fn bytes(&self) -> Option<usize> {
            None
        }
    }
}
