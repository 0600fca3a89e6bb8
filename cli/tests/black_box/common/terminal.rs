//! A terminal, and a process that it controls: Ctrl-C reaches it.

use std::fs::File;
use std::io::{Read, Write};
use std::process::{Child, Command, Stdio};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};

use super::PATIENCE;

pub(crate) struct Terminal {
    outside: File,
    child: Child,
    /// All that was written to it so far.
    pub(crate) shown: String,
}

impl Terminal {
    /// Runs a command on a terminal of so many rows and columns.
    pub(crate) fn start(command: &Command, size: (u16, u16)) -> Self {
        let outside = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
        grantpt(&outside).unwrap();
        unlockpt(&outside).unwrap();
        let inside = ptsname(&outside, Vec::new()).unwrap();
        let inside = File::options().read(true).write(true).open(inside.to_str().unwrap()).unwrap();
        // To make a terminal one's own takes a program: it is done between fork and exec.
        let mut owner = Command::new("setsid");
        owner.arg("--ctty").arg(command.get_program()).args(command.get_args());
        owner.env("TERM", "xterm-256color").env_remove("NO_COLOR").env_remove("CLICOLOR").env_remove("CLICOLOR_FORCE");
        for (name, value) in command.get_envs() {
            match value {
                Some(value) => owner.env(name, value),
                None => owner.env_remove(name),
            };
        }
        owner.current_dir(command.get_current_dir().unwrap());
        owner.stdin(inside.try_clone().unwrap()).stdout(inside.try_clone().unwrap()).stderr(Stdio::from(inside));
        let outside = File::from(outside);
        resize(&outside, size);
        Self { outside, child: owner.spawn().unwrap(), shown: String::new() }
    }

    pub(crate) fn resize(&self, size: (u16, u16)) {
        resize(&self.outside, size);
    }

    /// Writes what a user types.
    pub(crate) fn press(&mut self, keys: &str) {
        self.outside.write_all(keys.as_bytes()).unwrap();
    }

    /// Waits until this holds for all that was written to it.
    pub(crate) fn shows(&mut self, wanted: impl Fn(&str) -> bool) {
        while !wanted(&self.shown) {
            assert!(self.read(), "it has ended after {:?}", self.shown);
        }
    }

    /// Waits until the process has ended: its exit code, and all that was written.
    pub(crate) fn end(mut self) -> (Option<i32>, String) {
        while self.read() {}
        (self.child.wait().unwrap().code(), std::mem::take(&mut self.shown))
    }

    /// Reads some more; `false`: nobody has the terminal open any more.
    fn read(&mut self) -> bool {
        let patience = Timespec { tv_sec: PATIENCE.as_secs() as i64, tv_nsec: 0 };
        let ready = poll(&mut [PollFd::new(&self.outside, PollFlags::IN)], Some(&patience)).unwrap();
        assert_eq!(ready, 1, "nothing comes after {:?}", self.shown);
        let mut bytes = [0; 4096];
        let count = self.outside.read(&mut bytes).unwrap_or(0);
        self.shown += &String::from_utf8_lossy(&bytes[..count]);
        count > 0
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn resize(terminal: &File, (rows, columns): (u16, u16)) {
    tcsetwinsize(terminal, Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 }).unwrap();
}

/// A text without its escape sequences.
pub(crate) fn plain(text: &str) -> String {
    let mut parts = text.split("\x1b[");
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |plain, part| {
        plain + part.trim_start_matches(|c: char| !c.is_ascii_alphabetic()).get(1..).unwrap()
    })
}
