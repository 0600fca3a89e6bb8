//! One run: publishers, subscribers, and the lanes between them.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};

use super::Outcome;
use super::model::{Coming, Handed, Published, Retains, any};
use crate::id::{NodeId, SocketId};
use crate::message::NewMessage;
use crate::pattern::lane::LanePeer;
use crate::pattern::publish::{Next, Options, Policy, Publisher, Refused, StreamView};
use crate::pattern::push::{Amount, LaneKey};
use crate::pattern::subscribe::{At, Claimed, Feed, FeedLane};
use crate::sim::random::Random;
use crate::wire::control::{Level, OpenLane, SocketKind};
use crate::wire::frame;

const TOPICS: &[&str] = &["a", "b", "a.a", "a.b", "b.a", "b.b", "a.a.a", "a.b.c"];
const PATTERNS: &[&str] = &["a", "*", ">", "a.>", "a.*", "*.b", "b.>", "*.*", "a.a", "a.*.c", "*.>"];
const MAX_MESSAGE: usize = 1 << 20;

pub(super) struct News {
    random: Random,
    now: Instant,
    options: Options,
    prefetch: u64,
    strict: bool,
    publishers: Vec<Source>,
    subscribers: Vec<Reader>,
    lanes: BTreeMap<(usize, usize), Pipe>,
    /// Ends of lanes that were lost and do not know it yet.
    dying: Vec<Dying>,
    published: u64,
    /// What each message was published under.
    topics: Vec<&'static str>,
    lives: u64,
    outcome: Outcome,
}

/// A publisher, and what is known of it from outside.
struct Source {
    machine: Publisher,
    epoch: u64,
    retains: Retains,
    /// By the subscriber's life.
    views: BTreeMap<(NodeId, u64), Vec<Coming>>,
}

/// A subscriber, and what its application was handed.
struct Reader {
    feed: Arc<Feed>,
    node: NodeId,
    epoch: u64,
    socket: u64,
    handed: BTreeMap<usize, Handed>,
    /// Publishers that have given it up.
    left: BTreeSet<usize>,
}

/// A lane, and what is under way on it.
struct Pipe {
    key: LaneKey,
    link: u64,
    /// Once its opening frame has come.
    lane: Option<Arc<FeedLane>>,
    opening: BytesMut,
    forth: VecDeque<u8>,
    back: VecDeque<u8>,
    part: BytesMut,
}

enum Dying {
    Publisher(usize, LaneKey),
    Subscriber(Arc<FeedLane>),
}

impl News {
    pub(super) fn new(seed: u64) -> Self {
        let mut random = Random::new(seed);
        let policies = [Policy::DropOldest, Policy::DropNewest, Policy::Latest, Policy::GiveUp, Policy::Block];
        let bound = random.pick(&[1, 2, 5, 20, 1000]);
        let options = Options {
            when_full: random.pick(&policies),
            bound: Amount { messages: bound, bytes: random.pick(&[200, 2000, 1 << 20]) },
            retain_last: random.pick(&[0, 0, 1, 3]),
            retain_bound: Amount { messages: random.pick(&[4, 100]), bytes: 1 << 20 },
            max_message: MAX_MESSAGE,
        };
        let mut world = Self {
            prefetch: random.pick(&[1, 3, 50]),
            strict: random.chance(200),
            now: Instant::now(),
            options,
            publishers: Vec::new(),
            subscribers: Vec::new(),
            lanes: BTreeMap::new(),
            dying: Vec::new(),
            published: 0,
            topics: Vec::new(),
            lives: 0,
            outcome: Outcome::default(),
            random,
        };
        for index in 0..world.random.from(1, 2) {
            world.publishers.push(Source {
                machine: Publisher::new(options),
                epoch: 1000 + index,
                retains: Retains::new(options.retain_last, options.retain_bound.messages as usize),
                views: BTreeMap::new(),
            });
        }
        for index in 0..world.random.from(1, 4) {
            let reader = world.reader(NodeId::from_bytes([index as u8 + 1; 32]));
            world.subscribers.push(reader);
        }
        world
    }

    fn reader(&mut self, node: NodeId) -> Reader {
        self.lives += 1;
        let mut patterns = BTreeSet::new();
        for _ in 0..self.random.below(3) {
            patterns.insert(Box::from(self.random.pick(PATTERNS)));
        }
        Reader {
            feed: Feed::new(self.lives, patterns, self.prefetch, self.strict, MAX_MESSAGE),
            node,
            epoch: self.lives,
            socket: self.lives,
            handed: BTreeMap::new(),
            left: BTreeSet::new(),
        }
    }

