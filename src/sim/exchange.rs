//! Requests at the pure depth: a requester and three repliers, joined by lanes that are late, half lost, and lost, with what
//! goes wrong drawn from a seed, or by proptest, which finds the shortest run.
//!
//! What is real here: every byte of a lane, all wakers, all credit, all deadlines. A host is its one socket; who is there
//! is known to it at once, and time passes when the run says so.

mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::*};
use std::task::{Poll, Wake, Waker};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};

pub(super) use self::tests::BUGS;
use super::random::Random;
use crate::id::{NodeId, SocketId};
use crate::pattern::content::Content;
use crate::pattern::lane::LanePeer;
use crate::pattern::push::{Amount, LaneKey};
use crate::pattern::reply::{Answer, WorkKey, Works};
use crate::pattern::request::{Asked, Outcome, Requests, Target};
use crate::wire::control::{Level, OpenLane, SocketKind};
use crate::wire::exchange::{self, to_requester};
use crate::wire::frame;

const MAX_MESSAGE: usize = 1 << 20;
const REPLIERS: usize = 3;

fn node(byte: u8) -> NodeId {
    NodeId::from_bytes([byte; 32])
}

fn open() -> OpenLane {
    let (kind, level) = (SocketKind::Requester, Level::AtMostOnce);
    OpenLane { from: SocketId(1), to: SocketId(2), kind, level, epoch: 7, base: 0, taken: false }
}

/// Whoever sleeps is asked again only when it was woken.
#[derive(Debug)]
struct Flag(AtomicBool);

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Release);
    }
}

#[derive(Debug, Clone)]
struct Sleeper(Arc<Flag>);

impl Sleeper {
    fn new() -> Self {
        Self(Arc::new(Flag(AtomicBool::new(true))))
    }

    fn is_up(&self) -> bool {
        self.0.0.swap(false, AcqRel)
    }

    fn is_waking(&self) -> bool {
        self.0.0.load(Acquire)
    }

    fn stay_up(&self) {
        self.0.0.store(true, Release);
    }

    fn waker(&self) -> Waker {
        self.0.clone().into()
    }
}

/// One life of a replier.
struct Replier {
    works: Works,
    life: u64,
    open: bool,
}

struct Wire {
    replier: usize,
    life: u64,
    asking: LaneKey,
    /// `None`: the opening frame has not arrived.
    replying: Option<LaneKey>,
    opening: BytesMut,
    forth: BytesMut,
    back: BytesMut,
    writers: [Sleeper; 2],
}

/// A request, as whoever has asked knows it.
struct Waiting {
    sleeper: Sleeper,
    to: Option<usize>,
}

#[derive(Debug, Clone, Copy)]
struct InHand {
    replier: usize,
    life: u64,
    key: WorkKey,
    number: u64,
}

struct World {
    requests: Requests,
    repliers: Vec<Replier>,
    wires: Vec<Wire>,
    /// Lanes that are lost, and of which their repliers do not know yet: replier, life, lane.
    stale: Vec<(usize, u64, LaneKey)>,
    now: Instant,
    waiting: BTreeMap<u64, Waiting>,
    /// When each was asked, and its deadline.
    asked: BTreeMap<u64, (Instant, Instant)>,
    /// Repliers that have said of a request that they are busy.
    refused: BTreeSet<(u64, usize)>,
    outcomes: BTreeMap<u64, Outcome>,
    dropped: BTreeSet<u64>,
    /// By number: the lives whose applications were handed it.
    runs: BTreeMap<u64, Vec<u64>>,
    hands: Vec<InHand>,
    next_life: u64,
    limit: u64,
    bound: Amount,
}

impl World {
    fn new(bound: Amount, limit: u64) -> Self {
        let mut world = Self {
            requests: Requests::new(bound, 7),
            repliers: Vec::new(),
            wires: Vec::new(),
            stale: Vec::new(),
            now: Instant::now(),
            waiting: BTreeMap::new(),
            asked: BTreeMap::new(),
            refused: BTreeSet::new(),
            outcomes: BTreeMap::new(),
            dropped: BTreeSet::new(),
            runs: BTreeMap::new(),
            hands: Vec::new(),
            next_life: 0,
            limit,
            bound,
        };
        for _ in 0..REPLIERS {
            let replier = world.start();
            world.repliers.push(replier);
        }
        world
    }

    fn start(&mut self) -> Replier {
        self.next_life += 1;
        Replier { works: Works::new(self.limit), life: self.next_life, open: true }
    }

