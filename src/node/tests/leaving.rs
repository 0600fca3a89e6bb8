//! How a node ends that owes accepted messages.

use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::time::Instant;

use tokio::sync::Notify;
use tracing_subscriber::util::SubscriberInitExt as _;

use super::*;
use crate::pattern::push::lock;

/// What was logged on this thread.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>, Arc<Notify>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        lock(&self.0).extend_from_slice(bytes);
        self.1.notify_one();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Log {
    fn begin(&self) -> tracing::subscriber::DefaultGuard {
        let log = self.clone();
        tracing_subscriber::fmt().with_ansi(false).with_writer(move || log.clone()).set_default()
    }

    fn has(&self, part: &str) -> bool {
        String::from_utf8_lossy(&lock(&self.0)).contains(part)
    }

    async fn says(&self, part: &str) {
        while !self.has(part) {
            self.1.notified().await;
        }
    }
}

/// In a process of its own: whether anybody listens to a place that logs is decided for a whole process.
#[test]
fn who_drops_a_node_on_a_runtime_of_its_own_is_told_what_is_owed_and_what_was_lost() {
    alone("node::tests::leaving::a_node_is_dropped_on_a_runtime_of_its_own");
}

#[tokio::test]
#[ignore = "run by the test before it"]
async fn a_node_is_dropped_on_a_runtime_of_its_own() {
    let (log, key) = (Log::default(), key());
    let _logging = log.begin();
    let board = Board::default();
    let _watcher = on_board(&key, &board).await;
    let node = node(&key).env(world(Some(&board))).linger(Duration::from_millis(50)).on_current_runtime();
    let node = node.await.unwrap();
    let push = node.push("jobs").await.unwrap();
    drop((push, node));
    assert!(!log.has("owes"), "nothing was");

    let node = self::node(&key).env(world(Some(&board))).linger(Duration::from_millis(50)).on_current_runtime();
    let node = node.await.unwrap();
    let push = node.push("jobs").await.unwrap();
    for _ in 0..3 {
        push.send("job").await.unwrap();
    }
    drop((push, node));
    assert!(log.has("owes accepted messages: it drains in the background"));
    log.says("lost=3").await;
}

#[tokio::test]
async fn who_ends_while_it_dials_tells_nothing_of_who_was_dialled() {
    let silent = std::net::UdpSocket::bind(loopback()).unwrap();
    let at = silent.local_addr().unwrap();
    let node = node(&key()).env(world(None)).peer(&at.to_string()).await.unwrap();
    until(|| node.host.hall.lock().addresses.get(&at).is_some_and(|address| address.pace.is_under_way())).await;
    let mut events = node.events();
    node.shutdown(Duration::ZERO).await;
    while let Some(event) = events.recv().await {
        assert!(!matches!(event, Event::NoLink { .. }), "{event:?}");
    }
}

#[tokio::test]
async fn a_panic_does_not_wait_for_work_to_be_taken() {
    let linger = Duration::from_secs(60);
    let node = Node::builder("test").key(key()).without_mdns().without_local().listen(loopback()).linger(linger);
    let node = node.await.unwrap();
    let push = node.push("jobs").await.unwrap();
    push.send("job").await.unwrap();
    drop(push);
    let start = Instant::now();
    let panicked = catch_unwind(AssertUnwindSafe(move || {
        let _node = node;
        panic!("a test's");
    }));
    assert!(panicked.is_err() && start.elapsed() < linger / 2);
}

#[tokio::test]
async fn a_shutdown_ends_with_what_it_waits_for() {
    let (key, board) = (key(), Board::default());
    let (a, b) = (on_board(&key, &board).await, on_board(&key, &board).await);
    let (push, pull) = (a.push("jobs").await.unwrap(), b.pull("jobs").await.unwrap());
    push.send("job").await.unwrap();
    pull.recv().await.unwrap().ack();
    push.flush().await.unwrap();
    // Nothing is owed, over lanes of both directions and none.
    let (_back, forth) = (a.pull("back").await.unwrap(), b.push("back").await.unwrap());
    forth.wait_for_pullers(1).await.unwrap();
    let idle = on_board(&key, &Board::default()).await;
    for node in [a, b, idle] {
        let start = Instant::now();
        assert!(node.shutdown(Duration::from_secs(60)).await.is_empty());
        assert!(start.elapsed() < Duration::from_secs(30), "{:?}", start.elapsed());
    }

    // No lane tells of the end of what nobody has sent yet.
    let alone = on_board(&key, &Board::default()).await;
    let push = alone.push("jobs").await.unwrap();
    let permit = push.reserve(4).await.unwrap();
    let (mut turns, start) = (turns(), Instant::now());
    let shutdown = alone.shutdown(Duration::from_secs(60));
    let dropped = async {
        turns.next().await;
        drop(permit);
    };
    assert!(tokio::join!(shutdown, dropped).0.is_empty());
    assert!(start.elapsed() < Duration::from_secs(30), "{:?}", start.elapsed());
}

