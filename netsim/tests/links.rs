//! What a link does to packets, by its numbers.

#![allow(clippy::unwrap_used)]

mod udp;

use std::time::Duration;

use netsim::{Counts, Latency, Link, Sim, Units};
use quinn::udp::EcnCodepoint;

use udp::{Udp, at};

/// Sends numbered packets over a link, one a millisecond; gives which came when, and the counts.
fn over(link: Link, packets: u32) -> (Vec<(Duration, u32)>, Counts) {
    let run = Sim::run(1, async move |sim: Sim| {
        sim.set_link(link);
        let (a, b) = (sim.host("a"), sim.host("b"));
        let (from, to) = (Udp::bind(&a, "0.0.0.0:1"), Udp::bind(&b, "0.0.0.0:2"));
        let here = sim.clone();
        a.spawn(async move {
            for number in 0..packets {
                from.send(at(&b, 2), &number.to_be_bytes());
                here.sleep(1.ms()).await;
            }
        });
        to.within(&sim, Duration::from_millis(packets.into()) + 100.s()).await
    });
    let came = run.value.into_iter().map(|(time, bytes)| (time, u32::from_be_bytes(bytes.try_into().unwrap())));
    (came.collect(), run.trace.packets)
}

/// How long each packet took.
fn latencies(latency: impl Into<Latency>, packets: u32) -> Vec<Duration> {
    let (came, _) = over(Link::ideal().latency(latency), packets);
    assert_eq!(came.len(), packets as usize);
    came.into_iter().map(|(time, number)| time - Duration::from_millis(number.into())).collect()
}

/// Four standard deviations either way: with fixed seeds, either always or never.
fn is_about(count: usize, of: u32, probability: f64) {
    let (expected, count) = (f64::from(of) * probability, count as f64);
    let deviation = (expected * (1.0 - probability)).sqrt();
    assert!((count - expected).abs() < 4.0 * deviation, "{count} instead of {expected} ± {deviation}");
}

#[test]
fn latency_is_what_it_is_drawn_from() {
    assert!(latencies(3.ms(), 100).iter().all(|time| *time == 3.ms()));

    let even = latencies(1.ms()..5.ms(), 10_000);
    assert!(even.iter().all(|time| (1.ms()..=5.ms()).contains(time)));
    for (most, share) in [(2.ms(), 0.25), (3.ms(), 0.5), (4.ms(), 0.75)] {
        is_about(even.iter().filter(|time| **time <= most).count(), 10_000, share);
    }

    let long = latencies(Latency::long_tail(1.ms(), 500.ms()), 20_000);
    assert!(long.iter().all(|time| (1.ms()..=500.ms()).contains(time)));
    for (most, share) in [(1_414_214.ns(), 0.5), (10.ms(), 0.99), (100.ms(), 0.9999)] {
        is_about(long.iter().filter(|time| **time > most).count(), 20_000, 1.0 - share);
    }
}

#[test]
fn jitter_reorders_unless_the_link_keeps_order() {
    let jittery = Link::lan().jitter(20.ms());
    let (came, _) = over(jittery, 1000);
    assert!(!came.is_sorted_by_key(|(_, number)| number));
    let (came, _) = over(jittery.in_order(), 1000);
    assert_eq!(came.len(), 1000);
    assert!(came.is_sorted_by_key(|(_, number)| number));

    // Held back for 2.5 ms, a packet is overtaken by the two behind it.
    let (came, _) = over(Link::ideal().in_order().reorder(0.1, 2_500.us()), 10_000);
    let late = came.iter().filter(|(time, number)| *time != Duration::from_millis((*number).into()));
    assert!(late.clone().all(|(time, number)| *time == Duration::from_micros(u64::from(*number) * 1000 + 2_500)));
    is_about(late.count(), 10_000, 0.1);
}

#[test]
fn each_fate_is_as_likely_as_it_is_said_to_be() {
    let packets = 10_000;
    let (came, counts) = over(Link::lan().loss(0.1), packets);
    is_about(counts.lost as usize, packets, 0.1);
    assert_eq!(came.len() as u64 + counts.lost, packets.into());

    let (came, counts) = over(Link::lan().duplicates(0.03), packets);
    is_about(counts.duplicated as usize, packets, 0.03);
    assert_eq!(came.len() as u64, u64::from(packets) + counts.duplicated);
}

