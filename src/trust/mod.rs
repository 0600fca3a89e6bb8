//! MAY THEY? The mesh key, what is derived from it, and the proof that a peer belongs to the mesh.
//!
//! From the mesh key and the mesh's name a CA is derived. Every node makes its own key pair, signs its own certificate
//! under that CA, and both ends of every link verify: whoever does not hold the key never gets past the handshake. A
//! *name* in a certificate proves nothing, as every holder of the key can write one; only the public key does.

mod certificate;
mod credentials;
mod explain;
mod identity;
mod key;
mod key_file;
mod mesh;

pub(crate) use certificate::{Grants, Member, member};
pub(crate) use credentials::Credentials;
pub(crate) use explain::explain;
pub(crate) use identity::Identity;
pub use identity::IdentityError;
pub use key::{InvalidMeshKey, MeshKey};
pub use key_file::KeyError;
pub(crate) use mesh::Mesh;

/// A certificate or what is made of it is not as it must be. The connection is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct TrustError(pub(crate) String);

#[cfg(test)]
mod tests;
