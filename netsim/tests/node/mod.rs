//! Nodes of one mesh, and what they do.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use meshmq::{MeshKey, Node};
use netsim::{Host, Sim};

/// The key of the mesh; a secret would be another in each run.
pub(crate) const KEY: [u8; 32] = [7; 32];

/// A node on this host.
pub(crate) async fn join(host: &Host) -> Node {
    Node::builder("sim").name(host.name()).key(MeshKey::from_bytes(KEY)).env(host.env()).await.unwrap()
}

/// Pushes so many messages, and leaves when all of them are acknowledged.
pub(crate) async fn push_all(host: Host, messages: u32) {
    let node = join(&host).await;
    let push = node.push("jobs").await.unwrap();
    for number in 0..messages {
        push.send(number.to_string()).await.unwrap();
    }
    push.flush().await.unwrap();
    let undelivered = node.shutdown(Duration::from_secs(5)).await;
    assert!(undelivered.is_empty(), "{undelivered:?}");
}

/// Handles what comes, a millisecond each, for as long as its host is up.
pub(crate) async fn work(sim: Sim, host: Host, ledger: Ledger) {
    let node = join(&host).await;
    let pull = node.pull("jobs").await.unwrap();
    loop {
        let message = pull.recv().await.unwrap();
        sim.sleep(Duration::from_millis(1)).await;
        let number = std::str::from_utf8(&message).unwrap().parse().unwrap();
        sim.note(format!("{} handles {number}", host.name()));
        ledger.0.lock().unwrap().push(number);
        message.ack();
    }
}

/// Which messages were handled, in order; it is outside of the simulated world and survives every crash.
#[derive(Clone, Default)]
pub(crate) struct Ledger(Arc<Mutex<Vec<u32>>>);

impl Ledger {
    pub(crate) fn handled(&self) -> Vec<u32> {
        self.0.lock().unwrap().clone()
    }
}
