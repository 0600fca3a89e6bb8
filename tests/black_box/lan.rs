//! Nodes that find each other on a network, with real processes on hosts of their own and real multicast. The hosts are
//! network namespaces: where a machine allows none, these tests say so and are skipped, unless `MESHMQ_REQUIRE_NETNS=1`.

use std::collections::BTreeSet;
use std::io::{BufRead, Write};
use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use crate::support::netns::Lab;
use crate::support::{Place, Process, Role, run};
use meshmq::{Event, Node};

/// Not a test of its own: a node that looks for others by mDNS alone, and tells what it sees when it is asked.
///
/// Its argument is where it listens: an address, or `everywhere`; `unseen`: everywhere, and without mDNS.
#[test]
fn member() {
    let Some(role) = Role::of("member") else { return };
    run(async {
        let began = Instant::now();
        let listen = role.arg::<String>(0);
        let builder = if listen == "unseen" { role.builder() } else { role.on_networks() }.without_local();
        let node = match listen.parse::<SocketAddr>() {
            Ok(listen) => builder.listen(listen).await.unwrap(),
            Err(_) => builder.await.unwrap(),
        };
        let mut events = node.events();
        let (mut push, mut pull) = (None, None);
        role.say(format!("{} {}", node.id(), node.local_addr().port()));
        let (ask, mut asked) = tokio::sync::mpsc::unbounded_channel();
        std::thread::spawn(move || {
            std::io::stdin().lock().lines().map_while(Result::ok).try_for_each(|line| ask.send(line))
        });
        while let Some(question) = asked.recv().await {
            let words: Vec<_> = question.split(' ').collect();
            match words[..] {
                ["peers", count] => node.wait_for_peers(count.parse().unwrap()).await.unwrap(),
                ["settled"] => node.settled().await,
                ["lost"] => while !matches!(events.recv().await.unwrap(), Event::PeerLeft { .. }) {},
                ["alone"] => {
                    let report = loop {
                        if let Event::Alone { report } = events.recv().await.unwrap() {
                            break report;
                        }
                    };
                    role.say(report.replace('\n', " | "));
                    continue;
                }
                ["push", body] => {
                    if push.is_none() {
                        push = Some(node.push("jobs").await.unwrap());
                    }
                    push.as_ref().unwrap().send(body.to_owned()).handled().await.unwrap();
                }
                ["pull"] => {
                    if pull.is_none() {
                        pull = Some(node.pull("jobs").await.unwrap());
                    }
                    let job = pull.as_ref().unwrap().recv().await.unwrap();
                    role.say(String::from_utf8_lossy(&job));
                    job.ack();
                    continue;
                }
                _ => panic!("{question}?"),
            }
            role.say(format!("{} ms, {}", began.elapsed().as_millis(), describe(&node)));
        }
    });
}

/// Its peers, in the order of their addresses.
fn describe(node: &Node) -> String {
    let peers: BTreeSet<_> = node.peers().iter().map(|peer| format!("{} by {}", peer.address, peer.found_by)).collect();
    format!("{} refused, peers: {}", node.metrics().refused, Vec::from_iter(peers).join(", "))
}

/// A started member.
struct Member {
    process: Process,
    port: String,
}

impl Member {
    /// Starts on all addresses, without waiting until it is there.
    fn start(place: &Place, lab: &Lab, host: &str) -> Process {
        place.start_on(lab, host, "member", &[&"everywhere"])
    }

    /// It is there: it has said its id and its port.
    fn is_there(process: Process) -> Self {
        let said = process.hear();
        let port = said.split_once(' ').unwrap().1.to_owned();
        Self { process, port }
    }

    fn on(place: &Place, lab: &Lab, host: &str) -> Self {
        Self::is_there(Self::start(place, lab, host))
    }

    fn ask(&mut self, question: &str) -> String {
        self.process.tell(question);
        self.process.hear()
    }
}

#[test]
fn three_and_three_processes_on_two_hosts_are_one_mesh() {
    let Some(mut lab) = Lab::new("three_and_three_processes_on_two_hosts_are_one_mesh") else { return };
    lab.lan("lan", [("a", "10.0.0.1/24"), ("b", "10.0.0.2/24")]);
    let place = Place::new();
    let began = Instant::now();
    let mut starting: Vec<_> = ["a", "b"].repeat(3).iter().map(|host| Member::start(&place, &lab, host)).collect();
    starting.iter_mut().for_each(|process| process.tell("peers 5"));
    let mut members: Vec<_> = starting.into_iter().map(Member::is_there).collect();
    let met: Vec<_> = members.iter().map(|member| member.process.hear()).collect();
    let took = began.elapsed();
    let _ = writeln!(std::io::stderr(), "3 + 3 processes on two hosts, from start to full mesh: {took:.0?}");
    assert!(took < Duration::from_secs(10), "{took:?}: {met:#?}");
    for member in &mut members {
        let said = member.ask("settled");
        assert!(said.contains(" 0 refused") && !said.contains("by local"), "{said}");
    }
    // From one host to the other, with no address typed.
    let (first, rest) = members.split_at_mut(1);
    rest[0].process.tell("pull");
    first[0].process.tell("push hello");
    assert_eq!(rest[0].process.hear(), "hello");
    first[0].process.hear();
}

