//! Who may hand over one more message, and who is told when there is room.

use super::*;
use crate::pattern::segment::Segment;
use crate::pattern::waiters::Ticket;

fn intake(messages: u64, bytes: u64) -> Intake {
    Intake::new(Amount { messages, bytes })
}

fn sized(bytes: usize) -> NewMessage {
    NewMessage::new(vec![0; bytes])
}

#[test]
fn the_bound_is_exact_in_messages_and_in_bytes() {
    let mut intake = intake(3, 100);
    assert_eq!([100, 101].map(|bytes| intake.fits(bytes)), [Ok(()), Err(100)]);
    assert!(intake.accept(&sized(60)).is_ok());
    assert_eq!([40, 41].map(|bytes| intake.is_full(bytes)), [false, true]);
    assert_eq!(intake.accept(&sized(41)), Err(Refused::Full));
    assert_eq!(intake.reserve(41), Err(Refused::Full));
    assert_eq!(intake.reserve(40), Ok(()));
    assert!(intake.accept(&sized(0)).is_ok());
    assert_eq!(intake.accept(&sized(0)), Err(Refused::Full), "three messages are there");
    assert_eq!(intake.used(), Amount { messages: 3, bytes: 100 });
    assert_eq!((intake.fits(100), intake.is_full(0)), (Ok(()), true));
    let _ = intake.release(Amount { messages: 1, bytes: 60 });
    assert_eq!([60, 61].map(|bytes| intake.is_full(bytes)), [false, true]);
}

#[test]
fn a_place_takes_a_message_once_there_is_room_for_its_bytes() {
    let mut intake = intake(2, 100);
    assert!(intake.accept(&sized(60)).is_ok());
    assert_eq!(intake.reserve(0), Ok(()));
    assert_eq!(intake.accept_into_place(&sized(41)), Err(Refused::Full));
    assert!(intake.accept_into_place(&sized(40)).is_ok());
    assert_eq!(intake.used(), Amount { messages: 2, bytes: 100 });
    let _ = intake.release(Amount { messages: 1, bytes: 60 });
    assert_eq!(intake.reserve(0), Ok(()));
    assert!(!intake.is_closed());
    let _ = intake.close();
    assert!(intake.is_closed());
    assert_eq!(intake.accept_into_place(&sized(1)), Err(Refused::Closed));
    assert_eq!((intake.accept(&sized(1)), intake.reserve(1)), (Err(Refused::Closed), Err(Refused::Closed)));
    assert!(!intake.is_full(1000), "nobody waits for room that will not be given");
}

#[test]
fn who_waits_for_room_is_woken_and_who_has_gone_is_not() {
    let mut intake = intake(2, 100);
    let mut tickets = [(); 3].map(|()| Ticket::default());
    tickets.iter_mut().for_each(|ticket| intake.wait(ticket, Waker::noop()));
    intake.forget(&mut tickets[1]);
    assert_eq!(intake.release(Amount::default()).count(), 2);
    assert_eq!(intake.release(Amount::default()).count(), 0, "they have to wait anew");
    intake.wait(&mut tickets[0], Waker::noop());
    assert_eq!(intake.close().count(), 1, "whoever waits when it closes hears of it");
}

#[test]
fn what_no_lane_was_ready_for_is_queued_here_in_order() {
    let mut pusher = Pusher::new(None);
    let key = pusher.open(false);
    let queued = |pusher: &Pusher| {
        let intake = lock(&pusher.intake);
        (intake.first_queued(), intake.next_sequence())
    };
    // Of all sizes, and one with headers: each may lie elsewhere.
    let header = sized(3).header("name", "value");
    for (count, message) in (1..).zip([sized(0), sized(100), header, sized(LARGE_BODY), sized(500), sized(0)]) {
        let accepted = lock(&pusher.intake).accept(&message).unwrap();
        assert_eq!((accepted.sequence, accepted.wake), (count - 1, count == 1), "only the first one wakes");
        pusher.turn();
        assert_eq!(queued(&pusher), (0, count));
    }
    pusher.hear(key, to_sender::CREDIT, &[4, 1 << 20]).unwrap();
    pusher.turn();
    assert_eq!(queued(&pusher), (6, 6), "the flight has them all");
    assert_eq!(pusher.flight.in_flight(), 4);
}

/// What was accepted, as the flight takes it.
fn segments(intake: &mut Intake) -> Vec<Segment> {
    let mut segments = VecDeque::new();
    intake.take(&mut segments, &mut Vec::new());
    segments.into()
}

#[test]
fn small_messages_lie_together_and_no_more_than_256_kib_of_them() {
    for message in [sized(100), sized(90).header("a", "b")] {
        let mut intake = intake(10_000, 1 << 30);
        for _ in 0..5_000 {
            assert!(intake.accept(&message).is_ok());
        }
        let counted = segments(&mut intake).iter().map(|segment| segment.count).collect::<Vec<_>>();
        assert_eq!((counted.len(), counted.iter().sum()), (2, 5_000), "{counted:?}");
    }
}

#[test]
fn a_lone_message_holds_hardly_more_than_its_size() {
    for bytes in [0, 10, 200, 300, 20_000] {
        let mut intake = intake(1, 1 << 20);
        assert!(intake.accept(&sized(bytes)).is_ok());
        let segment = segments(&mut intake).pop().expect("it was accepted");
        let held = segment.bytes.try_into_mut().expect("nobody else holds it").capacity();
        assert!(held <= (bytes + 30).max(256), "{held} bytes for {bytes}");
    }
}

#[test]
fn the_next_allocation_is_about_as_large_as_what_was_taken() {
    // Allocations that are there to be used again, and how many of them are left.
    for (spare, left) in [(None, 0), (Some(8 << 10), 1), (Some(20 << 10), 0), (Some(60 << 10), 0), (Some(1 << 20), 1)] {
        let mut intake = intake(1000, 1 << 20);
        for _ in 0..100 {
            assert!(intake.accept(&sized(100)).is_ok());
        }
        let mut spares = Vec::from_iter(spare.map(BytesMut::with_capacity));
        intake.take(&mut VecDeque::new(), &mut spares);
        assert_eq!(spares.len(), left, "{spare:?}");
        assert!(intake.accept(&sized(100)).is_ok());
        let next = segments(&mut intake).pop().expect("it was accepted").bytes;
        let held = next.try_into_mut().expect("nobody else holds it").capacity();
        let expected = if left == 0 { spare } else { None }.map_or(10_300..=40_000, |spare| spare..=spare);
        assert!(expected.contains(&held), "{held} bytes with {spare:?} there");
    }
}

#[test]
fn no_segment_is_larger_than_256_kib() {
    for bytes in [100, 500, 1000, 1500, 2000, 3000] {
        let mut intake = intake(100_000, 1 << 30);
        for _ in 0..1_500_000 / bytes {
            assert!(intake.accept(&sized(bytes)).is_ok());
        }
        let largest = segments(&mut intake).iter().map(|segment| segment.bytes.len()).max();
        assert!(largest <= Some(256 << 10), "{largest:?} bytes in one, of messages of {bytes}");
    }
}
