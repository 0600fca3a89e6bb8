//! What do two hosts tell each other over their connections? What sessions say and hear, and what arbiters decide.

use bytes::{Bytes, BytesMut};
use netsim::check::Violation;
use netsim::sometimes;

use super::connection::Chunk;
use super::host::{PULL, PUSH};
use super::world::{Checked, World};
use super::{Event, MS, SECOND, Time};
use crate::session::{ConnectionId, Ending, Heard, Session, Verdict};
use crate::wire::control::{self, Control};

impl World {
    /// All that a session has to say goes under way.
    pub(super) fn say(&mut self, connection: usize, end: usize) {
        let now_said = {
            let Some(session) = &mut self.connections[connection].ends[end].session else { return };
            let (mut said, mut goodbye) = (BytesMut::new(), false);
            while let Some(frame) = session.poll_frame() {
                goodbye |= matches!(frame, Control::Goodbye { .. });
                control::encode(&frame, &mut said);
            }
            (said.freeze(), goodbye)
        };
        let (said, goodbye) = now_said;
        if said.is_empty() {
            return;
        }
        let (from, to) = self.hosts_of(connection, end);
        for piece in self.pieces(said) {
            let at = self.now + self.delay(from, to);
            let pipe = &mut self.connections[connection].control[end];
            pipe.flying.push_back(Chunk::Bytes(piece));
            let at = pipe.arrival(at);
            self.queue.at(at, Event::Control(connection, end));
        }
        if goodbye {
            // The peer closes when it has read that; if it does not, this end does.
            self.queue.at(self.now + 500 * MS, Event::Close(connection, end));
        }
    }

    /// What is written arrives in pieces, and a frame may be cut anywhere.
    pub(super) fn pieces(&mut self, mut bytes: Bytes) -> Vec<Bytes> {
        let mut pieces = Vec::with_capacity(2);
        while bytes.len() > 1 && pieces.len() < 4 && self.random.chance(300) {
            let at = self.random.from(1, bytes.len() as u64 - 1) as usize;
            pieces.push(bytes.split_to(at));
        }
        pieces.push(bytes);
        pieces
    }

    /// Something has arrived at an end, and its transport acknowledges that. False: nobody is there.
    pub(super) fn received(&mut self, connection: usize, end: usize) -> Checked<bool> {
        let (host, other) = self.hosts_of(connection, end);
        let own = &self.connections[connection].ends[end];
        if self.hosts[host].up && own.life != self.hosts[host].life {
            self.reset(connection, end)?;
            return Ok(false);
        }
        if !self.hosts[host].up || own.over {
            return Ok(false);
        }
        // What was lost on the way nobody sends again whose end is over. What a stopped host finds had come before.
        let sender = &self.connections[connection].ends[1 - end];
        let latest = (sender.over_at + self.plan.latency.1).max(self.hosts[host].node_paused_until);
        let lost = sender.over && self.now > latest;
        let own = &mut self.connections[connection].ends[end];
        // A stream has no holes: after what is lost comes nothing more.
        own.deaf |= lost;
        if own.deaf {
            return Ok(false);
        }
        self.connections[connection].ends[end].received += 1;
        self.connections[connection].ends[end].heard_at = self.now;
        let now = self.now;
        let due = &mut self.connections[connection].ends[1 - end].ack_due;
        if due.is_none() {
            *due = Some(now);
            let at = self.now + self.delay(host, other);
            self.queue.at(at, Event::Heard(connection, 1 - end));
        }
        Ok(true)
    }

    /// The transport of the other end has acknowledged something.
    pub(super) fn heard(&mut self, connection: usize, end: usize) -> Checked {
        let now = self.now;
        let end = &mut self.connections[connection].ends[end];
        end.acked = end.ack_due.take().max(end.acked);
        end.received += 1;
        end.heard_at = now;
        Ok(())
    }

    pub(super) fn control_arrives(&mut self, connection: usize, from: usize) -> Checked {
        let Some(Chunk::Bytes(bytes)) = self.connections[connection].control[from].flying.pop_front() else {
            return Ok(());
        };
        let end = 1 - from;
        if !self.received(connection, end)? || self.connections[connection].ends[end].session.is_none() {
            return Ok(());
        }
        self.connections[connection].ends[end].buffer.extend_from_slice(&bytes);
        let (host, peer) = self.hosts_of(connection, end);
        loop {
            let now = self.instant();
            let own = &mut self.connections[connection].ends[end];
            let Some(session) = &mut own.session else { return Ok(()) };
            let frame = match control::split(&mut own.buffer) {
                Ok(Some(frame)) => frame,
                Ok(None) => break,
                Err(error) => return Err(Violation::new(HONEST, format!("h{host} hears of h{peer}: {error}"))),
            };
            let told = format_frame(&frame);
            let heard = session.handle_frame(now, frame);
            let heard =
                heard.map_err(|error| Violation::new(HONEST, format!("h{host} hears {told} of h{peer}: {error}")))?;
            self.hears(connection, end, heard)?;
        }
        self.say(connection, end);
        self.look_at_session_time(connection, end);
        Ok(())
    }

