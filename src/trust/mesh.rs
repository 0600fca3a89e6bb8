//! What is derived: the mesh's CA from its key, a node's keys from its seed.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use hkdf::Hkdf;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    PKCS_ED25519,
};
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use sha2::{Digest, Sha256};

use super::certificate::validity;
use super::{MeshKey, TrustError};
use crate::env::Random;
use crate::id::{NodeId, base32};

const SALT: &[u8] = b"meshmq/1";

/// A mesh: one key under one name.
pub(crate) struct Mesh {
    pub(super) issuer: Issuer<'static, KeyPair>,
    pub(super) ca: CertificateDer<'static>,
    tag: [u8; 8],
}

impl Mesh {
    /// The name is mixed into the key's derivation: meshes of one key with different names are strangers.
    pub(crate) fn derive(key: &MeshKey, name: &str) -> Result<Self, TrustError> {
        let mut info = b"ca ed25519 ".to_vec();
        info.extend_from_slice(name.as_bytes());
        let key = key_pair(&derive(key.as_bytes(), &info))?;
        let digest = Sha256::digest(key.public_key_raw());
        let mut tag = [0; 8];
        tag.copy_from_slice(&digest[..8]);
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        params.distinguished_name = DistinguishedName::new();
        // The tag, so that a stranger is told 'unknown issuer'.
        params.distinguished_name.push(DnType::CommonName, data_encoding::HEXLOWER.encode(&tag));
        validity(&mut params);
        let ca = params.self_signed(&key).map_err(failed)?.der().clone();
        Ok(Self { issuer: Issuer::new(params, key), ca, tag })
    }

    /// What adverts carry: it tells meshes apart without telling which one it is.
    pub(crate) fn tag(&self) -> [u8; 8] {
        self.tag
    }
}

/// A node's own key pair.
pub(crate) struct Identity {
    seed: [u8; 32],
    pub(super) key: KeyPair,
    /// Of a kept identity: its file, locked for as long as the node lives.
    _lock: Option<File>,
}

impl Identity {
    /// A new one, which lives as long as its node.
    pub(crate) fn ephemeral(random: &dyn Random) -> io::Result<Self> {
        let mut seed = [0; 32];
        random.fill(&mut seed)?;
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
        let mut text = String::new();
        (&file).take(MAX_IDENTITY_FILE).read_to_string(&mut text).map_err(failed)?;
        let mut seed = [0; 32];
        if text.is_empty() {
            random.fill(&mut seed).map_err(failed)?;
            // A crash in between leaves a file that does not decode, and is told so, never another identity.
            file.write_all(format!("{}\n", base32().encode(&seed)).as_bytes()).map_err(failed)?;
            file.sync_all().map_err(failed)?;
        } else {
            let bytes = base32().decode(text.trim().as_bytes()).ok().and_then(|bytes| bytes.try_into().ok());
            seed = bytes.ok_or_else(|| IdentityError::Invalid { path: path.to_owned() })?;
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
        derive(&self.seed, info)
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

/// HKDF-SHA-256 (RFC 5869).
fn derive<const N: usize>(secret: &[u8], info: &[u8]) -> [u8; N] {
    let mut out = [0; N];
    Hkdf::<Sha256>::new(Some(SALT), secret).expand(info, &mut out).expect("far below 255 blocks");
    out
}

/// The key pair of a seed: PKCS#8 version 1 around it (RFC 8410).
fn key_pair(seed: &[u8; 32]) -> Result<KeyPair, TrustError> {
    const HEAD: [u8; 16] =
        [0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20];
    let der = [&HEAD[..], seed].concat();
    KeyPair::from_pkcs8_der_and_sign_algo(&PrivatePkcs8KeyDer::from(der), &PKCS_ED25519).map_err(failed)
}

pub(super) fn failed(error: rcgen::Error) -> TrustError {
    TrustError(format!("cannot make a certificate: {error}"))
}
