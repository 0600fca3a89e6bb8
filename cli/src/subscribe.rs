//! `meshmq sub`: what others publish, each message on a line.

use std::io::{self, ErrorKind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use meshmq::{Gap, OpenError, Publication, RecvError, Subscriber};
use serde::Serialize;

use crate::args::SubArgs;
use crate::exec::{self, Call};
use crate::exit::Exit;
use crate::jobs::Jobs;
use crate::mesh;
use crate::output::{Form, Say, Shown, counted, write_json};
use crate::signals::Signals;
use crate::stdout::{Stdout, is_closed};
use crate::waiting::{Waited, Waiting};

/// Messages, and about how many bytes of them, that are written together.
const BATCH: (usize, usize) = (1024, 256 << 10);

pub(crate) async fn run(args: SubArgs, signals: &Signals) -> anyhow::Result<Exit> {
    let say = Say::new(args.common.quiet, args.common.verbose);
    mesh::check_channel(&args.channel)?;
    if args.exec.is_none() && is_closed(io::stdout())? {
        say.note("standard output is closed: nothing is subscribed to");
        return Ok(Exit::Ok);
    }
    let node = mesh::join(&args.common, say).await?;
    mesh::serve_metrics(&node, &args.metrics, say)?;
    let mut builder = node.subscriber(&args.channel);
    for pattern in &args.patterns {
        builder = builder.topic(pattern);
    }
    let subscriber = tokio::select! {
        biased;
        () = signals.stop() => return Ok(Exit::Interrupted),
        opened = builder.into_future() => opened.map_err(refused)?,
    };
    let (topics, publishers) = (subscriber.patterns().join(" "), subscriber.publishers() as u64);
    let channel = &args.channel;
    say.detail(format_args!("subscribed to {topics} on channel {channel:?}: {}", counted(publishers, "publisher")));
    let mut waiting = Waiting::new(&node, signals, say, &args.common);
    let end = match &args.exec {
        Some(command) => run_commands(command, &args, &subscriber, &mut waiting, say).await,
        None => Printing::new(&args, &subscriber, say)?.run(&mut waiting).await,
    };
    subscriber.close();
    // It owes nobody anything.
    let _ = node.shutdown(Duration::ZERO).await;
    end
}

fn refused(error: OpenError) -> anyhow::Error {
    match error {
        OpenError::NotConfirmed { .. } => Exit::TimedOut.because(error),
        _ => error.into(),
    }
}

fn wanted(subscriber: &Subscriber) -> String {
    let publishers = counted(subscriber.publishers() as u64, "publisher");
    format!("messages on channel {:?}, from {publishers}", subscriber.channel())
}

/// A command for each message.
async fn run_commands(
    command: &str,
    args: &SubArgs,
    subscriber: &Subscriber,
    waiting: &mut Waiting<'_>,
    say: Say,
) -> anyhow::Result<Exit> {
    let failed = Arc::new(AtomicBool::new(false));
    let jobs = Jobs {
        at_a_time: args.jobs.into(),
        count: args.count,
        next: async || {
            let publication = subscriber.recv().await?;
            tell_missed(publication.missed(), say);
            Ok(publication)
        },
        begin: |publication| handle(command.to_owned(), args.channel.clone(), publication, failed.clone(), say),
        progress: || subscriber.metrics().received,
        wanted: || wanted(subscriber),
        close: || subscriber.close(),
    };
    let exit = jobs.run(waiting, say).await?;
    Ok(if exit == Exit::Ok && failed.load(Ordering::Relaxed) { Exit::Failed } else { exit })
}

/// Runs the command. Nobody waits for an answer: what failed is said here, and does not come again.
async fn handle(command: String, channel: String, publication: Publication, failed: Arc<AtomicBool>, say: Say) -> bool {
    let topic = publication.topic();
    let call = Call { command: &command, channel: &channel, topic: Some(topic), message: &publication };
    let why = match exec::run(&call).await {
        Ok(status) if status.success() => return true,
        Ok(status) => status.to_string(),
        Err(error) => format!("cannot run it: {error}"),
    };
    failed.store(true, Ordering::Relaxed);
    say.note(format_args!("the command failed for message {} of topic {topic}: {why}", publication.id()));
    true
}

fn tell_missed(missed: Option<Gap>, say: Say) {
    if let Some(gap) = missed {
        say.note(gap);
    }
}

struct Printing<'a> {
    subscriber: &'a Subscriber,
    form: Form,
    /// How many more are wanted.
    left: u64,
    stdout: Stdout,
    /// A body could not be printed.
    failed: bool,
    say: Say,
}

