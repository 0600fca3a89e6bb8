//! A snapshot as tables for people.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use meshmq::{LinkStatus, NoStatus, NodeId, NodeSnapshot, Rates, Snapshot, SocketStatus, TypeName};

use crate::output::{counted, grouped};
use crate::table::Table;
use crate::words::{rate, share, time};

/// Links beyond so many are summed up, unless each is asked for.
const FEW_LINKS: usize = 15;

pub(super) struct Picture<'a> {
    pub(super) snapshot: &'a Snapshot,
    pub(super) all_links: bool,
}

impl fmt::Display for Picture<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut nodes = self.snapshot.nodes.clone();
        nodes.sort_by(|one, other| (&one.name, one.id).cmp(&(&other.name, other.id)));
        let nodes = &nodes[..];
        let links = links(nodes);
        let channels: BTreeSet<_> = sockets(nodes).map(|(_, socket)| &socket.channel).collect();
        writeln!(
            f,
            "mesh {}: {}, {}, {}",
            self.snapshot.mesh,
            counted(nodes.len() as u64, "node"),
            counted(links.len() as u64, "link"),
            counted(channels.len() as u64, "channel")
        )?;
        if nodes.is_empty() {
            return writeln!(f, "\nnobody is here yet");
        }
        let names = Names::of(nodes);
        write!(f, "\n{}", node_table(nodes))?;
        match sockets(nodes).next() {
            Some(_) => write!(f, "\n{}", socket_table(nodes, &names))?,
            None => writeln!(f, "\nno socket is open")?,
        }
        for node in nodes {
            let Ok(status) = &node.status else { continue };
            for (more, what) in [(status.links_left_out, "link"), (status.sockets_left_out, "socket")] {
                if more > 0 {
                    writeln!(f, "{} has {} more", names.of_node(node.id), counted(more, what))?;
                }
            }
        }
        // Last, as it is what a small terminal has no room for.
        match links.len() {
            0 => Ok(()),
            many if many > FEW_LINKS && !self.all_links => write!(f, "\n{}", links_in_short(&links)),
            _ => write!(f, "\n{}", link_table(&links, &names)),
        }
    }
}

fn sockets(nodes: &[NodeSnapshot]) -> impl Iterator<Item = (NodeId, &SocketStatus)> {
    let answered = nodes.iter().filter_map(|node| Some((node.id, node.status.as_ref().ok()?)));
    answered.flat_map(|(id, status)| status.sockets.iter().map(move |socket| (id, socket)))
}

/// Each link once, as one of its ends sees it.
fn links(nodes: &[NodeSnapshot]) -> BTreeMap<(NodeId, NodeId), &LinkStatus> {
    let mut links = BTreeMap::new();
    for node in nodes {
        for link in node.status.iter().flat_map(|status| &status.links) {
            links.entry((node.id.min(link.node), node.id.max(link.node))).or_insert(link);
        }
    }
    links
}

/// What nodes are called: by their name where no other one has it, else with the beginning of their id.
struct Names(BTreeMap<NodeId, String>);

impl Names {
    fn of(nodes: &[NodeSnapshot]) -> Self {
        let mut names: BTreeMap<NodeId, &str> = BTreeMap::new();
        for node in nodes {
            names.insert(node.id, &node.name);
            for link in node.status.iter().flat_map(|status| &status.links) {
                names.entry(link.node).or_insert(&link.name);
            }
        }
        let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
        for name in names.values() {
            *counts.entry(name).or_default() += 1;
        }
        let shown = names.iter().map(|(id, name)| match counts[name] {
            _ if name.is_empty() => (*id, id.short()),
            1 => (*id, (*name).to_owned()),
            _ => (*id, format!("{name} ({})", id.short())),
        });
        Self(shown.collect())
    }

    fn of_node(&self, node: NodeId) -> String {
        self.0.get(&node).cloned().unwrap_or_else(|| node.short())
    }
}

fn node_table(nodes: &[NodeSnapshot]) -> Table {
    let mut rows = Table::new(&["<NODE", "<NAME", "<ADDRESS", "<FOUND BY", "LINKS", "SOCKETS", "UP", "<VERSION", "<"]);
    for node in nodes {
        let name = if node.name == node.id.short() { String::new() } else { node.name.clone() };
        // Who was found by nobody has found this command.
        let found = match &node.status {
            Err(NoStatus::NotLinked) => String::new(),
            _ if node.found.is_empty() => "itself".into(),
            _ => node.found.join(", "),
        };
        let (figures, trouble) = match &node.status {
            Ok(status) => {
                let links = status.links.len() as u64 + status.links_left_out;
                let sockets = status.sockets.len() as u64 + status.sockets_left_out;
                ([grouped(links), grouped(sockets), time(status.uptime), status.version.clone()], String::new())
            }
            Err(NoStatus::NotLinked) => (Default::default(), "seen by others only: no link from here".into()),
            Err(why) => (Default::default(), why.to_string()),
        };
        let [links, sockets, up, version] = figures;
        rows.push([node.id.short(), name, node.address.to_string(), found, links, sockets, up, version, trouble]);
    }
    rows
}

