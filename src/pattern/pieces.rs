//! Bodies in pieces, both ways: frames from chunks, a body from its pieces, and what a lane's writer takes.

use bytes::{Bytes, BytesMut};

use super::content::Content;
use super::lane::Violation;
use crate::wire::exchange::{self, Begun};
use crate::wire::limits::{EXCHANGE_WINDOW_BYTES, EXCHANGE_WINDOWS_OF_NODE, PIECE};

/// A buffer grows as its bytes arrive, never further ahead than this.
const AHEAD: usize = 64 << 10;
/// Bodies below are copied: a slice of what arrived may keep alive all packets that came with it.
const SMALL_BODY: usize = 16 << 10;
/// Pieces below this are gathered into one chunk.
const SMALL_CHUNK: usize = 2048;
/// How much a lane's writer takes at a time: what lies there is written, whatever becomes of it.
pub(super) const OUTGOING: usize = 256 << 10;

/// Frames from chunks. One inside a chunk is a slice of it.
#[derive(Debug, Default)]
pub(super) struct Frames {
    /// The frame that an earlier chunk began.
    part: BytesMut,
}

impl Frames {
    /// Takes one chunk, and calls `each(kind, payload)` for every frame that is whole.
    pub(super) fn feed(
        &mut self,
        mut chunk: Bytes,
        mut each: impl FnMut(u8, Bytes) -> Result<(), Violation>,
    ) -> Result<(), Violation> {
        while !self.part.is_empty() && !chunk.is_empty() {
            let Some((kind, payload)) = exchange::find(&self.part)? else {
                self.part.extend_from_slice(&chunk.split_to(1));
                continue;
            };
            let more = chunk.len().min(payload.end - self.part.len());
            if self.part.capacity() - self.part.len() < more {
                let ahead = (payload.end - self.part.len()).min(AHEAD.max(self.part.len()));
                self.part.reserve(ahead.max(more));
            }
            self.part.extend_from_slice(&chunk.split_to(more));
            if self.part.len() < payload.end {
                return Ok(());
            }
            let whole = std::mem::take(&mut self.part).freeze();
            each(kind, whole.slice(payload))?;
        }
        while !chunk.is_empty() {
            match exchange::find(&chunk)? {
                Some((kind, payload)) if payload.end <= chunk.len() => {
                    let end = payload.end;
                    each(kind, chunk.slice(payload))?;
                    let _ = chunk.split_to(end);
                }
                _ => {
                    self.part.extend_from_slice(&chunk);
                    break;
                }
            }
        }
        // A frame may end where its head does.
        if let Some((kind, payload)) = exchange::find(&self.part)?
            && payload.end == self.part.len()
        {
            let whole = std::mem::take(&mut self.part).freeze();
            each(kind, whole.slice(payload))?;
        }
        Ok(())
    }
}

/// A body on its way here.
#[derive(Debug)]
pub(super) struct Arriving {
    headers: Bytes,
    body: BytesMut,
    length: usize,
}

/// Not all of the body is in its first frame, which this is.
pub(super) fn is_part<H>(begun: &Begun<H>, payload: &Bytes) -> bool {
    payload.len() - begun.piece < begun.body
}

/// What the first frame of a body has brought.
pub(super) enum Arrival {
    /// All of it.
    Whole(Content),
    Part(Arriving),
}

impl Arrival {
    /// `payload` is the one that was read.
    pub(super) fn of<H>(begun: &Begun<H>, payload: &Bytes) -> Self {
        let headers = Bytes::copy_from_slice(&payload[begun.headers.clone()]);
        let piece = payload.slice(begun.piece..);
        if piece.len() == begun.body {
            let body = if piece.len() < SMALL_BODY { Bytes::copy_from_slice(&piece) } else { piece };
            return Self::Whole(Content { headers, body });
        }
        let mut body = BytesMut::with_capacity(begun.body.min(AHEAD));
        body.extend_from_slice(&piece);
        Self::Part(Arriving { headers, body, length: begun.body })
    }
}

impl Arriving {
    /// Takes more of it; `Some`: that was the rest.
    pub(super) fn feed(&mut self, piece: &[u8]) -> Result<Option<Content>, Violation> {
        let left = self.length - self.body.len();
        if piece.len() > left {
            return Err(Violation("a body is longer than was announced"));
        }
        self.body.extend_from_slice(piece);
        if self.body.len() < self.length {
            return Ok(None);
        }
        let (headers, body) = (std::mem::take(&mut self.headers), std::mem::take(&mut self.body).freeze());
        Ok(Some(Content { headers, body }))
    }

