//! `meshmq demo`: a mesh of processes counts words while one of them is killed, and nothing is lost.
//!
//! This process pushes pieces of text and pulls the results; each worker is a process that pulls pieces and pushes
//! results. A worker acknowledges a piece only once its result has been acknowledged here. So a killed worker's pieces go
//! to others, and a result can come twice, never not at all: results are told apart by the number of their piece.
//!
//! Meanwhile this process publishes how often the most frequent words were found, and in the end it asks each worker what
//! it has heard of that: in `news`.

mod board;
mod crew;
mod news;
mod plan;
mod show;
mod tally;
mod task;
mod telling;
mod text;
mod worker;

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::env;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use anyhow::Context;
use meshmq::{Delivery, Node, NodeId, Pull};
use tokio::time::{Instant, MissedTickBehavior, interval, timeout, timeout_at};

use crate::args::DemoArgs;
use crate::exit::Exit;
use crate::output::{Tone, counted};
use crate::signals::Signals;
use board::Board;
use crew::{Crew, WORKER};
use news::Teller;
use plan::Plan;
use show::Show;
use tally::{Tally, ranges};
use task::{COUNTS, PIECES, Piece, Report};
use telling::{Outcome, shorten};

pub(crate) use worker::work;

const MESH: &str = "demo";
const LOOPBACK: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);
/// Pieces that are in the mesh, and not in this process's text, at a time.
const PUSHED: (usize, usize) = (64, 64 << 20);
/// The longest that workers may take to join.
const JOINING: Duration = Duration::from_secs(10);
/// The longest that the mesh may take to count, on the slowest machine.
const COUNTING: Duration = Duration::from_secs(60);
/// How often the demo says who has counted what.
const TOLD: Duration = Duration::from_secs(1);
/// How often it publishes how often words were found.
const PUBLISHED: Duration = Duration::from_millis(250);
/// How often it shows that in a picture; also how soon the picture fits a terminal whose size has changed.
const DRAWN: Duration = Duration::from_millis(100);

/// Whether this process is one of the demo's workers.
pub(crate) fn is_worker() -> bool {
    env::args_os().nth(1).is_some_and(|word| word == WORKER)
}

pub(crate) async fn run(args: DemoArgs, signals: &Signals) -> anyhow::Result<Exit> {
    let folder = args.folder.clone();
    let workers = usize::from(args.workers);
    // Reading a large folder takes a while, and a signal should not wait for it.
    let plan = tokio::task::spawn_blocking(move || Plan::make(&folder, workers));
    let plan = tokio::select! {
        biased;
        () = signals.stop() => return Ok(Exit::Interrupted),
        plan = plan => plan??,
    };
    let mut crew = Crew::new()?;
    let mut show = Show::new();
    let end = tokio::select! {
        biased;
        () = signals.stop() => Ok(Exit::Interrupted),
        end = story(&args, &plan, &mut crew, &mut show) => end,
    };
    show.settle();
    crew.dismiss().await;
    end
}

async fn story(args: &DemoArgs, plan: &Plan, crew: &mut Crew, show: &mut Show) -> anyhow::Result<Exit> {
    telling::introduce(&args.folder, plan, show);
    let node = Node::builder(MESH)
        .key(crew.key())
        .name("first")
        .without_mdns()
        .local_folder(crew.folder())
        .listen(LOOPBACK)
        .linger(Duration::ZERO)
        .await?;
    let push = node.push(PIECES).bound(PUSHED.0, PUSHED.1).await?;
    let counts = node.pull(COUNTS).await?;
    let teller = Teller::open(&node, plan).await?;
    show.go_live(telling::title(&args.folder));
    crew.say = show.say();
    let mut demo = Demo {
        counts: &counts,
        teller,
        crew,
        show,
        tally: Tally::new(plan.pieces()),
        recent: Vec::new(),
        killed: None,
        moved: BTreeSet::new(),
    };
    demo.gather(usize::from(args.workers), &node).await?;
    let sending = async {
        for (number, text) in plan.iter() {
            push.send(Piece { number, times: plan.times }.encode(text)).await?;
        }
        push.flush().await?;
        anyhow::Ok(())
    };
    // Reports are heard until the last piece is acknowledged, not only until all are counted: a result that comes twice has
    // to be taken as well, or its worker would wait for ever.
    let all = async {
        tokio::select! {
            biased;
            sent = sending => sent,
            Err(error) = demo.follow() => Err(error),
        }
    };
    timeout(COUNTING, all)
        .await
        .map_err(|_| Exit::TimedOut.because(format!("the mesh has not counted everything in {COUNTING:?}")))??;
    demo.tell();
    let living = demo.crew.members.iter().filter(|member| member.killed.is_none()).count();
    let asked = demo.teller.ask(demo.tally.words(), living).await?;
    demo.show.settle();
    let outcome = Outcome {
        found: demo.tally.words(),
        in_hand: demo.killed.as_ref().map(|(_, in_hand)| in_hand),
        moved: &demo.moved,
        twice: demo.tally.twice,
        asked,
    };
    telling::conclude(plan, &outcome, demo.show);
    Ok(if outcome.holds(&plan.expected()) { Exit::Ok } else { Exit::Failed })
}

/// The demo while it runs.
struct Demo<'a> {
    counts: &'a Pull,
    teller: Teller,
    crew: &'a mut Crew,
    show: &'a mut Show,
    tally: Tally<NodeId>,
    /// What each worker has counted since it was last told.
    recent: Vec<BTreeSet<u32>>,
    /// The worker that was killed, and what it had begun.
    killed: Option<(usize, BTreeSet<u32>)>,
    /// Pieces that went to another worker after the kill.
    moved: BTreeSet<u32>,
}

