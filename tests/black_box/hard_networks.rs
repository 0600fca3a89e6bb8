//! Networks that break, that take only small packets, or that carry no multicast: real processes on hosts of their own.
//! The hosts are network namespaces: where a machine allows none, these tests say so and are skipped, unless
//! `MESHMQ_REQUIRE_NETNS=1`.

use std::collections::BTreeMap;
use std::io::{BufRead, Write};
use std::time::{Duration, Instant};

use crate::support::netns::Lab;
use crate::support::{PATIENCE, Place, Process, Role, run};
use futures_util::future::try_join_all;
use meshmq::{Event, Node};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

/// What the test tells a role, line by line.
fn told() -> UnboundedReceiver<String> {
    let (tell, told) = unbounded_channel();
    std::thread::spawn(move || {
        std::io::stdin().lock().lines().map_while(Result::ok).try_for_each(|line| tell.send(line))
    });
    told
}

fn print(what: impl std::fmt::Display) {
    let _ = writeln!(std::io::stderr(), "{what}");
}

// --- a cut that heals ---

/// How often a source has something to send.
const EVERY: Duration = Duration::from_millis(5);
/// How long the network is cut.
const CUT: Duration = Duration::from_secs(5);

/// A role: pushes numbers to its channel, at a steady pace, until it is told something; then says how many were accepted
/// and how many handled. Says `lost` when it has lost a link. Arguments: the channel, how many peers to wait for.
#[test]
fn source() {
    let Some(role) = Role::of("source") else { return };
    run(async {
        let node = role.on_networks().without_local().await.unwrap();
        let mut events = node.events();
        let push = node.push(role.arg::<String>(0)).await.unwrap();
        node.wait_for_peers(role.arg(1)).await.unwrap();
        push.wait_for_pullers(1).await.unwrap();
        role.say("linked");
        // The pace is the load: nobody waits by it for anything.
        let (mut told, mut tick, mut next) = (told(), tokio::time::interval(EVERY), 0_u64);
        loop {
            tokio::select! {
                biased;
                _ = told.recv() => break,
                event = events.recv() => if let Some(Event::PeerLeft { .. }) = event { role.say("lost") },
                _ = tick.tick() => {
                    push.send(next.to_string()).await.unwrap();
                    next += 1;
                }
            }
        }
        push.flush().await.unwrap();
        let metrics = push.metrics();
        role.say(format!("{} {}", metrics.accepted, metrics.handled));
    });
}

/// A role: does what comes, and says `number redelivered` of each. Argument: the channel.
#[test]
fn worker() {
    let Some(role) = Role::of("worker") else { return };
    run(async {
        let node = role.on_networks().without_local().await.unwrap();
        let pull = node.pull(role.arg::<String>(0)).await.unwrap();
        while let Ok(job) = pull.recv().await {
            role.say(format!("{} {}", String::from_utf8_lossy(&job), job.redelivered()));
            job.ack();
        }
    });
}

/// How often each number was handed out, and how often it was said that this may not be the first time.
#[derive(Default)]
struct Seen(BTreeMap<u64, (u32, u32)>);

impl Seen {
    fn note(&mut self, line: &str) {
        let (number, redelivered) = line.split_once(' ').unwrap();
        let (times, flagged) = self.0.entry(number.parse().unwrap()).or_default();
        *times += 1;
        *flagged += u32::from(redelivered == "true");
    }

    /// All of so many, and none of them twice without a word.
    fn is_all_of(&self, count: u64) -> bool {
        let unflagged = self.0.iter().find(|(_, (times, flagged))| flagged + 1 < *times);
        assert_eq!(unflagged, None, "number, (times, of them flagged)");
        self.0.len() as u64 == count && self.0.keys().next_back().is_some_and(|last| last + 1 == count)
    }
}

