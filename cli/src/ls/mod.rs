//! `meshmq ls`: what the whole mesh does, from any place in it.

mod picture;

use std::io::{self, Write};
use std::time::Duration;

use meshmq::{Node, Snapshot};
use tokio::time::{MissedTickBehavior, interval, timeout};

use crate::args::LsArgs;
use crate::exit::Exit;
use crate::mesh;
use crate::news;
use crate::output::{Say, is_screen, write_json};
use crate::refused::refusal;
use crate::screen::Screen;
use crate::signals::Signals;
use picture::Picture;

/// How long a node may take to answer, unless the user says otherwise.
const ANSWER: Duration = Duration::from_secs(2);
/// How often the picture is made anew; no node answers more often.
const AGAIN: Duration = Duration::from_secs(1);
/// What the node of this command is called, so that others know it for what it is.
pub(crate) const NAME: &str = "meshmq ls";

pub(crate) async fn run(mut args: LsArgs, signals: &Signals) -> anyhow::Result<Exit> {
    let say = Say::new(args.common.quiet, args.common.verbose);
    args.common.name.get_or_insert_with(|| NAME.into());
    let node = mesh::enter(&args.common, say).await?;
    let live = args.watch && !args.common.json && is_screen(&io::stdout());
    if !live {
        tokio::spawn(news::tell(node.events(), say));
    }
    let look = Look { node: &node, answer: args.common.timeout.unwrap_or(ANSWER) };
    let end = tokio::select! {
        biased;
        () = signals.stop() => Ok(Exit::Interrupted),
        end = look.run(&args, live) => end,
    };
    // It has nothing to deliver.
    let _ = node.shutdown(Duration::ZERO).await;
    end
}

struct Look<'a> {
    node: &'a Node,
    answer: Duration,
}

impl Look<'_> {
    async fn run(&self, args: &LsArgs, live: bool) -> anyhow::Result<Exit> {
        self.node.settled().await;
        let end = match args.watch {
            true => self.watch(args, live).await,
            false => self.once(args).await,
        };
        match end {
            // Who reads has seen enough.
            Err(error) if is_closed_pipe(&error) => Ok(Exit::Ok),
            end => end,
        }
    }

    /// Where an address was given there is somebody to wait for: until it is linked, or has refused that.
    async fn met(&self, named: &[String]) {
        let mut events = self.node.events();
        while self.node.metrics().links_opened == 0 && refusal(self.node, named).is_none() {
            if events.recv().await.is_none() {
                return;
            }
        }
    }

    async fn once(&self, args: &LsArgs) -> anyhow::Result<Exit> {
        if !args.common.peers.is_empty() {
            // Too long is no error here: what was tried is told below.
            let _ = timeout(self.answer, self.met(&args.common.peers)).await;
        }
        let first = self.others(self.answer).await;
        if first.nodes.is_empty() {
            return Err(match refusal(self.node, &args.common.peers) {
                Some(refusal) => Exit::Refused.because(refusal),
                None => Exit::TimedOut.because(self.node.search_report()),
            });
        }
        let any =
            first.nodes.iter().filter_map(|node| node.status.as_ref().ok()).any(|status| !status.sockets.is_empty());
        let shown = if any {
            // Their answers come a second after the first ones: long enough to say how fast messages pass.
            let mut second = self.others(AGAIN + self.answer).await;
            second.compare(&first);
            second
        } else {
            first
        };
        io::stdout().write_all(&print(&shown, args))?;
        Ok(Exit::Ok)
    }

    /// Ends with an error, or when it is dropped.
    async fn watch(&self, args: &LsArgs, live: bool) -> anyhow::Result<Exit> {
        let mut screen = if live { Some(Screen::open()?) } else { None };
        let mut earlier: Option<Snapshot> = None;
        let mut again = interval(AGAIN);
        again.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            again.tick().await;
            let wait = if earlier.is_some() { AGAIN } else { Duration::ZERO };
            let mut now = self.others(wait + self.answer).await;
            if let Some(earlier) = &earlier {
                now.compare(earlier);
            }
            let text = print(&now, args);
            match &mut screen {
                Some(screen) => screen.show(&String::from_utf8_lossy(&text))?,
                None => {
                    let gap: &[u8] = if earlier.is_none() || args.common.json { b"" } else { b"\n" };
                    io::stdout().write_all(&[gap, &text].concat())?;
                }
            }
            earlier = Some(now);
        }
    }

    /// The mesh without this command, which is part of it only to look.
    async fn others(&self, wait: Duration) -> Snapshot {
        let mut snapshot = self.node.snapshot(wait).await;
        let own = self.node.id();
        snapshot.nodes.retain(|node| node.id != own);
        for status in snapshot.nodes.iter_mut().filter_map(|node| node.status.as_mut().ok()) {
            status.links.retain(|link| link.node != own);
        }
        snapshot
    }
}

fn print(snapshot: &Snapshot, args: &LsArgs) -> Vec<u8> {
    let mut out = Vec::new();
    match args.common.json {
        true => write_json(snapshot, &mut out),
        false => out.extend(Picture { snapshot, all_links: args.links }.to_string().into_bytes()),
    }
    out
}

fn is_closed_pipe(error: &anyhow::Error) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}
