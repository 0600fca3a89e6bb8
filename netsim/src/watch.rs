//! Is every task a good citizen of the simulated world? Each poll of a task is seen from both sides: what it was, whose,
//! how long it takes in real time, who had woken it, and what it has started.

use std::any::Any;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::ThreadId;
use std::time::Duration;

use tokio::runtime::Handle;

use crate::clock::Clock;
use crate::failures::Failures;

/// Sees every poll of one run. The run's own thread writes, a watchdog on another one reads.
pub(crate) struct Watch {
    clock: Arc<Clock>,
    failures: Arc<Failures>,
    thread: ThreadId,
    /// Tasks that have not ended and are known: the watched ones, and the one that paces the clock.
    alive: AtomicUsize,
    /// Tasks that were started and are nobody's.
    strangers: AtomicUsize,
    pulse: Mutex<Pulse>,
    /// How often the run was idle: virtual time may have moved on since.
    instants: AtomicU64,
    rules: Mutex<Rules>,
}

/// What holds at all times.
#[derive(Default)]
struct Rules {
    rules: Vec<Rule>,
    /// How many polls there were when they were asked.
    asked: u64,
}

/// Asked whether it holds, or how it was broken.
type Rule = Box<dyn FnMut() -> Result<(), String> + Send>;

/// What is going on.
#[derive(Debug, Clone)]
pub(crate) struct Pulse {
    /// Whose poll this is, or was the last.
    pub(crate) who: Arc<str>,
    /// It goes on. Since when, is for who looks again and again: the clock is not asked at each poll.
    pub(crate) in_poll: bool,
    /// How many polls there were.
    pub(crate) polls: u64,
}

impl Watch {
    /// Of a run on this thread.
    pub(crate) fn new(clock: Arc<Clock>, failures: Arc<Failures>) -> Self {
        let pulse = Pulse { who: "nobody".into(), in_poll: false, polls: 0 };
        Self {
            clock,
            failures,
            thread: std::thread::current().id(),
            alive: AtomicUsize::new(1),
            strangers: AtomicUsize::new(0),
            pulse: Mutex::new(pulse),
            instants: AtomicU64::new(0),
            rules: Mutex::default(),
        }
    }

    /// Nothing is left to do at this instant; false when a rule is broken, with which the run ends before anything else
    /// happens.
    pub(crate) fn idle(&self) -> bool {
        self.instants.fetch_add(1, Ordering::Relaxed);
        let Rules { rules, asked } = &mut *self.rules();
        if rules.is_empty() {
            return true;
        }
        let polls = self.lock().polls;
        if std::mem::replace(asked, polls) == polls {
            return true;
        }
        let mut hold = true;
        for rule in rules {
            let holds = catch_unwind(AssertUnwindSafe(rule)).unwrap_or_else(|panic| Err(text_of(&*panic)));
            if let Err(broken) = holds {
                self.failures.add(broken);
                hold = false;
            }
        }
        hold
    }

    /// This holds from now on.
    pub(crate) fn always(&self, rule: Rule) {
        self.rules().rules.push(rule);
    }

    /// The run is over. Rules hold on to what they are about, which holds on to this.
    pub(crate) fn over(&self) {
        let _rules = { std::mem::take(&mut *self.rules()) };
    }

    pub(crate) fn instants(&self) -> u64 {
        self.instants.load(Ordering::Relaxed)
    }

    pub(crate) fn pulse(&self) -> Pulse {
        self.lock().clone()
    }

    /// Tasks of the runtime that nobody has started through a host, and that have not ended.
    fn strangers(&self) -> usize {
        let all = Handle::current().metrics().num_alive_tasks();
        all.saturating_sub(self.alive.load(Ordering::Relaxed))
    }

    fn rules(&self) -> MutexGuard<'_, Rules> {
        self.rules.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock(&self) -> MutexGuard<'_, Pulse> {
        self.pulse.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A future that is watched at each poll.
pub(crate) struct Watched<F> {
    future: Pin<Box<F>>,
    subject: Subject,
    waker: Option<Arc<HomeWaker>>,
    /// Whether it is a task of the runtime.
    task: bool,
}

/// Who is watched, by whom.
#[derive(Clone)]
pub(crate) struct Subject {
    pub(crate) watch: Arc<Watch>,
    /// As it is named in a failure: "host `a`".
    pub(crate) who: Arc<str>,
    /// How many tasks it has started that are not its host's.
    pub(crate) started: Arc<AtomicUsize>,
}

impl Subject {
    pub(crate) fn new(watch: Arc<Watch>, who: impl Into<Arc<str>>) -> Self {
        Self { watch, who: who.into(), started: Arc::default() }
    }