#[test]
fn a_cut_that_heals_within_seconds_loses_nothing_and_work_goes_on_within_one() {
    let test = "a_cut_that_heals_within_seconds_loses_nothing_and_work_goes_on_within_one";
    let Some(mut lab) = Lab::new(test) else { return };
    lab.lan("lan", [("a", "10.0.0.1/24"), ("b", "10.0.0.2/24")]);
    // Work goes both ways over the cut.
    let place = Place::new();
    let workers = [("b", "there"), ("a", "back")].map(|(host, work)| place.start_on(&lab, host, "worker", &[&work]));
    let mut sources =
        [("a", "there"), ("b", "back")].map(|(host, work)| place.start_on(&lab, host, "source", &[&work, &3]));
    sources.iter().for_each(|source| source.hear_this("linked"));
    let mut seen = [Seen::default(), Seen::default()];
    let note = |seen: &mut [Seen; 2]| {
        for (worker, seen) in workers.iter().zip(seen) {
            worker.heard().iter().for_each(|line| seen.note(line));
        }
    };
    for (worker, seen) in workers.iter().zip(&mut seen) {
        (0..20).for_each(|_| seen.note(&worker.hear()));
    }

    lab.cut("b", "lan");
    let since = Instant::now();
    sources.iter().for_each(|source| source.hear_this("lost"));
    let lost = since.elapsed();
    assert!(lost < CUT, "links are given up after {lost:?}");
    note(&mut seen);
    assert_eq!(workers[0].hear_within(CUT - lost), None, "nothing passes a cut");
    assert_eq!(workers[1].hear_within(Duration::ZERO), None, "nothing passes a cut");

    let since = Instant::now();
    lab.heal("b", "lan");
    let took = [0, 1].map(|at| {
        seen[at].note(&workers[at].hear());
        since.elapsed()
    });
    print(format_args!("a link was given up after {lost:.1?}; first messages {took:.0?} after the cut has healed"));
    assert!(took[1] < Duration::from_secs(1), "{took:?}");

    // Some more work, over the new links.
    for (worker, seen) in workers.iter().zip(&mut seen) {
        (0..200).for_each(|_| seen.note(&worker.hear()));
    }
    for (source, (worker, seen)) in sources.iter_mut().zip(workers.iter().zip(&mut seen)) {
        source.tell("enough");
        let said = std::iter::repeat_with(|| source.hear()).find(|said| said != "lost").unwrap();
        let (accepted, handled) = said.split_once(' ').unwrap();
        assert_eq!(accepted, handled);
        let accepted = accepted.parse().unwrap();
        // All of them are handled: what is missing is on its way through the pipe.
        while !seen.is_all_of(accepted) {
            seen.note(&worker.hear());
        }
        worker.heard().iter().for_each(|line| seen.note(line));
        assert!(seen.is_all_of(accepted));
    }
}

// --- packets of no more than so many bytes ---

/// Around the sizes of packets, of a lane's chunks and of windows.
const SIZES: [usize; 20] = [
    0,
    1,
    1159,
    1199,
    1200,
    1201,
    1252,
    1400,
    1451,
    1452,
    1453,
    1472,
    1500,
    2904,
    9000,
    65_535,
    65_536,
    65_537,
    262_144,
    1 << 20,
];
/// Messages of the largest size afterwards, to see which packets they go in.
const LARGE: usize = 8;

fn body(size: usize) -> Vec<u8> {
    (0..size).map(|at| (at ^ (at >> 8) ^ (at >> 16) ^ size) as u8).collect()
}

/// A role: pushes a message of each size, then large ones; says the average size of the packets that took these, how
/// many packets there were, and how many links there have been. Each has to be handled, not rejected.
#[test]
fn giver() {
    let Some(role) = Role::of("giver") else { return };
    run(async {
        let node = role.on_networks().without_local().await.unwrap();
        let push = node.push("sizes").await.unwrap();
        push.wait_for_pullers(1).await.unwrap();
        try_join_all(SIZES.map(|size| push.send(body(size)).handled())).await.unwrap();
        let sent = ["packets", "bytes"].map(counter);
        try_join_all([1 << 20; LARGE].map(|size| push.send(body(size)).handled())).await.unwrap();
        let now = ["packets", "bytes"].map(counter);
        let (packets, bytes) = (now[0] - sent[0], now[1] - sent[1]);
        role.say(format!("{} {packets} {}", bytes / packets, node.metrics().links_opened));
        told().recv().await;
    });
}

