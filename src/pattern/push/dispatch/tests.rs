//! Who gets the next message, of pullers that are not equally busy?

use std::time::Instant;

use super::*;
use crate::id::{NodeId, SocketId};
use crate::message::NewMessage;
use crate::pattern::lane::LanePeer;
use crate::pattern::push::Amount;
use crate::pattern::splitter::Splitter;
use crate::wire::control::{Level, OpenLane, SocketKind};
use crate::wire::frame::to_sender;

struct Pusher {
    intake: Mutex<Intake>,
    flight: Flight,
    now: Instant,
}

impl Pusher {
    fn new() -> Self {
        let bound = Amount { messages: 1000, bytes: 1 << 20 };
        Self { intake: Mutex::new(Intake::new(bound)), flight: Flight::new(None), now: Instant::now() }
    }

    /// A lane with room for more than is sent here.
    fn open(&mut self) -> LaneKey {
        let socket = SocketId(1);
        let peer = LanePeer { node: NodeId::from_bytes([1; 32]), socket, link: 0, slots: false, max_message: 1 << 20 };
        let (kind, level) = (SocketKind::Push, Level::AtLeastOnce);
        let open = OpenLane { from: socket, to: socket, kind, level, epoch: 7, base: 0, taken: false };
        let key = self.flight.open_lane(peer, &open, 1 << 20);
        self.hear(key, to_sender::CREDIT, &[1000, 1 << 20]);
        key
    }

    fn hear(&mut self, key: LaneKey, kind: u8, numbers: &[u64]) {
        // Only what a writer was given can be answered.
        self.flight.take_outgoing(key, Waker::noop(), &mut Vec::new());
        self.flight.handle_answer(key, kind, &Payload::of(numbers).0, self.now).unwrap();
        self.flight.dispatch(&self.intake, self.now);
    }

    fn send(&mut self) {
        let _ = lock(&self.intake).accept(&NewMessage::default()).unwrap();
        self.flight.dispatch(&self.intake, self.now);
    }

    fn loads(&self) -> Vec<u64> {
        self.flight.lanes().map(|lane| lane.in_flight).collect()
    }

    fn sent(&self) -> Vec<u64> {
        self.flight.lanes().map(|lane| lane.sent).collect()
    }
}

#[test]
fn the_next_message_goes_to_the_least_loaded_puller() {
    let mut pusher = Pusher::new();
    let [quick, slow, late] = [(); 3].map(|()| pusher.open());
    (0..9).for_each(|_| pusher.send());
    assert_eq!(pusher.loads(), [3, 3, 3]);
    // One answers all it has, another a part.
    pusher.hear(quick, to_sender::ACK_UP_TO, &[3]);
    pusher.hear(late, to_sender::ACK_UP_TO, &[1]);
    assert_eq!(pusher.loads(), [0, 3, 2]);
    for expected in [[1, 3, 2], [2, 3, 2]] {
        pusher.send();
        assert_eq!(pusher.loads(), expected);
    }
    // As fast as it answers it gets more; who does not answer gets nothing, however often it would be its turn.
    for done in 4..100 {
        pusher.hear(quick, to_sender::ACK_UP_TO, &[done]);
        pusher.send();
    }
    assert_eq!(pusher.loads(), [2, 3, 2]);
    assert_eq!(pusher.sent(), [101, 3, 3]);
    // One that is new has nothing to do yet.
    pusher.open();
    pusher.send();
    pusher.send();
    assert_eq!(pusher.loads(), [2, 3, 2, 2]);
    // What comes back goes by the same rule.
    pusher.hear(quick, to_sender::ACK_UP_TO, &[101]);
    pusher.flight.close_lane(slow, pusher.now);
    pusher.flight.dispatch(&pusher.intake, pusher.now);
    assert_eq!(pusher.loads().iter().sum::<u64>(), 7);
}

impl Pusher {
    /// A lane that has been given nothing, and whose opening frame is written.
    fn open_without_credit(&mut self, slots: bool) -> LaneKey {
        let socket = SocketId(1);
        let peer = LanePeer { node: NodeId::from_bytes([1; 32]), socket, link: 0, slots, max_message: 1 << 20 };
        let (kind, level) = (SocketKind::Push, Level::AtLeastOnce);
        let open = OpenLane { from: socket, to: socket, kind, level, epoch: 7, base: 0, taken: false };
        let key = self.flight.open_lane(peer, &open, 1 << 20);
        self.flight.take_outgoing(key, Waker::noop(), &mut Vec::new());
        key
    }

