//! How the demo looks.

use std::fmt::Display;
use std::io::{self, Write};
use std::time::Instant;

use crate::output::coloured;

/// Prints the demo's lines, with the time where something happens.
pub(super) struct Show {
    started: Instant,
    colours: bool,
}

/// What a line is about.
#[derive(Debug, Clone, Copy)]
pub(super) enum Tone {
    Calm,
    Good,
    Bad,
    Title,
}

impl Show {
    pub(super) fn new() -> Self {
        Self { started: Instant::now(), colours: coloured(&io::stdout()) }
    }

    /// From now on the time counts.
    pub(super) fn start(&mut self) {
        self.started = Instant::now();
    }

    pub(super) fn seconds(&self) -> f64 {
        self.started.elapsed().as_secs_f64()
    }

    /// A line that stands by itself.
    pub(super) fn line(&self, tone: Tone, text: impl Display) {
        self.print(tone, text);
    }

    /// A line of a table: what it is, and the value.
    pub(super) fn row(&self, name: &str, text: impl Display) {
        self.print(Tone::Calm, format_args!("  {name:<12} {text}"));
    }

    /// Something that happens now.
    pub(super) fn event(&self, tone: Tone, text: impl Display) {
        self.print(tone, format_args!("{:>6.1} s     {text}", self.seconds()));
    }

    /// More about what happened just now.
    pub(super) fn more(&self, tone: Tone, text: impl Display) {
        self.print(tone, format_args!("{:13}{text}", ""));
    }

    pub(super) fn gap(&self) {
        self.print(Tone::Calm, "");
    }

    fn print(&self, tone: Tone, text: impl Display) {
        let (on, off) = match tone {
            _ if !self.colours => ("", ""),
            Tone::Calm => ("", ""),
            Tone::Good => ("\x1b[32m", "\x1b[0m"),
            Tone::Bad => ("\x1b[31m", "\x1b[0m"),
            Tone::Title => ("\x1b[1m", "\x1b[0m"),
        };
        // Whoever read may have left: the exit code still tells.
        let _ = writeln!(io::stdout(), "{on}{text}{off}");
    }
}
