//! The requester itself, held by its handles and by its node: whose time is up, who is there, who is told?

use std::sync::atomic::Ordering::*;
use std::sync::{Arc, OnceLock};
use std::task::{Poll, Waker};
use std::time::Instant;

use crate::env::Env;
use crate::error::RequestError;
use crate::id::{NodeId, SocketId};
use crate::message::{MessageId, NewMessage};
use crate::node::Hall;
use crate::observe::{AskedReplierMetrics, RequesterMetrics};
use crate::pattern::content::Content;
use crate::pattern::push::lock;
use crate::pattern::request::{Asked, Effects, Lost, Outcome, Refused, Requests};
use crate::socket::connected::Connected;
use crate::sync::{AtomicBool, Mutex, MutexGuard, Notify};

/// The socket itself.
pub(super) struct Core {
    pub(super) channel: String,
    /// Names this life of the socket in the ids of its requests.
    pub(super) epoch: u64,
    pub(super) max_message: usize,
    pub(super) requests: Mutex<Requests>,
    /// The next deadline has changed, or somebody may have to be looked for.
    pub(super) work: Notify,
    pub(super) repliers: Connected,
    /// The node has let go of it.
    pub(super) gone: AtomicBool,
    pub(super) id: OnceLock<SocketId>,
    pub(super) env: Env,
    pub(super) hall: Arc<Hall>,
}

impl Core {
    /// Ends requests whose time is up, and those that wait for somebody where nobody is.
    pub(super) async fn run(self: Arc<Self>) {
        let mut timer = self.env.timer();
        let mut news = self.hall.news();
        while !self.gone.load(Acquire) {
            let mut looking = self.turn(|requests, now| {
                requests.expire(now);
                requests.looks_for_somebody()
            });
            if looking {
                // Seen before who is there is: what changes meanwhile is looked at next.
                news.borrow_and_update();
                // A peer that has not told its sockets yet may have a replier.
                if self.hall.is_settled() && self.hall.untold().is_none() {
                    let there = self.everybody();
                    looking = self.turn(|requests, _| {
                        requests.nobody_there(&there);
                        requests.looks_for_somebody()
                    });
                }
            }
            timer.set(self.turn(|requests, now| requests.arm(now)));
            tokio::select! {
                biased;
                () = self.work.notified() => {}
                Ok(()) = news.changed(), if looking => {}
                () = timer.fired() => {}
            }
        }
    }

    /// The repliers that there are, by the tables of this node and its peers.
    pub(super) fn everybody(&self) -> Vec<(NodeId, SocketId)> {
        self.id.get().map_or_else(Vec::new, |id| self.hall.sockets_facing(*id))
    }

    /// Changes the requests, and does what follows from it once the lock is free.
    pub(super) fn turn<T>(&self, change: impl FnOnce(&mut Requests, Instant) -> T) -> T {
        let now = self.env.now();
        let mut requests = lock(&self.requests);
        let result = change(&mut requests, now);
        self.conclude(requests);
        result
    }

    pub(super) fn conclude(&self, mut requests: MutexGuard<'_, Requests>) {
        let Effects { wakers, look, empty } = requests.take_effects();
        let drained = empty && requests.is_closed() && requests.is_drained();
        drop(requests);
        for waker in wakers {
            waker.wake();
        }
        if look {
            self.work.notify_one();
        }
        if drained {
            self.hall.drained();
        }
    }

    /// What can be said of a request by itself.
    pub(super) fn check(&self, message: &NewMessage) -> Result<(), RequestError> {
        let (len, limit) = (message.body().len(), self.max_message);
        if len > limit {
            return Err(RequestError::TooLarge { len, limit });
        }
        Ok(message.check_headers()?)
    }

    /// Asks: the number of the request.
    pub(super) fn ask(&self, asked: Asked) -> Result<u64, RequestError> {
        self.turn(|requests, _| requests.ask(asked)).map_err(|refused| match refused {
            Refused::Closed => RequestError::Closed,
            Refused::TooLarge { size, limit } => RequestError::TooLarge { len: size, limit },
        })
    }

    pub(super) fn poll(&self, number: u64, waker: &Waker) -> Poll<Outcome> {
        self.turn(|requests, _| requests.poll(number, waker))
    }

    /// Nobody waits for it any more.
    pub(super) fn forget(&self, number: u64) {
        self.turn(|requests, now| requests.forget(number, now));
    }

    pub(super) fn message_id(&self, number: u64) -> MessageId {
        MessageId { node: self.hall.id(), epoch: self.epoch, sequence: number }
    }

    /// The last handle is gone, and with it whoever could wait for something.
    pub(super) fn leave(&self) {
        self.gone.store(true, Release);
        self.turn(|requests, _| requests.refuse_more());
        self.work.notify_one();
        self.hall.drained();
        if let Some(id) = self.id.get() {
            self.hall.unregister(*id);
        }
    }

    pub(super) fn figures(&self) -> RequesterMetrics {
        let requests = lock(&self.requests);
        let (open, used, counts, bound) = (requests.open(), requests.used(), requests.counts, requests.bound());
        RequesterMetrics {
            asked: requests.asked(),
            open,
            waiting: open - used.messages,
            replied: counts.replied,
            failed: counts.failed,
            no_replier: counts.no_replier,
            busy: counts.busy,
            not_sent: counts.not_sent,
            unknown: counts.unknown,
            timed_out: counts.timed_out,
            too_large: counts.too_large,
            closed: counts.closed,
            cancelled: counts.cancelled,
            bytes: used.bytes,
            bound_messages: bound.messages,
            bound_bytes: bound.bytes,
            refused: counts.refused,
            repeated: counts.repeated,
            late: counts.late,
            repliers: requests
                .lanes()
                .filter(|lane| lane.able || lane.open > 0)
                .map(|lane| AskedReplierMetrics {
                    node: lane.node,
                    open: lane.open,
                    answered: lane.answered,
                    latency: lane.latency,
                })
                .collect(),
        }
    }
}

/// A message, as it is kept until it is answered.
pub(in crate::socket) fn content(message: NewMessage) -> Content {
    let headers = bytes::Bytes::copy_from_slice(message.block());
    Content { headers, body: message.into_body() }
}

/// What an outcome without a reply says.
pub(super) fn error(outcome: Outcome) -> RequestError {
    let lost = |node: NodeId| format!("the link to {} was lost before it answered", node.short());
    match outcome {
        Outcome::Failed { code, message } => RequestError::Remote { code, message },
        Outcome::NoReplier => RequestError::NoReplier,
        Outcome::Busy => RequestError::Busy,
        Outcome::NotSent => RequestError::NotSent,
        Outcome::Unknown(Lost::Link(node)) => RequestError::Unknown { reason: lost(node) },
        Outcome::Unknown(Lost::Closed) => RequestError::Unknown { reason: "this node has ended".into() },
        Outcome::TimedOut => RequestError::TimedOut,
        Outcome::TooLarge { size, limit } => RequestError::TooLarge { len: size, limit },
        Outcome::Closed | Outcome::Replied { .. } => RequestError::Closed,
    }
}
