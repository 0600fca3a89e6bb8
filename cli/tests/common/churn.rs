//! Processes that join and leave at random, what everybody sees of it meanwhile, and what is left of it in one that stays.
//!
//! Whoever is asked who is there may be wrong about what has happened in the last three seconds, and about nothing else.

use std::collections::BTreeSet;
use std::io::BufRead;
use std::process::Command;
use std::time::{Duration, Instant};

use meshmq::Node;
use serde_json::Value;

use crate::support::{PATIENCE, Place, Process, Role, folder};

/// By then every view is right.
pub(crate) const WITHIN: Duration = Duration::from_secs(3);
/// Between two things that happen, on average.
const EVERY: Duration = Duration::from_millis(250);
/// What the memory of the one that stays may grow by, after a first round in which all were there.
const GROWTH_KIB: i64 = 4096;

/// What is to happen. The same seed has the same things happen, though not at the same time.
pub(crate) struct Plan {
    pub(crate) processes: usize,
    pub(crate) time: Duration,
    pub(crate) seed: u64,
}

/// What has happened.
#[derive(Debug, Default)]
pub(crate) struct Told {
    pub(crate) joined: usize,
    pub(crate) left: usize,
    pub(crate) killed: usize,
    /// Views of one node: by `peers()`, by the statuses in a snapshot, by `meshmq ls --json`.
    pub(crate) views: [usize; 3],
    /// How long after it had joined somebody was still missed in a view.
    pub(crate) missed: Duration,
    /// How long after its end somebody was still in one.
    pub(crate) stale: Duration,
    /// The growth in memory of the one that stayed, in KiB.
    pub(crate) growth: i64,
    /// What should not have been.
    pub(crate) wrong: Vec<String>,
}

/// The roles of this program's processes: whether this is one, which has then ended.
pub(crate) fn is_role() -> bool {
    if let Some(role) = Role::of("member") {
        run(member(&role));
    } else if let Some(role) = Role::of("observer") {
        run(observer(&role));
    } else {
        return false;
    }
    true
}

/// For as long as it takes: minutes, where the bench wants it so.
fn run(role: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(role);
}

/// Is there until it is told to leave, or killed. Argument: the kind of its socket.
async fn member(role: &Role) {
    let node = role.builder().await.unwrap();
    let (mut push, mut pull) = (None, None);
    match role.arg::<String>(0).as_str() {
        "push" => push = Some(node.push("jobs").await.unwrap()),
        _ => pull = Some(node.pull("jobs").await.unwrap()),
    }
    role.say(node.id());
    // The node has a thread of its own.
    for question in std::io::stdin().lock().lines().map_while(Result::ok) {
        match question.as_str() {
            "peers" => role.say(peers(&node)),
            _ => break,
        }
    }
    drop((push, pull));
    node.shutdown(Duration::from_secs(1)).await;
}

/// Stays. On this runtime, so that the node's tasks can be counted.
async fn observer(role: &Role) {
    let node = role.builder().on_current_runtime().await.unwrap();
    let _pull = node.pull("jobs").await.unwrap();
    node.settled().await;
    role.say(node.id());
    let (ask, mut asked) = tokio::sync::mpsc::unbounded_channel();
    std::thread::spawn(move || {
        std::io::stdin().lock().lines().map_while(Result::ok).try_for_each(|line| ask.send(line))
    });
    while let Some(question) = asked.recv().await {
        match question.as_str() {
            "peers" => role.say(peers(&node)),
            "left" => role.say(what_is_held()),
            _ => role.say(serde_json::to_string(&node.snapshot(WITHIN).await).unwrap()),
        }
    }
}

fn peers(node: &Node) -> String {
    node.peers().iter().map(|peer| peer.id.to_string()).collect::<Vec<_>>().join(" ")
}

/// Descriptors, tasks, threads, and anonymous memory in KiB.
fn what_is_held() -> String {
    let count = |folder| std::fs::read_dir(folder).unwrap().count();
    let tasks = tokio::runtime::Handle::current().metrics().num_alive_tasks();
    let memory = std::fs::read_to_string("/proc/self/smaps_rollup").unwrap();
    let memory = memory.lines().find_map(|line| line.strip_prefix("Anonymous:")).unwrap();
    let memory = memory.trim().trim_end_matches(" kB");
    format!("{} {tasks} {} {memory}", count("/proc/self/fd"), count("/proc/self/task"))
}

/// Somebody who is, or was, there.
struct Life {
    id: String,
    /// It has said that it is there.
    joined: Instant,
    /// Since when it may be missing.
    leaves: Option<Instant>,
    /// Since when it is gone.
    gone: Option<Instant>,
}

impl Life {
    fn new(id: String) -> Self {
        Self { id, joined: Instant::now(), leaves: None, gone: None }
    }
}

struct Churn {
    place: Place,
    random: u64,
    lives: Vec<Life>,
    /// The processes that are there, with the number of their life.
    members: Vec<(usize, Process)>,
    told: Told,
}

