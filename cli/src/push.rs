//! `meshmq push`: each line a message; done when all are acknowledged.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Context;
use bytes::Bytes;
use meshmq::{NewMessage, Node, Push, SendErrorKind};
use serde::Serialize;
use tokio::sync::mpsc;

use crate::args::PushArgs;
use crate::exit::Exit;
use crate::mesh::{self, DRAIN, MAX_MESSAGE};
use crate::output::{Say, counted, write_json};
use crate::refused::refusal;
use crate::signals::Signals;
use crate::split::Splitter;
use crate::waiting::{Waited, Waiting};

/// Bytes that are read at a time.
const READ: usize = 64 << 10;
/// Reads that may be ahead of what was sent.
const AHEAD: usize = 4;

pub(crate) async fn run(args: PushArgs, signals: &Signals) -> anyhow::Result<Exit> {
    let say = Say::new(args.common.quiet, args.common.verbose);
    mesh::check_channel(&args.channel)?;
    check_inputs(&args)?;
    let node = mesh::join(&args.common, say).await?;
    mesh::serve_metrics(&node, &args.metrics, say)?;
    let push = node.push(&args.channel).await?;
    let started = Instant::now();
    let waiting = Waiting::new(&node, signals, say, &args.common);
    let mut pushing = Pushing { push: &push, headers: &args.headers, waiting };
    let sent = pushing.send_all(read(&args)).await;
    // Also after an error in the input: what was accepted before it is not given up.
    let end = match sent {
        Ok(Waited::Ready(())) => Ok(pushing.flush().await),
        Ok(ended) => Ok(ended),
        Err(error) => {
            pushing.flush().await;
            Err(error)
        }
    };
    let exit = conclude(end, &push, &node, &args.common.peers, say).await?;
    report(&args, &push, started, say);
    Ok(exit)
}

struct Pushing<'a> {
    push: &'a Push,
    /// Of each message.
    headers: &'a [(String, String)],
    waiting: Waiting<'a>,
}

impl Pushing<'_> {
    async fn send_all(&mut self, mut input: mpsc::Receiver<io::Result<Vec<Bytes>>>) -> anyhow::Result<Waited<()>> {
        let push = self.push;
        loop {
            let messages = match self.waiting.on(input.recv(), || settled(push), || wanted(push)).await {
                Waited::Ready(Some(messages)) => messages?,
                Waited::Ready(None) => return Ok(Waited::Ready(())),
                Waited::Stopped => return Ok(Waited::Stopped),
                Waited::TimedOut => return Ok(Waited::TimedOut),
            };
            for body in messages {
                let headers = self.headers.iter().map(|(name, value)| (name, value));
                let message = match push.try_send(NewMessage::new(body).with_headers(headers)) {
                    Ok(()) => continue,
                    Err(refused) if refused.kind == SendErrorKind::Full => refused.message,
                    Err(refused) => return Err(refused.kind.into()),
                };
                match self.waiting.on(async { push.send(message).await }, || settled(push), || wanted(push)).await {
                    Waited::Ready(sent) => sent.map_err(|refused| refused.kind)?,
                    Waited::Stopped => return Ok(Waited::Stopped),
                    Waited::TimedOut => return Ok(Waited::TimedOut),
                }
            }
        }
    }

    async fn flush(&mut self) -> Waited<()> {
        let push = self.push;
        match self.waiting.on(async { push.flush().await }, || settled(push), || wanted(push)).await {
            // The node ends only after this.
            Waited::Ready(_) => Waited::Ready(()),
            Waited::Stopped => Waited::Stopped,
            Waited::TimedOut => Waited::TimedOut,
        }
    }
}

/// How many messages are in their final state; `None` when that is all of them.
fn settled(push: &Push) -> Option<u64> {
    let now = push.metrics();
    let settled = now.handled + now.rejected + now.exhausted;
    (settled < now.accepted).then_some(settled)
}

fn unsettled(push: &Push) -> u64 {
    let now = push.metrics();
    now.queued + now.in_flight
}