    fn hears(&mut self, connection: usize, end: usize, heard: Heard) -> Checked {
        let (host, peer) = self.hosts_of(connection, end);
        let (now, id) = (self.instant(), ConnectionId(connection as u64));
        match heard {
            Heard::Hello(hello) => {
                let arbiter = &mut self.hosts[host].peers[peer].arbiter;
                let old = arbiter.incarnation().filter(|old| *old != hello.incarnation);
                let live = old.and_then(|_| arbiter.link());
                arbiter.handle_hello(now, id, &hello);
                if let Some(link) = live.filter(|_| hello.incarnation == self.hosts[peer].incarnation()) {
                    let other = &self.connections[link.0 as usize].ends;
                    let mine = usize::from(other[0].host != host);
                    sometimes!("peer restarted against its own dead link", !other[mine].over);
                }
                self.carry_out(host, peer)?;
            }
            Heard::Admitted => {
                self.connections[connection].ends[end].admitted = true;
                let hello = self.connections[connection].ends[end].session.as_ref().and_then(|session| session.peer());
                let hello = hello.expect("its Hello came first").clone();
                self.hosts[host].peers[peer].arbiter.handle_admitted(now, id, &hello);
                self.carry_out(host, peer)?;
            }
            Heard::Sockets(change) => {
                for their in &change.opened {
                    if self.hosts[host].push.is_some() && their.kind == PULL {
                        self.route(connection, end, their.id.0);
                    }
                    debug_assert!(their.kind == PULL || their.kind == PUSH);
                }
            }
            Heard::Goodbye(_) => {
                self.hosts[host].peers[peer].gone = true;
                self.close_connection(connection, end, "the peer has left")?;
            }
            Heard::Peers(_) | Heard::StatusAsk | Heard::Status(_) | Heard::Nothing => {}
        }
        Ok(())
    }

    /// Carries out what the arbiter of a host has decided about a peer.
    pub(super) fn carry_out(&mut self, host: usize, peer: usize) -> Checked {
        while let Some(verdict) = self.hosts[host].peers[peer].arbiter.poll_verdict() {
            self.note(|| format!("h{host} about h{peer}: {verdict:?}"));
            match verdict {
                Verdict::Admit(id) => {
                    let (connection, now) = (id.0 as usize, self.instant());
                    let end = self.end_at(connection, host);
                    if let Some(session) = &mut self.connections[connection].ends[end].session {
                        session.admit(now);
                    }
                    self.say(connection, end);
                    self.look_at_session_time(connection, end);
                }
                Verdict::Close(id, ending) => {
                    let connection = id.0 as usize;
                    let end = self.end_at(connection, host);
                    self.check_refused(connection, end, ending)?;
                    self.take_away(connection, end, true)?;
                }
            }
        }
        let arbiter = &self.hosts[host].peers[peer].arbiter;
        if let Some(at) = arbiter.poll_timeout() {
            let at = self.time(at);
            self.queue.at(at.max(self.now), Event::Arbiter(host, self.hosts[host].life, peer));
        }
        if let Some(id) = self.hosts[host].peers[peer].arbiter.link() {
            let connection = id.0 as usize;
            let end = self.end_at(connection, host);
            let own = &self.connections[connection].ends[end];
            if own.session.as_ref().is_none_or(|_| own.over) {
                let what = format!("h{host} takes connection {connection} with h{peer} for the link, which is over");
                return Err(Violation::new("a link that is over is no link", what));
            }
            if !own.open && own.session.as_ref().is_some_and(Session::is_open) {
                self.open_link(connection, end)?;
            }
        }
        Ok(())
    }