    /// Bytes that are held for it.
    #[cfg(test)]
    pub(super) fn held(&self) -> usize {
        self.body.capacity()
    }
}

/// The rest of a body on its way out.
#[derive(Debug)]
pub(super) struct Rest {
    pub(super) id: u64,
    body: Bytes,
}

impl Rest {
    /// What is left of a body once its first piece is gone; nothing, as a rule.
    pub(super) fn of(id: u64, body: &Bytes) -> (Bytes, Option<Self>) {
        if body.len() <= PIECE {
            return (body.clone(), None);
        }
        (body.slice(..PIECE), Some(Self { id, body: body.slice(PIECE..) }))
    }

    /// Bytes that are left.
    pub(super) fn left(&self) -> u64 {
        self.body.len() as u64
    }

    /// Gives the next piece to the writer; true: there is more.
    pub(super) fn put(&mut self, out: &mut Out) -> bool {
        let piece = self.body.split_to(self.body.len().min(PIECE));
        exchange::put_more(out.small(), self.id, piece.len());
        out.body(piece);
        !self.body.is_empty()
    }
}

/// What a lane's writer takes: small things gathered, large ones as the slices that they are.
#[derive(Debug, Default)]
pub(super) struct Out {
    chunks: Vec<Bytes>,
    small: BytesMut,
    bytes: usize,
}

impl Out {
    /// For heads and small frames.
    pub(super) fn small(&mut self) -> &mut BytesMut {
        &mut self.small
    }

    /// Behind its head.
    pub(super) fn body(&mut self, piece: Bytes) {
        if piece.len() <= SMALL_CHUNK {
            self.small.extend_from_slice(&piece);
            return;
        }
        self.flush();
        self.bytes += piece.len();
        self.chunks.push(piece);
    }

    /// The writer has enough for one turn.
    pub(super) fn is_full(&self) -> bool {
        self.bytes + self.small.len() >= OUTGOING
    }

    pub(super) fn is_empty(&self) -> bool {
        self.chunks.is_empty() && self.small.is_empty()
    }

    /// Moves everything; true: there was something.
    pub(super) fn take(&mut self, out: &mut Vec<Bytes>) -> bool {
        self.flush();
        self.bytes = 0;
        let any = !self.chunks.is_empty();
        out.append(&mut self.chunks);
        any
    }

    fn flush(&mut self) {
        if !self.small.is_empty() {
            self.bytes += self.small.len();
            self.chunks.push(self.small.split().freeze());
        }
    }
}

/// How far one end lets the other go, in bytes: cumulative totals of a lane.
#[derive(Debug, Default)]
pub(super) struct Allowance {
    told: u64,
    spent: u64,
    /// Of what was spent: dealt with.
    released: u64,
}

impl Allowance {
    /// The other end has begun something that costs so much.
    pub(super) fn spend(&mut self, cost: u64) -> Result<(), Violation> {
        if self.spent >= self.told {
            return Err(Violation("more was begun than the credit allows"));
        }
        self.spent += cost;
        Ok(())
    }

    /// It is dealt with. True: there is enough to be told.
    pub(super) fn release(&mut self, cost: u64, window: u64) -> bool {
        self.released += cost;
        self.is_due(window)
    }

    fn is_due(&self, window: u64) -> bool {
        self.released + window >= self.told + (window / 4).max(1)
    }

    /// The total that is to be told now.
    pub(super) fn tell(&mut self, window: u64) -> Option<u64> {
        self.is_due(window).then(|| {
            self.told = self.released + window;
            self.told
        })
    }

    /// What the other end has begun and this one has not dealt with.
    pub(super) fn held(&self) -> u64 {
        self.spent - self.released
    }
}

