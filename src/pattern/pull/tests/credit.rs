//! Two pushers share the slots of one puller, in every order in which they can speak, be heard, be answered and be lost.
//! Each state is visited once, and each is gone back to by the way that led there.

use std::collections::HashSet;
use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};

use super::*;
use crate::message::NewMessage;
use crate::pattern::push::{Amount, Flight, Intake};

const PUSHERS: usize = 2;

struct World {
    now: Instant,
    inbox: Arc<Inbox>,
    prefetch: u64,
    receiver: Ticket,
    pushers: Vec<Pusher>,
    hands: Vec<(Arc<Batch>, u32)>,
    /// Lanes that may yet be lost.
    losses: u32,
    /// Answers that may yet be failures.
    failures: u32,
    /// What the puller says is heard as it is said; what the pushers say is not.
    near: bool,
}

struct Pusher {
    intake: Mutex<Intake>,
    flight: Flight,
    /// Messages that are to be sent.
    unsent: u32,
    sent: u32,
    lane: Option<Wire>,
}

struct Wire {
    key: LaneKey,
    end: PullLane,
    forth: BytesMut,
    back: BytesMut,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Send(usize),
    /// The pusher's writer takes what there is, and that is under way; or it arrives.
    Take(usize),
    Arrive(usize),
    /// The puller's writer looks, and what it says is under way; or it is heard.
    Look(usize),
    Hear(usize),
    Lose(usize),
    Join(usize),
    Receive,
    Ack,
    Nack,
}

impl World {
    fn new(prefetch: u64, messages: [u32; PUSHERS], losses: u32, failures: u32, near: bool) -> Self {
        let pusher = |messages| Pusher {
            intake: Mutex::new(Intake::new(Amount { messages: 10, bytes: 1000 })),
            flight: Flight::new(None),
            unsent: messages,
            sent: 0,
            lane: None,
        };
        let mut world = Self {
            now: Instant::now(),
            inbox: Inbox::new(Some(prefetch), MAX_MESSAGE),
            prefetch,
            receiver: Ticket::default(),
            pushers: messages.map(pusher).into(),
            hands: Vec::new(),
            losses,
            failures,
            near,
        };
        (0..PUSHERS).for_each(|nth| world.take(Step::Join(nth)));
        world
    }

    fn steps(&self) -> Vec<Step> {
        let mut steps = Vec::new();
        for (nth, pusher) in self.pushers.iter().enumerate() {
            if pusher.unsent > 0 {
                steps.push(Step::Send(nth));
            }
            let Some(wire) = &pusher.lane else {
                steps.push(Step::Join(nth));
                continue;
            };
            steps.extend([Step::Take(nth), Step::Look(nth)]);
            if !wire.forth.is_empty() {
                steps.push(Step::Arrive(nth));
            }
            if !wire.back.is_empty() {
                steps.push(Step::Hear(nth));
            }
            if self.losses > 0 {
                steps.push(Step::Lose(nth));
            }
        }
        steps.push(Step::Receive);
        if !self.hands.is_empty() {
            steps.push(Step::Ack);
            if self.failures > 0 {
                steps.push(Step::Nack);
            }
        }
        steps
    }

