//! Connections: how do they come about, and how do they end?

use std::collections::{BTreeSet, VecDeque};

use bytes::{Bytes, BytesMut};
use netsim::check::Violation;
use netsim::sometimes;

use super::world::{Checked, World};
use super::{Event, MS, SECOND, Time};
use crate::session::{ConnectionId, Session};
use crate::wire::control::{Hello, REVISION};

/// A connection of two hosts, with both its ends.
pub(super) struct Connection {
    /// The dialler, the acceptor.
    pub(super) ends: [End; 2],
    /// By who writes.
    pub(super) control: [Pipe; 2],
    dial_over: bool,
}

pub(super) struct End {
    pub(super) host: usize,
    pub(super) life: u32,
    /// From when it is authenticated until it is over.
    pub(super) session: Option<Session>,
    pub(super) over: bool,
    pub(super) buffer: BytesMut,
    /// Grows with what arrives.
    pub(super) received: u64,
    /// The peer's transport will acknowledge what has arrived there, at this time.
    pub(super) ack_due: Option<Time>,
    /// What has arrived there by this time was acknowledged.
    pub(super) acked: Option<Time>,
    /// The peer has said Admitted.
    pub(super) admitted: bool,
    pub(super) adopted_at: Time,
    pub(super) over_at: Time,
    /// Something on its way here was lost that nobody will send again.
    pub(super) deaf: bool,
    /// When something has arrived last, and since when something is owed.
    pub(super) heard_at: Time,
    pub(super) owed_since: Option<Time>,
    /// It is told of as the link.
    pub(super) open: bool,
    /// The lanes that this end has opened, by both ends' sockets.
    pub(super) routes: BTreeSet<(u64, u64)>,
    /// The lanes that it carries, by the lane's own end.
    pub(super) carried: Vec<(usize, usize)>,
    /// Lanes whose first bytes came before it was open.
    pub(super) early: Vec<usize>,
    pub(super) timer: Time,
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
            ack_due: None,
            acked: None,
            admitted: false,
            adopted_at: 0,
            over_at: 0,
            deaf: false,
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
    pub(super) fn reset(&mut self, connection: usize, end: usize) -> Checked {
        let [a, b] = &self.connections[connection].ends;
        let (host, other) = if end == 0 { (a.host, b.host) } else { (b.host, a.host) };
        let own = &mut self.connections[connection].ends[end];
        // An end that was over before is no less over for what is asked of it now.
        if !std::mem::replace(&mut own.over, true) {
            own.over_at = self.now;
        }
        if self.hosts[host].up && !self.connections[connection].ends[1 - end].over {
            let at = self.now + self.delay(host, other);
            self.queue.at(at, Event::Closed(connection, 1 - end));
        }
        Ok(())
    }

    /// This host, and the other.
    pub(super) fn hosts_of(&self, connection: usize, end: usize) -> (usize, usize) {
        let ends = &self.connections[connection].ends;
        (ends[end].host, ends[1 - end].host)
    }

    pub(super) fn end_at(&self, connection: usize, host: usize) -> usize {
        usize::from(self.connections[connection].ends[0].host != host)
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
    pub(super) fn take_away(&mut self, connection: usize, end: usize, tell: bool) -> Checked {
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