    /// Watches what is going to be a task of the runtime.
    pub(crate) fn task<F: Future>(&self, future: F) -> Watched<F> {
        self.watch.alive.fetch_add(1, Ordering::Relaxed);
        Watched { future: Box::pin(future), subject: self.clone(), waker: None, task: true }
    }

    /// The host has crashed, and its tasks are about to end: what its code has started elsewhere is not.
    pub(crate) fn crashed(&self) {
        let mine = self.started.swap(0, Ordering::Relaxed);
        if mine == 0 {
            return;
        }
        let Self { watch, who, .. } = self.clone();
        self.watch.clock.at(self.watch.clock.now() + A_MOMENT, move || {
            // Which of them have ended is not known: so it is only told when they can't be all the others'.
            let others = watch.strangers.fetch_sub(mine, Ordering::Relaxed) - mine;
            if watch.strangers() > others {
                watch.failures.add(format!(
                    "code of {who} has started tasks that go on after its crash: on a simulated host, start them with \
                     `Host::spawn`, or in a `JoinSet`, which ends with its owner, and not with `tokio::spawn`"
                ));
            }
        });
    }

    /// Watches a future that is polled within another one.
    pub(crate) fn future<F: Future>(&self, future: F) -> Watched<F> {
        Watched { future: Box::pin(future), subject: self.clone(), waker: None, task: false }
    }
}

impl<F: Future> Future for Watched<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let this = &mut *self;
        let Subject { watch, who, started } = &this.subject;
        let before = watch.strangers();
        {
            let mut pulse = watch.lock();
            if !Arc::ptr_eq(&pulse.who, who) {
                pulse.who = who.clone();
            }
            pulse.in_poll = true;
            pulse.polls += 1;
        }
        let home = match &this.waker {
            Some(home) if home.inner.will_wake(cx.waker()) => home,
            _ => this.waker.insert(Arc::new(HomeWaker { inner: cx.waker().clone(), subject: this.subject.clone() })),
        };
        let waker = Waker::from(home.clone());
        let mut cx = Context::from_waker(&waker);
        let polled = catch_unwind(AssertUnwindSafe(|| this.future.as_mut().poll(&mut cx)));
        watch.lock().in_poll = false;
        let after = watch.strangers();
        if after > before {
            started.fetch_add(after - before, Ordering::Relaxed);
            watch.strangers.fetch_add(after - before, Ordering::Relaxed);
        }
        polled.unwrap_or_else(|panic| {
            // Whoever should have looked at the task's result may not do so.
            if this.task {
                watch.failures.add(format!("a task of {who} has panicked: {}", text_of(&*panic)));
            }
            resume_unwind(panic)
        })
    }
}

impl<F> Drop for Watched<F> {
    fn drop(&mut self) {
        if self.task {
            self.subject.watch.alive.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

/// Wakes a task, and tells when that comes from outside of the run.
struct HomeWaker {
    inner: Waker,
    subject: Subject,
}

impl Wake for HomeWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        let Subject { watch, who, .. } = &self.subject;
        let here = std::thread::current();
        if here.id() != watch.thread && !watch.clock.is_over() {
            let name = here.name().map_or_else(|| "without a name".to_owned(), |name| format!("`{name}`"));
            watch.failures.add(format!(
                "a task of {who} was woken by another thread, {name}: what a thread does when is not the seed's to say; \
                 use tasks of the host, and neither threads nor `spawn_blocking`"
            ));
        }
        self.inner.wake_by_ref();
    }
}

/// After this, the tasks of a crashed host have been dropped.
const A_MOMENT: Duration = Duration::from_millis(1);

/// What a panic has said.
pub(crate) fn text_of(panic: &(dyn Any + Send)) -> String {
    match (panic.downcast_ref::<&str>(), panic.downcast_ref::<String>()) {
        (Some(text), _) => (*text).to_owned(),
        (_, Some(text)) => text.clone(),
        _ => "with something that is no text".to_owned(),
    }
}
