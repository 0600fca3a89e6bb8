//! LANs, routers, addresses and cuts: who reaches whom.

#![allow(clippy::unwrap_used)]

mod udp;

use std::io;
use std::net::IpAddr;
use std::time::Duration;

use netsim::{Host, Link, Sim, Units};

use udp::{Udp, at};

/// A host with a socket that answers nothing.
struct Station {
    host: Host,
    udp: Udp,
}

fn station(host: Host) -> Station {
    let udp = Udp::bind(&host, "[::]:1");
    Station { host, udp }
}

/// Whether what one sends to this address of the other arrives, and how long it takes.
async fn takes(sim: &Sim, from: &Station, to: &Station, ip: IpAddr) -> Option<Duration> {
    let start = sim.elapsed();
    from.udp.send((ip, 1).into(), b"?");
    let came = to.udp.within(sim, 1.s()).await;
    came.first().map(|(time, _)| *time - start)
}

async fn reaches(sim: &Sim, from: &Station, to: &Station) -> bool {
    takes(sim, from, to, to.host.ip()).await.is_some()
}

#[test]
fn each_lan_has_its_subnets_and_each_host_its_addresses() {
    Sim::run(1, async |sim: Sim| {
        let ips = |host: &Host| host.ips().iter().map(IpAddr::to_string).collect::<Vec<_>>();
        let (office, old, new) = (sim.lan("office"), sim.lan("old").ipv4_only(), sim.lan("new").ipv6_only());
        assert_eq!(ips(&sim.host("a")), ["10.0.0.1", "fd00::1"]);
        assert_eq!(ips(&office.host("b")), ["10.1.0.1", "fd00:0:0:1::1"]);
        assert_eq!(ips(&old.host("c")), ["10.2.0.1"]);
        assert_eq!(ips(&new.host("d")), ["fd00:0:0:3::1"]);
        let many = office.hosts("worker", 300);
        assert_eq!((many[299].name(), ips(&many[299])[0].as_str()), ("worker 299", "10.1.1.45"));
    });
}

#[test]
fn a_router_joins_lans_and_its_links_add_up() {
    Sim::run(1, async |sim: Sim| {
        let link = Link::ideal().latency(1.ms());
        sim.set_link(link);
        let (home, office, shop) = (sim.lan("home"), sim.lan("office"), sim.lan("shop"));
        let [a, b, c] = [&home, &office, &shop].map(|lan| station(lan.host(&lan.name())));
        assert_eq!(takes(&sim, &a, &b, b.host.ip()).await, None);
        assert!(sim.trace().log.last().unwrap().ends_with("10.2.0.1:1  1 B  no way leads there"));

        let line = sim.router("line", &[&home, &office]).latency(20.ms());
        let other = sim.router("other", &[&office, &shop]).latency(5.ms());
        for (to, v4) in [(&b, 22.ms()), (&c, 28.ms())] {
            assert_eq!(takes(&sim, &a, to, to.host.ips()[0]).await, Some(v4));
            assert_eq!(takes(&sim, &a, to, to.host.ips()[1]).await, Some(v4), "by IPv6 too");
            assert_eq!(takes(&sim, to, &a, a.host.ip()).await, Some(v4), "and back");
        }
        // A shorter way, as long as it works.
        let direct = sim.router("direct", &[&home, &shop]).latency(300.ms());
        assert_eq!(takes(&sim, &a, &c, c.host.ip()).await, Some(302.ms()));
        direct.down();
        assert_eq!(takes(&sim, &a, &c, c.host.ip()).await, Some(28.ms()));
        other.down();
        assert!(!reaches(&sim, &a, &c).await && reaches(&sim, &a, &b).await);
        direct.up();
        assert!(reaches(&sim, &a, &c).await);
        line.loss(1.0);
        assert!(!reaches(&sim, &a, &b).await);
        // The link of two hosts takes the place of all that lies between them.
        sim.set_link_one_way(&a.host, &b.host, Link::ideal().latency(7.ms()));
        assert_eq!(takes(&sim, &a, &b, b.host.ip()).await, Some(7.ms()));
        assert!(!reaches(&sim, &b, &a).await);
    });
}

