//! A host with its node: sockets, peers, and its life. What it does here around the machines is what `node` and `socket`
//! do around them.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use netsim::check::{Bound, End as Ended, Fair, Name, Violation};
use netsim::sometimes;

use super::app::{Hand, Receiver, Sender};
use super::plan::Role;
use super::queue::Sleeper;
use super::world::{Checked, Id, World};
use super::{Event, MS, SECOND, Time};
use crate::id::{NodeId, SocketId};
use crate::pattern::lane::LaneEnd as _;
use crate::pattern::pull::{Figures, Inbox};
use crate::pattern::push::{Amount, Effects, Flight, Intake, Outcome, SentAgain, lock};
use crate::session::Arbiter;
use crate::wire::control::{Level, OpenLane, SocketEntry, SocketKind};

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
    pub(super) paused_until: Time,
    pub(super) peers: Vec<Peer>,
    pub(super) push: Option<PushSocket>,
    pub(super) pull: Option<PullSocket>,
    /// Until when it drains.
    leaving: Option<Time>,
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

pub(super) struct PushSocket {
    pub(super) socket: u64,
    host: usize,
    life: u32,
    base: u64,
    pub(super) intake: Mutex<Intake>,
    pub(super) flight: Flight,
    pub(super) senders: Vec<Sender>,
    pub(super) bound: Bound,
    messages: Vec<Message>,
    dispatcher: Sleeper,
    /// The dispatcher's timer.
    due: Time,
}

/// A message, as its sender's application knows it.
#[derive(Debug, Clone, Default)]
pub(super) struct Message {
    pub(super) size: u64,
    pub(super) body: usize,
    /// The block of its headers.
    pub(super) headers: Vec<u8>,
    /// Who was given it, as which attempt.
    pub(super) given: Vec<(usize, u32)>,
    pub(super) acked_by: Option<usize>,
}

pub(super) struct PullSocket {
    pub(super) socket: u64,
    pub(super) inbox: Arc<Inbox>,
    pub(super) receivers: Vec<Receiver>,
    fair: Fair,
    prefetch: Option<u64>,
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
        let entry = |id, kind, slots| SocketEntry { id: SocketId(id), kind, channel: "jobs".into(), slots };
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

impl PushSocket {
    pub(super) fn opening(&self, their: u64) -> OpenLane {
        OpenLane {
            from: SocketId(self.socket),
            to: SocketId(their),
            kind: PUSH,
            level: Level::AtLeastOnce,
            epoch: u64::from(self.life) << 8 | self.host as u64,
            base: 0,
            taken: self.flight.wants_taken(),
        }
    }

    /// Closed, and nothing is owed.
    pub(super) fn is_over(&self) -> bool {
        let intake = lock(&self.intake);
        intake.is_closed() && intake.used().messages == 0
    }

    pub(super) fn message(&self, sequence: u64) -> &Message {
        &self.messages[(sequence - self.base) as usize]
    }

    pub(super) fn message_mut(&mut self, sequence: u64) -> &mut Message {
        &mut self.messages[(sequence - self.base) as usize]
    }

    pub(super) fn accepted(&mut self, message: Message) {
        self.messages.push(message);
    }

