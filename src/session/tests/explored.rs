//! Two and three nodes, taken through every order in which what they say can arrive, with dials, refusals, losses and
//! restarts at any moment. Each state is visited once, however it came about.

use std::collections::hash_map::DefaultHasher;
use std::collections::{BTreeMap, HashSet, VecDeque};
use std::hash::{Hash, Hasher};
use std::time::{Duration, Instant};

use super::*;

/// What may happen yet that is not an arrival.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Budget {
    dials: u8,
    /// Connections that are refused, lost by one end, or cut.
    losses: u8,
    restarts: u8,
    /// Times that the arbiter's patience is over.
    timeouts: u8,
}

#[derive(Clone)]
struct World {
    now: Instant,
    nodes: Vec<Node>,
    paths: BTreeMap<ConnectionId, Path>,
    next: u64,
    left: Budget,
}

#[derive(Clone)]
struct Node {
    incarnation: u64,
    /// Its view of each other node, by that one's place.
    arbiters: BTreeMap<usize, Arbiter>,
    sessions: BTreeMap<ConnectionId, Session>,
}

/// A connection: who has dialled, and who was; and what is under way from each of them.
#[derive(Clone, Hash)]
struct Path {
    ends: [usize; 2],
    under_way: [VecDeque<Said>; 2],
    /// Nothing arrives on it any more: an end that still has it hears nothing, not even that it is over.
    dead: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Said {
    /// The dialler has done its part: with its arrival the connection begins at the other end.
    Begin,
    /// Incarnation, live and links.
    Hello(u64, bool, u64),
    Admitted,
    Closed,
}

#[derive(Debug, Clone, Copy)]
enum Step {
    Dial(usize, usize),
    /// The next thing that this end of a connection said reaches the other one.
    Arrive(ConnectionId, usize),
    /// The connection is turned away where it was to begin.
    Refuse(ConnectionId),
    /// One end loses the connection; the other one hears of it, or does not.
    Lose(ConnectionId, usize, bool),
    /// What is under way is lost, and each end finds out in its own time.
    Cut(ConnectionId),
    /// A node ends and begins anew; the others hear of it, or do not.
    Restart(usize, bool),
    Timeout,
}

impl World {
    fn new(nodes: usize, left: Budget) -> Self {
        let arbiters =
            |own| (0..nodes).filter(|peer| *peer != own).map(|peer| (peer, Arbiter::new(own < peer))).collect();
        let node = |own| Node { incarnation: own as u64, arbiters: arbiters(own), sessions: BTreeMap::new() };
        Self { now: Instant::now(), nodes: (0..nodes).map(node).collect(), paths: BTreeMap::new(), next: 10, left }
    }

    /// All that can happen next.
    fn steps(&self) -> Vec<Step> {
        let (mut steps, left) = (Vec::new(), self.left);
        let nodes = self.nodes.len();
        if left.dials > 0 {
            steps.extend(
                (0..nodes * nodes)
                    .map(|pair| (pair / nodes, pair % nodes))
                    .filter(|(a, b)| a != b)
                    .map(|(a, b)| Step::Dial(a, b)),
            );
        }
        for (id, path) in &self.paths {
            for end in 0..2 {
                if !path.under_way[end].is_empty() {
                    steps.push(Step::Arrive(*id, end));
                }
                if left.losses > 0 && self.nodes[path.ends[end]].sessions.contains_key(id) {
                    steps.extend([true, false].map(|told| Step::Lose(*id, end, told)));
                }
            }
            if left.losses > 0 && path.under_way[0].front() == Some(&Said::Begin) {
                steps.push(Step::Refuse(*id));
            } else if left.losses > 0 && path.under_way.iter().any(|queue| !queue.is_empty()) {
                steps.push(Step::Cut(*id));
            }
        }
        if left.restarts > 0 {
            steps.extend((0..nodes).flat_map(|node| [true, false].map(|told| Step::Restart(node, told))));
        }
        let impatient = |node: &Node| node.arbiters.values().any(|arbiter| arbiter.poll_timeout().is_some());
        if left.timeouts > 0 && self.nodes.iter().any(impatient) {
            steps.push(Step::Timeout);
        }
        steps
    }

