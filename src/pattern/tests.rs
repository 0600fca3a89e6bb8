//! Pushers and pullers joined by plain bytes: every interleaving of what can happen, with the books checked after each step.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use bytes::BytesMut;
use proptest::prelude::*;

use super::batch::{Batch, Detail, State};
use super::lane::{LaneEnd, LanePeer};
use super::pull::{Figures, Inbox, PullLane};
use super::push::{Amount, Counts, Flight, Intake, LaneKey, Outcome, lock};
use super::waiters::Ticket;
use crate::id::{NodeId, SocketId};
use crate::message::NewMessage;
use crate::wire::control::{Level, OpenLane, SocketKind};
use crate::wire::frame;

const MAX_MESSAGE: usize = 1 << 20;

fn peer(node: u8, slots: bool) -> LanePeer {
    LanePeer { node: NodeId::from_bytes([node; 32]), socket: SocketId(1), link: 0, slots, max_message: MAX_MESSAGE }
}

/// One pusher.
struct Pusher {
    intake: Mutex<Intake>,
    flight: Flight,
    dead: Vec<(u64, Outcome)>,
    settled: Vec<(u64, Outcome)>,
}

impl Pusher {
    fn new(bound: Amount, max_failures: Option<u32>) -> Self {
        Self {
            intake: Mutex::new(Intake::new(bound)),
            flight: Flight::new(max_failures),
            dead: Vec::new(),
            settled: Vec::new(),
        }
    }

    fn send(&mut self, message: &NewMessage, now: Instant) -> bool {
        let accepted = lock(&self.intake).accept(message).is_ok();
        self.accepted(accepted, now)
    }

    /// It names each message when that is settled.
    fn accepted(&mut self, accepted: bool, now: Instant) -> bool {
        if accepted {
            self.flight.track(lock(&self.intake).next_sequence() - 1);
        }
        self.settle(now);
        accepted
    }

    fn settle(&mut self, now: Instant) {
        self.flight.dispatch(&self.intake, now);
        let effects = self.flight.take_effects();
        let _ = lock(&self.intake).release(effects.freed);
        self.dead.extend(effects.dead.into_iter().map(|dead| (dead.sequence, dead.outcome)));
        self.settled.extend(effects.settled);
    }
}

/// Every third message has headers, and some of these have large ones.
fn has_headers(sequence: u64) -> bool {
    sequence.is_multiple_of(3)
}

fn with_headers(message: NewMessage, sequence: u64) -> NewMessage {
    let long = if sequence.is_multiple_of(15) { 20_000 } else { 3 };
    message.header("sequence", sequence.to_string()).header("long", "x".repeat(long))
}

/// A lane and the bytes that are under way on it, both ways.
struct Wire {
    key: LaneKey,
    puller: usize,
    pull: PullLane,
    forth: BytesMut,
    back: BytesMut,
}

struct World {
    now: Instant,
    pusher: Pusher,
    inboxes: Vec<Arc<Inbox>>,
    prefetch: Option<u64>,
    /// One receiver each, which waits for ever.
    receivers: Vec<Ticket>,
    wires: Vec<Wire>,
    hands: Vec<(usize, Arc<Batch>, u32)>,
    /// By sequence: how often an application was handed it.
    handed: BTreeMap<u64, u32>,
    acked: BTreeSet<u64>,
    rejected: BTreeSet<u64>,
    /// What each message takes of the bound, by sequence.
    sizes: Vec<u64>,
    /// Room that was set aside for messages of so many bytes.
    reserved: Vec<usize>,
    /// Pullers that have closed.
    closed: BTreeSet<usize>,
    next: u64,
}

impl World {
    fn new(bound: Amount, pullers: usize, prefetch: Option<u64>, max_failures: Option<u32>) -> Self {
        Self {
            now: Instant::now(),
            pusher: Pusher::new(bound, max_failures),
            inboxes: (0..pullers).map(|_| Inbox::new(prefetch, MAX_MESSAGE)).collect(),
            prefetch,
            receivers: (0..pullers).map(|_| Ticket::default()).collect(),
            wires: Vec::new(),
            hands: Vec::new(),
            handed: BTreeMap::new(),
            acked: BTreeSet::new(),
            rejected: BTreeSet::new(),
            sizes: Vec::new(),
            reserved: Vec::new(),
            closed: BTreeSet::new(),
            next: 0,
        }
    }