    /// Wakes who is to be woken, and looks for those who have what they wait for.
    fn settle(&mut self) {
        let effects = self.requests.take_effects();
        effects.wakers.into_iter().for_each(Waker::wake);
        if effects.look {
            let there = |wire: &Wire| (node(wire.replier as u8), SocketId(wire.replier as u64));
            let there: Vec<_> = self.wires.iter().map(there).collect();
            self.requests.nobody_there(&there);
            self.requests.take_effects().wakers.into_iter().for_each(Waker::wake);
        }
        for replier in &mut self.repliers {
            replier.works.take_effects().wakers.into_iter().for_each(Waker::wake);
        }
        let up: Vec<_> =
            self.waiting.iter().filter(|(_, waiting)| waiting.sleeper.is_up()).map(|(number, _)| *number).collect();
        for number in up {
            let waker = self.waiting[&number].sleeper.waker();
            if let Poll::Ready(outcome) = self.requests.poll(number, &waker) {
                let waiting = self.waiting.remove(&number);
                if outcome == Outcome::Busy {
                    self.check_busy(number, waiting.and_then(|waiting| waiting.to));
                }
                assert!(self.outcomes.insert(number, outcome).is_none(), "request {number} has ended twice");
            }
        }
    }

    /// Everybody who could have answered has refused.
    fn check_busy(&self, number: u64, to: Option<usize>) {
        let could = self.wires.iter().map(|wire| wire.replier).filter(|replier| to.is_none_or(|to| to == *replier));
        for replier in could.filter(|replier| self.repliers[*replier].open) {
            let refused = self.refused.contains(&(number, replier));
            assert!(refused, "request {number} ended as busy, and replier {replier} was not asked");
        }
    }

    fn ask(&mut self, size: usize, idempotent: bool, patient: bool, to: Option<usize>, millis: u64) {
        let target = to.map_or(Target::Anybody, |to| Target::Node(node(to as u8)));
        let deadline = self.now + Duration::from_millis(millis);
        let mut body = self.requests.asked().to_le_bytes().to_vec();
        body.resize(size, 0xab);
        let content = Content { headers: Bytes::new(), body: body.into() };
        if let Ok(number) = self.requests.ask(Asked { content, deadline, idempotent, patient, target }) {
            self.waiting.insert(number, Waiting { sleeper: Sleeper::new(), to });
            self.asked.insert(number, (self.now, deadline));
        }
    }

    fn connect(&mut self, at: usize) {
        if !self.repliers[at].open || self.wires.iter().any(|wire| wire.replier == at) {
            return;
        }
        let peer = LanePeer {
            node: node(at as u8),
            socket: SocketId(at as u64),
            slots: false,
            max_message: MAX_MESSAGE,
            link: 0,
        };
        let asking = self.requests.open_lane(peer, &open());
        self.wires.push(Wire {
            replier: at,
            life: self.repliers[at].life,
            asking,
            replying: None,
            opening: BytesMut::new(),
            forth: BytesMut::new(),
            back: BytesMut::new(),
            writers: [Sleeper::new(), Sleeper::new()],
        });
    }

    /// The lane is lost, with all that is under way. Its replier notices later.
    fn disconnect(&mut self, at: usize) {
        let wire = self.wires.remove(at);
        self.requests.close_lane(wire.asking);
        self.stale.extend(wire.replying.map(|key| (wire.replier, wire.life, key)));
    }

    fn notice(&mut self) {
        for (at, life, key) in std::mem::take(&mut self.stale) {
            if self.repliers[at].life == life {
                self.repliers[at].works.close_lane(key);
            }
        }
    }

    fn crash(&mut self, at: usize) {
        while let Some(wire) = self.wires.iter().position(|wire| wire.replier == at) {
            self.disconnect(wire);
        }
        let life = self.repliers[at].life;
        self.hands.retain(|hand| hand.life != life);
        self.repliers[at] = self.start();
    }

    fn close(&mut self, at: usize) {
        self.repliers[at].open = false;
        self.repliers[at].works.drain();
    }

    fn forth(&mut self, at: usize, most: usize) {
        let wire = &mut self.wires[at];
        if wire.writers[0].is_up() {
            let mut out = Vec::new();
            if self.requests.take_outgoing(wire.asking, self.now, &wire.writers[0].waker(), &mut out) {
                wire.writers[0].stay_up();
            }
            out.iter().for_each(|chunk| wire.forth.extend_from_slice(chunk));
        }
        let mut chunk = wire.forth.split_to(most.min(wire.forth.len()));
        let works = &mut self.repliers[wire.replier].works;
        if wire.replying.is_none() {
            wire.opening.extend_from_slice(&chunk);
            let Some(open) = frame::split_open(&mut wire.opening).unwrap() else { return };
            let peer =
                LanePeer { node: node(100), socket: SocketId(1), slots: false, max_message: MAX_MESSAGE, link: 0 };
            wire.replying = Some(works.accept_lane(peer, &open));
            chunk = std::mem::take(&mut wire.opening);
        }
        let key = wire.replying.expect("just accepted");
        works.handle_incoming(key, &mut [chunk.freeze()], self.now, MAX_MESSAGE).expect("both are honest");
        if wire.forth.is_empty() && !wire.writers[0].is_waking() {
            // The replier has heard all that was said.
            for id in works.open_on(key) {
                assert!(self.requests.asks(wire.asking, id), "nobody waits for request {id}, and it is worked on");
            }
        }
    }