    fn take(&mut self, step: Step) {
        match step {
            Step::Dial(from, to) => {
                self.left.dials -= 1;
                self.dial(from, to);
            }
            Step::Arrive(id, end) => self.arrive(id, end),
            Step::Refuse(id) => {
                self.left.losses -= 1;
                let path = self.paths.get_mut(&id).expect("there is one");
                path.under_way = [VecDeque::new(), VecDeque::from([Said::Closed])];
            }
            Step::Lose(id, end, told) => {
                self.left.losses -= 1;
                self.paths.get_mut(&id).expect("there is one").dies(!told);
                self.lose(id, end);
            }
            Step::Cut(id) => {
                self.left.losses -= 1;
                let path = self.paths.get_mut(&id).expect("there is one");
                path.under_way = [VecDeque::from([Said::Closed]), VecDeque::from([Said::Closed])];
            }
            Step::Restart(node, told) => {
                self.left.restarts -= 1;
                self.restart(node, told);
            }
            Step::Timeout => {
                self.left.timeouts -= 1;
                self.pass(Duration::from_secs(1));
            }
        }
        // What nobody holds and nobody hears of any more.
        let nodes = &self.nodes;
        self.paths.retain(|id, path| {
            let held = path.ends.iter().any(|end| nodes[*end].sessions.contains_key(id));
            held || path.under_way[0].front() == Some(&Said::Begin)
        });
    }

    fn dial(&mut self, from: usize, to: usize) {
        self.next += 1;
        let id = ConnectionId(self.next);
        let under_way = [VecDeque::from([Said::Begin]), VecDeque::new()];
        self.paths.insert(id, Path { ends: [from, to], under_way, dead: false });
        self.begin(id, 0);
    }

    /// The connection begins at this end.
    fn begin(&mut self, id: ConnectionId, end: usize) {
        let ends = self.paths[&id].ends;
        let (own, peer) = (ends[end], ends[1 - end]);
        let node = &mut self.nodes[own];
        let (live, links) = node.arbiters[&peer].greeting();
        let hello = Hello {
            revision: 1,
            name: String::new(),
            incarnation: node.incarnation,
            live,
            links,
            max_message: 1,
            addresses: Vec::new(),
        };
        node.sessions.insert(id, Session::new(self.now, own < peer, hello));
        self.flush(own);
    }

    fn arrive(&mut self, id: ConnectionId, from: usize) {
        let path = self.paths.get_mut(&id).expect("there is one");
        let Some(said) = path.under_way[from].pop_front() else { return };
        let (own, peer) = (path.ends[1 - from], path.ends[from]);
        let frame = match said {
            Said::Begin => return self.begin(id, 1),
            Said::Closed => return self.lose(id, 1 - from),
            Said::Admitted => Control::Admitted,
            Said::Hello(incarnation, live, links) => Control::Hello(Hello {
                revision: 1,
                name: String::new(),
                incarnation,
                live,
                links,
                max_message: 1,
                addresses: Vec::new(),
            }),
        };
        let node = &mut self.nodes[own];
        let Some(session) = node.sessions.get_mut(&id) else { return };
        let arbiter = node.arbiters.get_mut(&peer).expect("one for each other node");
        match session.handle_frame(self.now, frame).expect("both ends keep to the protocol") {
            Heard::Hello(hello) => arbiter.handle_hello(self.now, id, &hello),
            Heard::Admitted => arbiter.handle_admitted(self.now, id, session.peer().expect("its Hello came first")),
            heard => panic!("nobody said {heard:?}"),
        }
        self.flush(own);
    }

