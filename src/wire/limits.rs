//! What a peer may make us hold, wait for or look through. Each length from the network meets one of these
//! before anything is allocated.

use std::time::Duration;

/// Largest body of a message unless the builder says otherwise, in bytes.
pub(crate) const MAX_MESSAGE: usize = 16 << 20;
/// Largest value that `max_message` can be set to: what a data frame's length can say with room for its head.
pub(crate) const MAX_MESSAGE_CEILING: usize = 1 << 29;
/// Longest name of a channel, in bytes.
pub(crate) const MAX_CHANNEL: usize = 255;
/// Longest name of a node, in bytes.
pub(crate) const MAX_NODE_NAME: usize = 255;
/// Longest name of a mesh, in bytes. It does not travel: the mesh key is derived with it.
pub(crate) const MAX_MESH_NAME: usize = 255;
/// Longest name of a type of messages, in bytes.
pub(crate) const MAX_TYPE_NAME: usize = 255;
/// Deepest nesting of a typed value in a body: what reads it recurses, on a stack that may be small.
pub(crate) const MAX_VALUE_DEPTH: usize = 128;
/// Most that all headers of a message may have together, in bytes: names, values, and the lengths before them.
pub(crate) const MAX_HEADERS: usize = 64 << 10;
/// Longest topic of a published message, and longest pattern of topics, in bytes.
pub(crate) const MAX_TOPIC: usize = 255;
/// Most parts of a topic or of a pattern, which dots divide.
pub(crate) const MAX_TOPIC_PARTS: usize = 32;
/// Most patterns that a subscriber may have at a time.
pub(crate) const MAX_SUBSCRIPTIONS: usize = 10_000;
/// Most patterns that all subscribers of one node have at a publisher.
pub(crate) const MAX_SUBSCRIPTIONS_OF_NODE: usize = 100_000;
/// Longest reason of a rejected message, a refusal or a goodbye, in bytes.
pub(crate) const MAX_REASON: usize = 1024;

/// Largest sequence that a lane may name, 2^61 - 1: no socket counts so far, and what follows it still has a varint.
pub(crate) const MAX_SEQUENCE_SAID: u64 = 2_305_843_009_213_693_951;

/// Longest control frame, of the control stream and of lanes, in bytes.
pub(crate) const MAX_CONTROL_FRAME: usize = 64 << 10;
/// Deepest nesting of a control frame's MessagePack.
pub(crate) const MAX_CONTROL_DEPTH: usize = 16;
/// Most elements (values of any kind) in a control frame's MessagePack.
pub(crate) const MAX_CONTROL_ELEMENTS: usize = 1024;

/// Most sockets of a node.
pub(crate) const MAX_SOCKETS: usize = 4096;
/// Most links of a node; the next peer is refused.
pub(crate) const MAX_LINKS: usize = 256;
/// Most peers that a node knows of at a time.
pub(crate) const MAX_PEERS: usize = 1024;
/// Lanes that a link may carry before its socket tables have been compared.
pub(crate) const LANES_AT_FIRST: u32 = 16;
/// Most lanes that a link may carry towards one end.
pub(crate) const MAX_LANES: u32 = 1024;

/// Handshakes that others have begun and that are in progress, at most; of further ones the first packet is ignored.
pub(crate) const MAX_HANDSHAKES: usize = 256;
/// With so many of them in progress, an address has to be proven before the next one.
pub(crate) const PROOF_FROM: usize = 128;
/// And then, so many from one address at the most, or from one IPv6 network of 64 bits; this host's own are free of it.
pub(crate) const HANDSHAKES_OF_ONE: usize = 32;
/// The longest that a connection may take from its first packet to `Admitted`.
pub(crate) const ADMISSION_DEADLINE: Duration = Duration::from_secs(5);

/// An end of a link that owes or is owed something sends at least this often.
pub(crate) const PING_INTERVAL: Duration = Duration::from_millis(500);
/// The same on a link over which nothing is owed.
pub(crate) const IDLE_PING_INTERVAL: Duration = Duration::from_secs(5);
/// A peer that has been silent for so long while something was owed is given up.
pub(crate) const LIVENESS: Duration = Duration::from_millis(2500);
/// How often an end looks at what it has received. A verdict comes at most so much later than its limit.
pub(crate) const LIVENESS_TICK: Duration = Duration::from_millis(250);
/// A peer that has been silent for so long on an idle link is given up.
pub(crate) const IDLE_LIVENESS: Duration = Duration::from_secs(25);

/// What a puller takes in beyond what its application has answered, in bytes, over all lanes of a socket.
pub(crate) const PULL_WINDOW_BYTES: u64 = 4 << 20;
/// The least of it that one lane gets, however many there are.
pub(crate) const LANE_WINDOW_BYTES: u64 = 64 << 10;
/// Largest automatic window of a lane, in messages.
pub(crate) const MAX_WINDOW: u64 = 65_536;

