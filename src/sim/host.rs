//! A host with its node: which life is it in, and who are its peers? What it does here around the machines is what `node`
//! does around them.

use netsim::check::{End as Ended, Name};
use netsim::sometimes;

use super::app::{Hand, Sender};
use super::plan::Role;
use super::sockets::{Message, PullSocket, PushSocket};
use super::world::{Checked, Id, World};
use super::{Event, MS, SECOND, Time};
use crate::id::{NodeId, SocketId, Types};
use crate::pattern::lane::LaneEnd as _;
use crate::pattern::push::lock;
use crate::session::Arbiter;
use crate::wire::control::{SocketEntry, SocketKind};

pub(super) const PUSH: SocketKind = SocketKind::Push;
pub(super) const PULL: SocketKind = SocketKind::Pull;

pub(super) struct Host {
    pub(super) name: Name,
    pub(super) id: NodeId,
    pub(super) role: Role,
    pub(super) max_message: usize,
    pub(super) up: bool,
    /// Counts its lives.
    pub(super) life: u32,
    pub(super) started: Time,
    /// Its applications, and its node.
    pub(super) paused_until: Time,
    pub(super) node_paused_until: Time,
    pub(super) peers: Vec<Peer>,
    pub(super) push: Option<PushSocket>,
    pub(super) pull: Option<PullSocket>,
    /// Until when it drains.
    pub(super) leaving: Option<Time>,
    pub(super) goodbye: bool,
    next_socket: u64,
    /// Deliveries in hand of sockets that have closed.
    pub(super) aside: Vec<Hand>,
}

/// What a host knows of another one.
pub(super) struct Peer {
    pub(super) arbiter: Arbiter,
    pub(super) next_dial: Time,
    pub(super) dialling: bool,
    pub(super) lost: Option<Time>,
    /// It has said goodbye, and was not seen since.
    pub(super) gone: bool,
}

impl Host {
    pub(super) fn new(name: Name, id: u8, count: usize, role: Role) -> Self {
        Self {
            name,
            id: NodeId::from_bytes([id; 32]),
            role,
            max_message: 100 << 10,
            up: false,
            life: 0,
            started: 0,
            paused_until: 0,
            node_paused_until: 0,
            peers: (0..count).map(|_| Peer::new(false)).collect(),
            push: None,
            pull: None,
            leaving: None,
            goodbye: false,
            next_socket: 1,
            aside: Vec::new(),
        }
    }

    pub(super) fn incarnation(&self) -> u64 {
        u64::from(self.life) << 8 | u64::from(self.id.as_bytes()[0])
    }

    pub(super) fn is_running(&self) -> bool {
        self.up && self.leaving.is_none()
    }

    pub(super) fn is_fixed(&self) -> bool {
        self.pull.as_ref().is_some_and(|pull| pull.prefetch.is_some())
    }

    pub(super) fn is_sending(&self) -> bool {
        self.push.as_ref().is_some_and(|push| push.senders.iter().any(Sender::is_busy))
    }

    /// Something is accepted and not settled.
    pub(super) fn owes(&self) -> bool {
        self.push.as_ref().is_some_and(|push| lock(&push.intake).used().messages > 0)
    }

    pub(super) fn ids(&self) -> impl Fn(u64) -> Id + Copy + use<> {
        let (host, life) = self.push.as_ref().map_or((0, 0), |push| (push.host, push.life));
        move |sequence| Id { host, life, sequence }
    }

    /// What is told of its sockets.
    pub(super) fn sockets(&self) -> Vec<SocketEntry> {
        let entry = |id, kind, slots| {
            let types = Types::default();
            SocketEntry { id: SocketId(id), kind, channel: "jobs".into(), slots, types }
        };
        let push = self.push.as_ref().map(|push| entry(push.socket, PUSH, false));
        push.into_iter()
            .chain(self.pull.as_ref().map(|pull| entry(pull.socket, PULL, pull.prefetch.is_some())))
            .collect()
    }