    pub(super) fn run(mut self) -> Result<Outcome, String> {
        for _ in 0..self.random.from(50, 600) {
            self.step()?;
            self.check()?;
        }
        self.calm()?;
        Ok(self.outcome)
    }

    fn step(&mut self) -> Result<(), String> {
        let (publisher, subscriber) = (self.any_publisher(), self.any_subscriber());
        match self.random.below(100) {
            0..30 => self.publish(publisher),
            30..36 => self.open(publisher, subscriber),
            36..56 => {
                let most = self.random.pick(&[1, 7, 100, 10_000]);
                self.forth(publisher, subscriber, most)
            }
            56..72 => {
                let most = self.random.pick(&[1, 7, 100, 10_000]);
                self.back(publisher, subscriber, most)
            }
            72..84 => {
                let most = self.random.from(1, 8);
                self.claim(subscriber, most)
            }
            84..90 => {
                let (add, pattern) = (self.random.chance(600), self.random.pick(PATTERNS));
                self.subscribers[subscriber].feed.change(add, pattern).map_err(|_| "too many patterns".to_owned())?;
                Ok(())
            }
            90..93 => self.lose(publisher, subscriber),
            93..95 => self.notice(),
            95..98 => {
                self.now += Duration::from_millis(self.random.pick(&[1, 5, 2000]));
                Ok(())
            }
            98 if self.random.chance(300) => {
                self.now += Duration::from_secs(31);
                self.publishers[publisher].machine.expire(self.now);
                Ok(())
            }
            _ if self.random.chance(200) => self.restart(subscriber),
            _ => Ok(()),
        }
    }

    fn any_publisher(&mut self) -> usize {
        self.random.below(self.publishers.len() as u64) as usize
    }

    fn any_subscriber(&mut self) -> usize {
        self.random.below(self.subscribers.len() as u64) as usize
    }

    fn publish(&mut self, publisher: usize) -> Result<(), String> {
        let topic = self.random.pick(TOPICS);
        let number = self.published;
        let mut body = number.to_le_bytes().to_vec();
        body.resize(self.random.pick(&[8, 8, 30, 100]), 0x5a);
        if self.random.chance(5) {
            body.resize(40 << 10, 0x5a);
        }
        let mut message = NewMessage::new(body);
        if self.random.chance(100) {
            message = message.header("kind", "x");
        }
        if crate::pattern::publish::size(topic, &message) as u64 > self.options.bound.bytes {
            return Ok(());
        }
        let before = self.publishers[publisher].machine.views();
        let may_wait = self.options.when_full == Policy::Block && self.random.chance(500);
        let source = &mut self.publishers[publisher];
        match source.machine.publish(topic, &message, may_wait, self.now) {
            Ok(()) => {}
            Err(Refused::Full) if may_wait => {
                if source.machine.views() != before {
                    return Err("a message that nobody was handed has changed something".into());
                }
                return Ok(());
            }
            Err(refused) => return Err(format!("it was not published: {refused:?}")),
        }
        self.published += 1;
        self.topics.push(topic);
        self.outcome.published += 1;
        source.retains.keep(Published { number, topic: topic.into() });
        self.count_given_up(publisher);
        let source = &mut self.publishers[publisher];
        let after = source.machine.views();
        for view in &before {
            let wanted = any(&view.patterns, topic);
            let Some(now) = after.iter().find(|now| now.id == view.id) else {
                if self.options.when_full == Policy::GiveUp && wanted {
                    continue;
                }
                return Err("publishing has ended a subscription".into());
            };
            if now.next != view.next + u64::from(wanted) {
                return Err(format!("{topic} was wanted: {wanted}, and counted {} times", now.next - view.next));
            }
            if wanted {
                Self::coming(source, view).numbers.push(number);
            }
        }
        // What a subscriber was told to be in force is.
        for (at, reader) in self.subscribers.iter().enumerate() {
            let Some(pipe) = self.lanes.get(&(publisher, at)).filter(|_| !reader.left.contains(&publisher)) else {
                continue;
            };
            let there = At { link: pipe.link, node: publisher_node(publisher), socket: SocketId(publisher as u64) };
            if !reader.feed.is_confirmed(reader.feed.version(), there) || !any(&reader.feed.patterns(), topic) {
                continue;
            }
            let view = before.iter().find(|view| (view.node, view.epoch) == (reader.node, reader.epoch));
            // One that was given up may not have heard of it yet.
            let given_up = view.is_none() && self.options.when_full == Policy::GiveUp;
            if !given_up && !view.is_some_and(|view| any(&view.patterns, topic)) {
                return Err(format!("{topic} passed by a subscriber that was told to have it coming"));
            }
        }
        Ok(())
    }

