//! A terminal on which one picture replaces the other.

use std::io::{self, Write};

use rustix::termios::tcgetwinsize;

/// The terminal's second screen; dropped, the first one is back as it was.
pub(crate) struct Screen(());

impl Screen {
    pub(crate) fn open() -> io::Result<Self> {
        let screen = Self(());
        write(SECOND_SCREEN)?;
        Ok(screen)
    }

    /// Its rows and columns now; without an end where it does not tell.
    pub(crate) fn size(&self) -> (usize, usize) {
        let size = tcgetwinsize(io::stdout()).ok().filter(|size| size.ws_row > 0 && size.ws_col > 0);
        size.map_or((usize::MAX, usize::MAX), |size| (size.ws_row.into(), size.ws_col.into()))
    }

    /// Shows as much of it as there is room for.
    pub(crate) fn show(&mut self, text: &str) -> io::Result<()> {
        write(&frame(text, self.size().0))
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        // There may be no terminal any more.
        let _ = write(FIRST_SCREEN);
    }
}

/// The bytes that draw it over what is there, without a moment of nothing.
fn frame(text: &str, rows: usize) -> String {
    let lines: Vec<&str> = text.lines().collect();
    let mut frame = String::from(HOME);
    let (shown, cut) = if lines.len() > rows { (rows.saturating_sub(1), true) } else { (lines.len(), false) };
    for (nth, line) in lines[..shown].iter().enumerate() {
        let gap = if nth > 0 { "\r\n" } else { "" };
        frame += &format!("{gap}{line}{REST_OF_LINE}");
    }
    if cut {
        let more = format!("… {} more lines", lines.len() - shown);
        frame += &format!("\r\n{more}{REST_OF_LINE}");
    }
    frame + REST_OF_SCREEN
}

fn write(text: &str) -> io::Result<()> {
    let mut out = io::stdout();
    out.write_all(text.as_bytes())?;
    out.flush()
}

/// The second screen, without a cursor, and without wrapping: what is too long is cut at the edge.
const SECOND_SCREEN: &str = "\x1b[?1049h\x1b[?25l\x1b[?7l";
const FIRST_SCREEN: &str = "\x1b[?7h\x1b[?25h\x1b[?1049l";
const HOME: &str = "\x1b[H";
const REST_OF_LINE: &str = "\x1b[K";
const REST_OF_SCREEN: &str = "\x1b[J";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_no_room_is_counted() {
        assert_eq!(frame("a\nb\n", 2), "\x1b[Ha\x1b[K\r\nb\x1b[K\x1b[J");
        assert_eq!(frame("a\nb\nc\n", 2), "\x1b[Ha\x1b[K\r\n… 2 more lines\x1b[K\x1b[J");
        assert_eq!(frame("a\nb\nc\n", usize::MAX), "\x1b[Ha\x1b[K\r\nb\x1b[K\r\nc\x1b[K\x1b[J");
    }
}
