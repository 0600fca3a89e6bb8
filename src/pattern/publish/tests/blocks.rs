//! Where messages lie: what subscribers share, what is copied, and what is retained.

use super::*;

/// Larger chunks go out as the slices that they are.
const SMALL: usize = 2048;

/// The chunks that it is sent without having been copied for it: where they begin, and how long they are.
fn shared(lane: &Subscriber, publisher: &mut Publisher) -> Vec<(usize, usize)> {
    let (chunks, _) = lane.chunks(publisher);
    chunks.iter().filter(|chunk| chunk.len() > SMALL).map(|chunk| (chunk.as_ptr() as usize, chunk.len())).collect()
}

#[test]
fn what_several_want_is_sent_to_all_from_the_same_bytes() {
    let mut publisher = publisher(Policy::DropOldest, 100);
    let (one, two) = (Subscriber::at_work(&mut publisher, 1, ">"), Subscriber::at_work(&mut publisher, 2, ">"));
    // One has credit for less than what lies there.
    let few = Subscriber::new(&mut publisher, 3);
    few.begin(&mut publisher, 3, ">");
    few.credit(&mut publisher, 25);
    // Whoever has nothing to write breaks up nothing of theirs.
    let idle = Subscriber::at_work(&mut publisher, 4, "b");
    for _ in 0..30 {
        publish(&mut publisher, "a", &"x".repeat(98));
        idle.hear(&mut publisher);
    }
    // Each is 103 bytes long: all of them fit into the first block.
    let sent = shared(&one, &mut publisher);
    assert_eq!(sent.iter().map(|(_, length)| *length).collect::<Vec<_>>(), [30 * 103]);
    assert_eq!(shared(&two, &mut publisher), sent);
    let part = shared(&few, &mut publisher);
    assert_eq!(part, [(sent[0].0, 25 * 103)]);
}

#[test]
fn a_large_body_is_never_copied() {
    let mut publisher = Publisher::new(Options { retain_last: 1, ..publisher(Policy::DropOldest, 10).options });
    let one = Subscriber::at_work(&mut publisher, 1, "a");
    let body = Bytes::from(vec![b'x'; 32 << 10]);
    publisher.publish("a", &NewMessage::new(body.clone()), false, Instant::now()).unwrap();
    let later = Subscriber::at_work(&mut publisher, 2, "a");
    for lane in [one, later] {
        assert_eq!(shared(&lane, &mut publisher), [(body.as_ptr() as usize, body.len())]);
    }
}

#[test]
fn what_is_small_goes_out_together() {
    let mut publisher = publisher(Policy::DropOldest, 10);
    let (one, other) = (Subscriber::at_work(&mut publisher, 1, "a"), Subscriber::at_work(&mut publisher, 2, "a"));
    for body in ["1", "2", "3"] {
        publish(&mut publisher, "a", body);
        // What it takes is a piece of its own from then on.
        other.hear(&mut publisher);
    }
    assert_eq!(one.chunks(&mut publisher).0.len(), 1);
}

#[test]
fn at_most_256_kib_leave_at_a_time_so_that_what_waits_can_still_be_dropped() {
    let mut publisher = publisher(Policy::DropOldest, 8);
    let one = Subscriber::at_work(&mut publisher, 1, "a");
    // Each counts 64 KiB.
    let body = "x".repeat((64 << 10) - 2);
    (0..8).for_each(|_| publish(&mut publisher, "a", &body));
    assert_eq!(shared(&one, &mut publisher).len(), 4);
    assert_eq!(publisher.figures().subscribers[0].queued.messages, 4);
}

