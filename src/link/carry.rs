//! Carries a lane over its stream: the hot loop of a link.

use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use quinn::{RecvStream, SendStream};

use super::lane::{LaneStream, read_ahead};
use crate::env::{Env, Timer};
use crate::pattern::lane::{LaneEnd, Outgoing, Violation};

/// How a lane ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use = "a violation closes the link"]
pub(crate) enum Carried {
    /// Both directions ended in order, and the peer's transport has all that was written.
    Finished,
    /// The link is lost, or the peer has given up the lane.
    Lost,
    /// The peer broke the protocol: the link has to be closed.
    Violation(Violation),
}

/// Carries a lane in both directions until it is over, and tells the end so. Once one side has ended its direction it
/// has no more questions, and the other ends its own: neither waits for the other's application.
///
/// # Cancel safety
/// Dropped before it is ready, the lane is lost: the end and the peer are told.
pub(crate) fn carry(
    mut stream: LaneStream,
    end: Arc<dyn LaneEnd>,
    env: Env,
) -> impl Future<Output = Carried> + Send + 'static {
    // Made here and not in the future: one that is never polled tells the end as well.
    let end = Told { end, env };
    async move {
        let LaneStream { send, recv, read_ahead } = &mut stream;
        let heard_all = AtomicBool::new(false);
        // One task: nothing is handed over from one half to the other but `heard_all`. Reading goes first, as it is
        // what gives credit and answers to write.
        let over = tokio::try_join!(
            biased;
            read(recv, read_ahead, &end, &heard_all),
            write(send, &end, &heard_all),
        );
        match over {
            Ok(((), ())) => Carried::Finished,
            Err(early) => early,
        }
    }
}

/// Never waits for the writer: what the end takes in is bounded by the credit that it has given.
async fn read(recv: &mut RecvStream, ahead: &mut BytesMut, told: &Told, heard_all: &AtomicBool) -> Result<(), Carried> {
    if let Some(bytes) = read_ahead(ahead) {
        told.handle_incoming(&mut [bytes]).map_err(Carried::Violation)?;
    }
    let mut chunks = vec![Bytes::new(); CHUNKS];
    loop {
        for _ in 0..READS_A_TURN {
            match recv.read_chunks(&mut chunks).await {
                Ok(Some(count)) => {
                    told.handle_incoming(&mut chunks[..count]).map_err(Carried::Violation)?;
                }
                Ok(None) => {
                    heard_all.store(true, Ordering::Relaxed);
                    return Ok(());
                }
                Err(_) => return Err(Carried::Lost),
            }
        }
        pause().await;
    }
}

async fn write(send: &mut SendStream, told: &Told, heard_all: &AtomicBool) -> Result<(), Carried> {
    let mut chunks = Vec::new();
    let mut timer = told.env.timer();
    loop {
        let next = poll_fn(|cx| {
            // The peer says nothing more, so it reads nothing more either.
            if heard_all.load(Ordering::Relaxed) {
                return Poll::Ready(Outgoing::Finish);
            }
            told.poll_outgoing(cx, &mut timer, &mut chunks)
        });
        let next = next.await;
        // Not cancel safe, and not cancelled: only the end of the lane drops it.
        send.write_all_chunks(&mut chunks).await.map_err(|_| Carried::Lost)?;
        chunks.clear();
        if next == Outgoing::Finish {
            break;
        }
    }
    // Fails where the peer has stopped the stream, which it tells next.
    let _ = send.finish();
    let acknowledged = async {
        let stopped = send.stopped().await;
        // The reader is polled before this in the same task: no waker is needed.
        poll_fn(|_| if heard_all.load(Ordering::Relaxed) { Poll::Ready(()) } else { Poll::Pending }).await;
        stopped
    };
    match told.env.timeout(FINISHING, acknowledged).await {
        Some(Ok(None)) => Ok(()),
        _ => Err(Carried::Lost),
    }
}

/// A lane's end that is told once that the lane is over, however that comes.
pub(super) struct Told {
    pub(super) end: Arc<dyn LaneEnd>,
    pub(super) env: Env,
}

impl Told {
    /// [`LaneEnd::handle_incoming`].
    pub(super) fn handle_incoming(&self, chunks: &mut [Bytes]) -> Result<(), Violation> {
        let now = self.env.now();
        self.end.handle_incoming(now, chunks)?;
        self.word(now);
        Ok(())
    }

    fn word(&self, now: Instant) {
        if self.end.is_dialogue() {
            self.env.busy_poll.word(now);
        }
    }

    /// [`LaneEnd::poll_outgoing`], asked again when the time for it has come.
    pub(super) fn poll_outgoing(
        &self,
        cx: &mut Context<'_>,
        timer: &mut Timer,
        out: &mut Vec<Bytes>,
    ) -> Poll<Outgoing> {
        loop {
            let mut again = None;
            let now = self.env.now();
            if let Poll::Ready(next) = self.end.poll_outgoing(cx, now, out, &mut again) {
                self.word(now);
                return Poll::Ready(next);
            }
            timer.set(again);
            ready!(timer.poll_fired(cx));
        }
    }
}

impl Drop for Told {
    fn drop(&mut self) {
        if !planted!(CarrierTellsNobody) {
            self.end.closed(self.env.now());
        }
    }
}

/// Lets everything else that is ready run first.
pub(crate) async fn pause() {
    let mut paused = false;
    poll_fn(|cx| {
        if std::mem::replace(&mut paused, true) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

/// Chunks that one read takes: about as many as one call to the kernel brings.
const CHUNKS: usize = 64;
/// Reads after which others get their turn: some megabytes of loopback's packets.
pub(super) const READS_A_TURN: usize = 16;
/// How long the end of a lane may take to be acknowledged and answered. A link that takes longer is all but lost.
const FINISHING: Duration = Duration::from_secs(5);
