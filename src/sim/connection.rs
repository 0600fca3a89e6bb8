//! Connections: how they come about and end, and what sessions and arbiters say over them.

use std::collections::{BTreeSet, VecDeque};

use bytes::{Bytes, BytesMut};
use netsim::check::Violation;
use netsim::sometimes;

use super::host::{PULL, PUSH};
use super::world::{Checked, World};
use super::{Event, MS, SECOND, Time};
use crate::session::{ConnectionId, Ending, Heard, Session, Verdict};
use crate::wire::control::{self, Control, Hello, REVISION};

/// A connection of two hosts, with both its ends.
pub(super) struct Connection {
    /// The dialler, the acceptor.
    pub(super) ends: [End; 2],
    /// By who writes.
    control: [Pipe; 2],
    dial_over: bool,
}

pub(super) struct End {
    pub(super) host: usize,
    pub(super) life: u32,
    /// From when it is authenticated until it is over.
    pub(super) session: Option<Session>,
    pub(super) over: bool,
    buffer: BytesMut,
    /// Grows with what arrives.
    received: u64,
    /// The peer's transport will acknowledge what has arrived there.
    ack_due: bool,
    /// The peer has said Admitted.
    pub(super) admitted: bool,
    adopted_at: Time,
    over_at: Time,
    /// When something has arrived last, and since when something is owed.
    heard_at: Time,
    owed_since: Option<Time>,
    /// It is told of as the link.
    pub(super) open: bool,
    /// The lanes that this end has opened, by both ends' sockets.
    pub(super) routes: BTreeSet<(u64, u64)>,
    /// The lanes that it carries, by the lane's own end.
    pub(super) carried: Vec<(usize, usize)>,
    /// Lanes whose first bytes came before it was open.
    pub(super) early: Vec<usize>,
    timer: Time,
}

/// What is under way in one direction of a stream: it keeps its order.
#[derive(Debug, Default)]
pub(super) struct Pipe {
    pub(super) flying: VecDeque<Chunk>,
    pub(super) last: Time,
}

#[derive(Debug)]
pub(super) enum Chunk {
    Bytes(Bytes),
    Fin,
}

impl Pipe {
    /// When what is sent now arrives.
    pub(super) fn arrival(&mut self, at: Time) -> Time {
        self.last = self.last.max(at);
        self.last
    }
}

impl World {
    pub(super) fn connections_between(&self, a: usize, b: usize) -> Vec<usize> {
        let of = |nth: &usize| {
            let [x, y] = &self.connections[*nth].ends;
            (x.host == a && y.host == b) || (x.host == b && y.host == a)
        };
        (0..self.connections.len()).filter(of).collect()
    }

    /// One that is not over at this host, with this peer.
    fn has_connection(&self, host: usize, peer: usize) -> bool {
        self.connections.iter().any(|connection| {
            let [a, b] = &connection.ends;
            let at = |own: &End, other: &End| {
                own.host == host && other.host == peer && own.session.is_some() && own.life == self.hosts[host].life
            };
            at(a, b) || at(b, a)
        })
    }

    /// It is time to dial a peer, unless there is a link.
    pub(super) fn dial(&mut self, host: usize, life: u32, peer: usize) -> Checked {
        let own = &mut self.hosts[host];
        if own.life != life || !own.up || own.goodbye {
            return Ok(());
        }
        let state = &mut own.peers[peer];
        // A host that stood still comes to it later.
        if state.next_dial > self.now {
            return Ok(());
        }
        state.next_dial = Time::MAX;
        if state.arbiter.link().is_some() || state.gone {
            return Ok(());
        }
        if state.dialling || self.has_connection(host, peer) {
            self.dial_at(host, peer, self.now + 250 * MS);
            return Ok(());
        }
        self.dial_now(host, peer);
        Ok(())
    }

    pub(super) fn dial_at(&mut self, host: usize, peer: usize, at: Time) {
        self.hosts[host].peers[peer].next_dial = at;
        self.queue.at(at, Event::Dial(host, self.hosts[host].life, peer));
    }

