//! A message on its way in: what an application gives to a socket.

use std::fmt;

use bytes::Bytes;

use super::headers::{Headers, find};
use super::trace_parent::TraceParent;
use crate::error::InvalidHeader;
use crate::wire::headers::{self, section_len};
use crate::wire::limits::MAX_HEADERS;

/// A message that is to be sent: a body, and headers where it has some.
///
/// Whatever turns into [`Bytes`] turns into one, so that `push.send("job")` needs no word of it.
///
/// A header is a name and a value, both text without control characters, the name not empty. Order is kept, and a name
/// may stand there more than once. All headers of a message have at most 64 KiB together. What does not fit is refused
/// when the message is sent, before anything is queued.
///
/// The header [`traceparent`](TraceParent) is reserved: there is at most one, as W3C Trace Context has it.
///
/// ```
/// use meshmq::{NewMessage, Node};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> meshmq::Result<()> {
/// let node = Node::isolated().await?;
/// let (push, pull) = (node.push("jobs").await?, node.pull("jobs").await?);
/// push.send(NewMessage::new("cat.png").header("kind", "resize").header("width", "640")).await?;
///
/// let job = pull.recv().await?;
/// assert_eq!((&**job, job.header("width")), (&b"cat.png"[..], Some("640")));
/// job.ack();
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Default, PartialEq, Eq)]
pub struct NewMessage {
    body: Bytes,
    headers: Option<Box<Written>>,
}

/// Headers as they are written. Rare: it is kept apart, so that a message without any stays small.
#[derive(Clone, Default, PartialEq, Eq)]
struct Written {
    block: Vec<u8>,
    count: usize,
    /// The first one that does not fit.
    fault: Option<InvalidHeader>,
}

impl NewMessage {
    /// A message without headers.
    #[inline]
    pub fn new(body: impl Into<Bytes>) -> Self {
        Self { body: body.into(), headers: None }
    }

    /// Adds a header behind those that are there. One that does not fit is refused when the message is sent.
    #[must_use]
    pub fn header(mut self, name: impl AsRef<str>, value: impl AsRef<str>) -> Self {
        self.add(name.as_ref(), value.as_ref());
        self
    }

    /// Adds several headers, such as those of a message that is passed on.
    ///
    /// ```
    /// # use meshmq::{Message, NewMessage};
    /// fn pass_on(message: &Message) -> NewMessage {
    ///     NewMessage::new(message.body()).with_headers(&message.headers())
    /// }
    /// ```
    #[must_use]
    pub fn with_headers<N: AsRef<str>, V: AsRef<str>>(mut self, headers: impl IntoIterator<Item = (N, V)>) -> Self {
        for (name, value) in headers {
            self.add(name.as_ref(), value.as_ref());
        }
        self
    }

    /// The body.
    #[inline]
    pub fn body(&self) -> &Bytes {
        &self.body
    }

    /// The same headers with another body.
    pub(crate) fn with_body(mut self, body: Bytes) -> Self {
        self.body = body;
        self
    }

    /// The body, without the headers.
    pub fn into_body(self) -> Bytes {
        self.body
    }

    /// A copy of its headers.
    pub fn headers(&self) -> Headers {
        Headers::of(Bytes::copy_from_slice(self.block()))
    }

    /// What bounds count.
    #[inline]
    pub(crate) fn size(&self) -> usize {
        match &self.headers {
            None => self.body.len(),
            Some(headers) => self.body.len() + headers.section_len(),
        }
    }

    /// It has headers.
    #[inline]
    pub(crate) fn has_headers(&self) -> bool {
        self.headers.is_some()
    }

    /// Its headers as they are on the wire.
    #[inline]
    pub(crate) fn block(&self) -> &[u8] {
        self.headers.as_ref().map_or(&[], |headers| &headers.block)
    }

    /// Whether its headers can be sent.
    #[inline]
    pub(crate) fn check_headers(&self) -> Result<(), InvalidHeader> {
        match &self.headers {
            None => Ok(()),
            Some(headers) => headers.check(),
        }
    }

    /// The value of the first header of this name.
    pub(crate) fn value(&self, name: &str) -> Option<&str> {
        find(self.block(), name)
    }

    /// Adds what the sender did not ask for, unless headers or message grew beyond what they may be. `Some`: where it was
    /// added.
    pub(crate) fn add_within(&mut self, name: &str, value: &str, room: u64) -> Option<usize> {
        let before = self.block().len();
        self.add(name, value);
        if self.block().len() > MAX_HEADERS || self.size() as u64 > room {
            self.cut_headers(before);
            return None;
        }
        Some(before)
    }

