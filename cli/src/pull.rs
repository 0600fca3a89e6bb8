//! `meshmq pull`: each message on a line, acknowledged once it is written.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, ErrorKind, Write};
use std::os::fd::AsFd;
use std::sync::Arc;

use meshmq::{Delivery, MessageId, Pull};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{FileType, OFlags};
use rustix::io::Errno;
use tokio::sync::oneshot;
use tokio::task::spawn_blocking;

use crate::args::PullArgs;
use crate::exec;
use crate::exit::Exit;
use crate::mesh::{self, DRAIN};
use crate::output::{Form, Say, counted};
use crate::signals::Signals;
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
        Some(command) => exec::run(command, &args, &pull, &mut waiting, signals, say).await,
        None => Printing::new(&args, &pull, say)?.run(&mut waiting).await,
    };
    // What was not handed out goes to others at once; then the answers have to arrive.
    pull.close();
    // A puller has nothing that could be left undelivered.
    let _ = node.shutdown(DRAIN).await;
    end
}

/// What a pull waits for.
pub(crate) fn wanted(pull: &Pull) -> String {
    format!("messages on channel {:?}", pull.channel())
}

struct Printing<'a> {
    pull: &'a Pull,
    form: Form,
    /// How many more are wanted.
    left: u64,
    stdout: Arc<File>,
    /// Bodies that cannot be printed come back again and again: each is told once.
    told: BTreeSet<MessageId>,
    say: Say,
}

impl<'a> Printing<'a> {
    fn new(args: &PullArgs, pull: &'a Pull, say: Say) -> io::Result<Self> {
        let form =
            if args.common.json { Form::Json } else { Form::Text { separator: if args.null { 0 } else { b'\n' } } };
        // Not std's standard output: its buffer could hold what is already acknowledged.
        let stdout = Arc::new(File::from(io::stdout().as_fd().try_clone_to_owned()?));
        Ok(Self { pull, form, left: args.count.unwrap_or(u64::MAX), stdout, told: BTreeSet::new(), say })
    }

    async fn run(&mut self, waiting: &mut Waiting<'_>) -> anyhow::Result<Exit> {
        let pull = self.pull;
        let mut reader = Reader::of(&self.stdout);
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
            match waiting.signals().unless_stuck(self.write(text)).await {
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
            match self.form.write(&delivery, self.pull.channel(), &mut text) {
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

    /// A write to a pipe that nobody empties blocks: not on this thread, which has signals to heed.
    async fn write(&self, text: Vec<u8>) -> io::Result<()> {
        let stdout = self.stdout.clone();
        spawn_blocking(move || (&*stdout).write_all(&text)).await?
    }
}

/// Whoever reads our standard output.
struct Reader(oneshot::Receiver<()>);

impl Reader {
    fn of(stdout: &Arc<File>) -> Self {
        let (left, leaving) = oneshot::channel();
        let stdout = stdout.clone();
        // Waits for no event but an error, which is how a pipe says that its other end is closed; files never do. The
        // thread ends with the process.
        std::thread::spawn(move || {
            let mut watched = [PollFd::new(&stdout, PollFlags::empty())];
            loop {
                match poll(&mut watched, None) {
                    Err(Errno::INTR) => {}
                    Ok(_) if watched[0].revents().intersects(PollFlags::ERR | PollFlags::HUP) => break,
                    // It cannot be watched: a write will tell.
                    _ => return std::mem::forget(left),
                }
            }
            // The command may have ended.
            let _ = left.send(());
        });
        Self(leaving)
    }

    /// Waits until the other end of a pipe is closed: also while nothing is written, so that messages do not wait here
    /// for a reader that is gone.
    async fn left(&mut self) {
        // Once it has left, the command ends: this is not asked again.
        let _ = (&mut self.0).await;
    }
}

/// Whether we were started with this stream closed. Rust's runtime then puts `/dev/null` there, open for reading and
/// writing, into which messages would vanish; a `>/dev/null` of a shell is open for writing alone.
pub(crate) fn is_closed(stream: impl AsFd) -> io::Result<bool> {
    let (stat, null) = (rustix::fs::fstat(&stream)?, rustix::fs::stat("/dev/null")?);
    Ok(FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice
        && stat.st_rdev == null.st_rdev
        && rustix::fs::fcntl_getfl(&stream)?.contains(OFlags::RDWR))
}