#[test]
fn a_router_that_goes_down_takes_what_is_on_its_way_to_it() {
    Sim::run(1, async |sim: Sim| {
        let (home, office) = (sim.lan("home").latency(10.ms()), sim.lan("office"));
        let (a, b) = (station(home.host("a")), station(office.host("b")));
        let line = sim.router("line", &[&home, &office]);
        a.udp.send(at(&b.host, 1), b"?");
        sim.sleep(5.ms()).await;
        line.down();
        assert!(b.udp.within(&sim, 1.s()).await.is_empty());
        assert_eq!(sim.trace().packets.stopped, 1);
    });
}

#[test]
fn a_host_moves_and_its_address_stays_behind() {
    Sim::run(1, async |sim: Sim| {
        let (home, office) = (sim.lan("home"), sim.lan("office"));
        sim.router("line", &[&home, &office]);
        let (laptop, desk) = (station(office.host("laptop")), station(office.host("desk")));
        let bound = Udp::bind(&laptop.host, "10.2.0.1:2");
        let old = laptop.host.ip();
        laptop.host.move_to(&home);
        assert_eq!(laptop.host.ip().to_string(), "10.1.0.1");
        assert_eq!(takes(&sim, &desk, &laptop, old).await, None);
        assert!(reaches(&sim, &desk, &laptop).await);
        // What is bound to the old address neither hears nor is heard.
        desk.udp.send((old, 2).into(), b"?");
        bound.send(at(&desk.host, 1), b"?");
        assert!(bound.within(&sim, 1.s()).await.is_empty() && desk.udp.received().is_empty());

        // On its way to an address that goes: lost.
        desk.udp.send(at(&laptop.host, 1), b"?");
        laptop.host.move_to(&office);
        assert_eq!(laptop.host.ip(), old, "as it had it there before");
        assert!(laptop.udp.within(&sim, 1.s()).await.is_empty());
        desk.udp.send((old, 2).into(), b"?");
        assert_eq!(bound.within(&sim, 1.s()).await.len(), 1);

        laptop.host.renumber(&office);
        assert_eq!(laptop.host.ip().to_string(), "10.2.0.3");
        assert_eq!(takes(&sim, &desk, &laptop, old).await, None);
        assert!(reaches(&sim, &desk, &laptop).await);
    });
}

#[test]
fn a_host_on_two_lans_uses_the_nearer_one_and_has_an_address_on_each() {
    Sim::run(1, async |sim: Sim| {
        let (wired, wireless) = (sim.lan("wired").latency(1.ms()).jitter(0.s()), sim.lan("wireless").latency(9.ms()));
        let (both, a, b) = (station(wired.host("both")), station(wired.host("a")), station(wireless.host("b")));
        both.host.join(&wireless);
        assert_eq!(both.host.ips().len(), 4);
        for (peer, own) in [(&a, both.host.ips()[0]), (&b, both.host.ips()[2])] {
            both.udp.send(at(&peer.host, 1), b"?");
            let (_, meta) = peer.udp.receive().await;
            assert_eq!(meta.addr.ip().to_canonical(), own, "as the peer sees it");
            assert!(takes(&sim, peer, &both, own).await.is_some());
        }
        assert!(!reaches(&sim, &a, &b).await, "it is no router");
        // The cable is pulled: without a router there is no other way to those who have only that.
        both.host.leave(&wired);
        assert!(!reaches(&sim, &a, &both).await && reaches(&sim, &both, &b).await);
        both.host.leave(&wireless);
        assert!(both.host.ips().is_empty());
        assert!(!reaches(&sim, &both, &b).await);
        both.host.join(&wired);
        assert!(reaches(&sim, &both, &a).await);
    });
}