    fn lose(&mut self, id: ConnectionId, end: usize) {
        let ends = self.paths[&id].ends;
        if self.close(ends[end], id) {
            let arbiter = self.nodes[ends[end]].arbiters.get_mut(&ends[1 - end]).expect("one for each other node");
            arbiter.handle_lost(self.now, id);
            self.flush(ends[end]);
        }
    }

    fn close(&mut self, own: usize, id: ConnectionId) -> bool {
        let path = self.paths.get_mut(&id).expect("there is one");
        let end = usize::from(path.ends[1] == own);
        let there = self.nodes[own].sessions.remove(&id).is_some();
        if there {
            path.say(end, Said::Closed);
        }
        there
    }

    fn restart(&mut self, own: usize, told: bool) {
        self.next += 1;
        self.paths.values_mut().filter(|path| path.ends.contains(&own)).for_each(|path| path.dies(!told));
        for id in self.nodes[own].sessions.keys().copied().collect::<Vec<_>>() {
            self.close(own, id);
        }
        for path in self.paths.values_mut().filter(|path| path.ends.contains(&own)) {
            // What is still on its way to it finds nobody.
            let to_it = usize::from(path.ends[0] == own);
            if path.under_way[to_it].drain(..).any(|said| said == Said::Begin) {
                path.say(1 - to_it, Said::Closed);
            }
        }
        let nodes = self.nodes.len();
        let others = (0..nodes).filter(|peer| *peer != own);
        self.nodes[own].arbiters = others.map(|peer| (peer, Arbiter::new(own < peer))).collect();
        self.nodes[own].incarnation = self.next;
    }

    /// What a node has decided is carried out, what it has to say is under way.
    fn flush(&mut self, own: usize) {
        for peer in 0..self.nodes.len() {
            while let Some(verdict) = self.nodes[own].arbiters.get_mut(&peer).and_then(Arbiter::poll_verdict) {
                match verdict {
                    Verdict::Admit(id) => {
                        self.nodes[own].sessions.get_mut(&id).expect("a known connection").admit(self.now);
                    }
                    Verdict::Close(id, _) => assert!(self.close(own, id), "only what is there is closed"),
                }
            }
        }
        for (id, session) in &mut self.nodes[own].sessions {
            let path = self.paths.get_mut(id).expect("there is one");
            let end = usize::from(path.ends[1] == own);
            while let Some(frame) = session.poll_frame() {
                let said = match frame {
                    Control::Hello(hello) => Said::Hello(hello.incarnation, hello.live, hello.links),
                    Control::Admitted => Said::Admitted,
                    Control::Ping => continue,
                    frame => panic!("nobody asked for {frame:?}"),
                };
                path.say(end, said);
            }
        }
    }

    fn pass(&mut self, time: Duration) {
        self.now += time;
        for own in 0..self.nodes.len() {
            self.nodes[own].arbiters.values_mut().for_each(|arbiter| arbiter.handle_timeout(self.now));
            self.flush(own);
        }
    }

    /// As in every state: a node takes for open what its arbiter takes for the link, so never two connections of a pair.
    fn check(&self) {
        for (own, node) in self.nodes.iter().enumerate() {
            for (peer, arbiter) in &node.arbiters {
                let with = |id: &ConnectionId| self.paths[id].ends.contains(peer);
                let open: Vec<_> =
                    node.sessions.iter().filter(|(id, s)| s.is_open() && with(id)).map(|(id, _)| *id).collect();
                assert_eq!(open, Vec::from_iter(arbiter.link()), "{own} and {peer}");
            }
        }
        // Both ends of a link that nothing has happened to yet are of the lives that they take each other for.
        for (id, path) in
            self.paths.iter().filter(|(_, path)| !path.dead && path.under_way.iter().all(VecDeque::is_empty))
        {
            let [a, b] = path.ends.map(|end| &self.nodes[end]);
            if let (Some(x), Some(y)) = (a.sessions.get(id), b.sessions.get(id))
                && x.is_open()
                && y.is_open()
            {
                assert_eq!(a.arbiters[&path.ends[1]].incarnation(), Some(b.incarnation));
                assert_eq!(b.arbiters[&path.ends[0]].incarnation(), Some(a.incarnation));
            }
        }
    }