    fn connect(&mut self, puller: usize) {
        if self.closed.contains(&puller) || self.wires.iter().any(|wire| wire.puller == puller) {
            return;
        }
        let inbox = &self.inboxes[puller];
        let open = OpenLane {
            from: SocketId(1),
            to: SocketId(1),
            kind: SocketKind::Push,
            level: Level::AtLeastOnce,
            epoch: 7,
            base: 0,
            taken: self.pusher.flight.wants_taken(),
        };
        let key = self.pusher.flight.open_lane(peer(puller as u8 + 1, inbox.fixed), &open, MAX_MESSAGE);
        let mut wire = Wire {
            key,
            puller,
            pull: PullLane(inbox.accept(peer(0, false), &open, self.now)),
            forth: BytesMut::new(),
            back: BytesMut::new(),
        };
        let mut first = Vec::new();
        assert!(self.pusher.flight.take_outgoing(key, Waker::noop(), &mut first));
        first.iter().for_each(|chunk| wire.forth.extend_from_slice(chunk));
        assert_eq!(frame::split_open(&mut wire.forth).unwrap(), Some(open));
        self.wires.push(wire);
        self.pusher.settle(self.now);
    }

    fn disconnect(&mut self, at: usize) {
        let wire = self.wires.remove(at);
        self.pusher.flight.close_lane(wire.key, self.now);
        wire.pull.closed(self.now);
        self.pusher.settle(self.now);
    }

    /// The pusher's writer takes, and some of the bytes arrive.
    fn forth(&mut self, at: usize, most: usize) {
        let wire = &mut self.wires[at];
        let mut out = Vec::new();
        self.pusher.flight.writer_turn(wire.key);
        self.pusher.flight.dispatch(&self.pusher.intake, self.now);
        self.pusher.flight.take_outgoing(wire.key, Waker::noop(), &mut out);
        out.iter().for_each(|chunk| wire.forth.extend_from_slice(chunk));
        let arriving = wire.forth.split_to(most.min(wire.forth.len())).freeze();
        if !arriving.is_empty() {
            wire.pull.handle_incoming(self.now, &mut [arriving]).expect("an honest pusher");
        }
        self.pusher.settle(self.now);
    }

    /// The puller's writer looks, and some of the bytes arrive.
    fn back(&mut self, at: usize, most: usize) {
        let wire = &mut self.wires[at];
        let (mut out, mut again) = (Vec::new(), None);
        let mut cx = Context::from_waker(Waker::noop());
        while let Poll::Ready(next) = wire.pull.poll_outgoing(&mut cx, self.now, &mut out, &mut again) {
            if next == super::lane::Outgoing::Finish {
                break;
            }
        }
        out.iter().for_each(|chunk| wire.back.extend_from_slice(chunk));
        let mut arriving = wire.back.split_to(most.min(wire.back.len()));
        let key = wire.key;
        let flight = &mut self.pusher.flight;
        frame::answers(&mut arriving, |kind, payload| flight.handle_answer(key, kind, payload, self.now))
            .expect("an honest puller");
        // What is left is the beginning of a frame.
        arriving.unsplit(std::mem::take(&mut self.wires[at].back));
        self.wires[at].back = arriving;
        self.pusher.settle(self.now);
    }

    fn receive(&mut self, puller: usize) {
        let mut cx = Context::from_waker(Waker::noop());
        if let Poll::Ready(Ok((batch, index))) =
            self.inboxes[puller].poll_claim(Instant::now, &mut self.receivers[puller], &mut cx)
        {
            let (sequence, mark) = (batch.sequence(index), batch.mark(index));
            let before = self.handed.entry(sequence).or_default();
            // Another handing out than the first is always flagged.
            assert!(mark.redelivered || *before == 0, "{sequence} was handed out before and does not say so");
            assert!(!self.rejected.contains(&sequence), "{sequence} was rejected, told and delivered again");
            *before += 1;
            assert_eq!(&batch.slice(index)[..8], sequence.to_le_bytes(), "the body belongs to the sequence");
            let headers = NewMessage::from(batch.body(index));
            let headers = if has_headers(sequence) { with_headers(headers, sequence) } else { headers };
            assert_eq!(batch.header_block(index), headers.block(), "and so do its headers");
            self.hands.push((puller, batch, index));
        }
    }

    fn answer(&mut self, hand: usize, how: u8) {
        let (_, batch, index) = self.hands.swap_remove(hand);
        match how {
            0..=5 => {
                self.acked.insert(batch.sequence(index));
                batch.answer(index, State::Acked);
            }
            6 => batch.answer(index, State::Nacked),
            7 => batch.answer_with(index, State::Nacked, Detail::Delay(Duration::from_millis(5))),
            _ => batch.answer_with(index, State::Rejected, Detail::Reason("no".into())),
        }
    }

