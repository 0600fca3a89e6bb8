//! What a hostile pusher can make a puller hold and look through.

mod answers;
mod credit;
mod lanes;

use std::time::Duration;

use super::lane::GATHER;
use super::*;
use crate::id::SocketId;
use crate::pattern::batch::{Detail, State};
use crate::pattern::lane::{LaneEnd, Outgoing, Violation};
use crate::wire::control::{Level, OpenLane, SocketKind};
use crate::wire::frame::{self, DELTA, HEADERS, Head, Payload, to_receiver, to_sender};
use crate::wire::headers;

const MAX_MESSAGE: usize = 1 << 20;
/// Far more than anything here takes, and far less than what is looked through again and again.
const SOON: Duration = Duration::from_secs(10);

fn open(inbox: &Arc<Inbox>, epoch: u64, taken: bool) -> PullLane {
    let node = NodeId::from_bytes([1; 32]);
    let peer = LanePeer { node, socket: SocketId(1), link: 0, slots: false, max_message: MAX_MESSAGE };
    let (level, kind) = (Level::AtLeastOnce, SocketKind::Push);
    let open = OpenLane { from: SocketId(1), to: SocketId(1), kind, level, epoch, base: 0, taken };
    let lane = PullLane(inbox.accept(peer, &open, Instant::now()));
    said(&lane);
    lane
}

/// What the puller has to say.
fn said(lane: &PullLane) -> Vec<u8> {
    let (mut out, mut again) = (Vec::new(), None);
    let mut cx = Context::from_waker(Waker::noop());
    while lane.poll_outgoing(&mut cx, Instant::now(), &mut out, &mut again).is_ready() {}
    out.concat()
}

fn hears(lane: &PullLane, bytes: impl Into<Bytes>) -> Result<(), Violation> {
    lane.handle_incoming(Instant::now(), &mut [bytes.into()])
}

fn message(body: &[u8]) -> Vec<u8> {
    let mut out = BytesMut::new();
    frame::put_plain_head(&mut out, body.len());
    [&out[..], body].concat()
}

/// A message that is nothing but one header.
fn header(value: usize) -> Vec<u8> {
    let (mut block, mut out) = (Vec::new(), BytesMut::new());
    headers::put(&mut block, "n", &"v".repeat(value));
    frame::put_head(&mut out, HEADERS, headers::section_len(block.len()), Head::PLAIN);
    headers::put_section(&mut out, &block);
    out.to_vec()
}

fn claim(inbox: &Inbox) -> (Arc<Batch>, u32) {
    inbox.try_claim(Instant::now).unwrap().expect("a message is there")
}

/// As much credit as a fast worker has given.
fn generous(lane: &PullLane) {
    let mut work = lock(&lane.0.work);
    work.credit += 100_000;
    work.credit_bytes += 100_000;
}

#[test]
fn a_message_begun_without_credit_is_a_violation() {
    let inbox = Inbox::new(Some(1), MAX_MESSAGE);
    let lane = open(&inbox, 7, false);
    let large = message(&[0; 100_000]);
    assert!(hears(&lane, large[..70_000].to_vec()).is_err(), "no slot was given");
    // A control frame may come in parts at any time.
    let lane = open(&inbox, 8, false);
    let mut waiting = BytesMut::new();
    frame::put_control(&mut waiting, to_receiver::WAITING, &Payload::of(&[1, 0]).0);
    for byte in waiting {
        hears(&lane, vec![byte]).unwrap();
    }
    said(&lane);
    hears(&lane, large[..70_000].to_vec()).unwrap();
    hears(&lane, large[70_000..].to_vec()).unwrap();
    assert!(hears(&lane, large[..1].to_vec()).is_err(), "the slot is taken");
}

