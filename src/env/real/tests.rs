use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use quinn_udp::Transmit;

use super::*;
use crate::env::block_on;

#[test]
fn timers_tasks_and_look_up_work_from_a_thread_block_on() {
    let own = OwnThread::start().unwrap();
    let env = own.env();
    let before = env.now();
    block_on(env.sleep(Duration::from_millis(20)));
    assert!(env.now() >= before + Duration::from_millis(20));

    let (tell, told) = oneshot::channel();
    env.spawn(async move { tell.send(thread::current().name().map(str::to_owned)).unwrap() });
    assert_eq!(block_on(told).unwrap().as_deref(), Some("meshmq"));

    let found = block_on(env.network.resolve("127.0.0.1".into(), 7)).unwrap();
    assert_eq!(found, [SocketAddr::from(([127, 0, 0, 1], 7))]);
    own.join();
}

#[test]
fn timers_outlive_their_runtime() {
    let own = OwnThread::start().unwrap();
    let env = own.env();
    let waiting = thread::spawn({
        let env = env.clone();
        move || block_on(env.sleep(Duration::from_secs(3600)))
    });
    own.join();
    own.join();
    waiting.join().unwrap();
    block_on(env.sleep(Duration::from_secs(3600)));
    env.spawn(async { panic!("nothing runs any more") });
}

#[test]
fn the_end_drops_every_task_and_a_task_may_ask_for_it() {
    struct Dropped(Arc<AtomicBool>);
    impl Drop for Dropped {
        fn drop(&mut self) {
            self.0.store(true, Ordering::SeqCst);
        }
    }
    let own = Arc::new(OwnThread::start().unwrap());
    let env = own.env();
    let dropped = Arc::new(AtomicBool::new(false));
    let held = Dropped(dropped.clone());
    env.spawn(async move {
        std::future::pending::<()>().await;
        drop(held);
    });
    own.join();
    assert!(dropped.load(Ordering::SeqCst));

    let own = Arc::new(OwnThread::start().unwrap());
    let (tell, told) = std::sync::mpsc::channel();
    let asking = own.clone();
    own.env().spawn(async move {
        asking.join();
        tell.send(()).unwrap();
    });
    told.recv_timeout(Duration::from_secs(10)).expect("it does not wait for itself");
}

#[tokio::test]
async fn two_worlds_differ() {
    let (one, two) = (Env::real(Handle::current()), Env::real(Handle::current()));
    assert_ne!(one.random_u64().unwrap(), two.random_u64().unwrap());
}

#[tokio::test]
async fn an_unspecified_v6_port_takes_v4() {
    let env = Env::real(Handle::current());
    let socket = env.network.bind((Ipv6Addr::UNSPECIFIED, 0).into()).unwrap();
    let to = SocketAddr::from((Ipv4Addr::LOCALHOST, socket.local_addr().unwrap().port()));
    let client = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    client.send_to(b"hello", to).unwrap();

    let mut buffer = vec![0; 65_536];
    let mut meta = [quinn_udp::RecvMeta::default()];
    std::future::poll_fn(|cx| socket.poll_recv(cx, &mut [io::IoSliceMut::new(&mut buffer)], &mut meta)).await.unwrap();
    assert_eq!(&buffer[..meta[0].len], b"hello");
    assert_eq!(meta[0].addr.port(), client.local_addr().unwrap().port());
}

#[tokio::test]
async fn packets_are_large_towards_this_host_only() {
    let network = Env::real(Handle::current()).network;
    assert_eq!(network.largest_payload(Ipv4Addr::LOCALHOST.into()), Payload::Certain(65_488));
    assert_eq!(network.largest_payload(Ipv4Addr::LOCALHOST.to_ipv6_mapped().into()), Payload::Certain(65_488));
    // Reserved for documentation: no host has it.
    assert_eq!(network.largest_payload([192, 0, 2, 1].into()), Payload::AtMost(1452));
}

#[test]
fn a_transmit_is_split_at_segments() {
    let contents = vec![0; 95];
    let lengths = |segment_size, limit| {
        let destination = SocketAddr::from(([127, 0, 0, 1], 1));
        let whole = Transmit { destination, ecn: None, contents: &contents, segment_size, src_ip: None };
        udp::split(&whole, limit).map(|part| (part.contents.len(), part.segment_size)).collect::<Vec<_>>()
    };
    assert_eq!(lengths(None, 100), [(95, None)]);
    assert_eq!(lengths(None, 50), [(95, None)], "one packet is not to be cut");
    assert_eq!(lengths(Some(10), 100), [(95, Some(10))]);
    assert_eq!(lengths(Some(10), 49), [(40, Some(10)), (40, Some(10)), (15, Some(10))]);
    assert_eq!(lengths(Some(30), 49), [(30, None), (30, None), (30, None), (5, None)]);
}
