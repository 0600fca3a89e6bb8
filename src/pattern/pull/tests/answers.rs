//! What goes back to a pusher: each answer once, in as few words as it takes, and as much credit as was answered.

use std::task::Wake;

use super::*;
use crate::message::Delivery;
use crate::wire::limits::PULL_WINDOW_BYTES;

/// All that is said takes far less than this, and a writer waits for no answers longer.
const STEP: Duration = Duration::from_millis(2);

/// A lane that has yet to say its first word.
fn accept(inbox: &Arc<Inbox>, node: u8, epoch: u64) -> PullLane {
    let peer = LanePeer {
        node: NodeId::from_bytes([node; 32]),
        socket: SocketId(1),
        link: 0,
        slots: false,
        max_message: MAX_MESSAGE,
    };
    let (level, kind) = (Level::AtLeastOnce, SocketKind::Push);
    let open = OpenLane { from: SocketId(1), to: SocketId(1), kind, level, epoch, base: 0, taken: false };
    PullLane(inbox.accept(peer, &open, Instant::now()))
}

/// The frames that the puller has to say at this time.
fn told(lane: &PullLane, now: Instant) -> Vec<(u8, Vec<u8>)> {
    let (mut out, mut again) = (Vec::new(), None);
    let mut cx = Context::from_waker(Waker::noop());
    while lane.poll_outgoing(&mut cx, now, &mut out, &mut again).is_ready() {}
    let (mut bytes, mut told) = (BytesMut::from(&out.concat()[..]), Vec::new());
    frame::answers(&mut bytes, |kind, payload| {
        told.push((kind, payload.to_vec()));
        Ok(())
    })
    .unwrap();
    told
}

fn says(kind: u8, numbers: &[u64]) -> (u8, Vec<u8>) {
    (kind, Payload::of(numbers).0)
}

fn says_why(kind: u8, numbers: &[u64], reason: &str) -> (u8, Vec<u8>) {
    (kind, [&Payload::of(numbers).0, reason.as_bytes()].concat())
}

/// The bytes in total that are given with it.
fn credit(told: &[(u8, Vec<u8>)]) -> Option<u64> {
    let (_, payload) = told.iter().find(|(kind, _)| *kind == to_sender::CREDIT)?;
    let mut numbers = frame::Numbers::new(payload);
    numbers.next().unwrap();
    Some(numbers.next().unwrap())
}

#[derive(Default)]
struct Bell(AtomicBool);

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Release);
    }
}

/// Whether this wakes the writer of each lane. None of them has anything to do.
fn rings(lanes: &[&PullLane], now: Instant, act: impl FnOnce()) -> Vec<bool> {
    let bells: Vec<Arc<Bell>> = lanes.iter().map(|_| Arc::default()).collect();
    for (lane, bell) in lanes.iter().zip(&bells) {
        let waker = Waker::from(bell.clone());
        let (mut cx, mut again) = (Context::from_waker(&waker), None);
        while lane.poll_outgoing(&mut cx, now, &mut Vec::new(), &mut again).is_ready() {}
    }
    act();
    bells.iter().map(|bell| bell.0.load(Acquire)).collect()
}

#[test]
fn answers_out_of_order_are_told_by_range_until_those_before_them_are_given() {
    let inbox = Inbox::new(None, MAX_MESSAGE);
    let lane = open(&inbox, 7, false);
    generous(&lane);
    hears(&lane, message(b"").repeat(6)).unwrap();
    let hands = [(); 6].map(|()| claim(&inbox));
    let mut now = Instant::now();
    for (index, expected) in [
        (1, says(to_sender::ACK, &[1, 1])),
        (3, says(to_sender::ACK, &[3, 1])),
        (0, says(to_sender::ACK_UP_TO, &[2])),
        (5, says(to_sender::ACK, &[5, 1])),
        (2, says(to_sender::ACK_UP_TO, &[4])),
        (4, says(to_sender::ACK_UP_TO, &[6])),
    ] {
        assert!(!inbox.is_drained());
        hands[index].0.answer(hands[index].1, State::Acked);
        now += STEP;
        assert_eq!(told(&lane, now), [expected], "{index}");
    }
    assert!(inbox.is_drained(), "nothing is kept of what is answered in full");
}