/// What one node may hold of a socket, over all its lanes, before a body that comes in parts is refused: each lane may begin
/// one beyond its credit, and a node may have many lanes.
pub(super) fn most_of_node(max_message: usize) -> u64 {
    EXCHANGE_WINDOWS_OF_NODE * EXCHANGE_WINDOW_BYTES.max(max_message as u64)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::wire::exchange::RequestHead;

    #[test]
    fn what_is_announced_is_not_allocated() {
        let head = RequestHead { id: 1, remaining: 1000, idempotent: false, attempt: 1 };
        let mut bytes = BytesMut::new();
        exchange::put_request(&mut bytes, head, &[], 16 << 20, 1);
        bytes.extend_from_slice(b"x");
        let mut held = 0;
        let mut frames = Frames::default();
        frames
            .feed(bytes.freeze(), |_, payload| {
                let begun = exchange::read_request(&payload)?;
                let Arrival::Part(mut arriving) = Arrival::of(&begun, &payload) else { panic!("it is not whole") };
                assert_eq!(arriving.feed(&[0; 100])?, None);
                held = arriving.held();
                assert!(arriving.feed(&vec![0; 16 << 20]).is_err(), "longer than announced");
                Ok(())
            })
            .unwrap();
        assert!(held > 0 && held <= AHEAD, "{held} bytes for 101");
    }

    /// The payload of the frame that begins a reply with its first piece.
    fn begin(body: usize, piece: usize) -> Bytes {
        let mut frame = BytesMut::new();
        exchange::put_reply(&mut frame, 1, &[], body, piece);
        frame.resize(frame.len() + piece, 7);
        let (_, payload) = exchange::find(&frame).unwrap().unwrap();
        frame.freeze().slice(payload)
    }

    #[test]
    fn a_frame_in_many_chunks_grows_where_it_lies_and_little_ahead() {
        for (length, size) in [(40_000, 10), (exchange::MAX_FRAME, 1000)] {
            let mut bytes = BytesMut::new();
            crate::wire::frame::put_answer(&mut bytes, 0x40, &vec![7; length]);
            let (mut bytes, mut frames, mut whole) = (bytes.freeze(), Frames::default(), Vec::new());
            let end = bytes.len();
            // The first byte alone does not say how long it is.
            for chunk in std::iter::once(bytes.split_to(1)).chain(bytes.chunks(size).map(Bytes::copy_from_slice)) {
                let each = |kind, payload: Bytes| {
                    whole.push((kind, payload.len()));
                    Ok(())
                };
                frames.feed(chunk, each).unwrap();
                let (held, arrived) = (frames.part.capacity(), frames.part.len());
                assert!(held <= arrived + AHEAD.max(arrived), "{held} bytes for {arrived}");
                if arrived > 1 && end <= AHEAD {
                    assert_eq!(held, end, "allocated once");
                }
            }
            assert_eq!(whole, [(0x40, length)]);
        }
    }

    #[test]
    fn a_body_is_in_parts_if_a_byte_of_it_is_not_in_its_first_frame() {
        for (body, part) in [(0, false), (PIECE - 1, false), (PIECE, false), (PIECE + 1, true), (3 * PIECE, true)] {
            let payload = begin(body, body.min(PIECE));
            let begun = exchange::read_reply(&payload).unwrap();
            assert_eq!(is_part(&begun, &payload), part, "{body} bytes");
            assert_eq!(matches!(Arrival::of(&begun, &payload), Arrival::Part(_)), part, "{body} bytes");
        }
    }

    #[test]
    fn a_small_body_keeps_nothing_alive_of_what_came_with_it() {
        for (length, copied) in [(1, true), (SMALL_BODY - 1, true), (SMALL_BODY, false), (SMALL_BODY + 1, false)] {
            let payload = begin(length, length);
            let begun = exchange::read_reply(&payload).unwrap();
            let Arrival::Whole(Content { body, .. }) = Arrival::of(&begun, &payload) else { panic!("it is whole") };
            assert_eq!(body, payload[begun.piece..]);
            assert_eq!(!payload.as_ptr_range().contains(&body.as_ptr()), copied, "{length} bytes");
        }
    }

    #[test]
    fn of_a_body_little_more_is_held_than_has_arrived() {
        let payload = begin(1 << 20, 1);
        let begun = exchange::read_reply(&payload).unwrap();
        let Arrival::Part(mut arriving) = Arrival::of(&begun, &payload) else { panic!("it is not whole") };
        let mut left = (1 << 20) - 1;
        while left > 1000 {
            assert_eq!(arriving.feed(&[7; 1000]), Ok(None));
            left -= 1000;
            let (held, arrived) = (arriving.held(), (1 << 20) - left);
            assert!(held <= arrived + AHEAD.max(arrived), "{held} bytes for {arrived}");
        }
        assert_eq!(arriving.feed(&vec![7; left]).unwrap().unwrap().body, vec![7; 1 << 20]);
    }

    #[test]
    fn what_is_left_of_a_body_is_counted() {
        assert!(Rest::of(1, &Bytes::from(vec![7; PIECE])).1.is_none());
        let (first, rest) = Rest::of(1, &Bytes::from(vec![7; 2 * PIECE + 5]));
        let (mut rest, mut out) = (rest.unwrap(), Out::default());
        assert_eq!((first.len(), rest.left()), (PIECE, PIECE as u64 + 5));
        assert!(rest.put(&mut out));
        assert_eq!(rest.left(), 5);
        assert!(!rest.put(&mut out));
        assert_eq!(rest.left(), 0);
    }

    #[test]
    fn small_things_are_gathered_and_large_ones_are_not_copied() {
        let (mut out, mut wire) = (Out::default(), Vec::new());
        let large = Bytes::from(vec![2; SMALL_CHUNK + 1]);
        out.small().extend_from_slice(b"head");
        out.body(Bytes::from(vec![1; SMALL_CHUNK]));
        out.body(large.clone());
        out.small().extend_from_slice(b"end");
        assert!(out.take(&mut wire));
        assert_eq!(wire.iter().map(Bytes::len).collect::<Vec<_>>(), [4 + SMALL_CHUNK, SMALL_CHUNK + 1, 3]);
        assert_eq!(wire[1].as_ptr(), large.as_ptr());
        assert!(out.is_empty() && !out.take(&mut wire), "once");
    }

    #[test]
    fn a_writer_has_enough_when_heads_and_bodies_are_so_many_bytes() {
        let mut out = Out::default();
        out.small().extend_from_slice(b"head");
        out.body(Bytes::from(vec![0; OUTGOING - 6]));
        out.small().extend_from_slice(b"e");
        assert!(!out.is_full(), "one byte is missing");
        out.small().extend_from_slice(b"n");
        assert!(out.is_full());
        out.take(&mut Vec::new());
        assert!(!out.is_full());
    }

    #[test]
    fn credit_is_told_when_it_is_worth_it_and_nobody_starves() {
        let (mut allowance, window) = (Allowance::default(), 1000);
        assert!(allowance.spend(1).is_err(), "nothing was given");
        assert_eq!(allowance.tell(window), Some(1000));
        assert_eq!(allowance.tell(window), None);
        allowance.spend(999).unwrap();
        allowance.spend(5000).unwrap();
        assert!(allowance.spend(1).is_err(), "one may overshoot, and no second one");
        assert!(!allowance.release(100, window));
        assert!(allowance.release(899, window));
        assert_eq!((allowance.tell(window), allowance.held()), (Some(1999), 5000));
        assert!(allowance.spend(1).is_err());
        assert!(allowance.release(5000, window));
        assert_eq!(allowance.tell(window), Some(6999));
        allowance.spend(1).unwrap();
    }

    proptest! {
        /// In whatever chunks they arrive, the same bodies come out.
        #[test]
        fn bodies_come_out_of_all_chunkings(
            lengths in prop::collection::vec(prop_oneof![0usize..50, PIECE - 2..PIECE + 3, Just(3 * PIECE)], 1..6),
            cuts in prop::collection::vec(1usize..100_000, 1..40),
            tiny in any::<bool>(),
        ) {
            let bodies: Vec<Bytes> =
                lengths.iter().enumerate().map(|(id, length)| Bytes::from(vec![id as u8; *length])).collect();
            let (mut out, mut rests, mut wire) = (Out::default(), Vec::new(), Vec::new());
            for (id, body) in bodies.iter().enumerate() {
                let (first, rest) = Rest::of(id as u64, body);
                exchange::put_reply(out.small(), id as u64, &[], body.len(), first.len());
                out.body(first);
                rests.extend(rest);
            }
            while !rests.is_empty() {
                rests.retain_mut(|rest| rest.put(&mut out));
            }
            out.take(&mut wire);
            let mut wire = Bytes::from(wire.concat());
            let (mut frames, mut arriving, mut whole) = (Frames::default(), std::collections::BTreeMap::new(), Vec::new());
            for cut in cuts.iter().cycle() {
                if wire.is_empty() {
                    break;
                }
                let cut = if tiny && wire.len() < 1000 { 1 } else { *cut };
                let chunk = wire.split_to(cut.min(wire.len()));
                frames.feed(chunk, |kind, payload| {
                    if kind == exchange::MORE {
                        let (id, at) = exchange::read_more(&payload)?;
                        let part: &mut Arriving = arriving.get_mut(&id).unwrap();
                        whole.extend(part.feed(&payload[at..])?.map(|content| (id, content.body)));
                        return Ok(());
                    }
                    let begun = exchange::read_reply(&payload)?;
                    match Arrival::of(&begun, &payload) {
                        Arrival::Whole(content) => whole.push((begun.head, content.body)),
                        Arrival::Part(part) => _ = arriving.insert(begun.head, part),
                    }
                    Ok(())
                }).unwrap();
            }
            whole.sort_by_key(|(id, _)| *id);
            let whole: Vec<_> = whole.into_iter().map(|(_, body)| body).collect();
            prop_assert_eq!(whole, bodies);
        }
    }
}
