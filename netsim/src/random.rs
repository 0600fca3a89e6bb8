//! One seed, many streams: each purpose draws from its own, so that a change in one leaves the others as they were.

use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::SeedableRng;
use sha2::{Digest, Sha256};

/// The stream of this purpose in the run of this seed.
pub(crate) fn stream(seed: u64, purpose: &str) -> ChaCha20Rng {
    let key = Sha256::new().chain_update("netsim").chain_update(seed.to_le_bytes()).chain_update(purpose).finalize();
    ChaCha20Rng::from_seed(key.into())
}