/// What the host has sent to its network, with the 14 bytes of each packet's Ethernet header.
fn counter(what: &str) -> u64 {
    let path = format!("/sys/class/net/lan/statistics/tx_{what}");
    std::fs::read_to_string(path).unwrap().trim().parse().unwrap()
}

/// A role: rejects what is not whole.
#[test]
fn taker() {
    let Some(role) = Role::of("taker") else { return };
    run(async {
        let node = role.on_networks().without_local().await.unwrap();
        let pull = node.pull("sizes").await.unwrap();
        while let Ok(job) = pull.recv().await {
            if job[..] == body(job.len())[..] { job.ack() } else { job.reject("damaged") }
        }
    });
}

/// Messages of all sizes pass between two hosts; on average, packets of large ones have so many bytes.
fn pass_all_sizes(test: &str, least: u64, most: u64, change: impl Fn(&Lab)) {
    let Some(mut lab) = Lab::new(test) else { return };
    lab.network("lan");
    for (host, address) in [("a", "10.0.0.1/24"), ("b", "10.0.0.2/24")] {
        lab.host(host);
        lab.plug(host, "lan", address);
        lab.segment(host, "lan");
    }
    change(&lab);
    let place = Place::new();
    let _taker = place.start_on(&lab, "b", "taker", &[]);
    let giver = place.start_on(&lab, "a", "giver", &[]);
    let said = giver.hear();
    let said: Vec<u64> = said.split(' ').map(|word| word.parse().unwrap()).collect();
    let [average, packets, links] = said[..] else { panic!("{said:?}") };
    print(format_args!("{test}: {packets} packets of {average} bytes on average"));
    assert!((least..=most).contains(&average), "{average} bytes");
    assert_eq!(links, 1, "no link is lost on the way");
}

#[test]
fn messages_of_all_sizes_pass_an_ethernet_in_its_largest_packets() {
    let test = "messages_of_all_sizes_pass_an_ethernet_in_its_largest_packets";
    pass_all_sizes(test, 1400, 1514, |_| {});
}

#[test]
fn messages_of_all_sizes_pass_a_network_of_1280_bytes() {
    pass_all_sizes("messages_of_all_sizes_pass_a_network_of_1280_bytes", 1200, 1294, |lab| {
        for host in ["a", "b"] {
            lab.ip(host, "link set lan mtu 1280");
            lab.narrow(host, "lan", 1280);
        }
    });
}

#[test]
fn messages_of_all_sizes_pass_where_larger_packets_vanish_on_the_way() {
    let test = "messages_of_all_sizes_pass_where_larger_packets_vanish_on_the_way";
    pass_all_sizes(test, 1200, 1298, |lab| lab.narrow("b", "lan", 1280));
}

// --- no multicast, and one known address ---

/// A role: says its id and its port, then answers. Argument: an address that it knows, or `-`.
#[test]
fn member() {
    let Some(role) = Role::of("member") else { return };
    run(async {
        let mut builder = role.on_networks().without_local().listen(([0, 0, 0, 0], 0).into());
        if role.args[0] != "-" {
            builder = builder.peer(&role.args[0]);
        }
        let node = builder.await.unwrap();
        let mut events = node.events();
        let pull = node.pull(node.id().to_string()).await.unwrap();
        let mut pushes = BTreeMap::new();
        role.say(format!("{} {}", node.id(), node.local_addr().port()));
        let mut told = told();
        while let Some(question) = told.recv().await {
            let words: Vec<_> = question.split(' ').collect();
            match words[..] {
                ["settled"] => node.settled().await,
                ["peers", count] => node.wait_for_peers(count.parse().unwrap()).await.unwrap(),
                ["lost"] => while !matches!(events.recv().await.unwrap(), Event::PeerLeft { .. }) {},
                ["push", to, body] => {
                    if !pushes.contains_key(to) {
                        pushes.insert(to.to_owned(), node.push(to).await.unwrap());
                    }
                    pushes[to].send(body.to_owned()).await.unwrap();
                }
                ["pull"] => {
                    let job = pull.recv().await.unwrap();
                    role.say(String::from_utf8_lossy(&job));
                    job.ack();
                    continue;
                }
                ["leave"] => {
                    node.shutdown(Duration::from_secs(1)).await;
                    role.say("gone");
                    return;
                }
                _ => panic!("{question}?"),
            }
            role.say(describe(&node));
        }
    });
}

