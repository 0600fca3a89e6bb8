//! What people and programs read: data on standard output, everything else on standard error.

use std::env;
use std::fmt::Display;
use std::io::{self, IsTerminal, Write};

use anyhow::Context;
use clap::builder::styling::{AnsiColor, Style};
use data_encoding::BASE64;
use meshmq::{Delivery, Message, Publication, Reply};
use serde::Serialize;

use crate::exit::Exit;

/// How much is said on standard error.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Say {
    quiet: bool,
    verbose: u8,
}

impl Say {
    pub(crate) fn new(quiet: bool, verbose: u8) -> Self {
        Self { quiet, verbose }
    }

    /// What the user should know; not with `-q`.
    pub(crate) fn note(self, text: impl Display) {
        if !self.quiet {
            stderr(text);
        }
    }

    /// What somebody who watches likes to know: with `-v`, or at the end of work on a terminal.
    pub(crate) fn summary(self, text: impl Display) {
        if self.verbose > 0 || io::stderr().is_terminal() {
            self.note(text);
        }
    }

    /// Only with `-v`.
    pub(crate) fn detail(self, text: impl Display) {
        if self.verbose > 0 {
            stderr(text);
        }
    }

    /// Why the command failed.
    pub(crate) fn error(self, error: &anyhow::Error) {
        stderr(format_args!("{error:#}"));
    }
}

/// Some of it is a peer's words: they must not act on a terminal.
fn stderr(text: impl Display) {
    let text = text.to_string().replace(|c: char| c.is_control() && c != '\n' && c != '\t', "\u{fffd}");
    // Nobody may be left to read it.
    let _ = writeln!(io::stderr(), "meshmq: {text}");
}

/// Prints to its end; when the reader has seen enough, that is the end.
pub(crate) fn print(text: &[u8]) -> anyhow::Result<Exit> {
    let mut out = io::stdout();
    match out.write_all(text).and_then(|()| out.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(Exit::Ok),
        end => end.context("cannot write to standard output").map(|()| Exit::Ok),
    }
}

/// Whether that is a terminal on which a cursor can be moved.
pub(crate) fn is_screen(stream: &impl IsTerminal) -> bool {
    stream.is_terminal() && env::var_os("TERM").is_none_or(|term| term != "dumb")
}

/// Whether colours are welcome there: on a terminal, unless NO_COLOR says no.
pub(crate) fn coloured(stream: &impl IsTerminal) -> bool {
    is_screen(stream) && env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// What a line is about, told by its colour where colours are welcome.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tone {
    Calm,
    Good,
    Bad,
    Title,
}

impl Tone {
    /// The line as it is shown on standard output.
    pub(crate) fn paint(self, line: impl Display) -> String {
        let style = match self {
            _ if !coloured(&io::stdout()) => Style::new(),
            Self::Calm => Style::new(),
            Self::Good => AnsiColor::Green.on_default(),
            Self::Bad => AnsiColor::Red.on_default(),
            Self::Title => Style::new().bold(),
        };
        format!("{style}{line}{style:#}")
    }
}

/// How a message is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// The body, then a separator.
    Text {
        /// Byte after each body; none may hold it.
        separator: u8,
        /// The topic, where there is one, and a tab stand before the body.
        topics: bool,
    },
    /// One JSON object a line.
    Json,
}

/// A message, with what is shown of it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shown<'a> {
    channel: &'a str,
    topic: Option<&'a str>,
    message: &'a Message,
    /// Of one that may come again.
    attempt: Option<u32>,
    redelivered: Option<bool>,
}

impl<'a> Shown<'a> {
    pub(crate) fn delivery(channel: &'a str, delivery: &'a Delivery) -> Self {
        let (attempt, redelivered) = (Some(delivery.attempt()), Some(delivery.redelivered()));
        Self { channel, topic: None, message: delivery, attempt, redelivered }
    }

    pub(crate) fn publication(channel: &'a str, publication: &'a Publication) -> Self {
        let topic = Some(publication.topic());
        Self { channel, topic, message: publication, attempt: None, redelivered: None }
    }

    pub(crate) fn reply(channel: &'a str, reply: &'a Reply) -> Self {
        Self { channel, topic: None, message: reply, attempt: Some(reply.attempt()), redelivered: None }
    }
}

/// The body holds the separator: printed, it would look like two messages.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct HoldsSeparator;

impl Form {
    pub(crate) fn of(json: bool, null: bool, topics: bool) -> Self {
        if json { Self::Json } else { Self::Text { separator: if null { 0 } else { b'\n' }, topics } }
    }