impl Demo<'_> {
    /// Starts the workers and waits until each has reported over the mesh.
    async fn gather(&mut self, workers: usize, node: &Node) -> anyhow::Result<()> {
        self.show.start();
        for _ in 0..workers {
            self.crew.hire().await?;
            self.draw();
        }
        let deadline = Instant::now() + JOINING;
        while self.crew.members.iter().any(|member| member.node.is_none()) {
            let delivery = timeout_at(deadline, self.counts.recv())
                .await
                .map_err(|_| Exit::TimedOut.because(format!("not all workers have joined in {JOINING:?}")))??;
            self.hear(delivery)?;
            self.draw();
        }
        if !self.show.is_live() {
            let (pid, id) = (std::process::id(), node.id().short());
            self.show.row("first", format_args!("pid {pid:<8} node {id}  pushes the pieces"));
            for member in &self.crew.members {
                let node = member.node.map(|node| node.short()).unwrap_or_default();
                self.show.row(member.name, format_args!("pid {:<8} node {node}  counts", member.pid));
            }
        }
        let seconds = self.show.seconds();
        self.show.row("", format_args!("{} processes, one mesh, after {seconds:.2} s", workers + 1));
        self.show.gap();
        self.show.start();
        Ok(())
    }

    /// Hears what the workers report, and kills one of them on the way. Ends only with an error.
    async fn follow(&mut self) -> anyhow::Result<Infallible> {
        let mut told = interval(if self.show.is_live() { DRAWN } else { TOLD });
        told.set_missed_tick_behavior(MissedTickBehavior::Delay);
        told.reset();
        let mut published = interval(PUBLISHED);
        published.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                _ = told.tick() => self.tell(),
                _ = published.tick() => self.teller.tell(self.tally.words()).await?,
                delivery = self.counts.recv() => {
                    if let Some(worker) = self.hear(delivery?)? && self.is_time_to_kill() {
                        self.kill(worker).await?;
                    }
                }
            }
        }
    }

    /// Takes over a report, and acknowledges it. Says which worker has just begun a piece.
    fn hear(&mut self, delivery: Delivery) -> anyhow::Result<Option<usize>> {
        let node = delivery.sender();
        let report = Report::decode(&delivery).context("a report that cannot be read")?;
        let begun = match report {
            Report::Here { name } => {
                let member = self.crew.members.iter_mut().find(|member| member.name == name);
                let member = member.context("a report of somebody unknown")?;
                (member.node, member.joined) = (Some(node), Some(std::time::Instant::now()));
                self.greet_late(node);
                None
            }
            Report::Begun { piece, attempt } => {
                self.tally.begun(node, piece);
                let worker = self.crew.find(node);
                if let Some(worker) = worker
                    && attempt > 1
                {
                    self.tell_moved(worker, piece, attempt);
                }
                worker
            }
            Report::Counted { piece, words, .. } => {
                self.tally.counted(node, piece, &words);
                if let Some(worker) = self.crew.find(node) {
                    self.recent.resize_with(self.crew.members.len(), BTreeSet::new);
                    self.recent[worker].insert(piece);
                }
                None
            }
        };
        delivery.ack();
        Ok(begun)
    }

    /// With a third of the work done, everybody has pieces in hand.
    fn is_time_to_kill(&self) -> bool {
        self.killed.is_none() && self.tally.done() * 3 >= self.tally.pieces()
    }

    async fn kill(&mut self, worker: usize) -> anyhow::Result<()> {
        let member = &mut self.crew.members[worker];
        let (name, pid) = (member.name, member.pid);
        member.kill().await;
        let node = member.node.context("only who has reported is killed")?;
        self.tell();
        let in_hand = self.tally.in_hand(node);
        let text = format_args!("{name} is killed (SIGKILL, pid {pid}) while it counts piece {}", ranges(&in_hand));
        self.show.event(Tone::Bad, text);
        self.killed = Some((worker, in_hand));
        let new = self.crew.hire().await?;
        self.show.event(Tone::Calm, format_args!("{} is started in its place (pid {})", new.name, new.pid));
        Ok(())
    }

    fn greet_late(&mut self, node: NodeId) {
        if self.killed.is_some()
            && let Some(worker) = self.crew.find(node)
        {
            let name = self.crew.members[worker].name;
            self.show.event(Tone::Calm, format_args!("{name} has joined the mesh, node {}", node.short()));
        }
    }

    fn tell_moved(&mut self, worker: usize, piece: u32, attempt: u32) {
        let to = self.crew.members[worker].name;
        let from = match &self.killed {
            Some((killed, in_hand)) if in_hand.contains(&piece) => {
                format!(", which {} had begun,", self.crew.members[*killed].name)
            }
            Some((killed, _)) => format!(", which waited at {},", self.crew.members[*killed].name),
            None => String::new(),
        };
        self.moved.insert(piece);
        self.show.event(Tone::Good, format_args!("piece {piece}{from} is now with {to}: attempt {attempt}"));
    }

    /// Says who has counted what since this was last said.
    fn tell(&mut self) {
        if self.show.is_live() {
            return self.draw();
        }
        let mut first = true;
        for (member, pieces) in self.crew.members.iter().zip(&mut self.recent) {
            let pieces = std::mem::take(pieces);
            if pieces.is_empty() {
                continue;
            }
            let text = format!(
                "{:<8} {:>10}: {}",
                member.name,
                counted(pieces.len() as u64, "piece"),
                shorten(&ranges(&pieces))
            );
            match std::mem::take(&mut first) {
                true => self.show.event(Tone::Calm, text),
                false => self.show.more(Tone::Calm, text),
            }
        }
    }

    fn draw(&mut self) {
        self.show.draw(Board::of(self.crew, &self.tally, self.show.started()));
    }
}
