//! The one task that looks after a node as a whole: hints, dials, settling, and what is said of a node that is alone.

use std::sync::Arc;
use std::time::Instant;

use tokio::sync::mpsc;

use super::events::Event;
use super::hall::{Hall, State};
use super::nearest::nearest;
use crate::discovery::Found;
use crate::id::NodeId;
use crate::wire::limits::{LONELY_AFTER, SETTLING};

impl Hall {
    pub(super) async fn supervise(self: Arc<Self>, mut found: mpsc::Receiver<(usize, Found)>) {
        let mut timer = self.env.timer();
        loop {
            timer.set(self.act());
            tokio::select! {
                biased;
                () = self.over.cancelled() => return,
                Some((source, hint)) = found.recv() => self.handle_found(source, hint),
                () = self.changed.notified() => {}
                () = timer.fired() => {}
            }
        }
    }

    /// Does what it is time for, and says when there is something to do next.
    fn act(self: &Arc<Self>) -> Option<Instant> {
        let now = self.env.now();
        let mut guard = self.lock();
        let state = &mut *guard;
        let arbiters = self.act_arbiters(state, now);
        let dials = if state.leaving { None } else { self.dial_due(state, now) };
        let settling = self.act_settled(state, now);
        let exchange = self.act_exchange(state, now);
        let alone = self.act_alone(state, now);
        let channels = self.act_channels(state, now);
        [arbiters, dials, settling, exchange, alone, channels].into_iter().flatten().min()
    }

    fn act_arbiters(&self, state: &mut State, now: Instant) -> Option<Instant> {
        let waiting = |state: &State| -> Vec<(NodeId, Instant)> {
            state.peers.iter().filter_map(|(node, peer)| Some((*node, peer.arbiter.poll_timeout()?))).collect()
        };
        for (node, _) in waiting(state).into_iter().filter(|(_, at)| *at <= now) {
            if let Some(peer) = state.peers.get_mut(&node) {
                peer.arbiter.handle_timeout(now);
            }
            self.carry_out(state, now, node);
        }
        waiting(state).into_iter().map(|(_, at)| at).min()
    }

    fn act_settled(&self, state: &State, now: Instant) -> Option<Instant> {
        if *self.settled.borrow() {
            return None;
        }
        let until = state.started + SETTLING;
        let settled = now >= until || state.is_settled();
        self.settled.send_replace(settled);
        if settled {
            self.tell_news();
        }
        (!settled).then_some(until)
    }

    fn act_alone(&self, state: &mut State, now: Instant) -> Option<Instant> {
        state.reported |= state.links_opened > 0;
        if state.reported {
            return None;
        }
        let at = state.started + LONELY_AFTER;
        if now < at {
            return Some(at);
        }
        state.reported = true;
        let report = self.lonely_report(state);
        tracing::info!(target: "meshmq::node", node = %self.id.short(), "alone\n{report}");
        self.emit(Event::Alone { report });
        None
    }

    fn act_channels(&self, state: &mut State, now: Instant) -> Option<Instant> {
        let due = state.sockets.values().filter(|socket| socket.alone_at.is_some_and(|at| at <= now));
        let due: Vec<_> = due.map(|socket| socket.entry.clone()).collect();
        for own in due {
            let alone = !self.has_match(state, &own);
            let Some(socket) = state.sockets.get_mut(&own.id) else { continue };
            socket.alone_at = None;
            let told = std::mem::replace(&mut socket.told_alone, alone);
            if alone && !told {
                let missing = own.kind.matching();
                let mismatch = self.mismatch_of(state, &own);
                let nearest = match mismatch {
                    Some(_) => None,
                    None => nearest(&own.channel, Self::channels_of(state, missing)).map(str::to_owned),
                };
                self.emit(Event::ChannelAlone { channel: own.channel, missing: missing.name(), nearest, mismatch });
            }
        }
        state.sockets.values().filter_map(|socket| socket.alone_at).min()
    }
}