#[test]
fn who_is_settled_has_met_everybody_on_the_network() {
    let Some(mut lab) = Lab::new("who_is_settled_has_met_everybody_on_the_network") else { return };
    lab.lan("lan", [("a", "10.0.0.1/24"), ("b", "10.0.0.2/24")]);
    let place = Place::new();
    let mut members = Vec::new();
    let mut all = Vec::new();
    // Each while the ones before have only just answered, and may not answer again for a second.
    for host in ["a", "b"].repeat(3) {
        let mut member = Member::on(&place, &lab, host);
        let said = member.ask("settled");
        let took: u64 = said.split_once(' ').unwrap().0.parse().unwrap();
        assert!(took < 1500, "by itself, not because it took too long: {said}");
        assert_eq!(said.matches(" by ").count(), members.len(), "{said}");
        members.push(member);
        all.push(said);
    }
    let _ = writeln!(std::io::stderr(), "{all:#?}");
}

#[test]
fn a_host_whose_interface_comes_up_late_is_found() {
    let Some(mut lab) = Lab::new("a_host_whose_interface_comes_up_late_is_found") else { return };
    lab.network("lan");
    lab.host("a");
    lab.host("b");
    lab.plug("a", "lan", "10.0.0.1/24");
    let place = Place::new();
    let mut early = Member::on(&place, &lab, "a");
    let mut late = Member::on(&place, &lab, "b");
    for member in [&mut early, &mut late] {
        assert!(member.ask("settled").ends_with("peers: "), "nobody is there");
    }
    let began = Instant::now();
    lab.plug("b", "lan", "10.0.0.2/24");
    early.ask("peers 1");
    late.ask("peers 1");
    let took = began.elapsed();
    let _ = writeln!(std::io::stderr(), "from an interface that comes up to the link: {took:.1?}");
    assert!(took < Duration::from_secs(12), "{took:?}");
}

#[test]
fn loopback_is_enough_for_processes_of_one_host() {
    let Some(mut lab) = Lab::new("loopback_is_enough_for_processes_of_one_host") else { return };
    lab.host("a");
    let place = Place::new();
    // On all addresses, and on loopback alone.
    for listen in ["everywhere", "0.0.0.0:0", "127.0.0.1:0"] {
        let start = || Member::is_there(place.start_on(&lab, "a", "member", &[&listen]));
        let (mut first, mut second) = (start(), start());
        let said = [first.ask("peers 1"), second.ask("peers 1")];
        assert!(said.iter().any(|said| said.ends_with("by mdns")), "{said:?}");
    }
}

#[test]
fn a_host_without_a_network_settles_at_once_and_says_why() {
    let Some(mut lab) = Lab::new("a_host_without_a_network_settles_at_once_and_says_why") else { return };
    lab.host("a");
    lab.ip("a", "link set lo down");
    let mut member = Member::on(&Place::new(), &lab, "a");
    let said = member.ask("settled");
    let took: u64 = said.split_once(' ').unwrap().0.parse().unwrap();
    assert!(took < 450, "less than mDNS listens where it can: {said}");
    let report = member.ask("alone");
    assert!(
        report.contains("mdns: no multicast: no network interface of this host takes part; name the address"),
        "{report}"
    );
}

#[test]
fn of_several_networks_the_shared_one_is_used_and_another_takes_over() {
    let test = "of_several_networks_the_shared_one_is_used_and_another_takes_over";
    let Some(mut lab) = Lab::new(test) else { return };
    for network in ["red", "blue", "green"] {
        lab.network(network);
    }
    for (host, number) in [("a", 1), ("b", 2), ("c", 3)] {
        lab.host(host);
        // Everybody is on green, a and b on blue; a alone and b alone are on two networks of the same range.
        if number < 3 {
            lab.plug(host, "blue", &format!("10.2.0.{number}/24"));
        }
    }
    for (host, number) in [("a", 1), ("b", 2)] {
        lab.plug(host, "green", &format!("10.3.0.{number}/24"));
    }
    lab.plug("c", "green", "10.3.0.3/24");
    lab.plug("c", "red", "10.2.0.3/24");
    let place = Place::new();
    let (mut a, mut b, mut c) =
        (Member::on(&place, &lab, "a"), Member::on(&place, &lab, "b"), Member::on(&place, &lab, "c"));
    for member in [&mut a, &mut b, &mut c] {
        member.ask("peers 2");
    }
    // Only green leads to c, though its other address looks as if blue did.
    let said = c.ask("settled");
    let peers = said.split_once("peers: ").unwrap().1;
    assert!(peers.split(", ").all(|peer| peer.starts_with("10.3.0.") || peer.starts_with("[fe80")), "{said}");
    // Of what a and b have in common, the other takes over when one is gone, whichever was used.
    let mut pass = |body: &str| {
        let began = Instant::now();
        a.process.tell(&format!("push {body}"));
        b.process.tell("pull");
        assert_eq!(b.process.hear(), body);
        a.process.hear();
        began.elapsed()
    };
    pass("first");
    for network in ["blue", "green"] {
        lab.cut("b", network);
        let took = pass(network);
        let _ = writeln!(std::io::stderr(), "without {network}, a message is handled after {took:.1?}");
        assert!(took < Duration::from_secs(15), "{took:?}");
        lab.heal("b", network);
    }
}

