//! Lanes over connections, and within a host: bytes in pieces, in order, until they are over.

use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use netsim::check::Violation;
use netsim::sometimes;

use super::connection::{Chunk, Pipe};
use super::queue::Sleeper;
use super::talk::HONEST;
use super::tap::{Tap, WindowWatch};
use super::world::{Checked, World};
use super::{Event, MS, SECOND, Time};
use crate::id::SocketId;
use crate::pattern::lane::{LaneEnd as _, LanePeer, Outgoing};
use crate::pattern::pull::PullLane;
use crate::pattern::push::LaneKey;
use crate::wire::frame::{self, to_sender};

pub(super) struct Lane {
    /// `None`: within a host.
    pub(super) connection: Option<usize>,
    /// The pusher's, the puller's.
    pub(super) ends: [LaneEnd; 2],
    pipes: [Pipe; 2],
    pub(super) key: LaneKey,
    pub(super) pull: Option<PullLane>,
    own: u64,
    their: u64,
    opening: BytesMut,
    part: BytesMut,
    pub(super) tap: Tap,
    window: WindowWatch,
}

pub(super) struct LaneEnd {
    pub(super) host: usize,
    life: u32,
    sleeper: Sleeper,
    pub(super) over: bool,
    /// It has ended its direction.
    finished: bool,
    /// The other one has.
    heard_all: bool,
    busy_until: Time,
    again: Time,
}

impl Lane {
    pub(super) fn describe(&self) -> Option<String> {
        let [push, pull] = &self.ends;
        (!push.over && !pull.over).then(|| {
            let (unspent, unanswered) = (self.tap.unspent(), self.tap.unanswered());
            format!("h{} to h{}: {unspent} unspent, {unanswered} unanswered", push.host, pull.host)
        })
    }
}

impl World {
    /// A pull socket of the peer and this host's push socket match.
    pub(super) fn route(&mut self, connection: usize, end: usize, their: u64) {
        let (host, _) = self.hosts_of(connection, end);
        let Some(own) = self.hosts[host].push.as_ref().map(|push| push.socket) else { return };
        if self.connections[connection].ends[end].routes.insert((own, their)) {
            self.open_lane(connection, end, own, their);
        }
    }

    pub(super) fn lane_again(&mut self, connection: usize, end: usize, own: u64, their: u64) -> Checked {
        if !self.connections[connection].ends[end].over {
            self.open_lane(connection, end, own, their);
        }
        Ok(())
    }

    /// Opens a lane to a peer's socket, if both are there.
    fn open_lane(&mut self, connection: usize, end: usize, own: u64, their: u64) {
        let (host, other) = self.hosts_of(connection, end);
        let session = self.connections[connection].ends[end].session.as_ref();
        let entry = session.and_then(|session| session.sockets().get(&SocketId(their))).cloned();
        let present = self.hosts[host].push.as_ref().is_some_and(|push| push.socket == own);
        let Some(entry) = entry.filter(|_| present && self.hosts[host].up) else {
            self.connections[connection].ends[end].routes.remove(&(own, their));
            return;
        };
        let lane = self.add_lane(Some(connection), host, other, own, their, entry.slots);
        self.connections[connection].ends[end].carried.push((lane, 0));
    }

    pub(super) fn add_lane(
        &mut self,
        connection: Option<usize>,
        host: usize,
        other: usize,
        own: u64,
        their: u64,
        slots: bool,
    ) -> usize {
        let lane = self.lanes.len();
        let max_message = self.hosts[other].max_message;
        let link = connection.map_or(0, |connection| connection as u64 + 1);
        let peer = LanePeer { node: self.hosts[other].id, socket: SocketId(their), link, slots, max_message };
        let own_max = self.hosts[host].max_message;
        let push = self.hosts[host].push.as_mut().expect("looked at");
        let open = push.opening(their);
        let key = push.flight.open_lane(peer, &open, own_max);
        let end = |host: usize, life: u32, nth: usize| LaneEnd {
            host,
            life,
            sleeper: self.queue.sleeper(Event::Writer(lane, nth)),
            over: false,
            finished: false,
            heard_all: false,
            busy_until: 0,
            again: 0,
        };
        let ends = [end(host, self.hosts[host].life, 0), end(other, self.hosts[other].life, 1)];
        let tap = Tap::new(format!("lane {lane} from h{host} to h{other}"), open.base);
        self.lanes.push(Lane {
            connection,
            ends,
            pipes: Default::default(),
            key,
            pull: None,
            own,
            their,
            opening: BytesMut::new(),
            part: BytesMut::new(),
            tap,
            window: WindowWatch::default(),
        });
        self.lanes[lane].ends[0].sleeper.wake();
        lane
    }