#[test]
fn a_slot_that_is_granted_is_owed_until_it_is_spent_or_waived() {
    let control = |kind, numbers: &[u64]| {
        let mut frame = BytesMut::new();
        frame::put_control(&mut frame, kind, &Payload::of(numbers).0);
        frame
    };
    let inbox = Inbox::new(Some(1), MAX_MESSAGE);
    let lane = open(&inbox, 7, false);
    assert!(!lane.owes(), "nothing waits");
    hears(&lane, control(to_receiver::WAITING, &[1, 0])).unwrap();
    said(&lane);
    assert!(lane.owes(), "the slot is with the pusher, which has to say what becomes of it");
    hears(&lane, control(to_receiver::WAITING, &[0, 0])).unwrap();
    hears(&lane, control(to_receiver::WAIVE, &[1])).unwrap();
    assert!(!lane.owes(), "it was handed back");
    // With a window that sizes itself, credit lies with idle pushers all the time.
    let inbox = Inbox::new(None, MAX_MESSAGE);
    let lane = open(&inbox, 7, false);
    assert!(!lane.owes());
}

#[test]
fn a_pusher_that_never_comes_back_costs_others_nothing() {
    let inbox = Inbox::new(None, MAX_MESSAGE);
    for number in 0..70_000 {
        let late = Late { sequence: number, attempt: 1, state: State::Acked, reason: None };
        inbox.remember(NodeId::from_bytes([9; 32]), number % 3, late);
    }
    let lane = open(&inbox, 7, false);
    let start = Instant::now();
    for _ in 0..2000 {
        said(&lane);
    }
    assert!(start.elapsed() < SOON, "{:?}", start.elapsed());
    // The oldest are forgotten, the others are told in order to who comes back.
    let node = NodeId::from_bytes([9; 32]);
    let mut shared = lock(&inbox.shared);
    let kept: Vec<u64> = (0..3).flat_map(|epoch| shared.late.take(node, epoch)).map(|late| late.sequence).collect();
    assert_eq!(kept.len(), 65_536);
    assert!(kept.iter().all(|sequence| *sequence >= 70_000 - 65_536));
}

#[test]
fn many_rejections_of_one_batch_are_found_without_searching() {
    let inbox = Inbox::new(None, MAX_MESSAGE);
    let lane = open(&inbox, 7, false);
    generous(&lane);
    hears(&lane, message(b"").repeat(60_000)).unwrap();
    for _ in 0..60_000 {
        let (batch, index) = claim(&inbox);
        batch.answer_with(index, State::Rejected, Detail::Reason(String::new()));
    }
    let start = Instant::now();
    said(&lane);
    assert!(!lane.owes());
    assert!(start.elapsed() < Duration::from_secs(3), "{:?}", start.elapsed());
}

#[test]
fn what_is_held_is_not_many_times_what_was_sent() {
    let inbox = Inbox::new(None, MAX_MESSAGE);
    // One short message among much that is skipped, and one packet of many that came together.
    let mut skipped = BytesMut::new();
    frame::put_control(&mut skipped, 0x7f, &[0; 60_000]);
    let sparse = Bytes::from([message(b"job"), skipped.to_vec()].concat());
    let packets = Bytes::from([message(&[7; 1200]), vec![0; 63_000]].concat());
    for (read, came) in [(sparse.clone(), sparse.len()), (packets.clone(), 1203)] {
        let lane = open(&inbox, 7, false);
        hears(&lane, read.slice(..came)).unwrap();
        let (batch, index) = claim(&inbox);
        assert_eq!(batch.slice(index), if came == 1203 { &[7; 1200][..] } else { b"job" });
        drop(read);
        batch.answer(index, State::Acked);
    }
    assert!(sparse.is_unique() && packets.is_unique(), "nobody holds on to all of it");
    // Where it is mostly bodies nothing is copied.
    let lane = open(&inbox, 7, false);
    let whole = Bytes::from(message(&[1; 60_000]));
    hears(&lane, whole.clone()).unwrap();
    assert_eq!(claim(&inbox).0.slice(0).as_ptr(), whole[5..].as_ptr());
}

