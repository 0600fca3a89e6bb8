//! `meshmq pub`: each line to everybody who wants its topic; done when all has arrived.

use std::io;
use std::time::Duration;

use bytes::Bytes;
use meshmq::{NewMessage, Node, Publisher, PublisherMetrics, SendErrorKind, WhenFull, check_topic};
use serde::Serialize;
use tokio::time::timeout;

use crate::args::PubArgs;
use crate::exit::Exit;
use crate::input::{self, Input};
use crate::mesh::{self, DRAIN};
use crate::output::{Say, counted, write_json};
use crate::signals::Signals;
use crate::waiting::{Waited, Waiting};

/// How long subscribers that are known may take until their subscriptions are in force; one that hangs holds nobody up for
/// longer.
const CONFIRMED: Duration = Duration::from_secs(2);

pub(crate) async fn run(args: PubArgs, signals: &Signals) -> anyhow::Result<Exit> {
    let say = Say::new(args.common.quiet, args.common.verbose);
    mesh::check_channel(&args.channel)?;
    let topic = topic(&args)?;
    input::check(&args.input, &args.common)?;
    let node = mesh::join(&args.common, say).await?;
    mesh::serve_metrics(&node, &args.metrics, say)?;
    let mut builder = node.publisher(&args.channel).retain_last(args.retain);
    if let Some(time) = args.block {
        builder = builder.when_full(WhenFull::Block(time));
    }
    let publisher = builder.await?;
    let waiting = Waiting::new(&node, signals, say, &args.common);
    let mut publishing =
        Publishing { publisher: &publisher, topic, headers: &args.input.headers, number: 0, most: 0, waiting };
    let end = publishing.run(&args, &node).await;
    publishing.look();
    let (figures, most) = (publisher.metrics(), publishing.most);
    let exit = match end {
        Ok(Waited::Ready(())) => Ok(Exit::Ok),
        Ok(Waited::Stopped) => Ok(Exit::Interrupted),
        Ok(Waited::TimedOut) => Err(publishing.waiting.timed_out(&wanted(&publisher, args.wait_subscribers))),
        Err(error) => Err(error),
    };
    // Its messages are with the subscribers, or lost with it: nothing is handed back.
    let drain = if matches!(exit, Ok(Exit::Ok | Exit::Interrupted)) { DRAIN } else { Duration::ZERO };
    let _ = node.shutdown(drain).await;
    let exit = exit?;
    report(&args, &figures, most as u64, say);
    Ok(exit)
}

/// Where the topic of a message comes from.
#[derive(Debug, PartialEq, Eq)]
enum Topic {
    Of(String),
    /// It stands before the message, with a tab between them.
    Line,
}

fn topic(args: &PubArgs) -> anyhow::Result<Topic> {
    if args.topic_from_line {
        return Ok(Topic::Line);
    }
    if let Some(topic) = &args.topic {
        return Ok(Topic::Of(topic.clone()));
    }
    match check_topic(&args.channel) {
        Ok(()) => Ok(Topic::Of(args.channel.clone())),
        Err(error) => Err(Exit::Usage
            .because(format!("the name of the channel can not be the topic: {error}; name one with --topic"))),
    }
}

struct Publishing<'a> {
    publisher: &'a Publisher,
    topic: Topic,
    /// Of each message.
    headers: &'a [(String, String)],
    /// Of the message that was read last, from 1.
    number: u64,
    /// The most subscribers that were seen at a time: those who have enough leave.
    most: usize,
    waiting: Waiting<'a>,
}

