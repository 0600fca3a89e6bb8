//! What a model is played on: threads that wait for their futures, and among them the node's with all of its tasks.

use std::future::{Future, IntoFuture};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::task::{Context, Poll, Wake, Waker};

use bytes::{Bytes, BytesMut};
use loom::sync::{Condvar, Mutex};

use crate::env::{Env, Task};
use crate::error::OpenError;
use crate::id::SocketId;
use crate::node::Hall;
use crate::pattern::lane::{LaneEnd, LanePeer, Outgoing, SocketEnd};
use crate::pattern::subscribe::At;
use crate::socket::{
    Publisher, PublisherBuilder, Pull, PullBuilder, Push, PushBuilder, Replier, ReplierBuilder, Requester,
    RequesterBuilder, Subscriber, SubscriberBuilder,
};
use crate::wire::frame;

/// What wakes a thread: each of its tasks has a bit.
#[derive(Default)]
pub(crate) struct Bell {
    rung: Mutex<Rung>,
    any: Condvar,
}

#[derive(Default)]
struct Rung {
    tasks: u32,
    /// Threads of the application that have come to their end.
    left: u32,
}

impl Bell {
    pub(crate) fn new() -> Arc<Self> {
        Arc::default()
    }

    /// Wakes one task. Each has a waker of its own: one that is woken for another would hide that nobody woke it.
    fn waker(self: &Arc<Self>, task: usize) -> Waker {
        Arc::new(Rope(self.clone(), task)).into()
    }

    fn ring(&self, task: usize) {
        self.rung.lock().expect("no panic").tasks |= 1 << task;
        self.any.notify_one();
    }

    /// A thread of the application has come to its end.
    pub(crate) fn leave(&self) {
        self.rung.lock().expect("no panic").left += 1;
        self.any.notify_one();
    }

    /// The tasks that were woken. `None`: none was, and so many threads have left.
    fn wait(&self, threads: u32) -> Option<u32> {
        let mut rung = self.rung.lock().expect("no panic");
        while rung.tasks == 0 {
            if rung.left == threads {
                return None;
            }
            rung = self.any.wait(rung).expect("no panic");
        }
        Some(std::mem::take(&mut rung.tasks))
    }
}

struct Rope(Arc<Bell>, usize);

impl Wake for Rope {
    fn wake(self: Arc<Self>) {
        self.0.ring(self.1);
    }
}

/// Waits for a future with a whole thread.
pub(crate) fn block_on<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    let bell = Bell::new();
    let waker = bell.waker(0);
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
            return output;
        }
        bell.wait(u32::MAX);
    }
}

/// Polls a future once, with a waker that wakes nobody.
pub(crate) fn poll_once<F: Future>(future: Pin<&mut F>) -> Poll<F::Output> {
    future.poll(&mut Context::from_waker(Waker::noop()))
}

/// The thread of a node.
pub(crate) struct NodeThread {
    env: Env,
    hall: Arc<Hall>,
    bell: Arc<Bell>,
    tasks: Vec<Option<Task>>,
    threads: Vec<loom::thread::JoinHandle<()>>,
}

impl NodeThread {
    pub(crate) fn new() -> Self {
        let env = Env::new();
        Self { hall: Hall::new(env.clone()), env, bell: Bell::new(), tasks: Vec::new(), threads: Vec::new() }
    }

    pub(crate) fn hall(&self) -> &Arc<Hall> {
        &self.hall
    }

    pub(crate) fn push(&mut self, set: impl FnOnce(PushBuilder) -> PushBuilder) -> (Push, Arc<dyn SocketEnd>) {
        self.open(set(PushBuilder::new(self.hall.clone(), "jobs".into())))
    }

    pub(crate) fn pull(&mut self, set: impl FnOnce(PullBuilder) -> PullBuilder) -> (Arc<Pull>, Arc<dyn SocketEnd>) {
        let (pull, end) = self.open(set(PullBuilder::new(self.hall.clone(), "jobs".into())));
        (Arc::new(pull), end)
    }

