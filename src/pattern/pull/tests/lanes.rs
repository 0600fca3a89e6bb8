//! What comes in over a lane, what is kept of it, and what becomes of it when its end comes.

use super::*;

fn accept(inbox: &Arc<Inbox>, link: u64, now: Instant) -> PullLane {
    let node = NodeId::from_bytes([1; 32]);
    let peer = LanePeer { node, socket: SocketId(1), link, slots: false, max_message: MAX_MESSAGE };
    let (level, kind) = (Level::AtLeastOnce, SocketKind::Push);
    let open = OpenLane { from: SocketId(1), to: SocketId(1), kind, level, epoch: 7, base: 0, taken: false };
    let lane = PullLane(inbox.accept(peer, &open, now));
    said(&lane);
    generous(&lane);
    lane
}

fn control(kind: u8, numbers: &[u64]) -> BytesMut {
    let mut frame = BytesMut::new();
    frame::put_control(&mut frame, kind, &Payload::of(numbers).0);
    frame
}

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

#[test]
fn a_puller_is_drained_once_nothing_is_in_hand_and_each_answer_is_told() {
    let inbox = Inbox::new(None, MAX_MESSAGE);
    let lane = open(&inbox, 7, false);
    assert!(inbox.is_drained());
    hears(&lane, message(b"").repeat(2)).unwrap();
    assert!(!inbox.is_drained() && lane.owes());
    let (batch, index) = claim(&inbox);
    inbox.drain();
    said(&lane);
    assert!(!inbox.is_drained() && lane.owes(), "one went back, the other one is in hand");
    batch.answer(index, State::Acked);
    assert!(!inbox.is_drained(), "the answer is not told");
    said(&lane);
    assert!(inbox.is_drained() && !lane.owes());
}

#[test]
fn what_nobody_was_handed_goes_back_and_nothing_is_kept_of_it() {
    let inbox = Inbox::new(None, MAX_MESSAGE);
    let [lane, gated] = [open(&inbox, 7, false), open(&inbox, 8, true)];
    for lane in [&lane, &gated] {
        hears(lane, message(b"job")).unwrap();
    }
    inbox.drain();
    assert!(!inbox.is_drained());
    said(&lane);
    assert!(!inbox.is_drained(), "the other one holds its message");
    said(&gated);
    assert!(inbox.is_drained());
}

#[test]
fn a_lane_counts_until_it_is_over() {
    let inbox = Inbox::new(None, MAX_MESSAGE);
    let lanes = [7, 8, 9].map(|epoch| open(&inbox, epoch, false));
    for (lane, left) in lanes.iter().zip([2, 1, 0]) {
        assert_eq!(inbox.lane_count(), left + 1);
        lane.closed(Instant::now());
        assert_eq!(inbox.lane_count(), left);
    }
}

#[test]
fn figures_of_lanes_that_are_over_are_kept() {
    let inbox = Inbox::new(None, MAX_MESSAGE);
    for round in 1..=2 {
        let lane = open(&inbox, round, false);
        generous(&lane);
        hears(&lane, message(b"").repeat(9)).unwrap();
        let states = [State::Acked, State::Acked, State::Acked, State::Nacked, State::Nacked, State::Rejected];
        for state in states {
            let (batch, index) = claim(&inbox);
            batch.answer(index, state);
        }
        // Another one is in hand, and two wait.
        claim(&inbox);
        lane.closed(Instant::now());
        let all = |count| count * round;
        let counts = PullCounts {
            received: all(9),
            handed: all(7),
            acked: all(3),
            nacked: all(2),
            rejected: all(1),
            returned: 0,
            orphaned: all(1),
        };
        assert_eq!(inbox.figures().counts, counts);
    }
}

#[test]
fn an_answer_that_was_told_before_that_of_an_earlier_message_is_counted_once_when_its_lane_ends() {
    let inbox = Inbox::new(None, MAX_MESSAGE);
    let lane = open(&inbox, 7, false);
    generous(&lane);
    hears(&lane, message(b"").repeat(2)).unwrap();
    let (_in_hand, (batch, second)) = (claim(&inbox), claim(&inbox));
    batch.answer(second, State::Acked);
    said(&lane);
    lane.closed(Instant::now());
    let counts = PullCounts { received: 2, handed: 2, acked: 1, orphaned: 1, ..PullCounts::default() };
    assert_eq!(inbox.figures().counts, counts);
}

#[test]
fn for_a_receiver_that_has_gone_nothing_is_announced() {
    let inbox = Inbox::new(None, MAX_MESSAGE);
    let lane = open(&inbox, 7, true);
    let mut tickets = [(); 3].map(|()| Ticket::default());
    for ticket in &mut tickets[..2] {
        assert!(inbox.poll_claim(Instant::now, ticket, &mut Context::from_waker(Waker::noop())).is_pending());
    }
    inbox.forget(&mut tickets[0]);
    // It has never waited.
    inbox.forget(&mut tickets[2]);
    hears(&lane, message(b"job")).unwrap();
    hears(&lane, message(b"job")).unwrap();
    assert_eq!(lane.0.asked.load(Acquire), 1, "one of two still waits");
}

