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
        eprintln!("an idle node shuts down in {:?}", start.elapsed());
        assert!(start.elapsed() < Duration::from_secs(1), "{:?}", start.elapsed());
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