/// Has processes join and leave, and looks at what is seen of it.
pub(crate) fn churn(plan: &Plan) -> Told {
    let place = Place::new();
    let mut observer = place.start("observer", &[]);
    let mut churn = Churn {
        lives: vec![Life::new(observer.hear())],
        place,
        random: plan.seed,
        members: Vec::new(),
        told: Told::default(),
    };
    let [descriptors, tasks, threads, _] = held(&mut observer);

    // All at once, and none of them any more: what is allocated once is not left over.
    churn.join(plan.processes);
    until_sees(&mut observer, plan.processes);
    churn.leave(plan.processes);
    until_sees(&mut observer, 0);
    let [.., memory] = held(&mut observer);

    let end = Instant::now() + plan.time;
    let mut asked = None;
    while Instant::now() < end {
        match churn.random() % 16 {
            0..6 => churn.join_some(plan.processes),
            6..11 => churn.leave_some(),
            11..15 => churn.ask_somebody(),
            _ => churn.list(),
        }
        // It takes its time to tell: nobody answers the same peer twice a second.
        let since = *asked.get_or_insert_with(|| {
            observer.tell("status");
            Instant::now()
        });
        let pause = EVERY.mul_f64(churn.random() as f64 / u64::MAX as f64 * 2.0);
        if let Some((at, status)) = observer.hear_within(pause).map(|status| (Instant::now(), status)) {
            churn.look_at_statuses(since, at, &status);
            asked = None;
        }
    }
    if let Some(since) = asked {
        let status = observer.hear();
        churn.look_at_statuses(since, Instant::now(), &status);
    }

    churn.list();

    churn.leave(churn.members.len());
    let last = Instant::now();
    until_sees(&mut observer, 0);
    if last.elapsed() > WITHIN {
        churn.wrong(format!("the last ones were seen for {:.1?}", last.elapsed()));
    }
    let mut left = held(&mut observer);
    while left[..3] != [descriptors, tasks, threads] && last.elapsed() < PATIENCE {
        assert_eq!(observer.hear_within(EVERY), None, "it was not asked");
        left = held(&mut observer);
    }
    if left[..3] != [descriptors, tasks, threads] {
        let before = [descriptors, tasks, threads];
        churn.wrong(format!("descriptors, tasks and threads: {before:?} before, {:?} afterwards", &left[..3]));
    }
    churn.told.growth = left[3] - memory;
    if churn.told.growth > GROWTH_KIB {
        churn.wrong(format!("{memory} KiB before, {} KiB afterwards", left[3]));
    }
    churn.look_at_folder();
    churn.told
}

fn held(observer: &mut Process) -> [i64; 4] {
    observer.tell("left");
    let held: Vec<i64> = observer.hear().split(' ').map(|number| number.parse().unwrap()).collect();
    held.try_into().unwrap()
}

fn until_sees(observer: &mut Process, count: usize) {
    let end = Instant::now() + PATIENCE;
    loop {
        observer.tell("peers");
        let seen = observer.hear();
        if seen.split_whitespace().count() == count {
            return;
        }
        assert!(Instant::now() < end, "{count} were to be seen, and not {seen}");
        assert_eq!(observer.hear_within(Duration::from_millis(10)), None, "it was not asked");
    }
}

impl Churn {
    /// SplitMix64.
    fn random(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.random;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, count: usize) -> usize {
        (self.random() % count as u64) as usize
    }

    fn wrong(&mut self, what: String) {
        self.told.wrong.push(what);
    }

    fn join_some(&mut self, most: usize) {
        let room = most - self.members.len();
        if room > 0 {
            let count = 1 + self.below(room.min(4));
            self.join(count);
        }
    }

    fn leave_some(&mut self) {
        if !self.members.is_empty() {
            let count = 1 + self.below(self.members.len().min(4));
            self.leave(count);
        }
    }

    fn join(&mut self, count: usize) {
        let kinds: Vec<&str> = (0..count).map(|_| ["push", "pull"][self.below(2)]).collect();
        let processes: Vec<Process> = kinds.iter().map(|kind| self.place.start("member", &[kind])).collect();
        for process in processes {
            let life = Life::new(process.hear());
            self.members.push((self.lives.len(), process));
            self.lives.push(life);
            self.told.joined += 1;
        }
    }

    /// So many leave at the same time, some in good order, some killed.
    fn leave(&mut self, count: usize) {
        let mut leaving = Vec::new();
        for _ in 0..count {
            let at = self.below(self.members.len());
            let (life, mut process) = self.members.swap_remove(at);
            let killed = self.below(2) == 0;
            self.lives[life].leaves = Some(Instant::now());
            if !killed {
                process.tell("leave");
            }
            leaving.push((life, process, killed));
        }
        for (life, mut process, killed) in leaving {
            if killed {
                process.kill();
                self.told.killed += 1;
            } else {
                assert!(process.wait().success());
                self.told.left += 1;
            }
            self.lives[life].gone = Some(Instant::now());
        }
    }

    fn ask_somebody(&mut self) {
        if self.members.is_empty() {
            return;
        }
        let at = self.below(self.members.len());
        let (life, process) = &mut self.members[at];
        let (life, asked) = (*life, Instant::now());
        process.tell("peers");
        let seen = process.hear();
        self.told.views[0] += 1;
        self.look("peers()", Some(life), asked, Instant::now(), &seen.split_whitespace().collect());
    }

