//! Tables for the pure part, and two sources on this host's loopback interface; real networks are in `tests/black_box/lan.rs`.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tokio::runtime::Handle;
use tokio::sync::{broadcast, mpsc};
use tokio::task::JoinHandle;

use super::addresses::{Heard, Own, choose};
use super::advert::Told;
use super::sightings::Sightings;
use super::*;
use crate::discovery::Found;
use crate::id::NodeId;
use crate::wire::limits::{MDNS_ADDRESSES, MDNS_PEERS};

const TAG: [u8; 8] = [0xab; 8];

fn node(number: u8) -> NodeId {
    NodeId::from_bytes([number; 32])
}

fn own(number: u8) -> Advert {
    let bound = SocketAddr::from(([127, 0, 0, 1], 7000 + u16::from(number)));
    Advert { mesh_tag: TAG, node: node(number), incarnation: 0x51, port: bound.port(), bound }
}

fn read(name: &str, properties: &[(&str, &str)]) -> Option<Told> {
    let properties: BTreeMap<_, _> = properties.iter().copied().collect();
    advert::read(name, |key| properties.get(key).copied())
}

#[test]
fn an_advert_says_what_it_has_to_and_no_more() {
    let properties = advert::properties(&own(1));
    assert_eq!(
        properties,
        [("v", "1".to_owned()), ("mesh", "abababababababab".to_owned()), ("life", "0000000000000051".to_owned()),]
    );
    let told = Told { node: node(1), mesh_tag: TAG, incarnation: 0x51 };
    let properties: Vec<_> = properties.iter().map(|(key, value)| (*key, &**value)).collect();
    assert_eq!(read(&advert::name(node(1)), &properties), Some(told));
    // A label has 63 bytes at most, a string of a TXT record 255.
    assert!(node(1).to_string().len() <= 63);
}

#[test]
fn what_is_no_advert_is_not_taken_for_one() {
    let name = &*advert::name(node(1));
    let good = [("v", "1"), ("mesh", "abababababababab"), ("life", "0000000000000051")];
    assert!(read(name, &good).is_some());
    assert!(read(name, &[&good[..], &[("new", "thing")]].concat()).is_some(), "what is not known is ignored");
    for bad in
        ["", "._meshmq._udp.local.", "printer._meshmq._udp.local.", &name[1..], "x._http._tcp.local.", &name[..60]]
    {
        assert_eq!(read(bad, &good), None, "{bad}");
    }
    for (key, value) in [
        ("v", "2"),
        ("v", ""),
        ("mesh", "abab"),
        ("mesh", "ababababababababab"),
        ("mesh", "ABABABABABABABAB"),
        ("mesh", "quite something "),
        ("life", ""),
        ("life", "51"),
        ("life", "+000000000000051"),
        ("life", "00000000000000051"),
    ] {
        let bad = good.map(|(name, good)| (name, if name == key { value } else { good }));
        assert_eq!(read(name, &bad), None, "{key}={value}");
        let missing: Vec<_> = good.into_iter().filter(|(name, _)| *name != key).collect();
        assert_eq!(read(name, &missing), None, "without {key}");
    }
}

fn heard(ip: &str, interfaces: &[u32]) -> Heard {
    Heard { ip: ip.parse().unwrap(), interfaces: interfaces.to_vec() }
}

/// This host: loopback, an Ethernet with both protocols, a second one.
fn this_host() -> Vec<Own> {
    let own = |interface, ip: &str, prefix| Own { interface, ip: ip.parse().unwrap(), prefix };
    vec![
        own(1, "127.0.0.1", 8),
        own(1, "::1", 128),
        own(2, "192.168.1.5", 24),
        own(2, "2001:db8:1::5", 64),
        own(2, "fe80::5", 64),
        own(3, "10.0.0.5", 8),
    ]
}

fn chosen(heard: &[Heard], bound: &str) -> Vec<String> {
    let bound: IpAddr = bound.parse().unwrap();
    choose(heard, 7000, &this_host(), bound).iter().map(SocketAddr::to_string).collect()
}

