//! Applications: they send, receive, work, answer, and give up waiting.

use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use netsim::check::{Answer, Delivered, Violation};
use netsim::sometimes;

use super::queue::Sleeper;
use super::sockets::Message;
use super::world::{Checked, Id, World};
use super::{Event, MS};
use crate::message::NewMessage;
use crate::pattern::batch::{Batch, Detail, State};
use crate::pattern::push::{Accepted, Amount, Refused, lock};
use crate::pattern::waiters::Ticket;

/// Who sends: one message after the other.
pub(super) struct Sender {
    sleeper: Sleeper,
    ticket: Ticket,
    left: u64,
    /// What it wants to send: length of the body, and whether it has headers.
    next: Option<(usize, bool)>,
    /// Room that it has set aside.
    reserved: Option<usize>,
}

/// Who receives: one message at a time.
pub(super) struct Receiver {
    sleeper: Sleeper,
    ticket: Ticket,
    waits: bool,
    hand: Option<Hand>,
}

pub(super) struct Hand {
    batch: Arc<Batch>,
    index: u32,
    id: Id,
    attempt: u32,
    /// The lane that it came over was lost before it was answered: by whom it was told.
    hangs: bool,
}

impl Sender {
    pub(super) fn new(sleeper: Sleeper, messages: u64) -> Self {
        Self { sleeper, ticket: Ticket::default(), left: messages, next: None, reserved: None }
    }

    pub(super) fn is_busy(&self) -> bool {
        self.left > 0 || self.next.is_some() || self.reserved.is_some()
    }
}

impl Receiver {
    pub(super) fn new(sleeper: Sleeper) -> Self {
        Self { sleeper, ticket: Ticket::default(), waits: false, hand: None }
    }
}

impl World {
    /// A sender has its turn.
    pub(super) fn send(&mut self, host: usize, life: u32, nth: usize) -> Checked {
        if self.hosts[host].life != life || !self.hosts[host].up {
            return Ok(());
        }
        let Some(role) = self.hosts[host].role.push.clone() else { return Ok(()) };
        let (calm, tracked, now) = (self.calm, self.plan.tracked, self.elapsed());
        let (wants_reserve, size) = (self.random.chance(100), self.random.from(8, role.size.max(8)) as usize);
        let (headers, gives_up) = (self.random.chance(250), self.random.chance(30));
        let id = self.hosts[host].ids();
        let Some(push) = self.hosts[host].push.as_mut() else { return Ok(()) };
        push.senders[nth].sleeper.runs();
        if lock(&push.intake).is_closed() && push.senders[nth].reserved.is_none() {
            push.senders[nth].left = 0;
            push.senders[nth].next = None;
            return Ok(());
        }
        let sender = &mut push.senders[nth];
        if sender.next.is_none() && sender.reserved.is_none() {
            if sender.left == 0 {
                return Ok(());
            }
            sender.left -= 1;
            // What never fits is refused, which is not what is looked at here.
            let most = role.bound.1.min(200_000) as usize;
            let headers = headers && size + 40 <= most;
            let size = size.min(most - if headers { 40 } else { 0 });
            sender.next = Some((size, headers));
            if wants_reserve && lock(&push.intake).reserve(size).is_ok() {
                sender.reserved = Some(size);
                push.bound.took(size as u64);
                let at = self.now + self.random.below(50 * MS);
                self.queue.at(at, Event::Send(host, life, nth));
                return Ok(());
            }
        }
        let sequence = lock(&push.intake).next_sequence();
        let sender = &mut push.senders[nth];
        let Some((size, headers)) = sender.next else { return Ok(()) };
        let message = make(sequence, size, headers && sender.reserved.is_none());
        let accepted = match sender.reserved.take() {
            Some(room) => {
                if gives_up {
                    push.bound.gave(room as u64);
                    let wakers = lock(&push.intake).release(Amount { messages: 1, bytes: room as u64 });
                    wakers.for_each(std::task::Waker::wake);
                    sender.next = None;
                    self.queue.at(self.now, Event::Send(host, life, nth));
                    return self.check_pusher(host);
                }
                push.bound.gave(room as u64);
                Ok(lock(&push.intake).accept_reserved(&message, room))
            }
            None => {
                let mut intake = lock(&push.intake);
                let accepted = intake.accept(&message);
                if accepted == Err(Refused::Full) {
                    intake.wait(&mut sender.ticket, &sender.sleeper.waker);
                }
                accepted
            }
        };
        match accepted {
            Ok(Accepted { sequence, wake }) => {
                if tracked {
                    push.flight.track(sequence);
                }
                push.bound.took(message.size() as u64);
                let (size, body, headers) = (message.size() as u64, message.body().len(), message.block().to_vec());
                push.accepted(Message { size, body, headers, ..Message::default() });
                lock(&push.intake).forget(&mut push.senders[nth].ticket);
                push.senders[nth].next = None;
                self.ledger.accepted(now, id(sequence), self.hosts[host].name.clone());
                if wake {
                    self.wake_dispatcher(host);
                }
                let pause = if calm { 0 } else { self.random.below(role.pause + 1) };
                self.queue.at(self.now + pause, Event::Send(host, life, nth));
                self.check_pusher(host)
            }
            Err(Refused::Full) => {
                if gives_up && !calm {
                    let at = self.now + self.random.below(100 * MS);
                    self.queue.at(at, Event::GiveUp(host, life, nth));
                }
                Ok(())
            }
            Err(Refused::Closed) => {
                let sender = &mut push.senders[nth];
                (sender.left, sender.next) = (0, None);
                Ok(())
            }
        }
    }

