//! What the benches share: real processes, which are the bench itself in a role, and a table of figures.
//!
//! A process tells the bench by lines of its standard output and is told by lines of its input. It never outlives the
//! bench, however that ends.
#![allow(dead_code, missing_docs, unreachable_pub, clippy::unwrap_used)]

// Hosts on networks of their own: the same as in the tests.
#[path = "../../tests/support/netns.rs"]
pub mod netns;

use std::fmt::Display;
use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, ExitCode, Stdio};
use std::str::FromStr;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use meshmq::{Builder, MeshKey, Node};
use rustix::process::{Pid, Signal, kill_process, set_parent_process_death_signal};

/// Nothing that a bench waits for takes as long unless it is broken.
pub const PATIENCE: Duration = Duration::from_secs(60);

const ROLE: &str = "MESHMQ_BENCH_ROLE";
const ARGS: &str = "MESHMQ_BENCH_ARGS";
const KEY: &str = "MESHMQ_BENCH_KEY";
const FOLDER: &str = "MESHMQ_BENCH_FOLDER";
const SEPARATOR: char = '\u{1f}';

/// What this process is when the bench has started it, with what it was given.
pub struct Role {
    pub name: String,
    args: Vec<String>,
}

impl Role {
    /// `None`: this process is the bench.
    pub fn of_this_process() -> Option<Self> {
        let name = std::env::var(ROLE).ok()?;
        set_parent_process_death_signal(Some(Signal::KILL)).unwrap();
        let args = std::env::var(ARGS).unwrap().split(SEPARATOR).map(str::to_owned).collect();
        Some(Self { name, args })
    }

    pub fn arg<T: FromStr<Err: std::fmt::Debug>>(&self, at: usize) -> T {
        self.args[at].parse().unwrap()
    }

    /// A node in the mesh of the bench.
    pub fn builder(&self) -> Builder {
        builder(std::env::var(KEY).unwrap().parse().unwrap(), std::env::var(FOLDER).unwrap().into())
    }

    /// The same for one that is found on its networks, and by nothing else.
    pub fn on_networks(&self) -> Builder {
        Node::builder("bench").key(std::env::var(KEY).unwrap().parse().unwrap()).without_local()
    }

    /// Tells the bench.
    pub fn say(&self, line: impl Display) {
        let mut out = std::io::stdout().lock();
        writeln!(out, "{line}").and_then(|()| out.flush()).unwrap();
    }

    /// Waits for the next line from the bench.
    pub fn told(&self) -> String {
        let mut line = String::new();
        std::io::stdin().read_line(&mut line).unwrap();
        line.trim().to_owned()
    }
}

/// A mesh of its own, with a folder that ends with it.
pub struct Place {
    key: MeshKey,
    folder: tempfile::TempDir,
}

impl Place {
    pub fn new() -> Self {
        let private = std::os::unix::fs::PermissionsExt::from_mode(0o700);
        let folder = tempfile::Builder::new().permissions(private).tempdir().unwrap();
        Self { key: MeshKey::generate().unwrap(), folder }
    }

    pub fn builder(&self) -> Builder {
        builder(self.key.clone(), self.path("run"))
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Starts a process in a role. It ends with the thread that has started it.
    pub fn start(&self, role: &str, args: &[&dyn Display]) -> Process {
        self.start_by(Command::new(std::env::current_exe().unwrap()), role, args)
    }

    /// The same on a host of its own.
    pub fn start_on(&self, lab: &netns::Lab, host: &str, role: &str, args: &[&dyn Display]) -> Process {
        self.start_by(lab.command(host, std::env::current_exe().unwrap()), role, args)
    }

    fn start_by(&self, mut command: Command, role: &str, args: &[&dyn Display]) -> Process {
        let args: Vec<String> = args.iter().map(|arg| arg.to_string()).collect();
        let mut child = command
            .env(ROLE, role)
            .env(ARGS, args.join(&SEPARATOR.to_string()))
            .env(KEY, self.key.reveal())
            .env(FOLDER, self.path("run"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let (sender, said) = channel();
        std::thread::spawn(move || {
            for line in stdout.lines().map_while(Result::ok) {
                if sender.send((Instant::now(), line)).is_err() {
                    break;
                }
            }
        });
        Process { stdin: child.stdin.take().unwrap(), child, said }
    }
}

fn builder(key: MeshKey, folder: PathBuf) -> Builder {
    Node::builder("bench").key(key).without_mdns().local_folder(folder)
}

/// A started process; killed when dropped.
pub struct Process {
    child: Child,
    stdin: ChildStdin,
    said: Receiver<(Instant, String)>,
}

impl Process {
    /// The next line that it says, and when it was heard.
    pub fn hear(&self) -> (Instant, String) {
        self.said.recv_timeout(PATIENCE).expect("the process says something")
    }

    /// Waits until it says just this, which is the next that it has to say.
    pub fn hear_this(&self, what: &str) -> Instant {
        let (at, line) = self.hear();
        assert_eq!(line, what);
        at
    }

    pub fn tell(&mut self, line: impl Display) {
        writeln!(self.stdin, "{line}").unwrap();
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// SIGKILL, and its end.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Runs what a process does on a runtime of its own.
pub fn run<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

/// What follows `--` on the command line: numbers, and `--check`, which makes a missed target an error.
pub struct Options {
    numbers: Vec<usize>,
    check: bool,
}

impl Options {
    /// # Panics
    /// The command line holds something else.
    pub fn read() -> Self {
        let mut options = Self { numbers: Vec::new(), check: false };
        for arg in std::env::args().skip(1) {
            match arg.as_str() {
                // Cargo's.
                "--bench" => {}
                "--check" => options.check = true,
                number => options.numbers.push(number.parse().expect("numbers, or --check")),
            }
        }
        options
    }

    pub fn number(&self, at: usize, default: usize) -> usize {
        self.numbers.get(at).copied().unwrap_or(default)
    }
}

/// Prints figures as they come.
pub struct Table {
    check: bool,
    failed: bool,
}

impl Table {
    pub fn new(options: &Options) -> Self {
        println!("{:<60} median [least..most]", "figure");
        Self { check: options.check, failed: false }
    }

    /// The median is what has to reach the target.
    pub fn row(&mut self, figure: &str, unit: &str, mut rounds: Vec<f64>, at_most: Option<f64>) {
        rounds.sort_by(f64::total_cmp);
        let (median, count) = (rounds[rounds.len() / 2], rounds.len());
        let digits = if unit.is_empty() && rounds.iter().all(|value| value.fract() == 0.0) {
            0
        } else if median < 10.0 {
            3
        } else {
            1
        };
        let number = |value: f64| format!("{value:.digits$}");
        let range = format!("[{}..{}] of {count}", number(rounds[0]), number(rounds[count - 1]));
        let target = match at_most {
            Some(most) if median > most => {
                self.failed |= self.check;
                format!("  MISSED: at most {most}{unit}")
            }
            Some(most) => format!("  at most {most}{unit}"),
            None => String::new(),
        };
        println!("{figure:<60} {}{unit} {range}{target}", number(median));
    }

    /// Something that has to hold in every round does not.
    pub fn violated(&mut self, what: impl Display) {
        println!("VIOLATED: {what}");
        self.failed = true;
    }

    pub fn end(self) -> ExitCode {
        if self.failed { ExitCode::FAILURE } else { ExitCode::SUCCESS }
    }
}