    /// The last of the publisher's views of this subscriber.
    fn coming<'a>(source: &'a mut Source, view: &StreamView) -> &'a mut Coming {
        let views = source.views.entry((view.node, view.epoch)).or_default();
        if views.last().is_none_or(|last| last.stream != view.id) {
            views.push(Coming { stream: view.id, ..Coming::default() });
        }
        views.last_mut().expect("just made")
    }

    fn count_given_up(&mut self, publisher: usize) {
        let effects = self.publishers[publisher].machine.take_effects();
        self.outcome.given_up += effects.given_up.len() as u64;
    }

    /// A lane opens, where there is none.
    fn open(&mut self, publisher: usize, subscriber: usize) -> Result<(), String> {
        let reader = &self.subscribers[subscriber];
        if self.lanes.contains_key(&(publisher, subscriber)) || reader.left.contains(&publisher) {
            return Ok(());
        }
        self.lives += 1;
        let to = LanePeer {
            node: reader.node,
            socket: SocketId(reader.socket),
            link: self.lives,
            slots: false,
            max_message: MAX_MESSAGE,
        };
        let source = &mut self.publishers[publisher];
        let open = OpenLane {
            from: SocketId(publisher as u64),
            to: to.socket,
            kind: SocketKind::Publisher,
            level: Level::AtLeastOnce,
            epoch: source.epoch,
            base: 0,
            taken: false,
        };
        let key = source.machine.open_lane(to, &open);
        let pipe = Pipe {
            key,
            link: self.lives,
            lane: None,
            opening: BytesMut::new(),
            forth: VecDeque::new(),
            back: VecDeque::new(),
            part: BytesMut::new(),
        };
        self.lanes.insert((publisher, subscriber), pipe);
        Ok(())
    }

    /// Something goes from the publisher to the subscriber.
    fn forth(&mut self, publisher: usize, subscriber: usize, most: usize) -> Result<(), String> {
        let Some(pipe) = self.lanes.get_mut(&(publisher, subscriber)) else { return Ok(()) };
        let source = &mut self.publishers[publisher];
        if pipe.forth.len() < most {
            let mut out = Vec::new();
            let next = source.machine.take_outgoing(pipe.key, Waker::noop(), &mut out);
            out.iter().for_each(|chunk| pipe.forth.extend(chunk));
            let _ = next == Next::Finish;
        }
        let some: Vec<u8> = pipe.forth.drain(..most.min(pipe.forth.len())).collect();
        if some.is_empty() {
            return Ok(());
        }
        let reader = &mut self.subscribers[subscriber];
        let chunk = match &pipe.lane {
            Some(_) => Bytes::from(some),
            None => {
                pipe.opening.extend_from_slice(&some);
                let Some(open) = frame::split_open(&mut pipe.opening).map_err(|error| error.to_string())? else {
                    return Ok(());
                };
                let from = LanePeer {
                    node: publisher_node(publisher),
                    socket: open.from,
                    link: pipe.link,
                    slots: false,
                    max_message: MAX_MESSAGE,
                };
                pipe.lane = Some(reader.feed.accept(from, &open));
                pipe.opening.split().freeze()
            }
        };
        let Some(lane) = &pipe.lane else { return Ok(()) };
        let heard =
            lane.handle_incoming(self.now, &mut [chunk]).map_err(|error| format!("to a subscriber: {error}"))?;
        if heard.given_up.is_some() {
            reader.left.insert(publisher);
        }
        if heard.confirmed && !reader.handed.contains_key(&publisher) {
            // What its publisher saw of it before it had a confirmation was promised to nobody. One that has been given up
            // meanwhile may never have been seen at all.
            let count = source.views.get(&(reader.node, reader.epoch)).map_or(0, Vec::len);
            let views = source.machine.views();
            let known = views.iter().any(|view| (view.node, view.epoch) == (reader.node, reader.epoch));
            let views = if known { count - 1..count } else { 0..count };
            reader.handed.insert(publisher, Handed { views: views.collect(), later: count, ..Handed::default() });
        }
        Ok(())
    }

    /// Something goes from the subscriber to the publisher.
    fn back(&mut self, publisher: usize, subscriber: usize, most: usize) -> Result<(), String> {
        let Some(pipe) = self.lanes.get_mut(&(publisher, subscriber)) else { return Ok(()) };
        let Some(lane) = &pipe.lane else { return Ok(()) };
        if pipe.back.len() < most {
            let (mut out, mut again) = (Vec::new(), None);
            let mut cx = Context::from_waker(Waker::noop());
            let _: Poll<_> = lane.poll_outgoing(&mut cx, self.now, &mut out, &mut again).next;
            out.iter().for_each(|chunk| pipe.back.extend(chunk));
        }
        pipe.part.extend(pipe.back.drain(..most.min(pipe.back.len())));
        let key = pipe.key;
        let source = &mut self.publishers[publisher];
        // One answer after the other, as each may change what is coming.
        loop {
            let Some((kind, payload, used)) =
                frame::whole_answer(&pipe.part).map_err(|error| format!("to a publisher: {error}"))?
            else {
                return Ok(());
            };
            let before = source.machine.views();
            source.machine.handle_answer(key, kind, payload).map_err(|error| format!("to a publisher: {error}"))?;
            let rest = pipe.part.split_off(used);
            pipe.part = rest;
            let given_up = source.machine.take_effects().given_up.len() as u64;
            self.outcome.given_up += given_up;
            for view in source.machine.views() {
                let earlier = before.iter().find(|before| before.id == view.id);
                let (had, next) = earlier.map_or((&[][..], 0), |before| (&before.patterns[..], before.next));
                if earlier.is_some_and(|earlier| earlier.connected != view.connected) {
                    self.outcome.resumed += 1;
                }
                let brought = source.retains.brought(had, &view.patterns);
                if view.next - next != brought.len() as u64 {
                    return Err(format!(
                        "{} retained messages were brought, and not {}",
                        view.next - next,
                        brought.len()
                    ));
                }
                self.outcome.retained += brought.len() as u64;
                let coming = Self::coming(source, &view);
                coming.patterns.clone_from(&view.patterns);
                coming.numbers.extend(brought);
            }
        }
    }

    fn claim(&mut self, subscriber: usize, most: u64) -> Result<(), String> {
        for _ in 0..most {
            let reader = &mut self.subscribers[subscriber];
            let claimed = reader.feed.try_claim().map_err(|_| "a live socket is closed".to_owned())?;
            let Some(claimed) = claimed else { return Ok(()) };
            let (batch, index, gap) = match claimed {
                Claimed::Message(batch, index, gap) => (batch, index, gap),
                Claimed::Missed(gap) => {
                    if !self.strict {
                        return Err("only strict sockets fail".into());
                    }
                    let from = publisher_of(gap.publisher);
                    self.outcome.missed += gap.count;
                    let handed = reader.handed.entry(from).or_default();
                    handed.missing += gap.count;
                    handed.exact &= gap.exact;
                    continue;
                }
            };
            let from = publisher_of(batch.source().node);
            let handed = reader.handed.entry(from).or_default();
            if let Some(gap) = gap {
                self.outcome.missed += gap.count;
                handed.missing += gap.count;
                handed.exact &= gap.exact;
                self.outcome.gaps += u64::from(gap.exact);
                self.outcome.forgotten += u64::from(!gap.exact);
            }
            let number = u64::from_le_bytes(batch.slice(index)[..8].try_into().expect("eight bytes"));
            let views = self.publishers[from].views.get(&(reader.node, reader.epoch)).map_or(&[][..], |views| views);
            handed.take(views, batch.sequence(index), number)?;
            handed.last.insert(batch.topic(index).to_owned(), number);
            self.outcome.delivered += 1;
        }
        Ok(())
    }

    /// A lane is lost, with what is under way on it. Its ends notice it now or later.
    fn lose(&mut self, publisher: usize, subscriber: usize) -> Result<(), String> {
        let Some(pipe) = self.lanes.remove(&(publisher, subscriber)) else { return Ok(()) };
        let mut ends = vec![Dying::Publisher(publisher, pipe.key)];
        ends.extend(pipe.lane.map(Dying::Subscriber));
        for end in ends {
            if self.random.chance(500) {
                self.over(end);
            } else {
                self.dying.push(end);
            }
        }
        Ok(())
    }

    fn notice(&mut self) -> Result<(), String> {
        if !self.dying.is_empty() {
            let at = self.random.below(self.dying.len() as u64) as usize;
            let end = self.dying.swap_remove(at);
            self.over(end);
        }
        Ok(())
    }

    fn over(&mut self, end: Dying) {
        match end {
            Dying::Publisher(publisher, key) => self.publishers[publisher].machine.close_lane(key, self.now),
            Dying::Subscriber(lane) => lane.closed(),
        }
    }

    /// A subscriber is killed, and another one comes in its place.
    fn restart(&mut self, subscriber: usize) -> Result<(), String> {
        for publisher in 0..self.publishers.len() {
            self.lose(publisher, subscriber)?;
        }
        let node = self.subscribers[subscriber].node;
        self.subscribers[subscriber] = self.reader(node);
        Ok(())
    }

    fn check(&self) -> Result<(), String> {
        for source in &self.publishers {
            for view in source.machine.views() {
                let Amount { messages, bytes } = view.held;
                if messages > self.options.bound.messages || bytes > self.options.bound.bytes {
                    return Err(format!("{messages} messages of {bytes} bytes are above the bound"));
                }
            }
            for figures in source.machine.figures().subscribers {
                let sum = figures.queued.messages + figures.in_flight + figures.received + figures.dropped.total();
                if sum != figures.matched {
                    return Err(format!("{figures:?}: its messages do not add up"));
                }
            }
        }
        Ok(())
    }

    /// Nothing goes wrong any more: everything arrives.
    fn calm(&mut self) -> Result<(), String> {
        while let Some(end) = self.dying.pop() {
            self.over(end);
        }
        for round in 0.. {
            self.now += Duration::from_millis(2);
            let before = self.outcome;
            let mut under_way = false;
            for publisher in 0..self.publishers.len() {
                for subscriber in 0..self.subscribers.len() {
                    self.open(publisher, subscriber)?;
                    self.forth(publisher, subscriber, usize::MAX)?;
                    self.back(publisher, subscriber, usize::MAX)?;
                    self.claim(subscriber, 1000)?;
                    self.check()?;
                    let pipe = self.lanes.get(&(publisher, subscriber));
                    under_way |= pipe.is_some_and(|pipe| pipe.lane.is_none());
                }
            }
            let queued = |source: &Source| {
                source
                    .machine
                    .figures()
                    .subscribers
                    .iter()
                    .any(|one| one.connected && one.queued.messages + one.in_flight > 0)
            };
            let settled = !under_way && before == self.outcome && !self.publishers.iter().any(queued);
            if settled && round > 4 {
                break;
            }
            if round > 20_000 {
                return Err("it does not come to rest".into());
            }
        }
        self.judge()
    }

    /// Everybody was handed, or told to be missing, what they had coming, to the last message.
    fn judge(&self) -> Result<(), String> {
        for (at, reader) in self.subscribers.iter().enumerate() {
            for (publisher, source) in self.publishers.iter().enumerate() {
                if reader.left.contains(&publisher) {
                    continue;
                }
                let Some(view) = source
                    .machine
                    .views()
                    .into_iter()
                    .find(|view| (view.node, view.epoch) == (reader.node, reader.epoch))
                else {
                    return Err(format!("publisher {publisher} does not know subscriber {at}"));
                };
                if view.patterns != reader.feed.patterns() {
                    return Err(format!("{:?} are in force, and {:?} wanted", view.patterns, reader.feed.patterns()));
                }
                let (missing, exact) = reader.feed.missing_from(publisher_node(publisher), source.epoch);
                let handed = reader.handed.get(&publisher);
                let next = handed.map_or(0, |handed| handed.next + handed.missing) + missing;
                let exact = exact && handed.is_none_or(|handed| handed.exact);
                if exact && next != view.next {
                    return Err(format!("{next} messages were handed out or told to be missing, of {}", view.next));
                }
                if self.options.when_full == Policy::Latest
                    && exact
                    && view.dropped.oldest + view.dropped.lost == 0
                    && let Some(handed) = handed
                {
                    self.newest(source, reader, handed)?;
                }
            }
        }
        Ok(())
    }

    /// Of each topic the newest message has come.
    fn newest(&self, source: &Source, reader: &Reader, handed: &Handed) -> Result<(), String> {
        let Some(views) = source.views.get(&(reader.node, reader.epoch)) else { return Ok(()) };
        let mut newest = BTreeMap::new();
        let Some(view) = handed.views.last() else { return Ok(()) };
        for number in &views[*view].numbers {
            newest.insert(self.topics[*number as usize], *number);
        }
        for (topic, number) in newest {
            if handed.last.get(topic) != Some(&number) {
                return Err(format!("of {topic} message {number} is the newest, and {:?} was", handed.last.get(topic)));
            }
        }
        Ok(())
    }
}

fn publisher_node(publisher: usize) -> NodeId {
    NodeId::from_bytes([100 + publisher as u8; 32])
}

fn publisher_of(node: NodeId) -> usize {
    usize::from(node.as_bytes()[0]) - 100
}
