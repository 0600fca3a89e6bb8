//! `meshmq pull`: each message on a line, acknowledged once it is written.

use std::collections::BTreeSet;
use std::io::{self, ErrorKind};

use meshmq::{Delivery, MessageId, Pull};

use crate::args::PullArgs;
use crate::exec::{self, Call};
use crate::exit::Exit;
use crate::jobs::Jobs;
use crate::mesh::{self, DRAIN};
use crate::output::{Form, Say, Shown, counted};
use crate::signals::Signals;
use crate::stdout::{Stdout, is_closed};
use crate::waiting::{Waited, Waiting};

/// Messages, and about how many bytes of them, that are written and acknowledged together.
const BATCH: (usize, usize) = (1024, 256 << 10);
/// A puller that stops after so few messages takes no more than these from the other pullers.
const FEW: u64 = 1024;

pub(crate) async fn run(args: PullArgs, signals: &Signals) -> anyhow::Result<Exit> {
    let say = Say::new(args.common.quiet, args.common.verbose);
    mesh::check_channel(&args.channel)?;
    if args.exec.is_none() && is_closed(io::stdout())? {
        say.note("standard output is closed: no message was taken");
        return Ok(Exit::Ok);
    }
    let node = mesh::join(&args.common, say).await?;
    mesh::serve_metrics(&node, &args.metrics, say)?;
    let mut builder = node.pull(&args.channel);
    if args.exec.is_some() {
        // What waits behind a command that takes long could be run by somebody else.
        builder = builder.prefetch(usize::from(args.jobs));
    } else if let Some(count) = args.count.filter(|count| *count <= FEW) {
        builder = builder.prefetch(count as usize);
    }
    let pull = builder.await?;
    let mut waiting = Waiting::new(&node, signals, say, &args.common);
    let end = match &args.exec {
        Some(command) => run_commands(command, &args, &pull, &mut waiting, say).await,
        None => Printing::new(&args, &pull, say)?.run(&mut waiting).await,
    };
    // What was not handed out goes to others at once; then the answers have to arrive.
    pull.close();
    // A puller has nothing that could be left undelivered.
    let _ = node.shutdown(DRAIN).await;
    end
}

/// What a pull waits for.
fn wanted(pull: &Pull) -> String {
    format!("messages on channel {:?}", pull.channel())
}

/// A command for each message, whose exit code is the answer.
async fn run_commands(
    command: &str,
    args: &PullArgs,
    pull: &Pull,
    waiting: &mut Waiting<'_>,
    say: Say,
) -> anyhow::Result<Exit> {
    let jobs = Jobs {
        at_a_time: args.jobs.into(),
        count: args.count,
        next: async || Ok(pull.recv().await?),
        begin: |delivery| handle(command.to_owned(), pull.channel().to_owned(), delivery, say),
        progress: || pull.metrics().received,
        wanted: || wanted(pull),
        close: || pull.close(),
    };
    jobs.run(waiting, say).await
}

/// Runs the command and answers; says whether the message is handled.
async fn handle(command: String, channel: String, delivery: Delivery, say: Say) -> bool {
    let call = Call { command: &command, channel: &channel, topic: None, message: &delivery };
    let failed = match exec::run(&call).await {
        Ok(status) if status.success() => {
            delivery.ack();
            return true;
        }
        Ok(status) => status.to_string(),
        Err(error) => format!("cannot run it: {error}"),
    };
    say.note(format_args!("message {} goes back after attempt {}: {failed}", delivery.id(), delivery.attempt()));
    delivery.nack();
    false
}

struct Printing<'a> {
    pull: &'a Pull,
    form: Form,
    /// How many more are wanted.
    left: u64,
    stdout: Stdout,
    /// Bodies that cannot be printed come back again and again: each is told once.
    told: BTreeSet<MessageId>,
    say: Say,
}

