//! The task of one connection: reads what the peer says, writes what the session has to say, and keeps its time.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use tokio::sync::{Notify, SetOnce, oneshot};

use super::hall::Hall;
use crate::link::{self, CloseCode, Connection, ControlReader, ControlWriter, LinkLost};
use crate::pattern::lane::Violation;
use crate::session::{ConnectionId, Ending};
use crate::wire::control::{self, Control};
use crate::wire::limits::ADMISSION_DEADLINE;

/// Why a connection ends.
pub(super) struct End {
    pub(super) code: CloseCode,
    pub(super) why: String,
}

impl Hall {
    /// Drives one connection to its end.
    pub(super) async fn drive(
        self: Arc<Self>,
        id: ConnectionId,
        connection: Connection,
        say: Arc<Notify>,
        opened: Arc<SetOnce<()>>,
        closed: oneshot::Receiver<End>,
    ) {
        let mut lost = None;
        // Lives until the connection is closed: streams that were dropped before would have something to say of that,
        // and a transport that has, and is held back by pacing, does not get to say that the connection is closed.
        let mut conversation = pin!(self.converse(id, &connection, &say, &opened));
        let end = tokio::select! {
            biased;
            Ok(end) = closed => end,
            end = connection.closed() => {
                let why = end.why.clone();
                lost = Some(end);
                End::new(CloseCode::Done, why)
            }
            end = &mut conversation => end,
        };
        connection.close(end.code, &end.why);
        self.connection_over(id, end, lost);
    }

    async fn converse(
        self: &Arc<Self>,
        id: ConnectionId,
        connection: &Connection,
        say: &Notify,
        opened: &SetOnce<()>,
    ) -> End {
        let (mut writer, mut reader) = match self.env.timeout(ADMISSION_DEADLINE, connection.control()).await {
            Some(Ok(control)) => control,
            Some(Err(lost)) => return self.broken(lost).await,
            None => return Ending::Admission.into(),
        };
        let end = tokio::select! {
            biased;
            end = self.read(id, &mut reader) => end,
            end = self.write(id, &mut writer, say) => end,
            end = self.watch(id, connection, opened) => end,
            end = self.take_lanes(id, connection, opened) => end,
        };
        connection.close(end.code, &end.why);
        end
    }

    /// A stream has failed. As a rule the connection has, and tells why in a moment, which ends this.
    async fn broken(&self, lost: LinkLost) -> End {
        self.env.sleep(WHY).await;
        End::new(CloseCode::Violation, lost.why)
    }

    /// Reads what the peer says; does not wait for what it does not read.
    async fn read(self: &Arc<Self>, id: ConnectionId, reader: &mut ControlReader) -> End {
        let (mut buffer, mut frames) = (BytesMut::new(), 0);
        loop {
            loop {
                match control::split(&mut buffer) {
                    Ok(None) => break,
                    Ok(Some(frame)) => {
                        if let Err(end) = self.handle_control(id, frame) {
                            return end;
                        }
                        frames += 1;
                        if frames % FRAMES_A_TURN == 0 {
                            link::pause().await;
                        }
                    }
                    Err(violation) => return violation.into(),
                }
            }
            match reader.read().await {
                Ok(Some(bytes)) => buffer.extend_from_slice(&bytes),
                // Only a node that leaves ends its direction, after its Goodbye.
                Ok(None) => return Violation("the control stream has ended").into(),
                Err(lost) => return self.broken(lost).await,
            }
        }
    }

    async fn write(&self, id: ConnectionId, writer: &mut ControlWriter, say: &Notify) -> End {
        let mut buffer = BytesMut::new();
        loop {
            let leaving = self.gather(id, &mut buffer);
            if buffer.is_empty() {
                say.notified().await;
                continue;
            }
            if let Err(lost) = writer.write(buffer.split().freeze()).await {
                return self.broken(lost).await;
            }
            if let Some(reason) = leaving {
                // The peer closes when it has read that; if it does not, this end does.
                let _ = self.env.timeout(GOODBYE, writer.finish()).await;
                return End::new(CloseCode::Goodbye, reason);
            }
        }
    }

