//! What a hostile puller can make a pusher hold and look through.

mod answers;
mod figures;
mod intake;

use std::sync::Mutex;
use std::task::Waker;
use std::time::{Duration, Instant};

use super::*;
use crate::id::SocketId;
use crate::message::NewMessage;
use crate::wire::control::{Level, SocketKind};
use crate::wire::frame::{Payload, to_sender};

const MAX_MESSAGE: usize = 1 << 20;
/// Far more than anything here takes, and far less than what is looked through again and again.
const SOON: Duration = Duration::from_secs(10);

struct Pusher {
    intake: Mutex<Intake>,
    flight: Flight,
    now: Instant,
}

impl Pusher {
    fn new(max_failures: Option<u32>) -> Self {
        let bound = Amount { messages: 200_000, bytes: 1 << 30 };
        Self { intake: Mutex::new(Intake::new(bound)), flight: Flight::new(max_failures), now: Instant::now() }
    }

    /// A lane whose puller has read the opening frame.
    fn open(&mut self, slots: bool) -> LaneKey {
        let peer = LanePeer {
            node: NodeId::from_bytes([1; 32]),
            socket: SocketId(1),
            link: 0,
            slots,
            max_message: MAX_MESSAGE,
        };
        let open = OpenLane {
            from: SocketId(1),
            to: SocketId(1),
            kind: SocketKind::Push,
            level: Level::AtLeastOnce,
            epoch: 7,
            base: 0,
            taken: self.flight.wants_taken(),
        };
        let key = self.flight.open_lane(peer, &open, MAX_MESSAGE);
        self.written(key);
        key
    }

    fn send(&mut self, count: usize) {
        for _ in 0..count {
            let _ = lock(&self.intake).accept(&NewMessage::default()).unwrap();
        }
        self.turn();
    }

    fn turn(&mut self) {
        self.flight.dispatch(&self.intake, self.now);
        let effects = self.flight.take_effects();
        let _ = lock(&self.intake).release(effects.freed);
    }

    fn hear(&mut self, key: LaneKey, kind: u8, numbers: &[u64]) -> Result<(), crate::wire::Violation> {
        self.flight.handle_answer(key, kind, &Payload::of(numbers).0, self.now)
    }

    /// The lane's writer takes all there is: how many bytes.
    fn written(&mut self, key: LaneKey) -> usize {
        let mut out = Vec::new();
        self.flight.writer_turn(key);
        self.turn();
        self.flight.take_outgoing(key, Waker::noop(), &mut out);
        out.iter().map(Bytes::len).sum()
    }
}

#[test]
fn who_says_taken_again_and_again_and_reads_nothing_makes_nothing_grow() {
    let mut pusher = Pusher::new(Some(3));
    let key = pusher.open(false);
    pusher.hear(key, to_sender::CREDIT, &[10, 1000]).unwrap();
    pusher.send(1);
    pusher.written(key);
    for _ in 0..10_000 {
        pusher.hear(key, to_sender::TAKEN, &[1]).unwrap();
    }
    let said = pusher.written(key);
    assert!((1..10).contains(&said), "one word says it: {said} bytes");
}

#[test]
fn who_is_told_what_waits_and_reads_nothing_makes_nothing_grow() {
    let mut pusher = Pusher::new(None);
    let (idle, busy) = (pusher.open(true), pusher.open(false));
    for credit in 1..100_000 {
        pusher.send(1);
        pusher.hear(busy, to_sender::CREDIT, &[credit, 1000]).unwrap();
        pusher.turn();
        pusher.written(busy);
        pusher.hear(busy, to_sender::ACK_UP_TO, &[credit]).unwrap();
        pusher.turn();
    }
    let said = pusher.written(idle);
    assert!(said < 300 << 10, "{said} bytes wait for a puller that does not read");
    // It is behind, not forgotten.
    pusher.send(1);
    let waits = pusher.written(idle);
    pusher.hear(busy, to_sender::CREDIT, &[100_000, 1000]).unwrap();
    pusher.turn();
    assert!(waits + pusher.written(idle) > 0);
}

