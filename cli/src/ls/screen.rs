//! A terminal on which one picture replaces the other.

use std::io::{self, Write};

use rustix::termios::{Winsize, tcgetwinsize};

/// The terminal's second screen; dropped, the first one is back as it was.
pub(super) struct Screen(());

impl Screen {
    pub(super) fn open() -> io::Result<Self> {
        let screen = Self(());
        write(SECOND_SCREEN)?;
        Ok(screen)
    }

    /// Shows as much of it as there is room for.
    pub(super) fn show(&mut self, text: &str) -> io::Result<()> {
        let size = tcgetwinsize(io::stdout()).ok().filter(|size| size.ws_row > 0 && size.ws_col > 0);
        write(&frame(text, size))
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        // There may be no terminal any more.
        let _ = write(FIRST_SCREEN);
    }
}

/// The bytes that draw it over what is there, without a moment of nothing.
fn frame(text: &str, size: Option<Winsize>) -> String {
    let rows = size.map_or(usize::MAX, |size| usize::from(size.ws_row));
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
        let size = |ws_row| Some(Winsize { ws_row, ws_col: 80, ws_xpixel: 0, ws_ypixel: 0 });
        assert_eq!(frame("a\nb\n", size(2)), "\x1b[Ha\x1b[K\r\nb\x1b[K\x1b[J");
        assert_eq!(frame("a\nb\nc\n", size(2)), "\x1b[Ha\x1b[K\r\n… 2 more lines\x1b[K\x1b[J");
        assert_eq!(frame("a\nb\nc\n", None), "\x1b[Ha\x1b[K\r\nb\x1b[K\r\nc\x1b[K\x1b[J");
    }
}