    /// It is written on a lane.
    pub(super) fn gave(&mut self, sequence: u64, to: usize, attempt: u32) -> Checked {
        if sequence < self.base || sequence - self.base >= self.messages.len() as u64 {
            return Err(Violation::new("only what was accepted is delivered", format!("sequence {sequence}")));
        }
        self.message_mut(sequence).given.push((to, attempt));
        Ok(())
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
        (own.leaving, own.goodbye, own.paused_until) = (None, false, self.now);
        if let Some(role) = own.role.push.clone() {
            let base = self.plan.first_sequence;
            let mut intake = Intake::new(Amount { messages: role.bound.0, bytes: role.bound.1 });
            intake.begin_at(base);
            sometimes!("bound of 1", role.bound.0 == 1);
            sometimes!("counters near their maximum", base > 0);
            let bound = Bound::new(format!("h{host}"), role.bound.0, role.bound.1);
            let socket = own.take_socket();
            let senders = (0..role.senders as usize)
                .map(|nth| Sender::new(self.queue.sleeper(Event::Send(host, life, nth)), role.messages))
                .collect();
            self.hosts[host].push = Some(PushSocket {
                socket,
                host,
                life,
                base,
                intake: Mutex::new(intake),
                flight: Flight::new(self.plan.max_failures),
                senders,
                bound,
                messages: Vec::new(),
                dispatcher: self.queue.sleeper(Event::Dispatch(host, life)),
                due: 0,
            });
            for sender in 0..role.senders as usize {
                let at = self.now + self.random.below(300 * MS);
                self.queue.at(at, Event::Send(host, life, sender));
            }
        }
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

    fn open_pull(&mut self, host: usize) {
        let life = self.hosts[host].life;
        let Some(role) = self.hosts[host].role.pull.clone() else { return };
        let inbox = Inbox::new(role.prefetch, self.hosts[host].max_message);
        sometimes!("prefetch of 1", role.prefetch == Some(1));
        let socket = self.hosts[host].take_socket();
        let receivers = (0..role.receivers as usize)
            .map(|nth| Receiver::new(self.queue.sleeper(Event::Receive(host, life, nth))))
            .collect();
        let fair = Fair::new(format!("h{host}"), role.prefetch.unwrap_or(0));
        self.left.memory(format!("inbox of h{host}, life {life}"), &Arc::downgrade(&inbox));
        self.hosts[host].pull = Some(PullSocket { socket, inbox, receivers, fair, prefetch: role.prefetch });
        for receiver in 0..role.receivers as usize {
            let at = self.now + self.random.below(100 * MS);
            self.queue.at(at, Event::Receive(host, life, receiver));
        }
    }

    /// Sockets of one node meet over a lane within it.
    fn meet_within(&mut self, host: usize) {
        let Host { push: Some(push), pull: Some(pull), .. } = &self.hosts[host] else { return };
        let (own, their, slots) = (push.socket, pull.socket, pull.prefetch.is_some());
        self.add_lane(None, host, host, own, their, slots);
    }

    /// The pull socket closes, and another one opens.
    pub(super) fn reopen(&mut self, host: usize) -> Checked {
        if !self.hosts[host].is_running() || self.hosts[host].pull.is_none() {
            return Ok(());
        }
        let old = self.hosts[host].pull.as_ref().map_or(0, |pull| pull.socket);
        self.close_pull(host)?;
        self.set_hands_aside(host);
        self.open_pull(host);
        self.meet_within(host);
        let entries = self.hosts[host].sockets();
        let entry = entries.into_iter().find(|entry| entry.kind == PULL).expect("just opened");
        for connection in 0..self.connections.len() {
            let end = self.end_at(connection, host);
            let own = &mut self.connections[connection].ends[end];
            if own.host == host
                && own.open
                && !own.over
                && let Some(session) = own.session.as_mut()
            {
                session.tell_closed(SocketId(old));
                session.tell_opened(entry.clone());
                self.say(connection, end);
            }
        }
        Ok(())
    }

    /// Nothing is handed out any more; what is in hand may be answered.
    fn close_pull(&mut self, host: usize) -> Checked {
        let Some(pull) = &self.hosts[host].pull else { return Ok(()) };
        pull.inbox.drain();
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

    /// From now on nothing is accepted.
    fn refuse_more(&mut self, host: usize) -> Checked {
        let Some(push) = self.hosts[host].push.as_mut() else { return Ok(()) };
        let wakers = lock(&push.intake).close();
        wakers.for_each(std::task::Waker::wake);
        if push.is_over() {
            push.flight.wake_all();
        }
        self.push_turn(host, |_, _| ())?;
        Ok(())
    }

    /// The dispatcher: what is accepted while lanes have credit, and what has waited for its time, goes out.
    pub(super) fn dispatcher(&mut self, host: usize, life: u32) -> Checked {
        if self.hosts[host].life != life || !self.hosts[host].up || self.hosts[host].push.is_none() {
            return Ok(());
        }
        let instant = self.instant();
        let Some(push) = self.hosts[host].push.as_mut() else { return Ok(()) };
        push.dispatcher.runs();
        let look = push.flight.look(&push.intake, instant);
        self.push_turn(host, |_, _| ())?;
        let Some(push) = self.hosts[host].push.as_ref() else { return Ok(()) };
        if let Some(at) = look.into_iter().chain(push.flight.next_due()).min() {
            let at = self.time(at).max(self.now);
            let push = self.hosts[host].push.as_mut().expect("it was");
            if push.due <= self.now || at < push.due {
                push.due = at;
                self.queue.at(at, Event::Dispatch(host, life));
            }
        }
        Ok(())
    }

    pub(super) fn wake_dispatcher(&self, host: usize) {
        if let Some(push) = &self.hosts[host].push {
            push.dispatcher.wake();
        }
    }

    /// Changes the flight of a push socket, dispatches, and does what follows from it.
    pub(super) fn push_turn<T>(
        &mut self,
        host: usize,
        change: impl FnOnce(&mut Flight, Instant) -> T,
    ) -> Checked<Option<T>> {
        let instant = self.instant();
        let Some(push) = self.hosts[host].push.as_mut() else { return Ok(None) };
        let due = push.flight.next_due();
        push.flight.tell_again(true);
        let before = push.flight.counts;
        let result = change(&mut push.flight, instant);
        let (sent, again) = (push.flight.dispatched(), push.flight.counts.redelivered);
        push.flight.dispatch(&push.intake, instant);
        let fresh = push.flight.dispatched() - sent - (push.flight.counts.redelivered - again);
        if fresh > 0 && push.flight.waiting_again() > 0 {
            let what = format!("h{host} sends {fresh} for the first time while {} wait", push.flight.waiting_again());
            return Err(Violation::new("what came back goes out first", what));
        }
        let next = push.flight.next_due();
        let after = push.flight.counts;
        self.conclude(host)?;
        if next.is_some() && next != due {
            self.wake_dispatcher(host);
        }
        sometimes!("message returned by a puller that closes", after.unhanded > before.unhanded);
        Ok(Some(result))
    }

    fn conclude(&mut self, host: usize) -> Checked {
        let (tracked, now, id) = (self.plan.tracked, self.elapsed(), self.hosts[host].ids());
        let Some(push) = self.hosts[host].push.as_mut() else { return Ok(()) };
        let Effects { freed, wakers, settled, dead, again } = push.flight.take_effects();
        wakers.into_iter().for_each(std::task::Waker::wake);
        for SentAgain { sequence, attempt, to, .. } in again {
            let to = self.hosts.iter().position(|host| host.id == to).unwrap_or(0);
            self.ledger.dispatched(now, id(sequence), self.hosts[to].name.clone(), attempt);
        }
        let push = self.hosts[host].push.as_mut().expect("looked at");
        let mut ended: BTreeMap<u64, Outcome> = BTreeMap::new();
        for message in dead {
            sometimes!("failures used up", matches!(message.outcome, Outcome::Exhausted(_)));
            ended.insert(message.sequence, message.outcome);
        }
        for (sequence, outcome) in settled {
            if ended.remove(&sequence).is_some_and(|dead| dead != outcome) {
                return Err(Violation::new("a message ends once", format!("{}: {outcome:?}", id(sequence))));
            }
            self.ledger.settled(now, id(sequence), end_of(&outcome));
            push.bound.gave(push.messages[(sequence - push.base) as usize].size);
        }
        for (sequence, outcome) in ended {
            if tracked {
                return Err(Violation::new("who waits is told", format!("{}: {outcome:?}", id(sequence))));
            }
            self.ledger.settled(now, id(sequence), end_of(&outcome));
        }
        if freed.messages > 0 {
            let wakers = lock(&push.intake).release(freed);
            wakers.for_each(std::task::Waker::wake);
            if push.is_over() {
                push.flight.wake_all();
                push.flight.take_effects().wakers.into_iter().for_each(std::task::Waker::wake);
            }
        }
        self.check_pusher(host)
    }

    /// Bounds hold, and count everything.
    pub(super) fn check_pusher(&self, host: usize) -> Checked {
        let Some(push) = self.hosts[host].push.as_ref().filter(|_| self.plan.tracked) else { return Ok(()) };
        let used = lock(&push.intake).used();
        push.bound.check(used.messages, used.bytes)
    }

    /// No more is under way to a worker than it has asked for, and who waits is not passed over.
    pub(super) fn check_puller(&mut self, host: usize) -> Checked {
        let Some(pull) = self.hosts[host].pull.as_mut() else { return Ok(()) };
        let Some(prefetch) = pull.prefetch else { return Ok(()) };
        let Figures { waiting, in_hand, .. } = pull.inbox.figures();
        if waiting + in_hand > prefetch {
            let what = format!("h{host} has {waiting} waiting and {in_hand} in hand, of {prefetch}");
            return Err(Violation::new("no more is unfinished at a worker than its prefetch", what));
        }
        pull.fair.granted(pull.inbox.grants())
    }

    /// Where messages are not tracked, what is not handed back was settled.
    fn settle_untracked(&mut self, host: usize) -> Checked {
        if !self.plan.tracked && self.hosts[host].push.is_some() && !self.hosts[host].owes() {
            self.ledger.flushed(self.elapsed(), self.hosts[host].name.clone());
        }
        Ok(())
    }

    /// Everything that was accepted is settled.
    pub(super) fn flushed(&mut self, host: usize) -> Checked {
        self.settle_untracked(host)?;
        let open = self.hosts[host].push.as_ref().and_then(|push| push.flight.lowest_unsettled());
        match open {
            Some(sequence) => {
                Err(Violation::new("a flush is done when everything accepted is settled", format!("{sequence}")))
            }
            None => Ok(()),
        }
    }
}

impl Host {
    fn take_socket(&mut self) -> u64 {
        self.next_socket += 1;
        self.next_socket - 1
    }
}

fn end_of(outcome: &Outcome) -> Ended {
    match outcome {
        Outcome::Handled => Ended::Handled,
        Outcome::Rejected(_) => Ended::Rejected,
        Outcome::Exhausted(failures) => Ended::Exhausted(*failures),
    }
}
