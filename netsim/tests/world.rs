//! The simulated world by itself: time, packets, hosts, and what a failed run says.

#![allow(clippy::unwrap_used)]

use std::io::{self, IoSliceMut};
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use netsim::{Host, Link, Run, Sim};
use quinn::AsyncUdpSocket;
use quinn::udp::{RecvMeta, Transmit};

#[test]
fn time_is_exact_to_the_nanosecond_and_things_happen_in_its_order() {
    let Run { value, trace, .. } = Sim::run(1, async |sim: Sim| {
        let order = Arc::new(Mutex::new(Vec::new()));
        let host = sim.host("a");
        let waits = [3_000_001, 700, 2_999_999, 701, 1_000_000, 0].map(Duration::from_nanos);
        let tasks = waits.map(|wait| {
            let (sim, order) = (sim.clone(), order.clone());
            host.spawn(async move {
                sim.sleep(wait).await;
                assert_eq!(sim.elapsed(), wait);
                order.lock().unwrap().push(wait);
            })
        });
        // tokio's own timers count in milliseconds and fit in between.
        tokio::time::sleep(Duration::from_millis(3)).await;
        order.lock().unwrap().push(sim.elapsed());
        for task in tasks {
            task.await.unwrap();
        }
        order.lock().unwrap().clone()
    });
    let expected = [0, 700, 701, 1_000_000, 2_999_999, 3_000_000, 3_000_001].map(Duration::from_nanos);
    assert_eq!(value, expected);
    assert_eq!(trace.time, Duration::from_nanos(3_000_001));
}

#[test]
fn a_packet_takes_what_the_link_says() {
    Sim::run(1, async |sim: Sim| {
        let (a, b) = (sim.host("a"), sim.host("b"));
        sim.set_link(Link::lan().latency(Duration::from_secs(9)));
        sim.set_link_between(&b, &a, Link::lan().latency(Duration::from_nanos(1234)).jitter(Duration::ZERO));
        let (from, to) = (bind(&a, "0.0.0.0:1"), bind(&b, "10.0.0.2:2"));
        send(&*from, "10.0.0.2:2", b"hello");
        let (bytes, meta) = receive(&*to).await;
        assert_eq!(sim.elapsed(), Duration::from_nanos(1234));
        assert_eq!((bytes.as_slice(), meta.addr, meta.dst_ip), (&b"hello"[..], address("10.0.0.1:1"), Some(b.ip())));
    });
}

#[test]
fn a_segmented_send_is_many_packets_and_a_duplicate_arrives_twice() {
    let Run { trace, .. } = Sim::run(1, async |sim: Sim| {
        let (a, b) = (sim.host("a"), sim.host("b"));
        sim.set_link(Link::lan().duplicates(1.0).jitter(Duration::ZERO));
        let (from, to) = (bind(&a, "0.0.0.0:0"), bind(&b, "0.0.0.0:2"));
        let transmit = Transmit {
            destination: address("10.0.0.2:2"),
            ecn: None,
            contents: b"aabbc",
            segment_size: Some(2),
            src_ip: None,
        };
        from.try_send(&transmit).unwrap();
        for expected in ["aa", "aa", "bb", "bb", "c", "c"] {
            assert_eq!(receive(&*to).await.0, expected.as_bytes());
        }
    });
    assert_eq!((trace.packets.sent, trace.packets.duplicated), (3, 3));
}

#[test]
fn what_cannot_arrive_is_counted() {
    let Run { trace, .. } = Sim::run(1, async |sim: Sim| {
        let (a, b) = (sim.host("a"), sim.host("b"));
        let from = bind(&a, "0.0.0.0:0");
        send(&*from, "10.0.0.3:2", b"nobody has this address");
        send(&*from, "10.0.0.2:2", b"nobody listens at this port");
        send(&*from, "10.0.0.2:2", &[0; 1473]);
        sim.cut_one_way(&b, &a);
        send(&*bind(&b, "0.0.0.0:0"), "10.0.0.1:49152", b"cut");
        sim.set_link(Link::lan().loss(1.0));
        send(&*from, "10.0.0.2:2", b"lost");
        sim.sleep(Duration::from_secs(1)).await;
    });
    let counts = trace.packets;
    assert_eq!((counts.sent, counts.stopped, counts.unheard, counts.lost), (5, 3, 1, 1));
    assert!(trace.log[2].ends_with("10.0.0.1:49152 → 10.0.0.2:2  1473 B  too large"), "{:#?}", trace.log);
}