    /// A sender gives up waiting for room: its future is dropped, and the message with it.
    pub(super) fn give_up(&mut self, host: usize, life: u32, nth: usize) -> Checked {
        if self.hosts[host].life != life {
            return Ok(());
        }
        let Some(push) = self.hosts[host].push.as_mut() else { return Ok(()) };
        let sender = &mut push.senders[nth];
        if sender.ticket.has_waited() && sender.next.is_some() && sender.reserved.is_none() {
            sometimes!("sending future dropped while it waits for room");
            lock(&push.intake).forget(&mut sender.ticket);
            sender.next = None;
            self.queue.at(self.now, Event::Send(host, life, nth));
        }
        Ok(())
    }

    /// A receiver has its turn.
    pub(super) fn receive(&mut self, host: usize, life: u32, nth: usize) -> Checked {
        if self.hosts[host].life != life || !self.hosts[host].up {
            return Ok(());
        }
        let now = self.instant();
        let Some(pull) = self.hosts[host].pull.as_mut() else { return Ok(()) };
        let Some(receiver) = pull.receivers.get_mut(nth) else { return Ok(()) };
        receiver.sleeper.runs();
        if receiver.hand.is_some() {
            return Ok(());
        }
        let mut cx = Context::from_waker(&receiver.sleeper.waker);
        match pull.inbox.poll_claim(|| now, &mut receiver.ticket, &mut cx) {
            Poll::Pending => {
                receiver.waits = true;
                if !self.calm && self.random.chance(20) {
                    let at = self.now + self.random.below(100 * MS);
                    self.queue.at(at, Event::Forget(host, life, nth));
                }
                Ok(())
            }
            Poll::Ready(Err(_)) => Ok(()),
            Poll::Ready(Ok((batch, index))) => {
                receiver.waits = false;
                pull.inbox.forget(&mut receiver.ticket);
                self.handed(host, life, nth, batch, index)
            }
        }
    }

    /// A receiver gives up waiting, and comes back later.
    pub(super) fn forget(&mut self, host: usize, life: u32, nth: usize) -> Checked {
        if self.hosts[host].life != life {
            return Ok(());
        }
        let Some(pull) = self.hosts[host].pull.as_mut() else { return Ok(()) };
        let Some(receiver) = pull.receivers.get_mut(nth) else { return Ok(()) };
        if std::mem::take(&mut receiver.waits) {
            sometimes!("receiving future dropped while it waits");
            pull.inbox.forget(&mut receiver.ticket);
            let at = self.now + self.random.below(100 * MS);
            self.queue.at(at, Event::Receive(host, life, nth));
        }
        Ok(())
    }

    /// An application is handed a message.
    fn handed(&mut self, host: usize, life: u32, nth: usize, batch: Arc<Batch>, index: u32) -> Checked {
        let (sequence, mark, now) = (batch.sequence(index), batch.mark(index), self.elapsed());
        let epoch = batch.lane().epoch;
        let id = Id { host: (epoch & 0xff) as usize, life: (epoch >> 8) as u32, sequence };
        let how = Delivered::new(mark.attempt, mark.redelivered).failures(mark.failures);
        self.ledger.delivered(now, id, self.hosts[host].name.clone(), how);
        self.ledger.check()?;
        if self.plan.max_failures.is_some_and(|most| mark.failures >= most) {
            let what = format!("{id} is handed out with {} failures", mark.failures);
            return Err(Violation::new("who has used up its failures is not delivered", what));
        }
        if let Some(push) = self.hosts[id.host].push.as_ref().filter(|_| self.hosts[id.host].life == id.life) {
            let message = push.message(sequence);
            let whole = batch.slice(index).len() == message.body
                && batch.slice(index)[..8] == sequence.to_le_bytes()
                && batch.slice(index)[8..].iter().all(|byte| *byte == sequence as u8)
                && batch.header_block(index) == message.headers;
            if !whole {
                let what = format!(
                    "{id} is handed to h{host} as {} bytes, {:?} were sent",
                    batch.slice(index).len(),
                    message.body
                );
                return Err(Violation::new("what is handed out is what was sent", what));
            }
            if batch.lane().is_over() {
                return Err(Violation::new("nothing is handed out of a lane that is over", format!("{id} at h{host}")));
            }
            if self.plan.max_failures.is_some() {
                self.check_announced(id, host, mark.attempt)?;
            }
            let push = self.hosts[id.host].push.as_ref().expect("looked at");
            let open = self.ledger.end(&id).is_none();
            let acked = push.message(sequence).acked_by;
            sometimes!("ack lost and redelivered to another puller", open && acked.is_some_and(|by| by != host));
            sometimes!(
                "failure counted for a worker that was lost",
                mark.failures > 0 && push.flight.counts.nacked == 0
            );
        }
        let Some(role) = self.hosts[host].role.pull.clone() else { return Ok(()) };
        let hangs = !self.calm && self.random.chance(role.odd.2);
        let work = if self.calm { self.random.below(MS) } else { self.random.from(role.work.0, role.work.1) };
        let pull = self.hosts[host].pull.as_mut().expect("it has received");
        pull.receivers[nth].hand = Some(Hand { batch, index, id, attempt: mark.attempt, hangs });
        if !hangs {
            self.queue.at(self.now + work, Event::Done(host, life, nth));
        }
        self.check_puller(host)
    }