impl<'a> Printing<'a> {
    fn new(args: &PullArgs, pull: &'a Pull, say: Say) -> io::Result<Self> {
        let form = Form::of(args.common.json, args.null, false);
        Ok(Self {
            pull,
            form,
            left: args.count.unwrap_or(u64::MAX),
            stdout: Stdout::open()?,
            told: BTreeSet::new(),
            say,
        })
    }

    async fn run(&mut self, waiting: &mut Waiting<'_>) -> anyhow::Result<Exit> {
        let pull = self.pull;
        let mut reader = self.stdout.reader();
        while self.left > 0 {
            let next = async {
                tokio::select! {
                    biased;
                    () = reader.left() => None,
                    delivery = pull.recv() => Some(delivery),
                }
            };
            let received = || Some(pull.metrics().received);
            let batch = match waiting.on(next, received, || wanted(pull)).await {
                Waited::Ready(Some(first)) => self.batch(first?),
                Waited::Ready(None) => return Ok(self.ended(Exit::Ok)),
                Waited::Stopped => return Ok(Exit::Interrupted),
                Waited::TimedOut => return Err(waiting.timed_out(&wanted(pull))),
            };
            let (text, deliveries) = self.print(batch);
            match waiting.signals().unless_stuck(self.stdout.write(text)).await {
                Some(Ok(())) => {
                    self.left -= deliveries.len() as u64;
                    deliveries.into_iter().for_each(Delivery::ack);
                }
                failed => {
                    // How much of it a reader has seen is not known: it is delivered again.
                    deliveries.into_iter().for_each(Delivery::nack);
                    return match failed {
                        None => Ok(Exit::Interrupted),
                        Some(Err(error)) if error.kind() == ErrorKind::BrokenPipe => Ok(self.ended(Exit::Ok)),
                        Some(failed) => failed.map(|()| Exit::Ok).map_err(|error| {
                            anyhow::Error::new(error)
                                .context("cannot write to standard output; what was not written went back")
                        }),
                    };
                }
            }
        }
        Ok(self.ended(Exit::Ok))
    }

    /// The exit code: not 0 when some messages could not be printed.
    fn ended(&self, exit: Exit) -> Exit {
        if self.told.is_empty() { exit } else { Exit::Failed }
    }

    /// With the first one, what else is here and fits.
    fn batch(&self, first: Delivery) -> Vec<Delivery> {
        let most = usize::try_from(self.left).map_or(BATCH.0, |left| left.min(BATCH.0));
        let mut bytes = first.len();
        let mut batch = vec![first];
        while batch.len() < most && bytes < BATCH.1 {
            // Closed meanwhile: the next wait says so.
            let Ok(Some(delivery)) = self.pull.try_recv() else { break };
            bytes += delivery.len();
            batch.push(delivery);
        }
        batch
    }

    /// The text of a batch, and the deliveries that are in it. The others go back.
    fn print(&mut self, batch: Vec<Delivery>) -> (Vec<u8>, Vec<Delivery>) {
        let mut text = Vec::with_capacity(batch.iter().map(|delivery| delivery.len() + 1).sum());
        let mut printed = Vec::with_capacity(batch.len());
        for delivery in batch {
            match self.form.write(&Shown::delivery(self.pull.channel(), &delivery), &mut text) {
                Ok(()) => printed.push(delivery),
                Err(_) => self.refuse(delivery),
            }
        }
        (text, printed)
    }

    fn refuse(&mut self, delivery: Delivery) {
        if self.told.insert(delivery.id()) {
            self.say.note(format_args!(
                "message {} of {} from {} went back: it holds {}",
                delivery.id(),
                counted(delivery.len() as u64, "byte"),
                delivery.sender().short(),
                self.form.remedy()
            ));
        }
        // Enough to be quiet about, without growing for ever.
        while self.told.len() > BATCH.0 {
            self.told.pop_first();
        }
        delivery.nack();
    }
}