    fn back(&mut self, at: usize, most: usize) {
        let wire = &mut self.wires[at];
        let Some(key) = wire.replying else { return };
        if wire.writers[1].is_up() {
            let mut out = Vec::new();
            if self.repliers[wire.replier].works.take_outgoing(key, &wire.writers[1].waker(), &mut out) {
                wire.writers[1].stay_up();
            }
            let bytes = out.concat();
            let mut rest = &bytes[..];
            while let Some((kind, payload)) = exchange::find(rest).unwrap() {
                if kind == to_requester::BUSY {
                    self.refused.insert((exchange::read_number(&rest[payload.clone()]).unwrap(), wire.replier));
                }
                rest = &rest[payload.end..];
            }
            wire.back.extend_from_slice(&bytes);
        }
        let chunk = wire.back.split_to(most.min(wire.back.len()));
        self.requests
            .handle_incoming(wire.asking, &mut [chunk.freeze()], self.now, MAX_MESSAGE)
            .expect("both are honest");
        if self.requests.is_finished(wire.asking) && wire.back.is_empty() && wire.forth.is_empty() {
            self.disconnect(at);
        }
    }

    fn claim(&mut self, at: usize) {
        let Replier { works, life, .. } = &mut self.repliers[at];
        while let Ok(Some(handed)) = works.claim(None) {
            let number = u64::from_le_bytes(handed.content.body[..8].try_into().unwrap());
            assert_eq!(handed.id, number, "each body is its own request's");
            let runs = self.runs.entry(number).or_default();
            assert!(handed.idempotent || runs.is_empty(), "request {number} was handed out twice");
            assert!(!runs.contains(life), "request {number} was handed out twice by one replier");
            runs.push(*life);
            let (asked, deadline) = self.asked[&number];
            let latest = deadline + (self.now - asked);
            assert!(handed.deadline <= latest, "the deadline of request {number} was not carried");
            self.hands.push(InHand { replier: at, life: *life, key: handed.key, number });
        }
    }

    fn answer(&mut self, hand: usize, how: u8, size: usize) {
        let InHand { replier, key, number, .. } = self.hands.swap_remove(hand);
        let mut body = number.to_le_bytes().to_vec();
        body.resize(size.max(8), 0xcd);
        let answer = match how {
            0 => Answer::Failed { code: "no".into(), message: number.to_string() },
            _ => Answer::Reply(Content { headers: Bytes::new(), body: body.into() }),
        };
        self.repliers[replier].works.answer(key, answer);
    }

    fn pass(&mut self, millis: u64) {
        self.now += Duration::from_millis(millis);
        self.requests.expire(self.now);
        for replier in &mut self.repliers {
            replier.works.expire(self.now);
        }
    }

    fn check(&mut self) {
        self.settle();
        let counts = self.requests.counts;
        let ended = counts.replied
            + counts.failed
            + counts.no_replier
            + counts.busy
            + counts.not_sent
            + counts.unknown
            + counts.timed_out
            + counts.too_large
            + counts.closed
            + counts.cancelled;
        assert_eq!(self.requests.asked(), ended + self.requests.open(), "each is open or has ended");
        let (used, most) = (self.requests.used(), self.bound);
        assert!(used.messages <= most.messages.max(1) && (used.messages == 1 || used.bytes <= most.bytes), "{used:?}");
        for number in self.waiting.keys() {
            assert!(self.asked[number].1 > self.now, "request {number} is open after its time");
        }
        for replier in &self.repliers {
            let figures = replier.works.figures();
            assert!(figures.arriving + figures.waiting + figures.in_hand <= self.limit, "more than the limit");
            let counts = replier.works.counts;
            let over =
                counts.replied + counts.failed + counts.cancelled + counts.expired + counts.lost + counts.returned;
            assert_eq!(counts.received, over + figures.arriving + figures.waiting + figures.in_hand);
        }
    }

    /// What was told is true.
    fn judge(&self) {
        for (number, outcome) in &self.outcomes {
            let runs = self.runs.get(number).map_or(0, Vec::len);
            match outcome {
                Outcome::Replied { content, .. } => {
                    let answered = u64::from_le_bytes(content.body[..8].try_into().unwrap());
                    assert_eq!(answered, *number, "a reply to another request");
                    assert!(runs > 0, "a reply of nobody");
                }
                Outcome::Failed { message, .. } => assert_eq!(*message, number.to_string()),
                Outcome::TimedOut | Outcome::Unknown(_) => {}
                other => assert_eq!(runs, 0, "request {number} was handed out, and its end is {other:?}"),
            }
        }
    }

