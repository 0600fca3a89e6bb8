//! One run: the hosts, what is between them, and what happens next.

use std::sync::OnceLock;
use std::time::{Duration, Instant};

use netsim::check::{Ledger, Left, Links, Name, Violation};
use netsim::sometimes;

use super::connection::Connection;
use super::host::Host;
use super::lane::Lane;
use super::plan::{Hardship, Plan};
use super::queue::Queue;
use super::random::Random;
use super::{Event, Failure, MS, Outcome, SECOND, Time};

/// Names a message: whose it is, of which life, and its sequence.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Id {
    pub(super) host: usize,
    pub(super) life: u32,
    pub(super) sequence: u64,
}

impl std::fmt::Display for Id {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "h{}.{}#{}", self.host, self.life, self.sequence)
    }
}

pub(super) type Checked<T = ()> = Result<T, Violation>;

pub(super) struct World {
    pub(super) now: Time,
    pub(super) random: Random,
    pub(super) queue: Queue,
    pub(super) plan: Plan,
    pub(super) hosts: Vec<Host>,
    pub(super) connections: Vec<Connection>,
    pub(super) lanes: Vec<Lane>,
    pub(super) ledger: Ledger<Id>,
    pub(super) links: Links,
    pub(super) left: Left,
    pub(super) calm: bool,
    /// Everything is settled and every node has ended.
    over: bool,
    /// All nodes shut down, for the last time.
    pub(super) ending: bool,
    hash: u64,
    events: u64,
    log: Option<Vec<String>>,
}

impl World {
    pub(super) fn new(seed: u64, logged: bool) -> Self {
        let mut random = Random::new(seed);
        let plan = Plan::draw(&mut random);
        let mut world = Self {
            now: 0,
            random,
            queue: Queue::default(),
            hosts: Vec::new(),
            connections: Vec::new(),
            lanes: Vec::new(),
            ledger: Ledger::new(),
            links: Links::new(),
            left: Left::new(),
            calm: false,
            over: false,
            ending: false,
            hash: 0xcbf2_9ce4_8422_2325,
            events: 0,
            log: logged.then(Vec::new),
            plan,
        };
        for (nth, role) in world.plan.hosts.iter().enumerate() {
            let name: Name = format!("h{nth}").into();
            world.links.node(name.clone(), "mesh");
            world.hosts.push(Host::new(name, world.plan.ids[nth], world.plan.hosts.len(), role.clone()));
        }
        for host in 0..world.hosts.len() {
            let at = if world.plan.herd { 0 } else { world.random.below(500 * MS) };
            world.queue.at(at, Event::Start(host));
        }
        for (nth, (at, _)) in world.plan.hardships.iter().enumerate() {
            world.queue.at(*at, Event::Hardship(nth));
        }
        if world.plan.liar.is_some() {
            world.queue.at(300 * MS, Event::Lie(0));
        }
        world.queue.at(world.plan.calm, Event::Calm);
        let plan = if logged { format!("{:?}", world.plan) } else { String::new() };
        world.note(|| plan);
        world
    }

    pub(super) fn run(mut self) -> Result<Outcome, Failure> {
        match self.run_through() {
            Ok(messages) => Ok(Outcome { messages, hash: self.hash, events: self.events, time: self.now }),
            Err(violation) => Err(Failure { violation, time: self.now, log: self.log.take().unwrap_or_default() }),
        }
    }

    fn run_through(&mut self) -> Checked<netsim::check::Summary> {
        let mut woken = Vec::new();
        while !self.over {
            let Some((at, due)) = self.queue.pop() else { break };
            let event = due.event;
            self.now = at;
            if let Some(until) = self.paused(event) {
                self.queue.put_off(until, due);
                continue;
            }
            self.events += 1;
            self.mark(at);
            self.happens(event)?;
            self.ledger.check()?;
            self.queue.take_woken(&mut woken);
            for event in woken.drain(..) {
                // A woken task has its turn soon, and others may come first.
                let soon = if self.random.chance(700) { 0 } else { self.random.below(200) };
                self.queue.at(self.now + soon, event);
            }
        }
        self.ledger.finish(self.elapsed())
    }

