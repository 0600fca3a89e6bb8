//! What can go wrong: a small enum for each verb, and one type that they all turn into.
//!
//! Each variant says what becomes of the message, the socket or the node.

use std::fmt;

use crate::wire::limits::{MAX_CHANNEL, MAX_SUBSCRIPTIONS, MAX_TOPIC, MAX_TOPIC_PARTS, MAX_TYPE_NAME};

/// Any error of this library, for those who pass it on.
pub type Error = Box<dyn std::error::Error + Send + Sync>;

/// The result of most calls in examples and small programs.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// The name of a channel does not fit. No socket was opened.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidChannel {
    /// Nothing is there. Give it a name.
    #[error("a channel needs a name of at least one byte, for instance `jobs`")]
    Empty,
    /// It is too long.
    #[error("the channel's name has {len} bytes; at most {MAX_CHANNEL} are possible: shorten it")]
    TooLong {
        /// Its length in bytes.
        len: usize,
    },
    /// It has a control character.
    #[error("the channel's name has the control character {character:?} at byte {at}: leave it out")]
    Control {
        /// Which one.
        character: char,
        /// Where it stands.
        at: usize,
    },
}

/// Whether sockets can meet on a channel of this name: 1 to 255 bytes without control characters. They check it themselves
/// when they are opened; this is for programs that take the name from somebody before they join.
///
/// # Errors
/// What is wrong with it.
pub fn check_channel(channel: &str) -> Result<(), InvalidChannel> {
    if channel.is_empty() {
        return Err(InvalidChannel::Empty);
    }
    if channel.len() > MAX_CHANNEL {
        return Err(InvalidChannel::TooLong { len: channel.len() });
    }
    match channel.char_indices().find(|(_, character)| character.is_control()) {
        Some((at, character)) => Err(InvalidChannel::Control { character, at }),
        None => Ok(()),
    }
}

/// The name of a type of messages does not fit. No socket was opened.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidTypeName {
    /// Nothing is there. Give it a name.
    #[error("a type of messages needs a name of at least one byte, for instance `shop.Job`")]
    Empty,
    /// It is too long.
    #[error("the name of the type has {len} bytes; at most {MAX_TYPE_NAME} are possible: shorten it")]
    TooLong {
        /// Its length in bytes.
        len: usize,
    },
    /// It has a control character.
    #[error("the name of the type has the control character {character:?} at byte {at}: leave it out")]
    Control {
        /// Which one.
        character: char,
        /// Where it stands.
        at: usize,
    },
}

/// Whether a type of messages may be called so.
pub(crate) fn check_type_name(name: &str) -> Result<(), InvalidTypeName> {
    if name.is_empty() {
        return Err(InvalidTypeName::Empty);
    }
    if name.len() > MAX_TYPE_NAME {
        return Err(InvalidTypeName::TooLong { len: name.len() });
    }
    match name.char_indices().find(|(_, character)| character.is_control()) {
        Some((at, character)) => Err(InvalidTypeName::Control { character, at }),
        None => Ok(()),
    }
}

/// A topic, or a pattern of topics, does not fit. Nothing was published, or subscribed to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidTopic {
    /// It, or one of its parts, is empty: it begins or ends with a dot, or two dots follow each other.
    #[error(
        "part {part} of the topic is empty: between dots, and at both ends, there is something, as in `eu.dax.close`"
    )]
    Empty {
        /// Which part, the first being 1.
        part: usize,
    },
    /// It is too long.
    #[error(
        "the topic has {len} bytes; at most {MAX_TOPIC} are possible: shorten it, or put a part of it into a header"
    )]
    TooLong {
        /// Its length in bytes.
        len: usize,
    },
    /// It has too many parts.
    #[error("the topic has more than {MAX_TOPIC_PARTS} parts: join some of them")]
    TooManyParts,
    /// It has a control character.
    #[error("the topic has a control character at byte {at}: leave it out")]
    Control {
        /// Where it stands.
        at: usize,
    },
    /// A message is published under one topic, not under all that match a pattern.
    #[error(
        "the topic of a published message has `{character}` at byte {at}, which only patterns of subscribers may have"
    )]
    Wildcard {
        /// `*` or `>`.
        character: char,
        /// Where it stands.
        at: usize,
    },
    /// In a pattern `*` stands for a whole part, and `>` for all parts from there to the end.
    #[error(
        "the pattern has `{character}` at byte {at}: `*` is a whole part, as in `eu.*.close`, and `>` the whole last one, as in `eu.>`"
    )]
    Misplaced {
        /// `*` or `>`.
        character: char,
        /// Where it stands.
        at: usize,
    },
}