    /// An end's writer has its turn.
    pub(super) fn writer(&mut self, lane: usize, end: usize) -> Checked {
        let now = self.now;
        let own = &mut self.lanes[lane].ends[end];
        own.sleeper.runs();
        if own.over || own.finished || own.life != self.hosts[own.host].life {
            return Ok(());
        }
        if own.busy_until > now {
            let until = own.busy_until;
            self.queue.at(until, Event::Writer(lane, end));
            return Ok(());
        }
        for _ in 0..SPINS {
            let (out, next, more) = if end == 0 { self.push_says(lane)? } else { self.pull_says(lane)? };
            self.check_puller(self.lanes[lane].ends[1].host)?;
            let bytes: usize = out.iter().map(Bytes::len).sum();
            self.transmit(lane, end, out);
            if next == Outgoing::Finish {
                self.finish_direction(lane, end);
                return Ok(());
            }
            if !more {
                return Ok(());
            }
            if let Some(bandwidth) = self.plan.bandwidth.filter(|_| !self.calm && bytes > 0) {
                let until = now + bytes as u64 * SECOND / bandwidth;
                self.lanes[lane].ends[end].busy_until = until;
                self.queue.at(until, Event::Writer(lane, end));
                return Ok(());
            }
        }
        Err(Violation::new("a writer comes to rest", format!("end {end} of lane {lane} always has something to say")))
    }

    /// What the pusher's end writes now, and whether to ask again.
    fn push_says(&mut self, lane: usize) -> Checked<(Vec<Bytes>, Outgoing, bool)> {
        let (host, key) = (self.lanes[lane].ends[0].host, self.lanes[lane].key);
        self.push_turn(host, |flight, _| flight.writer_turn(key))?;
        let waker = self.lanes[lane].ends[0].sleeper.waker.clone();
        let Some(push) = self.hosts[host].push.as_mut() else { return Ok((Vec::new(), Outgoing::Write, false)) };
        let over = push.is_over();
        let mut out = Vec::new();
        let any = push.flight.take_outgoing(key, &waker, &mut out);
        let finish = over || push.flight.is_finished(key);
        let to = self.lanes[lane].ends[1].host;
        for (sequence, attempt) in self.lanes[lane].tap.written(&out)? {
            self.hosts[host].push.as_mut().expect("it is").gave(sequence, to, attempt)?;
        }
        Ok((out, if finish { Outgoing::Finish } else { Outgoing::Write }, any))
    }

    fn pull_says(&mut self, lane: usize) -> Checked<(Vec<Bytes>, Outgoing, bool)> {
        let now = self.instant();
        let state = &mut self.lanes[lane];
        let Some(pull) = &state.pull else { return Ok((Vec::new(), Outgoing::Write, false)) };
        if state.ends[1].heard_all {
            return Ok((Vec::new(), Outgoing::Finish, false));
        }
        let (mut out, mut again) = (Vec::new(), None);
        let mut cx = Context::from_waker(&state.ends[1].sleeper.waker);
        let next = pull.poll_outgoing(&mut cx, now, &mut out, &mut again);
        let (credit, answered) = pull.0.window();
        if !self.hosts[state.ends[1].host].is_fixed() {
            state.window.look(self.now, credit, answered, lane)?;
        }
        match next {
            Poll::Ready(next) => Ok((out, next, true)),
            Poll::Pending => {
                if let Some(at) = again.map(|at| self.time(at)).filter(|at| self.lanes[lane].ends[1].again != *at) {
                    self.lanes[lane].ends[1].again = at;
                    self.queue.at(at.max(self.now), Event::Writer(lane, 1));
                }
                Ok((out, Outgoing::Write, false))
            }
        }
    }

