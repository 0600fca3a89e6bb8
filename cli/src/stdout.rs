//! Standard output as a stream of messages: what was written is with the reader, and a reader that has left is noticed.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::sync::Arc;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{FileType, OFlags};
use rustix::io::Errno;
use tokio::sync::oneshot;
use tokio::task::spawn_blocking;

/// Not std's standard output: its buffer could hold what is already acknowledged.
pub(crate) struct Stdout(Arc<File>);

impl Stdout {
    pub(crate) fn open() -> io::Result<Self> {
        Ok(Self(Arc::new(File::from(io::stdout().as_fd().try_clone_to_owned()?))))
    }

    /// A write to a pipe that nobody empties blocks: not on this thread, which has signals to heed.
    pub(crate) async fn write(&self, text: Vec<u8>) -> io::Result<()> {
        let stdout = self.0.clone();
        spawn_blocking(move || (&*stdout).write_all(&text)).await?
    }

    pub(crate) fn reader(&self) -> Reader {
        Reader::of(&self.0)
    }
}

/// Whoever reads our standard output.
pub(crate) struct Reader(oneshot::Receiver<()>);

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
    pub(crate) async fn left(&mut self) {
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