impl Publishing<'_> {
    async fn run(&mut self, args: &PubArgs, node: &Node) -> anyhow::Result<Waited<()>> {
        match self.gather(args, node).await {
            Waited::Ready(()) => {}
            ended => return Ok(ended),
        }
        self.look();
        let input = input::read(&args.input);
        let published = self.publish_all(input).await;
        self.look();
        match published {
            Ok(Waited::Ready(())) => Ok(self.flush().await),
            Ok(ended) => Ok(ended),
            // What was published before it is not given up.
            Err(error) => {
                self.flush().await;
                Err(error)
            }
        }
    }

    fn look(&mut self) {
        self.most = self.most.max(self.publisher.subscribers());
    }

    /// Waits for the subscribers that are asked for, and for those that are known.
    async fn gather(&mut self, args: &PubArgs, node: &Node) -> Waited<()> {
        let publisher = self.publisher;
        let wait = async {
            node.settled().await;
            let known = subscribers(node, &args.channel);
            // One that does not confirm in time misses what it misses.
            let _ = timeout(CONFIRMED, publisher.wait_for_subscribers(known)).await;
            publisher.wait_for_subscribers(args.wait_subscribers).await
        };
        let there = || Some(publisher.subscribers() as u64);
        match self.waiting.on(wait, there, || wanted(publisher, args.wait_subscribers)).await {
            // The node ends only after this.
            Waited::Ready(_) => Waited::Ready(()),
            Waited::Stopped => Waited::Stopped,
            Waited::TimedOut => Waited::TimedOut,
        }
    }

    async fn publish_all(&mut self, mut input: Input) -> anyhow::Result<Waited<()>> {
        let publisher = self.publisher;
        loop {
            // It is not the mesh that is waited for.
            let messages = match self.waiting.on(input.recv(), || None, String::new).await {
                Waited::Ready(Some(messages)) => messages?,
                Waited::Ready(None) => return Ok(Waited::Ready(())),
                Waited::Stopped => return Ok(Waited::Stopped),
                Waited::TimedOut => return Ok(Waited::TimedOut),
            };
            for line in messages {
                self.number += 1;
                let (topic, body) = self.split(line)?;
                let headers = self.headers.iter().map(|(name, value)| (name, value));
                let message = NewMessage::new(body).with_headers(headers);
                let message = match publisher.try_publish(&topic, message) {
                    Ok(()) => continue,
                    Err(refused) if refused.kind == SendErrorKind::Full => refused.message,
                    Err(refused) => return Err(refused.kind.into()),
                };
                let room = async { publisher.publish(&topic, message).await };
                match self.waiting.on(room, || arrived(publisher), || unread(publisher)).await {
                    Waited::Ready(published) => published.map_err(|refused| refused.kind)?,
                    Waited::Stopped => return Ok(Waited::Stopped),
                    Waited::TimedOut => return Ok(Waited::TimedOut),
                }
            }
        }
    }

    /// A message's topic, and its body.
    fn split(&self, line: Bytes) -> anyhow::Result<(String, Bytes)> {
        if let Topic::Of(topic) = &self.topic {
            return Ok((topic.clone(), line));
        }
        let number = self.number;
        let at = line.iter().position(|byte| *byte == b'\t');
        let at =
            at.ok_or_else(|| anyhow::anyhow!("message {number} has no tab: expected its topic, a tab, its body"))?;
        let topic = std::str::from_utf8(&line[..at])
            .map_err(|_| anyhow::anyhow!("the topic of message {number} is not UTF-8"))?
            .to_owned();
        check_topic(&topic).map_err(|error| anyhow::anyhow!("message {number}: {error}"))?;
        Ok((topic, line.slice(at + 1..)))
    }

    async fn flush(&mut self) -> Waited<()> {
        let publisher = self.publisher;
        match self.waiting.on(async { publisher.flush().await }, || arrived(publisher), || unread(publisher)).await {
            // The node ends only after this.
            Waited::Ready(_) => Waited::Ready(()),
            Waited::Stopped => Waited::Stopped,
            Waited::TimedOut => Waited::TimedOut,
        }
    }
}

/// How many subscribers on the channel the node knows of.
fn subscribers(node: &Node, channel: &str) -> usize {
    let channels = node.channels();
    let sockets = channels.iter().filter(|known| known.name == channel).flat_map(|known| &known.sockets);
    sockets.filter(|sockets| sockets.kind == "subscriber").map(|sockets| sockets.count).sum()
}

/// How many messages have arrived, or never will; `None` when nothing is under way.
fn arrived(publisher: &Publisher) -> Option<u64> {
    let now = publisher.metrics();
    let under_way: u64 = now.subscribers.iter().map(|to| to.queued + to.in_flight).sum();
    let arrived = now.subscribers.iter().map(|to| to.matched - to.queued - to.in_flight).sum();
    (under_way > 0).then_some(arrived)
}

fn wanted(publisher: &Publisher, subscribers: usize) -> String {
    format!("{} on channel {:?}", counted(subscribers as u64, "subscriber"), publisher.channel())
}

fn unread(publisher: &Publisher) -> String {
    let slow = publisher.metrics().subscribers.iter().filter(|to| to.queued + to.in_flight > 0).count();
    format!("{} on channel {:?} to take what was published", counted(slow as u64, "subscriber"), publisher.channel())
}

#[derive(Serialize)]
struct Summary<'a> {
    channel: &'a str,
    published: u64,
    subscribers: u64,
    dropped: u64,
}

fn report(args: &PubArgs, now: &PublisherMetrics, subscribers: u64, say: Say) {
    let dropped = now.dropped.total();
    let published = counted(now.published, "message");
    match subscribers {
        0 if now.published > 0 && args.retain == 0 => {
            say.note(format_args!("{published} published on channel {:?}, and nobody has subscribed", args.channel));
        }
        _ => say.summary(format_args!("{published} published to {}", counted(subscribers, "subscriber"))),
    }
    if dropped > 0 {
        say.note(format_args!(
            "{} dropped for subscribers that were too slow: they were told; with --block the input waits for them",
            counted(dropped, "message")
        ));
    }
    if args.common.json {
        let summary = Summary { channel: &args.channel, published: now.published, subscribers, dropped };
        let mut line = Vec::new();
        write_json(&summary, &mut line);
        // A reader that has left does not change what was published.
        let _ = io::Write::write_all(&mut io::stdout(), &line);
    }
}