    /// Nothing goes wrong any more, and who has no connection dials: in the end each pair has one link. Says how many
    /// dials that took, and how much time until then.
    fn settle(&mut self) -> (u32, Duration) {
        let (mut dials, began, mut linked) = (0, self.now, None);
        for _ in 0..100 {
            while let Some((id, end)) = self.next_arrival() {
                self.take(Step::Arrive(id, end));
            }
            let nodes = self.nodes.len();
            let mut quiet = true;
            for (a, b) in (0..nodes).flat_map(|a| (a + 1..nodes).map(move |b| (a, b))) {
                let alone =
                    |own: usize, peer| !self.nodes[own].sessions.keys().any(|id| self.paths[id].ends.contains(&peer));
                let dial = if alone(b, a) {
                    Some((b, a))
                } else if alone(a, b) {
                    Some((a, b))
                } else {
                    None
                };
                let link = self.nodes[a].arbiters[&b].link();
                quiet &= dial.is_none() && link.is_some() && link == self.nodes[b].arbiters[&a].link();
                if let Some((from, to)) = dial {
                    dials += 1;
                    self.dial(from, to);
                }
            }
            linked = linked.filter(|_| quiet).or_else(|| quiet.then_some(self.now));
            // What is dead and was never admitted is left to its deadline.
            if quiet && self.nodes.iter().all(|node| node.sessions.len() == node.arbiters.len()) {
                break;
            }
            while let Some((id, end)) = self.next_arrival() {
                self.take(Step::Arrive(id, end));
            }
            self.pass(MOMENT);
            self.next += 1;
            for own in 0..nodes {
                // Whoever is at the other end of what is dead is not heard.
                let (paths, next, now) = (&self.paths, self.next, self.now);
                let heard = |id: &ConnectionId| if paths[id].dead { 0 } else { next };
                let sessions = self.nodes[own].sessions.iter_mut();
                let late = |(id, session): (&ConnectionId, &mut Session)| {
                    session.handle_timeout(now, heard(id), false).is_some().then_some(*id)
                };
                let late: Vec<_> = sessions.filter_map(late).collect();
                self.flush(own);
                for id in late {
                    let end = usize::from(self.paths[&id].ends[1] == own);
                    self.lose(id, end);
                }
            }
        }
        for (own, node) in self.nodes.iter().enumerate() {
            for (peer, arbiter) in &node.arbiters {
                assert!(arbiter.link().is_some(), "{own} and {peer} have no link");
                assert_eq!(arbiter.link(), self.nodes[*peer].arbiters[&own].link());
                assert_eq!(arbiter.incarnation(), Some(self.nodes[*peer].incarnation));
            }
            assert_eq!(node.sessions.len(), node.arbiters.len(), "one connection a peer is left");
        }
        (dials, linked.expect("each pair has a link") - began)
    }

    fn next_arrival(&self) -> Option<(ConnectionId, usize)> {
        let all = self.paths.iter().flat_map(|(id, path)| (0..2).map(move |end| (id, end, &path.under_way[end])));
        all.filter(|(_, _, queue)| !queue.is_empty()).map(|(id, end, _)| (*id, end)).next()
    }

    /// Two states of one fingerprint go on alike.
    fn fingerprint(&self) -> u64 {
        let mut hash = DefaultHasher::new();
        (self.now, self.next, self.left).hash(&mut hash);
        for node in &self.nodes {
            node.incarnation.hash(&mut hash);
            format!("{:?}", node.arbiters).hash(&mut hash);
            for (id, session) in &node.sessions {
                let peer = session.peer().map(|hello| (hello.incarnation, hello.live, hello.links));
                (id, session.state as u8, peer, session.deadline).hash(&mut hash);
            }
        }
        for (id, path) in &self.paths {
            (id, path).hash(&mut hash);
        }
        hash.finish()
    }
}

impl Path {
    fn dies(&mut self, dead: bool) {
        self.dead |= dead;
        if self.dead {
            self.under_way = Default::default();
        }
    }