    /// So many more messages of this size are accepted.
    fn accept(&mut self, count: usize, bytes: usize) {
        for _ in 0..count {
            let _ = lock(&self.intake).accept(&NewMessage::new(vec![0; bytes])).unwrap();
        }
    }

    /// Credit comes, in total, and nothing of what lies there is taken.
    fn credit(&mut self, key: LaneKey, messages: u64, bytes: u64) {
        self.flight.handle_answer(key, to_sender::CREDIT, &Payload::of(&[messages, bytes]).0, self.now).unwrap();
    }

    fn dispatch(&mut self) {
        self.flight.dispatch(&self.intake, self.now);
    }

    /// What the lane's writer takes beside messages.
    fn told(&mut self, key: LaneKey) -> Vec<(u8, Vec<u64>)> {
        let (mut out, mut told) = (Vec::new(), Vec::new());
        self.flight.take_outgoing(key, Waker::noop(), &mut out);
        let mut splitter = Splitter::new(0, 1 << 20);
        splitter.feed(&mut splitter.draft(Default::default()), out.concat().into(), &mut told).unwrap();
        let numbers = |payload: &[u8]| {
            let mut numbers = frame::Numbers::new(payload);
            std::iter::from_fn(|| numbers.next().ok()).collect()
        };
        told.iter().map(|control| (control.kind, numbers(&control.payload))).collect()
    }
}

#[test]
fn the_credit_in_bytes_is_passed_by_one_message_at_most() {
    for again in [false, true] {
        let five_wait = || {
            let mut pusher = Pusher::new();
            pusher.accept(5, 40);
            if again {
                let lost = pusher.open_without_credit(false);
                pusher.credit(lost, 9, 1000);
                pusher.dispatch();
                pusher.flight.close_lane(lost, pusher.now);
            }
            let key = pusher.open_without_credit(false);
            (pusher, key)
        };
        let table = [(1, 1), (40, 1), (41, 2), (80, 2), (81, 3), (199, 5), (200, 5)];
        for (bytes, sent) in table {
            let (mut pusher, key) = five_wait();
            pusher.credit(key, 9, bytes);
            pusher.dispatch();
            assert_eq!(pusher.sent(), [sent], "{bytes} bytes at once, again: {again}");
        }
        let (mut pusher, key) = five_wait();
        for (bytes, sent) in table {
            pusher.credit(key, 9, bytes);
            pusher.dispatch();
            assert_eq!(pusher.sent(), [sent], "{bytes} bytes in all, again: {again}");
        }
    }
}

#[test]
fn what_has_waited_is_shared_among_those_that_have_credit() {
    for (lanes, loads) in [(1, vec![100]), (2, vec![50, 50]), (3, vec![34, 34, 32])] {
        let mut pusher = Pusher::new();
        pusher.accept(100, 1);
        let lanes: Vec<LaneKey> = (0..lanes).map(|_| pusher.open_without_credit(false)).collect();
        lanes.iter().for_each(|key| pusher.credit(*key, 1000, 1 << 20));
        pusher.dispatch();
        assert_eq!(pusher.loads(), loads);
    }
}

#[test]
fn who_is_behind_with_writing_is_given_nothing_more() {
    // Four of them are as much as may lie there, to the byte; `extra`: what is counted of each beside its body.
    for (again, extra) in [(false, 5), (true, MAX_HEAD)] {
        for (short, sent) in [(0, 4), (1, 5)] {
            let mut pusher = Pusher::new();
            pusher.accept(7, OUTGOING / 4 - extra - short);
            if again {
                let lost = pusher.open_without_credit(false);
                pusher.credit(lost, 9, 1 << 20);
                for _ in 0..3 {
                    pusher.flight.writer_turn(lost);
                    pusher.dispatch();
                }
                assert_eq!(pusher.sent(), [7]);
                pusher.flight.close_lane(lost, pusher.now);
            }
            let key = pusher.open_without_credit(false);
            let give = |pusher: &mut Pusher, messages| {
                pusher.credit(key, messages, 1 << 20);
                pusher.dispatch();
                pusher.sent()[0]
            };
            // One at a time: what goes out again is looked at by runs.
            let given: Vec<u64> = (1..=6).map(|messages| give(&mut pusher, messages)).collect();
            assert_eq!(given, (1..=6).map(|messages| messages.min(sent)).collect::<Vec<_>>(), "{short} short");
            // What lay there is in QUIC's hands.
            pusher.flight.writer_turn(key);
            assert_eq!(give(&mut pusher, 6), 6);
        }
    }
}

