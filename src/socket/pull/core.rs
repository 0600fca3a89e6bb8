//! The pull socket itself, as its node and its lanes' carriers hold it: how do lanes open, speak and end?

use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use bytes::Bytes;

use crate::env::Env;
use crate::observe::{PullMetrics, PusherMetrics, SocketFigures, SocketMetrics};
use crate::pattern::content::Content;
use crate::pattern::lane::{LaneEnd, LanePeer, Outgoing, SocketEnd, Violation};
use crate::pattern::pull::{Figures, Inbox, PullLane};
use crate::socket::connected::Connected;
use crate::wire::control::{OpenLane, SocketKind};

/// The socket itself.
pub(super) struct Core {
    pub(super) channel: String,
    pub(super) prefetch: Option<usize>,
    pub(super) inbox: Arc<Inbox>,
    pub(super) pushers: Connected,
    pub(super) env: Env,
}

impl Core {
    pub(super) fn figures(&self) -> PullMetrics {
        let Figures { counts, waiting, in_hand, oldest, lanes } = self.inbox.figures();
        PullMetrics {
            received: counts.received,
            handed: counts.handed,
            waiting,
            in_hand,
            prefetch: self.prefetch.map(|messages| messages as u64),
            oldest: oldest.map(|at| self.env.now().saturating_duration_since(at)),
            acked: counts.acked,
            nacked: counts.nacked,
            rejected: counts.rejected,
            returned: counts.returned,
            orphaned: counts.orphaned,
            pushers: lanes
                .into_iter()
                .map(|(node, received, unanswered)| PusherMetrics { node, received, unanswered })
                .collect(),
        }
    }
}

impl SocketEnd for Core {
    fn open_lane(self: Arc<Self>, _: LanePeer, _: Instant) -> Arc<dyn LaneEnd> {
        unreachable!("routes open lanes from push sockets only")
    }

    fn accept_lane(
        self: Arc<Self>,
        from: LanePeer,
        open: &OpenLane,
        now: Instant,
    ) -> Result<Arc<dyn LaneEnd>, Violation> {
        if open.kind != SocketKind::Push {
            return Err(Violation("a lane of another kind was opened towards a pull socket"));
        }
        let lane = PullLane(self.inbox.accept(from, open, now));
        self.pushers.set(self.inbox.lane_count());
        Ok(Arc::new(Counted { lane, core: self }))
    }

    fn drain(&self, _now: Instant) {
        self.inbox.drain();
    }

    fn is_drained(&self) -> bool {
        self.inbox.is_drained()
    }

    fn close(&self) -> Vec<Content> {
        self.inbox.drain();
        self.pushers.end();
        Vec::new()
    }

    fn metrics(&self) -> SocketMetrics {
        SocketMetrics { channel: self.channel.clone(), figures: SocketFigures::Pull(self.figures()) }
    }
}

/// A lane whose end changes the number of pushers.
struct Counted {
    lane: PullLane,
    core: Arc<Core>,
}

impl LaneEnd for Counted {
    fn poll_outgoing(
        &self,
        cx: &mut Context<'_>,
        now: Instant,
        out: &mut Vec<Bytes>,
        again: &mut Option<Instant>,
    ) -> Poll<Outgoing> {
        self.lane.poll_outgoing(cx, now, out, again)
    }

    fn handle_incoming(&self, now: Instant, chunks: &mut [Bytes]) -> Result<(), Violation> {
        self.lane.handle_incoming(now, chunks)
    }

    fn owes(&self) -> bool {
        self.lane.owes()
    }

    fn look(&self, now: Instant, acked: Option<Instant>) -> bool {
        self.lane.look(now, acked)
    }

    fn closed(&self, now: Instant) {
        self.lane.closed(now);
        self.core.pushers.set(self.core.inbox.lane_count());
    }
}
