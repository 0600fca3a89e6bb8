//! How two processes introduce themselves: each sends one advert, a length (2 bytes, big-endian) and a MessagePack map.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

use crate::discovery::Advert;

/// Longest advert, in bytes.
const MAX_ADVERT: usize = 1024;
/// Deepest nesting of an advert; a field that is not known yet may nest a little.
const MAX_DEPTH: usize = 8;

/// The map; fields that are not known are ignored.
#[derive(Serialize, Deserialize)]
struct Wire {
    mesh: String,
    node: String,
    incarnation: u64,
    port: u16,
    bound: String,
}

/// The advert with its length.
pub(super) fn encode(advert: &Advert) -> Vec<u8> {
    let wire = Wire {
        mesh: data_encoding::HEXLOWER.encode(&advert.mesh_tag),
        node: advert.node.to_string(),
        incarnation: advert.incarnation,
        port: advert.port,
        bound: advert.bound.to_string(),
    };
    let map = rmp_serde::to_vec_named(&wire).expect("strings and numbers can be encoded");
    let length = u16::try_from(map.len()).expect("all fields are short");
    [&length.to_be_bytes()[..], &map].concat()
}

fn decode(map: &[u8]) -> Option<Advert> {
    let mut decoder = rmp_serde::Deserializer::from_read_ref(map);
    decoder.set_max_depth(MAX_DEPTH);
    let wire = Wire::deserialize(&mut decoder).ok()?;
    Some(Advert {
        mesh_tag: data_encoding::HEXLOWER.decode(wire.mesh.as_bytes()).ok()?.try_into().ok()?,
        node: wire.node.parse().ok()?,
        incarnation: wire.incarnation,
        port: wire.port,
        bound: wire.bound.parse().ok()?,
    })
}

/// Sends one's own advert and reads the other's. `InvalidData`: the other sends something else.
pub(super) async fn exchange(stream: &mut UnixStream, own: &[u8]) -> io::Result<Advert> {
    stream.write_all(own).await?;
    let length = usize::from(stream.read_u16().await?);
    if length > MAX_ADVERT {
        return Err(io::Error::new(io::ErrorKind::InvalidData, format!("an advert of {length} bytes")));
    }
    let mut map = vec![0; length];
    stream.read_exact(&mut map).await?;
    decode(&map).ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "not an advert"))
}

/// Where a node of this host is reached by another one of this host.
pub(super) fn address(own: &Advert, peer: &Advert) -> SocketAddr {
    // A port on `[::]` takes IPv4 as well; one on a single IPv6 address reaches nothing else.
    let from_v6 = own.bound.is_ipv6() && !own.bound.ip().is_unspecified();
    let ip = match peer.bound.ip() {
        ip if !ip.is_unspecified() => ip,
        IpAddr::V6(_) if from_v6 => Ipv6Addr::LOCALHOST.into(),
        _ => Ipv4Addr::LOCALHOST.into(),
    };
    SocketAddr::new(ip, peer.port)
}