#[test]
fn headers_are_counted_against_credit_and_given_back() {
    let inbox = Inbox::new(None, MAX_MESSAGE);
    let lane = open(&inbox, 7, false);
    lock(&lane.0.work).credit += 100_000;
    let frame = header(60_000);
    // Answered they are no burden, however many come.
    for _ in 0..200 {
        hears(&lane, frame.clone()).unwrap();
        let (batch, index) = claim(&inbox);
        assert_eq!((batch.slice(index).len(), batch.header_block(index).len()), (0, 60_006));
        batch.answer(index, State::Acked);
        said(&lane);
    }
    let many = (0..200).find(|_| hears(&lane, frame.clone()).is_err());
    assert!(many.is_some_and(|count| count < 100), "{many:?}");
}

#[test]
fn headers_that_lie_are_a_violation() {
    let inbox = Inbox::new(None, MAX_MESSAGE);
    for content in [&[1, 0][..], &[9, 1, b'a', 0], &[3, 1, b'a', 5], &[4, 1, b'a', 1, b'\n']] {
        let lane = open(&inbox, 7, false);
        let frame = [&[content.len() as u8 + 1, HEADERS][..], content].concat();
        assert!(hears(&lane, frame).is_err(), "{content:x?}");
    }
}

#[test]
fn who_waits_has_another_lane_asked_when_the_first_is_lost() {
    let inbox = Inbox::new(None, MAX_MESSAGE);
    let lanes = [open(&inbox, 7, true), open(&inbox, 8, true)];
    let is_asked = |lane: &PullLane| said(lane).first() == Some(&to_sender::TAKEN);
    for lane in &lanes {
        hears(lane, message(b"job")).unwrap();
        said(lane);
    }
    let mut ticket = Ticket::default();
    assert!(inbox.poll_claim(Instant::now, &mut ticket, &mut Context::from_waker(Waker::noop())).is_pending());
    assert_eq!(lanes.each_ref().map(is_asked), [true, false]);
    lanes[0].closed(Instant::now());
    assert!(is_asked(&lanes[1]), "the receiver still waits, and this one has a message");
}

#[test]
fn sequences_stay_within_what_can_be_answered() {
    let inbox = Inbox::new(None, MAX_MESSAGE);
    let most = [0xc0 | 0x3f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff];
    for delta in [&most[..], &[1]] {
        let lane = open(&inbox, 7, false);
        let frame = [&[1 + delta.len() as u8, DELTA][..], delta].concat();
        assert!(hears(&lane, frame).is_err(), "{delta:x?}");
    }
}

#[test]
fn who_hears_while_it_is_asked_is_never_ahead() {
    // The order of the two looks matters: the other one, interrupted in between, would find a negative number.
    let inbox = Inbox::new(None, MAX_MESSAGE);
    let lane = open(&inbox, 7, true);
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for count in 1..300_000 {
                lane.0.asked.store(count, Release);
                lane.0.heard.store(count, Release);
            }
            done.store(true, Release);
        });
        while !done.load(Acquire) {
            lane.0.awaited();
        }
    });
}

#[test]
fn answers_that_keep_coming_are_told_together_and_at_once_when_a_receiver_waits() {
    let inbox = Inbox::new(None, MAX_MESSAGE);
    let lane = open(&inbox, 7, false);
    generous(&lane);
    hears(&lane, message(b"").repeat(300)).unwrap();
    let start = Instant::now();
    let said = |after: Duration| {
        let (mut out, mut again) = (Vec::new(), None);
        let mut cx = Context::from_waker(Waker::noop());
        while lane.poll_outgoing(&mut cx, start + after, &mut out, &mut again).is_ready() {}
        (out.concat(), again)
    };
    let ack = || {
        let (batch, index) = claim(&inbox);
        batch.answer(index, State::Acked);
    };
    let soon = Duration::from_micros(100);
    said(Duration::ZERO);
    ack();
    assert!(!said(Duration::ZERO).0.is_empty(), "the first is told at once");
    for _ in 0..200 {
        ack();
        assert_eq!(said(soon), (Vec::new(), Some(start + GATHER)), "others are on their way");
    }
    assert!(!said(GATHER).0.is_empty(), "all of them together, in time");
    for _ in 201..299 {
        ack();
    }
    let (batch, index) = claim(&inbox);
    assert!(!said(GATHER + soon).0.is_empty(), "a batch is used up");
    batch.answer(index, State::Acked);
    assert!(said(GATHER + soon).0.is_empty());
    assert!(inbox.try_claim(Instant::now).unwrap().is_none());
    assert!(!said(GATHER + soon).0.is_empty(), "whoever finds nothing has the pusher hear of what is done");
}

