//! What else of quinn must be seeded: a host's endpoint, client and server configurations for those who use quinn
//! themselves.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

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
        config.time_source(Arc::new(VirtualTime(self.clone())));
        config
    }

    /// What time it is when a certificate's validity is judged: every run starts at 2026-01-01 00:00:00 UTC.
    pub fn certificate_time(&self) -> Arc<dyn TimeProvider> {
        Arc::new(VirtualTime(self.clone()))
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

/// The calendar of a run, which starts at 2026-01-01 00:00:00 UTC.
struct VirtualTime(Host);

impl VirtualTime {
    /// Time since 1970.
    fn since_epoch(&self) -> Duration {
        START + self.0.sim().elapsed()
    }
}

impl TimeSource for VirtualTime {
    fn now(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH + self.since_epoch()
    }
}

impl TimeProvider for VirtualTime {
    fn current_time(&self) -> Option<UnixTime> {
        Some(UnixTime::since_unix_epoch(self.since_epoch()))
    }
}

impl fmt::Debug for VirtualTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "VirtualTime({:?})", self.since_epoch())
    }
}

/// When every run starts, since 1970.
const START: Duration = Duration::from_secs(1_767_225_600);