#[tokio::test]
async fn a_shut_down_node_says_goodbye_and_hands_back_what_nobody_took() {
    let (key, board) = (key(), Board::default());
    let (a, b) = (on_board(&key, &board).await, on_board(&key, &board).await);
    b.wait_for_peers(1).await.unwrap();
    a.wait_for_peers(1).await.unwrap();
    let mut events = b.events();
    let push = a.push("jobs").await.unwrap();
    push.send("one").await.unwrap();
    push.send("two").await.unwrap();
    let again = a.clone();
    let (undelivered, second) =
        tokio::join!(a.shutdown(Duration::from_millis(50)), again.shutdown(Duration::from_secs(9)));
    let bodies: Vec<_> = undelivered.into_iter().map(|message| (message.channel, message.body)).collect();
    assert_eq!(bodies, [("jobs".into(), "one".into()), ("jobs".into(), "two".into())]);
    assert!(second.is_empty());
    let metrics = push.metrics();
    assert_eq!((metrics.accepted, metrics.queued, metrics.in_flight, metrics.handed_back), (2, 0, 0, 2));
    assert_eq!((metrics.bytes, metrics.oldest), (0, None));
    assert!(push.send("three").await.is_err());
    assert!(a.pull("jobs").await.is_err());
    assert!(a.wait_for_peers(9).await.is_err());
    let Event::PeerLeft { node, why, .. } = event(&mut events, |event| matches!(event, Event::PeerLeft { .. })).await
    else {
        unreachable!()
    };
    assert_eq!(node, a.id());
    assert!(why.contains("shut down"), "{why}");
    assert!(b.peers().is_empty());
}

#[tokio::test]
async fn what_is_in_hand_can_be_answered_while_its_node_drains() {
    let (key, board) = (key(), Board::default());
    let (a, b) = (on_board(&key, &board).await, on_board(&key, &board).await);
    let push = a.push("jobs").await.unwrap();
    let pull = b.pull("jobs").await.unwrap();
    push.send("one").await.unwrap();
    let job = pull.recv().await.unwrap();
    let shutdown = b.shutdown(Duration::from_secs(30));
    let answered = async {
        assert!(pull.recv().await.is_err(), "nothing more is handed out");
        job.ack();
    };
    assert!(tokio::join!(shutdown, answered).0.is_empty());
    push.flush().await.unwrap();
    assert_eq!(push.metrics().handled, 1);
    assert!(a.shutdown(Duration::from_secs(30)).await.is_empty());
}

#[tokio::test]
async fn the_last_drop_waits_for_what_somebody_can_take() {
    let key = key();
    let worker = node(&key).env(world(None)).await.unwrap();
    let at = worker.local_addr().to_string();
    let pull = worker.pull("jobs").await.unwrap();
    // An application without a runtime, whose node has a thread of its own.
    let application = std::thread::spawn(move || {
        let run = tokio::runtime::Builder::new_current_thread().build().unwrap();
        run.block_on(async {
            let node = Node::builder("test")
                .key(key)
                .without_mdns()
                .without_local()
                .listen(loopback())
                .peer(&at)
                .await
                .unwrap();
            let push = node.push("jobs").await.unwrap();
            for job in 0..1_000 {
                push.send(format!("{job}")).await.unwrap();
            }
            drop(push);
            drop(node);
        });
    });
    for job in 0..1_000 {
        let delivery = pull.recv().await.unwrap();
        assert_eq!(&delivery[..], format!("{job}").as_bytes());
        delivery.ack();
    }
    // This runtime is the worker's: it has to go on.
    tokio::task::spawn_blocking(|| application.join().unwrap()).await.unwrap();
}