#[test]
fn what_is_under_way_when_a_puller_closes_goes_back() {
    let inbox = Inbox::new(None, MAX_MESSAGE);
    let lane = open(&inbox, 7, false);
    inbox.drain();
    let kinds = || {
        let (mut out, mut again) = (Vec::new(), None);
        let mut cx = Context::from_waker(Waker::noop());
        while let Poll::Ready(next) = lane.poll_outgoing(&mut cx, Instant::now(), &mut out, &mut again) {
            assert_eq!(next, Outgoing::Write, "the pusher ends the lane, once it has heard that it closes");
        }
        let (mut bytes, mut kinds) = (BytesMut::from(&out.concat()[..]), Vec::new());
        frame::answers(&mut bytes, |kind, _| {
            kinds.push(kind);
            Ok(())
        })
        .unwrap();
        kinds
    };
    assert_eq!(kinds(), [to_sender::CLOSING]);
    hears(&lane, message(b"sent before that was heard")).unwrap();
    assert_eq!(kinds()[0], to_sender::RETURN);
}

#[test]
fn figures_are_exact_at_each_answer_before_any_writer_has_looked() {
    let inbox = Inbox::new(None, MAX_MESSAGE);
    let lane = open(&inbox, 7, false);
    generous(&lane);
    let seen = |counted: [u64; 4], [waiting, in_hand]: [u64; 2], has_oldest: bool| {
        let figures = inbox.figures();
        let counts = figures.counts;
        assert_eq!([counts.acked, counts.nacked, counts.rejected, counts.orphaned], counted);
        assert_eq!([figures.waiting, figures.in_hand], [waiting, in_hand]);
        assert_eq!(counts.handed, counted.iter().sum::<u64>() + in_hand);
        assert_eq!(figures.oldest.is_some(), has_oldest);
        let told = figures.lanes.first().map_or(0, |(_, _, unanswered)| *unanswered);
        assert_eq!(told, waiting + in_hand, "so the lane's own are");
    };
    hears(&lane, message(b"").repeat(3)).unwrap();
    hears(&lane, message(b"").repeat(4)).unwrap();
    seen([0, 0, 0, 0], [7, 0], true);
    let [first, second, third, fourth, fifth] = [(); 5].map(|()| claim(&inbox));
    seen([0, 0, 0, 0], [2, 5], true);
    second.0.answer(second.1, State::Nacked);
    seen([0, 1, 0, 0], [2, 4], true);
    third.0.answer_with(third.1, State::Rejected, Detail::Reason("no".into()));
    seen([0, 1, 1, 0], [2, 3], true);
    // The writer looks at some, and changes no figure.
    said(&lane);
    seen([0, 1, 1, 0], [2, 3], true);
    fourth.0.answer(fourth.1, State::Acked);
    seen([1, 1, 1, 0], [2, 2], true);
    first.0.answer(first.1, State::Acked);
    seen([2, 1, 1, 0], [2, 1], true);
    // What was answered is no orphan, also where the writer never told it.
    lane.closed(Instant::now());
    seen([2, 1, 1, 1], [0, 0], false);
    fifth.0.answer(fifth.1, State::Acked);
    seen([2, 1, 1, 1], [0, 0], false);

    let next = open(&inbox, 8, false);
    generous(&next);
    hears(&next, message(b"")).unwrap();
    let (batch, index) = claim(&inbox);
    batch.answer(index, State::Acked);
    seen([3, 1, 1, 1], [0, 0], false);
}