    fn say(&mut self, end: usize, said: Said) {
        if !self.dead {
            self.under_way[end].push_back(said);
        }
    }
}

/// What a visit to every state has shown.
#[derive(Debug, Default)]
struct Explored {
    states: usize,
    /// Steps to the farthest.
    depth: usize,
    /// The most that a settling took.
    dials: u32,
    time: Duration,
    /// The most admissions of one pair, once settled.
    links: u64,
}

fn explore(nodes: usize, left: Budget) -> Explored {
    let start = World::new(nodes, left);
    let mut seen = HashSet::from([start.fingerprint()]);
    let mut explored = Explored::default();
    let mut front = vec![(start, Vec::new())];
    while !front.is_empty() {
        let mut beyond = Vec::new();
        for (world, way) in front {
            for step in world.steps() {
                let (mut next, mut way): (_, Vec<Step>) = (world.clone(), way.clone());
                way.push(step);
                let told = Way(&way);
                next.take(step);
                next.check();
                let new = seen.insert(next.fingerprint());
                if new {
                    let mut settled = next.clone();
                    let (dials, time) = settled.settle();
                    explored.dials = explored.dials.max(dials);
                    explored.time = explored.time.max(time);
                    let links = settled.nodes.iter().flat_map(|node| node.arbiters.values()).map(|a| a.greeting().1);
                    explored.links = explored.links.max(links.max().unwrap_or(0));
                }
                std::mem::forget(told);
                if new {
                    beyond.push((next, way));
                }
            }
        }
        front = beyond;
        explored.depth += usize::from(!front.is_empty());
    }
    explored.states = seen.len();
    explored
}

/// Says the way to where a check has failed.
struct Way<'a>(&'a [Step]);

impl Drop for Way<'_> {
    fn drop(&mut self) {
        eprintln!("after {:?}", self.0);
    }
}

#[test]
fn whatever_happens_to_two_nodes_they_end_with_one_link() {
    let quiet = Budget { dials: 3, losses: 0, restarts: 0, timeouts: 0 };
    let explored = explore(2, quiet);
    println!("{quiet:?}: {explored:?}");
    assert_eq!(explored.links, 1, "where nothing is lost, nothing is admitted twice");
    for (left, soon) in [
        (Budget { dials: 2, losses: 1, restarts: 0, timeouts: 1 }, SOON),
        (Budget { dials: 2, losses: 0, restarts: 2, timeouts: 0 }, SOON),
        // Where each holds one that is dead, and neither was admitted, both wait until that is over.
        (Budget { dials: 2, losses: 2, restarts: 0, timeouts: 0 }, ADMISSION_DEADLINE + SOON),
        (Budget { dials: 2, losses: 1, restarts: 1, timeouts: 0 }, ADMISSION_DEADLINE + SOON),
    ] {
        let explored = explore(2, left);
        println!("{left:?}: {explored:?}");
        assert!(explored.dials <= 2, "one, and another one where the first was of a life that is over");
        assert!(explored.time <= soon, "nobody waits for a silence to be long enough");
    }
}

#[test]
fn whatever_happens_to_three_nodes_each_pair_ends_with_one_link() {
    let left = Budget { dials: 2, losses: 0, restarts: 1, timeouts: 0 };
    let explored = explore(3, left);
    println!("{left:?}: {explored:?}");
    assert!(explored.time <= SOON, "nobody waits for a silence to be long enough");
}

/// The pace of a settling.
const MOMENT: Duration = Duration::from_millis(400);
/// The arbiter's patience, and some moments: far less than it takes to give up a connection on which nothing is said.
const SOON: Duration = Duration::from_millis(2_400);