    pub(crate) fn write(self, shown: &Shown<'_>, out: &mut Vec<u8>) -> Result<(), HoldsSeparator> {
        match self {
            Self::Text { separator, topics } => {
                write_text(shown.topic.filter(|_| topics), shown.message, separator, out)
            }
            Self::Json => {
                let (id, sender) = (shown.message.id().to_string(), shown.message.sender().to_string());
                let headers = shown.message.headers();
                write_json(
                    &Line {
                        channel: shown.channel,
                        topic: shown.topic,
                        id: &id,
                        sender: &sender,
                        attempt: shown.attempt,
                        redelivered: shown.redelivered,
                        headers: headers.iter().collect(),
                        body: Body::new(shown.message),
                    },
                    out,
                );
                Ok(())
            }
        }
    }

    /// What to do about a body that holds the separator.
    pub(crate) fn remedy(self) -> &'static str {
        match self {
            Self::Text { separator: b'\n', .. } => "a line break: use -0 or --json",
            _ => "a NUL byte: use --json",
        }
    }
}

fn write_text(topic: Option<&str>, body: &[u8], separator: u8, out: &mut Vec<u8>) -> Result<(), HoldsSeparator> {
    if body.contains(&separator) {
        return Err(HoldsSeparator);
    }
    if let Some(topic) = topic {
        // A topic has no control characters: the first tab ends it.
        out.extend_from_slice(topic.as_bytes());
        out.push(b'\t');
    }
    out.extend_from_slice(body);
    out.push(separator);
    Ok(())
}

/// A value as one line of JSON.
pub(crate) fn write_json(value: &impl Serialize, out: &mut Vec<u8>) {
    serde_json::to_writer(&mut *out, value).expect("plain data, into memory");
    out.push(b'\n');
}

#[derive(Serialize)]
struct Line<'a> {
    channel: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    topic: Option<&'a str>,
    id: &'a str,
    sender: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    attempt: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    redelivered: Option<bool>,
    /// Pairs, as a name may repeat.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    headers: Vec<(&'a str, &'a str)>,
    #[serde(flatten)]
    body: Body<'a>,
}

#[derive(Serialize)]
enum Body<'a> {
    #[serde(rename = "body")]
    Text(&'a str),
    #[serde(rename = "body_base64")]
    Bytes(String),
}

impl<'a> Body<'a> {
    fn new(body: &'a [u8]) -> Self {
        std::str::from_utf8(body).map_or_else(|_| Self::Bytes(BASE64.encode(body)), Self::Text)
    }
}

/// `1,234,567`
pub(crate) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `1 message`, `1,000 messages`
pub(crate) fn counted(number: u64, one: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{} {one}{plural}", grouped(number))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_refuses_a_body_that_holds_the_separator() {
        let mut out = Vec::new();
        assert_eq!(write_text(None, b"one", b'\n', &mut out), Ok(()));
        assert_eq!(write_text(None, b"", b'\n', &mut out), Ok(()));
        assert_eq!(write_text(Some("a.b"), b"two\nthree", b'\n', &mut out), Err(HoldsSeparator));
        assert_eq!(write_text(Some("a.b"), b"two\nthree", 0, &mut out), Ok(()));
        assert_eq!(out, b"one\n\na.b\ttwo\nthree\0");
    }

    #[test]
    fn json_has_a_body_or_its_base64() {
        let line = |body| {
            let mut out = Vec::new();
            let (channel, id, sender, headers) = ("jobs", "a-1-0", "abc", Vec::new());
            let (topic, attempt, redelivered) = (None, Some(2), Some(true));
            let line = Line { channel, topic, id, sender, attempt, redelivered, headers, body };
            write_json(&line, &mut out);
            String::from_utf8(out).unwrap()
        };
        assert_eq!(
            line(Body::new(b"two\n\"lines\"")),
            "{\"channel\":\"jobs\",\"id\":\"a-1-0\",\"sender\":\"abc\",\"attempt\":2,\"redelivered\":true,\
             \"body\":\"two\\n\\\"lines\\\"\"}\n"
        );
        assert!(line(Body::new(b"\xff\x00")).ends_with("\"body_base64\":\"/wA=\"}\n"));
    }

    #[test]
    fn numbers_are_grouped() {
        for (number, text) in [(0, "0"), (999, "999"), (1000, "1,000"), (1_234_567, "1,234,567")] {
            assert_eq!(grouped(number), text);
        }
        assert_eq!(counted(1, "message"), "1 message");
        assert_eq!(counted(1000, "message"), "1,000 messages");
    }
}