#[test]
fn the_nearest_address_is_dialled_first() {
    let all = [
        heard("203.0.113.9", &[2]),
        heard("fe80::9", &[2]),
        heard("2001:db8:1::9", &[2]),
        heard("10.9.9.9", &[3]),
        heard("192.168.1.9", &[2]),
        heard("127.0.0.1", &[1]),
    ];
    assert_eq!(
        chosen(&all, "::"),
        [
            "127.0.0.1:7000",
            "10.9.9.9:7000",
            "192.168.1.9:7000",
            "[2001:db8:1::9]:7000",
            "[fe80::9%2]:7000",
            "203.0.113.9:7000",
        ]
    );
}

#[test]
fn an_address_counts_as_near_only_on_its_own_link() {
    // An address of the other network's range that was heard here is not of that network.
    assert_eq!(
        chosen(&[heard("10.9.9.9", &[2]), heard("192.168.1.9", &[2])], "::"),
        ["192.168.1.9:7000", "10.9.9.9:7000"]
    );
    // Link-local ones are other hosts on each link, and nowhere where it is not known on which.
    assert_eq!(chosen(&[heard("fe80::9", &[2, 3])], "::"), ["[fe80::9%2]:7000", "[fe80::9%3]:7000"]);
    assert_eq!(chosen(&[heard("fe80::9", &[]), heard("fe80::9", &[0])], "::"), [""; 0]);
    assert_eq!(chosen(&[heard("2001:db8:1::9", &[2]), heard("2001:db8:1::9", &[3])], "::"), ["[2001:db8:1::9]:7000"]);
}

#[test]
fn what_may_not_or_cannot_be_dialled_is_left_out() {
    for nowhere in ["0.0.0.0", "::", "224.0.0.251", "ff02::fb", "255.255.255.255"] {
        assert_eq!(chosen(&[heard(nowhere, &[2])], "::"), [""; 0], "{nowhere}");
    }
    // Loopback of another host: it came in over the network.
    for loopback in ["127.0.0.1", "127.1.2.3", "::1"] {
        assert_eq!(chosen(&[heard(loopback, &[2])], "::"), [""; 0], "{loopback}");
        assert_eq!(chosen(&[heard(loopback, &[2, 1])], "::").len(), 1, "{loopback}");
    }
    assert_eq!(choose(&[heard("192.168.1.9", &[2])], 0, &this_host(), "::".parse().unwrap()), []);

    let both = [heard("192.168.1.9", &[2]), heard("2001:db8:1::9", &[2]), heard("127.0.0.1", &[1]), heard("::1", &[1])];
    for (bound, expected) in [
        ("0.0.0.0", &["127.0.0.1:7000", "192.168.1.9:7000"][..]),
        ("192.168.1.5", &["127.0.0.1:7000", "192.168.1.9:7000"]),
        ("::ffff:192.168.1.5", &["127.0.0.1:7000", "192.168.1.9:7000"]),
        ("2001:db8:1::5", &["[::1]:7000", "[2001:db8:1::9]:7000"]),
        ("127.0.0.1", &["127.0.0.1:7000"]),
        ("::1", &["[::1]:7000"]),
    ] {
        assert_eq!(chosen(&both, bound), expected, "bound to {bound}");
    }
}

#[test]
fn of_many_addresses_the_nearest_stay() {
    let mut many: Vec<_> = (0..200).map(|n| heard(&format!("203.0.113.{n}"), &[2])).collect();
    many.push(heard("192.168.1.9", &[2]));
    let chosen = chosen(&many, "::");
    assert_eq!((chosen.len(), &*chosen[0]), (MDNS_ADDRESSES, "192.168.1.9:7000"));
}

fn told(number: u8) -> Told {
    Told { node: node(number), mesh_tag: TAG, incarnation: 1 }
}

fn at(ports: &[u16]) -> Vec<SocketAddr> {
    ports.iter().map(|port| SocketAddr::from(([192, 168, 1, 9], *port))).collect()
}

fn seen(number: u8, incarnation: u64, ports: &[u16]) -> Option<Found> {
    Some(Found::Seen {
        node: Some(node(number)),
        incarnation: Some(incarnation),
        in_touch: false,
        addresses: at(ports),
    })
}

