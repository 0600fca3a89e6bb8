//! The stream under a lane, and the frame that opens it.

use bytes::{Bytes, BytesMut};
use quinn::{RecvStream, SendStream, VarInt};

use crate::env::Env;
use crate::pattern::lane::Violation;
use crate::wire::control::OpenLane;
use crate::wire::frame;
use crate::wire::limits::{ADMISSION_DEADLINE, MAX_CONTROL_FRAME};

/// Both directions of a lane. Dropped before both have ended, the peer learns that the lane is lost.
#[derive(Debug)]
pub(crate) struct LaneStream {
    pub(super) send: SendStream,
    pub(super) recv: RecvStream,
    /// What came along with the opening frame.
    pub(super) read_ahead: BytesMut,
}

impl LaneStream {
    pub(super) fn new(send: SendStream, recv: RecvStream) -> Self {
        Self { send, recv, read_ahead: BytesMut::new() }
    }
}

impl Drop for LaneStream {
    fn drop(&mut self) {
        // quinn would finish the stream, and half of a message would look like the end. Fails where all was heard.
        let _ = self.send.reset(LOST);
    }
}

/// The error code of a stream whose lane is lost; why, the session knows if anybody.
const LOST: VarInt = VarInt::from_u32(0);

/// Reads the frame that opens a lane which the peer has opened.
///
/// # Errors
/// There is none; the lane, or the link where the peer broke the protocol, is to be closed.
///
/// # Cancel safety
/// Nothing is lost when it is dropped; it may be called again.
pub(crate) async fn read_open(stream: &mut LaneStream, env: &Env) -> Result<OpenLane, OpeningError> {
    env.timeout(ADMISSION_DEADLINE, opening(stream)).await.ok_or(OpeningError::Late)?
}

async fn opening(stream: &mut LaneStream) -> Result<OpenLane, OpeningError> {
    loop {
        if let Some(open) = frame::split_open(&mut stream.read_ahead)? {
            return Ok(open);
        }
        // A frame above its bound was refused by now, but a bound is worth more in one's own hand.
        let room = (MAX_CONTROL_FRAME + MAX_HEAD).checked_sub(stream.read_ahead.len()).filter(|&room| room > 0);
        let room = room.ok_or(OpeningError::Violation(Violation("an opening frame above its length")))?;
        match stream.recv.read_chunk(room, true).await {
            Ok(Some(chunk)) => stream.read_ahead.extend_from_slice(&chunk.bytes),
            Ok(None) | Err(_) => return Err(OpeningError::Lost),
        }
    }
}

/// The longest kind and length of a frame, in bytes.
const MAX_HEAD: usize = 16;

/// A lane did not come about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum OpeningError {
    /// It ended, or the link did.
    #[error("the lane has ended before it was open")]
    Lost,
    /// Its first frame did not come in time. The link stays up.
    #[error("the opening frame did not come in time")]
    Late,
    /// The link closes.
    #[error(transparent)]
    Violation(#[from] Violation),
}

/// What was read with the opening frame, if anything.
pub(super) fn read_ahead(bytes: &mut BytesMut) -> Option<Bytes> {
    (!bytes.is_empty()).then(|| bytes.split().freeze())
}
