//! What is derived: the mesh's CA from its key, and how keys are derived at all.

use hkdf::Hkdf;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    PKCS_ED25519,
};
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use super::certificate::validity;
use super::{MeshKey, TrustError};

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
        let key = key_pair(&Zeroizing::new(derive(key.as_bytes(), &info)))?;
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

/// HKDF-SHA-256 (RFC 5869).
pub(super) fn derive<const N: usize>(secret: &[u8], info: &[u8]) -> [u8; N] {
    let mut out = [0; N];
    Hkdf::<Sha256>::new(Some(SALT), secret).expand(info, &mut out).expect("far below 255 blocks");
    out
}

/// The key pair of a seed: PKCS#8 version 1 around it (RFC 8410).
pub(super) fn key_pair(seed: &[u8; 32]) -> Result<KeyPair, TrustError> {
    const HEAD: [u8; 16] =
        [0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20];
    let der = Zeroizing::new([&HEAD[..], seed].concat());
    KeyPair::from_pkcs8_der_and_sign_algo(&PrivatePkcs8KeyDer::from(&der[..]), &PKCS_ED25519).map_err(failed)
}

pub(super) fn failed(error: rcgen::Error) -> TrustError {
    TrustError(format!("cannot make a certificate: {error}"))
}