#[test]
fn a_block_is_filled_before_the_next_one_which_is_twice_as_large() {
    let (topic, body) = ("x".repeat(255), "x".repeat(150));
    // Each takes 409 bytes, and room for 415, as its head might be longer: 10 of them 4 KiB, 20 of them 8 KiB.
    for (count, blocks) in
        [(1, &[1][..]), (10, &[10]), (11, &[10, 1]), (30, &[10, 20]), (31, &[10, 20, 1]), (71, &[10, 20, 40, 1])]
    {
        let mut publisher = publisher(Policy::DropOldest, 1000);
        let one = Subscriber::at_work(&mut publisher, 1, ">");
        one.sleeps(&mut publisher);
        (0..count).for_each(|_| publish(&mut publisher, &topic, &body));
        let (chunks, _) = one.chunks(&mut publisher);
        let lengths: Vec<_> = chunks.iter().map(Bytes::len).collect();
        assert_eq!(lengths, blocks.iter().map(|messages| messages * 409).collect::<Vec<_>>(), "{count}");
    }
}

#[test]
fn who_has_little_of_a_block_gets_a_copy_and_who_has_most_of_it_shares_it() {
    let mut publisher = publisher(Policy::DropOldest, 1000);
    let rare = Subscriber::at_work(&mut publisher, 1, "rare");
    let (one, two) = (Subscriber::at_work(&mut publisher, 2, ">"), Subscriber::at_work(&mut publisher, 3, ">"));
    let common = |publisher: &mut Publisher, count| {
        (0..count).for_each(|_| publish(publisher, "common", &"x".repeat(1000)));
    };
    // In the middle of the fourth block, of 32 KiB.
    common(&mut publisher, 40);
    publish(&mut publisher, "rare", &"x".repeat(3000));
    common(&mut publisher, 50);
    let (rare, all) = (shared(&rare, &mut publisher), shared(&one, &mut publisher));
    assert_eq!(rare.len(), 1);
    assert!(all.iter().all(|(start, length)| !(*start..start + length).contains(&rare[0].0)));
    assert_eq!(shared(&two, &mut publisher), all);
}

#[test]
fn the_latest_of_a_topic_may_stay_for_long_and_keeps_no_block() {
    let mut publisher = publisher(Policy::Latest, 1000);
    let (one, two) = (Subscriber::at_work(&mut publisher, 1, ">"), Subscriber::at_work(&mut publisher, 2, ">"));
    for number in 0..8 {
        publish(&mut publisher, &format!("t{number}"), &"x".repeat(3000));
    }
    let (one, two) = (shared(&one, &mut publisher), shared(&two, &mut publisher));
    assert_eq!((one.len(), two.len()), (8, 8));
    // The first two blocks, of one message and of two, are full.
    assert!(one[..3].iter().zip(&two[..3]).all(|(one, two)| one.0 != two.0));
    assert_eq!(one[7], two[7], "the last one is not");
}

#[test]
fn what_is_retained_keeps_to_its_bound_in_bytes_exactly() {
    let retain_bound = Amount { messages: 100, bytes: 15 };
    let mut publisher =
        Publisher::new(Options { retain_last: 1, retain_bound, ..publisher(Policy::DropOldest, 10).options });
    // Each counts two bytes more.
    for (topic, body, messages, bytes, evicted) in [
        ("a", "aaa", 1, 5, 0),
        ("b", "bbb", 2, 10, 0),
        ("b", "BBB", 2, 10, 0),
        ("c", "ccc", 3, 15, 0),
        ("d", "ddd", 3, 15, 1),
        ("e", "eeee", 2, 11, 3),
    ] {
        publish(&mut publisher, topic, body);
        let figures = publisher.figures();
        assert_eq!((figures.retained, figures.evicted), (Amount { messages, bytes }, evicted), "{topic}");
    }
    let later = Subscriber::at_work(&mut publisher, 1, ">");
    assert_eq!(later.hear(&mut publisher).0, ["open", "subscribed 1 for 1", "ddd", "eeee"]);
}

#[test]
fn nothing_is_retained_unless_that_is_asked_for() {
    assert!(!Retained::new(0, ROOM).wants());
    assert!(Retained::new(1, ROOM).wants());
}