    pub(super) fn dial_now(&mut self, host: usize, peer: usize) {
        let connection = self.connections.len();
        let end = |host: usize, life: u32| End {
            host,
            life,
            session: None,
            over: false,
            buffer: BytesMut::new(),
            received: 0,
            ack_due: false,
            admitted: false,
            adopted_at: 0,
            over_at: 0,
            heard_at: 0,
            owed_since: None,
            open: false,
            routes: BTreeSet::new(),
            carried: Vec::new(),
            early: Vec::new(),
            timer: 0,
        };
        let ends = [end(host, self.hosts[host].life), end(peer, self.hosts[peer].life)];
        self.connections.push(Connection { ends, control: Default::default(), dial_over: false });
        let own = &mut self.hosts[host].peers[peer];
        own.dialling = true;
        let fast = own.lost.is_some_and(|lost| self.now < lost + 10 * SECOND);
        let period = if fast { SECOND } else { 4 * SECOND };
        let period = period - self.random.below(period * 15 / 100);
        let other = &self.hosts[peer].peers[host];
        sometimes!("two nodes dial each other at the same time", other.dialling);
        self.queue.at(self.now + period, Event::DialOver(connection));
        let at = self.now + self.delay(host, peer);
        self.queue.at(at, Event::DialArrives(connection));
    }

    pub(super) fn dial_arrives(&mut self, connection: usize) -> Checked {
        let [a, b] = &self.connections[connection].ends;
        let (from, to) = (a.host, b.host);
        if self.connections[connection].dial_over || !self.hosts[to].up || self.hosts[to].goodbye {
            return Ok(());
        }
        self.connections[connection].ends[1].life = self.hosts[to].life;
        let at = self.now + self.delay(to, from);
        self.queue.at(at, Event::DiallerUp(connection));
        Ok(())
    }

    /// The dial has taken its time: if nobody has answered, it has failed.
    pub(super) fn dial_over(&mut self, connection: usize) -> Checked {
        let end = &self.connections[connection].ends[0];
        let (host, peer, life) = (end.host, self.connections[connection].ends[1].host, end.life);
        if end.session.is_none() && !self.connections[connection].dial_over && self.hosts[host].life == life {
            self.connections[connection].dial_over = true;
            self.connections[connection].ends[0].over = true;
            self.hosts[host].peers[peer].dialling = false;
            self.dial_at(host, peer, self.now);
        }
        Ok(())
    }

    /// An end is authenticated.
    pub(super) fn adopt(&mut self, connection: usize, end: usize) -> Checked {
        let [a, b] = &self.connections[connection].ends;
        let (host, peer) = if end == 0 { (a.host, b.host) } else { (b.host, a.host) };
        let life = self.connections[connection].ends[end].life;
        if self.connections[connection].ends[end].over || (end == 0 && self.connections[connection].dial_over) {
            return Ok(());
        }
        if end == 0 {
            self.connections[connection].dial_over = true;
            if self.hosts[host].life == life {
                self.hosts[host].peers[peer].dialling = false;
            }
        }
        if !self.hosts[host].up || self.hosts[host].life != life || self.hosts[host].goodbye {
            return self.reset(connection, end);
        }
        if end == 0 {
            let at = self.now + self.delay(host, peer);
            // What the dialler says does not overtake that.
            self.connections[connection].control[0].last = at;
            self.queue.at(at, Event::AcceptorUp(connection));
        }
        let own = &self.hosts[host];
        let (live, links) = own.peers[peer].arbiter.greeting();
        let hello = Hello {
            revision: REVISION,
            name: own.name.to_string(),
            incarnation: own.incarnation(),
            live,
            links,
            max_message: own.max_message as u64,
            addresses: Vec::new(),
        };
        let session = Session::new(self.instant(), own.id < self.hosts[peer].id, hello);
        let own = &mut self.connections[connection].ends[end];
        own.session = Some(session);
        (own.adopted_at, own.heard_at) = (self.now, self.now);
        self.say(connection, end);
        self.look_at_session_time(connection, end);
        Ok(())
    }

    /// A host answers what it knows nothing of: the other end is told so.
    fn reset(&mut self, connection: usize, end: usize) -> Checked {
        let [a, b] = &self.connections[connection].ends;
        let (host, other) = if end == 0 { (a.host, b.host) } else { (b.host, a.host) };
        let own = &mut self.connections[connection].ends[end];
        (own.over, own.over_at) = (true, self.now);
        if self.hosts[host].up && !self.connections[connection].ends[1 - end].over {
            let at = self.now + self.delay(host, other);
            self.queue.at(at, Event::Closed(connection, 1 - end));
        }
        Ok(())
    }