#[test]
fn what_is_handed_out_after_its_lease_says_that_somebody_may_have_had_it() {
    // Within a node nobody is given up.
    for (link, doubtful) in [(1, true), (0, false)] {
        let inbox = Inbox::new(None, MAX_MESSAGE);
        let start = Instant::now();
        let lane = accept(&inbox, link, start);
        let hears = |at| lane.handle_incoming(start + at, &mut [message(b"job").into()]).unwrap();
        let claim = |at| {
            let (batch, index) = inbox.try_claim(|| start + at).unwrap().expect("a message is there");
            let doubted = batch.mark(index).redelivered;
            batch.answer(index, State::Acked);
            doubted
        };
        hears(ms(0));
        // More that comes while something is unanswered proves nothing.
        hears(ms(400));
        assert!(!claim(ms(1_249)));
        assert_eq!(claim(ms(1_250)), doubtful);
        said(&lane);
        hears(ms(450));
        assert!(!claim(ms(1_699)), "the first after all was answered");
    }
}

#[test]
fn a_further_word_is_asked_for_while_something_waits_whose_lease_ends_soon() {
    for (link, leased) in [(1, true), (0, false)] {
        let inbox = Inbox::new(None, MAX_MESSAGE);
        let start = Instant::now();
        let lane = accept(&inbox, link, start);
        assert!(!lane.look(start + ms(250), None), "nothing waits");
        lane.handle_incoming(start + ms(250), &mut [message(b"job").into()]).unwrap();
        assert!(!lane.look(start + ms(450), None));
        assert_eq!(lane.look(start + ms(500), None), leased, "a second is left");
        let (batch, index) = claim(&inbox);
        batch.answer(index, State::Acked);
        said(&lane);
        assert!(!lane.look(start + ms(750), None), "it is answered");
    }
}

#[test]
fn a_read_of_very_many_messages_is_several_batches() {
    let inbox = Inbox::new(None, MAX_MESSAGE);
    let lane = accept(&inbox, 0, Instant::now());
    let mut chunks = [4095, 1, 1, 3000, 1000].map(|count| Bytes::from(message(b"").repeat(count)));
    lane.handle_incoming(Instant::now(), &mut chunks).unwrap();
    let counts: Vec<u32> = lock(&inbox.queue).batches.iter().map(|batch| batch.count()).collect();
    assert_eq!(counts, [4096, 4001]);
}

#[test]
fn credit_in_bytes_is_passed_by_one_message_at_most() {
    let inbox = Inbox::new(None, MAX_MESSAGE);
    let lane = open(&inbox, 7, false);
    lock(&lane.0.work).credit += 100;
    // All that was given, and the largest message with the largest headers.
    for _ in 0..5 {
        hears(&lane, message(&vec![0; MAX_MESSAGE])).unwrap();
    }
    hears(&lane, message(&vec![0; (64 << 10) + 4])).unwrap();
    assert!(hears(&lane, message(b"x")).is_err());
}

#[test]
fn credit_that_was_handed_back_cannot_be_spent() {
    let inbox = Inbox::new(None, MAX_MESSAGE);
    let lane = open(&inbox, 7, false);
    lock(&lane.0.work).credit = 2;
    hears(&lane, control(to_receiver::WAIVE, &[1])).unwrap();
    hears(&lane, message(b"one of two")).unwrap();
    assert!(hears(&lane, message(b"the other one")).is_err());
}

#[test]
fn nobody_hands_back_more_credit_than_it_was_told_of() {
    let inbox = Inbox::new(None, MAX_MESSAGE);
    for (waived, last_is_fine) in [(&[3][..], false), (&[2], true), (&[1, 0], false), (&[1, 1], true), (&[1, 2], true)]
    {
        let lane = open(&inbox, 7, false);
        lock(&lane.0.work).credit = 2;
        let heard: Vec<bool> =
            waived.iter().map(|total| hears(&lane, control(to_receiver::WAIVE, &[*total])).is_ok()).collect();
        assert_eq!(heard.last(), Some(&last_is_fine), "{waived:?} of 2");
    }
    // A slot that is granted and not yet told of.
    let inbox = Inbox::new(Some(1), MAX_MESSAGE);
    let lane = open(&inbox, 7, false);
    hears(&lane, control(to_receiver::WAITING, &[1, 0])).unwrap();
    assert_eq!(inbox.grants(), [(0, 1, true)]);
    assert!(hears(&lane, control(to_receiver::WAIVE, &[1])).is_err());
}

#[test]
fn who_closes_grants_no_slot_any_more() {
    let inbox = Inbox::new(Some(2), MAX_MESSAGE);
    let lanes = [open(&inbox, 7, false), open(&inbox, 8, false)];
    hears(&lanes[0], control(to_receiver::WAITING, &[1, 0])).unwrap();
    assert_eq!(inbox.grants(), [(0, 2, true), (1, 0, false)]);
    inbox.drain();
    hears(&lanes[1], control(to_receiver::WAITING, &[1, 0])).unwrap();
    lanes[0].closed(Instant::now());
    assert_eq!(inbox.grants(), [(1, 0, true)]);
    assert!(!lanes[1].owes(), "nothing is waited for that will not come");
}
