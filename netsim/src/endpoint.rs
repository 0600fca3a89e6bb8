//! What else of quinn must be seeded: a host's endpoint, client and server configurations for those who use quinn
//! themselves.

use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

use hmac::{Hmac, Mac};
use quinn::crypto::{self, AeadKey, CryptoError, HandshakeTokenKey, HmacKey};
use quinn::{ClientConfig, ConnectionId, EndpointConfig, ServerConfig, TimeSource};
use rustls::pki_types::UnixTime;
use rustls::time_provider::TimeProvider;
use sha2::Sha256;

use crate::crypto::SeededIds;
use crate::host::Host;

impl Host {
    /// quinn's settings of an endpoint, all randomness from the seed.
    pub fn endpoint_config(&self) -> EndpointConfig {
        let mut config = EndpointConfig::new(Arc::new(Signer(self.random_bytes())));
        let host = self.clone();
        config.rng_seed(Some(self.random_bytes())).cid_generator(move || Box::new(SeededIds(host.stream())));
        config
    }

    /// quinn's settings for dialling, all randomness from the seed.
    pub fn client_config(&self, tls: Arc<dyn crypto::ClientConfig>) -> ClientConfig {
        let host = self.clone();
        let mut config = ClientConfig::new(tls);
        config.initial_dst_cid_provider(Arc::new(move || ConnectionId::new(&host.random_bytes::<20>())));
        config
    }

    /// quinn's settings for accepting, all randomness from the seed and the time virtual.
    pub fn server_config(&self, tls: Arc<dyn crypto::ServerConfig>) -> ServerConfig {
        let mut config = ServerConfig::new(tls, Arc::new(Signer(self.random_bytes())));
        config.time_source(Arc::new(Calendar(self.clone())));
        config
    }

    /// What time it is when a certificate's validity is judged: the host's [calendar](Host::calendar).
    pub fn certificate_time(&self) -> Arc<dyn TimeProvider> {
        Arc::new(Calendar(self.clone()))
    }
}

/// Signs stateless resets and tokens. Ours rather than a crypto library's, because quinn knows only one at a time and
/// which one is another crate's choice.
struct Signer([u8; 32]);

impl Signer {
    fn mac(&self, parts: &[&[u8]]) -> Hmac<Sha256> {
        let mac = Hmac::new_from_slice(&self.0).expect("HMAC takes keys of any length");
        parts.iter().fold(mac, |mac, part| mac.chain_update(part))
    }
}

impl HmacKey for Signer {
    fn sign(&self, data: &[u8], out: &mut [u8]) {
        out.copy_from_slice(&self.mac(&[data]).finalize().into_bytes());
    }

    fn signature_len(&self) -> usize {
        32
    }

    fn verify(&self, data: &[u8], signature: &[u8]) -> Result<(), CryptoError> {
        self.mac(&[data]).verify_slice(signature).map_err(|_| CryptoError)
    }
}

impl HandshakeTokenKey for Signer {
    fn aead_from_hkdf(&self, random: &[u8]) -> Box<dyn AeadKey> {
        Box::new(Self(self.mac(&[random]).finalize().into_bytes().into()))
    }
}

/// Tokens are signed, not hidden: who reads along in a simulation may.
impl AeadKey for Signer {
    fn seal(&self, data: &mut Vec<u8>, additional: &[u8]) -> Result<(), CryptoError> {
        let tag = self.mac(&[additional, data]).finalize().into_bytes();
        data.extend_from_slice(&tag);
        Ok(())
    }

    fn open<'a>(&self, data: &'a mut [u8], additional: &[u8]) -> Result<&'a mut [u8], CryptoError> {
        let len = data.len().checked_sub(32).ok_or(CryptoError)?;
        let (data, tag) = data.split_at_mut(len);
        self.mac(&[additional, data]).verify_slice(tag).map_err(|_| CryptoError)?;
        Ok(data)
    }
}

/// The calendar of a host.
struct Calendar(Host);

impl TimeSource for Calendar {
    fn now(&self) -> SystemTime {
        self.0.calendar()
    }
}

impl TimeProvider for Calendar {
    fn current_time(&self) -> Option<UnixTime> {
        let since = self.0.calendar().duration_since(SystemTime::UNIX_EPOCH).ok()?;
        Some(UnixTime::since_unix_epoch(since))
    }
}

impl fmt::Debug for Calendar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Calendar({:?})", self.0.calendar())
    }
}
