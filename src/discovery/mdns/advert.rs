//! What a node says of itself to everybody on the network, and what it understands of others. No name of a mesh, a
//! node or a channel is in it, and nothing of a key.

use crate::discovery::Advert;
use crate::id::NodeId;

/// The service type under which the nodes of all meshes advertise themselves.
pub(super) const SERVICE: &str = "_meshmq._udp.local.";
/// Revision of the advert; another one is not understood.
const REVISION: &str = "1";

/// What a node's advert says, besides its port and its addresses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Told {
    pub(super) node: NodeId,
    pub(super) mesh_tag: [u8; 8],
    pub(super) incarnation: u64,
}

/// The full name of a node's service instance.
pub(super) fn name(node: NodeId) -> String {
    format!("{node}.{SERVICE}")
}

/// The name that a node's addresses stand under: its own, so that two nodes of one host may have different ones.
pub(super) fn host(node: NodeId) -> String {
    format!("{node}.local.")
}

/// The strings of the TXT record.
pub(super) fn properties(own: &Advert) -> [(&'static str, String); 3] {
    [
        ("v", REVISION.to_owned()),
        ("mesh", data_encoding::HEXLOWER.encode(&own.mesh_tag)),
        ("life", format!("{:016x}", own.incarnation)),
    ]
}

/// Which node an instance's full name names.
pub(super) fn node(name: &str) -> Option<NodeId> {
    name.strip_suffix(SERVICE)?.strip_suffix('.')?.parse().ok()
}

/// `None`: not an advert, or one of a revision that is not known. Properties that are not known are ignored.
pub(super) fn read<'a>(name: &str, property: impl Fn(&str) -> Option<&'a str>) -> Option<Told> {
    if property("v")? != REVISION {
        return None;
    }
    let life = property("life")?;
    Some(Told {
        node: node(name)?,
        mesh_tag: data_encoding::HEXLOWER.decode(property("mesh")?.as_bytes()).ok()?.try_into().ok()?,
        incarnation: u64::from_str_radix(life, 16).ok().filter(|_| life.len() == 16 && !life.starts_with('+'))?,
    })
}