#[test]
fn answers_alike_are_told_as_one_range_and_others_apart() {
    let inbox = Inbox::new(None, MAX_MESSAGE);
    let lane = open(&inbox, 7, false);
    generous(&lane);
    hears(&lane, message(b"").repeat(10)).unwrap();
    let hands = [(); 10].map(|()| claim(&inbox));
    let (delay, no) = (|| Detail::Delay(Duration::from_millis(5)), || Detail::Reason("no".into()));
    for (index, (batch, at)) in hands.iter().enumerate() {
        match index {
            0..2 | 6 => batch.answer(*at, State::Nacked),
            2..4 => batch.answer_with(*at, State::Nacked, delay()),
            4..6 => batch.answer_with(*at, State::Rejected, no()),
            7 => {}
            _ => batch.answer(*at, State::Acked),
        }
    }
    let expected = [
        says_why(to_sender::REJECT, &[4], "no"),
        says_why(to_sender::REJECT, &[5], "no"),
        says(to_sender::NACK, &[0, 0, 2, 6, 1]),
        says(to_sender::NACK, &[6, 2, 2]),
        says(to_sender::ACK, &[8, 2]),
        says(to_sender::ACK_UP_TO, &[7]),
    ];
    assert_eq!(told(&lane, Instant::now()), expected);
}

#[test]
fn a_batch_is_noted_once_and_each_answer_told_once_also_when_those_who_give_them_meet() {
    let inbox = Inbox::new(None, MAX_MESSAGE);
    let lane = open(&inbox, 7, false);
    generous(&lane);
    hears(&lane, message(b"").repeat(100)).unwrap();
    let mut now = Instant::now();
    for count in 1..=50 {
        let (batch, index) = claim(&inbox);
        batch.answer(index, State::Acked);
        // Somebody who has found as well that the writer is to be told, and comes second.
        lane.0.answered(&batch, index);
        assert_eq!(*lock(&lane.0.touched), [batch.number], "after {count} answers");
    }
    assert_eq!(told(&lane, now), [says(to_sender::ACK_UP_TO, &[50])]);
    // Of another batch all that is handed out is answered, but what lies before it is not.
    claim(&inbox);
    hears(&lane, message(b"").repeat(2)).unwrap();
    let [.., (batch, index)] = [(); 50].map(|()| claim(&inbox));
    batch.answer(index, State::Acked);
    now += STEP;
    assert_eq!(told(&lane, now), [says(to_sender::ACK, &[100, 1])]);
    // The writer was quicker than he who gave the answer and was about to tell it.
    lane.0.answered(&batch, index);
    now += STEP;
    assert_eq!(told(&lane, now), [], "it is told already");
}

#[test]
fn a_batch_knows_how_many_of_it_are_answered() {
    let inbox = Inbox::new(None, MAX_MESSAGE);
    let lane = open(&inbox, 7, false);
    hears(&lane, message(b"").repeat(2)).unwrap();
    let (batch, first) = claim(&inbox);
    assert_eq!(batch.arm(), 0);
    for (index, count) in [(first, 1), (claim(&inbox).1, 2)] {
        batch.answer(index, State::Acked);
        assert_eq!((batch.arm(), batch.arm()), (count, count), "whether the writer has looked or not");
    }
}

/// A message with one header.
fn with_header(value: usize, body: usize) -> (Vec<u8>, u64) {
    let (mut block, mut out) = (Vec::new(), BytesMut::new());
    headers::put(&mut block, "n", &"v".repeat(value));
    let size = headers::section_len(block.len()) + body;
    frame::put_head(&mut out, HEADERS, size, Head::PLAIN);
    headers::put_section(&mut out, &block);
    out.resize(out.len() + body, 0);
    (out.to_vec(), size as u64)
}