    /// Gathers what there is to say, for one write; the reason, when the last of it is a Goodbye.
    fn gather(&self, id: ConnectionId, buffer: &mut BytesMut) -> Option<String> {
        let mut state = self.lock();
        let session = &mut state.connections.get_mut(&id)?.session;
        while buffer.len() < WRITE_BYTES
            && let Some(frame) = session.poll_frame()
        {
            control::encode(&frame, buffer);
            if let Control::Goodbye { reason } = frame {
                return Some(reason);
            }
        }
        None
    }

    /// Looks after the connection's time: first that it is admitted, then that the peer lives.
    async fn watch(&self, id: ConnectionId, connection: &Connection, opened: &SetOnce<()>) -> End {
        let mut timer = self.env.timer();
        loop {
            let at = self.lock().connections.get(&id).map(|connected| connected.session.poll_timeout());
            // Where it was taken away, the task is about to be ended.
            timer.set(at);
            tokio::select! {
                biased;
                _ = opened.wait(), if !opened.initialized() => continue,
                () = timer.fired() => {}
            }
            if let Some(end) = self.tick(id, connection) {
                return end;
            }
        }
    }

    fn tick(&self, id: ConnectionId, connection: &Connection) -> Option<End> {
        let (carried, waiting) = {
            let state = self.lock();
            let connected = state.connections.get(&id)?;
            (connected.carried.clone(), Self::may_await(&state, connected))
        };
        let asks = carried.look(self.env.now(), connection.acked());
        let owed = carried.owe() || waiting.iter().any(|end| end.awaits());
        let mut state = self.lock();
        let connected = state.connections.get_mut(&id)?;
        // Its table, too: subscribers wait for it.
        let owed = owed || !connected.session.knows_sockets();
        let ending = connected.session.handle_timeout(self.env.now(), connection.received(), owed);
        if asks {
            connected.session.ping();
        }
        connected.say.notify_one();
        let asked = connected.session.owes_status(self.env.now());
        drop(state);
        if asked {
            // Sooner after the last answer than it may be told again.
            self.answer_status(id);
        }
        ending.map(End::from)
    }

    /// Takes the lanes that the peer opens, once it is admitted.
    async fn take_lanes(self: &Arc<Self>, id: ConnectionId, connection: &Connection, opened: &SetOnce<()>) -> End {
        opened.wait().await;
        loop {
            match connection.accept_lane().await {
                Ok(stream) => self.env.spawn(self.clone().lane_in(id, stream)),
                Err(lost) => return self.broken(lost).await,
            }
        }
    }
}

impl End {
    pub(super) fn new(code: CloseCode, why: impl Into<String>) -> Self {
        Self { code, why: why.into() }
    }
}

impl From<Violation> for End {
    fn from(violation: Violation) -> Self {
        Self::new(CloseCode::Violation, violation.to_string())
    }
}

impl From<Ending> for End {
    fn from(ending: Ending) -> Self {
        match ending {
            Ending::Duplicate => Self::new(CloseCode::Duplicate, "the two nodes have another link"),
            Ending::Replaced => Self::new(CloseCode::Replaced, "another connection has become the link"),
            Ending::Admission => Self::new(CloseCode::Admission, "the connection was not admitted in time"),
            Ending::Silent => Self::new(CloseCode::Silent, "the peer was silent for too long"),
        }
    }
}

/// Frames after which others get their turn, however many have come: some milliseconds of work.
const FRAMES_A_TURN: u64 = 1024;
/// Bytes of control frames that are gathered for one write.
const WRITE_BYTES: usize = 64 << 10;
/// How long the peer may take to acknowledge a Goodbye.
const GOODBYE: Duration = Duration::from_millis(500);
/// How long it may take after a stream has failed until the connection says why.
const WHY: Duration = Duration::from_millis(100);