    /// A push and a pull socket that have met.
    pub(crate) fn jobs(
        &mut self,
        push: impl FnOnce(PushBuilder) -> PushBuilder,
        pull: impl FnOnce(PullBuilder) -> PullBuilder,
    ) -> (Push, Arc<Pull>, Lane) {
        let ((push, from), (pull, to)) = (self.push(push), self.pull(pull));
        (push, pull, self.join(&from, &to))
    }

    /// A publisher and a subscriber that have met: what is published from now on is wanted, and the node knows it.
    pub(crate) fn news(
        &mut self,
        publisher: impl FnOnce(PublisherBuilder) -> PublisherBuilder,
        subscriber: impl FnOnce(SubscriberBuilder) -> SubscriberBuilder,
    ) -> (Publisher, Arc<Subscriber>, Lane) {
        let (publisher, from) = self.open(publisher(PublisherBuilder::new(self.hall.clone(), "news".into())));
        let (subscriber, to) = self.open(subscriber(SubscriberBuilder::new(self.hall.clone(), "news".into())));
        let lane = self.join(&from, &to);
        self.hall.has_publisher(At { link: LINK, node: self.hall.id(), socket: SOCKET });
        self.run();
        assert_eq!(publisher.subscribers(), 1);
        (publisher, Arc::new(subscriber), lane)
    }

    pub(crate) fn replier(&mut self) -> (Arc<Replier>, Arc<dyn SocketEnd>) {
        let (replier, end) = self.open(ReplierBuilder::new(self.hall.clone(), "work".into()));
        (Arc::new(replier), end)
    }

    /// A requester and a replier that have met.
    pub(crate) fn work(
        &mut self,
        requester: impl FnOnce(RequesterBuilder) -> RequesterBuilder,
    ) -> (Requester, Arc<Replier>, Lane) {
        let (requester, from) = self.open(requester(RequesterBuilder::new(self.hall.clone(), "work".into())));
        let (replier, to) = self.replier();
        (requester, replier, self.join(&from, &to))
    }

    fn open<T>(&mut self, builder: impl IntoFuture<Output = Result<T, OpenError>>) -> (T, Arc<dyn SocketEnd>) {
        let Poll::Ready(opened) = poll_once(pin!(builder.into_future())) else { panic!("a socket waits to be opened") };
        self.take_tasks();
        (opened.expect("a socket opens"), self.hall.newest())
    }

    /// What a socket has spawned runs here.
    fn take_tasks(&mut self) {
        for task in self.env.spawned() {
            self.task(task);
        }
    }

    pub(crate) fn task(&mut self, task: impl Future<Output = ()> + Send + 'static) {
        self.tasks.push(Some(Box::pin(task)));
    }

    /// A thread of the application.
    pub(crate) fn thread(&mut self, run: impl FnOnce() + Send + 'static) {
        let bell = self.bell.clone();
        self.threads.push(loom::thread::spawn(move || {
            run();
            bell.leave();
        }));
    }

    /// Runs the tasks until all threads of the application have come to their end, and the tasks have nothing to do.
    pub(crate) fn run(&mut self) {
        let wakers: Vec<_> = (0..self.tasks.len()).map(|nth| self.bell.waker(nth)).collect();
        let mut woken = (1 << self.tasks.len()) - 1;
        loop {
            for (nth, task) in self.tasks.iter_mut().enumerate().filter(|(nth, _)| woken >> nth & 1 == 1) {
                let Some(future) = task else { continue };
                if future.as_mut().poll(&mut Context::from_waker(&wakers[nth])).is_ready() {
                    *task = None;
                }
            }
            match self.bell.wait(self.threads.len() as u32) {
                Some(tasks) => woken = tasks,
                None => break,
            }
        }
        for thread in self.threads.drain(..) {
            thread.join().expect("no panic");
        }
        self.bell.rung.lock().expect("no panic").left = 0;
    }

