//! How many sockets is this one connected to, and who waits for more?

use tokio::sync::watch;

use crate::error::Closed;

/// The number once the node has ended: no wait is longer than that.
const ENDED: usize = usize::MAX;

/// The number of sockets at the other ends of the lanes.
#[derive(Debug)]
pub(super) struct Connected(watch::Sender<usize>);

impl Connected {
    pub(super) fn new() -> Self {
        Self(watch::Sender::new(0))
    }

    /// So many there are now. The end of the node stands.
    pub(super) fn set(&self, now: usize) {
        self.0.send_if_modified(|count| {
            let changed = *count != ENDED && *count != now;
            if changed {
                *count = now;
            }
            changed
        });
    }

    /// Changes with the number.
    pub(super) fn changes(&self) -> watch::Receiver<usize> {
        self.0.subscribe()
    }

    /// The node has ended.
    pub(super) fn end(&self) {
        self.0.send_replace(ENDED);
    }

    /// Waits until so many are connected, or until the node has ended.
    pub(super) async fn at_least(&self, wanted: usize) -> Result<(), Closed> {
        let mut count = self.0.subscribe();
        // The sender lives here: what ends the wait is the value that the end of the node sets.
        let count = count.wait_for(|now| *now >= wanted).await.map_err(|_| Closed)?;
        if *count == ENDED { Err(Closed) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[test]
    fn the_end_of_the_node_stands() {
        let connected = Connected::new();
        connected.set(2);
        assert_eq!(connected.at_least(2).now_or_never(), Some(Ok(())));
        assert_eq!(connected.at_least(3).now_or_never(), None);
        connected.end();
        // A lane that closes afterwards is counted too.
        connected.set(1);
        assert_eq!(connected.at_least(3).now_or_never(), Some(Err(Closed)));
    }
}