    /// With failures counted, the pusher has heard of a message before it is handed out.
    fn check_announced(&self, id: Id, host: usize, attempt: u32) -> Checked {
        let mut lanes = self.lanes.iter().filter(|lane| lane.ends[0].host == id.host && lane.ends[1].host == host);
        if lanes.any(|lane| lane.tap.has_announced(id.sequence, attempt)) {
            return Ok(());
        }
        Err(Violation::new("a pusher that counts failures hears of a message before it is handed out", format!("{id}")))
    }

    /// A receiver answers what it has in hand.
    pub(super) fn work_done(&mut self, host: usize, life: u32, nth: usize) -> Checked {
        if self.hosts[host].life != life || !self.hosts[host].up {
            return Ok(());
        }
        let Some(role) = self.hosts[host].role.pull.clone() else { return Ok(()) };
        let (now, name) = (self.elapsed(), self.hosts[host].name.clone());
        let Some(pull) = self.hosts[host].pull.as_mut() else { return Ok(()) };
        let hand = pull.receivers.get_mut(nth).and_then(|receiver| receiver.hand.take());
        let aside = || (nth >= ASIDE).then(|| self.hosts[host].aside.pop()).flatten();
        let Some(Hand { batch, index, id, attempt, .. }) = hand.or_else(aside) else { return Ok(()) };
        if nth < ASIDE {
            self.queue.at(self.now, Event::Receive(host, life, nth));
        }
        let lost = batch.lane().is_over();
        let odd = self.random.below(1000);
        let (nacks, rejects) = if self.calm { (0, 0) } else { (role.odd.0, role.odd.1) };
        let answer = if odd < nacks {
            sometimes!("nack while the link is down", lost);
            if odd.is_multiple_of(3) {
                let delay = Duration::from_millis(self.random.below(300));
                batch.answer_with(index, State::Nacked, Detail::Delay(delay));
            } else {
                batch.answer(index, State::Nacked);
            }
            Answer::Nacked
        } else if odd < nacks + rejects {
            batch.answer_with(index, State::Rejected, Detail::Reason("no".into()));
            Answer::Rejected
        } else {
            batch.answer(index, State::Acked);
            let alive = self.hosts[id.host].life == id.life;
            if let Some(push) = self.hosts[id.host].push.as_mut().filter(|_| alive) {
                push.message_mut(id.sequence).acked_by = Some(host);
            }
            Answer::Acked
        };
        self.ledger.answered(now, id, name, attempt, answer);
        self.check_puller(host)
    }

    /// Whatever hangs is done soon.
    pub(super) fn finish_work(&mut self, host: usize) -> Checked {
        let life = self.hosts[host].life;
        let Some(pull) = &self.hosts[host].pull else { return Ok(()) };
        for (nth, receiver) in pull.receivers.iter().enumerate() {
            if receiver.hand.as_ref().is_some_and(|hand| hand.hangs) {
                let at = self.now + self.random.below(100 * MS);
                self.queue.at(at, Event::Done(host, life, nth));
            }
        }
        Ok(())
    }

    /// What is in hand of a socket that closes is answered later.
    pub(super) fn set_hands_aside(&mut self, host: usize) {
        let life = self.hosts[host].life;
        let Some(pull) = self.hosts[host].pull.as_mut() else { return };
        let hands: Vec<Hand> = pull.receivers.iter_mut().filter_map(|receiver| receiver.hand.take()).collect();
        for hand in hands {
            let at = self.now + self.random.below(300 * MS);
            self.queue.at(at, Event::Done(host, life, ASIDE));
            self.hosts[host].aside.push(hand);
        }
    }

    /// The node ends: its applications have nothing in hand any more.
    pub(super) fn forget_hands(&mut self, host: usize) {
        if let Some(pull) = self.hosts[host].pull.as_mut() {
            pull.receivers.iter_mut().for_each(|receiver| receiver.hand = None);
        }
    }
}

/// From here on a number of a receiver stands for what was set aside.
const ASIDE: usize = 1000;

/// A message whose body begins with its sequence.
fn make(sequence: u64, size: usize, headers: bool) -> NewMessage {
    let mut body = sequence.to_le_bytes().to_vec();
    body.resize(size.max(8), sequence as u8);
    let message = NewMessage::new(body);
    if headers { message.header("sequence", sequence.to_string()) } else { message }
}