    fn check(&self) {
        let flight = &self.pusher.flight;
        let used = lock(&self.pusher.intake).used();
        let accepted = lock(&self.pusher.intake).next_sequence();
        let counts = flight.counts;
        let settled = counts.handled + counts.rejected + counts.exhausted;
        assert_eq!(accepted, self.next, "accepted is what was sent");
        let reserved = self.reserved.len() as u64;
        assert_eq!(accepted + reserved, settled + used.messages, "each accepted message is owned or settled");
        let over: BTreeSet<u64> = self.pusher.settled.iter().map(|(sequence, _)| *sequence).collect();
        assert_eq!(over.len() as u64, settled, "each is settled once");
        let owned: u64 =
            (0..).zip(&self.sizes).filter(|(sequence, _)| !over.contains(sequence)).map(|(_, size)| size).sum();
        let aside: usize = self.reserved.iter().sum();
        assert_eq!(used.bytes, owned + aside as u64, "so are its bytes");
        let bound = lock(&self.pusher.intake).bound();
        assert!(used.messages <= bound.messages && used.bytes <= bound.bytes, "{used:?} of {bound:?}");
        assert!(flight.in_flight() + reserved <= used.messages);
        for inbox in &self.inboxes {
            let Figures { counts, waiting, in_hand, .. } = inbox.figures();
            assert!(self.prefetch.is_none_or(|prefetch| waiting + in_hand <= prefetch), "more than was asked for");
            assert!(counts.received >= waiting + in_hand);
            let answered = counts.acked + counts.nacked + counts.rejected;
            assert_eq!(counts.handed, answered + in_hand + counts.orphaned, "each is in hand until it is answered");
        }
        assert_eq!(counts.rejected + counts.exhausted, self.pusher.dead.len() as u64);
        assert!(counts.handled as usize <= self.acked.len(), "handled is what an application acknowledged");
    }

    fn accepted(&mut self, message: &NewMessage) {
        self.sizes.push(message.size() as u64);
        self.next += 1;
    }

    /// The pusher's node ends: what is handed back and what is settled is all that was accepted, in order.
    fn end(&mut self) {
        let back = self.pusher.flight.drain(&mut lock(&self.pusher.intake));
        let back: Vec<u64> =
            back.iter().map(|message| u64::from_le_bytes(message.body[..8].try_into().unwrap())).collect();
        let settled: BTreeSet<u64> = self.pusher.settled.iter().map(|(sequence, _)| *sequence).collect();
        let rest: Vec<u64> = (0..self.next).filter(|sequence| !settled.contains(sequence)).collect();
        assert_eq!(back, rest);
        let Counts { handled, rejected, exhausted, handed_back, .. } = self.pusher.flight.counts;
        assert_eq!(handed_back, rest.len() as u64);
        assert_eq!(handled + rejected + exhausted + handed_back, self.next, "each accepted message is counted once");
    }

    /// Everything heals, workers acknowledge: in the end nothing is owed and nothing was lost.
    fn finish(&mut self) {
        for puller in 0..self.inboxes.len() {
            self.connect(puller);
        }
        for bytes in std::mem::take(&mut self.reserved) {
            let _ = lock(&self.pusher.intake).release(Amount { messages: 1, bytes: bytes as u64 });
        }
        for _ in 0..10_000 {
            self.now += Duration::from_millis(50);
            for at in 0..self.wires.len() {
                self.forth(at, usize::MAX);
                self.back(at, usize::MAX);
            }
            for puller in 0..self.inboxes.len() {
                self.receive(puller);
            }
            while !self.hands.is_empty() {
                self.answer(0, 0);
            }
            self.check();
            if lock(&self.pusher.intake).used().messages == 0 {
                break;
            }
        }
        assert_eq!(lock(&self.pusher.intake).used(), Amount::default(), "everything is settled in the end");
        let settled: BTreeSet<u64> =
            self.acked.iter().copied().chain(self.pusher.dead.iter().map(|dead| dead.0)).collect();
        assert_eq!(settled.len() as u64, self.next, "each message ended");
        assert_eq!(self.pusher.flight.lowest_unsettled(), None);
    }
}

