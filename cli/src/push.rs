//! `meshmq push`: each line a message; done when all are acknowledged.

use std::io;
use std::time::{Duration, Instant};

use meshmq::{NewMessage, Node, Push, SendErrorKind};
use serde::Serialize;

use crate::args::PushArgs;
use crate::exit::Exit;
use crate::input::{self, Input};
use crate::mesh::{self, DRAIN};
use crate::output::{Say, counted, write_json};
use crate::refused::refusal;
use crate::signals::Signals;
use crate::waiting::{Waited, Waiting};

pub(crate) async fn run(args: PushArgs, signals: &Signals) -> anyhow::Result<Exit> {
    let say = Say::new(args.common.quiet, args.common.verbose);
    mesh::check_channel(&args.channel)?;
    input::check(&args.input, &args.common)?;
    let node = mesh::join(&args.common, say).await?;
    mesh::serve_metrics(&node, &args.metrics, say)?;
    let push = node.push(&args.channel).await?;
    let started = Instant::now();
    let waiting = Waiting::new(&node, signals, say, &args.common);
    let mut pushing = Pushing { push: &push, headers: &args.input.headers, waiting };
    let sent = pushing.send_all(input::read(&args.input)).await;
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
    async fn send_all(&mut self, mut input: Input) -> anyhow::Result<Waited<()>> {
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