    /// All that a session has to say goes under way.
    pub(super) fn say(&mut self, connection: usize, end: usize) {
        let now_said = {
            let Some(session) = &mut self.connections[connection].ends[end].session else { return };
            let (mut said, mut goodbye) = (BytesMut::new(), false);
            while let Some(frame) = session.poll_frame() {
                goodbye |= matches!(frame, Control::Goodbye { .. });
                control::encode(&frame, &mut said);
            }
            (said.freeze(), goodbye)
        };
        let (said, goodbye) = now_said;
        if said.is_empty() {
            return;
        }
        let (from, to) = self.hosts_of(connection, end);
        for piece in self.pieces(said) {
            let at = self.now + self.delay(from, to);
            let pipe = &mut self.connections[connection].control[end];
            pipe.flying.push_back(Chunk::Bytes(piece));
            let at = pipe.arrival(at);
            self.queue.at(at, Event::Control(connection, end));
        }
        if goodbye {
            // The peer closes when it has read that; if it does not, this end does.
            self.queue.at(self.now + 500 * MS, Event::Close(connection, end));
        }
    }

    /// This host, and the other.
    pub(super) fn hosts_of(&self, connection: usize, end: usize) -> (usize, usize) {
        let ends = &self.connections[connection].ends;
        (ends[end].host, ends[1 - end].host)
    }

    /// What is written arrives in pieces, and a frame may be cut anywhere.
    pub(super) fn pieces(&mut self, mut bytes: Bytes) -> Vec<Bytes> {
        let mut pieces = Vec::with_capacity(2);
        while bytes.len() > 1 && pieces.len() < 4 && self.random.chance(300) {
            let at = self.random.from(1, bytes.len() as u64 - 1) as usize;
            pieces.push(bytes.split_to(at));
        }
        pieces.push(bytes);
        pieces
    }

    /// Something has arrived at an end, and its transport acknowledges that. False: nobody is there.
    pub(super) fn received(&mut self, connection: usize, end: usize) -> Checked<bool> {
        let (host, other) = self.hosts_of(connection, end);
        let own = &self.connections[connection].ends[end];
        if self.hosts[host].up && own.life != self.hosts[host].life {
            self.reset(connection, end)?;
            return Ok(false);
        }
        if !self.hosts[host].up || own.over {
            return Ok(false);
        }
        self.connections[connection].ends[end].received += 1;
        self.connections[connection].ends[end].heard_at = self.now;
        if !std::mem::replace(&mut self.connections[connection].ends[1 - end].ack_due, true) {
            let at = self.now + self.delay(host, other);
            self.queue.at(at, Event::Heard(connection, 1 - end));
        }
        Ok(true)
    }

    /// The transport of the other end has acknowledged something.
    pub(super) fn heard(&mut self, connection: usize, end: usize) -> Checked {
        let now = self.now;
        let end = &mut self.connections[connection].ends[end];
        end.ack_due = false;
        end.received += 1;
        end.heard_at = now;
        Ok(())
    }

    pub(super) fn control_arrives(&mut self, connection: usize, from: usize) -> Checked {
        let Some(Chunk::Bytes(bytes)) = self.connections[connection].control[from].flying.pop_front() else {
            return Ok(());
        };
        let end = 1 - from;
        if !self.received(connection, end)? || self.connections[connection].ends[end].session.is_none() {
            return Ok(());
        }
        self.connections[connection].ends[end].buffer.extend_from_slice(&bytes);
        let (host, peer) = self.hosts_of(connection, end);
        loop {
            let now = self.instant();
            let own = &mut self.connections[connection].ends[end];
            let Some(session) = &mut own.session else { return Ok(()) };
            let frame = match control::split(&mut own.buffer) {
                Ok(Some(frame)) => frame,
                Ok(None) => break,
                Err(error) => return Err(Violation::new(HONEST, format!("h{host} hears of h{peer}: {error}"))),
            };
            let told = format_frame(&frame);
            let heard = session.handle_frame(now, frame);
            let heard =
                heard.map_err(|error| Violation::new(HONEST, format!("h{host} hears {told} of h{peer}: {error}")))?;
            self.hears(connection, end, heard)?;
        }
        self.say(connection, end);
        self.look_at_session_time(connection, end);
        Ok(())
    }

