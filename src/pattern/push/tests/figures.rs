//! What a pusher tells of itself: whom it has, what it owes, how old its oldest message is.

use super::*;

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

#[test]
fn who_takes_smaller_messages_than_may_come_is_given_none() {
    let mut pusher = Pusher::new(None);
    let open = |pusher: &mut Pusher, max_message| {
        let (node, socket) = (NodeId::from_bytes([1; 32]), SocketId(1));
        let peer = LanePeer { node, socket, link: 0, slots: false, max_message };
        let (kind, level) = (SocketKind::Push, Level::AtLeastOnce);
        let open = OpenLane { from: socket, to: socket, kind, level, epoch: 7, base: 0, taken: false };
        pusher.flight.open_lane(peer, &open, MAX_MESSAGE)
    };
    for (max_message, count, in_flight) in [
        (MAX_MESSAGE - 1, 0, [0].to_vec()),
        (MAX_MESSAGE, 1, [0, 1].to_vec()),
        (MAX_MESSAGE + 1, 2, [0, 1, 1].to_vec()),
    ] {
        let key = open(&mut pusher, max_message);
        pusher.hear(key, to_sender::CREDIT, &[1, 1]).unwrap();
        pusher.send(1);
        assert_eq!(pusher.flight.lane_count(), count);
        assert_eq!(pusher.flight.lanes().map(|lane| lane.in_flight).collect::<Vec<_>>(), in_flight);
    }
}

#[test]
fn a_lane_owes_as_long_as_something_is_in_flight_on_it() {
    let mut pusher = Pusher::new(None);
    let lanes = [pusher.open(false), pusher.open(false)];
    let owed = |pusher: &Pusher| [lanes[0], lanes[1], 99].map(|key| pusher.flight.owes(key));
    assert_eq!(owed(&pusher), [false; 3]);
    pusher.hear(lanes[1], to_sender::CREDIT, &[2, 1000]).unwrap();
    pusher.send(2);
    assert_eq!(owed(&pusher), [false, true, false]);
    pusher.written(lanes[1]);
    pusher.hear(lanes[1], to_sender::ACK_UP_TO, &[1]).unwrap();
    assert_eq!(owed(&pusher), [false, true, false]);
    pusher.hear(lanes[1], to_sender::ACK_UP_TO, &[2]).unwrap();
    assert_eq!(owed(&pusher), [false; 3]);
}

#[test]
fn a_lane_is_finished_once_its_puller_takes_no_more_and_all_is_said_and_answered() {
    let mut pusher = Pusher::new(None);
    let key = pusher.open(false);
    let is_finished = |pusher: &Pusher| pusher.flight.is_finished(key);
    pusher.hear(key, to_sender::CREDIT, &[9, 1000]).unwrap();
    pusher.send(2);
    pusher.written(key);
    assert!(!is_finished(&pusher));
    pusher.hear(key, to_sender::CLOSING, &[]).unwrap();
    assert_eq!((is_finished(&pusher), pusher.flight.lane_count()), (false, 0));
    pusher.send(1);
    pusher.hear(key, to_sender::ACK_UP_TO, &[1]).unwrap();
    assert!(!is_finished(&pusher), "one is in flight");
    pusher.hear(key, to_sender::RETURN, &[1, 1]).unwrap();
    assert!(is_finished(&pusher), "nothing more goes to it");
    assert!(pusher.flight.is_finished(99), "nor to one that is over");
}

#[test]
fn a_lane_whose_last_word_is_not_taken_is_not_finished() {
    let mut pusher = Pusher::new(Some(1));
    let key = pusher.open(true);
    // Told that something waits, it closes.
    pusher.send(1);
    pusher.hear(key, to_sender::CLOSING, &[]).unwrap();
    assert!(!pusher.flight.is_finished(key));
    assert!(pusher.written(key) > 0);
    assert!(pusher.flight.is_finished(key));
}

#[test]
fn all_writers_that_sleep_are_woken_to_look() {
    let mut pusher = Pusher::new(None);
    let lanes = [pusher.open(false), pusher.open(false), pusher.open(false)];
    for key in lanes {
        assert!(!pusher.flight.take_outgoing(key, Waker::noop(), &mut Vec::new()));
    }
    // One of them does not sleep any more: it was woken for a message.
    pusher.hear(lanes[0], to_sender::CREDIT, &[9, 1000]).unwrap();
    pusher.send(1);
    pusher.flight.wake_all();
    assert_eq!(pusher.flight.take_effects().wakers.len(), 2);
    pusher.flight.wake_all();
    assert_eq!(pusher.flight.take_effects().wakers.len(), 0, "once");
}

#[test]
fn the_age_of_the_oldest_message_is_known_wherever_it_is() {
    let mut pusher = Pusher::new(None);
    let start = pusher.now;
    let oldest = |pusher: &Pusher, after| pusher.flight.oldest(&lock(&pusher.intake), start + ms(after));
    let look = |pusher: &mut Pusher, after| pusher.flight.look(&pusher.intake, start + ms(after));
    assert_eq!(oldest(&pusher, 0), None);
    pusher.send(1);
    assert_eq!(look(&mut pusher, 0), Some(start + ms(250)));
    assert_eq!(oldest(&pusher, 1_000), Some(ms(1_000)), "queued");
    pusher.send(1);
    look(&mut pusher, 1_000);
    let first = pusher.open(false);
    pusher.hear(first, to_sender::CREDIT, &[2, 1000]).unwrap();
    pusher.written(first);
    look(&mut pusher, 1_250);
    assert_eq!(oldest(&pusher, 2_000), Some(ms(2_000)), "in flight");
    pusher.flight.close_lane(first, pusher.now);
    assert_eq!(oldest(&pusher, 3_000), Some(ms(3_000)), "it has come back");
    let second = pusher.open(false);
    pusher.hear(second, to_sender::CREDIT, &[2, 1000]).unwrap();
    pusher.written(second);
    assert_eq!(oldest(&pusher, 4_000), Some(ms(4_000)), "it is in flight again");
    pusher.hear(second, to_sender::ACK_UP_TO, &[1]).unwrap();
    assert_eq!(oldest(&pusher, 4_000), Some(ms(3_000)), "now it is the second one, which came a second later");
    pusher.hear(second, to_sender::ACK_UP_TO, &[2]).unwrap();
    assert_eq!(oldest(&pusher, 4_000), None);
}

#[test]
fn who_has_looked_and_found_nothing_new_is_woken_by_the_next_message() {
    let mut pusher = Pusher::new(None);
    let start = pusher.now;
    let accept = |pusher: &Pusher| lock(&pusher.intake).accept(&NewMessage::default()).unwrap().wake;
    let look = |pusher: &mut Pusher, after| pusher.flight.look(&pusher.intake, start + ms(after));
    assert!(accept(&pusher));
    assert_eq!(look(&mut pusher, 0), Some(start + ms(250)));
    assert!(!accept(&pusher), "it looks again without being woken");
    assert_eq!(look(&mut pusher, 249), Some(start + ms(250)), "it is not time yet");
    assert_eq!(look(&mut pusher, 250), Some(start + ms(500)));
    assert_eq!(look(&mut pusher, 500), None);
    assert!(accept(&pusher));
    assert_eq!(look(&mut pusher, 700), Some(start + ms(950)));
}