#[test]
fn an_answer_that_is_repeated_is_not_looked_through_again() {
    const COUNT: u64 = 100_000;
    let mut pusher = Pusher::new(None);
    let key = pusher.open(false);
    pusher.send(COUNT as usize);
    pusher.flight.track(COUNT - 1);
    pusher.hear(key, to_sender::CREDIT, &[COUNT, 1]).unwrap();
    pusher.turn();
    pusher.written(key);
    let start = Instant::now();
    for _ in 0..2000 {
        pusher.hear(key, to_sender::ACK, &[1, COUNT - 2]).unwrap();
        pusher.hear(key, to_sender::ACK_UP_TO, &[COUNT - 1]).unwrap();
    }
    assert_eq!(pusher.flight.in_flight(), 1);
    assert!(start.elapsed() < SOON, "{:?}", start.elapsed());
}

#[test]
fn what_a_late_answer_settles_leaves_nothing_on_its_new_lane() {
    let mut pusher = Pusher::new(None);
    for round in 0..3 {
        let first = pusher.open(false);
        pusher.hear(first, to_sender::CREDIT, &[100, 1000]).unwrap();
        pusher.send(100);
        pusher.written(first);
        pusher.flight.close_lane(first, pusher.now);
        let second = pusher.open(false);
        pusher.hear(second, to_sender::CREDIT, &[100, 1000]).unwrap();
        pusher.turn();
        pusher.written(second);
        for sequence in round * 100..(round + 1) * 100 {
            pusher.hear(second, to_sender::LATE, &[sequence, 1, u64::from(to_sender::ACK)]).unwrap();
        }
        assert_eq!(pusher.flight.in_flight(), 0);
        assert!(pusher.flight.lanes.values().all(|lane| lane.runs.is_empty()), "each run is let go");
        pusher.flight.close_lane(second, pusher.now);
    }
}

#[test]
fn what_was_not_written_cannot_be_answered() {
    let mut pusher = Pusher::new(None);
    let key = pusher.open(false);
    pusher.hear(key, to_sender::CREDIT, &[u64::MAX >> 2, u64::MAX >> 2]).unwrap();
    pusher.send(2);
    for (kind, numbers) in [
        (to_sender::ACK_UP_TO, &[1][..]),
        (to_sender::ACK, &[0, 1]),
        (to_sender::NACK, &[0, 0, 1]),
        (to_sender::RETURN, &[0, 1]),
        (to_sender::REJECT, &[0]),
        (to_sender::TAKEN, &[1]),
    ] {
        assert!(pusher.hear(key, kind, numbers).is_err(), "kind {kind}");
    }
    pusher.written(key);
    pusher.hear(key, to_sender::ACK_UP_TO, &[2]).unwrap();
    assert!(pusher.hear(key, to_sender::ACK, &[u64::MAX >> 2, u64::MAX >> 2]).is_err());
    assert_eq!(pusher.flight.in_flight(), 0);
}

#[test]
fn a_failed_message_waits_longer_each_time() {
    let mut pusher = Pusher::new(None);
    let key = pusher.open(false);
    pusher.hear(key, to_sender::CREDIT, &[100, 1000]).unwrap();
    pusher.send(1);
    pusher.written(key);
    for (position, wait) in (0..).zip([0, 10, 100, 1_000, 5_000, 30_000, 30_000]) {
        pusher.hear(key, to_sender::NACK, &[0, position, 1]).unwrap();
        pusher.turn();
        let due = (wait > 0).then(|| pusher.now + Duration::from_millis(wait));
        assert_eq!(pusher.flight.next_due(), due, "after {} failures", position + 1);
        if let Some(due) = due {
            pusher.now = due - Duration::from_millis(1);
            pusher.turn();
            assert_eq!(pusher.flight.in_flight(), 0, "before its time");
            pusher.now = due;
            pusher.turn();
        }
        assert_eq!((pusher.flight.in_flight(), pusher.flight.next_due()), (1, None));
        pusher.written(key);
    }
}

#[test]
fn what_goes_out_again_keeps_to_the_credit_in_bytes() {
    let mut pusher = Pusher::new(None);
    let first = pusher.open(false);
    pusher.hear(first, to_sender::CREDIT, &[100, 1000]).unwrap();
    for _ in 0..3 {
        let _ = lock(&pusher.intake).accept(&NewMessage::from(vec![0; 60])).unwrap();
    }
    pusher.turn();
    pusher.flight.close_lane(first, pusher.now);
    let second = pusher.open(false);
    pusher.hear(second, to_sender::CREDIT, &[100, 100]).unwrap();
    pusher.turn();
    assert_eq!(pusher.flight.in_flight(), 2, "the last one may pass the end of it, as it cannot be divided");
}