    fn hears(&mut self, connection: usize, end: usize, heard: Heard) -> Checked {
        let (host, peer) = self.hosts_of(connection, end);
        let (now, id) = (self.instant(), ConnectionId(connection as u64));
        match heard {
            Heard::Hello(hello) => {
                let arbiter = &mut self.hosts[host].peers[peer].arbiter;
                let old = arbiter.incarnation().filter(|old| *old != hello.incarnation);
                let live = old.and_then(|_| arbiter.link());
                arbiter.handle_hello(now, id, &hello);
                if let Some(link) = live.filter(|_| hello.incarnation == self.hosts[peer].incarnation()) {
                    let other = &self.connections[link.0 as usize].ends;
                    let mine = usize::from(other[0].host != host);
                    sometimes!("peer restarted against its own dead link", !other[mine].over);
                }
                self.carry_out(host, peer)?;
            }
            Heard::Admitted => {
                self.connections[connection].ends[end].admitted = true;
                let hello = self.connections[connection].ends[end].session.as_ref().and_then(|session| session.peer());
                let hello = hello.expect("its Hello came first").clone();
                self.hosts[host].peers[peer].arbiter.handle_admitted(now, id, &hello);
                self.carry_out(host, peer)?;
            }
            Heard::Sockets(change) => {
                for their in &change.opened {
                    if self.hosts[host].push.is_some() && their.kind == PULL {
                        self.route(connection, end, their.id.0);
                    }
                    debug_assert!(their.kind == PULL || their.kind == PUSH);
                }
            }
            Heard::Goodbye(_) => {
                self.hosts[host].peers[peer].gone = true;
                self.close_connection(connection, end, "the peer has left")?;
            }
            Heard::Peers(_) | Heard::StatusAsk | Heard::Status(_) | Heard::Nothing => {}
        }
        Ok(())
    }

    /// Carries out what the arbiter of a host has decided about a peer.
    pub(super) fn carry_out(&mut self, host: usize, peer: usize) -> Checked {
        while let Some(verdict) = self.hosts[host].peers[peer].arbiter.poll_verdict() {
            self.note(|| format!("h{host} about h{peer}: {verdict:?}"));
            match verdict {
                Verdict::Admit(id) => {
                    let (connection, now) = (id.0 as usize, self.instant());
                    let end = self.end_at(connection, host);
                    if let Some(session) = &mut self.connections[connection].ends[end].session {
                        session.admit(now);
                    }
                    self.say(connection, end);
                    self.look_at_session_time(connection, end);
                }
                Verdict::Close(id, ending) => {
                    let connection = id.0 as usize;
                    let end = self.end_at(connection, host);
                    self.check_refused(connection, end, ending)?;
                    self.take_away(connection, end, true)?;
                }
            }
        }
        let arbiter = &self.hosts[host].peers[peer].arbiter;
        if let Some(at) = arbiter.poll_timeout() {
            let at = self.time(at);
            self.queue.at(at.max(self.now), Event::Arbiter(host, self.hosts[host].life, peer));
        }
        if let Some(id) = self.hosts[host].peers[peer].arbiter.link() {
            let connection = id.0 as usize;
            let end = self.end_at(connection, host);
            let own = &self.connections[connection].ends[end];
            if own.session.as_ref().is_none_or(|_| own.over) {
                let what = format!("h{host} takes connection {connection} with h{peer} for the link, which is over");
                return Err(Violation::new("a link that is over is no link", what));
            }
            if !own.open && own.session.as_ref().is_some_and(Session::is_open) {
                self.open_link(connection, end)?;
            }
        }
        Ok(())
    }

    pub(super) fn end_at(&self, connection: usize, host: usize) -> usize {
        usize::from(self.connections[connection].ends[0].host != host)
    }

