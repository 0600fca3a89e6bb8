//! Sockets that find each other, trust each other by key, and lose nothing: messaging without a broker.
//!
//! ```no_run
//! use meshmq::Node;
//!
//! #[tokio::main(flavor = "current_thread")]
//! async fn main() -> meshmq::Result<()> {
//!     let node = Node::join("shop").await?;
//!     let push = node.push("jobs").await?;
//!     push.send("resize cat.png").await?; // accepted: kept here until a puller has acknowledged it
//!
//!     let pull = node.pull("jobs").prefetch(4).await?;
//!     let job = pull.recv().await?;
//!     println!("{} from {}", String::from_utf8_lossy(&job), job.sender());
//!     job.ack(); // dropped without an answer it goes back
//!     push.flush().await?; // everything accepted is settled
//!     Ok(())
//! }
//! ```
//!
//! A [`Node`] is one member of a mesh: it has an identity, one UDP port, and any number of sockets. A [`Push`] socket
//! hands each message to one of the [`Pull`] sockets on the same channel, wherever in the mesh they are, and keeps it
//! until that one has acknowledged it. A [`Publisher`] gives each message to every [`Subscriber`] that has subscribed to its
//! topic, and tells each what it could not be given. A [`Requester`] asks one of the [`Replier`] sockets on its channel, and
//! each request ends once, with its reply or with what became of it. Every link is QUIC with mutual TLS 1.3; only holders of
//! the mesh key get one.
//!
//! # The story of a message, and a map of the code
//!
//! ```text
//!  you     push.send(job).await          socket/push.rs    accept it, or wait for room
//!   │
//!  who     Flight::dispatch(now)         pattern/push/     pure: whose turn, whose credit, what is kept
//!   │
//!  bytes   put_head, Segment             wire/frame.rs     pure: both directions side by side
//!   │
//!  link    writer: chunks → QUIC stream  link/carry.rs     the only hand-over between tasks
//!  ═════════════════════ QUIC, mutual TLS 1.3 ═════════════════════
//!  link    reader: QUIC stream → chunks  link/carry.rs
//!   │
//!  bytes   Splitter::feed                pattern/splitter.rs
//!   │
//!  who     Inbox::publish, claim         pattern/pull/     pure: whose turn, what is answered, credit back
//!   │
//!  you     pull.recv().await             socket/pull.rs
//! ```
//!
//! A file with a folder of its name (`pattern/push.rs`, `pattern/push/`) has the types and the story, its folder the parts.
//!
//! | room | question |
//! |---|---|
//! | `socket` | you: what does an application hold? |
//! | `typed` | values instead of bytes: what are they? |
//! | [`blocking`] | the same for threads, without async |
//! | `pattern` | who gets what, and what is kept? |
//! | `session` | who, for control: what is said between two nodes? |
//! | `wire` | bytes: what does it look like? |
//! | `link` | how does it get there? The room that says `quinn` |
//! | `trust` | may they? |
//! | [`discovery`] | where are they? |
//! | [`env`](mod@env) | the world, as a value |
//! | `node` | the hall: who is there, and which sockets meet? |
//! | `observe` | what is going on? |
//! | `sync` | where do an application's threads and the node's meet? |

#[macro_use]
#[doc(hidden)]
pub mod planted;

pub mod blocking;
pub mod discovery;
pub mod env;
mod error;
mod id;
mod link;
mod message;
mod node;
mod observe;
mod pattern;
mod session;
#[cfg(test)]
mod sim;
mod socket;
mod sync;
mod trust;
mod typed;
mod wire;

pub use error::{
    Closed, Error, Gap, HandleError, InvalidChannel, InvalidHeader, InvalidTopic, InvalidTypeName, OpenError,
    RecvError, RemoteError, ReplyError, RequestError, Result, SendError, SendErrorKind, SubscribeError, check_channel,
    check_pattern, check_topic,
};
pub use id::{InvalidNodeId, NodeId, TypeName, Types};
pub use message::{
    Delivery, HeaderIter, Headers, InvalidTraceParent, Message, MessageId, NewMessage, Publication, TraceParent,
};
pub use node::{
    Builder, Channel, ChannelSockets, Event, Events, JoinError, Node, Peer, Undelivered, UndeliveredMessage,
};
pub use observe::{
    AskedReplierMetrics, AskingRequesterMetrics, Drops, FromPublisher, LinkStatus, Metrics, NoStatus, NodeSnapshot,
    NodeStatus, PublisherMetrics, PullMetrics, PullerMetrics, PushMetrics, PusherMetrics, Rates, ReplierMetrics,
    RequesterMetrics, Snapshot, SocketFigures, SocketMetrics, SocketStatus, SubscriberMetrics, ToSubscriber,
};
pub use socket::{
    Ask, AskAll, Asking, Deliveries, Flush, Handled, Missing, Permit, Publish, Publisher, PublisherBuilder,
    PublisherSink, Pull, PullBuilder, Push, PushBuilder, PushSink, Replier, ReplierBuilder, Replies, Reply, Request,
    Requester, RequesterBuilder, Send, Subscriber, SubscriberBuilder, WhenFull,
};
pub use trust::{IdentityError, InvalidMeshKey, KeyError, MeshKey};
pub use typed::{
    NewTyped, Opening, Reading, Received, Typed, TypedAsk, TypedAskAll, TypedAsking, TypedAskingAll, TypedBuilder,
    TypedDelivery, TypedPermit, TypedPublish, TypedPublisher, TypedPublisherSink, TypedPull, TypedPush, TypedPushSink,
    TypedRecvError, TypedReplier, TypedReplies, TypedReplyError, TypedRequest, TypedRequestError,
    TypedRequestErrorKind, TypedRequester, TypedSend, TypedSendError, TypedSendErrorKind, TypedSubscriber, Undecodable,
};

/// The code of the README compiles.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
