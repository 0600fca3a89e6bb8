//! What the node and a lane's carrier hold of a publisher: how do lanes open, speak and end?

use std::sync::Arc;
use std::sync::atomic::Ordering::*;
use std::task::{Context, Poll};
use std::time::Instant;

use bytes::{Bytes, BytesMut};

use super::core::Core;
use crate::observe::{SocketFigures, SocketMetrics};
use crate::pattern::content::Content;
use crate::pattern::lane::{LaneEnd, LanePeer, Outgoing, SocketEnd, Violation};
use crate::pattern::publish::Next;
use crate::pattern::push::{LaneKey, lock};
use crate::sync::Mutex;
use crate::wire::control::{Level, OpenLane, SocketKind};
use crate::wire::frame;

impl SocketEnd for Core {
    fn open_lane(self: Arc<Self>, to: LanePeer, _now: Instant) -> Arc<dyn LaneEnd> {
        let open = OpenLane {
            from: *self.id.get().expect("lanes open after registration"),
            to: to.socket,
            kind: SocketKind::Publisher,
            level: Level::AtLeastOnce,
            epoch: self.epoch,
            base: 0,
            taken: false,
        };
        let key = lock(&self.board).publisher.open_lane(to, &open);
        Arc::new(PublisherLane { core: self, key, part: Mutex::default() })
    }

    fn accept_lane(self: Arc<Self>, _: LanePeer, _: &OpenLane, _: Instant) -> Result<Arc<dyn LaneEnd>, Violation> {
        Err(Violation("a lane was opened towards a publisher"))
    }

    fn drain(&self, _now: Instant) {
        self.refuse_more();
    }

    fn is_drained(&self) -> bool {
        lock(&self.board).publisher.is_settled()
    }

    fn close(&self) -> Vec<Content> {
        self.gone.store(true, Release);
        self.refuse_more();
        lock(&self.board).flushes.clear();
        self.subscribers.end();
        self.work.notify_one();
        // What was published is owed to nobody in particular: it is counted, and not handed back.
        Vec::new()
    }

    fn metrics(&self) -> SocketMetrics {
        SocketMetrics { channel: self.channel.clone(), figures: SocketFigures::Publisher(self.figures()) }
    }
}

/// The lane in the hands of its carrier.
struct PublisherLane {
    core: Arc<Core>,
    key: LaneKey,
    /// An answer that has not arrived in full.
    part: Mutex<BytesMut>,
}

impl LaneEnd for PublisherLane {
    fn poll_outgoing(
        &self,
        cx: &mut Context<'_>,
        _now: Instant,
        out: &mut Vec<Bytes>,
        _again: &mut Option<Instant>,
    ) -> Poll<Outgoing> {
        match self.core.turn(|publisher| publisher.take_outgoing(self.key, cx.waker(), out)) {
            Next::Write => Poll::Ready(Outgoing::Write),
            Next::Finish => Poll::Ready(Outgoing::Finish),
            Next::Wait => Poll::Pending,
        }
    }

    fn handle_incoming(&self, _now: Instant, chunks: &mut [Bytes]) -> Result<(), Violation> {
        let mut part = lock(&self.part);
        for chunk in chunks {
            part.extend_from_slice(&std::mem::take(chunk));
        }
        self.core.turn(|publisher| {
            frame::answers(&mut part, |kind, payload| publisher.handle_answer(self.key, kind, payload))
        })
    }

    fn owes(&self) -> bool {
        lock(&self.core.board).publisher.owes(self.key)
    }

    fn closed(&self, now: Instant) {
        self.core.turn(|publisher| publisher.close_lane(self.key, now));
        // Whoever it led to is forgotten in a while.
        self.core.work.notify_one();
    }
}