impl<'a> Printing<'a> {
    fn new(args: &SubArgs, subscriber: &'a Subscriber, say: Say) -> io::Result<Self> {
        let form = Form::of(args.common.json, args.null, args.topics);
        let left = args.count.unwrap_or(u64::MAX);
        Ok(Self { subscriber, form, left, stdout: Stdout::open()?, failed: false, say })
    }

    async fn run(&mut self, waiting: &mut Waiting<'_>) -> anyhow::Result<Exit> {
        let subscriber = self.subscriber;
        let mut reader = self.stdout.reader();
        while self.left > 0 {
            let next = async {
                tokio::select! {
                    biased;
                    () = reader.left() => None,
                    publication = subscriber.recv() => Some(publication),
                }
            };
            let received = || Some(subscriber.metrics().received);
            let batch = match waiting.on(next, received, || wanted(subscriber)).await {
                Waited::Ready(Some(first)) => self.batch(first?)?,
                Waited::Ready(None) => break,
                Waited::Stopped => return Ok(Exit::Interrupted),
                Waited::TimedOut => return Err(waiting.timed_out(&wanted(subscriber))),
            };
            let text = self.print(&batch);
            match waiting.signals().unless_stuck(self.stdout.write(text)).await {
                Some(Ok(())) => {}
                None => return Ok(Exit::Interrupted),
                Some(Err(error)) if error.kind() == ErrorKind::BrokenPipe => break,
                Some(Err(error)) => return Err(anyhow::Error::new(error).context("cannot write to standard output")),
            }
        }
        Ok(if self.failed { Exit::Failed } else { Exit::Ok })
    }

    /// With the first one, what else is here and fits.
    fn batch(&self, first: Publication) -> Result<Vec<Publication>, RecvError> {
        let most = usize::try_from(self.left).map_or(BATCH.0, |left| left.min(BATCH.0));
        let mut bytes = first.len();
        let mut batch = vec![first];
        while batch.len() < most && bytes < BATCH.1 {
            // Closed meanwhile: the next wait says so.
            let Ok(Some(publication)) = self.subscriber.try_recv() else { break };
            bytes += publication.len();
            batch.push(publication);
        }
        Ok(batch)
    }

    fn print(&mut self, batch: &[Publication]) -> Vec<u8> {
        let channel = self.subscriber.channel();
        let mut text = Vec::with_capacity(batch.iter().map(|publication| publication.len() + 1).sum());
        for publication in batch {
            tell_missed(publication.missed(), self.say);
            if let (Form::Json, Some(gap)) = (self.form, publication.missed()) {
                let publisher = gap.publisher.to_string();
                write_json(&Missed { channel, publisher: &publisher, missed: gap.count, exact: gap.exact }, &mut text);
            }
            match self.form.write(&Shown::publication(channel, publication), &mut text) {
                Ok(()) => self.left -= 1,
                Err(_) => {
                    self.failed = true;
                    self.say.note(format_args!(
                        "message {} of topic {} was not printed: it holds {}",
                        publication.id(),
                        publication.topic(),
                        self.form.remedy()
                    ));
                }
            }
        }
        text
    }
}

/// Messages that are missing in this place.
#[derive(Serialize)]
struct Missed<'a> {
    channel: &'a str,
    publisher: &'a str,
    missed: u64,
    exact: bool,
}