#[test]
fn a_peer_is_told_when_it_is_new_changes_or_goes() {
    let mut sightings = Sightings::new(&own(1));
    let name = advert::name(node(2));
    let mut resolve = |told, ports: &[u16]| sightings.resolved(&name, Some(told), at(ports));
    assert_eq!(resolve(told(2), &[1]), seen(2, 1, &[1]));
    assert_eq!(resolve(told(2), &[1]), None, "nothing new");
    assert_eq!(resolve(told(2), &[1, 2]), seen(2, 1, &[1, 2]), "one more network");
    assert_eq!(resolve(Told { incarnation: 2, ..told(2) }, &[1, 2]), seen(2, 2, &[1, 2]), "another life");
    assert_eq!(resolve(Told { incarnation: 2, ..told(2) }, &[]), seen(2, 2, &[]), "none that can be dialled");
    assert_eq!(sightings.removed(&name), seen(2, 2, &[]));
    assert_eq!(sightings.removed(&name), None);
    assert_eq!(sightings.resolved(&name, Some(told(2)), at(&[])), None, "there is nowhere to dial");
    assert_eq!(sightings.resolved(&name, Some(told(2)), at(&[1])), seen(2, 1, &[1]));
    assert_eq!(sightings.clear(), Vec::from_iter(seen(2, 1, &[])));
    assert_eq!(sightings.len(), 0);
}

#[test]
fn only_peers_are_told_and_others_are_counted() {
    let mut sightings = Sightings::new(&own(1));
    let stranger = |tag| Some(Told { mesh_tag: [tag; 8], ..told(9) });
    assert_eq!(sightings.resolved(&advert::name(node(1)), Some(told(1)), at(&[1])), None, "this node itself");
    assert_eq!(sightings.resolved("one._meshmq._udp.local.", stranger(1), at(&[1])), None);
    assert_eq!(sightings.resolved("two._meshmq._udp.local.", stranger(1), at(&[2])), None);
    assert_eq!(sightings.resolved("three._meshmq._udp.local.", stranger(2), at(&[3])), None);
    assert_eq!(sightings.resolved("what._meshmq._udp.local.", None, at(&[3])), None);
    let report = sightings.report("on eth0");
    assert_eq!(
        report,
        "asked on eth0; seen of this mesh: 0; other meshes on this LAN: 2 (to join one, give this node its key and its \
         name); adverts that this version does not understand: 1"
    );
    // Its TXT record came late.
    assert!(sightings.resolved(&advert::name(node(2)), None, at(&[4])).is_none());
    assert_eq!(sightings.resolved(&advert::name(node(2)), Some(told(2)), at(&[4])), seen(2, 1, &[4]));
    assert!(sightings.resolved(&advert::name(node(3)), Some(told(3)), at(&[])).is_none());
    sightings.removed("one._meshmq._udp.local.");
    sightings.removed("two._meshmq._udp.local.");
    sightings.removed("what._meshmq._udp.local.");
    assert_eq!(
        sightings.report("on eth0"),
        "asked on eth0; seen of this mesh: 2, without an address that this node can dial: 1; other meshes on this LAN: 1"
    );
    // A node that says to be of another mesh now is no peer any more.
    assert_eq!(sightings.resolved(&advert::name(node(2)), stranger(3), at(&[4])), seen(2, 1, &[]));
}

#[test]
fn however_many_advertise_a_bounded_number_is_known() {
    let mut sightings = Sightings::new(&own(1));
    let many = |n: usize| {
        let mut bytes = [7; 32];
        bytes[..8].copy_from_slice(&(n as u64).to_be_bytes());
        NodeId::from_bytes(bytes)
    };
    for n in 0..2 * MDNS_PEERS {
        let stranger = Told { node: many(n), mesh_tag: [1; 8], incarnation: 1 };
        assert_eq!(sightings.resolved(&advert::name(many(n)), Some(stranger), at(&[1])), None);
        assert_eq!(sightings.resolved(&format!("{n}._meshmq._udp.local."), None, at(&[1])), None);
    }
    assert_eq!(sightings.len(), MDNS_PEERS);
    let told = |n| Some(Told { node: many(n), mesh_tag: TAG, incarnation: 1 });
    let peers = 10_000..10_000 + 2 * MDNS_PEERS;
    let taken = peers.filter(|n| sightings.resolved(&advert::name(many(*n)), told(*n), at(&[1])).is_some()).count();
    assert_eq!(taken, MDNS_PEERS, "strangers take no room from peers");
    assert!(sightings.report("").ends_with("more than 1024 nodes advertise here, and the others are not looked at"));
    // Who is known stays, and makes room when it goes.
    assert!(sightings.resolved(&advert::name(many(10_000)), told(10_000), at(&[2])).is_some());
    assert!(sightings.removed(&advert::name(many(10_000))).is_some());
    assert!(sightings.resolved(&advert::name(many(1)), told(1), at(&[2])).is_some());
}

