//! Real processes of the real program, each test with a user's folders of its own.

// Each test file is a program of its own and uses a part of this.
#![allow(dead_code)]

pub(crate) mod terminal;

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, WaitOptions, kill_process, kill_process_group, pidfd_open, waitpid};
use tempfile::TempDir;

/// Far more than anything takes, for a machine with other things to do.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Says that this machine cannot run a test, whatever the harness keeps back; with `MESHMQ_REQUIRE_NETNS=1` it fails.
pub(crate) fn skip(test: &str, why: &str) {
    let required = std::env::var_os("MESHMQ_REQUIRE_NETNS").is_some_and(|value| value == "1");
    assert!(!required, "{test} cannot run here (MESHMQ_REQUIRE_NETNS=1): {why}");
    let _ = writeln!(std::io::stderr(), "SKIPPED {test}: {why}");
}

/// A user: their home, configuration and runtime folder. Gone with the test.
pub(crate) struct User(TempDir);

impl User {
    pub(crate) fn new() -> Self {
        let user = Self(TempDir::new().unwrap());
        for folder in [user.config(), user.runtime()] {
            fs::create_dir(&folder).unwrap();
            fs::set_permissions(&folder, PermissionsExt::from_mode(0o700)).unwrap();
        }
        user
    }

    pub(crate) fn home(&self) -> &Path {
        self.0.path()
    }

    pub(crate) fn config(&self) -> PathBuf {
        self.home().join("config")
    }

    pub(crate) fn runtime(&self) -> PathBuf {
        self.home().join("runtime")
    }

    /// A file of this user that nobody else may read.
    pub(crate) fn file(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.home().join(name);
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).unwrap();
        path
    }

    /// `meshmq` with these arguments, as this user in their home.
    pub(crate) fn meshmq(&self, args: &[&str]) -> Command {
        let mut command = self.program(env!("CARGO_BIN_EXE_meshmq"));
        command.args(args);
        command
    }

    /// A line for the shell, in which `$M` is the program.
    pub(crate) fn shell(&self, line: &str) -> Command {
        let mut command = self.program("sh");
        command.args(["-c", line]).env("M", env!("CARGO_BIN_EXE_meshmq"));
        command
    }

    /// The same with mounts of its own, which end with it.
    pub(crate) fn unshared(&self, script: &str) -> Command {
        let mut command = self.program("unshare");
        if !rustix::process::geteuid().is_root() {
            command.arg("-r");
        }
        command.args(["-m", "sh", "-c", script]).env("M", env!("CARGO_BIN_EXE_meshmq"));
        command
    }

    fn program(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("MESHMQ_")) {
            command.env_remove(name);
        }
        command
            .current_dir(self.home())
            .env("HOME", self.home())
            .env("XDG_CONFIG_HOME", self.config())
            .env("XDG_RUNTIME_DIR", self.runtime())
            // Tests of the network have one of their own; these stay on this machine.
            .env("MESHMQ_NO_MDNS", "1");
        command
    }
}

/// A process that runs, and is killed when the test is over.
pub(crate) struct Process {
    pid: Pid,
    pub(crate) stdin: Option<ChildStdin>,
    stdout: Receiver<Vec<u8>>,
    stderr: Receiver<Vec<u8>>,
    /// What was read of standard error so far.
    said: String,
    code: Receiver<Option<i32>>,
}

