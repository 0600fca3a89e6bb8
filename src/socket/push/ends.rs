//! What the node and a lane's carrier hold of a push socket: how do lanes open, speak and end?

use std::sync::Arc;
use std::sync::atomic::Ordering::*;
use std::task::{Context, Poll};
use std::time::Instant;

use bytes::{Bytes, BytesMut};

use super::core::Core;
use crate::observe::{SocketFigures, SocketMetrics};
use crate::pattern::content::Content;
use crate::pattern::lane::{LaneEnd, LanePeer, Outgoing, SocketEnd, Violation};
use crate::pattern::push::{LaneKey, lock};
use crate::sync::Mutex;
use crate::wire::control::{Level, OpenLane, SocketKind};
use crate::wire::frame;

impl SocketEnd for Core {
    fn open_lane(self: Arc<Self>, to: LanePeer, _now: Instant) -> Arc<dyn LaneEnd> {
        let mut board = lock(&self.flight.0);
        let open = OpenLane {
            from: *self.id.get().expect("lanes open after registration"),
            to: to.socket,
            kind: SocketKind::Push,
            level: Level::AtLeastOnce,
            epoch: self.epoch,
            base: 0,
            taken: board.flight.wants_taken(),
        };
        if to.max_message < self.max_message && !self.warned.swap(true, Relaxed) {
            tracing::warn!(
                target: "meshmq::socket",
                node = %to.node.short(),
                channel = self.channel,
                "a puller takes messages up to {} bytes only and gets none: this node sends up to {}; this is said once a socket",
                to.max_message,
                self.max_message
            );
        }
        let key = board.flight.open_lane(to, &open, self.max_message);
        let pullers = board.flight.lane_count();
        drop(board);
        self.pullers.set(pullers);
        Arc::new(PushLane { core: self, key, part: Mutex::default() })
    }

    fn accept_lane(self: Arc<Self>, _: LanePeer, _: &OpenLane, _: Instant) -> Result<Arc<dyn LaneEnd>, Violation> {
        Err(Violation("a lane was opened towards a push socket"))
    }

    fn drain(&self, _now: Instant) {
        if self.refuse_more() {
            self.settled();
        }
    }

    fn is_drained(&self) -> bool {
        lock(&self.intake.0).used().messages == 0
    }

    fn close(&self) -> Vec<Content> {
        self.drain(self.env.now());
        self.gone.store(true, Release);
        let mut board = lock(&self.flight.0);
        let undelivered = board.flight.drain(&mut lock(&self.intake.0));
        board.notes.clear();
        board.flushes.clear();
        self.conclude(board);
        self.pullers.end();
        self.work.notify_one();
        undelivered
    }

    fn metrics(&self) -> SocketMetrics {
        SocketMetrics { channel: self.channel.clone(), figures: SocketFigures::Push(self.figures()) }
    }
}

/// The lane in the hands of its carrier.
struct PushLane {
    core: Arc<Core>,
    key: LaneKey,
    /// An answer that has not arrived in full.
    part: Mutex<BytesMut>,
}

impl LaneEnd for PushLane {
    fn poll_outgoing(
        &self,
        cx: &mut Context<'_>,
        _now: Instant,
        out: &mut Vec<Bytes>,
        _again: &mut Option<Instant>,
    ) -> Poll<Outgoing> {
        let core = &self.core;
        core.turn(|flight, _| flight.writer_turn(self.key));
        let mut board = lock(&core.flight.0);
        let any = board.flight.take_outgoing(self.key, cx.waker(), out);
        // Looked at once the waker is kept: whatever empties the socket from now on wakes it.
        let over = {
            let intake = lock(&core.intake.0);
            intake.is_closed() && intake.used().messages == 0
        };
        if over || board.flight.is_finished(self.key) {
            Poll::Ready(Outgoing::Finish)
        } else if any {
            Poll::Ready(Outgoing::Write)
        } else {
            Poll::Pending
        }
    }

    fn handle_incoming(&self, _now: Instant, chunks: &mut [Bytes]) -> Result<(), Violation> {
        let mut part = lock(&self.part);
        for chunk in chunks {
            part.extend_from_slice(&std::mem::take(chunk));
        }
        self.core
            .turn(|flight, now| {
                frame::answers(&mut part, |kind, payload| flight.handle_answer(self.key, kind, payload, now))
            })
            .0
    }

    fn owes(&self) -> bool {
        lock(&self.core.flight.0).flight.owes(self.key)
    }

    fn closed(&self, _now: Instant) {
        let core = &self.core;
        let pullers = core.turn(|flight, now| {
            if !planted!(LaneLossUnnoticed) {
                flight.close_lane(self.key, now);
            }
            flight.lane_count()
        });
        core.pullers.set(pullers.0);
    }
}