    /// Everything heals, and time passes: in the end nothing is open anywhere.
    fn finish(&mut self) {
        for _ in 0..40 {
            self.notice();
            for at in 0..self.repliers.len() {
                self.connect(at);
                self.claim(at);
            }
            for at in (0..self.wires.len()).rev() {
                self.forth(at, usize::MAX);
            }
            for at in (0..self.wires.len()).rev() {
                self.back(at, usize::MAX);
            }
            self.check();
            self.pass(100);
            self.check();
        }
        assert_eq!((self.requests.open(), self.waiting.len()), (0, 0), "every request has ended");
        assert_eq!(self.requests.used(), Amount::default(), "all room is free again");
        let told = self.outcomes.len() + self.dropped.len();
        assert_eq!(told as u64, self.requests.asked(), "each was told, once, or was given up");
        for replier in &self.repliers {
            let figures = replier.works.figures();
            assert_eq!((figures.waiting, figures.in_hand, figures.arriving), (0, 0, 0), "nobody works for nobody");
            assert_eq!(figures.bytes, 0, "all credit was given back");
        }
        for wire in &self.wires {
            assert_eq!(self.requests.held(wire.asking), 0, "and that of replies");
        }
        self.judge();
    }
}

#[derive(Debug, Clone)]
enum Step {
    Ask { size: usize, idempotent: bool, patient: bool, to: Option<usize>, millis: u64 },
    Drop(usize),
    Connect(usize),
    Disconnect(usize),
    Notice,
    Crash(usize),
    Close(usize),
    Forth(usize, usize),
    Back(usize, usize),
    Claim(usize),
    Answer(usize, u8, usize),
    Wait(u64),
}

/// What a seed makes.
fn drawn(seed: u64) -> (World, Vec<Step>) {
    let random = &mut Random::new(seed);
    let messages = if random.chance(500) { random.from(1, 4) } else { 1000 };
    let bytes = if random.chance(500) { random.from(100_000, 400_000) } else { 1 << 30 };
    let limit = if random.chance(500) { random.from(1, 3) } else { 1000 };
    let steps = (0..random.below(400)).map(|_| Step::draw(random)).collect();
    (World::new(Amount { messages, bytes }, limit), steps)
}

impl Step {
    fn draw(random: &mut Random) -> Self {
        let size = |random: &mut Random| {
            let long = random.chance(100);
            if long { random.from(60_000, 300_000) as usize } else { random.from(8, 100) as usize }
        };
        let some = |random: &mut Random| match random.below(3) {
            0 => random.from(1, 60) as usize,
            1 => random.from(10_000, 200_000) as usize,
            _ => usize::MAX,
        };
        let at = |random: &mut Random| random.below(REPLIERS as u64) as usize;
        match random.below(46) {
            0..=5 => Self::Ask {
                size: size(random),
                idempotent: random.chance(500),
                patient: random.chance(500),
                to: random.chance(200).then(|| at(random)),
                millis: random.from(1, 2_000),
            },
            6 => Self::Drop(random.below(8) as usize),
            7..=9 => Self::Connect(at(random)),
            10 => Self::Disconnect(at(random)),
            11 | 12 => Self::Notice,
            13 => Self::Crash(at(random)),
            14 => Self::Close(at(random)),
            15..=25 => Self::Forth(at(random), some(random)),
            26..=36 => Self::Back(at(random), some(random)),
            37..=40 => Self::Claim(at(random)),
            41..=44 => Self::Answer(random.below(8) as usize, random.below(4) as u8, size(random)),
            _ => Self::Wait(random.below(400)),
        }
    }
}

fn run(mut world: World, steps: Vec<Step>) {
    for step in steps {
        match step {
            Step::Ask { size, idempotent, patient, to, millis } => world.ask(size, idempotent, patient, to, millis),
            Step::Drop(at) => {
                if let Some(number) = world.waiting.keys().nth(at).copied() {
                    world.waiting.remove(&number);
                    world.dropped.insert(number);
                    world.requests.forget(number, world.now);
                }
            }
            Step::Connect(at) => world.connect(at),
            Step::Disconnect(at) if at < world.wires.len() => world.disconnect(at),
            Step::Notice => world.notice(),
            Step::Crash(at) => world.crash(at),
            // The first one stays.
            Step::Close(at) if at > 0 => world.close(at),
            Step::Forth(at, most) if at < world.wires.len() => world.forth(at, most),
            Step::Back(at, most) if at < world.wires.len() => world.back(at, most),
            Step::Claim(at) => world.claim(at),
            Step::Answer(hand, how, size) if hand < world.hands.len() => world.answer(hand, how, size),
            Step::Wait(millis) => world.pass(millis),
            _ => {}
        }
        world.check();
    }
    world.finish();
}