    fn transmit(&mut self, lane: usize, from: usize, out: Vec<Bytes>) {
        for chunk in out {
            for piece in self.pieces(chunk) {
                self.transmit_chunk(lane, from, Chunk::Bytes(piece));
            }
        }
    }

    fn transmit_chunk(&mut self, lane: usize, from: usize, chunk: Chunk) {
        let ends = &self.lanes[lane].ends;
        let (host, other) = (ends[from].host, ends[1 - from].host);
        let delay = if self.lanes[lane].connection.is_some() { self.delay(host, other) } else { 0 };
        let at = self.now + delay;
        let pipe = &mut self.lanes[lane].pipes[from];
        pipe.flying.push_back(chunk);
        let at = pipe.arrival(at);
        self.queue.at(at, Event::Arrives(lane, from));
    }

    fn finish_direction(&mut self, lane: usize, end: usize) {
        if !std::mem::replace(&mut self.lanes[lane].ends[end].finished, true) {
            self.transmit_chunk(lane, end, Chunk::Fin);
            self.queue.at(self.now + 5 * SECOND, Event::LaneOver(lane, end));
        }
    }

    /// What was under way has arrived.
    pub(super) fn arrives(&mut self, lane: usize, from: usize) -> Checked {
        let Some(chunk) = self.lanes[lane].pipes[from].flying.pop_front() else { return Ok(()) };
        let end = 1 - from;
        if let Some(connection) = self.lanes[lane].connection {
            let at = self.end_at(connection, self.lanes[lane].ends[end].host);
            if !self.received(connection, at)? {
                return Ok(());
            }
        }
        let own = &self.lanes[lane].ends[end];
        if own.over || own.life != self.hosts[own.host].life || !self.hosts[own.host].up {
            return Ok(());
        }
        match (chunk, end) {
            (Chunk::Bytes(bytes), 0) => self.answers(lane, bytes),
            (Chunk::Bytes(bytes), _) => self.messages(lane, bytes),
            (Chunk::Fin, 0) => {
                self.lanes[lane].ends[0].heard_all = true;
                self.lane_over(lane, 0)
            }
            (Chunk::Fin, _) => {
                self.lanes[lane].ends[1].heard_all = true;
                if self.lanes[lane].pull.is_none() {
                    return self.lane_over(lane, 1);
                }
                self.finish_direction(lane, 1);
                let (host, other) = (self.lanes[lane].ends[1].host, self.lanes[lane].ends[0].host);
                let known = self.delay(host, other) + self.delay(other, host);
                self.queue.at(self.now + known, Event::LaneOver(lane, 1));
                Ok(())
            }
        }
    }

    fn messages(&mut self, lane: usize, bytes: Bytes) -> Checked {
        let now = self.instant();
        let state = &mut self.lanes[lane];
        state.tap.arrived(bytes.len());
        if let Some(pull) = &state.pull {
            let (host, other) = (state.ends[1].host, state.ends[0].host);
            let honest = pull.handle_incoming(now, &mut [bytes]);
            honest
                .map_err(|error| Violation::new(HONEST, format!("lane {lane}: h{host} hears of h{other}: {error}")))?;
            return self.check_puller(host);
        }
        state.opening.extend_from_slice(&bytes);
        if let Some(connection) = state.connection {
            let host = state.ends[1].host;
            let end = self.end_at(connection, host);
            let own = &mut self.connections[connection].ends[end];
            if !own.session.as_ref().is_some_and(|session| session.is_open()) {
                if !own.early.contains(&lane) {
                    own.early.push(lane);
                }
                return Ok(());
            }
        }
        self.accept_lane(lane)
    }