#[test]
fn sockets_share_a_port_where_their_addresses_differ() {
    Sim::run(1, async |sim: Sim| {
        let a = sim.host("a");
        let error = |at: &str| a.bind(at.parse().unwrap()).map(drop).unwrap_err().kind();
        let (v4, v6) = (Udp::bind(&a, "10.0.0.1:7"), Udp::bind(&a, "[fd00::1]:7"));
        let lo = Udp::bind(&a, "[::1]:7");
        for taken in ["0.0.0.0:7", "[::]:7", "10.0.0.1:7", "[::ffff:10.0.0.1]:7", "[fd00::1]:7"] {
            assert_eq!(error(taken), io::ErrorKind::AddrInUse, "{taken}");
        }
        for other in ["10.0.0.2:7", "[fd00::2]:7", "192.168.0.1:7"] {
            assert_eq!(error(other), io::ErrorKind::AddrNotAvailable, "{other}");
        }
        for (to, socket) in [("10.0.0.1:7", &v4), ("[fd00::1]:7", &v6), ("[::1]:7", &lo)] {
            let other = Udp::bind(&a, "[::]:0");
            other.send(to.parse().unwrap(), b"to myself");
            assert_eq!(socket.receive().await.1.dst_ip, Some(to.parse::<std::net::SocketAddr>().unwrap().ip()));
        }
        // One family does not speak the other.
        v4.send("[fd00::1]:7".parse().unwrap(), b"?");
        v6.send("10.0.0.1:7".parse().unwrap(), b"?");
        sim.sleep(1.s()).await;
        assert!(v4.received().is_empty() && v6.received().is_empty());
    });
}

#[test]
fn ipv6_alone_is_enough() {
    Sim::run(1, async |sim: Sim| {
        let lan = sim.lan("new").ipv6_only();
        let (a, b) = (station(lan.host("a")), station(lan.host("b")));
        assert!(reaches(&sim, &a, &b).await);
        assert_eq!(takes(&sim, &a, &b, "10.1.0.2".parse().unwrap()).await, None);
    });
}

#[test]
fn cuts_are_one_way_or_both_by_groups_and_for_a_time() {
    Sim::run(1, async |sim: Sim| {
        let lan = sim.lan("office");
        let stations: Vec<Station> = lan.hosts("host", 4).into_iter().map(station).collect();
        let hosts: Vec<Host> = stations.iter().map(|station| station.host.clone()).collect();
        let [a, b, c, d] = &stations[..] else { unreachable!() };

        let cut = sim.cut_one_way(&a.host, &b.host);
        assert!(!reaches(&sim, a, b).await && reaches(&sim, b, a).await);
        // Two cuts of the same hosts: both have to heal.
        let both = sim.cut(&a.host, &b.host);
        cut.heal();
        assert!(!reaches(&sim, a, b).await && !reaches(&sim, b, a).await);
        both.heal();
        assert!(reaches(&sim, a, b).await && reaches(&sim, b, a).await);

        sim.partition(&hosts[..2], &hosts[2..]).during(10.s());
        for (from, to, expected) in [(a, b, true), (c, d, true), (a, c, false), (d, b, false)] {
            assert_eq!(reaches(&sim, from, to).await, expected);
        }
        sim.sleep(10.s()).await;
        assert!(reaches(&sim, a, c).await && reaches(&sim, d, b).await);

        sim.partition_one_way(&hosts[..1], &hosts[1..]);
        assert!(!reaches(&sim, a, d).await && reaches(&sim, d, a).await);
        sim.heal();
        assert!(reaches(&sim, a, d).await);

        // What is on its way arrives.
        a.udp.send(at(&b.host, 1), b"?");
        lan.down();
        assert_eq!(b.udp.within(&sim, 1.s()).await.len(), 1);
        assert!(!reaches(&sim, a, b).await);
        lan.up();
        assert!(reaches(&sim, a, b).await);
    });
}