#[test]
fn sockets_are_bound_as_on_a_real_host() {
    Sim::run(1, async |sim: Sim| {
        let (a, _b) = (sim.host("a"), sim.host("b"));
        let error = |address| a.bind(self::address(address)).unwrap_err().kind();
        let first = bind(&a, "10.0.0.1:0");
        assert_eq!(first.local_addr().unwrap(), address("10.0.0.1:49152"));
        assert_eq!(error("0.0.0.0:49152"), io::ErrorKind::AddrInUse);
        assert_eq!(error("10.0.0.2:0"), io::ErrorKind::AddrNotAvailable);
        assert_eq!(error("[2001:db8::1]:0"), io::ErrorKind::AddrNotAvailable);
        drop(first);
        assert_eq!(bind(&a, "[::]:49152").local_addr().unwrap(), address("[::]:49152"));
    });
}

#[test]
fn a_dual_stack_socket_sees_mapped_addresses_and_loopback_stays_on_the_host() {
    Sim::run(1, async |sim: Sim| {
        let a = sim.host("a");
        let (dual, plain) = (bind(&a, "[::]:1"), bind(&a, "127.0.0.1:2"));
        send(&*plain, "127.0.0.1:1", b"ping");
        let (_, meta) = receive(&*dual).await;
        assert_eq!(
            (meta.addr, meta.dst_ip),
            (address("[::ffff:127.0.0.1]:2"), Some("::ffff:127.0.0.1".parse().unwrap()))
        );
        send(&*dual, &meta.addr.to_string(), b"pong");
        assert_eq!(receive(&*plain).await.1.addr, address("127.0.0.1:1"));
    });
}

#[test]
fn a_host_draws_its_own_numbers_in_each_life() {
    let draw = |seed, others| {
        Sim::run(seed, async move |sim: Sim| {
            for other in 0..others {
                sim.host(&other.to_string()).random_bytes::<8>();
            }
            let host = sim.host("a");
            let first = host.random_bytes::<8>();
            host.crash();
            host.restart();
            (first, host.random_bytes::<8>())
        })
        .value
    };
    let (first, second) = draw(1, 0);
    assert_ne!(first, second);
    assert_eq!(draw(1, 5), (first, second));
    assert_ne!(draw(2, 0), (first, second));
}

#[test]
fn a_scenario_that_waits_for_what_never_comes_ends() {
    let run = || Sim::builder(1).time_limit(Duration::from_secs(5)).run(async |_| std::future::pending::<()>().await);
    assert_eq!(panic_of(run), "the scenario has not ended within 5s");
}

#[test]
fn a_panic_in_a_task_that_nobody_looks_at_fails_the_run() {
    let run = || {
        Sim::run(1, async |sim: Sim| {
            sim.host("a").spawn(async { panic!("on purpose") });
            sim.sleep(Duration::from_secs(1)).await;
        })
    };
    assert_eq!(panic_of(run), "a task of host `a` has panicked: on purpose");
}

#[test]
fn notes_tell_runs_apart() {
    let run = |text: &'static str| Sim::run(1, async move |sim: Sim| sim.note(text)).trace;
    assert_eq!(run("accepted 1"), run("accepted 1"));
    assert_ne!(run("accepted 1").hash, run("accepted 2").hash);
    assert_eq!(run("accepted 1").log, ["    0.000000000 accepted 1"]);
}

fn bind(host: &Host, at: &str) -> Arc<dyn AsyncUdpSocket> {
    host.bind(address(at)).unwrap()
}

fn send(socket: &dyn AsyncUdpSocket, to: &str, contents: &[u8]) {
    let transmit = Transmit { destination: address(to), ecn: None, contents, segment_size: None, src_ip: None };
    socket.try_send(&transmit).unwrap();
}

async fn receive(socket: &dyn AsyncUdpSocket) -> (Vec<u8>, RecvMeta) {
    let (mut buffer, mut meta) = (vec![0; 2000], [RecvMeta::default()]);
    std::future::poll_fn(|cx| socket.poll_recv(cx, &mut [IoSliceMut::new(&mut buffer)], &mut meta)).await.unwrap();
    buffer.truncate(meta[0].len);
    (buffer, meta[0])
}

fn address(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

fn panic_of<T>(run: impl FnOnce() -> T) -> String {
    let panic = catch_unwind(AssertUnwindSafe(run)).err().expect("the run fails");
    *panic.downcast::<String>().expect("with a message")
}
