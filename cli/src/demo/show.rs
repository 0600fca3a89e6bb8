//! How the demo is shown: as lines, one after the other, or on a terminal as a picture with the latest ones below it.

use std::env;
use std::fmt::Display;
use std::io::{self, Write};
use std::time::Instant;

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use super::board::Board;
use crate::output::{Tone, is_screen};
use crate::screen::Screen;

/// What the demo says, with the time where something happens.
pub(super) struct Show {
    started: Instant,
    live: Option<Live>,
}

/// The picture, while it is there.
struct Live {
    screen: Screen,
    title: String,
    board: Option<Board>,
    events: Vec<String>,
    /// What workers say on standard error, which would spoil the picture.
    said: UnboundedReceiver<String>,
    say: UnboundedSender<String>,
}

impl Show {
    pub(super) fn new() -> Self {
        Self { started: Instant::now(), live: None }
    }

    /// From now on the time counts.
    pub(super) fn start(&mut self) {
        self.started = Instant::now();
    }

    pub(super) fn started(&self) -> Instant {
        self.started
    }

    pub(super) fn seconds(&self) -> f64 {
        self.started.elapsed().as_secs_f64()
    }

    /// Shows a picture from now on, where there is a terminal for it. What the library logs would spoil it.
    pub(super) fn go_live(&mut self, title: String) {
        let logs = env::var_os("MESHMQ_LOG").is_some_and(|filter| !filter.is_empty());
        if is_screen(&io::stdout())
            && !logs
            && let Ok(screen) = Screen::open()
        {
            let (say, said) = unbounded_channel();
            self.live = Some(Live { screen, title, board: None, events: Vec::new(), said, say });
        }
    }

    pub(super) fn is_live(&self) -> bool {
        self.live.is_some()
    }

    /// Where a worker's words on standard error go; `None`: to this process's own.
    pub(super) fn say(&self) -> Option<UnboundedSender<String>> {
        self.live.as_ref().map(|live| live.say.clone())
    }

    /// Shows how it stands, if there is a picture.
    pub(super) fn draw(&mut self, board: Board) {
        if let Some(live) = &mut self.live {
            live.listen();
            let text = board.draw(&live.title, &live.events, live.screen.size());
            live.board = Some(board);
            // The terminal may be gone: the exit code still tells.
            let _ = live.screen.show(&text);
        }
    }

    /// Ends the picture: the terminal is as it was, and the last picture stands on it, with all events.
    pub(super) fn settle(&mut self) {
        let Some(mut live) = self.live.take() else { return };
        live.listen();
        let (_, columns) = live.screen.size();
        drop(live.screen);
        match live.board {
            // The title stands above it already.
            Some(board) => print(board.draw("", &live.events, (usize::MAX, columns)).trim_end()),
            None => live.events.iter().for_each(print),
        }
    }

    /// A line that stands by itself.
    pub(super) fn line(&mut self, tone: Tone, text: impl Display) {
        let line = tone.paint(text);
        match &mut self.live {
            Some(live) => live.events.push(line),
            None => print(line),
        }
    }

    /// A line of a table: what it is, and the value.
    pub(super) fn row(&mut self, name: &str, text: impl Display) {
        self.line(Tone::Calm, format_args!("  {name:<12} {text}"));
    }

    /// Something that happens now.
    pub(super) fn event(&mut self, tone: Tone, text: impl Display) {
        let seconds = self.seconds();
        self.line(tone, format_args!("{seconds:>6.1} s     {text}"));
    }

    /// More about what happened just now.
    pub(super) fn more(&mut self, tone: Tone, text: impl Display) {
        self.line(tone, format_args!("{:13}{text}", ""));
    }

    pub(super) fn gap(&mut self) {
        self.line(Tone::Calm, "");
    }
}

impl Live {
    fn listen(&mut self) {
        while let Ok(line) = self.said.try_recv() {
            self.events.push(Tone::Bad.paint(line));
        }
    }
}

fn print(line: impl Display) {
    // Whoever read may have left: the exit code still tells.
    let _ = writeln!(io::stdout(), "{line}");
}