    /// Takes back the last header, which began here in the block and had no fault.
    pub(crate) fn cut_headers(&mut self, block: usize) {
        if block == 0 {
            self.headers = None;
        } else if let Some(headers) = &mut self.headers {
            headers.block.truncate(block);
            headers.count -= 1;
        }
    }

    fn add(&mut self, name: &str, value: &str) {
        self.headers.get_or_insert_default().add(name, value);
    }
}

impl Written {
    fn add(&mut self, name: &str, value: &str) {
        self.count += 1;
        if self.fault.is_none() {
            self.fault = self.look_at(name, value).err();
        }
        headers::put(&mut self.block, name, value);
    }

    fn look_at(&self, name: &str, value: &str) -> Result<(), InvalidHeader> {
        let number = self.count;
        let control = |text: &str| text.chars().find(|c| c.is_control());
        if name.is_empty() {
            return Err(InvalidHeader::NoName { number });
        }
        if let Some(character) = control(name).or_else(|| control(value)) {
            return Err(InvalidHeader::Control { number, character });
        }
        if name == TraceParent::HEADER
            && (value.parse::<TraceParent>().is_err() || find(&self.block, TraceParent::HEADER).is_some())
        {
            return Err(InvalidHeader::TraceParent { number });
        }
        Ok(())
    }

    #[cold]
    fn section_len(&self) -> usize {
        section_len(self.block.len())
    }

    #[cold]
    fn check(&self) -> Result<(), InvalidHeader> {
        match self.fault {
            Some(fault) => Err(fault),
            None if self.block.len() > MAX_HEADERS => {
                Err(InvalidHeader::TooLarge { len: self.block.len(), limit: MAX_HEADERS })
            }
            None => Ok(()),
        }
    }
}

impl<T: Into<Bytes>> From<T> for NewMessage {
    #[inline]
    fn from(body: T) -> Self {
        Self::new(body)
    }
}

impl fmt::Debug for NewMessage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NewMessage").field("len", &self.body.len()).field("headers", &self.headers()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    fn fault(message: &NewMessage) -> Option<InvalidHeader> {
        message.check_headers().err()
    }

    #[test]
    fn a_message_without_headers_stays_small() {
        assert!(size_of::<NewMessage>() <= size_of::<Bytes>() + size_of::<usize>());
        assert_eq!(NewMessage::new("body").size(), 4);
        assert!(NewMessage::new("body").headers().is_empty());
    }

    #[test]
    fn the_first_header_that_does_not_fit_is_named() {
        let new = || NewMessage::new("body").header("a", "1");
        assert_eq!(fault(&new().header("a", "")), None, "a name may repeat, a value may be empty");
        assert_eq!(fault(&new().header("", "1").header("\n", "")), Some(InvalidHeader::NoName { number: 2 }));
        for bad in [new().header("b\n", "2"), new().header("b", "\n2")] {
            assert_eq!(fault(&bad), Some(InvalidHeader::Control { number: 2, character: '\n' }));
        }
        let next_line = new().header("b", "\u{85}");
        assert_eq!(fault(&next_line), Some(InvalidHeader::Control { number: 2, character: '\u{85}' }));
    }

    #[test]
    fn all_headers_together_are_bounded() {
        // Two lengths: of the name 1 byte, of the value 4.
        let most = "v".repeat(MAX_HEADERS - 1 - 1 - 4);
        assert_eq!(fault(&NewMessage::new("").header("n", &most)), None);
        let (len, limit) = (MAX_HEADERS + 3, MAX_HEADERS);
        let more = NewMessage::new("").header("n", most).header("m", "");
        assert_eq!(fault(&more), Some(InvalidHeader::TooLarge { len, limit }));
    }

    #[test]
    fn a_traceparent_is_one_and_whole() {
        let new = || NewMessage::new("body");
        assert_eq!(fault(&new().header("traceparent", PARENT)), None);
        let bad = InvalidHeader::TraceParent { number: 1 };
        assert_eq!(fault(&new().header("traceparent", "00-1-2-3")), Some(bad));
        assert_eq!(fault(&new().header("Traceparent", "00-1-2-3")), None, "another name");
        let twice = new().header("traceparent", PARENT).header("traceparent", PARENT);
        assert_eq!(fault(&twice), Some(InvalidHeader::TraceParent { number: 2 }));
    }

    #[test]
    fn what_was_added_can_be_taken_back() {
        for message in [NewMessage::new("body"), NewMessage::new("body").header("a", "1")] {
            let mut more = message.clone();
            let before = more.add_within("traceparent", PARENT, 200).unwrap();
            assert_ne!(more, message);
            more.cut_headers(before);
            assert_eq!(more, message);
            assert_eq!(more.add_within("traceparent", PARENT, 70), None, "there is no room for it");
            assert_eq!(more, message);
        }
    }
}
