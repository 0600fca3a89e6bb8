//! The model against what was measured: when is who seen, and when forgotten?

use super::*;
use crate::topology::Lan;
use crate::units::Units;

/// A node's ears on a host: what it has found, and when.
fn listen(sim: &Sim, host: &Host, name: u8) -> mpsc::UnboundedReceiver<(Duration, Found)> {
    let (sender, found) = mpsc::unbounded_channel();
    let own = Own {
        life: host.life(),
        node: node(name),
        incarnation: 1,
        mesh_tag: [7; 8],
        bound: "[::]:7".parse().expect("an address"),
    };
    let sim = sim.clone();
    let host = host.clone();
    host.clone().spawn(async move {
        let mut listener = Listener::new(&sim, own);
        loop {
            tokio::select! {
                biased;
                news = listener.next() => sender.send((sim.elapsed(), news)).expect("the test listens"),
                () = host.asked_to_stop() => return,
            }
        }
    });
    found
}

fn node(name: u8) -> NodeId {
    NodeId::from_bytes([name; 32])
}

/// When each set of addresses of the node was told.
fn sightings(found: &mut mpsc::UnboundedReceiver<(Duration, Found)>, of: u8) -> Vec<(Duration, usize)> {
    let mut all = Vec::new();
    while let Ok((at, found)) = found.try_recv() {
        if let Found::Seen { node: Some(seen), addresses, .. } = found
            && seen == node(of)
        {
            all.push((at, addresses.len()));
        }
    }
    all
}

fn office(sim: &Sim) -> Lan {
    sim.lan("office").latency(1.ms()).jitter(0.s())
}

#[test]
fn a_newcomer_is_seen_at_once_and_sees_the_others_within_little_more_than_a_second() {
    let mut waits = Vec::new();
    for seed in 0..40 {
        waits.push(
            Sim::run(seed, async move |sim: Sim| {
                let lan = office(&sim);
                let (a, b) = (lan.host("a"), lan.host("b"));
                let mut at_a = listen(&sim, &a, 1);
                // Until the announcements are over, or into their last second.
                let pause = 1500.ms() + 25.ms() * u32::try_from(seed).expect("a small seed");
                sim.sleep(pause).await;
                let mut at_b = listen(&sim, &b, 2);
                sim.sleep(20.s()).await;
                let of_b = sightings(&mut at_a, 2);
                assert_eq!(of_b.iter().map(|(_, addresses)| *addresses).collect::<Vec<_>>(), [1, 2], "growing");
                assert_eq!(of_b[0].0 - pause, 1.ms());
                assert!(of_b[1].0 - pause <= 6.ms());
                sightings(&mut at_b, 1)[0].0 - pause
            })
            .value,
        );
    }
    waits.sort();
    assert!(waits[0] >= 20.ms() && waits[39] <= 1_121.ms(), "{waits:?}");
    assert!(waits.iter().any(|wait| *wait < 122.ms()) && waits.iter().any(|wait| *wait > 300.ms()), "{waits:?}");
}

#[test]
fn own_adverts_and_those_within_the_host_are_heard_too() {
    Sim::run(1, async |sim: Sim| {
        let host = office(&sim).host("a");
        let (mut first, _second) = (listen(&sim, &host, 1), listen(&sim, &host, 2));
        sim.sleep(3.s()).await;
        let mut found = Vec::new();
        while let Ok((at, news)) = first.try_recv() {
            found.push((at, news));
        }
        for of in [1, 2] {
            let seen = |news: &Found| matches!(news, Found::Seen { node: Some(seen), .. } if *seen == node(of));
            assert!(found.iter().any(|(_, news)| seen(news)), "{of}");
        }
        let over = found.iter().find(|(_, news)| *news == Found::FirstPass).expect("the first pass ends");
        assert!((500.ms()..=1200.ms()).contains(&over.0), "{:?}", over.0);
    });
}

