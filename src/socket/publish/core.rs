//! The publisher itself, held by its handles and by its node: what is published, when is something due, who is told?

use std::sync::atomic::Ordering::*;
use std::sync::{Arc, OnceLock};
use std::task::Waker;
use std::time::Duration;

use crate::env::Env;
use crate::error::{SendErrorKind, check_topic};
use crate::id::SocketId;
use crate::message::NewMessage;
use crate::node::{Event, Hall};
use crate::observe::{Drops, PublisherMetrics, ToSubscriber};
use crate::pattern::publish::{Dropped, Due, Effects, Options, Publisher, Refused, size};
use crate::pattern::push::lock;
use crate::pattern::waiters::Ticket;
use crate::socket::connected::Connected;
use crate::sync::{AtomicBool, Mutex, MutexGuard, Notify, oneshot};

/// The socket itself.
pub(super) struct Core {
    pub(super) channel: String,
    /// Names this life of the socket.
    pub(super) epoch: u64,
    pub(super) options: Options,
    /// How long whoever publishes waits for room.
    pub(super) patience: Option<Duration>,
    pub(super) board: Mutex<Board>,
    /// A subscriber's lane is lost, or the socket's end has come.
    pub(super) work: Notify,
    pub(super) subscribers: Connected,
    /// No handle is left.
    pub(super) orphaned: AtomicBool,
    /// The node has let go of it.
    pub(super) gone: AtomicBool,
    pub(super) id: OnceLock<SocketId>,
    pub(super) env: Env,
    pub(super) hall: Arc<Hall>,
}

pub(super) struct Board {
    pub(super) publisher: Publisher,
    /// Who waits until everything has arrived.
    pub(super) flushes: Vec<(Vec<Due>, oneshot::Sender<()>)>,
}

impl Core {
    /// Forgets subscribers that have been away for too long.
    pub(super) async fn run(self: Arc<Self>) {
        let mut timer = self.env.timer();
        while !self.gone.load(Acquire) {
            let due = self.turn(|publisher| publisher.expire(self.env.now()));
            timer.set(due);
            tokio::select! {
                biased;
                () = self.work.notified() => {}
                () = timer.fired() => {}
            }
        }
    }

    /// Changes the publisher, and does what follows from it once the lock is free.
    pub(super) fn turn<T>(&self, change: impl FnOnce(&mut Publisher) -> T) -> T {
        let mut board = lock(&self.board);
        let result = change(&mut board.publisher);
        self.conclude(board);
        result
    }

    pub(super) fn conclude(&self, mut board: MutexGuard<'_, Board>) {
        let Effects { wakers, given_up, slow, subscribers, settled } = board.publisher.take_effects();
        let mut flushed = Vec::new();
        let mut over = false;
        if settled {
            flushed = board.take_flushed();
            over = board.publisher.is_closed() && board.publisher.is_settled();
        }
        let count = subscribers.then(|| board.publisher.subscribers());
        drop(board);
        wakers.into_iter().for_each(Waker::wake);
        if let Some(count) = count {
            self.subscribers.set(count);
        }
        for flush in flushed {
            // Whoever waited may have left.
            let _ = flush.send(());
        }
        for node in slow {
            self.hall.emit(Event::slow(&self.channel, node));
        }
        for (node, dropped) in given_up {
            self.hall.emit(Event::given_up(&self.channel, node, dropped));
        }
        if over {
            self.settled();
        }
    }

    /// What can be said of a message by itself.
    fn check(&self, topic: &str, message: &NewMessage) -> Result<(), SendErrorKind> {
        check_topic(topic)?;
        message.check_headers()?;
        let (len, limit) = (message.body().len(), self.options.max_message);
        if len > limit {
            return Err(SendErrorKind::TooLarge { len, limit });
        }
        let (len, limit) = (size(topic, message), self.options.bound.bytes);
        if len as u64 > limit {
            return Err(SendErrorKind::TooLarge { len, limit: limit as usize });
        }
        Ok(())
    }