/// Its peers, by address, and how they were found.
fn describe(node: &Node) -> String {
    let mut peers: Vec<_> =
        node.peers().iter().map(|peer| format!("{} by {}", peer.address.ip(), peer.found_by)).collect();
    peers.sort();
    peers.join(", ")
}

struct Member {
    process: Process,
    id: String,
    port: String,
}

impl Member {
    fn on(place: &Place, lab: &Lab, host: &str, known: &str) -> Self {
        let process = place.start_on(lab, host, "member", &[&known]);
        let said = process.hear();
        let (id, port) = said.split_once(' ').unwrap();
        Self { id: id.to_owned(), port: port.to_owned(), process }
    }

    fn ask(&mut self, question: &str) -> String {
        self.process.tell(question);
        self.process.hear()
    }
}

#[test]
fn a_side_without_multicast_is_met_by_one_address_and_stays_when_that_has_left() {
    let test = "a_side_without_multicast_is_met_by_one_address_and_stays_when_that_has_left";
    let Some(mut lab) = Lab::new(test) else { return };
    // Two networks, and a router between them: no multicast passes it.
    for (network, router) in [("here", "10.1.0.254/24"), ("there", "10.2.0.254/24")] {
        lab.network(network);
        if network == "here" {
            lab.host("router");
        }
        lab.plug("router", network, router);
    }
    lab.route_through("router");
    for (host, network, net) in [("a", "here", 1), ("seed", "here", 1), ("c", "there", 2)] {
        let number = if host == "seed" { 2 } else { 1 };
        lab.host(host);
        lab.plug(host, network, &format!("10.{net}.0.{number}/24"));
        lab.ip(host, &format!("route add default via 10.{net}.0.254"));
    }
    let place = Place::new();
    let mut a = Member::on(&place, &lab, "a", "-");
    let mut seed = Member::on(&place, &lab, "seed", "-");
    let met = [a.ask("peers 1"), seed.ask("peers 1")];
    assert!(met.iter().any(|said| said.ends_with("by mdns")), "{met:?}");
    {
        let mut deaf = Member::on(&place, &lab, "c", "-");
        assert_eq!(deaf.ask("settled"), "", "no multicast comes here");
    }

    // It knows the seed and nobody else.
    let mut c = Member::on(&place, &lab, "c", &format!("10.1.0.2:{}", seed.port));
    let said = c.ask("peers 2");
    assert!(said.contains("10.1.0.1 by ") && said.contains("10.1.0.2 by ") && !said.contains("mdns"), "{said}");
    a.ask("peers 2");
    assert_eq!(seed.ask("leave"), "gone");
    a.ask("lost");
    c.ask("lost");
    let pass = |from: &mut Member, to: &mut Member, body: &str| {
        to.process.tell("pull");
        from.ask(&format!("push {} {body}", to.id));
        assert_eq!(to.process.hear(), body);
    };
    pass(&mut a, &mut c, "there");
    pass(&mut c, &mut a, "back");

    // The link of those who are left is cut, and nobody is there any more to tell where the other one is.
    lab.cut("c", "there");
    a.ask(&format!("push {} later", c.id));
    assert_eq!(a.ask("lost"), "", "nobody is left");
    let since = Instant::now();
    lab.heal("c", "there");
    assert_eq!(c.ask("pull"), "later");
    let took = since.elapsed();
    print(format_args!("{test}: a message {took:.0?} after the cut has healed"));
    assert!(took < PATIENCE / 3, "{took:?}");
    pass(&mut c, &mut a, "again");
}
