//! The sockets of a host's node: how are they opened and closed, and what do their machines do in turn? This is here what
//! `socket` does around them.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use netsim::check::{Bound, End as Ended, Fair, Violation};
use netsim::sometimes;

use super::app::{Receiver, Sender};
use super::host::{Host, PULL, PUSH};
use super::queue::Sleeper;
use super::world::{Checked, World};
use super::{Event, MS, Time};
use crate::id::SocketId;
use crate::pattern::pull::{Figures, Inbox};
use crate::pattern::push::{Amount, Effects, Flight, Intake, Outcome, SentAgain, lock};
use crate::wire::control::{Level, OpenLane};

pub(super) struct PushSocket {
    pub(super) socket: u64,
    pub(super) host: usize,
    pub(super) life: u32,
    pub(super) base: u64,
    pub(super) intake: Mutex<Intake>,
    pub(super) flight: Flight,
    pub(super) senders: Vec<Sender>,
    pub(super) bound: Bound,
    pub(super) messages: Vec<Message>,
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
    pub(super) prefetch: Option<u64>,
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
    pub(super) fn open_push(&mut self, host: usize) {
        let life = self.hosts[host].life;
        let Some(role) = self.hosts[host].role.push.clone() else { return };
        let base = self.plan.first_sequence;
        let mut intake = Intake::new(Amount { messages: role.bound.0, bytes: role.bound.1 });
        intake.begin_at(base);
        sometimes!("bound of 1", role.bound.0 == 1);
        sometimes!("counters near their maximum", base > 0);
        let bound = Bound::new(format!("h{host}"), role.bound.0, role.bound.1);
        let socket = self.hosts[host].take_socket();
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

    pub(super) fn open_pull(&mut self, host: usize) {
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
    pub(super) fn meet_within(&mut self, host: usize) {
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
    pub(super) fn close_pull(&mut self, host: usize) -> Checked {
        let Some(pull) = &self.hosts[host].pull else { return Ok(()) };
        pull.inbox.drain();
        Ok(())
    }

    /// From now on nothing is accepted.
    pub(super) fn refuse_more(&mut self, host: usize) -> Checked {
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
    pub(super) fn settle_untracked(&mut self, host: usize) -> Checked {
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

fn end_of(outcome: &Outcome) -> Ended {
    match outcome {
        Outcome::Handled => Ended::Handled,
        Outcome::Rejected(_) => Ended::Rejected,
        Outcome::Exhausted(failures) => Ended::Exhausted(*failures),
    }
}