#[test]
fn as_many_bytes_are_given_back_as_were_answered() {
    let inbox = Inbox::new(None, MAX_MESSAGE);
    let lane = open(&inbox, 7, false);
    lock(&lane.0.work).credit += 8;
    let messages = [(1, 10), (30, 20), (3, 40), (200, 70), (7, 90)].map(|(value, body)| with_header(value, body));
    for read in [&messages[..2], &messages[2..4], &messages[4..]] {
        hears(&lane, read.iter().flat_map(|(frame, _)| frame.clone()).collect::<Vec<_>>()).unwrap();
    }
    let (mut now, mut sum) = (Instant::now(), 0);
    let mut gives = |index: usize| {
        sum += messages[index].1;
        now += STEP;
        // Whatever is answered raises it.
        lock(&lane.0.work).credit = 0;
        assert_eq!(credit(&told(&lane, now)), Some(PULL_WINDOW_BYTES + sum), "after {index}");
    };
    let ack = |(batch, index): (Arc<Batch>, u32)| batch.answer(index, State::Acked);
    // Of one batch each as it is handed out, of the next one in the other order, of the last one all at once.
    for index in 0..2 {
        ack(claim(&inbox));
        gives(index);
    }
    let (third, fourth) = (claim(&inbox), claim(&inbox));
    ack(fourth);
    gives(3);
    ack(third);
    gives(2);
    ack(claim(&inbox));
    gives(4);
}

#[test]
fn who_has_used_half_of_its_bytes_is_given_more_though_not_a_message_more() {
    let half = PULL_WINDOW_BYTES as usize / 2;
    for (short_of_half, more) in [(1, None), (0, Some(half))] {
        let inbox = Inbox::new(None, MAX_MESSAGE);
        let lane = open(&inbox, 7, false);
        lock(&lane.0.work).credit += 1000;
        let mut now = Instant::now();
        for len in [MAX_MESSAGE, half - MAX_MESSAGE - short_of_half] {
            hears(&lane, message(&vec![0; len])).unwrap();
        }
        assert_eq!(told(&lane, now), [], "nothing is answered");
        for (batch, index) in [(); 2].map(|()| claim(&inbox)) {
            batch.answer(index, State::Acked);
        }
        now += STEP;
        let told = told(&lane, now);
        assert_eq!(told[0], says(to_sender::ACK_UP_TO, &[2]));
        let more = more.map(|more| PULL_WINDOW_BYTES + more as u64);
        assert_eq!(credit(&told), more, "{short_of_half} short of half");
    }
}

#[test]
fn lanes_divide_the_window_in_bytes_down_to_the_least_that_each_gets() {
    for (lanes, window) in [(1, 4 << 20), (3, (4 << 20) / 3), (63, (4 << 20) / 63), (64, 64 << 10), (65, 64 << 10)] {
        let inbox = Inbox::new(None, MAX_MESSAGE);
        let lanes: Vec<PullLane> = (0..lanes).map(|epoch| accept(&inbox, 1, epoch)).collect();
        for lane in &lanes {
            let bytes = credit(&told(lane, Instant::now()));
            assert_eq!(bytes, Some(window), "{} lanes", lanes.len());
        }
    }
}