fn wanted(push: &Push) -> String {
    let (channel, messages) = (push.channel(), counted(unsettled(push), "message"));
    match push.pullers() {
        0 => format!("a puller on channel {channel:?} to take {messages}"),
        pullers => format!("{} on channel {channel:?} to acknowledge {messages}", counted(pullers as u64, "puller")),
    }
}

async fn conclude(
    end: anyhow::Result<Waited<()>>,
    push: &Push,
    node: &Node,
    named: &[String],
    say: Say,
) -> anyhow::Result<Exit> {
    let pullers = push.pullers();
    let mut refused = None;
    let (exit, drain) = match end? {
        Waited::Ready(()) => (Exit::Ok, DRAIN),
        Waited::TimedOut => {
            refused = refusal(node, named);
            (if refused.is_some() { Exit::Refused } else { Exit::TimedOut }, Duration::ZERO)
        }
        // The signal asks for an end, not for a loss: whoever pulls now still gets what was accepted.
        Waited::Stopped if pullers > 0 => (Exit::Interrupted, DRAIN),
        Waited::Stopped => (Exit::Interrupted, Duration::ZERO),
    };
    let left = node.shutdown(drain).await.len() as u64;
    if left > 0 {
        let why = match (exit, pullers) {
            (Exit::Interrupted, _) => "interrupted",
            (_, 0) => "timed out with no puller",
            _ => "timed out",
        };
        let left = counted(left, "message");
        let what = match refused {
            Some(refusal) => format!("{refusal}; {left} not acknowledged on channel {:?}", push.channel()),
            None => format!("{why} on channel {:?}: {left} not acknowledged", push.channel()),
        };
        say.error(&exit.because(what));
        return Ok(exit);
    }
    let now = push.metrics();
    let refused = now.rejected + now.exhausted;
    if refused > 0 {
        say.error(&Exit::Refused.because(format!("{} refused by a worker", counted(refused, "message"))));
        return Ok(Exit::Refused);
    }
    Ok(exit)
}

#[derive(Serialize)]
struct Summary<'a> {
    channel: &'a str,
    accepted: u64,
    handled: u64,
    rejected: u64,
    unacknowledged: u64,
    redelivered: u64,
    seconds: f64,
}

fn report(args: &PushArgs, push: &Push, started: Instant, say: Say) {
    let now = push.metrics();
    let seconds = started.elapsed().as_secs_f64();
    say.summary(format_args!("{} handled in {seconds:.1} s", counted(now.handled, "message")));
    if args.common.json {
        let summary = Summary {
            channel: push.channel(),
            accepted: now.accepted,
            handled: now.handled,
            rejected: now.rejected + now.exhausted,
            unacknowledged: now.accepted - now.handled - now.rejected - now.exhausted,
            redelivered: now.redelivered,
            seconds,
        };
        let mut line = Vec::new();
        write_json(&summary, &mut line);
        // A reader that has left does not change what was handled.
        let _ = io::Write::write_all(&mut io::stdout(), &line);
    }
}

/// What can be known to be wrong before anything is sent.
fn check_inputs(args: &PushArgs) -> anyhow::Result<()> {
    let stdin = args.files.is_empty() || args.files.iter().any(|file| is_stdin(file));
    if stdin && args.common.key_file.as_deref().is_some_and(is_stdin) {
        return Err(Exit::Usage.because("standard input cannot be both the mesh key and the messages: name a FILE"));
    }
    for file in args.files.iter().filter(|file| !is_stdin(file)) {
        let meta = std::fs::metadata(file).with_context(|| format!("cannot read {}", file.display()))?;
        anyhow::ensure!(!meta.is_dir(), "cannot read {}: it is a folder", file.display());
    }
    Ok(())
}

fn is_stdin(path: &Path) -> bool {
    path == Path::new("-")
}

