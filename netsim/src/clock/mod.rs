//! What time is it, and what happens next? Virtual time in nanoseconds, on top of tokio's paused clock.
//!
//! tokio's paused clock moves by itself, when nothing is left to do, but in steps of whole milliseconds. Finer time
//! fits into its gaps: [`Clock::on_idle`] runs when nothing is left to do and before that clock moves. All that is due
//! before tokio's next millisecond happens there, one instant at a time, and after each instant the tasks run until
//! they are idle again. Only then may tokio move on, and no further than to the millisecond of the next event: the
//! [`Clock::pace`] task holds a timer there.

mod events;
mod host;
mod timer;

use std::future::Future;
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

pub(crate) use events::Ticket;
pub(crate) use host::{HostClock, START};
pub(crate) use timer::Timer;

use events::Events;

use crate::link::nanos;
use crate::network::Flight;

/// Something that is going to happen. The two that happen most have no closure of their own.
enum Event {
    /// A timer fires.
    Wake(Waker),
    /// A packet comes to the end of a link.
    Land(Box<Flight>),
    Do(Box<dyn FnOnce() + Send>),
}

/// Virtual time of one run.
pub(crate) struct Clock {
    /// tokio's time at the start of the run.
    start: OnceLock<tokio::time::Instant>,
    /// Virtual time since the start, in nanoseconds. Ahead of tokio's by less than a millisecond, and never behind it: it
    /// is read far more often than time moves, so each move is put down here.
    now: AtomicU64,
    state: Mutex<State>,
}

struct State {
    /// The run is over.
    over: bool,
    events: Events<Event>,
    /// Where the pace task's timer is wanted.
    next_step: Option<Duration>,
    pace: Option<Waker>,
}

impl Clock {
    pub(crate) fn new() -> Self {
        let state = State { over: false, events: Events::new(), next_step: None, pace: None };
        Self { start: OnceLock::new(), now: AtomicU64::new(0), state: Mutex::new(state) }
    }

    /// The run starts now.
    pub(crate) fn start(&self) {
        self.start.set(tokio::time::Instant::now()).expect("a run starts once");
    }

    /// Time since the start of the run.
    pub(crate) fn now(&self) -> Duration {
        Duration::from_nanos(self.now.load(Ordering::Relaxed))
    }

    /// tokio's clock may have moved.
    pub(crate) fn on_wake(&self) {
        // Before and after the run it is the operating system's.
        if self.start.get().is_some() && !self.is_over() {
            self.moves(self.tokio_now());
        }
    }

    fn moves(&self, to: Duration) {
        self.now.fetch_max(nanos(to), Ordering::Relaxed);
    }

    /// The start of the run.
    fn start_instant(&self) -> Instant {
        self.started().into_std()
    }

    /// `event` happens at this time; at the current instant, after all that was due then, if the time has passed.
    pub(crate) fn at(&self, time: Duration, event: impl FnOnce() + Send + 'static) -> Ticket {
        self.add(time, Event::Do(Box::new(event)))
    }

    /// This task is woken at this time.
    fn at_wake(&self, time: Duration, waker: Waker) -> Ticket {
        self.add(time, Event::Wake(waker))
    }

    /// The packet comes to the end of its link at this time.
    pub(crate) fn at_landing(&self, time: Duration, flight: Box<Flight>) {
        self.add(time, Event::Land(flight));
    }

    fn add(&self, time: Duration, event: Event) -> Ticket {
        let time = time.max(self.now());
        self.lock().events.add(time, event)
    }

    /// Whether the run is over.
    pub(crate) fn is_over(&self) -> bool {
        self.lock().over
    }

    /// It is not going to happen, if it has not yet.
    pub(crate) fn cancel(&self, ticket: Ticket) {
        // Not dropped under the lock: what it holds may cancel something itself.
        let _event = { self.lock().events.remove(ticket) };
    }

    /// Lets happen what is due before tokio's clock can move; called when nothing else is left to do. `land` takes the
    /// packets that come to the end of a link.
    pub(crate) fn on_idle(&self, land: impl Fn(Box<Flight>)) {
        if self.start.get().is_none() {
            return;
        }
        let tokio_now = self.tokio_now();
        let mut state = self.lock();
        self.moves(tokio_now);
        let due = match state.events.next_before(tokio_now + TOKIO_STEP) {
            Some((at, due)) => {
                self.moves(at);
                due
            }
            None => {
                let step = state.events.next_at().map(whole_step);
                if step == state.next_step {
                    return; // The pace is set: tokio moves on.
                }
                state.next_step = step;
                Vec::new()
            }
        };
        let pace = state.pace.take();
        drop(state);
        for event in due {
            match event {
                Event::Wake(waker) => waker.wake(),
                Event::Land(flight) => land(flight),
                Event::Do(event) => event(),
            }
        }
        // Something is left to do now, even if no event has woken a task: so tokio asks again before it moves.
        if let Some(pace) = pace {
            pace.wake();
        }
    }

    /// Holds a tokio timer at the step of the next event for as long as it is polled.
    pub(crate) async fn pace(&self) {
        let mut timer = pin!(tokio::time::sleep(Duration::ZERO));
        std::future::poll_fn(|cx| {
            let next_step = {
                let mut state = self.lock();
                state.pace = Some(cx.waker().clone());
                state.next_step
            };
            if let Some(step) = next_step {
                let at = self.started() + step;
                if timer.deadline() != at {
                    timer.as_mut().reset(at);
                }
                // Ready or not: when it is, the run becomes idle at that step, and the next one is set.
                let _ = timer.as_mut().poll(cx);
            }
            Poll::Pending
        })
        .await
    }

    /// The run is over: time stands still and nothing more happens. Called on the run's runtime.
    ///
    /// Events hold on to the network, which holds on to the clock: this lets go of both.
    pub(crate) fn stop(&self) {
        let _events = {
            let mut state = self.lock();
            state.over = true;
            state.events.clear()
        };
    }

    fn tokio_now(&self) -> Duration {
        tokio::time::Instant::now() - self.started()
    }

    fn started(&self) -> tokio::time::Instant {
        *self.start.get().expect("the clock starts before the scenario")
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The last step of tokio's clock that is not after this time.
fn whole_step(time: Duration) -> Duration {
    Duration::from_millis(time.as_millis().try_into().expect("a run is shorter than 500 million years"))
}

/// What tokio's clock moves by.
const TOKIO_STEP: Duration = Duration::from_millis(1);
