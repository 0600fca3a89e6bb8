//! What is kept of publishers and of lanes that are over, and how much of it at most.

use super::*;

#[test]
fn a_lane_that_goes_on_says_how_far_it_had_got() {
    let feed = feed(false);
    let lane = live(&feed, 1);
    hear(&lane, &[message("a", "1"), control(to_receiver::GAP, &[4]), message("a", "2")]).unwrap();
    lane.closed();
    let lane = silent(&feed, 1);
    assert_eq!(said(&lane)[0], "subscribe 1 from 6 of 5");
    hear(&lane, &[control(to_receiver::SUBSCRIBED, &[1, 5])]).unwrap();
    written(&lane);
    hear(&lane, &[control(to_receiver::GAP, &[1]), message("a", "3")]).unwrap();
    let publisher = NodeId::from_bytes([1; 32]);
    assert_eq!(claim(&feed), Some(("1".into(), None)));
    assert_eq!(claim(&feed), Some(("2".into(), Some(Gap { publisher, count: 4, exact: true }))));
    assert_eq!(claim(&feed), Some(("3".into(), Some(Gap { publisher, count: 1, exact: true }))));
    lane.closed();
    // Too late: the publisher does not know it any more.
    let lane = silent(&feed, 1);
    assert_eq!(said(&lane)[0], "subscribe 1 from 8 of 5");
    hear(&lane, &[control(to_receiver::SUBSCRIBED, &[1, 6])]).unwrap();
    written(&lane);
    hear(&lane, &[message("a", "4")]).unwrap();
    assert_eq!(claim(&feed), Some(("4".into(), Some(Gap { publisher, count: 0, exact: false }))));
}

#[test]
fn what_comes_over_a_lane_that_another_one_follows_is_left_to_that_one() {
    let feed = feed(false);
    let old = live(&feed, 1);
    hear(&old, &[message("a", "1")]).unwrap();
    let new = silent(&feed, 1);
    assert_eq!(said(&new)[0], "subscribe 1 from 1 of 5");
    hear(&old, &[message("a", "2")]).unwrap();
    hear(&new, &[control(to_receiver::SUBSCRIBED, &[1, 5]), message("a", "2")]).unwrap();
    // Where it had got is where the later one is.
    old.closed();
    new.closed();
    assert_eq!(said(&silent(&feed, 1))[0], "subscribe 1 from 2 of 5");
    assert_eq!([claim(&feed), claim(&feed)], [Some(("1".into(), None)), Some(("2".into(), None))]);
    assert_eq!(claim(&feed), None);
}

#[test]
fn who_has_given_this_socket_up_is_waited_for_by_nobody_and_forgotten() {
    let feed = feed(false);
    let (lane, other) = (live(&feed, 1), live(&feed, 2));
    hear(&lane, &[message("a", "1")]).unwrap();
    lane.closed();
    let lane = accept(&feed, 1);
    hear(&lane, &[control(to_receiver::SUBSCRIBED, &[1, 5])]).unwrap();
    let version = feed.change(true, "b").unwrap();
    written(&lane);
    assert!(lane.owes() && !feed.is_confirmed(version, lane.at()));
    let heard = hear(&lane, &[control(to_receiver::GIVEN_UP, &[3])]).unwrap();
    assert_eq!((heard.confirmed, heard.given_up), (true, Some(3)));
    assert!(!lane.owes() && feed.is_confirmed(version, lane.at()) && !feed.is_confirmed(version, other.at()));
    assert_eq!(said(&lane), ["closing"]);
    assert_eq!(said(&lane), Vec::<String>::new());
    lane.closed();
    assert!(feed.is_confirmed(version, lane.at()), "also when it is over");
    assert_eq!(said(&silent(&feed, 1))[0], "subscribe 2", "it begins anew");
}

#[test]
fn a_flood_of_gaps_takes_no_memory() {
    let feed = feed(false);
    let (one, two) = (live(&feed, 1), live(&feed, 2));
    for _ in 0..100_000 {
        hear(&one, &[control(to_receiver::GAP, &[1])]).unwrap();
        hear(&two, &[control(to_receiver::GAP, &[1])]).unwrap();
    }
    assert_eq!(lock(&feed.queue).missing.len(), 2);
    assert_eq!(feed.figures().missed, 200_000);
}