    /// This task has come to its end; they are counted from the first.
    pub(crate) fn is_over(&self, task: usize) -> bool {
        self.tasks[task].is_none()
    }

    /// A lane between two sockets. What one end says the other hears at once; each end has a task of its own, as it
    /// has where a network lies between them.
    pub(crate) fn join(&mut self, from: &Arc<dyn SocketEnd>, to: &Arc<dyn SocketEnd>) -> Lane {
        let now = self.env.now();
        let node = self.hall.id();
        let peer = |slots| LanePeer { node, socket: SOCKET, link: LINK, slots, max_message: 1 << 20 };
        let forth = from.clone().open_lane(peer(self.hall.has_slots(to)), now);
        let (mut out, mut again) = (Vec::new(), None);
        let mut cx = Context::from_waker(Waker::noop());
        assert_eq!(forth.poll_outgoing(&mut cx, now, &mut out, &mut again), Poll::Ready(Outgoing::Write));
        let mut opening = BytesMut::from(&out.concat()[..]);
        let open = frame::split_open(&mut opening).expect("an opening frame").expect("all of it");
        let back = to.clone().accept_lane(peer(false), &open, now).expect("the matching socket");
        let (from, to) = (from.clone(), to.clone());
        let lane = Lane { env: self.env.clone(), from, to, forth, back, lost: Arc::default() };
        if !opening.is_empty() {
            lane.back.handle_incoming(now, &mut [opening.freeze()]).expect("an honest opener");
        }
        self.task(carry(lane.clone(), true));
        self.task(carry(lane.clone(), false));
        lane
    }

    /// Its sockets meet once more, and what that brings about comes to its end.
    pub(crate) fn join_again(&mut self, lost: &Lane) {
        self.join(&lost.from, &lost.to);
        self.run();
    }
}

/// There are many of them: none leaves its memory behind.
impl Drop for NodeThread {
    fn drop(&mut self) {
        self.hall.let_go();
    }
}

// How each end of a lane sees the other one.
const SOCKET: SocketId = SocketId(0);
const LINK: u64 = 0;

/// Both ends of a lane.
#[derive(Clone)]
pub(crate) struct Lane {
    env: Env,
    /// The sockets.
    pub(crate) from: Arc<dyn SocketEnd>,
    pub(crate) to: Arc<dyn SocketEnd>,
    forth: Arc<dyn LaneEnd>,
    back: Arc<dyn LaneEnd>,
    lost: Arc<AtomicBool>,
}

/// Loses a lane, for both ends, as a task of the node's thread: not before the tasks that were woken have had a turn.
pub(crate) async fn lose(lane: Lane) {
    let mut waited = false;
    std::future::poll_fn(|cx| {
        if std::mem::replace(&mut waited, true) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
    lane.lost.store(true, Relaxed);
    lane.forth.closed(lane.env.now());
    lane.back.closed(lane.env.now());
}

/// Carries what one end says, until it says that this is all.
async fn carry(lane: Lane, forth: bool) {
    let (from, to) = if forth { (&lane.forth, &lane.back) } else { (&lane.back, &lane.forth) };
    let mut out: Vec<Bytes> = Vec::new();
    loop {
        let next = std::future::poll_fn(|cx| {
            if lane.lost.load(Relaxed) {
                return Poll::Ready(None);
            }
            loop {
                let mut again = None;
                if let Poll::Ready(next) = from.poll_outgoing(cx, lane.env.now(), &mut out, &mut again) {
                    return Poll::Ready(Some(next));
                }
                match again {
                    // It waits for some time to pass, and nothing else would show that it has.
                    Some(at) => lane.env.pass(at),
                    None => return Poll::Pending,
                }
            }
        });
        let Some(next) = next.await else { return };
        to.handle_incoming(lane.env.now(), &mut out).expect("both ends keep to the protocol");
        out.clear();
        if next == Outgoing::Finish {
            break;
        }
    }
}