    /// The peer is admitted: its lane is taken, once its first frame is there and names a socket that is.
    pub(super) fn accept_lane(&mut self, lane: usize) -> Checked {
        let now = self.instant();
        let state = &mut self.lanes[lane];
        let (host, other) = (state.ends[1].host, state.ends[0].host);
        if state.ends[1].over || state.pull.is_some() {
            return Ok(());
        }
        let open = frame::split_open(&mut state.opening);
        let open = open.map_err(|error| Violation::new(HONEST, format!("lane {lane}: {error}")))?;
        let Some(open) = open else { return Ok(()) };
        if let Some(connection) = state.connection {
            let link = self.hosts[host].peers[other].arbiter.link();
            let admitted = self.connections[connection].ends[self.end_at(connection, host)].admitted;
            if !admitted || link.is_none_or(|link| link.0 != connection as u64) {
                let what = format!("h{host} takes a lane of h{other} on connection {connection}, its link is {link:?}");
                return Err(Violation::new("nothing is taken before both have admitted", what));
            }
        }
        let Some(pull) = self.hosts[host].pull.as_ref().filter(|pull| pull.socket == open.to.0) else {
            // The socket has closed meanwhile, which the peer could not know: the lane is dropped, the link stays.
            self.lane_over(lane, 1)?;
            let at = self.now + self.delay(host, other);
            self.queue.at(at, Event::LaneOver(lane, 0));
            return Ok(());
        };
        let link = self.lanes[lane].connection.map_or(0, |connection| connection as u64 + 1);
        let peer = LanePeer {
            node: self.hosts[other].id,
            socket: open.from,
            link,
            slots: false,
            max_message: self.hosts[other].max_message,
        };
        let end = PullLane(pull.inbox.accept(peer, &open, now));
        let state = &mut self.lanes[lane];
        state.pull = Some(end);
        state.ends[1].sleeper.wake();
        if let Some(connection) = state.connection {
            let at = self.end_at(connection, host);
            self.connections[connection].ends[at].carried.push((lane, 1));
        }
        let rest = std::mem::take(&mut self.lanes[lane].opening).freeze();
        if rest.is_empty() {
            return Ok(());
        }
        let pull = self.lanes[lane].pull.as_ref().expect("just made");
        let honest = pull.handle_incoming(now, &mut [rest]);
        honest.map_err(|error| Violation::new(HONEST, format!("lane {lane}: h{host} hears of h{other}: {error}")))?;
        self.check_puller(host)
    }

    fn answers(&mut self, lane: usize, bytes: Bytes) -> Checked {
        let state = &mut self.lanes[lane];
        state.part.extend_from_slice(&bytes);
        let (host, other, key) = (state.ends[0].host, state.ends[1].host, state.key);
        let mut part = std::mem::take(&mut state.part);
        let mut tap = std::mem::replace(&mut state.tap, Tap::new(String::new(), 0));
        let (name, ledger, elapsed) = (self.hosts[other].name.clone(), self.ledger.clone(), self.elapsed());
        let id = self.hosts[host].ids();
        let (mut broken, mut late) = (None, None);
        let honest = self.push_turn(host, |flight, now| {
            let before = flight.counts.late;
            let honest = frame::answers(&mut part, |kind, payload| {
                if let Err(violation) = tap.answer(elapsed, kind, payload, &name, &ledger, id) {
                    broken.get_or_insert(violation);
                }
                flight.handle_answer(key, kind, payload, now)?;
                if kind == to_sender::LATE && flight.counts.late > before {
                    late = Some(frame::Numbers::new(payload).next()?);
                }
                Ok(())
            });
            honest.map_err(|error| Violation::new(HONEST, format!("lane {lane}: h{host} hears of h{other}: {error}")))
        })?;
        let honest = honest.unwrap_or(Ok(()));
        let state = &mut self.lanes[lane];
        (state.tap, state.part) = (tap, part);
        if let Some(sequence) = late {
            let given = self.hosts[host].push.as_ref().map_or(0, |push| push.message(sequence).given.len());
            sometimes!("attempt 1 acknowledged late while attempt 2 runs", given > 1);
        }
        honest?;
        broken.map_or(Ok(()), Err)
    }

