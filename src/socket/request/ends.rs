//! What the node and a lane's carrier hold of a requester: how do lanes open, speak and end?

use std::sync::Arc;
use std::sync::atomic::Ordering::*;
use std::task::{Context, Poll};
use std::time::Instant;

use bytes::Bytes;

use super::core::Core;
use crate::observe::{SocketFigures, SocketMetrics};
use crate::pattern::content::Content;
use crate::pattern::lane::{LaneEnd, LanePeer, Outgoing, SocketEnd, Violation};
use crate::pattern::push::{LaneKey, lock};
use crate::wire::control::{Level, OpenLane, SocketKind};

impl SocketEnd for Core {
    fn open_lane(self: Arc<Self>, to: LanePeer, _now: Instant) -> Arc<dyn LaneEnd> {
        let open = OpenLane {
            from: *self.id.get().expect("lanes open after registration"),
            to: to.socket,
            kind: SocketKind::Requester,
            level: Level::AtMostOnce,
            epoch: self.epoch,
            base: 0,
            taken: false,
        };
        let (key, repliers) = self.turn(|requests, _| (requests.open_lane(to, &open), requests.lane_count()));
        self.repliers.set(repliers);
        Arc::new(RequestLane { core: self, key })
    }

    fn accept_lane(self: Arc<Self>, _: LanePeer, _: &OpenLane, _: Instant) -> Result<Arc<dyn LaneEnd>, Violation> {
        Err(Violation("a lane was opened towards a requester"))
    }

    fn drain(&self, _now: Instant) {
        if self.turn(|requests, _| requests.refuse_more()) {
            self.hall.drained();
        }
    }

    fn is_drained(&self) -> bool {
        lock(&self.requests).is_drained()
    }

    /// Whoever waits is told how its request ended: nothing is handed back.
    fn close(&self) -> Vec<Content> {
        self.gone.store(true, Release);
        self.turn(|requests, _| requests.close());
        self.repliers.end();
        self.work.notify_one();
        Vec::new()
    }

    fn metrics(&self) -> SocketMetrics {
        SocketMetrics { channel: self.channel.clone(), figures: SocketFigures::Requester(self.figures()) }
    }
}

/// The lane in the hands of its carrier.
struct RequestLane {
    core: Arc<Core>,
    key: LaneKey,
}

impl LaneEnd for RequestLane {
    fn poll_outgoing(
        &self,
        cx: &mut Context<'_>,
        now: Instant,
        out: &mut Vec<Bytes>,
        _again: &mut Option<Instant>,
    ) -> Poll<Outgoing> {
        let mut requests = lock(&self.core.requests);
        let any = requests.take_outgoing(self.key, now, cx.waker(), out);
        let over = requests.is_finished(self.key);
        drop(requests);
        match (over, any) {
            (true, _) => Poll::Ready(Outgoing::Finish),
            (false, true) => Poll::Ready(Outgoing::Write),
            (false, false) => Poll::Pending,
        }
    }

    fn handle_incoming(&self, now: Instant, chunks: &mut [Bytes]) -> Result<(), Violation> {
        let core = &self.core;
        let (result, repliers) = core.turn(|requests, _| {
            let result = requests.handle_incoming(self.key, chunks, now, core.max_message);
            (result, requests.lane_count())
        });
        // One may have said that it takes no more.
        core.repliers.set(repliers);
        result
    }

    fn is_dialogue(&self) -> bool {
        true
    }

    fn owes(&self) -> bool {
        lock(&self.core.requests).owes(self.key)
    }

    fn closed(&self, _now: Instant) {
        let repliers = self.core.turn(|requests, _| {
            requests.close_lane(self.key);
            requests.lane_count()
        });
        self.core.repliers.set(repliers);
    }
}