/// Whether a message can be published under this topic: 1 to 255 bytes of text, in at most 32 parts that dots divide and
/// that are not empty, without control characters, `*` and `>`. Publishers check it themselves; this is for programs that
/// take the topic from somebody before.
///
/// # Errors
/// What is wrong with it.
pub fn check_topic(topic: &str) -> Result<(), InvalidTopic> {
    look_at_topic(topic, false)
}

/// Whether this is a pattern of topics: as [`check_topic`], where a part may be `*`, which stands for any one part, and the
/// last one `>`, which stands for one or more.
///
/// # Errors
/// What is wrong with it.
pub fn check_pattern(pattern: &str) -> Result<(), InvalidTopic> {
    look_at_topic(pattern, true)
}

/// One pass: it is done for every message.
fn look_at_topic(topic: &str, pattern: bool) -> Result<(), InvalidTopic> {
    let bytes = topic.as_bytes();
    if bytes.len() > MAX_TOPIC {
        return Err(InvalidTopic::TooLong { len: bytes.len() });
    }
    let (mut part, mut began) = (1, 0);
    for (at, byte) in bytes.iter().enumerate() {
        match byte {
            b'.' if at == began => return Err(InvalidTopic::Empty { part }),
            b'.' if part == MAX_TOPIC_PARTS => return Err(InvalidTopic::TooManyParts),
            b'.' => (part, began) = (part + 1, at + 1),
            b'*' | b'>' => {
                let character = char::from(*byte);
                if !pattern {
                    return Err(InvalidTopic::Wildcard { character, at });
                }
                let last = at + 1 == bytes.len();
                if at != began || !(last || *byte == b'*' && bytes[at + 1] == b'.') {
                    return Err(InvalidTopic::Misplaced { character, at });
                }
            }
            0..=0x1f | 0x7f => return Err(InvalidTopic::Control { at }),
            // U+0080 to U+009F.
            0xc2 if bytes.get(at + 1).is_some_and(|next| *next < 0xa0) => return Err(InvalidTopic::Control { at }),
            _ => {}
        }
    }
    if began == bytes.len() { Err(InvalidTopic::Empty { part }) } else { Ok(()) }
}

/// A socket could not be opened. The node is as it was.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The name of the channel does not fit.
    #[error(transparent)]
    Channel(#[from] InvalidChannel),
    /// The name of the type of its messages does not fit.
    #[error(transparent)]
    Type(#[from] InvalidTypeName),
    /// A bound, a prefetch or a number of failures of 0 could never carry a message.
    #[error("{what} is 0: nothing could ever pass; use at least 1")]
    Zero {
        /// Which option.
        what: &'static str,
    },
    /// The node has as many sockets as it may have.
    #[error("this node has {limit} sockets, which is the most: close some")]
    TooManySockets {
        /// How many it may have.
        limit: usize,
    },
    /// A pattern that it was to subscribe to does not fit.
    #[error(transparent)]
    Topic(#[from] InvalidTopic),
    /// It was to subscribe to more patterns than a subscriber may have.
    #[error("a subscriber has at most {limit} patterns: subscribe to fewer, with wildcards")]
    TooManyPatterns {
        /// How many it may have.
        limit: usize,
    },
    /// A publisher with which there is a link has not confirmed the subscription in time.
    #[error(
        "the publisher on node {} has not confirmed the subscription in time: it may be overloaded; open the socket again, \
         or give it more time with confirm_within", node.short()
    )]
    NotConfirmed {
        /// Who it is.
        node: crate::id::NodeId,
    },
    /// There is no randomness to be had from the operating system.
    #[error("no randomness for the socket's epoch: {0}")]
    Random(String),
    /// The node is shutting down or has ended.
    #[error("the node is closed")]
    Closed,
}

/// A message was not accepted. It is given back.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct SendError<T> {
    /// Why.
    pub kind: SendErrorKind,
    /// What was to be sent.
    pub message: T,
}