    /// A life of the peer that is over is not preferred to its present one.
    fn check_refused(&self, connection: usize, end: usize, ending: Ending) -> Checked {
        let (host, peer) = self.hosts_of(connection, end);
        let session = self.connections[connection].ends[end].session.as_ref();
        let Some(hello) = session.and_then(|session| session.peer()) else { return Ok(()) };
        let kept = self.hosts[host].peers[peer].arbiter.incarnation();
        let present = self.hosts[peer].incarnation();
        if ending == Ending::Duplicate && hello.incarnation == present && kept.is_some_and(|kept| kept != present) {
            let what = format!("h{host} refuses connection {connection} with h{peer} for a link with its earlier life");
            return Err(Violation::new("a restarted peer does not lose to its own dead link", what));
        }
        let link = self.hosts[host].peers[peer].arbiter.link().filter(|_| ending == Ending::Duplicate);
        if let Some(link) = link.map(|link| link.0 as usize) {
            let theirs = &self.connections[link].ends[self.end_at(link, peer)];
            let new = &self.connections[connection].ends[1 - end];
            if theirs.over && theirs.over_at < new.adopted_at && theirs.life == new.life {
                let what =
                    format!("h{host} refuses connection {connection} with h{peer} for {link}, which is over there");
                return Err(Violation::new("a link that the peer knows to be dead is not kept", what));
            }
        }
        Ok(())
    }

    fn open_link(&mut self, connection: usize, end: usize) -> Checked {
        let (host, peer) = self.hosts_of(connection, end);
        let (own, other) = (self.hosts[host].name.clone(), self.hosts[peer].name.clone());
        self.links.opened(self.elapsed(), own, other, connection as u64)?;
        self.connections[connection].ends[end].open = true;
        let sockets = self.hosts[host].sockets();
        let state = &mut self.hosts[host].peers[peer];
        state.gone = false;
        if let Some(session) = &mut self.connections[connection].ends[end].session {
            session.tell_all(sockets);
        }
        self.say(connection, end);
        for lane in std::mem::take(&mut self.connections[connection].ends[end].early) {
            self.accept_lane(lane)?;
        }
        Ok(())
    }

    /// This end closes a connection.
    pub(super) fn close_connection(&mut self, connection: usize, end: usize, why: &str) -> Checked {
        self.end_connection(connection, end, true, why)
    }

    /// An end learns that its connection is over.
    pub(super) fn connection_lost(&mut self, connection: usize, end: usize, why: &str) -> Checked {
        self.end_connection(connection, end, false, why)
    }

    fn end_connection(&mut self, connection: usize, end: usize, tell: bool, why: &str) -> Checked {
        let (host, peer) = self.hosts_of(connection, end);
        let own = &self.connections[connection].ends[end];
        if own.over || own.life != self.hosts[host].life || !self.hosts[host].up {
            return Ok(());
        }
        let had_session = own.session.is_some();
        self.note(|| format!("connection {connection} ends at h{host}: {why}"));
        self.take_away(connection, end, tell)?;
        let now = self.instant();
        if had_session {
            self.hosts[host].peers[peer].arbiter.handle_lost(now, ConnectionId(connection as u64));
        }
        self.carry_out(host, peer)
    }

    /// The connection is no longer there for this end: its lanes are over, and it dials again.
    fn take_away(&mut self, connection: usize, end: usize, tell: bool) -> Checked {
        let (host, peer) = self.hosts_of(connection, end);
        let own = &mut self.connections[connection].ends[end];
        if std::mem::replace(&mut own.over, true) {
            return Ok(());
        }
        own.session = None;
        own.over_at = self.now;
        let (open, carried) = (own.open, std::mem::take(&mut own.carried));
        if tell && !self.connections[connection].ends[1 - end].over {
            let at = self.now + self.delay(host, peer);
            self.queue.at(at, Event::Closed(connection, 1 - end));
        }
        for (lane, end) in carried {
            self.lane_over(lane, end)?;
        }
        if open {
            let (name, other) = (self.hosts[host].name.clone(), self.hosts[peer].name.clone());
            self.links.closed(self.elapsed(), name, other, connection as u64);
            self.hosts[host].peers[peer].lost = Some(self.now);
        }
        if !self.hosts[host].peers[peer].gone {
            let first = if self.hosts[host].id < self.hosts[peer].id || self.plan.herd { 0 } else { 250 * MS };
            let at = self.now + first + if open { 0 } else { SECOND };
            self.dial_at(host, peer, at);
        }
        Ok(())
    }

