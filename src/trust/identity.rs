//! Who a node is: its own key pair, made anew at each start or kept in a file.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rcgen::KeyPair;
use zeroize::Zeroizing;

use super::mesh::{derive, key_pair};
use crate::env::Random;
use crate::id::{NodeId, base32};

/// A node's own key pair.
pub(crate) struct Identity {
    seed: Zeroizing<[u8; 32]>,
    pub(super) key: KeyPair,
    /// Of a kept identity: its file, locked for as long as the node lives.
    _lock: Option<File>,
}

impl Identity {
    /// A new one, which lives as long as its node.
    pub(crate) fn ephemeral(random: &dyn Random) -> io::Result<Self> {
        let mut seed = Zeroizing::new([0; 32]);
        random.fill(&mut *seed)?;
        let key = key_pair(&seed).map_err(io::Error::other)?;
        Ok(Self { seed, key, _lock: None })
    }

    /// The one in this file, which is made with a new one if it is not there. A second process that uses it at the same
    /// time is refused: two nodes of one identity would take each other's links.
    pub(crate) fn kept(path: &Path, random: &dyn Random) -> Result<Self, IdentityError> {
        let failed = |error| IdentityError::File { path: path.to_owned(), error };
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(path)
            .map_err(failed)?;
        let mode = file.metadata().map_err(failed)?.mode() & 0o777;
        if mode & 0o077 != 0 {
            return Err(IdentityError::Open { path: path.to_owned(), mode });
        }
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(IdentityError::InUse { path: path.to_owned() }),
            Err(TryLockError::Error(error)) => return Err(failed(error)),
        }
        let mut text = Zeroizing::new(String::new());
        (&file).take(MAX_IDENTITY_FILE).read_to_string(&mut text).map_err(failed)?;
        let mut seed = Zeroizing::new([0; 32]);
        if text.is_empty() {
            random.fill(&mut *seed).map_err(failed)?;
            // A crash in between leaves a file that does not decode, and is told so, never another identity.
            file.write_all(format!("{}\n", base32().encode(&*seed)).as_bytes()).map_err(failed)?;
            file.sync_all().map_err(failed)?;
        } else {
            let bytes = base32().decode(text.trim().as_bytes()).ok().and_then(|bytes| bytes.try_into().ok());
            *seed = bytes.ok_or_else(|| IdentityError::Invalid { path: path.to_owned() })?;
        }
        let key = key_pair(&seed).map_err(|error| failed(io::Error::other(error)))?;
        Ok(Self { seed, key, _lock: Some(file) })
    }

    /// Its public key.
    pub(crate) fn id(&self) -> NodeId {
        let raw: [u8; 32] = self.key.public_key_raw().try_into().expect("an Ed25519 public key has 32 bytes");
        NodeId::from_bytes(raw)
    }

    /// A key for another use, bound to this identity.
    pub(super) fn derive(&self, info: &[u8]) -> [u8; 64] {
        derive(&*self.seed, info)
    }
}

/// Far above any identity file; a larger one is something else.
const MAX_IDENTITY_FILE: u64 = 4096;

/// A kept identity cannot be used. No node was started.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum IdentityError {
    /// The file cannot be read or made.
    #[error("cannot use the identity file {}: {error}", path.display())]
    File {
        /// Which file.
        path: PathBuf,
        /// What the operating system says.
        error: io::Error,
    },
    /// Others can read the file.
    #[error("the identity file {} is open to others (mode {mode:03o}); run `chmod 600 {}`", path.display(), path.display())]
    Open {
        /// Which file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// Another node uses it.
    #[error("the identity in {} is in use by another node: each node needs its own", path.display())]
    InUse {
        /// Which file.
        path: PathBuf,
    },
    /// The file holds no identity.
    #[error("{} holds no identity; remove it to get a new one", path.display())]
    Invalid {
        /// Which file.
        path: PathBuf,
    },
}