#[test]
fn a_corrupted_packet_arrives_with_few_bits_flipped() {
    let run = Sim::run(1, async |sim: Sim| {
        sim.set_link(Link::lan().corruption(0.5).in_order());
        let (a, b) = (sim.host("a"), sim.host("b"));
        let (from, to) = (Udp::bind(&a, "0.0.0.0:1"), Udp::bind(&b, "0.0.0.0:2"));
        for _ in 0..1000 {
            from.send(at(&b, 2), &[0; 50]);
        }
        from.send(at(&b, 2), b"");
        to.within(&sim, 1.s()).await.into_iter().map(|(_, bytes)| bytes)
    });
    let flipped = run.value.map(|bytes| bytes.iter().map(|byte| byte.count_ones()).sum::<u32>());
    let flipped: Vec<u32> = flipped.collect();
    assert_eq!(flipped.len(), 1001);
    let changed = flipped.iter().filter(|bits| **bits > 0).count();
    is_about(changed, 1000, 0.5);
    assert!(run.trace.packets.corrupted as usize - changed < 2, "only the empty one has nothing to flip");
    for bits in 1..=3 {
        is_about(flipped.iter().filter(|flipped| **flipped == bits).count(), changed as u32, 1.0 / 3.0);
    }
    assert!(flipped.iter().all(|bits| *bits <= 3));
}

#[test]
fn losses_in_a_row_are_as_many_and_as_long_as_they_are_said_to_be() {
    let packets = 40_000;
    let (came, counts) = over(Link::lan().jitter(0.ms()).burst_loss(0.05, 4.0), packets);
    let mut here = vec![false; packets as usize];
    came.iter().for_each(|(_, number)| here[*number as usize] = true);
    let bursts: Vec<usize> = here.split(|came| *came).map(<[bool]>::len).filter(|length| *length > 0).collect();
    assert_eq!(bursts.iter().sum::<usize>() as u64, counts.lost);
    let loss = counts.lost as f64 / f64::from(packets);
    assert!((0.042..0.058).contains(&loss), "{loss}");
    // Geometric: each lost packet is the last one of its burst with a probability of a quarter.
    let length = counts.lost as f64 / bursts.len() as f64;
    assert!((3.6..4.4).contains(&length), "{length}");
    is_about(bursts.iter().filter(|length| **length == 1).count(), bursts.len() as u32, 0.25);
    is_about(bursts.iter().filter(|length| **length > 4).count(), bursts.len() as u32, 0.75_f64.powi(4));

    // A fifth of the time in the bad state, where half is lost; elsewhere a hundredth.
    let (_, counts) = over(Link::lan().gilbert_elliott(0.025, 0.1, 0.5, 0.01), packets);
    let loss = counts.lost as f64 / f64::from(packets);
    assert!((0.093..0.123).contains(&loss), "{loss}");
    let (_, counts) = over(Link::lan().gilbert_elliott(0.0, 1.0, 1.0, 0.0), 1000);
    assert_eq!(counts.lost, 0, "the bad state is never reached");
}

#[test]
fn bandwidth_takes_its_time_to_the_nanosecond() {
    Sim::run(1, async |sim: Sim| {
        // 1,250 bytes with their headers take 10 ms.
        sim.set_link(Link::ideal().latency(3.ms()).bandwidth(1_000_000));
        let (a, b) = (sim.host("a"), sim.host("b"));
        let (from, to) = (Udp::bind(&a, "[::]:1"), Udp::bind(&b, "[::]:2"));
        for _ in 0..10 {
            from.send(at(&b, 2), &[0; 1222]);
        }
        let came = to.within(&sim, 1.s()).await.into_iter().map(|(time, _)| time);
        assert_eq!(came.collect::<Vec<_>>(), (1..=10).map(|n| 3.ms() + 10.ms() * n).collect::<Vec<_>>());

        // IPv6's header is 20 bytes longer.
        let start = sim.elapsed();
        from.send((b.ips()[1], 2).into(), &[0; 1202]);
        to.receive().await;
        assert_eq!(sim.elapsed() - start, 13.ms());
    });
}

#[test]
fn a_full_queue_drops_what_comes_last() {
    for (link, expected) in [
        (Link::ideal().bandwidth(1_000_000).queue(12_500), 10),
        (Link::ideal().bandwidth(1_000_000).queue(12_499), 9),
        (Link::ideal().bandwidth(1_000_000).queue(50.ms()), 5),
        (Link::ideal().bandwidth(1_000_000), 209),
        (Link::ideal().bandwidth(1_000_000).without_bandwidth_limit(), 300),
    ] {
        let run = Sim::run(1, async move |sim: Sim| {
            sim.set_link(link);
            let (a, b) = (sim.host("a"), sim.host("b"));
            let (from, to) = (Udp::bind(&a, "0.0.0.0:1"), Udp::bind(&b, "0.0.0.0:2"));
            let flood = |marked: u8| (0..300).for_each(|_| from.send(at(&b, 2), &[marked; 1222]));
            flood(1);
            // 20 ms later two have been sent, and their places are free.
            sim.sleep(20.ms()).await;
            flood(2);
            to.within(&sim, 10.s()).await.into_iter().map(|(_, bytes)| bytes[0]).collect::<Vec<_>>()
        });
        let again = if expected == 300 { 300 } else { 2 };
        let first = run.value.iter().filter(|marked| **marked == 1).count();
        assert_eq!((first, run.value.len() - first), (expected, again), "{link:?}");
        assert_eq!(run.trace.packets.dropped as usize, 600 - expected - again);
        assert!(run.value.is_sorted());
    }
}