    fn take(&mut self, step: Step) {
        let (now, inbox) = (self.now, &self.inbox);
        match step {
            Step::Send(nth) => {
                let pusher = &mut self.pushers[nth];
                pusher.unsent -= 1;
                let message = NewMessage::from(vec![nth as u8, pusher.sent as u8]);
                pusher.sent += 1;
                let _ = lock(&pusher.intake).accept(&message).expect("there is room");
                pusher.turn(now);
            }
            Step::Join(nth) => self.pushers[nth].join(nth, inbox, now),
            Step::Take(nth) => {
                let pusher = &mut self.pushers[nth];
                let wire = pusher.lane.as_mut().expect("a lane");
                let mut out = Vec::new();
                pusher.flight.writer_turn(wire.key);
                pusher.flight.dispatch(&pusher.intake, now);
                pusher.flight.take_outgoing(wire.key, Waker::noop(), &mut out);
                out.iter().for_each(|chunk| wire.forth.extend_from_slice(chunk));
                pusher.turn(now);
            }
            Step::Arrive(nth) => {
                let wire = self.pushers[nth].lane.as_mut().expect("a lane");
                let bytes = std::mem::take(&mut wire.forth).freeze();
                wire.end.handle_incoming(now, &mut [bytes]).expect("an honest pusher");
            }
            Step::Look(nth) => {
                let wire = self.pushers[nth].lane.as_mut().expect("a lane");
                // Whatever the writer gathers for, its time has come.
                self.now += GATHER;
                let (mut out, mut again) = (Vec::new(), None);
                let mut cx = Context::from_waker(Waker::noop());
                while wire.end.poll_outgoing(&mut cx, self.now, &mut out, &mut again).is_ready() {}
                self.now = now;
                lock(&wire.end.0.work).gather_until = None;
                out.iter().for_each(|chunk| wire.back.extend_from_slice(chunk));
                if self.near {
                    self.take(Step::Hear(nth));
                }
            }
            Step::Hear(nth) => {
                let pusher = &mut self.pushers[nth];
                let wire = pusher.lane.as_mut().expect("a lane");
                let (mut bytes, key, flight) = (std::mem::take(&mut wire.back), wire.key, &mut pusher.flight);
                frame::answers(&mut bytes, |kind, payload| flight.handle_answer(key, kind, payload, now))
                    .expect("an honest puller");
                pusher.turn(now);
            }
            Step::Lose(nth) => {
                self.losses -= 1;
                let pusher = &mut self.pushers[nth];
                let wire = pusher.lane.take().expect("a lane");
                pusher.flight.close_lane(wire.key, now);
                wire.end.closed(now);
                pusher.turn(now);
            }
            Step::Receive => {
                let mut cx = Context::from_waker(Waker::noop());
                if let Poll::Ready(Ok(claimed)) = inbox.poll_claim(Instant::now, &mut self.receiver, &mut cx) {
                    self.hands.push(claimed);
                }
            }
            Step::Ack | Step::Nack => {
                let (batch, index) = self.hands.remove(0);
                let failed = step == Step::Nack;
                self.failures -= u32::from(failed);
                batch.answer(index, if failed { State::Nacked } else { State::Acked });
            }
        }
    }

    fn check(&self) {
        let (mut out, mut granted) = (0, 0);
        for pusher in &self.pushers {
            let Some(wire) = &pusher.lane else { continue };
            let figures = pusher.flight.lanes().next().expect("it has one lane");
            let given = wire.end.0.granted.load(Acquire);
            let work = lock(&wire.end.0.work);
            out += figures.sent - work.answered;
            assert!(figures.sent + figures.credit + work.waived <= given, "more is spent than was given");
            granted += given - work.waived - work.answered;
        }
        assert!(out <= self.prefetch, "{out} messages are out");
        assert!(granted <= self.prefetch, "{granted} slots are given");
    }

    /// Nothing is lost any more, and each message is acknowledged: in the end all are handled, and no slot is taken.
    fn settle(&mut self) {
        for _ in 0..50 {
            for nth in 0..PUSHERS {
                if self.pushers[nth].lane.is_none() {
                    self.take(Step::Join(nth));
                }
                for step in [Step::Take(nth), Step::Arrive(nth), Step::Look(nth), Step::Hear(nth)] {
                    self.take(step);
                }
                self.check();
            }
            self.take(Step::Receive);
            while !self.hands.is_empty() {
                self.take(Step::Ack);
            }
            if self.is_idle() {
                break;
            }
        }
        for pusher in &self.pushers {
            assert_eq!(pusher.flight.counts.handled, u64::from(pusher.sent), "a slot is stuck");
        }
        assert!(self.is_idle(), "a slot is taken for nothing");
    }

    /// Nothing is owed, and no slot is taken.
    fn is_idle(&self) -> bool {
        let slots = format!("{:?}", lock(&self.inbox.shared).slots);
        slots.contains("taken: 0,") && self.pushers.iter().all(|pusher| lock(&pusher.intake).used().messages == 0)
    }