/// How a process has ended.
#[derive(Debug)]
pub(crate) struct Ended {
    /// The exit code; `None`: it was killed.
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Process {
    pub(crate) fn start(command: &mut Command) -> Self {
        let command = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child: Child = command.process_group(0).spawn().unwrap();
        let pid = Pid::from_child(&child);
        let stdin = child.stdin.take();
        let stdout = lines(child.stdout.take().unwrap());
        let stderr = lines(child.stderr.take().unwrap());
        let (ended, code) = channel();
        std::thread::spawn(move || ended.send(child.wait().unwrap().code()));
        Self { pid, stdin, stdout, stderr, said: String::new(), code }
    }

    /// Writes to its standard input.
    pub(crate) fn write(&mut self, input: impl AsRef<[u8]>) {
        let stdin = self.stdin.as_mut().expect("standard input is open");
        stdin.write_all(input.as_ref()).unwrap();
        stdin.flush().unwrap();
    }

    /// Ends its standard input.
    pub(crate) fn close(&mut self) {
        self.stdin = None;
    }

    /// The next line of its standard output, without the line break.
    pub(crate) fn line(&mut self) -> String {
        match self.stdout.recv_timeout(PATIENCE) {
            Ok(line) => text(&line).trim_end_matches('\n').to_owned(),
            Err(error) => panic!("no line: {error}; it said {}", self.said()),
        }
    }

    /// Waits until its standard output has a line with this text.
    pub(crate) fn shows(&mut self, wanted: &str) -> String {
        loop {
            let line = self.line();
            if line.contains(wanted) {
                return line;
            }
        }
    }

    /// Waits until it has said this on standard error.
    pub(crate) fn says(&mut self, wanted: &str) {
        let deadline = Instant::now() + PATIENCE;
        while !self.said.contains(wanted) {
            match self.stderr.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(line) => self.said += &text(&line),
                Err(RecvTimeoutError::Timeout) => panic!("it did not say {wanted:?} but {:?}", self.said),
                Err(RecvTimeoutError::Disconnected) => panic!("it ended without saying {wanted:?} but {:?}", self.said),
            }
        }
    }

    /// The word that begins so, of what it has said.
    pub(crate) fn stderr_word(&self, beginning: &str) -> String {
        let at = self.said.find(beginning).expect("it was said");
        self.said[at..].split_whitespace().next().unwrap().to_owned()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(self.pid, signal).unwrap();
    }

    /// Stops it, and waits until it stands.
    pub(crate) fn stop(&self) {
        self.signal(Signal::STOP);
        let stopped = waitpid(Some(self.pid), WaitOptions::UNTRACED).unwrap();
        assert!(stopped.is_some_and(|(_, status)| status.stopped()));
    }

    /// Waits until it has ended. What was read before is not repeated.
    pub(crate) fn end(mut self) -> Ended {
        self.close();
        let Ok(code) = self.code.recv_timeout(PATIENCE) else {
            panic!("it has not ended; it said {}", self.said());
        };
        let stdout = self.stdout.iter().flatten().collect::<Vec<u8>>();
        Ended { code, stdout: text(&stdout), stderr: self.said() }
    }

    fn said(&mut self) -> String {
        self.said.extend(self.stderr.try_iter().map(|line| text(&line)));
        while let Ok(line) = self.stderr.recv_timeout(Duration::from_millis(500)) {
            self.said += &text(&line);
        }
        self.said.clone()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // And all of a shell's pipeline. It may have ended just now.
        let _ = kill_process_group(self.pid, Signal::KILL);
    }
}

/// Runs a command with this input to its end.
pub(crate) fn run(command: &mut Command, input: &str) -> Ended {
    let mut process = Process::start(command);
    let stdin = process.stdin.take();
    let input = input.to_owned();
    std::thread::spawn(move || {
        // It may end without having read everything.
        let _ = stdin.unwrap().write_all(input.as_bytes());
    });
    process.end()
}

/// The numbers from 1, each on a line, as `seq` prints them.
pub(crate) fn seq(last: u32) -> String {
    (1..=last).map(|number| format!("{number}\n")).collect()
}

/// Numbers, each on a line, in their order.
pub(crate) fn sorted(lines: &str) -> Vec<u32> {
    let mut numbers: Vec<u32> = lines.lines().map(|line| line.parse().unwrap()).collect();
    numbers.sort_unstable();
    numbers
}

/// Waits until a process has ended that is none of ours.
pub(crate) fn wait_until_gone(pid: i32) {
    let pid = Pid::from_raw(pid).unwrap();
    // No such process: it has ended already.
    let Ok(process) = pidfd_open(pid, PidfdFlags::empty()) else { return };
    let patience = Timespec { tv_sec: PATIENCE.as_secs() as i64, tv_nsec: 0 };
    let ended = poll(&mut [PollFd::new(&process, PollFlags::IN)], Some(&patience)).unwrap();
    assert_eq!(ended, 1, "process {} still runs", pid.as_raw_nonzero());
}

fn lines(from: impl Read + Send + 'static) -> Receiver<Vec<u8>> {
    let (send, lines) = channel();
    std::thread::spawn(move || {
        let mut from = BufReader::new(from);
        loop {
            let mut line = Vec::new();
            if from.read_until(b'\n', &mut line).unwrap_or(0) == 0 || send.send(line).is_err() {
                return;
            }
        }
    });
    lines
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
