//! The two keys of an endpoint that live outside TLS. They are ours and not of quinn's cryptography, so that they can
//! be derived from the node's key whichever provider is built in.

use hkdf::hmac::{Hmac, Mac};
use quinn::crypto::{AeadKey, CryptoError, HandshakeTokenKey, HmacKey};
use sha2::Sha256;

/// Length of a tag, in bytes.
const TAG: usize = 32;

/// HMAC-SHA256 with one key.
#[derive(Clone)]
pub(super) struct Key(Hmac<Sha256>);

impl Key {
    pub(super) fn new(key: &[u8; 64]) -> Self {
        Self(Hmac::new_from_slice(key).expect("HMAC takes keys of any length"))
    }

    /// A number that tells nothing of the key.
    pub(super) fn number(&self, label: &[u8]) -> u64 {
        let tag = self.tag([label]);
        u64::from_le_bytes(tag.finalize().into_bytes()[..8].try_into().expect("8 of 32 bytes"))
    }

    /// Over parts of which each but the last comes with its length, so that no two lists give the same bytes.
    fn tag<const N: usize>(&self, parts: [&[u8]; N]) -> Hmac<Sha256> {
        let mut mac = self.0.clone();
        for part in parts {
            mac.update(&(part.len() as u64).to_le_bytes());
            mac.update(part);
        }
        mac
    }
}

/// Stateless resets: a peer of an earlier life of this node learns at once that it is over.
impl HmacKey for Key {
    fn sign(&self, data: &[u8], out: &mut [u8]) {
        out.copy_from_slice(&self.tag([data]).finalize().into_bytes());
    }

    fn signature_len(&self) -> usize {
        TAG
    }

    fn verify(&self, data: &[u8], signature: &[u8]) -> Result<(), CryptoError> {
        self.tag([data]).verify_slice(signature).map_err(|_| CryptoError)
    }
}

/// Retry tokens. Nothing in them is secret from the peer who carries them: its address, the time, and the connection
/// id that it has chosen. So they are authenticated and not encrypted.
impl HandshakeTokenKey for Key {
    fn aead_from_hkdf(&self, random_bytes: &[u8]) -> Box<dyn AeadKey> {
        Box::new(TokenKey { key: self.clone(), random: random_bytes.to_vec() })
    }
}

struct TokenKey {
    key: Key,
    random: Vec<u8>,
}

impl AeadKey for TokenKey {
    fn seal(&self, data: &mut Vec<u8>, additional_data: &[u8]) -> Result<(), CryptoError> {
        let tag = self.key.tag([&self.random, additional_data, data]);
        data.extend_from_slice(&tag.finalize().into_bytes());
        Ok(())
    }

    fn open<'a>(&self, data: &'a mut [u8], additional_data: &[u8]) -> Result<&'a mut [u8], CryptoError> {
        let (data, tag) = data.split_at_mut_checked(data.len().wrapping_sub(TAG)).ok_or(CryptoError)?;
        self.key.tag([&self.random, additional_data, data]).verify_slice(tag).map_err(|_| CryptoError)?;
        Ok(data)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_opens_only_unchanged() {
        let key = Key::new(&[7; 64]).aead_from_hkdf(b"random");
        let mut token = b"address".to_vec();
        key.seal(&mut token, b"more").unwrap();
        assert_eq!(key.open(&mut token.clone(), b"more").unwrap(), b"address");

        assert!(key.open(&mut token.clone(), b"else").is_err());
        assert!(key.open(&mut token.clone()[..TAG - 1], b"more").is_err());
        let other = Key::new(&[7; 64]).aead_from_hkdf(b"other random");
        assert!(other.open(&mut token.clone(), b"more").is_err());
        for at in 0..token.len() {
            let mut changed = token.clone();
            changed[at] ^= 1;
            assert!(key.open(&mut changed, b"more").is_err(), "byte {at}");
        }
    }

    #[test]
    fn a_signature_is_checked_whole() {
        let key = Key::new(&[7; 64]);
        let mut signature = [0; TAG];
        key.sign(b"data", &mut signature);
        assert!(key.verify(b"data", &signature).is_ok());
        assert!(key.verify(b"data", &signature[..16]).is_err());
        assert!(Key::new(&[8; 64]).verify(b"data", &signature).is_err());
    }
}
