//! TYPED: what are the bytes? Views of the sockets that carry values instead.
//!
//! ```text
//!  you     jobs.send(Job { .. })       push.rs, …     the verbs of the socket, for a value
//!   │
//!  bytes   to MessagePack, and back    codec.rs       pure; bounded before anything recurses
//!   │
//!  you     push.send(bytes)            socket/push.rs and from there on as ever
//! ```
//!
//! A view adds nothing to what its socket promises, and takes nothing away; it [dereferences](std::ops::Deref) to the
//! socket for all that is not about a message. What a socket says of its types travels in the table of sockets, so that
//! sockets of different types never meet: `node/routes.rs`.
//!
//! | file | question |
//! |---|---|
//! | `builder` | how does a socket come to its type? |
//! | `codec` | which bytes? |
//! | `outgoing` | what is sent, and given back? |
//! | `received` | what was received, and what if it is something else? |
//! | `push`, `pull`, `publish`, `subscribe`, `request`, `reply` | what does each socket say? |

mod builder;
mod codec;
mod outgoing;
mod publish;
mod pull;
mod push;
mod received;
mod reply;
mod request;
mod subscribe;

pub(crate) use builder::View;
pub use builder::{Opening, TypedBuilder};
pub use outgoing::{NewTyped, TypedSendError, TypedSendErrorKind};
pub use publish::{TypedPublish, TypedPublisher, TypedPublisherSink};
pub use pull::TypedPull;
pub use push::{TypedPermit, TypedPush, TypedPushSink, TypedSend};
pub(crate) use received::read;
pub use received::{Reading, Received, TypedDelivery, TypedRecvError, Undecodable};
pub use reply::{TypedReplier, TypedReplyError, TypedRequest};
pub(crate) use reply::{answered, undecodable};
pub use request::{
    TypedAsk, TypedAskAll, TypedAsking, TypedAskingAll, TypedReplies, TypedRequestError, TypedRequestErrorKind,
    TypedRequester,
};
pub use subscribe::TypedSubscriber;

/// A type of messages, under the name that it has all over the mesh.
///
/// With serde's `Serialize` its values can be sent, with `Deserialize` received: see
/// [`PushBuilder::typed`](crate::PushBuilder::typed). They travel as MessagePack, structs as maps with the names of their
/// fields.
///
/// The name is what programs agree on, and not what the type is called in one of them: that may change, be it by a refactoring,
/// and be another one in another program or language. So it is written down here. A prefix of your own, such as `shop.`,
/// keeps it apart from others'.
///
/// **When does the version change?** When an older program would misunderstand a value or fail on it: a field that it needs
/// was taken away or means something else now. Sockets of two versions do not meet. A field that is added does not change it,
/// if it has `#[serde(default)]`: who does not know it ignores it, and who misses it has the default.
///
/// ```
/// use meshmq::{Node, Typed};
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Serialize, Deserialize)]
/// struct Job {
///     file: String,
///     width: u32,
/// }
///
/// impl Typed for Job {
///     const NAME: &'static str = "shop.Job";
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> meshmq::Result<()> {
/// let node = Node::isolated().await?;
/// let jobs = node.push("jobs").typed::<Job>().await?;
/// let work = node.pull("jobs").typed::<Job>().await?;
/// jobs.send(Job { file: "cat.png".into(), width: 640 }).await?;
///
/// let job = work.recv().await?;
/// println!("{} to {} pixels, for {}", job.file, job.width, job.raw().sender());
/// job.ack();
/// # Ok(())
/// # }
/// ```
pub trait Typed {
    /// Its name: 1 to 255 bytes without control characters; checked when a socket is opened.
    const NAME: &'static str;
    /// Which version of it; 1 unless it says otherwise.
    const VERSION: u32 = 1;
}

/// Types that need no name of their own: nothing, as the reply of a request that is only done, and plain values.
macro_rules! plain {
    ($($type:ty: $name:literal,)*) => {
        $(impl Typed for $type {
            const NAME: &'static str = $name;
        })*
    };
}

plain! {
    (): "nothing",
    bool: "bool",
    i64: "i64",
    u64: "u64",
    f64: "f64",
    String: "string",
}