#[test]
fn an_answer_after_the_end_of_its_lane_is_told_to_the_same_life_of_its_pusher() {
    let inbox = Inbox::new(None, MAX_MESSAGE);
    let first = open(&inbox, 7, false);
    generous(&first);
    hears(&first, message(b"").repeat(4)).unwrap();
    let hands = [(); 4].map(|()| claim(&inbox));
    first.closed(Instant::now());
    let lanes = [accept(&inbox, 1, 7), accept(&inbox, 1, 8), accept(&inbox, 2, 7)];
    let [back, another_life, another_node] = &lanes;
    let now = Instant::now();
    let mut expected = Vec::new();
    for ((batch, index), (state, reason, kind)) in hands.iter().zip([
        (State::Rejected, Some("no"), to_sender::REJECT),
        (State::Nacked, None, to_sender::NACK),
        (State::Acked, None, to_sender::ACK),
        (State::Rejected, None, to_sender::REJECT),
    ]) {
        let rung = rings(&lanes.each_ref(), now, || match reason {
            Some(reason) => batch.answer_with(*index, state, Detail::Reason(reason.into())),
            None => batch.answer(*index, state),
        });
        assert_eq!(rung, [true, false, false]);
        expected.push(says_why(to_sender::LATE, &[u64::from(*index), 1, u64::from(kind)], reason.unwrap_or("")));
        assert_eq!(told(back, now), expected.split_off(0));
        assert_eq!([told(another_life, now), told(another_node, now)], [[], []]);
    }
}

#[test]
fn an_answer_is_told_at_once_where_somebody_waits_for_what_it_brings() {
    let mut waiting = BytesMut::new();
    frame::put_control(&mut waiting, to_receiver::WAITING, &Payload::of(&[3, 0]).0);
    for (prefetch, hungry, at_once) in [(None, false, false), (None, true, true), (Some(3), false, true)] {
        let inbox = Inbox::new(prefetch, MAX_MESSAGE);
        let (lane, now) = (open(&inbox, 7, false), Instant::now());
        hears(&lane, waiting.clone()).unwrap();
        told(&lane, now);
        lock(&lane.0.work).credit = 3;
        hears(&lane, message(b"").repeat(3)).unwrap();
        let [first, second, _] = [(); 3].map(|()| claim(&inbox));
        if hungry {
            let mut ticket = Ticket::default();
            assert!(inbox.poll_claim(Instant::now, &mut ticket, &mut Context::from_waker(Waker::noop())).is_pending());
        }
        let ack = |(batch, index): &(Arc<Batch>, u32)| batch.answer(*index, State::Acked);
        assert_eq!(rings(&[&lane], now, || ack(&first)), [true], "the first of several");
        assert_eq!(rings(&[&lane], now, || ack(&second)), [at_once], "prefetch {prefetch:?}, hungry: {hungry}");
    }
}

/// Counts warnings of this room.
struct Warnings(Arc<AtomicU64>);

impl tracing::Subscriber for Warnings {
    fn enabled(&self, _: &tracing::Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        tracing::span::Id::from_u64(1)
    }

    fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}

    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}

    fn event(&self, event: &tracing::Event<'_>) {
        let what = event.metadata();
        let warns = *what.level() == tracing::Level::WARN && what.target() == "meshmq::pattern";
        self.0.fetch_add(u64::from(warns), AcqRel);
    }

    fn enter(&self, _: &tracing::span::Id) {}

    fn exit(&self, _: &tracing::span::Id) {}
}

#[test]
fn who_drops_deliveries_is_warned_once_a_socket_and_they_go_back() {
    let warned = Arc::new(AtomicU64::new(0));
    tracing::subscriber::with_default(Warnings(warned.clone()), || {
        for socket in 1..=2 {
            let inbox = Inbox::new(None, MAX_MESSAGE);
            let lane = open(&inbox, 7, false);
            generous(&lane);
            hears(&lane, message(b"").repeat(3)).unwrap();
            let deliveries = [(); 3].map(|()| claim(&inbox)).map(|(batch, index)| Delivery::new(batch, index, None));
            assert_eq!(warned.load(Acquire), socket - 1);
            for delivery in deliveries {
                drop(delivery);
                assert_eq!(warned.load(Acquire), socket);
            }
            let told = told(&lane, Instant::now());
            assert_eq!(told, [says(to_sender::NACK, &[0, 0, 3]), says(to_sender::ACK_UP_TO, &[3])]);
        }
    });
}