    /// The observer's peers, and what they say of theirs.
    fn look_at_statuses(&mut self, asked: Instant, answered: Instant, snapshot: &str) {
        let snapshot: Value = serde_json::from_str(snapshot).unwrap();
        self.told.views[1] += 1;
        self.look_at_nodes("status", Some(0), asked, answered, &snapshot);
    }

    /// `meshmq ls`, which is there itself while it looks.
    fn list(&mut self) {
        let asked = Instant::now();
        let output = Command::new(env!("CARGO_BIN_EXE_meshmq"))
            .args(["ls", "--json", "--mesh", "test"])
            .env("MESHMQ_KEY", self.place.key.reveal())
            .env("MESHMQ_NO_MDNS", "1")
            .env("XDG_RUNTIME_DIR", self.place.folder.path())
            .output()
            .unwrap();
        let answered = Instant::now();
        let said = String::from_utf8(output.stdout).unwrap();
        let Ok(snapshot) = serde_json::from_str::<Value>(&said) else {
            let error = String::from_utf8_lossy(&output.stderr);
            return self.wrong(format!("meshmq ls: {}: {said}{error}", output.status));
        };
        self.told.views[2] += 1;
        // For others it is somebody who was there.
        let id = snapshot["taken_by"].as_str().unwrap().to_owned();
        self.lives.push(Life { id, joined: asked, leaves: Some(asked), gone: Some(answered) });
        self.look_at_nodes("ls", None, asked, answered, &snapshot);
    }

    fn look_at_nodes(&mut self, by: &str, viewer: Option<usize>, asked: Instant, answered: Instant, snapshot: &Value) {
        let nodes = snapshot["nodes"].as_array().unwrap();
        let told: Vec<_> = nodes.iter().filter(|node| !node["status"].is_null()).collect();
        let id = |node: &Value| node["id"].as_str().unwrap().to_owned();
        // Who is there has told of itself, and who is gone is not even talked of.
        let all: Vec<String> = nodes.iter().map(id).collect();
        let here: Vec<String> = told.iter().map(|node| id(node)).collect();
        let seen = |ids: &'_ [String]| -> BTreeSet<String> { ids.iter().cloned().collect() };
        self.look_at(by, viewer, asked, answered, &seen(&here), &seen(&all));
        for node in told {
            let (viewer, links) = (id(node), node["status"]["links"].as_array().unwrap());
            let Some(viewer) = self.lives.iter().position(|life| life.id == viewer) else { continue };
            let seen: BTreeSet<String> = links.iter().map(|link| link["node"].as_str().unwrap().to_owned()).collect();
            self.look_at(&format!("links in {by}"), Some(viewer), asked, answered, &seen, &seen);
        }
    }

    fn look(&mut self, by: &str, viewer: Option<usize>, asked: Instant, answered: Instant, seen: &BTreeSet<&str>) {
        let seen = seen.iter().map(|&id| id.to_owned()).collect();
        self.look_at(by, viewer, asked, answered, &seen, &seen);
    }

    /// Somebody was asked who is there: those who have been there for a while have to be `here`, and of those who are
    /// long gone none may be `known`.
    fn look_at(
        &mut self,
        by: &str,
        viewer: Option<usize>,
        asked: Instant,
        answered: Instant,
        here: &BTreeSet<String>,
        known: &BTreeSet<String>,
    ) {
        let since = viewer.map(|viewer| self.lives[viewer].joined);
        let mut wrong = Vec::new();
        for (number, life) in self.lives.iter().enumerate() {
            if Some(number) == viewer {
                continue;
            }
            let together = since.map_or(life.joined, |since| since.max(life.joined));
            let missed = asked.saturating_duration_since(together);
            if life.leaves.is_none_or(|leaves| leaves > answered) && !here.contains(&life.id) {
                self.told.missed = self.told.missed.max(missed);
                if missed > WITHIN {
                    wrong.push(format!("{by}: {} is missed after {missed:.1?}", life.id));
                }
            }
            let stale = life.gone.map_or(Duration::ZERO, |gone| asked.saturating_duration_since(gone));
            if known.contains(&life.id) {
                self.told.stale = self.told.stale.max(stale);
                if stale > WITHIN {
                    wrong.push(format!("{by}: {} is shown {stale:.1?} after its end", life.id));
                }
            }
        }
        let unknown = known.iter().filter(|id| self.lives.iter().all(|life| life.id != **id));
        wrong.extend(unknown.map(|id| format!("{by}: {id} was never there")));
        self.told.wrong.extend(wrong);
    }

    /// Of those who are gone, no socket is left where processes meet.
    fn look_at_folder(&mut self) {
        for mesh in folder(&self.place.path()) {
            let files = folder(&self.place.path().join(&mesh));
            if files.len() != 1 || !files[0].ends_with(".sock") {
                self.wrong(format!("only the observer's socket was to be left: {files:?}"));
            }
        }
    }
}