    pub(super) fn look_at_session_time(&mut self, connection: usize, end: usize) {
        let Some(session) = &self.connections[connection].ends[end].session else { return };
        let at = self.time(session.poll_timeout()).max(self.now);
        if self.connections[connection].ends[end].timer != at {
            self.connections[connection].ends[end].timer = at;
            self.queue.at(at, Event::Session(connection, end));
        }
    }

    pub(super) fn session_time(&mut self, connection: usize, end: usize) -> Checked {
        let (host, peer) = self.hosts_of(connection, end);
        let own = &self.connections[connection].ends[end];
        if own.over || own.life != self.hosts[host].life {
            return Ok(());
        }
        let owed = own.carried.iter().any(|(lane, end)| self.owes(*lane, *end));
        let (now, time, awake) = (self.instant(), self.now, self.hosts[host].paused_until);
        let own = &mut self.connections[connection].ends[end];
        own.owed_since = if owed { own.owed_since.or(Some(time)) } else { None };
        if let Some(since) = own.owed_since {
            let since = since.max(own.heard_at).max(awake);
            if own.open && time > since + SILENT {
                let what = format!("h{host} has heard nothing of h{peer} for {} ms", (time - since) / MS);
                return Err(Violation::new("a silent peer is given up where something is owed", what));
            }
        }
        let Some(session) = &mut own.session else { return Ok(()) };
        if session.poll_timeout() > now {
            self.look_at_session_time(connection, end);
            return Ok(());
        }
        if let Some(ending) = session.handle_timeout(now, own.received, owed) {
            let asleep = self.hosts[peer].paused_until > self.now;
            sometimes!("host suspended for longer than its links live", ending == Ending::Silent && asleep);
            return self.close_connection(connection, end, &format!("{ending:?}"));
        }
        self.say(connection, end);
        self.look_at_session_time(connection, end);
        Ok(())
    }

    pub(super) fn arbiter_time(&mut self, host: usize, life: u32, peer: usize) -> Checked {
        let now = self.instant();
        if self.hosts[host].life != life || !self.hosts[host].up {
            return Ok(());
        }
        let arbiter = &mut self.hosts[host].peers[peer].arbiter;
        if arbiter.poll_timeout().is_some_and(|at| at <= now) {
            arbiter.handle_timeout(now);
            self.carry_out(host, peer)?;
        }
        Ok(())
    }

    /// Each two hosts that have matching sockets have one link, and both mean the same.
    pub(super) fn links_are_there(&self) -> bool {
        self.missing_link().is_none()
    }

    pub(super) fn missing_links(&self) -> Checked {
        let Some((a, b)) = self.missing_link() else { return Ok(()) };
        let link = |a: usize, b: usize| self.hosts[a].peers[b].arbiter.link();
        let what = format!("h{a} has {:?} with h{b}, which has {:?}", link(a, b), link(b, a));
        Err(Violation::new("links come back", what))
    }

    fn missing_link(&self) -> Option<(usize, usize)> {
        let pairs = (0..self.hosts.len()).flat_map(|a| (a + 1..self.hosts.len()).map(move |b| (a, b)));
        let link = |a: usize, b: usize| {
            let link = self.hosts[a].peers[b].arbiter.link()?;
            let connection = &self.connections[link.0 as usize];
            connection.ends.iter().all(|end| end.open && !end.over).then_some(link)
        };
        pairs.into_iter().find(|(a, b)| link(*a, *b).is_none() || link(*a, *b) != link(*b, *a))
    }
}

fn format_frame(frame: &Control) -> &'static str {
    match frame {
        Control::Hello(_) => "Hello",
        Control::Admitted => "Admitted",
        Control::Sockets(_) => "Sockets",
        Control::Goodbye { .. } => "Goodbye",
        _ => "something",
    }
}

/// After so long at the most: 2.5 s, and two looks.
const SILENT: Time = 3 * SECOND + 100 * MS;

/// Both ends of a link are ours: neither breaks the protocol.
pub(super) const HONEST: &str = "both ends keep to the protocol";
