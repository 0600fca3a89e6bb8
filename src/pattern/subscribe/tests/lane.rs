//! What a lane tells its publisher and the application, and when: credit, what has arrived, that messages are missing.

use std::time::Duration;

use super::*;
use crate::wire::limits::{LANE_WINDOW_BYTES, SUBSCRIBER_WINDOW_BYTES};

#[test]
fn an_event_tells_what_is_missing_at_once_and_then_once_a_second() {
    let feed = feed(false);
    let lane = live(&feed, 1);
    let start = Instant::now();
    let after = |millis| start + Duration::from_millis(millis);
    let gap = |lane: &Arc<FeedLane>, now| {
        lane.handle_incoming(now, &mut [control(to_receiver::GAP, &[1])]).unwrap().missed.map(|gap| gap.count)
    };
    let look = |now| {
        let (mut out, mut again) = (Vec::new(), None);
        let told = lane.poll_outgoing(&mut Context::from_waker(Waker::noop()), now, &mut out, &mut again);
        (told.missed.map(|gap| gap.count), again)
    };
    assert_eq!(gap(&lane, after(0)), Some(1));
    assert_eq!(gap(&lane, after(10)), None);
    assert_eq!(gap(&lane, after(20)), None);
    look(after(30));
    assert_eq!(look(after(40)), (None, Some(after(1000))), "it is looked again then");
    assert_eq!(look(after(1000)).0, Some(2));
    assert_eq!(gap(&lane, after(1500)), None);
    assert_eq!(look(after(2000)).0, Some(1));
    assert_eq!(look(after(3000)).0, None);
    assert_eq!(gap(&lane, after(3001)), Some(1), "a calm second has passed");
}

#[test]
fn nobody_looks_again_where_all_that_was_missing_is_told() {
    let feed = feed(false);
    let (lane, now) = (live(&feed, 1), Instant::now());
    assert!(lane.handle_incoming(now, &mut [control(to_receiver::GAP, &[1])]).unwrap().missed.is_some());
    assert_eq!(says(&lane, &Arc::default(), now), (vec!["received 1".into()], None));
}

#[test]
fn changes_that_a_lane_has_not_told_are_told_together() {
    let feed = feed(false);
    let lane = live(&feed, 1);
    for number in 0..10_u64 {
        assert_eq!(feed.change(true, &format!("n{number}")), Ok(number + 2));
    }
    assert_eq!(feed.change(true, "n3"), Ok(11), "it is there");
    let told = written(&lane);
    assert_eq!(told.len(), 2 + 2 + 10 * 4, "one frame, of ten changes: {told:?}");
    // So many that the whole set is told instead.
    for number in 0..2000_u64 {
        feed.change(number % 2 == 0, "x").unwrap();
    }
    let told = written(&lane);
    let mut patterns = 0;
    let (_, payload, _) = frame::whole_answer(&told).unwrap().unwrap();
    let head = subscription::read(payload, |_| {
        patterns += 1;
        Ok(())
    });
    assert!(head.unwrap().whole);
    assert_eq!(patterns, 11);
}

#[test]
fn credit_is_told_once_a_quarter_of_the_window_was_handed_out_in_messages() {
    let feed = Feed::new(7, BTreeSet::from(["a".into()]), 100, false, 1000);
    let (lane, bell, now) = (accept(&feed, 1), Arc::default(), Instant::now());
    hear(&lane, &[control(to_receiver::SUBSCRIBED, &[1, 5])]).unwrap();
    hear(&lane, &vec![message("a", "1"); 100]).unwrap();
    assert_eq!(says(&lane, &bell, now).0, ["received 100"]);
    for handed in 1..=50 {
        claim(&feed).unwrap();
        let worth = handed % 25 == 0;
        assert_eq!(bell.rang(), usize::from(worth), "{handed}");
        // Each counts three bytes.
        let credit = format!("credit {} {}", 100 + handed, SUBSCRIBER_WINDOW_BYTES + 3 * handed);
        assert_eq!(says(&lane, &bell, now).0, if worth { vec![credit] } else { vec![] }, "{handed}");
    }
}