    fn happens(&mut self, event: Event) -> Checked {
        self.note(|| format!("{event:?}"));
        match event {
            Event::Start(host) => self.start(host),
            Event::Hardship(nth) => self.hardship(self.plan.hardships[nth].1),
            Event::Leave(host, life, drain) => self.leave(host, life, drain),
            Event::Leaving(host, life) => self.leaving(host, life),
            Event::Gone(host, life) => self.gone(host, life),
            Event::Dial(host, life, peer) => self.dial(host, life, peer),
            Event::DialArrives(connection) => self.dial_arrives(connection),
            Event::DiallerUp(connection) => self.adopt(connection, 0),
            Event::AcceptorUp(connection) => self.adopt(connection, 1),
            Event::DialOver(connection) => self.dial_over(connection),
            Event::Control(connection, from) => self.control_arrives(connection, from),
            Event::Heard(connection, end) => self.heard(connection, end),
            Event::Closed(connection, end) => self.connection_lost(connection, end, "the peer has closed it"),
            Event::Close(connection, end) => self.close_connection(connection, end, "goodbye was said"),
            Event::Session(connection, end) => self.session_time(connection, end),
            Event::Arbiter(host, life, peer) => self.arbiter_time(host, life, peer),
            Event::Arrives(lane, from) => self.arrives(lane, from),
            Event::Writer(lane, end) => self.writer(lane, end),
            Event::LaneOver(lane, end) => self.lane_over(lane, end),
            Event::LaneAgain(connection, end, own, their) => self.lane_again(connection, end, own, their),
            Event::Dispatch(host, life) => self.dispatcher(host, life),
            Event::Receive(host, life, receiver) => self.receive(host, life, receiver),
            Event::Done(host, life, receiver) => self.work_done(host, life, receiver),
            Event::Forget(host, life, receiver) => self.forget(host, life, receiver),
            Event::Send(host, life, sender) => self.send(host, life, sender),
            Event::GiveUp(host, life, sender) => self.give_up(host, life, sender),
            Event::Lie(lies) => self.lie(lies),
            Event::Calm => self.calm_down(),
            Event::Check => self.look_whether_over(),
        }
    }

    fn hardship(&mut self, hardship: Hardship) -> Checked {
        self.note(|| format!("{hardship:?}"));
        match hardship {
            Hardship::Crash(host, back) => {
                self.crash(host)?;
                self.queue.at(self.now + back, Event::Start(host));
            }
            Hardship::Pause(host, time) => {
                let until = (self.now + time).min(self.plan.calm);
                self.hosts[host].paused_until = self.hosts[host].paused_until.max(until);
                // Its applications are not the last to wake: they find what was there before.
                let node_until = until + self.random.below(20 * MS);
                self.hosts[host].node_paused_until = self.hosts[host].node_paused_until.max(node_until);
            }
            Hardship::Leave(host, drain, back) => {
                let life = self.hosts[host].life;
                self.leave(host, life, drain)?;
                self.queue.at(self.now + drain + 3 * SECOND + back, Event::Start(host));
            }
            Hardship::LoseLink(a, b, later) => {
                self.given_up(b, self.now + later);
                for connection in self.connections_between(a, b) {
                    let first = self.end_at(connection, a);
                    self.connection_lost(connection, first, "it is lost")?;
                    self.queue.at(self.now + later, Event::Closed(connection, 1 - first));
                }
            }
            Hardship::LoseLanes(host) => self.lose_lanes(host)?,
            Hardship::Dial(a, b) => {
                for (from, to) in [(a, b), (b, a)] {
                    if self.hosts[from].is_running() {
                        self.dial_now(from, to);
                    }
                }
            }
            Hardship::Reopen(host) => self.reopen(host)?,
        }
        Ok(())
    }

    /// The word that a host was given up arrives there at this time; if it stands still then, it reads it when it goes on.
    pub(super) fn given_up(&self, host: usize, at: Time) {
        let pauses = self.plan.hardships.iter().filter_map(|(from, hardship)| match hardship {
            Hardship::Pause(of, time) if *of == host && *from <= at && from + time >= at => Some(from + time),
            _ => None,
        });
        let read = pauses.chain([at]).max().unwrap_or(at);
        self.ledger.given_up(self.hosts[host].name.clone(), Duration::from_micros(read));
    }

    /// Nothing goes wrong any more.
    fn calm_down(&mut self) -> Checked {
        self.calm = true;
        for host in 0..self.hosts.len() {
            self.queue.at(self.now, Event::Start(host));
            self.finish_work(host)?;
        }
        self.queue.at(self.now + 50 * MS, Event::Check);
        Ok(())
    }

    /// In the end all links are there, everything is settled, and nodes end with nothing left to hand back.
    fn look_whether_over(&mut self) -> Checked {
        let waited = self.now - self.plan.calm;
        self.queue.at(self.now + 100 * MS, Event::Check);
        if self.ending && self.hosts.iter().all(|host| !host.up) {
            self.left.check()?;
            self.over = true;
            return Ok(());
        }
        if waited >= SETTLED_WITHIN {
            return self.stalled();
        }
        if self.ending || self.hosts.iter().any(|host| !host.is_running()) {
            return Ok(());
        }
        // Who has come back last has had its time too.
        let running = self.hosts.iter().map(|host| host.started).max().unwrap_or(0).max(self.plan.calm);
        if !self.links_are_there() {
            return if self.now > running + LINKS_WITHIN { self.missing_links() } else { Ok(()) };
        }
        if self.hosts.iter().any(|host| host.is_sending() || host.owes()) {
            return Ok(());
        }
        self.ending = true;
        let together = self.random.chance(500);
        sometimes!("both ends shut down in the same millisecond", together);
        for host in 0..self.hosts.len() {
            self.flushed(host)?;
            let at = self.now + if together { 0 } else { self.random.below(20 * MS) };
            self.queue.at(at, Event::Leave(host, self.hosts[host].life, 5 * SECOND));
        }
        Ok(())
    }

