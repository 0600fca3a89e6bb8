//! The mesh key and its text form.

use std::fmt;
use std::io;
use std::str::FromStr;

use sha2::{Digest, Sha256};
use zeroize::{Zeroize, Zeroizing};

use crate::env::{Random, SystemRandom};
use crate::id::base32;

/// How every mesh key begins: people and scanners recognise it.
const PREFIX: &str = "meshkey1";
const KEY_BYTES: usize = 32;
/// Enough that a mistyped key passes for another one once in 2^40 times.
const CHECKSUM_BYTES: usize = 5;
/// Base32 characters behind the prefix.
const CHARACTERS: usize = (KEY_BYTES + CHECKSUM_BYTES) * 8 / 5 + 1;

/// The secret that a mesh's members share: 32 random bytes. Whoever holds it can join.
///
/// Never shown by `Debug`, in errors or in logs; [`reveal`](Self::reveal) is the only way to see it. Its memory is wiped
/// when it is dropped.
#[derive(Clone, PartialEq, Eq)]
pub struct MeshKey([u8; KEY_BYTES]);

impl MeshKey {
    /// A new key, from the randomness of the operating system.
    ///
    /// # Errors
    /// The operating system has no randomness to give.
    pub fn generate() -> io::Result<Self> {
        Self::generate_from(&SystemRandom)
    }

    /// A new key, from this randomness.
    pub(crate) fn generate_from(random: &dyn Random) -> io::Result<Self> {
        let mut key = Self([0; KEY_BYTES]);
        random.fill(&mut key.0)?;
        Ok(key)
    }

    /// A key of these 32 bytes, which must be secret and random.
    pub const fn from_bytes(bytes: [u8; KEY_BYTES]) -> Self {
        Self(bytes)
    }

    /// The text form, `meshkey1…`, with a checksum: a secret in plain sight, for a key file or another machine's.
    pub fn reveal(&self) -> String {
        let bytes = Zeroizing::new([&self.0[..], &checksum(&self.0)].concat());
        format!("{PREFIX}{}", *Zeroizing::new(base32().encode(&bytes)))
    }

    pub(super) fn as_bytes(&self) -> &[u8; KEY_BYTES] {
        &self.0
    }
}

fn checksum(key: &[u8]) -> [u8; CHECKSUM_BYTES] {
    let digest = Sha256::new().chain_update(b"meshmq key checksum").chain_update(key).finalize();
    let mut checksum = [0; CHECKSUM_BYTES];
    checksum.copy_from_slice(&digest[..CHECKSUM_BYTES]);
    checksum
}

impl FromStr for MeshKey {
    type Err = InvalidMeshKey;

    fn from_str(text: &str) -> Result<Self, InvalidMeshKey> {
        let text = text.trim();
        let body = text.strip_prefix(PREFIX).ok_or(InvalidMeshKey::Prefix)?;
        if let Some((at, _)) = body.char_indices().find(|(_, c)| !matches!(c, 'a'..='z' | '2'..='7')) {
            // The character itself stays unsaid: it is part of a secret.
            return Err(InvalidMeshKey::Character { at: PREFIX.len() + at + 1 });
        }
        if body.len() != CHARACTERS {
            return Err(InvalidMeshKey::Length { found: text.len(), expected: PREFIX.len() + CHARACTERS });
        }
        let bytes = Zeroizing::new(base32().decode(body.as_bytes()).map_err(|_| InvalidMeshKey::Checksum)?);
        let (key, sum) = bytes.split_at_checked(KEY_BYTES).ok_or(InvalidMeshKey::Checksum)?;
        if sum != checksum(key) {
            return Err(InvalidMeshKey::Checksum);
        }
        key.try_into().map(Self).map_err(|_| InvalidMeshKey::Checksum)
    }
}

impl Drop for MeshKey {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl fmt::Debug for MeshKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MeshKey(..)")
    }
}

/// A text is not a mesh key. Nothing of it is repeated here, as it may be nearly one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidMeshKey {
    /// It does not begin with `meshkey1`.
    #[error("not a mesh key: it does not begin with `{PREFIX}`; `meshmq key show` prints a whole one")]
    Prefix,
    /// Something is missing, or there is too much.
    #[error("not a whole mesh key: {found} characters in the place of {expected}; copy it again, in one piece")]
    Length {
        /// How many characters there are.
        found: usize,
        /// How many there must be.
        expected: usize,
    },
    /// A character that no key has.
    #[error(
        "a mistyped mesh key: character {at} is not one of a-z and 2-7 (there is no 0, 1, 8, 9 and no capital letter)"
    )]
    Character {
        /// Which one, counted from 1.
        at: usize,
    },
    /// It is mistyped somewhere.
    #[error("a mistyped mesh key: its checksum does not match, so at least one character is wrong; copy it again")]
    Checksum,
}