#[test]
fn credit_is_told_once_a_quarter_of_the_window_was_handed_out_in_bytes() {
    let feed = Feed::new(7, BTreeSet::from(["a".into()]), 1000, false, 1 << 20);
    let (lane, bell, now) = (accept(&feed, 1), Arc::default(), Instant::now());
    hear(&lane, &[control(to_receiver::SUBSCRIBED, &[1, 5])]).unwrap();
    // Each counts a sixteenth of the window.
    let part = SUBSCRIBER_WINDOW_BYTES / 16;
    let body = "x".repeat(part as usize - 2);
    hear(&lane, &vec![message("a", &body); 8]).unwrap();
    assert_eq!(says(&lane, &bell, now).0, ["received 8"]);
    for handed in 1..=8 {
        claim(&feed).unwrap();
        let worth = handed % 4 == 0;
        assert_eq!(bell.rang(), usize::from(worth), "{handed}");
        let credit = format!("credit {} {}", 1000 + handed, SUBSCRIBER_WINDOW_BYTES + part * handed);
        assert_eq!(says(&lane, &bell, now).0, if worth { vec![credit] } else { vec![] }, "{handed}");
    }
}

#[test]
fn lanes_share_the_window_in_bytes_and_each_has_its_least_part() {
    let feed = feed(false);
    for lanes in 1..=65 {
        let lane = silent(&feed, lanes);
        let bytes = (SUBSCRIBER_WINDOW_BYTES / u64::from(lanes)).max(LANE_WINDOW_BYTES);
        assert_eq!(said(&lane), ["subscribe 1".into(), format!("credit 10 {bytes}")]);
    }
}

#[test]
fn credit_in_bytes_may_be_exceeded_by_one_message_and_no_more() {
    // So many that each of the last ones has the least part of the window.
    let feed = Feed::new(7, BTreeSet::from(["a".into()]), 1000, false, 1000);
    let mut lanes: Vec<_> = (1..=66).map(|node| live(&feed, node)).collect();
    // Beyond it, the largest message: its body, its topic and all headers, these with the lengths before them.
    let most = LANE_WINDOW_BYTES + 1000 + (1 + 255) + (4 + (64 << 10));
    // A message of so many bytes.
    let of = |bytes: u64| message("a", &"x".repeat(bytes as usize - 2));
    let until = most % 1002;
    let mut frames = vec![of(1002); (most / 1002) as usize];
    frames.push(of(until));
    let exact = lanes.pop().unwrap();
    hear(&exact, &frames).unwrap();
    assert!(hear(&exact, &[of(2)]).is_err());
    frames.pop();
    frames.push(of(until + 1));
    assert!(hear(&lanes.pop().unwrap(), &frames).is_err());
}

#[test]
fn what_has_arrived_is_told_at_once_and_then_once_a_millisecond() {
    let feed = feed(false);
    let (lane, bell, start) = (live(&feed, 1), Arc::default(), Instant::now());
    let after = |micros| start + Duration::from_micros(micros);
    let look = |now| says(&lane, &bell, now);
    let none = Vec::<String>::new;
    hear(&lane, &[message("a", "1")]).unwrap();
    assert_eq!(look(after(0)), (vec!["received 1".into()], None));
    assert_eq!(look(after(0)), (none(), None), "once");
    hear(&lane, &[message("a", "2"), message("a", "3")]).unwrap();
    assert_eq!(look(after(0)), (none(), Some(after(1000))));
    assert_eq!(look(after(999)), (none(), Some(after(1000))));
    assert_eq!(look(after(1000)), (vec!["received 3".into()], None));
    hear(&lane, &[message("a", "4")]).unwrap();
    assert_eq!(look(after(1999)), (none(), Some(after(2000))));
    assert_eq!(look(after(5000)), (vec!["received 4".into()], None));
    hear(&lane, &[message("a", "5")]).unwrap();
    assert_eq!(look(after(6000)), (vec!["received 5".into()], None), "a calm millisecond has passed");
}
