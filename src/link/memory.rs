//! Carries a lane between two sockets of one node: the same bytes, without a stream.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};

use super::carry::{Carried, READS_A_TURN, Told, pause};
use super::lane::read_ahead;
use crate::env::{Env, Timer};
use crate::pattern::lane::{LaneEnd, Outgoing, Violation};
use crate::wire::control::OpenLane;
use crate::wire::frame;

/// Carries a lane between two ends until one of them ends it, and tells both so. `accept` makes the receiving end of
/// the sender's first frame. What is under way is bounded by the credit that the receiving end gives.
///
/// # Cancel safety
/// Dropped before it is ready, the lane is lost: both ends are told.
pub(crate) fn carry_in_memory(
    sending: Arc<dyn LaneEnd>,
    accept: impl FnOnce(&OpenLane) -> Result<Arc<dyn LaneEnd>, Violation> + Send + 'static,
    env: Env,
) -> impl Future<Output = Carried> + Send + 'static {
    // Made here and not in the future: one that is never polled tells the end as well.
    let sending = Told { end: sending, env };
    async move {
        match carry_both(sending, accept).await {
            Ok(()) => Carried::Finished,
            Err(violation) => {
                tracing::error!(target: "meshmq::link", %violation, "two sockets of one node do not understand each other");
                Carried::Violation(violation)
            }
        }
    }
}

async fn carry_both(
    sending: Told,
    accept: impl FnOnce(&OpenLane) -> Result<Arc<dyn LaneEnd>, Violation>,
) -> Result<(), Violation> {
    let env = sending.env.clone();
    let mut forth = Direction::from(sending);
    let mut opening = BytesMut::new();
    let open = loop {
        if let Some(open) = frame::split_open(&mut opening)? {
            break open;
        }
        if poll_fn(|cx| forth.poll(cx)).await == Outgoing::Finish && forth.chunks.is_empty() {
            return Ok(());
        }
        for chunk in forth.chunks.drain(..) {
            opening.extend_from_slice(&chunk);
        }
    };
    let mut back = Direction::from(Told { end: accept(&open)?, env });
    if let Some(bytes) = read_ahead(&mut opening) {
        back.take(&mut [bytes])?;
    }
    loop {
        for _ in 0..READS_A_TURN {
            let (next, fro) = poll_fn(|cx| poll_either(cx, &mut forth, &mut back)).await;
            let (from, to) = if fro { (&mut back, &forth) } else { (&mut forth, &back) };
            to.take(&mut from.chunks)?;
            from.chunks.clear();
            if next == Outgoing::Finish {
                return Ok(());
            }
        }
        pause().await;
    }
}

/// What one end says, and whether it was the second.
fn poll_either(cx: &mut Context<'_>, forth: &mut Direction, back: &mut Direction) -> Poll<(Outgoing, bool)> {
    // Answers first: they make room.
    if let Poll::Ready(next) = back.poll(cx) {
        return Poll::Ready((next, true));
    }
    forth.poll(cx).map(|next| (next, false))
}

/// One end, with what it has said and the other has not taken yet.
struct Direction {
    chunks: Vec<Bytes>,
    timer: Timer,
    end: Told,
}

impl From<Told> for Direction {
    fn from(end: Told) -> Self {
        Self { chunks: Vec::new(), timer: end.env.timer(), end }
    }
}

impl Direction {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Outgoing> {
        self.end.poll_outgoing(cx, &mut self.timer, &mut self.chunks)
    }

    fn take(&self, chunks: &mut [Bytes]) -> Result<(), Violation> {
        self.end.handle_incoming(chunks)
    }
}
