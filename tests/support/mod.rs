//! Real processes for black-box tests: the test binary runs itself again in a role, and they talk over pipes by lines.
#![allow(dead_code, missing_docs, unreachable_pub, clippy::unwrap_used)]

pub mod netns;

use std::future::Future;
use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::panic::Location;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Condvar, Mutex};
use std::time::{Duration, Instant};

use meshmq::{Builder, MeshKey, Node};
use rustix::process::{Pid, Signal, WaitOptions, kill_process, waitpid};

/// Nothing in these tests takes as long unless it is broken.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// What a role needs to know, from the process that started it.
pub struct Role {
    pub args: Vec<String>,
}

impl Role {
    /// `None`: this is not that role's process. Called first in the test function that stands for the role.
    pub fn of(name: &str) -> Option<Self> {
        if std::env::var("MESHMQ_TEST_ROLE").ok()? != name {
            return None;
        }
        let args = std::env::var("MESHMQ_TEST_ARGS").unwrap_or_default();
        Some(Self { args: args.split('\u{1f}').map(str::to_owned).collect() })
    }

    pub fn arg<T: std::str::FromStr>(&self, at: usize) -> T
    where
        T::Err: std::fmt::Debug,
    {
        self.args[at].parse().expect("an argument of the role")
    }

    /// The node of the role, in the mesh of the test.
    pub fn builder(&self) -> Builder {
        self.on_networks().without_mdns()
    }

    /// The same for one that also looks for others on its networks.
    pub fn on_networks(&self) -> Builder {
        let key: MeshKey = std::env::var("MESHMQ_TEST_KEY").unwrap().parse().unwrap();
        Node::builder("test").key(key).local_folder(std::env::var("MESHMQ_TEST_FOLDER").unwrap())
    }

    /// Tells the test.
    pub fn say(&self, line: impl std::fmt::Display) {
        let mut out = std::io::stdout().lock();
        writeln!(out, "\u{2}{line}").and_then(|()| out.flush()).expect("the test listens");
    }
}

/// A mesh of its own for one test.
pub struct Place {
    pub key: MeshKey,
    pub folder: tempfile::TempDir,
}

impl Place {
    pub fn new() -> Self {
        Self { key: MeshKey::generate().unwrap(), folder: tempfile::tempdir().unwrap() }
    }

    pub fn path(&self) -> std::path::PathBuf {
        // Where processes meet whose XDG_RUNTIME_DIR is the folder above it.
        let path = self.folder.path().join("meshmq");
        if !path.exists() {
            use std::os::unix::fs::DirBuilderExt;
            std::fs::DirBuilder::new().mode(0o700).create(&path).unwrap();
        }
        path
    }

    pub fn builder(&self) -> Builder {
        Node::builder("test").key(self.key.clone()).without_mdns().local_folder(self.path())
    }

    /// Starts a process in a role: the test function of that name beside the caller, which begins with `Role::of`.
    #[track_caller]
    pub fn start(&self, role: &str, args: &[&dyn std::fmt::Display]) -> Process {
        self.start_by(Command::new(std::env::current_exe().unwrap()), role, args)
    }

    /// The same on a host of its own.
    #[track_caller]
    pub fn start_on(&self, lab: &netns::Lab, host: &str, role: &str, args: &[&dyn std::fmt::Display]) -> Process {
        self.start_by(lab.command(host, std::env::current_exe().unwrap()), role, args)
    }

