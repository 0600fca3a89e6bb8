//! The room `sync` of the library, made of what loom can take through every interleaving.
//!
//! What the library takes from tokio is written here again, in the plainest way: one lock, and what stands below it.

pub(crate) use loom::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64};
pub(crate) use loom::sync::{Mutex, MutexGuard};

use std::task::{Poll, Waker};

/// As `atomic_waker::AtomicWaker`.
#[derive(Debug, Default)]
pub(crate) struct AtomicWaker(Mutex<Option<Waker>>);

impl AtomicWaker {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    pub(crate) fn register(&self, waker: &Waker) {
        *self.0.lock().expect("no panic") = Some(waker.clone());
    }

    pub(crate) fn wake(&self) {
        let waiting = self.0.lock().expect("no panic").take();
        if let Some(waker) = waiting {
            waker.wake();
        }
    }
}

/// As `tokio::sync::Notify`, for one who waits.
#[derive(Debug, Default)]
pub(crate) struct Notify(Mutex<Notice>);

#[derive(Debug, Default)]
struct Notice {
    given: bool,
    waiting: Option<Waker>,
}

impl Notify {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    pub(crate) fn notify_one(&self) {
        let waiting = {
            let mut notice = self.0.lock().expect("no panic");
            notice.given = true;
            notice.waiting.take()
        };
        if let Some(waker) = waiting {
            waker.wake();
        }
    }

    pub(crate) async fn notified(&self) {
        std::future::poll_fn(|cx| {
            let mut notice = self.0.lock().expect("no panic");
            if std::mem::take(&mut notice.given) {
                return Poll::Ready(());
            }
            notice.waiting = Some(cx.waker().clone());
            Poll::Pending
        })
        .await;
    }
}

pub(crate) mod oneshot {
    use std::future::Future;
    use std::pin::Pin;
    use std::sync::Arc;
    use std::task::{Context, Poll, Waker};

    use loom::sync::Mutex;

    pub(crate) fn channel<T>() -> (Sender<T>, Receiver<T>) {
        let shared = Arc::new(Mutex::new(Shared { value: None, over: false, waiting: None }));
        (Sender(shared.clone()), Receiver(shared))
    }

    #[derive(Debug)]
    struct Shared<T> {
        value: Option<T>,
        /// One of the two is gone.
        over: bool,
        waiting: Option<Waker>,
    }

    #[derive(Debug)]
    pub(crate) struct Sender<T>(Arc<Mutex<Shared<T>>>);

    #[derive(Debug)]
    pub(crate) struct Receiver<T>(Arc<Mutex<Shared<T>>>);

    #[derive(Debug)]
    pub(crate) struct Closed;

    impl<T> Sender<T> {
        pub(crate) fn send(self, value: T) -> Result<(), T> {
            let mut shared = self.0.lock().expect("no panic");
            if shared.over {
                return Err(value);
            }
            shared.value = Some(value);
            // Whoever waits is woken when this is dropped.
            Ok(())
        }

        pub(crate) fn is_closed(&self) -> bool {
            self.0.lock().expect("no panic").over
        }
    }

    impl<T> Drop for Sender<T> {
        fn drop(&mut self) {
            let waiting = {
                let mut shared = self.0.lock().expect("no panic");
                shared.over = true;
                shared.waiting.take()
            };
            if let Some(waker) = waiting {
                waker.wake();
            }
        }
    }

    impl<T> Future for Receiver<T> {
        type Output = Result<T, Closed>;

        fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
            let mut shared = self.0.lock().expect("no panic");
            if let Some(value) = shared.value.take() {
                return Poll::Ready(Ok(value));
            }
            if shared.over {
                return Poll::Ready(Err(Closed));
            }
            shared.waiting = Some(cx.waker().clone());
            Poll::Pending
        }
    }

    impl<T> Drop for Receiver<T> {
        fn drop(&mut self) {
            self.0.lock().expect("no panic").over = true;
        }
    }
}