#[derive(Debug, Clone)]
enum Step {
    Send(usize),
    /// Sets room aside for a message of at most so many bytes.
    Reserve(usize),
    /// Sends a message into room that was set aside, or gives that back.
    UseReserved(usize, bool),
    /// A puller closes: what is not handed out goes back, what is in hand may be answered.
    Drain(usize),
    /// Sends are refused from now on.
    Close,
    Connect(usize),
    Disconnect(usize),
    Forth(usize, usize),
    Back(usize, usize),
    Receive(usize),
    Answer(usize, u8),
    Wait(u64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => prop_oneof![9 => 8usize..40, 1 => 30_000usize..40_000].prop_map(Step::Send),
        2 => (8usize..100).prop_map(Step::Reserve),
        2 => (0usize..4, any::<bool>()).prop_map(|(at, sent)| Step::UseReserved(at, sent)),
        // The first one stays, so that in the end all can be handed out.
        1 => (1usize..3).prop_map(Step::Drain),
        2 => (0usize..3).prop_map(Step::Connect),
        1 => (0usize..3).prop_map(Step::Disconnect),
        6 => (0usize..3, prop_oneof![1usize..40, Just(usize::MAX)]).prop_map(|(at, most)| Step::Forth(at, most)),
        6 => (0usize..3, prop_oneof![1usize..10, Just(usize::MAX)]).prop_map(|(at, most)| Step::Back(at, most)),
        6 => (0usize..3).prop_map(Step::Receive),
        5 => (0usize..8, 0u8..9).prop_map(|(hand, how)| Step::Answer(hand, how)),
        1 => (0u64..40).prop_map(Step::Wait),
    ]
}

/// `end`: the pusher's node ends before everything is settled, and hands back the rest.
fn run(mut world: World, steps: Vec<Step>, end: bool) {
    for step in steps {
        match step {
            Step::Send(len) => {
                let mut body = world.next.to_le_bytes().to_vec();
                body.resize(len, 0xab);
                let message = NewMessage::new(body);
                let message = if has_headers(world.next) { with_headers(message, world.next) } else { message };
                if world.pusher.send(&message, world.now) {
                    world.accepted(&message);
                }
            }
            Step::Reserve(bytes) => {
                let reserved = lock(&world.pusher.intake).reserve(bytes).is_ok();
                world.reserved.extend(reserved.then_some(bytes));
            }
            Step::UseReserved(at, sent) if at < world.reserved.len() => {
                let bytes = world.reserved.swap_remove(at);
                let message = NewMessage::new(world.next.to_le_bytes().to_vec());
                if sent && !has_headers(world.next) {
                    let _ = lock(&world.pusher.intake).accept_reserved(&message, bytes);
                    world.pusher.accepted(true, world.now);
                    world.accepted(&message);
                } else {
                    let _ = lock(&world.pusher.intake).release(Amount { messages: 1, bytes: bytes as u64 });
                }
            }
            Step::Drain(puller) => {
                world.inboxes[puller].drain();
                world.closed.insert(puller);
            }
            Step::Close => {
                let _ = lock(&world.pusher.intake).close();
            }
            Step::Connect(puller) => world.connect(puller % world.inboxes.len()),
            Step::Disconnect(at) if at < world.wires.len() => world.disconnect(at),
            Step::Forth(at, most) if at < world.wires.len() => world.forth(at, most),
            Step::Back(at, most) if at < world.wires.len() => world.back(at, most),
            Step::Receive(puller) => world.receive(puller % world.inboxes.len()),
            Step::Answer(hand, how) if hand < world.hands.len() => world.answer(hand, how),
            Step::Wait(millis) => world.now += Duration::from_millis(millis),
            _ => {}
        }
        world.check();
    }
    if end { world.end() } else { world.finish() }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn no_interleaving_loses_a_message(
        messages in 1u64..40,
        bytes in prop_oneof![100u64..2_000, Just(1 << 30)],
        prefetch in prop_oneof![Just(None), (1u64..5).prop_map(Some)],
        max_failures in prop_oneof![Just(None), (1u32..4).prop_map(Some)],
        steps in prop::collection::vec(step(), 0..250),
        close_at in prop::option::weighted(0.3, 0usize..250),
        end in any::<bool>(),
    ) {
        let mut steps = steps;
        if let Some(at) = close_at {
            steps.insert(at.min(steps.len()), Step::Close);
        }
        run(World::new(Amount { messages, bytes }, 3, prefetch, max_failures), steps, end);
    }
}

/// What a gated lane holds back lies before what arrives after its puller has closed.
#[test]
fn a_puller_that_closes_gives_back_in_order() {
    let world = World::new(Amount { messages: 9, bytes: 1 << 30 }, 3, None, Some(1));
    let (send, all) = (|| Step::Send(8), usize::MAX);
    let steps = vec![
        send(),
        send(),
        send(),
        Step::Connect(0),
        Step::Connect(1),
        // The first, which is long, is for the one; the second has arrived at the other.
        Step::Back(0, 7),
        Step::Back(1, all),
        Step::Forth(1, 11),
        send(),
        Step::Drain(1),
        Step::Forth(1, 31),
        Step::Back(1, all),
    ];
    run(world, steps, true);
}
