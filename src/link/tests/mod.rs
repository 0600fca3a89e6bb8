//! Real sockets on the loopback interface, and lane ends that only record.

mod carried;
mod closing;
mod connected;
mod limited;
mod narrow;

use std::collections::VecDeque;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use tokio::runtime::Handle;

use super::*;
use crate::env::Env;
use crate::id::{NodeId, SocketId};
use crate::pattern::lane::{LaneEnd, Outgoing, Violation};
use crate::trust::{Credentials, Identity, Mesh, MeshKey};
use crate::wire::control::{Level, OpenLane, SocketKind};

/// One node's port.
struct Site {
    endpoint: Endpoint,
    node: NodeId,
    env: Env,
}

impl Site {
    fn open(key: &MeshKey) -> Self {
        Self::at(key, (Ipv4Addr::LOCALHOST, 0).into()).unwrap()
    }

    fn at(key: &MeshKey, listen: SocketAddr) -> Result<Self, BindError> {
        let env = Env::real(Handle::current());
        let identity = Identity::ephemeral(&*env.random).unwrap();
        Self::of(&identity, key, env, listen)
    }

    fn of(identity: &Identity, key: &MeshKey, env: Env, listen: SocketAddr) -> Result<Self, BindError> {
        let credentials = Credentials::new(&Mesh::derive(key, "test").unwrap(), identity, &env).unwrap();
        let endpoint = Endpoint::open(&env, &credentials, listen)?;
        Ok(Self { endpoint, node: identity.id(), env })
    }

    /// `other`, as it dials this site, and this site's view of it.
    async fn dialled_by(&self, other: &Self) -> (Connection, Connection) {
        // Each fails by itself: the other would wait for ever.
        let dialled = async { other.endpoint.dial(self.address()).await.unwrap() };
        let accepted = async { self.endpoint.accept().await.unwrap().unwrap() };
        tokio::join!(dialled, accepted)
    }

    fn address(&self) -> SocketAddr {
        self.endpoint.local_addr()
    }
}

/// Two connected sites, each with its connection: first the one that has dialled.
async fn connected() -> [(Site, Connection); 2] {
    let key = MeshKey::generate().unwrap();
    let (one, two) = (Site::open(&key), Site::open(&key));
    let (dialled, accepted) = two.dialled_by(&one).await;
    [(one, dialled), (two, accepted)]
}

/// A lane end that says what it was given, and records what it hears and how often it is closed.
#[derive(Default)]
struct Recorder {
    state: Mutex<Recorded>,
    closed: AtomicUsize,
    /// Refuses what it hears from this many bytes on.
    limit: Option<usize>,
}

#[derive(Default)]
struct Recorded {
    to_say: VecDeque<Bytes>,
    finish: bool,
    /// Says nothing before this time.
    not_before: Option<Instant>,
    heard: Vec<u8>,
    waker: Option<Waker>,
    hearing: Option<Waker>,
}

impl Recorder {
    fn saying(bytes: &[u8], finish: bool) -> Self {
        let recorder = Self::default();
        recorder.say(bytes, finish);
        recorder
    }

    /// In chunks of very different lengths.
    fn say(&self, mut bytes: &[u8], finish: bool) {
        let mut state = self.state.lock().unwrap();
        let mut length = 1;
        while !bytes.is_empty() {
            let (chunk, rest) = bytes.split_at(length.min(bytes.len()));
            state.to_say.push_back(Bytes::copy_from_slice(chunk));
            bytes = rest;
            length = length * 7 % 99_991;
        }
        state.finish |= finish;
        state.waker.take().into_iter().for_each(Waker::wake);
    }

    fn closed(&self) -> usize {
        self.closed.load(Ordering::SeqCst)
    }

    fn heard(&self) -> Vec<u8> {
        self.state.lock().unwrap().heard.clone()
    }

    /// Waits until so many bytes were heard.
    async fn has_heard(&self, count: usize) {
        std::future::poll_fn(|cx| {
            let mut state = self.state.lock().unwrap();
            state.hearing = Some(cx.waker().clone());
            if state.heard.len() >= count { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }
}

impl LaneEnd for Recorder {
    fn poll_outgoing(
        &self,
        cx: &mut Context<'_>,
        now: Instant,
        out: &mut Vec<Bytes>,
        again: &mut Option<Instant>,
    ) -> Poll<Outgoing> {
        assert_eq!(self.closed(), 0, "asked after the end");
        let mut state = self.state.lock().unwrap();
        state.waker = Some(cx.waker().clone());
        if let Some(at) = state.not_before.filter(|&at| now < at) {
            *again = Some(at);
            return Poll::Pending;
        }
        let count = state.to_say.len().min(50);
        out.extend(state.to_say.drain(..count));
        match (state.to_say.is_empty() && state.finish, count) {
            (true, _) => Poll::Ready(Outgoing::Finish),
            (false, 0) => Poll::Pending,
            (false, _) => Poll::Ready(Outgoing::Write),
        }
    }

    fn handle_incoming(&self, _now: Instant, chunks: &mut [Bytes]) -> Result<(), Violation> {
        assert_eq!(self.closed(), 0, "told after the end");
        let mut state = self.state.lock().unwrap();
        for chunk in chunks {
            state.heard.extend_from_slice(&std::mem::take(chunk));
        }
        state.hearing.take().into_iter().for_each(Waker::wake);
        match self.limit {
            Some(limit) if state.heard.len() > limit => Err(Violation("too much")),
            _ => Ok(()),
        }
    }

    fn owes(&self) -> bool {
        false
    }

    fn closed(&self, _now: Instant) {
        self.closed.fetch_add(1, Ordering::SeqCst);
    }
}

fn opening() -> OpenLane {
    OpenLane {
        from: SocketId(1),
        to: SocketId(2),
        kind: SocketKind::Push,
        level: Level::AtLeastOnce,
        epoch: 7,
        base: 0,
        taken: false,
    }
}

/// The first frame of a lane, as it goes over the wire.
fn opening_frame() -> BytesMut {
    let mut frame = BytesMut::new();
    crate::wire::frame::put_open(&mut frame, &opening());
    frame
}

/// Bytes in which a lost or doubled piece shows.
fn pattern(length: usize) -> Vec<u8> {
    let mut x = 1_u32;
    let mut next = || {
        x = x.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (x >> 24) as u8
    };
    (0..length).map(|_| next()).collect()
}