#[test]
fn no_delay_is_longer_than_the_wire_takes_nor_comes_out_short() {
    let most = u64::from(u32::MAX);
    for (delay, told) in [
        (Duration::ZERO, 0),
        (Duration::from_millis(most - 1), most - 1),
        (Duration::from_millis(most), most),
        (Duration::from_millis(most + 1), most),
        // In milliseconds a multiple of 2^64.
        (Duration::from_secs(1 << 61), most),
        (Duration::MAX, most),
    ] {
        let inbox = Inbox::new(None, MAX_MESSAGE);
        let lane = open(&inbox, 7, false);
        generous(&lane);
        hears(&lane, message(b"")).unwrap();
        let (batch, index) = claim(&inbox);
        batch.answer_with(index, State::Nacked, Detail::Delay(delay));
        let (mut said, mut heard) = (BytesMut::from(&said(&lane)[..]), None);
        frame::answers(&mut said, |kind, payload| {
            if kind == to_sender::NACK {
                heard = Some(frame::Numbers::new(payload).next()?);
            }
            Ok(())
        })
        .unwrap();
        assert_eq!(heard, Some(told + 1), "{delay:?}");
    }
}

#[test]
fn one_receiver_has_one_message_announced_over_all_lanes() {
    let inbox = Inbox::new(None, MAX_MESSAGE);
    let lanes = [open(&inbox, 7, true), open(&inbox, 8, true)];
    let mut ticket = Ticket::default();
    let mut cx = Context::from_waker(Waker::noop());
    assert!(inbox.poll_claim(Instant::now, &mut ticket, &mut cx).is_pending());
    for lane in &lanes {
        hears(lane, message(b"job")).unwrap();
    }
    let asked = || lanes.each_ref().map(|lane| lane.0.asked.load(Acquire));
    assert_eq!(asked(), [1, 0], "who says that it is handed out says so of what is");
    let [first, second] = &lanes;
    first.closed(Instant::now());
    assert_eq!(asked(), [1, 1], "the receiver still waits");
    said(second);
    let mut heard = BytesMut::new();
    frame::put_control(&mut heard, to_receiver::HEARD, &Payload::of(&[1]).0);
    hears(second, heard).unwrap();
    assert!(inbox.poll_claim(Instant::now, &mut ticket, &mut cx).is_ready());
}

#[test]
fn reasons_and_delays_are_told_with_their_answers() {
    let inbox = Inbox::new(None, MAX_MESSAGE);
    let lane = open(&inbox, 7, false);
    generous(&lane);
    hears(&lane, message(b"job").repeat(3)).unwrap();
    let answer = |detail, state| {
        let (batch, index) = claim(&inbox);
        batch.answer_with(index, state, detail);
    };
    answer(Detail::Reason("no".into()), State::Rejected);
    // Two bytes a letter, and one before them: the limit is within a letter.
    answer(Detail::Reason(format!("x{}", "ä".repeat(1000))), State::Rejected);
    answer(Detail::Delay(Duration::from_millis(1234)), State::Nacked);
    let (mut bytes, mut heard) = (BytesMut::from(&said(&lane)[..]), Vec::new());
    frame::answers(&mut bytes, |kind, payload| {
        heard.push((kind, payload.to_vec()));
        Ok(())
    })
    .unwrap();
    let reject = |position: u64, reason: &str| {
        let mut payload = Payload::of(&[position]).0;
        payload.extend_from_slice(reason.as_bytes());
        (to_sender::REJECT, payload.to_vec())
    };
    assert!(heard.contains(&reject(0, "no")), "{heard:?}");
    assert!(heard.contains(&reject(1, &format!("x{}", "ä".repeat(511)))), "as much as fits of whole letters");
    assert!(heard.contains(&(to_sender::NACK, Payload::of(&[1235, 2, 1]).0.to_vec())), "{heard:?}");
}