    pub(super) fn given_to_others(&self, liar: usize, is_open: impl Fn(u64) -> bool) -> Option<(u64, u32)> {
        let push = self.push.as_ref()?;
        let other = |message: &Message| message.given.iter().find(|(to, _)| *to != liar).map(|(_, attempt)| *attempt);
        let open = (push.base..).zip(&push.messages).filter(|(_, message)| message.given.len() > 1);
        let many: Vec<_> = open.filter_map(|(sequence, message)| Some((sequence, other(message)?))).collect();
        many.into_iter().rev().find(|(sequence, _)| is_open(*sequence))
    }

    pub(super) fn take_socket(&mut self) -> u64 {
        self.next_socket += 1;
        self.next_socket - 1
    }

    pub(super) fn describe(&self) -> String {
        let mut text = format!("{} (life {}, up {})", self.name, self.life, self.up);
        if let Some(push) = &self.push {
            let intake = lock(&push.intake);
            let (used, in_flight) = (intake.used(), push.flight.in_flight());
            text += &format!(": {used:?}, {in_flight} in flight, {:?}", push.flight.counts);
        }
        if let Some(pull) = &self.pull {
            text += &format!(": {:?}", pull.inbox.figures());
        }
        text
    }
}

impl Peer {
    fn new(chooses: bool) -> Self {
        Self { arbiter: Arbiter::new(chooses), next_dial: 0, dialling: false, lost: None, gone: false }
    }
}

impl World {
    /// The host starts, with nothing of its former life.
    pub(super) fn start(&mut self, host: usize) -> Checked {
        let life = self.hosts[host].life + 1;
        if self.ending {
            return Ok(());
        }
        if self.hosts[host].up {
            if self.hosts[host].leaving.is_some() {
                self.queue.at(self.now + 500 * MS, Event::Start(host));
            }
            return Ok(());
        }
        let count = self.hosts.len();
        let id = self.hosts[host].id;
        let peers = (0..count).map(|peer| Peer::new(id < self.hosts[peer].id)).collect();
        let own = &mut self.hosts[host];
        (own.up, own.life, own.peers, own.started) = (true, life, peers, self.now);
        (own.leaving, own.goodbye) = (None, false);
        (own.paused_until, own.node_paused_until) = (self.now, self.now);
        self.open_push(host);
        self.open_pull(host);
        self.meet_within(host);
        for peer in (0..count).filter(|peer| *peer != host) {
            // Both find each other, each in its own time.
            let first = if self.plan.herd || self.hosts[host].id < self.hosts[peer].id { 0 } else { 250 * MS };
            let seen = if self.plan.herd { 0 } else { self.random.below(300 * MS) };
            self.dial_at(host, peer, self.now + first + seen);
            if self.hosts[peer].up {
                self.hosts[peer].peers[host].gone = false;
                self.dial_at(peer, host, self.now + 250 * MS - first.min(250 * MS) + seen);
            }
        }
        Ok(())
    }

    /// The process is gone, without a word.
    pub(super) fn crash(&mut self, host: usize) -> Checked {
        if !self.hosts[host].up {
            return Ok(());
        }
        let unsettled = self.hosts[host].owes();
        sometimes!("accepted message lost with its crashed pusher", unsettled);
        if !self.plan.tracked {
            self.settle_untracked(host)?;
        }
        self.ledger.crashed(self.elapsed(), self.hosts[host].name.clone());
        self.ends(host);
        Ok(())
    }

    /// Nothing of this life is left.
    fn ends(&mut self, host: usize) {
        self.hosts[host].up = false;
        self.links.crashed(self.hosts[host].name.clone());
        (self.hosts[host].push, self.hosts[host].pull) = (None, None);
        self.hosts[host].aside.clear();
        for connection in &mut self.connections {
            for end in connection.ends.iter_mut().filter(|end| end.host == host) {
                end.session = None;
                end.carried.clear();
            }
        }
        let now = self.instant();
        for lane in &mut self.lanes {
            // What of this life is left would hold itself: with a process it is gone.
            if lane.ends[1].host == host
                && let Some(pull) = lane.pull.take()
            {
                pull.closed(now);
            }
            for end in lane.ends.iter_mut().filter(|end| end.host == host) {
                end.over = true;
            }
        }
    }