fn link_table(links: &BTreeMap<(NodeId, NodeId), &LinkStatus>, names: &Names) -> Table {
    let mut rows = Table::new(&["<LINK", "<", "ROUND TRIP", "OPEN FOR"]);
    for ((one, other), link) in links {
        let mut ends = [names.of_node(*one), names.of_node(*other)];
        ends.sort();
        let [one, other] = ends;
        rows.push([one, other, time(link.round_trip), time(link.age)]);
    }
    rows.sort();
    rows
}

fn links_in_short(links: &BTreeMap<(NodeId, NodeId), &LinkStatus>) -> String {
    let mut trips: Vec<_> = links.values().map(|link| link.round_trip).collect();
    trips.sort_unstable();
    let youngest = links.values().map(|link| link.age).min().unwrap_or_default();
    format!(
        "{}: round trips {} to {}, half of them below {}; the youngest is open for {} (--links shows each)\n",
        counted(links.len() as u64, "link"),
        time(trips[0]),
        time(trips[trips.len() - 1]),
        time(trips[trips.len() / 2]),
        time(youngest)
    )
}

fn socket_table(nodes: &[NodeSnapshot], names: &Names) -> Table {
    // A column in which nothing stands is left out: what went wrong is shown only where something did.
    let mut rows = Table::new(&[
        "<CHANNEL",
        "<SOCKET",
        "<TYPE",
        "<NODE",
        "PEERS",
        "QUEUED",
        "IN FLIGHT",
        "FULL",
        "OLDEST",
        "IN/S",
        "HANDLED/S",
        "HANDLED",
        "REDELIVERED",
        "RETURNED",
        "NACKED",
        "REJECTED",
        "EXHAUSTED",
        "MISSED",
    ]);
    let mut by_channel: Vec<_> = sockets(nodes).collect();
    by_channel.sort_by(|(_, one), (_, other)| (&one.channel, rank(one)).cmp(&(&other.channel, rank(other))));
    let mut last = None;
    for (node, socket) in by_channel {
        let channel = if last == Some(&socket.channel) { String::new() } else { socket.channel.clone() };
        last = Some(&socket.channel);
        let mut row = vec![channel, socket.kind.clone(), types(socket), names.of_node(node)];
        row.extend(figures(socket));
        rows.push(row);
    }
    rows
}

/// What stands under PEERS and all that follow.
fn figures(socket: &SocketStatus) -> [String; 14] {
    let unless_0 = |count: u64| if count == 0 { String::new() } else { grouped(count) };
    let rate = |of: fn(Rates) -> f64| socket.rates.map(|rates| rate(of(rates))).unwrap_or_default();
    // Nobody acknowledges what is published, and its bound is for each subscriber, where the queues are of all.
    let [full, handled_per_s, handled] = match &socket.kind[..] {
        "publisher" => Default::default(),
        _ => [full(socket), rate(|rates| rates.handled), grouped(socket.handled)],
    };
    [
        grouped(socket.peers),
        grouped(socket.queued),
        grouped(socket.in_flight),
        full,
        socket.oldest.map(time).unwrap_or_default(),
        rate(|rates| rates.taken_in),
        handled_per_s,
        handled,
        unless_0(socket.redelivered),
        unless_0(socket.returned),
        unless_0(socket.nacked),
        unless_0(socket.rejected),
        unless_0(socket.exhausted),
        unless_0(socket.missed),
    ]
}

fn types(socket: &SocketStatus) -> String {
    let (message, reply) = (socket.message_type.as_ref(), socket.reply_type.as_ref());
    message.into_iter().chain(reply).map(TypeName::to_string).collect::<Vec<_>>().join(" -> ")
}

/// Who sends stands before who receives.
fn rank(socket: &SocketStatus) -> (bool, &str) {
    (!matches!(&socket.kind[..], "push" | "publisher" | "requester"), &socket.kind)
}

/// Of the bound in messages or in bytes, the one that is nearer.
fn full(socket: &SocketStatus) -> String {
    let messages = socket.bound_messages.map(|bound| (socket.queued + socket.in_flight, bound));
    let bytes = socket.bound_bytes.map(|bound| (socket.bytes, bound));
    let nearest = messages
        .into_iter()
        .chain(bytes)
        .max_by_key(|(used, bound)| u128::from(*used) * 1_000_000 / u128::from((*bound).max(1)));
    nearest.map(|(used, bound)| share(used, bound)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn socket(kind: &str) -> SocketStatus {
        let mut socket = SocketStatus::default();
        socket.kind = kind.into();
        (socket.peers, socket.queued, socket.handled, socket.missed) = (8, 1_600, 0, 12);
        socket.bound_messages = Some(1_000);
        socket
    }

    #[test]
    fn what_subscribers_miss_is_shown_and_nothing_that_a_publisher_does_not_count() {
        let [peers, queued, _, full, .., missed] = figures(&socket("publisher"));
        assert_eq!([&peers[..], &queued, &full, &missed], ["8", "1,600", "", "12"]);
        assert_eq!(figures(&socket("publisher"))[7], "", "nobody acknowledges");
        assert_eq!(figures(&socket("subscriber"))[7], "0");
        assert_eq!(figures(&socket("subscriber"))[13], "12");
    }
}