#[test]
fn other_meshes_are_counted_and_left_in_peace() {
    let Some(mut lab) = Lab::new("other_meshes_are_counted_and_left_in_peace") else { return };
    lab.lan("lan", [("a", "10.0.0.1/24"), ("b", "10.0.0.2/24")]);
    let mut ours = Member::on(&Place::new(), &lab, "a");
    let mut theirs = Member::on(&Place::new(), &lab, "b");
    for member in [&mut ours, &mut theirs] {
        let report = member.ask("alone");
        assert!(report.contains("seen of this mesh: 0; other meshes on this LAN: 1 (to join one, give"), "{report}");
        assert!(!report.contains("tried"), "nobody was dialled: {report}");
        assert!(member.ask("settled").contains(" 0 refused"), "nobody has dialled");
    }
}

/// Not a test of its own: tells from which addresses it hears multicast DNS.
#[test]
fn ear() {
    let Some(role) = Role::of("ear") else { return };
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::DGRAM, None).unwrap();
    socket.set_reuse_address(true).unwrap();
    socket.set_reuse_port(true).unwrap();
    socket.bind(&SocketAddr::from(([0, 0, 0, 0], 5353)).into()).unwrap();
    let socket = UdpSocket::from(socket);
    socket.join_multicast_v4(&[224, 0, 0, 251].into(), &[10, 0, 0, 2].into()).unwrap();
    role.say("up");
    let mut heard = BTreeSet::new();
    while let Ok((_, from)) = socket.recv_from(&mut [0; 9000]) {
        if heard.insert(from.ip()) {
            role.say(from.ip());
        }
    }
}

#[test]
fn who_listens_on_loopback_or_turns_mdns_off_says_nothing_to_the_network() {
    let test = "who_listens_on_loopback_or_turns_mdns_off_says_nothing_to_the_network";
    let Some(mut lab) = Lab::new(test) else { return };
    lab.lan("lan", [("a", "10.0.0.1/24"), ("b", "10.0.0.2/24")]);
    let place = Place::new();
    let ear = place.start_on(&lab, "b", "ear", &[]);
    ear.hear_this("up");
    let _hidden =
        ["127.0.0.1:0", "unseen"].map(|listen| Member::is_there(place.start_on(&lab, "a", "member", &[&listen])));
    let mut other = Member::on(&place, &lab, "b");
    let report = other.ask("alone");
    assert!(report.contains("seen of this mesh: 0; other meshes on this LAN: 0"), "{report}");
    let heard = ear.heard();
    assert!(heard.contains(&"10.0.0.2".into()) && !heard.contains(&"10.0.0.1".into()), "{heard:?}");
}

/// Not a test of its own: advertises far more than anybody has.
#[test]
fn flooder() {
    let Some(role) = Role::of("flooder") else { return };
    let socket = UdpSocket::bind("10.0.0.2:5353").unwrap();
    role.say("up");
    for number in 0_u32.. {
        // A response with one address record, whose name is always another one.
        let name = format!("{number:010}");
        let mut packet = vec![0, 0, 0x84, 0, 0, 0, 0, 1, 0, 0, 0, 0, 10];
        packet.extend(name.as_bytes());
        packet.extend(b"\x05local\x00\x00\x01\x80\x01\x00\x00\x00\x78\x00\x04\x0a\x00\x00\x02");
        if socket.send_to(&packet, "224.0.0.251:5353").is_err() {
            std::thread::yield_now();
        }
    }
}

#[test]
fn a_flood_of_records_is_dropped_and_peers_are_found_afterwards() {
    let Some(mut lab) = Lab::new("a_flood_of_records_is_dropped_and_peers_are_found_afterwards") else { return };
    lab.lan("lan", [("a", "10.0.0.1/24"), ("b", "10.0.0.2/24")]);
    let place = Place::new();
    let mut flooder = place.start_on(&lab, "b", "flooder", &[]);
    flooder.hear_this("up");
    let mut member = Member::on(&place, &lab, "a");
    let report = member.ask("alone");
    assert!(
        report.contains("more than 4096 records came from the network, and were dropped; starts again in"),
        "{report}"
    );
    flooder.kill();
    let mut other = Member::on(&place, &lab, "b");
    other.ask("peers 1");
    assert!(member.ask("peers 1").contains(&other.port));
}