    fn stalled(&self) -> Checked {
        let states: Vec<String> = self.hosts.iter().map(Host::describe).collect();
        let open: Vec<String> = self.lanes.iter().filter_map(Lane::describe).collect();
        let what = format!("{} lanes: {}; {}", open.len(), open.join("; "), states.join("; "));
        let message = self.ledger.finish(self.elapsed()).err().map(|open| open.to_string()).unwrap_or_default();
        Err(Violation::new("what is under way comes to an end", format!("{what}\n{message}")))
    }

    fn paused(&self, event: Event) -> Option<Time> {
        let end_of = |connection: usize, end: usize| self.connections[connection].ends[end].host;
        let host = match event {
            Event::Receive(host, ..)
            | Event::Done(host, ..)
            | Event::Forget(host, ..)
            | Event::Send(host, ..)
            | Event::GiveUp(host, ..) => {
                let until = self.hosts[host].paused_until;
                return (until > self.now).then_some(until);
            }
            Event::Leave(host, ..)
            | Event::Leaving(host, _)
            | Event::Gone(host, _)
            | Event::Dial(host, ..)
            | Event::Arbiter(host, ..)
            | Event::Dispatch(host, _) => host,
            Event::DialArrives(connection) | Event::AcceptorUp(connection) => end_of(connection, 1),
            Event::DiallerUp(connection) | Event::DialOver(connection) => end_of(connection, 0),
            Event::Control(connection, from) => end_of(connection, 1 - from),
            Event::Heard(connection, end)
            | Event::Closed(connection, end)
            | Event::Close(connection, end)
            | Event::Session(connection, end)
            | Event::LaneAgain(connection, end, ..) => end_of(connection, end),
            Event::Arrives(lane, from) => self.lanes[lane].ends[1 - from].host,
            Event::Writer(lane, end) | Event::LaneOver(lane, end) => self.lanes[lane].ends[end].host,
            Event::Start(_) | Event::Hardship(_) | Event::Lie(_) | Event::Calm | Event::Check => return None,
        };
        let until = self.hosts[host].node_paused_until;
        (until > self.now).then_some(until)
    }

    /// How long something takes from one host to another when it is sent now: late when it was lost and sent again, and
    /// not before a cut is over.
    pub(super) fn delay(&mut self, from: usize, to: usize) -> Time {
        let (least, most) = self.plan.latency;
        let mut delay = self.random.from(least, most);
        if !self.calm && self.plan.loss > 0 {
            while self.random.chance(self.plan.loss) {
                delay += (2 * most).max(MS) + self.random.below(20 * MS);
            }
        }
        match self.plan.cut_until(from, to, self.now) {
            Some(until) => until - self.now + delay + self.random.below(200 * MS),
            None => delay,
        }
    }

    pub(super) fn instant(&self) -> Instant {
        start() + self.elapsed()
    }

    pub(super) fn instant_of(&self, at: Time) -> Instant {
        start() + Duration::from_micros(at)
    }

    pub(super) fn time(&self, instant: Instant) -> Time {
        (instant.saturating_duration_since(start()).as_nanos().div_ceil(1000)) as Time
    }

    pub(super) fn elapsed(&self) -> Duration {
        Duration::from_micros(self.now)
    }

    pub(super) fn note(&mut self, line: impl FnOnce() -> String) {
        if let Some(log) = &mut self.log {
            log.push(format!("{}.{:06} {}", self.now / SECOND, self.now % SECOND, line()));
        }
    }

    /// Makes a difference to the hash of the run.
    pub(super) fn mark(&mut self, number: u64) {
        self.hash = (self.hash ^ number).wrapping_mul(0x0100_0000_01b3);
    }
}

/// All runs of a process begin at one instant, as there is no other way to make one.
fn start() -> Instant {
    static START: OnceLock<Instant> = OnceLock::new();
    *START.get_or_init(Instant::now)
}

/// After everything has healed, all links are back: the dials of this model are up to 4 s apart, and a connection that was
/// begun before may take its 5 s to fail.
const LINKS_WITHIN: Time = 12 * SECOND;
/// And everything is settled: the longest back-off is 30 s.
const SETTLED_WITHIN: Time = 200 * SECOND;