/// Why a message was not accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SendErrorKind {
    /// The socket is at its bound, and the call does not wait, or has waited as long as it was told to.
    #[error("the socket is full: nothing was acknowledged in time")]
    Full,
    /// The socket or its node is shutting down.
    #[error("the socket is closed")]
    Closed,
    /// The message is larger than one may be, or than the whole bound of the socket.
    #[error("the message has {len} bytes; at most {limit} are possible here: split it, or raise the limit")]
    TooLarge {
        /// Its length in bytes; with that of its headers where these count.
        len: usize,
        /// The most that would be accepted.
        limit: usize,
    },
    /// A header of the message does not fit.
    #[error(transparent)]
    Header(#[from] InvalidHeader),
    /// The topic that the message was to be published under does not fit.
    #[error(transparent)]
    Topic(#[from] InvalidTopic),
}

/// A header does not fit. The message was not accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidHeader {
    /// It has no name. Give it one.
    #[error("header {number} has no name: it needs one of at least one byte")]
    NoName {
        /// Which one, the first being 1.
        number: usize,
    },
    /// Its name or its value has a control character, such as a line break.
    #[error("header {number} has the control character {character:?}: put such text, and bytes, into the body")]
    Control {
        /// Which one, the first being 1.
        number: usize,
        /// The character.
        character: char,
    },
    /// All headers together are too large.
    #[error("the headers have {len} bytes in all; at most {limit} are possible: put what is large into the body")]
    TooLarge {
        /// What they have: names, values and the lengths before them, of 1, 2 or 4 bytes each.
        len: usize,
        /// The most that would be accepted.
        limit: usize,
    },
    /// It is the second `traceparent`, or not one as W3C Trace Context has it.
    #[error(
        "header {number} is not a traceparent, or not the first one: there is one at most, of the form \
         00-<trace id>-<span id>-<flags> with 32, 16 and 2 digits of lower-case hexadecimal, neither id 0"
    )]
    TraceParent {
        /// Which one, the first being 1.
        number: usize,
    },
}

impl<T> fmt::Debug for SendError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SendError").field("kind", &self.kind).finish_non_exhaustive()
    }
}

impl<T> fmt::Display for SendError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.kind.fmt(f)
    }
}

impl<T> std::error::Error for SendError<T> {}

/// What was waited for did not become of a message.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HandleError {
    /// It was not accepted, and is dropped.
    #[error("the message was not accepted: {0}")]
    Refused(SendErrorKind),
    /// It has no form in MessagePack, so that it was not accepted, and is dropped. Of typed sockets.
    #[error("the message was not accepted: {0}")]
    Unencodable(String),
    /// A worker said that it must never be delivered again. It is counted, and an event carries it.
    #[error("the message was rejected: {reason}")]
    Rejected {
        /// The worker's words.
        reason: String,
    },
    /// It failed too often. It is counted, and an event carries it.
    #[error("the message failed {failures} times, which was the most allowed")]
    Exhausted {
        /// How often.
        failures: u32,
    },
    /// The node ended first: the message is among those that its shutdown hands back.
    #[error("the node closed before the message was handled")]
    Closed,
}

/// Nothing more can be received: the socket or its node is shutting down. What was not handed out goes elsewhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the socket is closed")]
#[non_exhaustive]
pub struct Closed;

/// A live subscriber's subscriptions could not be changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SubscribeError {
    /// The pattern does not fit. Nothing has changed.
    #[error(transparent)]
    Topic(#[from] InvalidTopic),
    /// The subscriber has as many patterns as it may have. Nothing has changed.
    #[error("a subscriber has at most {MAX_SUBSCRIPTIONS} patterns: unsubscribe from some, or use wildcards")]
    TooManyPatterns,
    /// A publisher with which there is a link has not confirmed the change in time. It stands all the same, and comes into
    /// force there later.
    #[error("the publisher on node {} has not confirmed the change in time; it stands, and comes into force there later", node.short())]
    NotConfirmed {
        /// Who it is.
        node: crate::id::NodeId,
    },
    /// The socket or its node is closed.
    #[error("the socket is closed")]
    Closed,
}

/// Nothing was received.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RecvError {
    /// The socket or its node is closed: nothing more can be received.
    #[error("the socket is closed")]
    Closed,
    /// A [`strict`](crate::SubscriberBuilder::strict) subscriber has missed messages in this place. The next call goes on
    /// behind them.
    #[error(transparent)]
    Missed(#[from] Gap),
}

impl From<Closed> for RecvError {
    fn from(_: Closed) -> Self {
        Self::Closed
    }
}

/// Messages of one publisher that a subscriber would have had in this place and has not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{}{count} messages of the publisher on node {} were missed", if *exact { "" } else { "at least " }, publisher.short())]
#[non_exhaustive]
pub struct Gap {
    /// Whose they were.
    pub publisher: crate::id::NodeId,
    /// How many.
    pub count: u64,
    /// `false`: the publisher had forgotten this subscriber, which was away for more than 30 s; how many more it has
    /// published in between nobody knows.
    pub exact: bool,
}