#[test]
fn what_a_publisher_says_to_be_missing_is_counted_up_to_the_largest_number() {
    for strict in [false, true] {
        let feed = feed(strict);
        // Each life of its lane misses as much as there can be.
        for life in 0..20 {
            let lane = accept(&feed, 1);
            hear(&lane, &[control(to_receiver::SUBSCRIBED, &[1, life])]).unwrap();
            hear(&lane, &[control(to_receiver::GAP, &[MAX_SEQUENCE_SAID])]).unwrap();
            lane.closed();
        }
        assert_eq!(feed.figures().missed, u64::MAX);
        for life in 20..40 {
            let lane = accept(&feed, 1);
            hear(&lane, &[control(to_receiver::SUBSCRIBED, &[1, life])]).unwrap();
            written(&lane);
            hear(&lane, &[control(to_receiver::GAP, &[MAX_SEQUENCE_SAID - 1]), message("a", "x")]).unwrap();
            while claim(&feed).is_some() {}
            lane.closed();
        }
        assert_eq!(feed.figures().missed, u64::MAX);
    }
}

#[test]
fn of_1024_publishers_it_is_known_what_is_missing() {
    let feed = feed(false);
    let source = |epoch| Source { node: NodeId::from_bytes([1; 32]), epoch };
    let miss = |epoch| feed.miss(source(epoch), Missing { count: 2, exact: true });
    let missing = |epoch| feed.missing_from(source(epoch).node, epoch).0;
    let most = MAX_REMEMBERED as u64;
    (0..most).for_each(miss);
    miss(7);
    assert_eq!((missing(0), missing(7), missing(most - 1)), (2, 4, 2));
    // They came from the last to the first.
    let feed = self::feed(false);
    (0..most).rev().for_each(|epoch| feed.miss(source(epoch), Missing { count: 2, exact: true }));
    let before = feed.figures().missed;
    feed.miss(source(most), Missing { count: 1, exact: true });
    let missing = |epoch| feed.missing_from(source(epoch).node, epoch).0;
    assert_eq!((missing(most - 1), missing(most - 2), missing(0), missing(most)), (0, 2, 2, 1), "the oldest goes");
    assert_eq!(feed.figures().missed, before + 1, "and stays counted");
}

#[test]
fn of_1024_publishers_that_are_lost_it_is_known_how_far_they_had_got_and_the_longest_lost_goes_first() {
    let feed = feed(false);
    let mut desk = lock(&feed.desk);
    let source = |epoch| Source { node: NodeId::from_bytes([1; 32]), epoch };
    let at = |position| subscription::At { stream: 1, position };
    let most = MAX_REMEMBERED as u64;
    // The last ones are lost first.
    (0..most).rev().for_each(|epoch| desk.remember(source(epoch), at(epoch)));
    assert_eq!(desk.at(source(most - 1)), Some(at(most - 1)));
    desk.remember(source(most - 1), at(9999));
    desk.remember(source(most), at(most));
    assert_eq!(desk.at(source(most - 2)), None, "of the others it is the one that was lost first");
    for (epoch, position) in [(0, 0), (most - 3, most - 3), (most - 1, 9999), (most, most)] {
        assert_eq!(desk.at(source(epoch)), Some(at(position)));
    }
}

#[test]
fn of_1024_publishers_it_is_known_that_they_have_given_this_socket_up() {
    let feed = feed(false);
    let most = MAX_REMEMBERED as u64;
    let give_up = |link| lock(&feed.desk).was_given_up(&LanePeer { link, ..peer(1) });
    let known = |link| feed.is_confirmed(1, At { link, node: peer(1).node, socket: SocketId(3) });
    (1..=most).for_each(give_up);
    assert!(known(1) && known(most) && !known(most + 1));
    give_up(most + 1);
    assert!(!known(1) && known(2) && known(most + 1), "that of the oldest link goes first");
    // Those of this node have no link, and are none of an old one.
    give_up(0);
    give_up(most + 2);
    assert!(known(0) && !known(2) && !known(3) && known(4) && known(most + 2));
}
