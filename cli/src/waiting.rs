//! Waiting that is never silent for long, and never longer than the user wants.

use std::future::Future;
use std::pin::pin;
use std::time::{Duration, Instant};

use meshmq::Node;
use tokio::time::sleep;

use crate::args::CommonArgs;
use crate::exit::Exit;
use crate::ls;
use crate::output::Say;
use crate::refused::refusal;
use crate::signals::Signals;
use crate::words::called;

/// After so long without progress a command says what it waits for.
const SILENT: Duration = Duration::from_secs(5);
/// How often a wait looks for progress.
const LOOK: Duration = Duration::from_millis(200);

/// The patience of one command.
pub(crate) struct Waiting<'a> {
    node: &'a Node,
    signals: &'a Signals,
    say: Say,
    timeout: Option<Duration>,
    /// Addresses that the user has named.
    named: &'a [String],
    /// What the progress was when it was last seen to change, and when that was.
    last: (Option<u64>, Instant),
    /// What was said last, so that it is said once.
    said: String,
}

/// How a wait ended.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Waited<T> {
    /// With what was waited for.
    Ready(T),
    /// By a signal.
    Stopped,
    /// Nothing has moved for as long as the user wants to wait.
    TimedOut,
}

impl<'a> Waiting<'a> {
    pub(crate) fn new(node: &'a Node, signals: &'a Signals, say: Say, args: &'a CommonArgs) -> Self {
        let (timeout, named) = (args.timeout, &args.peers[..]);
        Self { node, signals, say, timeout, named, last: (None, Instant::now()), said: String::new() }
    }

    pub(crate) fn signals(&self) -> &'a Signals {
        self.signals
    }

    /// Waits for `future`. `progress` is a number that changes whenever something has moved; `None`: the mesh owes
    /// nothing, and time does not count. `what` says what is waited for.
    pub(crate) async fn on<T>(
        &mut self,
        future: impl Future<Output = T>,
        progress: impl Fn() -> Option<u64>,
        what: impl Fn() -> String,
    ) -> Waited<T> {
        let mut future = pin!(future);
        let look = self.timeout.map_or(LOOK, |timeout| LOOK.min(timeout / 4));
        loop {
            tokio::select! {
                biased;
                () = self.signals.stop() => return Waited::Stopped,
                ready = &mut future => return Waited::Ready(ready),
                () = sleep(look) => {}
            }
            let now = progress();
            if now.is_none() || now != self.last.0 {
                self.last = (now, Instant::now());
                continue;
            }
            let waited = self.last.1.elapsed();
            if self.timeout.is_some_and(|timeout| waited >= timeout) {
                return Waited::TimedOut;
            }
            if waited >= SILENT {
                self.say_once(format!("waiting for {}; {}", what(), self.peers()));
            }
        }
    }

    /// The error of a command that has waited for this in vain.
    pub(crate) fn timed_out(&self, what: &str) -> anyhow::Error {
        match refusal(self.node, self.named) {
            Some(refusal) => Exit::Refused.because(format!("{refusal}; waited in vain for {what}")),
            None => Exit::TimedOut.because(format!("timed out waiting for {what}")),
        }
    }

    fn say_once(&mut self, text: String) {
        if text != self.said {
            self.say.note(&text);
            self.said = text;
        }
    }

    fn peers(&self) -> String {
        let mut peers = self.node.peers();
        // Who only looks is no news, and helps nobody.
        peers.retain(|peer| peer.name != ls::NAME);
        let mesh = self.node.mesh();
        if peers.is_empty() {
            return format!("no other node of mesh {mesh:?} is in sight");
        }
        let shown: Vec<_> = peers.iter().take(8).map(|peer| called(&peer.name, peer.id)).collect();
        let more =
            if peers.len() > shown.len() { format!(" and {} more", peers.len() - shown.len()) } else { String::new() };
        format!("nodes of mesh {mesh:?} in sight: {}{more}", shown.join(", "))
    }
}