/// How a request ended without a reply.
///
/// Each request ends once, by its deadline at the latest. [`may_have_run`](Self::may_have_run) says whether somebody may
/// have worked on it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RequestError {
    /// The replier answered that it failed. Reserved codes: `error` (a handler's error without a code of its own), `panic`,
    /// `dropped` (the request was dropped unanswered), `too_large` (the reply was), `invalid` (a header of the reply did not
    /// fit), `undecodable` and `unencodable` (request or reply were no value, of typed sockets), `overflow` (too many replies wait for this requester to take them).
    #[error("the request failed: {message} (code {code})")]
    Remote {
        /// What programs go by, at most 64 bytes.
        code: String,
        /// For people, at most 1,024 bytes.
        message: String,
    },
    /// There is no replier on the channel, or not at the node that was to answer. Nothing was sent.
    #[error("there is no replier on the channel")]
    NoReplier,
    /// Every replier has as many requests as it takes. None of them has handed it to its application.
    #[error("every replier is busy")]
    Busy,
    /// There are repliers, and none could be given the request in time, or the one it was for has left. No application was
    /// handed it.
    #[error("the request was not sent: no replier had room for it in time")]
    NotSent,
    /// It was sent, and then its replier was lost, or this node ended: a handler may have run, or not.
    #[error("it is not known what became of the request: {reason}")]
    Unknown {
        /// For people.
        reason: String,
    },
    /// It was sent, and no answer came in time. The replier is told to stop; its handler may have run, or not.
    #[error("no answer came in time")]
    TimedOut,
    /// The request is larger than may be sent, or than any replier takes. Nothing was sent.
    #[error("the request has {len} bytes; at most {limit} are possible here: split it, or raise the limit")]
    TooLarge {
        /// Its length in bytes.
        len: usize,
        /// The most that would be sent.
        limit: usize,
    },
    /// A header does not fit. Nothing was sent.
    #[error(transparent)]
    Header(#[from] InvalidHeader),
    /// The socket or its node is shutting down. Nothing was sent.
    #[error("the socket is closed")]
    Closed,
}

impl RequestError {
    /// A handler may have run, if only in part. `false` is a guarantee that none has: the same may be asked again without
    /// harm.
    pub fn may_have_run(&self) -> bool {
        matches!(self, Self::Remote { .. } | Self::Unknown { .. } | Self::TimedOut)
    }
}

/// What went wrong in a handler, with a code for the program that asked: see [`Replier::serve`](crate::Replier::serve).
///
/// ```
/// use meshmq::RemoteError;
///
/// let error = RemoteError::new("no_such_user", "there is no user 7");
/// assert_eq!((error.code(), error.to_string()), ("no_such_user", "there is no user 7".to_owned()));
/// ```
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct RemoteError {
    code: String,
    message: String,
}

impl RemoteError {
    /// Of the code the first 64 bytes are told, of the message the first 1,024.
    pub fn new(code: impl Into<String>, message: impl Into<String>) -> Self {
        Self { code: code.into(), message: message.into() }
    }

    /// What programs go by.
    pub fn code(&self) -> &str {
        &self.code
    }

    /// For people.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// Code and message.
    pub(crate) fn into_parts(self) -> (String, String) {
        (self.code, self.message)
    }

    /// What any error of a handler says: its own code, where it is one of these, also inside an [`Error`].
    pub(crate) fn of<E: fmt::Display + 'static>(error: &E) -> Self {
        let any = error as &dyn std::any::Any;
        let own = any.downcast_ref::<Self>();
        let boxed = || any.downcast_ref::<Error>().and_then(|error| error.downcast_ref::<Self>());
        own.or_else(boxed).cloned().unwrap_or_else(|| Self::new("error", error.to_string()))
    }
}

/// A reply did not fit. Whoever asked is told so: its request has failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReplyError {
    /// It is larger than this node sends, or than whoever asked takes. The request fails with the code `too_large`.
    #[error("the reply has {len} bytes; at most {limit} are possible here: split it, or raise the limit")]
    TooLarge {
        /// Its length in bytes.
        len: usize,
        /// The most that would be sent.
        limit: usize,
    },
    /// A header does not fit. The request fails with the code `invalid`.
    #[error(transparent)]
    Header(#[from] InvalidHeader),
}