    /// Two states of one fingerprint go on alike.
    fn fingerprint(&self) -> u64 {
        let mut hash = DefaultHasher::new();
        (self.losses, self.failures).hash(&mut hash);
        let batch = |batch: &Arc<Batch>| {
            let states = (0..batch.count()).map(|index| batch.state(index) as u8).collect::<Vec<_>>();
            (batch.lane().key, batch.number, batch.claimed.load(Relaxed), states)
        };
        let shared = lock(&self.inbox.shared);
        format!("{:?}{:?}", shared.slots, shared.late).hash(&mut hash);
        let queue = lock(&self.inbox.queue);
        queue.batches.iter().map(batch).collect::<Vec<_>>().hash(&mut hash);
        queue.receivers.count().hash(&mut hash);
        for pusher in &self.pushers {
            format!("{:?}{:?}", lock(&pusher.intake), pusher.flight).hash(&mut hash);
            pusher.unsent.hash(&mut hash);
            let Some(wire) = &pusher.lane else { continue };
            (&wire.forth[..], &wire.back[..]).hash(&mut hash);
            let lane = &wire.end.0;
            let work = lock(&lane.work);
            let told = (work.up_to, work.told_up_to, work.answered, work.waived, work.credit, work.credit_bytes);
            (told, work.splitter.received(), lane.granted.load(Relaxed), &work.above).hash(&mut hash);
            (lane.dirty.load(Relaxed), &*lock(&lane.touched)).hash(&mut hash);
            work.batches.values().map(|w| (batch(&w.batch), w.front, w.end)).collect::<Vec<_>>().hash(&mut hash);
        }
        self.hands.iter().map(|(held, index)| (batch(held), *index)).collect::<Vec<_>>().hash(&mut hash);
        hash.finish()
    }
}

impl Pusher {
    fn join(&mut self, nth: usize, inbox: &Arc<Inbox>, now: Instant) {
        let node = NodeId::from_bytes([nth as u8; 32]);
        let peer = |slots| LanePeer { node, socket: SocketId(1), link: 0, slots, max_message: MAX_MESSAGE };
        let (level, kind) = (Level::AtLeastOnce, SocketKind::Push);
        let open = OpenLane { from: SocketId(1), to: SocketId(1), kind, level, epoch: 7, base: 0, taken: false };
        let key = self.flight.open_lane(peer(true), &open, MAX_MESSAGE);
        let (mut first, mut forth) = (Vec::new(), BytesMut::new());
        self.flight.take_outgoing(key, Waker::noop(), &mut first);
        first.iter().for_each(|chunk| forth.extend_from_slice(chunk));
        frame::split_open(&mut forth).expect("an opening frame").expect("all of it");
        let end = PullLane(inbox.accept(peer(false), &open, now));
        self.lane = Some(Wire { key, end, forth, back: BytesMut::new() });
        self.turn(now);
    }

    fn turn(&mut self, now: Instant) {
        self.flight.dispatch(&self.intake, now);
        let effects = self.flight.take_effects();
        let _ = lock(&self.intake).release(effects.freed);
    }
}

/// Visits every state: how many there are, and how many steps the farthest is away.
fn explore(start: impl Fn() -> World) -> (usize, usize) {
    let mut seen = HashSet::from([start().fingerprint()]);
    let (mut front, mut depth) = (vec![Vec::new()], 0);
    while !front.is_empty() {
        let mut beyond = Vec::new();
        for way in &front {
            let there = || {
                let mut world = start();
                way.iter().for_each(|step| world.take(*step));
                world
            };
            let first = there();
            let steps = first.steps();
            let mut first = Some(first);
            for step in steps {
                let mut world = first.take().unwrap_or_else(there);
                world.take(step);
                world.check();
                if seen.insert(world.fingerprint()) {
                    let way: Vec<Step> = way.iter().copied().chain([step]).collect();
                    world.settle();
                    beyond.push(way);
                }
            }
        }
        front = beyond;
        depth += usize::from(!front.is_empty());
    }
    (seen.len(), depth)
}

#[test]
fn slots_are_conserved_in_whatever_order_two_pushers_use_them() {
    visit(1, [1, 1], 0, 0, false);
    // Two slots for one message: one of them is waived.
    visit(2, [1, 0], 0, 1, false);
}

#[test]
#[ignore = "takes a minute"]
fn so_they_are_with_losses_failures_and_more_messages() {
    visit(1, [1, 0], 1, 1, true);
    visit(1, [1, 1], 1, 0, true);
    visit(2, [1, 1], 0, 1, true);
    visit(1, [2, 2], 0, 0, true);
}

fn visit(prefetch: u64, messages: [u32; PUSHERS], losses: u32, failures: u32, near: bool) {
    let (states, depth) = explore(|| World::new(prefetch, messages, losses, failures, near));
    println!(
        "prefetch({prefetch}), {messages:?} messages, {losses} losses, {failures} failures: {states} states, the \
         farthest {depth} steps away"
    );
}
