//! Keys and random numbers from the seed.
//!
//! rustls wants its source of randomness and its key exchanges for `'static`: so they are statics, which draw from a
//! generator of the run's thread. On any other thread there is none, and a handshake fails rather than being secure by
//! a seed that anyone can guess.

use std::cell::RefCell;
use std::time::Duration;

use quinn::{ConnectionId, ConnectionIdGenerator};
use rand::RngCore;
use rand_chacha::ChaCha20Rng;
use rustls::crypto::{
    ActiveKeyExchange, CryptoProvider, GetRandomFailed, SecureRandom, SharedSecret, SupportedKxGroup, aws_lc_rs,
};
use rustls::{Error, NamedGroup, PeerMisbehaved};
use x25519_dalek::{PublicKey, StaticSecret};

use crate::random;

thread_local! {
    static THIS_RUN: RefCell<Option<ChaCha20Rng>> = const { RefCell::new(None) };
}

/// From now on, TLS on this thread draws from this seed.
pub(crate) fn seed_this_thread(seed: u64) {
    THIS_RUN.set(Some(random::stream(seed, "tls")));
}

/// AWS-LC's algorithms with seeded randomness, and X25519 as the only key exchange: AWS-LC's own can't be seeded.
pub(crate) fn provider() -> CryptoProvider {
    CryptoProvider { kx_groups: vec![&SeededX25519], secure_random: &SeededRandom, ..aws_lc_rs::default_provider() }
}

#[derive(Debug)]
struct SeededRandom;

impl SecureRandom for SeededRandom {
    fn fill(&self, out: &mut [u8]) -> Result<(), GetRandomFailed> {
        THIS_RUN.with_borrow_mut(|random| random.as_mut().ok_or(GetRandomFailed).map(|random| random.fill_bytes(out)))
    }
}

#[derive(Debug)]
struct SeededX25519;

impl SupportedKxGroup for SeededX25519 {
    fn start(&self) -> Result<Box<dyn ActiveKeyExchange>, Error> {
        let mut secret = [0; 32];
        SeededRandom.fill(&mut secret)?;
        let secret = StaticSecret::from(secret);
        Ok(Box::new(Exchange { public: PublicKey::from(&secret), secret }))
    }

    fn name(&self) -> NamedGroup {
        NamedGroup::X25519
    }
}

struct Exchange {
    secret: StaticSecret,
    public: PublicKey,
}

impl ActiveKeyExchange for Exchange {
    fn complete(self: Box<Self>, peer: &[u8]) -> Result<SharedSecret, Error> {
        let peer: [u8; 32] = peer.try_into().map_err(|_| PeerMisbehaved::InvalidKeyShare)?;
        let shared = self.secret.diffie_hellman(&PublicKey::from(peer));
        if !shared.was_contributory() {
            return Err(PeerMisbehaved::InvalidKeyShare.into());
        }
        Ok(shared.as_bytes().as_slice().into())
    }

    fn pub_key(&self) -> &[u8] {
        self.public.as_bytes()
    }

    fn group(&self) -> NamedGroup {
        NamedGroup::X25519
    }
}

/// Connection ids of 8 bytes from a stream of their own; quinn's generators draw from the operating system.
pub(crate) struct SeededIds(pub(crate) ChaCha20Rng);

impl ConnectionIdGenerator for SeededIds {
    fn generate_cid(&mut self) -> ConnectionId {
        let mut id = [0; 8];
        self.0.fill_bytes(&mut id);
        ConnectionId::new(&id)
    }

    fn cid_len(&self) -> usize {
        8
    }

    fn cid_lifetime(&self) -> Option<Duration> {
        None
    }
}