#[test]
fn the_mtu_counts_headers_of_either_family() {
    let run = Sim::run(1, async |sim: Sim| {
        sim.set_link(Link::ideal().mtu(1300));
        let (a, b) = (sim.host("a"), sim.host("b"));
        let (from, to) = (Udp::bind(&a, "[::]:1"), Udp::bind(&b, "[::]:2"));
        for (ip, fits) in [(b.ips()[0], 1272), (b.ips()[1], 1252)] {
            from.send((ip, 2).into(), &vec![0; fits]);
            from.send((ip, 2).into(), &vec![0; fits + 1]);
        }
        to.within(&sim, 1.s()).await.into_iter().map(|(_, bytes)| bytes.len()).collect::<Vec<_>>()
    });
    assert_eq!(run.value, [1272, 1252]);
    assert_eq!(run.trace.packets.stopped, 2);
}

#[test]
fn marks_of_congestion_pass_unless_they_are_wiped_off() {
    for (link, expected) in [(Link::lan(), Some(EcnCodepoint::Ect0)), (Link::lan().without_ecn(), None)] {
        Sim::run(1, async move |sim: Sim| {
            sim.set_link(link);
            let (a, b) = (sim.host("a"), sim.host("b"));
            let (from, to) = (Udp::bind(&a, "0.0.0.0:1"), Udp::bind(&b, "0.0.0.0:2"));
            from.send_marked(at(&b, 2), b"marked", Some(EcnCodepoint::Ect0));
            assert_eq!(to.receive().await.1.ecn, expected);
        });
    }
}

#[test]
fn a_cable_comes_on_top_of_the_lan_and_is_shared_by_all_who_send_over_it() {
    Sim::run(1, async |sim: Sim| {
        let lan = sim.lan("office").latency(1.ms()).jitter(0.ms());
        let (a, b, c) = (lan.host("a"), lan.host("b"), lan.host("c"));
        lan.set_uplink(&a, Link::ideal().latency(10.ms()));
        lan.set_downlink(&b, Link::ideal().bandwidth(1_000_000).queue(25_000));
        let sockets = [&a, &b, &c].map(|host| Udp::bind(host, "0.0.0.0:1"));
        let [from_a, to_b, from_c] = &sockets;
        from_a.send(at(&b, 1), &[b'a'; 1222]);
        for _ in 0..3 {
            from_c.send(at(&b, 1), &[b'c'; 1222]);
        }
        let came = to_b.within(&sim, 1.s()).await;
        let came: Vec<_> = came.into_iter().map(|(time, bytes)| (time, bytes[0])).collect();
        // c's come after 1 ms and take 10 ms each; a's comes after 11 ms and waits for the last two.
        assert_eq!(came, [(11.ms(), b'c'), (21.ms(), b'c'), (31.ms(), b'c'), (41.ms(), b'a')]);

        // From b to a there is no cable, and 30 packets at once are too many for b's.
        let start = sim.elapsed();
        to_b.send(at(&a, 1), b"back");
        from_a.receive().await;
        assert_eq!(sim.elapsed() - start, 1.ms());
        (0..15).for_each(|_| from_c.send(at(&b, 1), &[b'c'; 1222]));
        (0..15).for_each(|_| from_a.send(at(&b, 1), &[b'a'; 1222]));
        assert_eq!(to_b.within(&sim, 1.s()).await.len(), 21);
        assert_eq!(sim.trace().packets.dropped, 9);
    });
}

#[test]
fn what_makes_no_sense_is_refused() {
    for (expected, make) in [
        ("a probability is between 0 and 1, not 1.5", (|| Link::lan().loss(1.5)) as fn() -> Link),
        ("a link without bandwidth is a cut", || Link::lan().bandwidth(0)),
        ("the longest latency, 1ms, is less than the shortest, 2ms", || Link::lan().latency(2.ms()..1.ms())),
        ("a burst has at least one packet, not 0.5", || Link::lan().burst_loss(0.1, 0.5)),
        ("bursts of 1 packets lose at most 0.5 of all, not 0.9", || Link::lan().burst_loss(0.9, 1.0)),
    ] {
        let panic = std::panic::catch_unwind(make).expect_err("it makes no sense");
        let text = panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied());
        assert_eq!(text, Some(expected));
    }
}