#[test]
fn a_record_is_verified_ever_more_rarely() {
    let mut sightings = Sightings::new(&own(1));
    let (name, start) = (advert::name(node(2)), Instant::now());
    assert_eq!(sightings.doubted(start, node(2)), None, "there is no record");
    sightings.resolved(&name, Some(told(2)), at(&[1]));
    let mut verified = Vec::new();
    for second in 0..200 {
        if let Some(verify) = sightings.doubted(start + Duration::from_secs(second), node(2)) {
            assert_eq!(verify, name);
            verified.push(second);
        }
    }
    assert_eq!(verified, [0, 10, 30, 70, 150]);
    sightings.resolved(&name, Some(Told { incarnation: 2, ..told(2) }), at(&[1]));
    assert!(sightings.doubted(start + Duration::from_secs(200), node(2)).is_some(), "another life, another record");
}

/// A source that runs until it is dropped.
struct Running {
    task: JoinHandle<()>,
    found: mpsc::Receiver<(usize, Found)>,
    doubts: broadcast::Sender<NodeId>,
}

impl Running {
    fn start(own: Advert) -> Self {
        Self::start_source(own, Mdns::new())
    }

    fn start_source(own: Advert, source: Mdns) -> Self {
        let (tell, found) = mpsc::channel(64);
        let doubts = broadcast::Sender::new(4);
        let finder = Finder::new(0, tell, doubts.clone());
        Self { task: tokio::spawn(Arc::new(source).run(own, Env::real(Handle::current()), finder)), found, doubts }
    }

    async fn next(&mut self) -> Found {
        let next = tokio::time::timeout(Duration::from_secs(20), self.found.recv());
        next.await.expect("nothing is told").expect("the source has ended").1
    }

    /// The next of what is not for people.
    async fn fact(&mut self) -> Found {
        loop {
            match self.next().await {
                Found::Report(_) => {}
                fact => return fact,
            }
        }
    }

