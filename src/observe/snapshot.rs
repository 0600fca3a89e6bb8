//! The mesh in one picture: what each node tells of itself, put together by the one that asked. Made to be shown and to
//! be serialised: times are seconds with a fraction, ids and addresses text, and a field keeps its name and meaning.

use std::net::SocketAddr;
use std::time::Duration;

use serde::{Serialize, Serializer};

use crate::id::{NodeId, TypeName};

/// The mesh as one node sees it, from [`Node::snapshot`](crate::Node::snapshot).
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Snapshot {
    /// The name of the mesh.
    pub mesh: String,
    /// The node that asked the others.
    pub taken_by: NodeId,
    /// Every node that it knows of, itself included, by id.
    pub nodes: Vec<NodeSnapshot>,
}

/// A node of the mesh.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct NodeSnapshot {
    /// Who it is.
    pub id: NodeId,
    /// What it calls itself; proves nothing.
    pub name: String,
    /// Where it is, as the node that asked sees it, or, without a link to it, as another one does. Of the node that asked:
    /// what it is bound to.
    pub address: SocketAddr,
    /// Which sources have found it for the node that asked: `local`, `mdns`, `fixed`. Empty where it has dialled, or is known
    /// from another node alone.
    pub found: Vec<String>,
    /// What it tells of itself, or why there is nothing.
    pub status: Result<NodeStatus, NoStatus>,
}

/// What a node tells of itself.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct NodeStatus {
    /// The version of the library that it runs.
    pub version: String,
    /// How long it has run.
    #[serde(rename = "uptime_s", serialize_with = "seconds")]
    pub uptime: Duration,
    /// Its links, by the other node's id.
    pub links: Vec<LinkStatus>,
    /// How many more links it has.
    pub links_left_out: u64,
    /// Its sockets, in the order of opening; those that the node that asked has a grant to meet.
    pub sockets: Vec<SocketStatus>,
    /// How many more of them it has.
    pub sockets_left_out: u64,
}

/// One end of a link.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct LinkStatus {
    /// Who is at the other end.
    pub node: NodeId,
    /// What that node calls itself.
    pub name: String,
    /// Where it is.
    pub address: SocketAddr,
    /// Which sources have found it; empty where it has dialled.
    pub found: Vec<String>,
    /// The current estimate of the time that a packet and its acknowledgement take.
    #[serde(rename = "round_trip_s", serialize_with = "seconds")]
    pub round_trip: Duration,
    /// How long the link has been open.
    #[serde(rename = "age_s", serialize_with = "seconds")]
    pub age: Duration,
}

/// One socket, of whatever kind. What a kind does not count is 0.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[non_exhaustive]
pub struct SocketStatus {
    /// A number that its node uses once.
    pub id: u64,
    /// `push`, `pull`, `publisher`, `subscriber`, `requester` or `replier`; later versions may have further kinds.
    pub kind: String,
    /// The channel it is on.
    pub channel: String,
    /// What it says of the type of its messages; of a requester or replier, of the requests.
    pub message_type: Option<TypeName>,
    /// The same of the replies.
    pub reply_type: Option<TypeName>,
    /// How many sockets of the matching kind it is connected to.
    pub peers: u64,
    /// Messages that wait: in a push socket for a puller, in a pull socket to be handed out.
    pub queued: u64,
    /// Messages that are out and unanswered: of a push socket with pullers, of a pull socket in the application's hands.
    pub in_flight: u64,
    /// Bytes of headers and bodies that a push socket owns.
    pub bytes: u64,
    /// The most messages that it holds at a time: the bound of a push socket, the `prefetch` of a pull socket.
    pub bound_messages: Option<u64>,
    /// The bound in bytes.
    pub bound_bytes: Option<u64>,
    /// Messages that it has taken in since it was opened: accepted by a push socket, received by a pull socket.
    pub total: u64,
    /// Of these: acknowledged.
    pub handled: u64,
    /// Answers that said a message failed.
    pub nacked: u64,
    /// Messages that came back, or went back, without having been handed out.
    pub returned: u64,
    /// Dispatches beyond a message's first.
    pub redelivered: u64,
    /// Messages that ended by being rejected.
    pub rejected: u64,
    /// Messages that ended because they failed too often.
    pub exhausted: u64,
    /// Messages that subscribers miss: that a publisher has dropped for them, each counted for each of them; or that a
    /// subscriber was told are missing.
    pub missed: u64,
    /// How long the oldest unsettled message has been here; `None` where there is none. Exact to a quarter of a second.
    #[serde(rename = "oldest_s", serialize_with = "maybe_seconds")]
    pub oldest: Option<Duration>,
    /// Messages a second, since an earlier snapshot: see [`Snapshot::compare`].
    pub rates: Option<Rates>,
}

/// How fast messages pass a socket.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Rates {
    /// Messages a second that it took in.
    #[serde(rename = "taken_in_per_s")]
    pub taken_in: f64,
    /// Messages a second that were acknowledged.
    #[serde(rename = "handled_per_s")]
    pub handled: f64,
}

/// Why there is no status of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, thiserror::Error)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum NoStatus {
    /// There is no link to it: it is known from another node, or not at all.
    #[error("there is no link to it")]
    NotLinked,
    /// The link to it ended before it answered.
    #[error("its link was lost before it answered")]
    LinkLost,
    /// It has not answered in time. A node of a version that knows no status never does.
    #[error("it did not answer in time")]
    TimedOut,
}

