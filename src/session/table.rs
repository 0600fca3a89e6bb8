//! The table of sockets that each end tells the other, in parts that take effect together.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};

use crate::id::SocketId;
use crate::wire::Violation;
use crate::wire::control::{MAX_PART, SocketEntry, Sockets};
use crate::wire::limits::MAX_SOCKETS;

/// What changed in the peer's table.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Change {
    pub(crate) opened: Vec<SocketEntry>,
    pub(crate) closed: Vec<SocketId>,
}

/// What the peer is still to be told. A socket that opens and closes before its turn is never told.
#[derive(Debug, Default)]
#[cfg_attr(test, derive(Clone))]
pub(super) struct Told {
    /// The parts that come next belong to the first, whole table.
    full: bool,
    /// A part was sent that said another follows.
    more: bool,
    opened: BTreeMap<SocketId, SocketEntry>,
    closed: BTreeSet<SocketId>,
}

impl Told {
    pub(super) fn all(&mut self, sockets: impl IntoIterator<Item = SocketEntry>) {
        self.full = true;
        self.opened = sockets.into_iter().map(|socket| (socket.id, socket)).collect();
    }

    pub(super) fn opened(&mut self, socket: SocketEntry) {
        self.opened.insert(socket.id, socket);
    }

    pub(super) fn closed(&mut self, socket: SocketId) {
        if self.opened.remove(&socket).is_none() {
            self.closed.insert(socket);
        }
    }

    pub(super) fn next_part(&mut self) -> Option<Sockets> {
        if !self.full && !self.more && self.opened.is_empty() && self.closed.is_empty() {
            return None;
        }
        let mut part = Sockets { full: self.full, ..Sockets::default() };
        while part.closed.len() < MAX_PART
            && let Some(socket) = self.closed.pop_first()
        {
            part.closed.push(socket);
        }
        let mut places = part.closed.len();
        while let Some(next) = self.opened.first_entry()
            && places + next.get().places() <= MAX_PART
        {
            places += next.get().places();
            part.opened.push(next.remove());
        }
        part.more = !(self.opened.is_empty() && self.closed.is_empty());
        self.more = part.more;
        self.full &= part.more;
        Some(part)
    }
}

/// What the peer has told.
#[derive(Debug, Default)]
#[cfg_attr(test, derive(Clone))]
pub(super) struct Heard {
    sockets: BTreeMap<SocketId, SocketEntry>,
    complete: bool,
    /// Parts that wait for their last one.
    parts: Option<Parts>,
}

#[derive(Debug, Default)]
#[cfg_attr(test, derive(Clone))]
struct Parts {
    full: bool,
    opened: BTreeMap<SocketId, SocketEntry>,
    closed: BTreeSet<SocketId>,
}

impl Heard {
    pub(super) fn sockets(&self) -> &BTreeMap<SocketId, SocketEntry> {
        &self.sockets
    }

    pub(super) fn is_complete(&self) -> bool {
        self.complete
    }

    /// Takes a part; the change, when it was the last.
    pub(super) fn handle(&mut self, part: Sockets) -> Result<Option<Change>, Violation> {
        let mut parts = match self.parts.take() {
            None => Parts { full: part.full, ..Parts::default() },
            Some(parts) if parts.full == part.full => parts,
            Some(_) => return Err(Violation("parts of two tables in one")),
        };
        if !parts.full && !self.complete {
            return Err(Violation("a change of a table that was never told"));
        }
        for socket in part.closed {
            // Who was never told of a socket may be told of its end: that is no harm, and it is not kept.
            if parts.opened.remove(&socket).is_none() && self.sockets.contains_key(&socket) {
                parts.closed.insert(socket);
            }
        }
        for socket in part.opened {
            let known = self.sockets.get(&socket.id).is_some_and(|known| !parts.full || *known != socket);
            if known || parts.opened.insert(socket.id, socket).is_some() {
                return Err(Violation("a socket opened twice"));
            }
        }
        let before = if parts.full { 0 } else { self.sockets.len() - parts.closed.len() };
        if before + parts.opened.len() > MAX_SOCKETS {
            return Err(Violation("more sockets than a node may have"));
        }
        if part.more {
            self.parts = Some(parts);
            return Ok(None);
        }
        Ok(Some(self.apply(parts)))
    }

    fn apply(&mut self, parts: Parts) -> Change {
        let mut change = Change::default();
        self.complete = true;
        let gone = |id: &SocketId| parts.closed.contains(id) || parts.full && !parts.opened.contains_key(id);
        change.closed = self.sockets.keys().copied().filter(gone).collect();
        for id in &change.closed {
            self.sockets.remove(id);
        }
        for (id, socket) in parts.opened {
            if let Entry::Vacant(place) = self.sockets.entry(id) {
                place.insert(socket.clone());
                change.opened.push(socket);
            }
        }
        change
    }
}