/// Default bound of a push socket, in messages.
pub(crate) const PUSH_MESSAGES: usize = 100_000;
/// Default bound of a push socket, in bytes of headers and bodies.
pub(crate) const PUSH_BYTES: usize = 64 << 20;
/// Default bound of a requester, in requests that are at repliers.
pub(crate) const REQUESTER_REQUESTS: usize = 100_000;
/// Default bound of a requester, in bytes of headers and bodies of these requests.
pub(crate) const REQUESTER_BYTES: usize = 64 << 20;
/// How long a request waits for its answer unless it says otherwise.
pub(crate) const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
/// The longest that a request may ask a replier to wait for its deadline, in milliseconds: a year of 365 days.
pub(crate) const MAX_REMAINING: u64 = 31_536_000_000;
/// Default of how many unanswered requests a replier takes in, over all lanes.
pub(crate) const REPLIER_REQUESTS: usize = 1024;
/// What either end of an exchange takes in beyond what its application has dealt with, in bytes, over all lanes of a socket.
pub(crate) const EXCHANGE_WINDOW_BYTES: u64 = 64 << 20;
/// How many times that, or the largest message if that is more, the requests, or the replies, of one node may hold, over all
/// lanes: each of them may have begun a body beyond its credit.
pub(crate) const EXCHANGE_WINDOWS_OF_NODE: u64 = 4;
/// Largest piece of a request's or a reply's body, in bytes.
pub(crate) const PIECE: usize = 64 << 10;
/// Longest code of a request that has failed, in bytes.
pub(crate) const MAX_CODE: usize = 64;
/// Most answers to idempotent requests that a replier keeps for a repeat.
pub(crate) const KEPT_ANSWERS: usize = 1024;
/// Most bytes of them.
pub(crate) const KEPT_BYTES: usize = 4 << 20;
/// Default bound of what waits at a publisher for one subscriber, in messages.
pub(crate) const SUBSCRIBER_MESSAGES: usize = 10_000;
/// The same in bytes of topics, headers and bodies.
pub(crate) const SUBSCRIBER_BYTES: usize = 16 << 20;
/// Most messages that a publisher retains for later subscribers, of all topics together.
pub(crate) const RETAINED_MESSAGES: usize = 10_000;
/// The same in bytes of topics, headers and bodies.
pub(crate) const RETAINED_BYTES: usize = 16 << 20;
/// What a subscriber takes in beyond what its application has been handed, in bytes, over all lanes of a socket.
pub(crate) const SUBSCRIBER_WINDOW_BYTES: u64 = 4 << 20;
/// How long a publisher keeps what is due to a subscriber whose link was lost.
pub(crate) const KEPT_FOR: Duration = Duration::from_secs(30);
/// For how many such subscribers a publisher does; of more, the longest lost is forgotten.
pub(crate) const MAX_KEPT: usize = 256;
/// Of how many publishers that it has lost a subscriber remembers how far it had got; the longest lost is forgotten.
pub(crate) const MAX_REMEMBERED: usize = 1024;
/// Default of how long a publisher with which there is a link may take to confirm a subscription.
pub(crate) const CONFIRM_WITHIN: Duration = Duration::from_secs(10);
/// A subscriber that misses messages raises an event at once, then this often as long as it goes on.
pub(crate) const MISSED_EVENTS: Duration = Duration::from_secs(1);
/// A replier whose replies are too large for a node raises an event at once, then this often as long as it goes on.
pub(crate) const TOO_LARGE_EVENTS: Duration = Duration::from_secs(1);
/// How long a failed message waits before it goes out again, by the number of its failures; the last one repeats.
pub(crate) const BACKOFF: [Duration; 6] = [
    Duration::ZERO,
    Duration::from_millis(10),
    Duration::from_millis(100),
    Duration::from_secs(1),
    Duration::from_secs(5),
    Duration::from_secs(30),
];
/// Default of how long the last drop of a node waits for accepted work to be taken.
pub(crate) const LINGER: Duration = Duration::from_secs(5);
/// The longest that a young node takes its view of the mesh for unfinished.
pub(crate) const SETTLING: Duration = Duration::from_millis(1500);
/// How often a peer is dialled afresh whose link was lost within the last ten seconds, at most. Each dial has twice as long.
pub(crate) const REDIAL: Duration = Duration::from_millis(500);
/// How often later, and whoever was never reached; a dial is given up when the next one begins.
pub(crate) const REDIAL_LATER: Duration = Duration::from_secs(4);
/// After this long without a peer a node says what it tried, and a socket that it has nobody to talk to.
pub(crate) const LONELY_AFTER: Duration = Duration::from_secs(5);

/// Most nodes of the mesh that are known by mDNS at a time; likewise most of all others that are counted.
pub(crate) const MDNS_PEERS: usize = 1024;
/// Most addresses of such a node; the nearest stay.
pub(crate) const MDNS_ADDRESSES: usize = 16;
/// Most records that mDNS keeps, of whatever advertises on the network; beyond, it is started afresh.
pub(crate) const MDNS_RECORDS: usize = 4096;
/// The least that mDNS listens before its first pass is finished.
pub(crate) const MDNS_LISTENS: Duration = Duration::from_millis(500);
/// The most that it does, while nobody is seen or there is still news.
pub(crate) const MDNS_LISTENS_AT_MOST: Duration = Duration::from_millis(1200);
/// A record that is doubted and not confirmed for so long is dropped.
pub(crate) const MDNS_VERIFY: Duration = Duration::from_secs(3);
/// How soon after an answer a node answers the next question for its status on the same link.
pub(crate) const STATUS_INTERVAL: Duration = Duration::from_secs(1);
/// Most sockets that a node tells of in its status; how many more there are is told.
pub(crate) const MAX_STATUS_SOCKETS: usize = 512;