impl Snapshot {
    /// Fills in the [rates](SocketStatus::rates) of sockets that are in the earlier snapshot as well. The time between
    /// is measured by the clock of the node that told, so that a slow answer does no harm.
    pub fn compare(&mut self, earlier: &Self) {
        for node in &mut self.nodes {
            let before = earlier.nodes.iter().find(|before| before.id == node.id);
            let (Ok(now), Some(Ok(before))) = (&mut node.status, before.map(|before| &before.status)) else { continue };
            now.compare(before);
        }
    }
}

impl NodeStatus {
    /// As [`Snapshot::compare`], for one node. Where it was started again in between, there are no rates.
    pub fn compare(&mut self, earlier: &Self) {
        let Some(time) = self.uptime.checked_sub(earlier.uptime).filter(|time| !time.is_zero()) else { return };
        for socket in &mut self.sockets {
            let same = |other: &&SocketStatus| (other.id, &other.channel) == (socket.id, &socket.channel);
            let Some(before) = earlier.sockets.iter().find(same) else { continue };
            let rate = |now: u64, before: u64| now.saturating_sub(before) as f64 / time.as_secs_f64();
            let (taken_in, handled) = (rate(socket.total, before.total), rate(socket.handled, before.handled));
            socket.rates = Some(Rates { taken_in, handled });
        }
    }
}

/// A status that is not there is `null`, and `no_status` says why.
impl Serialize for NodeSnapshot {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Fields<'a> {
            id: NodeId,
            name: &'a str,
            address: SocketAddr,
            found: &'a [String],
            status: Option<&'a NodeStatus>,
            no_status: Option<NoStatus>,
        }
        let Self { id, name, address, found, status } = self;
        Fields {
            id: *id,
            name,
            address: *address,
            found,
            status: status.as_ref().ok(),
            no_status: status.as_ref().err().copied(),
        }
        .serialize(serializer)
    }
}

fn seconds<S: Serializer>(time: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(time.as_secs_f64())
}

fn maybe_seconds<S: Serializer>(time: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
    time.map(|time| time.as_secs_f64()).serialize(serializer)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(byte: u8, uptime: u64, sockets: Vec<SocketStatus>) -> NodeSnapshot {
        let status = NodeStatus {
            version: "1".into(),
            uptime: Duration::from_millis(uptime),
            links: Vec::new(),
            links_left_out: 0,
            sockets,
            sockets_left_out: 0,
        };
        let (name, address) = (String::new(), ([127, 0, 0, 1], 1).into());
        NodeSnapshot { id: NodeId::from_bytes([byte; 32]), name, address, found: Vec::new(), status: Ok(status) }
    }

    fn socket(id: u64, total: u64, handled: u64) -> SocketStatus {
        SocketStatus { id, total, handled, kind: "push".into(), channel: "jobs".into(), ..SocketStatus::default() }
    }

    fn snapshot(nodes: Vec<NodeSnapshot>) -> Snapshot {
        Snapshot { mesh: "shop".into(), taken_by: NodeId::from_bytes([1; 32]), nodes }
    }

    #[test]
    fn rates_are_differences_by_the_tellers_clock() {
        let earlier = snapshot(vec![
            node(1, 10_000, vec![socket(1, 100, 50), socket(2, 9, 9)]),
            node(2, 60_000, vec![socket(1, 7, 7)]),
            node(3, 1_000, vec![socket(1, 1, 1)]),
        ]);
        let lost = NodeSnapshot { status: Err(NoStatus::TimedOut), ..node(3, 0, Vec::new()) };
        let mut now = snapshot(vec![
            node(1, 12_500, vec![socket(1, 1_100, 100), socket(3, 5, 5)]),
            // Started again.
            node(2, 500, vec![socket(1, 70, 70)]),
            lost,
            node(4, 1_000, vec![socket(1, 1, 1)]),
        ]);
        now.compare(&earlier);
        let rates = |node: usize, socket: usize| now.nodes[node].status.as_ref().unwrap().sockets[socket].rates;
        assert_eq!(rates(0, 0), Some(Rates { taken_in: 400.0, handled: 20.0 }));
        assert_eq!(rates(0, 1), None, "a new socket");
        assert_eq!(rates(1, 0), None, "another life");
        assert_eq!(rates(3, 0), None, "a new node");
    }

    #[test]
    fn it_is_serialised_with_units_in_its_names() {
        let mut shown =
            node(1, 1_500, vec![SocketStatus { oldest: Some(Duration::from_millis(250)), ..socket(1, 2, 1) }]);
        shown.found.push("local".into());
        let silent = NodeSnapshot { status: Err(NoStatus::NotLinked), ..node(2, 0, Vec::new()) };
        let json = serde_json::to_value(snapshot(vec![shown, silent])).unwrap();
        let (first, second) = (&json["nodes"][0], &json["nodes"][1]);
        assert_eq!(json["taken_by"], NodeId::from_bytes([1; 32]).to_string());
        assert_eq!(first["address"], "127.0.0.1:1");
        assert_eq!(first["found"][0], "local");
        assert_eq!(first["no_status"], serde_json::Value::Null);
        assert_eq!(first["status"]["uptime_s"], 1.5);
        assert_eq!(first["status"]["sockets"][0]["oldest_s"], 0.25);
        assert_eq!(first["status"]["sockets"][0]["rates"], serde_json::Value::Null);
        assert_eq!((&second["status"], &second["no_status"]), (&serde_json::Value::Null, &"not_linked".into()));
    }
}