#[test]
fn who_leaves_is_forgotten_after_a_second_and_who_crashes_after_two_minutes() {
    Sim::run(1, async |sim: Sim| {
        let lan = office(&sim);
        let (a, b) = (lan.host("a"), lan.host("b"));
        let mut at_a = listen(&sim, &a, 1);
        let _b = listen(&sim, &b, 2);
        sim.sleep(5.s()).await;
        sightings(&mut at_a, 2);
        let left = sim.elapsed();
        assert!(b.stop(1.s()).await);
        sim.sleep(5.s()).await;
        assert_eq!(sightings(&mut at_a, 2), [(left + 1.s() + 1.ms(), 0)]);
    });
    Sim::run(1, async |sim: Sim| {
        let lan = office(&sim);
        let (a, c) = (lan.host("a"), lan.host("c"));
        let mut at_a = listen(&sim, &a, 1);
        let _c = listen(&sim, &c, 3);
        sim.sleep(5.s()).await;
        c.crash();
        sim.sleep(200.s()).await;
        let (forgotten, addresses) = *sightings(&mut at_a, 3).last().expect("it was seen");
        assert_eq!(addresses, 0);
        // Last heard when it said it for the second time, or answered.
        let since = forgotten - 5.s();
        assert!(since > 115.s() && since < 120.s(), "{since:?}");
    });
}

#[test]
fn multicast_stays_on_its_lan_and_may_not_pass_at_all() {
    Sim::run(1, async |sim: Sim| {
        let (home, office) = (sim.lan("home"), office(&sim));
        sim.router("line", &[&home, &office]);
        let hosts = [home.host("a"), office.host("b"), office.host("c"), office.host("d")];
        hosts[3].set_multicast(false);
        let mut heard: Vec<_> = hosts.iter().zip(1..).map(|(host, name)| listen(&sim, host, name)).collect();
        sim.sleep(60.s()).await;
        let heard: Vec<Vec<_>> =
            heard.iter_mut().map(|ear| std::iter::from_fn(|| ear.try_recv().ok()).collect()).collect();
        for (by, of, expected) in
            [(0, 2, false), (1, 1, false), (1, 3, true), (2, 2, true), (2, 4, false), (3, 3, false)]
        {
            let seen = |news: &Found| matches!(news, Found::Seen { node: Some(seen), .. } if *seen == node(of));
            assert_eq!(heard[by].iter().any(|(_, news)| seen(news)), expected, "{by} of {of}");
        }
    });
    let share = |loss| {
        let seen = (0..40).filter(|seed| {
            let run = Sim::run(*seed, async move |sim: Sim| {
                let lan = office(&sim).multicast_loss(loss);
                let (a, b) = (lan.host("a"), lan.host("b"));
                let mut at_a = listen(&sim, &a, 1);
                sim.sleep(5.s()).await;
                let _b = listen(&sim, &b, 2);
                sim.sleep(500.ms()).await;
                !sightings(&mut at_a, 2).is_empty()
            });
            run.value
        });
        seen.count()
    };
    assert_eq!((share(0.0), share(1.0)), (40, 0));
    assert!((20..38).contains(&share(0.5)), "its first word, or its answer to its question: {}", share(0.5));
}

#[test]
fn a_host_that_moves_is_seen_on_its_new_lan_within_five_seconds() {
    Sim::run(1, async |sim: Sim| {
        let (home, office) = (sim.lan("home"), office(&sim));
        let (laptop, desk) = (office.host("laptop"), home.host("desk"));
        let _laptop = listen(&sim, &laptop, 1);
        let mut at_desk = listen(&sim, &desk, 2);
        sim.sleep(7.s()).await;
        assert_eq!(sightings(&mut at_desk, 1), []);
        laptop.move_to(&home);
        sim.sleep(6.s()).await;
        let seen = sightings(&mut at_desk, 1);
        assert!(seen[0].0 - 7.s() < 5.s() + 10.ms(), "{seen:?}");
    });
}
