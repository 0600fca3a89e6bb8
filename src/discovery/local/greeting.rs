//! What two processes tell each other: a length of two bytes (big endian) and a MessagePack map with named fields, of
//! which unknown ones are ignored.

use std::io::{Error, ErrorKind, Result};
use std::net::SocketAddr;

use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

use crate::discovery::Advert;
use crate::id::NodeId;

/// Longest greeting, in bytes.
const MAX: usize = 1024;
/// Most addresses that are taken from one.
const MAX_ADDRESSES: usize = 16;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Greeting {
    pub(super) mesh_tag: [u8; 8],
    pub(super) node: NodeId,
    pub(super) incarnation: u64,
    pub(super) addresses: Vec<SocketAddr>,
}

/// The same in types of the format.
#[derive(Serialize, Deserialize)]
struct Fields {
    mesh: String,
    node: String,
    incarnation: u64,
    addresses: Vec<String>,
}

impl Greeting {
    pub(super) fn of(own: &Advert, addresses: Vec<SocketAddr>) -> Self {
        Self { mesh_tag: own.mesh_tag, node: own.node, incarnation: own.incarnation, addresses }
    }

    fn encode(&self) -> Result<Vec<u8>> {
        let fields = Fields {
            mesh: data_encoding::HEXLOWER.encode(&self.mesh_tag),
            node: self.node.to_string(),
            incarnation: self.incarnation,
            addresses: self.addresses.iter().map(SocketAddr::to_string).collect(),
        };
        let map = rmp_serde::to_vec_named(&fields).map_err(Error::other)?;
        let mut out = (map.len() as u16).to_be_bytes().to_vec();
        out.extend_from_slice(&map);
        Ok(out)
    }

    fn decode(map: &[u8]) -> Option<Self> {
        let fields: Fields = rmp_serde::from_slice(map).ok()?;
        let addresses = fields.addresses.iter().take(MAX_ADDRESSES).filter_map(|text| text.parse().ok()).collect();
        Some(Self {
            mesh_tag: data_encoding::HEXLOWER.decode(fields.mesh.as_bytes()).ok()?.try_into().ok()?,
            node: fields.node.parse().ok()?,
            incarnation: fields.incarnation,
            addresses,
        })
    }
}

/// Tells who we are, and hears who they are.
///
/// # Errors
/// The other end is gone, or says something else.
pub(super) async fn exchange(stream: &mut UnixStream, mine: &Greeting) -> Result<Greeting> {
    // Fits into the socket's buffer: both ends can write before either reads.
    stream.write_all(&mine.encode()?).await?;
    let len = usize::from(stream.read_u16().await?);
    if len > MAX {
        return Err(ErrorKind::InvalidData.into());
    }
    let mut map = vec![0; len];
    stream.read_exact(&mut map).await?;
    Greeting::decode(&map).ok_or_else(|| ErrorKind::InvalidData.into())
}
