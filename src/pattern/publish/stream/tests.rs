//! What lies in a stream: nothing of what is over piles up there.

use super::*;
use crate::id::NodeId;

const OPTIONS: Options = Options {
    when_full: Policy::Latest,
    bound: Amount { messages: 1000, bytes: 1 << 20 },
    retain_last: 0,
    retain_bound: Amount { messages: 1000, bytes: 1 << 20 },
    max_message: 1000,
};

fn stream() -> Stream {
    Stream::new(1, Who { node: NodeId::from_bytes([1; 32]), epoch: 1 })
}

/// One more message, of three bytes.
fn append(stream: &mut Stream, topic: &str, options: &Options) {
    assert_eq!(stream.make_room(topic, 3, options), Room::Free);
    let own = Printed::Own { head: Bytes::from_static(&[4, 8, 1, b't', b'x']), body: None };
    stream.append(&own, topic, 3, 1, 1, options.when_full);
    check(stream);
}

/// What is counted is what is there.
fn check(stream: &Stream) {
    let live = || stream.runs.iter().enumerate().filter(|(_, run)| !run.dead);
    let sum = |sent: usize| {
        let runs = live().filter(|(at, _)| *at >= sent);
        runs.fold((0, 0), |(messages, bytes), (_, run)| (messages + u64::from(run.count), bytes + run.payload))
    };
    assert_eq!((stream.held.messages, stream.held.bytes), sum(0));
    assert_eq!((stream.queued.messages, stream.queued.bytes), sum(stream.sent_runs));
    assert_eq!(stream.dead, stream.runs.len() - live().count());
}

#[test]
fn what_was_replaced_is_swept_away_once_it_is_most_of_what_lies_there() {
    // So many topics, then so many messages that are replaced: how many runs there are then.
    for (topics, replaced, runs) in
        [(1, 64, 65), (1, 65, 1), (10, 64, 74), (10, 65, 10), (100, 99, 199), (100, 100, 100), (10, 10_000, 65)]
    {
        let mut stream = stream();
        for number in 0..topics + replaced {
            append(&mut stream, &format!("t{}", number % topics), &OPTIONS);
        }
        assert_eq!(stream.runs.len(), runs, "{topics} {replaced}");
        assert_eq!(stream.queued.messages, topics);
    }
}

#[test]
fn what_was_replaced_is_not_sent_and_not_dropped_again() {
    let mut stream = stream();
    let three = Options { bound: Amount { messages: 3, ..OPTIONS.bound }, ..OPTIONS };
    for topic in ["a", "b", "a", "c"] {
        append(&mut stream, topic, &three);
    }
    // Of b, a and c the oldest makes room; the one in front of it was replaced.
    append(&mut stream, "d", &three);
    assert_eq!((stream.dropped.replaced, stream.dropped.oldest), (1, 1));
    append(&mut stream, "a", &three);
    let take = |stream: &mut Stream| {
        let taken = stream.take(10, 1000).map(|(missing, sent)| (missing, sent.count));
        check(stream);
        taken
    };
    let taken: Vec<_> = (0..4).map(|_| take(&mut stream)).collect();
    assert_eq!(taken, [Some((3, 1)), Some((0, 1)), Some((0, 1)), None], "c, d and a");
}

#[test]
fn of_messages_that_were_sent_and_made_room_a_few_numbers_stay() {
    let one = Options { when_full: Policy::DropOldest, bound: Amount { messages: 1, ..OPTIONS.bound }, ..OPTIONS };
    let mut stream = stream();
    for number in 0..100 {
        if number == 50 {
            stream.skip(|dropped| &mut dropped.too_large);
        }
        append(&mut stream, "a", &one);
        assert!(stream.take(1, 1000).is_some());
    }
    assert_eq!(stream.ghosts, [(0, 50), (51, 49)], "all but the last, and what is between them");
}

#[test]
fn a_message_that_lies_alone_in_the_open_piece_makes_room_as_it_is() {
    let bound =
        |messages| Options { when_full: Policy::DropOldest, bound: Amount { messages, ..OPTIONS.bound }, ..OPTIONS };
    for (messages, room) in [(1, Room::Free), (2, Room::InOpen)] {
        let mut stream = stream();
        for number in 0..messages {
            let open = Printed::Open { start: 5 * number, end: 5 * number + 5 };
            stream.append(&open, "t", 3, 1, 1, Policy::DropOldest);
        }
        assert_eq!(stream.runs.len(), 1, "one run, however many");
        assert_eq!(stream.make_room("t", 3, &bound(u64::from(messages))), room);
    }
}