    async fn stop(mut self) {
        self.task.abort();
        assert!((&mut self.task).await.unwrap_err().is_cancelled());
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Where the process that a test kills is told who it is: the run, the test, and its number there.
const OTHER: &str = "MESHMQ_TEST_MDNS_NODE";

/// Not a test of its own: the other process of the next one.
#[tokio::test]
async fn other_process() {
    if let Ok(who) = std::env::var(OTHER) {
        let who: Vec<u32> = who.split(' ').map(|part| part.parse().unwrap()).collect();
        let mut running = Running::start(of_run(who[0], who[1] as u8, who[2] as u8));
        loop {
            running.fact().await;
        }
    }
}

#[tokio::test]
async fn a_killed_nodes_record_is_dropped_when_it_is_doubted_and_a_live_ones_is_not() {
    let (first, second, killed) = (on_loopback(2, 1), on_loopback(2, 2), on_loopback(2, 3));
    let mut here = Running::start(first);
    let _live = Running::start(second.clone());
    let mut process = start_process(2, 3);
    let mut missing = vec![seen_at_its_port(&second), seen_at_its_port(&killed), Found::FirstPass];
    while !missing.is_empty() {
        let fact = here.fact().await;
        let expected = missing.iter().position(|expected| *expected == fact);
        missing.swap_remove(expected.unwrap_or_else(|| panic!("{fact:?} where there should be {missing:?}")));
    }
    process.kill().await.unwrap();
    for node in [second.node, killed.node] {
        here.doubts.send(node).unwrap();
    }
    let began = Instant::now();
    assert_eq!(here.fact().await, withdrawn(&killed), "and nothing of the live one");
    assert!(began.elapsed() < Duration::from_secs(10), "its record would have lasted for two minutes");
}

#[tokio::test]
async fn a_node_whose_record_was_dropped_is_seen_again_when_it_is_back() {
    let (own, stopped) = (on_loopback(3, 1), on_loopback(3, 2));
    // The crate by itself would ask again after 1, 3, 7, 15 … seconds, and for nobody whom it has seen before.
    let mut here = Running::start_source(own, Mdns { ask: Duration::from_millis(500) });
    assert_eq!(here.fact().await, Found::FirstPass);
    let process = start_process(3, 2);
    assert_eq!(here.fact().await, seen_at_its_port(&stopped));
    let pid = Pid::from_raw(process.id().unwrap().try_into().unwrap()).unwrap();
    // The first time it may still owe the network the second of its two announcements; the second time it says nothing
    // unless it is asked.
    for _ in 0..2 {
        kill_process(pid, Signal::STOP).unwrap();
        here.doubts.send(stopped.node).unwrap();
        assert_eq!(here.fact().await, withdrawn(&stopped));
        kill_process(pid, Signal::CONT).unwrap();
        assert_eq!(here.fact().await, seen_at_its_port(&stopped));
    }
}

/// Starts [`other_process`] as this node of [`on_loopback`].
fn start_process(test: u8, number: u8) -> tokio::process::Child {
    tokio::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "discovery::mdns::tests::other_process"])
        .env(OTHER, format!("{} {test} {number}", std::process::id()))
        .stdout(std::process::Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap()
}

#[tokio::test]
async fn the_daemons_memory_can_be_watched() {
    // What is read by name may be named otherwise in a later release of the crate.
    let daemon = mdns_sd::ServiceDaemon::new_with_port(0).unwrap();
    let metrics = daemon.get_metrics().unwrap().recv_async().await.unwrap();
    daemon.shutdown().unwrap();
    for name in ["cached-ptr", "cached-srv", "cached-txt", "cached-addr", "cached-nsec", "cached-subtype", "timer"] {
        assert!(metrics.contains_key(name), "{name}: {metrics:?}");
    }
}

/// A node that no other test knows, and no other run of these tests: neither its mesh nor its name, which has to be one node's
/// alone on a network.
fn on_loopback(test: u8, number: u8) -> Advert {
    of_run(std::process::id(), test, number)
}

fn of_run(run: u32, test: u8, number: u8) -> Advert {
    let [a, b, c, d] = run.to_be_bytes();
    let mut id = [number; 32];
    id[..5].copy_from_slice(&[a, b, c, d, test]);
    Advert { mesh_tag: [a, b, c, d, test, 0, 0, 0], node: NodeId::from_bytes(id), ..own(number) }
}

fn seen_at_its_port(advert: &Advert) -> Found {
    Found::Seen {
        node: Some(advert.node),
        incarnation: Some(advert.incarnation),
        in_touch: false,
        addresses: vec![advert.bound],
    }
}

fn withdrawn(advert: &Advert) -> Found {
    Found::Seen {
        node: Some(advert.node),
        incarnation: Some(advert.incarnation),
        in_touch: false,
        addresses: Vec::new(),
    }
}

#[tokio::test]
async fn two_on_loopback_see_each_other_come_and_go() {
    let (first, second) = (on_loopback(1, 1), on_loopback(1, 2));
    let mut early = Running::start(first.clone());
    assert_eq!(early.fact().await, Found::FirstPass);
    let mut late = Running::start(second.clone());
    assert_eq!(early.fact().await, seen_at_its_port(&second), "by its announcement");
    // Whoever has just announced itself answers no question for a second; it dials, meanwhile.
    let both = [late.fact().await, late.fact().await];
    assert!(both.contains(&Found::FirstPass) && both.contains(&seen_at_its_port(&first)), "{both:?}");
    late.stop().await;
    assert_eq!(early.fact().await, withdrawn(&second));
}