/// Reads all inputs on a thread of its own, since a read from a terminal or a pipe cannot be cancelled.
fn read(args: &PushArgs) -> mpsc::Receiver<io::Result<Vec<Bytes>>> {
    let files = if args.files.is_empty() { vec![PathBuf::from("-")] } else { args.files.clone() };
    let separator = if args.null { 0 } else { b'\n' };
    let whole = args.whole;
    let (ready, messages) = mpsc::channel(AHEAD);
    std::thread::spawn(move || {
        for file in files {
            let read = open(&file)
                .and_then(|input| if whole { read_whole(input, &ready) } else { read_parts(input, separator, &ready) });
            if let Err(error) = read {
                // The command may have ended: then nobody is left to be told.
                let _ = ready.blocking_send(Err(named(&file, error)));
                return;
            }
        }
    });
    messages
}

fn open(file: &Path) -> io::Result<Box<dyn Read>> {
    Ok(if is_stdin(file) { Box::new(io::stdin().lock()) } else { Box::new(File::open(file)?) })
}

fn named(file: &Path, error: io::Error) -> io::Error {
    let name = if is_stdin(file) { "standard input".into() } else { file.to_string_lossy() };
    io::Error::new(error.kind(), format!("{name}: {error}"))
}

fn too_long(what: impl std::fmt::Display) -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        format!("{what} is longer than {} MiB, the most that a message may have", MAX_MESSAGE >> 20),
    )
}

type Ready = mpsc::Sender<io::Result<Vec<Bytes>>>;

fn read_parts(mut input: impl Read, separator: u8, ready: &Ready) -> io::Result<()> {
    let mut splitter = Splitter::new(separator, MAX_MESSAGE);
    let mut buffer = vec![0; READ];
    loop {
        let count = match input.read(&mut buffer) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            read => read?,
        };
        splitter.feed(&buffer[..count]);
        let mut messages = Vec::new();
        let whole = loop {
            match splitter.take() {
                Ok(Some(message)) => messages.push(message),
                Ok(None) => break Ok(()),
                Err(long) => break Err(too_long(format_args!("message {}", long.message))),
            }
        };
        if count == 0 {
            messages.extend(splitter.rest());
        }
        if !messages.is_empty() && ready.blocking_send(Ok(messages)).is_err() {
            return Ok(());
        }
        whole?;
        if count == 0 {
            return Ok(());
        }
    }
}

fn read_whole(input: impl Read, ready: &Ready) -> io::Result<()> {
    let mut body = Vec::new();
    input.take(MAX_MESSAGE as u64 + 1).read_to_end(&mut body)?;
    if body.len() > MAX_MESSAGE {
        return Err(too_long("it"));
    }
    // Nobody wants it any more when the command has ended.
    let _ = ready.blocking_send(Ok(vec![body.into()]));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn messages(run: impl FnOnce(&Ready) -> io::Result<()>) -> (Vec<Bytes>, Option<String>) {
        let (ready, mut messages) = mpsc::channel(1000);
        let error = run(&ready).err().map(|error| error.to_string());
        drop(ready);
        let mut all = Vec::new();
        while let Some(batch) = messages.blocking_recv() {
            all.extend(batch.unwrap());
        }
        (all, error)
    }

    #[test]
    fn lines_of_an_input_are_messages() {
        let (all, error) = messages(|ready| read_parts(&b"one\ntwo\nthree"[..], b'\n', ready));
        assert_eq!(all, ["one", "two", "three"]);
        assert_eq!(error, None);
    }

    #[test]
    fn what_stands_before_a_line_that_is_too_long_is_sent() {
        let input = [b"one\n".to_vec(), vec![b'x'; MAX_MESSAGE + 1]].concat();
        let (all, error) = messages(|ready| read_parts(&input[..], b'\n', ready));
        assert_eq!(all, ["one"]);
        assert_eq!(error.unwrap(), "message 2 is longer than 16 MiB, the most that a message may have");
    }

    #[test]
    fn a_whole_file_is_a_message() {
        let (all, _) = messages(|ready| read_whole(&b"a\nb"[..], ready));
        assert_eq!(all, ["a\nb"]);
        let (all, error) = messages(|ready| read_whole(io::repeat(b'x'), ready));
        assert!(all.is_empty() && error.unwrap().starts_with("it is longer"));
    }
}
