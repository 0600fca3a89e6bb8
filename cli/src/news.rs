//! What happens in the mesh, told to whoever runs the command.

use meshmq::{Event, Events};

use crate::output::Say;
use crate::words::called;

/// Tells until the node ends: what needs the user's attention always, who comes and goes with `-v`.
pub(crate) async fn tell(mut events: Events, say: Say) {
    while let Some(event) = events.recv().await {
        match event {
            Event::Alone { report } => say.note(report),
            Event::ChannelAlone { channel, nearest: Some(nearest), .. } => {
                say.note(format_args!("nobody is at the other end of channel {channel:?}; did you mean {nearest:?}?"));
            }
            Event::DiscoveryTrouble { why, .. } => say.note(why),
            Event::NoLink { address, why, .. } => say.note(format_args!("no link with {address}: {why}")),
            Event::LinkRefused { node, why } => say.note(format_args!("no link with node {}: {why}", node.short())),
            Event::Rejected { id, reason, by, .. } => {
                say.note(format_args!("message {id} was refused by {}: {reason}", by.short()));
            }
            Event::SubscriberDisconnected { channel, subscriber, dropped } => say.note(format_args!(
                "subscriber {} on channel {channel:?} was too slow and is given up, with {dropped} messages",
                subscriber.short()
            )),
            Event::Disconnected { channel, publisher, missed } => say.note(format_args!(
                "publisher {} on channel {channel:?} has given this subscriber up, with {missed} messages",
                publisher.short()
            )),
            Event::PeerJoined { node, name, address } => {
                say.detail(format_args!("node {} is here, at {address}", called(&name, node)));
            }
            Event::PeerLeft { node, name, why } => {
                say.detail(format_args!("node {} has left: {why}", called(&name, node)))
            }
            Event::Refused { address, why } => say.detail(format_args!("refused {address}: {why}")),
            // The command itself says what it waits for.
            _ => {}
        }
    }
}