    pub(super) fn publish(&self, topic: &str, message: &NewMessage, may_wait: bool) -> Result<(), SendErrorKind> {
        self.check(topic, message)?;
        let mut board = lock(&self.board);
        let result = board.publisher.publish(topic, message, may_wait, self.env.now());
        self.conclude(board);
        result.map_err(refusal)
    }

    /// Full: the waker is woken when there may be room.
    pub(super) fn publish_or_wait(
        &self,
        topic: &str,
        message: &NewMessage,
        ticket: &mut Ticket,
        waker: &Waker,
    ) -> Result<(), SendErrorKind> {
        self.check(topic, message)?;
        let mut board = lock(&self.board);
        let result = board.publisher.publish(topic, message, true, self.env.now());
        if result == Err(Refused::Full) {
            board.publisher.wait(ticket, waker);
        }
        self.conclude(board);
        result.map_err(refusal)
    }

    pub(super) fn flush(&self) -> oneshot::Receiver<()> {
        let (done, waiting) = oneshot::channel();
        let mut board = lock(&self.board);
        // Whoever has given up waiting leaves nothing behind.
        board.flushes.retain(|(_, flush)| !flush.is_closed());
        if !self.gone.load(Acquire) {
            let due = board.publisher.due();
            board.flushes.push((due, done));
        }
        let flushed = board.take_flushed();
        drop(board);
        for flush in flushed {
            let _ = flush.send(());
        }
        waiting
    }

    /// From now on nothing is published. What was still goes to who is connected.
    pub(super) fn refuse_more(&self) {
        let over = {
            let mut board = lock(&self.board);
            board.publisher.close();
            let over = board.publisher.is_settled();
            self.conclude(board);
            over
        };
        if over {
            self.settled();
        }
    }

    /// Closed, and everything has arrived.
    fn settled(&self) {
        self.turn(Publisher::wake_all);
        self.hall.drained();
        if self.orphaned.load(Acquire) {
            self.leave();
        }
    }

    /// The last handle is gone.
    pub(super) fn orphan(&self) {
        self.orphaned.store(true, Release);
        self.refuse_more();
    }

    fn leave(&self) {
        if !self.gone.swap(true, AcqRel) {
            self.work.notify_one();
            if let Some(id) = self.id.get() {
                self.hall.unregister(*id);
            }
        }
    }

    pub(super) fn figures(&self) -> PublisherMetrics {
        let figures = lock(&self.board).publisher.figures();
        PublisherMetrics {
            published: figures.published,
            dropped: drops(figures.dropped),
            bound_messages: self.options.bound.messages,
            bound_bytes: self.options.bound.bytes,
            retained: figures.retained.messages,
            retained_bytes: figures.retained.bytes,
            retained_evicted: figures.evicted,
            patterns: figures.patterns,
            subscribers: figures
                .subscribers
                .into_iter()
                .map(|subscriber| ToSubscriber {
                    node: subscriber.node,
                    connected: subscriber.connected,
                    patterns: subscriber.patterns,
                    matched: subscriber.matched,
                    queued: subscriber.queued.messages,
                    queued_bytes: subscriber.queued.bytes,
                    in_flight: subscriber.in_flight,
                    received: subscriber.received,
                    dropped: drops(subscriber.dropped),
                    credit: subscriber.credit,
                })
                .collect(),
        }
    }
}

impl Board {
    fn take_flushed(&mut self) -> Vec<oneshot::Sender<()>> {
        if self.flushes.is_empty() {
            return Vec::new();
        }
        let (mut over, mut open) = (Vec::new(), Vec::new());
        for (mut due, flush) in std::mem::take(&mut self.flushes) {
            if self.publisher.settle(&mut due) { over.push(flush) } else { open.push((due, flush)) }
        }
        self.flushes = open;
        over
    }
}

fn refusal(refused: Refused) -> SendErrorKind {
    match refused {
        Refused::Full => SendErrorKind::Full,
        Refused::Closed => SendErrorKind::Closed,
    }
}

fn drops(dropped: Dropped) -> Drops {
    let Dropped { oldest, newest, replaced, lost, given_up, too_large } = dropped;
    Drops { oldest, newest, replaced, lost, given_up, too_large }
}
