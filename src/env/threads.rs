//! Threads for programs that have no runtime: one that waits, and several that share work.

use std::future::IntoFuture;
use std::io;
use std::sync::OnceLock;
use std::thread;

/// Blocks this thread until the future is ready.
pub(crate) fn block_on<F: IntoFuture>(future: F) -> F::Output {
    // Within a task of tokio its budget for one turn would be used up after a while, as the turn never ends; what is
    // ready would not say so any more.
    pollster::block_on(tokio::task::unconstrained(future.into_future()))
}

/// Does the same on this thread and on as many others as make `threads` (at least 1) in all, and returns once all have
/// returned.
///
/// # Errors
/// The operating system gives no thread; nothing was done.
pub(crate) fn on_threads(threads: usize, work: impl Fn() + Sync) -> io::Result<()> {
    let all_there = OnceLock::new();
    let wait_and_work = || {
        if *all_there.wait() {
            work();
        }
    };
    thread::scope(|scope| {
        for _ in 1..threads {
            let started = thread::Builder::new().name("meshmq-serve".into()).spawn_scoped(scope, wait_and_work);
            if let Err(error) = started {
                all_there.get_or_init(|| false);
                return Err(error);
            }
        }
        all_there.get_or_init(|| true);
        work();
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;
    use std::sync::atomic::{AtomicUsize, Ordering::*};

    use super::*;

    #[test]
    fn work_is_done_on_as_many_threads_as_were_asked_for() {
        // Passed only when three are there at the same time.
        let three = Barrier::new(3);
        let done = AtomicUsize::new(0);
        on_threads(3, || {
            three.wait();
            done.fetch_add(1, AcqRel);
        })
        .unwrap();
        assert_eq!(done.load(Acquire), 3);
        on_threads(0, || _ = done.fetch_add(1, AcqRel)).unwrap();
        assert_eq!(done.load(Acquire), 4, "this thread works in any case");
    }
}
