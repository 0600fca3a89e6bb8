//! What a model is played on: threads that wait for their futures, and among them the node's with all of its tasks.

use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::task::{Context, Poll, Wake, Waker};

use bytes::{Bytes, BytesMut};
use loom::sync::{Condvar, Mutex};

use crate::env::{Env, Task};
use crate::id::{NodeId, SocketId};
use crate::node::Hall;
use crate::pattern::lane::{LaneEnd, LanePeer, Outgoing, SocketEnd};
use crate::socket::{Pull, PullBuilder, Push, PushBuilder, Replier, ReplierBuilder, Requester, RequesterBuilder};
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
        let builder = set(PushBuilder::new(self.hall.clone(), "jobs".into()));
        let push = builder.into_future().into_inner().expect("a push socket opens");
        self.take_tasks();
        (push, self.hall.newest())
    }

    pub(crate) fn pull(&mut self, set: impl FnOnce(PullBuilder) -> PullBuilder) -> (Pull, Arc<dyn SocketEnd>) {
        let builder = set(PullBuilder::new(self.hall.clone(), "jobs".into()));
        let pull = builder.into_future().into_inner().expect("a pull socket opens");
        (pull, self.hall.newest())
    }

    pub(crate) fn requester(&mut self) -> (Requester, Arc<dyn SocketEnd>) {
        let builder = RequesterBuilder::new(self.hall.clone(), "work".into());
        let requester = builder.into_future().into_inner().expect("a requester opens");
        self.take_tasks();
        (requester, self.hall.newest())
    }

    pub(crate) fn replier(&mut self, limit: usize) -> (Replier, Arc<dyn SocketEnd>) {
        let builder = ReplierBuilder::new(self.hall.clone(), "work".into()).limit(limit);
        let replier = builder.into_future().into_inner().expect("a replier opens");
        self.take_tasks();
        (replier, self.hall.newest())
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
    pub(crate) fn join(&mut self, from: &Arc<dyn SocketEnd>, to: &Arc<dyn SocketEnd>, slots: bool) -> Lane {
        let now = self.env.now();
        let peer = |slots| LanePeer {
            node: NodeId::from_bytes([1; 32]),
            socket: SocketId(0),
            link: 0,
            slots,
            max_message: 1 << 20,
        };
        let forth = from.clone().open_lane(peer(slots), now);
        let (mut out, mut again) = (Vec::new(), None);
        let mut cx = Context::from_waker(Waker::noop());
        assert_eq!(forth.poll_outgoing(&mut cx, now, &mut out, &mut again), Poll::Ready(Outgoing::Write));
        let mut opening = BytesMut::from(&out.concat()[..]);
        let open = frame::split_open(&mut opening).expect("an opening frame").expect("all of it");
        let back = to.clone().accept_lane(peer(false), &open, now).expect("the matching socket");
        let lane = Lane { env: self.env.clone(), forth, back, lost: Arc::default() };
        if !opening.is_empty() {
            lane.back.handle_incoming(now, &mut [opening.freeze()]).expect("an honest opener");
        }
        self.task(carry(lane.clone(), true));
        self.task(carry(lane.clone(), false));
        lane
    }
}

/// Both ends of a lane.
#[derive(Clone)]
pub(crate) struct Lane {
    env: Env,
    pub(crate) forth: Arc<dyn LaneEnd>,
    pub(crate) back: Arc<dyn LaneEnd>,
    lost: Arc<AtomicBool>,
}

impl Lane {
    /// It is lost, for both.
    pub(crate) fn lose(&self) {
        self.lost.store(true, Relaxed);
        self.forth.closed(self.env.now());
        self.back.closed(self.env.now());
    }
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
