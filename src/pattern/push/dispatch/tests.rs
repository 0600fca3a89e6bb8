//! Who gets the next message, of pullers that are not equally busy?

use std::time::Instant;

use super::*;
use crate::id::{NodeId, SocketId};
use crate::message::NewMessage;
use crate::pattern::lane::LanePeer;
use crate::pattern::push::Amount;
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