#[test]
fn who_grants_slots_is_told_once_what_waits_and_gets_back_what_is_left() {
    let waiting = |count| (to_receiver::WAITING, vec![count, 0]);
    let waive = |total| (to_receiver::WAIVE, vec![total]);
    let mut pusher = Pusher::new();
    let (slots, other) = (pusher.open_without_credit(true), pusher.open_without_credit(false));
    let said = |pusher: &mut Pusher| {
        pusher.dispatch();
        assert_eq!(pusher.told(other), [], "who sizes a window needs no word of it");
        pusher.told(slots)
    };
    assert_eq!(said(&mut pusher), []);
    pusher.accept(1, 1);
    assert_eq!(said(&mut pusher), [waiting(1)]);
    pusher.accept(2, 1);
    assert_eq!(said(&mut pusher), [], "it knows");
    pusher.credit(slots, 1, 1000);
    assert_eq!(said(&mut pusher), [], "two are left");
    // It has slots, and no bytes for them.
    pusher.credit(other, 1, 1000);
    assert_eq!(said(&mut pusher), []);
    pusher.credit(slots, 2, 1000);
    assert_eq!(said(&mut pusher), [waiting(0)], "it has nothing to give back");
    pusher.credit(slots, 3, 1000);
    assert_eq!(said(&mut pusher), [waiting(0), waive(1)], "a slot that was granted before it heard of that");
    assert_eq!(said(&mut pusher), []);
    pusher.accept(1, 1);
    assert_eq!(said(&mut pusher), [waiting(1)], "the one that was given back is not spent");
    pusher.credit(slots, 6, 1000);
    assert_eq!(said(&mut pusher), [waiting(0), waive(3)]);
    assert_eq!(pusher.sent(), [3, 1]);
}

#[test]
fn a_slot_that_no_bytes_are_left_for_is_kept_while_something_waits() {
    let waiting = |count| (to_receiver::WAITING, vec![count, 0]);
    let mut pusher = Pusher::new();
    let slots = pusher.open_without_credit(true);
    pusher.accept(3, 10);
    pusher.credit(slots, 3, 10);
    pusher.dispatch();
    assert_eq!(pusher.told(slots), [waiting(2)]);
    pusher.dispatch();
    assert_eq!(pusher.told(slots), [], "it knows");
    pusher.credit(slots, 3, 30);
    pusher.dispatch();
    assert_eq!(pusher.told(slots), [waiting(0)]);
}

#[test]
fn a_message_that_comes_after_none_was_left_wakes_the_dispatcher() {
    let mut pusher = Pusher::new();
    let slots = pusher.open_without_credit(true);
    let accept = |pusher: &Pusher| lock(&pusher.intake).accept(&NewMessage::default()).unwrap().wake;
    for round in 1..=3 {
        assert!(accept(&pusher), "round {round}");
        pusher.dispatch();
        assert!(!accept(&pusher), "it has said that something waits, and waits for credit itself");
        pusher.credit(slots, 2 * round, 1);
        pusher.dispatch();
        assert_eq!(pusher.sent(), [2 * round]);
    }
}

#[test]
fn what_goes_out_again_is_gathered_where_it_is_small_and_a_slice_where_it_is_large() {
    let mut pusher = Pusher::new();
    let lost = pusher.open_without_credit(false);
    pusher.accept(3, 100);
    let large = Bytes::from(vec![1; 40_000]);
    let _ = lock(&pusher.intake).accept(&NewMessage::new(large.clone())).unwrap();
    pusher.accept(3, 100);
    pusher.credit(lost, 9, 1 << 20);
    pusher.dispatch();
    pusher.flight.close_lane(lost, pusher.now);
    let key = pusher.open_without_credit(false);
    pusher.credit(key, 9, 1 << 20);
    pusher.dispatch();
    let mut out = Vec::new();
    pusher.flight.take_outgoing(key, Waker::noop(), &mut out);
    assert_eq!(out.len(), 3, "what stands before it, the large one, and what stands behind it");
    assert_eq!(out[1].as_ptr(), large.as_ptr());
}