    #[track_caller]
    fn start_by(&self, mut command: Command, role: &str, args: &[&dyn std::fmt::Display]) -> Process {
        let args: Vec<String> = args.iter().map(|arg| arg.to_string()).collect();
        let test = path_of(role, Path::new(Location::caller().file()));
        let mut child = command
            .args(["--exact", &test, "--nocapture", "--test-threads=1"])
            .env("MESHMQ_TEST_ROLE", role)
            .env("MESHMQ_TEST_ARGS", args.join("\u{1f}"))
            .env("MESHMQ_TEST_KEY", self.key.reveal())
            .env("MESHMQ_TEST_FOLDER", self.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let (sender, said) = channel();
        let (running, ended) = channel();
        std::thread::spawn(move || {
            // Dropped with the end of its output.
            let _running: std::sync::mpsc::Sender<()> = running;
            for line in stdout.lines().map_while(Result::ok) {
                if let Some(said) = line.split('\u{2}').nth(1) {
                    // Nobody may listen any more.
                    let _ = sender.send(said.to_owned());
                    *WORDS.lock().unwrap() += 1;
                    SAID.notify_all();
                }
            }
        });
        Process { stdin: child.stdin.take(), child, said, ended }
    }
}

/// The path of a test function in this file, as `--exact` takes it.
fn path_of(function: &str, file: &Path) -> String {
    let parent = file.parent().and_then(Path::file_name);
    match file.file_stem().and_then(|stem| stem.to_str()) {
        Some(module) if parent == Some("black_box".as_ref()) => format!("{module}::{function}"),
        _ => function.to_owned(),
    }
}

/// A started process; killed when dropped.
pub struct Process {
    child: Child,
    stdin: Option<ChildStdin>,
    said: Receiver<String>,
    ended: Receiver<()>,
}

/// How many lines all processes together have said, and that it was one more.
static WORDS: Mutex<u64> = Mutex::new(0);
static SAID: Condvar = Condvar::new();

/// Hears what processes say until it is enough.
pub fn hear_until(time: Duration, mut is_enough: impl FnMut() -> bool) {
    let end = Instant::now() + time;
    loop {
        let before = *WORDS.lock().unwrap();
        if is_enough() {
            return;
        }
        let left = end.saturating_duration_since(Instant::now());
        let silent = |words: &mut u64| *words == before;
        let (_words, silence) = SAID.wait_timeout_while(WORDS.lock().unwrap(), left, silent).unwrap();
        assert!(!silence.timed_out(), "it is not enough after {time:?}");
    }
}

impl Process {
    /// The next line that it says.
    pub fn hear(&self) -> String {
        self.said.recv_timeout(PATIENCE).expect("the process says something")
    }

    /// Waits until it says just this.
    pub fn hear_this(&self, what: &str) {
        let end = Instant::now() + PATIENCE;
        while Instant::now() < end {
            if self.hear() == what {
                return;
            }
        }
        panic!("never heard {what}");
    }

    /// The next line that it says, if it does within this time.
    pub fn hear_within(&self, time: Duration) -> Option<String> {
        self.said.recv_timeout(time).ok()
    }

    /// What it has said by now and nobody has heard; with `end`, until its end.
    pub fn heard(&self) -> Vec<String> {
        self.said.try_iter().collect()
    }

    pub fn until_end(&self) -> Vec<String> {
        let mut all = Vec::new();
        while let Ok(line) = self.said.recv_timeout(PATIENCE) {
            all.push(line);
        }
        all
    }

    pub fn tell(&mut self, line: &str) {
        writeln!(self.stdin.as_mut().expect("not closed yet"), "{line}").unwrap();
    }

    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// SIGSTOP, and that it stands.
    pub fn stop(&self) {
        self.signal(Signal::STOP);
        let stopped = waitpid(Some(Pid::from_child(&self.child)), WaitOptions::UNTRACED).unwrap();
        assert!(stopped.is_some_and(|(_, status)| status.stopped()));
    }

    /// SIGKILL, and its end.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        self.child.wait().unwrap();
    }

    pub fn wait(&mut self) -> std::process::ExitStatus {
        self.stdin = None;
        let ended = self.ended.recv_timeout(PATIENCE);
        assert_eq!(ended, Err(RecvTimeoutError::Disconnected), "the process does not end");
        self.child.wait().unwrap()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs a test on a runtime of its own, for no longer than it may take.
pub fn run<T>(test: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async { tokio::time::timeout(PATIENCE * 4, test).await.expect("the test takes too long") })
}

/// Waits until it holds. This is for figures, which nobody tells of when they change, and for a span of time that is itself
/// what a test is about: it looks again whenever all others have had their turn, and does not sleep. Where there is an
/// event or a line of output, tests wait for that.
pub async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < end, "never: {what}");
        tokio::task::yield_now().await;
        std::thread::yield_now();
    }
}

/// An address on a part of loopback that is this process's own, and that is used once: what is still under way to
/// somebody who has left reaches nobody else.
pub fn address(host: u8, nth: u16) -> SocketAddr {
    let [low, high, ..] = std::process::id().to_le_bytes();
    ([127, high, low, host], 7400 + nth).into()
}

pub fn folder(path: &Path) -> Vec<String> {
    std::fs::read_dir(path).unwrap().map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect()
}