    /// The node shuts down: it drains for so long, says goodbye, and hands back the rest.
    pub(super) fn leave(&mut self, host: usize, life: u32, drain: Time) -> Checked {
        let own = &mut self.hosts[host];
        if !own.is_running() || own.life != life {
            return Ok(());
        }
        own.leaving = Some(self.now + drain);
        let leaving = self.hosts.iter().filter(|host| host.leaving.is_some_and(|until| until >= self.now)).count();
        sometimes!("both ends shut down in the same millisecond", leaving > 1 && drain > 0 && !self.calm);
        self.refuse_more(host)?;
        self.close_pull(host)?;
        self.queue.at(self.now, Event::Leaving(host, life));
        Ok(())
    }

    /// Is it drained?
    pub(super) fn leaving(&mut self, host: usize, life: u32) -> Checked {
        let own = &self.hosts[host];
        let Some(until) = own.leaving.filter(|_| own.up && own.life == life) else { return Ok(()) };
        let sockets = !own.owes() && own.pull.as_ref().is_none_or(|pull| pull.inbox.is_drained());
        let lanes = self.lanes.iter().any(|lane| lane.ends.iter().any(|end| end.host == host && !end.over));
        if (!sockets || lanes) && self.now < until {
            let at = (self.now + 10 * MS).min(until);
            self.queue.at(at, Event::Leaving(host, life));
            return Ok(());
        }
        self.hosts[host].goodbye = true;
        for connection in 0..self.connections.len() {
            let end = self.end_at(connection, host);
            let own = &mut self.connections[connection].ends[end];
            if let Some(session) = own.session.as_mut().filter(|_| own.host == host && !own.over) {
                session.leave("shut down");
                self.say(connection, end);
            }
        }
        self.queue.at(self.now, Event::Gone(host, life));
        Ok(())
    }

    /// Once all goodbyes are said, or took too long, the node ends.
    pub(super) fn gone(&mut self, host: usize, life: u32) -> Checked {
        let own = &self.hosts[host];
        if !own.up || own.life != life {
            return Ok(());
        }
        let until = own.leaving.unwrap_or(0) + SECOND;
        let mut ends = self.connections.iter().flat_map(|connection| &connection.ends);
        if ends.any(|end| end.host == host && end.session.is_some() && !end.over) && self.now < until {
            self.queue.at(self.now + 10 * MS, Event::Gone(host, life));
            return Ok(());
        }
        let back = match self.hosts[host].push.as_mut() {
            Some(push) => push.flight.drain(&mut lock(&push.intake)),
            None => Vec::new(),
        };
        let (id, now) = (self.hosts[host].ids(), self.elapsed());
        sometimes!("message handed back by a node that ends", !back.is_empty());
        for content in back {
            let sequence = u64::from_le_bytes(content.body[..8].try_into().expect("a body begins with its sequence"));
            if let Some(push) = self.hosts[host].push.as_mut() {
                push.bound.gave(content.size() as u64);
            }
            self.ledger.settled(now, id(sequence), Ended::HandedBack);
        }
        self.push_turn(host, |_, _| ())?;
        self.settle_untracked(host)?;
        self.forget_hands(host);
        for lane in 0..self.lanes.len() {
            for end in 0..2 {
                if self.lanes[lane].ends[end].host == host && !self.lanes[lane].ends[end].over {
                    self.lane_over(lane, end)?;
                }
            }
        }
        for connection in 0..self.connections.len() {
            let end = self.end_at(connection, host);
            if self.connections[connection].ends[end].host == host {
                self.close_connection(connection, end, "the node ends")?;
            }
        }
        self.ends(host);
        Ok(())
    }
}