    /// A lane is over for one end, whichever way.
    pub(super) fn lane_over(&mut self, lane: usize, end: usize) -> Checked {
        let own = &mut self.lanes[lane].ends[end];
        let (host, life) = (own.host, own.life);
        if std::mem::replace(&mut own.over, true) || life != self.hosts[host].life || !self.hosts[host].up {
            return Ok(());
        }
        let state = &self.lanes[lane];
        let finished = state.ends[end].finished && state.ends[end].heard_all;
        let (connection, own, their, key) = (state.connection, state.own, state.their, state.key);
        if let Some(connection) = connection {
            let at = self.end_at(connection, host);
            let carrier = &mut self.connections[connection].ends[at];
            carrier.carried.retain(|carried| *carried != (lane, end));
            if end == 0 {
                if carrier.over || finished {
                    carrier.routes.remove(&(own, their));
                } else {
                    self.queue.at(self.now + SECOND, Event::LaneAgain(connection, at, own, their));
                }
            }
        }
        if end == 0 {
            sometimes!("link replaced with credit of the old one unspent", self.lanes[lane].tap.unspent() > 0);
            self.push_turn(host, |flight, now| flight.close_lane(key, now))?;
        } else {
            let now = self.instant();
            sometimes!("link lost while a frame is half written", self.lanes[lane].tap.is_half_written());
            if let Some(pull) = self.lanes[lane].pull.take() {
                pull.closed(now);
                self.check_puller(host)?;
            }
        }
        if connection.is_none() {
            self.lane_over(lane, 1 - end)?;
        }
        Ok(())
    }

    pub(super) fn lose_lanes(&mut self, host: usize) -> Checked {
        for lane in 0..self.lanes.len() {
            let ends = &self.lanes[lane].ends;
            let concerned =
                ends.iter().any(|end| end.host == host && !end.over) && self.lanes[lane].connection.is_some();
            if concerned && self.random.chance(600) {
                let (first, later) = if self.random.chance(500) { (0, 1) } else { (1, 0) };
                let at = self.now + self.random.below(20 * MS);
                if first == 0 {
                    self.given_up(self.lanes[lane].ends[1].host, at);
                }
                self.lane_over(lane, first)?;
                self.queue.at(at, Event::LaneOver(lane, later));
            }
        }
        Ok(())
    }

    /// Something is owed over this lane, as one of its ends sees it.
    pub(super) fn owes(&self, lane: usize, end: usize) -> bool {
        let state = &self.lanes[lane];
        match end {
            0 => self.hosts[state.ends[0].host].push.as_ref().is_some_and(|push| push.flight.owes(state.key)),
            _ => state.pull.as_ref().is_some_and(|pull| pull.owes()),
        }
    }

    /// The lanes that an end of a connection carries look at what was acknowledged; whether one of them asks for more.
    pub(super) fn look(&self, connection: usize, end: usize) -> bool {
        let own = &self.connections[connection].ends[end];
        let (now, acked) = (self.instant(), own.acked.map(|at| self.instant_of(at)));
        let pulls =
            own.carried.iter().filter(|(_, end)| *end == 1).filter_map(|(lane, _)| self.lanes[*lane].pull.as_ref());
        pulls.filter(|pull| pull.look(now, acked)).count() > 0
    }

    /// A host that was never given a delivery says that it has handled it.
    pub(super) fn lie(&mut self, lies: usize) -> Checked {
        let Some(liar) = self.plan.liar.filter(|_| lies < 800 && !self.calm) else { return Ok(()) };
        self.queue.at(self.now + 5 * MS, Event::Lie(lies + 1));
        let open =
            |lane: &Lane| lane.ends.iter().all(|end| !end.over) && lane.connection.is_some() && lane.pull.is_some();
        let lanes = self.lanes.iter().enumerate().filter(|(_, lane)| open(lane) && lane.ends[1].host == liar);
        let told = lanes.filter_map(|(nth, lane)| {
            let host = &self.hosts[lane.ends[0].host];
            let id = host.ids();
            Some((nth, host.given_to_others(liar, |sequence| self.ledger.end(&id(sequence)).is_none())?))
        });
        let Some((lane, (sequence, attempt))) = told.max_by_key(|(_, (_, attempt))| *attempt) else { return Ok(()) };
        let mut lie = BytesMut::new();
        let kind = u64::from(to_sender::ACK);
        frame::put_answer(&mut lie, to_sender::LATE, &frame::Payload::of(&[sequence, u64::from(attempt), kind]).0);
        self.transmit_chunk(lane, 1, Chunk::Bytes(lie.freeze()));
        Ok(())
    }
}

/// More than a writer ever has to say at one time.
const SPINS: usize = 1000;