    /// A life of the peer that is over is not preferred to its present one.
    fn check_refused(&self, connection: usize, end: usize, ending: Ending) -> Checked {
        let (host, peer) = self.hosts_of(connection, end);
        let session = self.connections[connection].ends[end].session.as_ref();
        let Some(hello) = session.and_then(|session| session.peer()) else { return Ok(()) };
        let kept = self.hosts[host].peers[peer].arbiter.incarnation();
        let present = self.hosts[peer].incarnation();
        if ending == Ending::Duplicate && hello.incarnation == present && kept.is_some_and(|kept| kept != present) {
            let what = format!("h{host} refuses connection {connection} with h{peer} for a link with its earlier life");
            return Err(Violation::new("a restarted peer does not lose to its own dead link", what));
        }
        let link = self.hosts[host].peers[peer].arbiter.link().filter(|_| ending == Ending::Duplicate);
        if let Some(link) = link.map(|link| link.0 as usize) {
            let theirs = &self.connections[link].ends[self.end_at(link, peer)];
            let new = &self.connections[connection].ends[1 - end];
            if theirs.over && theirs.over_at < new.adopted_at && theirs.life == new.life {
                let what =
                    format!("h{host} refuses connection {connection} with h{peer} for {link}, which is over there");
                return Err(Violation::new("a link that the peer knows to be dead is not kept", what));
            }
        }
        Ok(())
    }

    fn open_link(&mut self, connection: usize, end: usize) -> Checked {
        let (host, peer) = self.hosts_of(connection, end);
        let (own, other) = (self.hosts[host].name.clone(), self.hosts[peer].name.clone());
        self.links.opened(self.elapsed(), own, other, connection as u64)?;
        self.connections[connection].ends[end].open = true;
        let sockets = self.hosts[host].sockets();
        let state = &mut self.hosts[host].peers[peer];
        state.gone = false;
        if let Some(session) = &mut self.connections[connection].ends[end].session {
            session.tell_all(sockets);
        }
        self.say(connection, end);
        for lane in std::mem::take(&mut self.connections[connection].ends[end].early) {
            self.accept_lane(lane)?;
        }
        Ok(())
    }

    pub(super) fn look_at_session_time(&mut self, connection: usize, end: usize) {
        let Some(session) = &self.connections[connection].ends[end].session else { return };
        let at = self.time(session.poll_timeout()).max(self.now);
        if self.connections[connection].ends[end].timer != at {
            self.connections[connection].ends[end].timer = at;
            self.queue.at(at, Event::Session(connection, end));
        }
    }

    pub(super) fn session_time(&mut self, connection: usize, end: usize) -> Checked {
        let (host, peer) = self.hosts_of(connection, end);
        let own = &self.connections[connection].ends[end];
        if own.over || own.life != self.hosts[host].life {
            return Ok(());
        }
        let owed = own.carried.iter().any(|(lane, end)| self.owes(*lane, *end));
        let (now, time, awake) = (self.instant(), self.now, self.hosts[host].node_paused_until);
        let asks = self.look(connection, end);
        let own = &mut self.connections[connection].ends[end];
        own.owed_since = if owed { own.owed_since.or(Some(time)) } else { None };
        if let Some(since) = own.owed_since {
            let since = since.max(own.heard_at).max(awake);
            if own.open && time > since + SILENT {
                let what = format!("h{host} has heard nothing of h{peer} for {} ms", (time - since) / MS);
                return Err(Violation::new("a silent peer is given up where something is owed", what));
            }
        }
        let Some(session) = &mut own.session else { return Ok(()) };
        if session.poll_timeout() > now {
            self.look_at_session_time(connection, end);
            return Ok(());
        }
        if asks {
            session.ping();
        }
        if let Some(ending) = session.handle_timeout(now, own.received, owed) {
            let asleep = self.hosts[peer].node_paused_until > self.now;
            sometimes!("host suspended for longer than its links live", ending == Ending::Silent && asleep);
            return self.close_connection(connection, end, &format!("{ending:?}"));
        }
        self.say(connection, end);
        self.look_at_session_time(connection, end);
        Ok(())
    }

    pub(super) fn arbiter_time(&mut self, host: usize, life: u32, peer: usize) -> Checked {
        let now = self.instant();
        if self.hosts[host].life != life || !self.hosts[host].up {
            return Ok(());
        }
        let arbiter = &mut self.hosts[host].peers[peer].arbiter;
        if arbiter.poll_timeout().is_some_and(|at| at <= now) {
            arbiter.handle_timeout(now);
            self.carry_out(host, peer)?;
        }
        Ok(())
    }
}

fn format_frame(frame: &Control) -> &'static str {
    match frame {
        Control::Hello(_) => "Hello",
        Control::Admitted => "Admitted",
        Control::Sockets(_) => "Sockets",
        Control::Goodbye { .. } => "Goodbye",
        _ => "something",
    }
}

/// After so long at the most: 2.5 s, and two looks.
const SILENT: Time = 3 * SECOND + 100 * MS;

/// Both ends of a link are ours: neither breaks the protocol.
pub(super) const HONEST: &str = "both ends keep to the protocol";
