//! A node's certificate, and what is read from a peer's.

use rcgen::{CertificateParams, CustomExtension, ExtendedKeyUsagePurpose, KeyUsagePurpose};
use rustls::pki_types::CertificateDer;
use x509_parser::der_parser::Oid;
use x509_parser::oid_registry::OID_SIG_ED25519;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::TrustError;
use super::identity::Identity;
use super::mesh::{Mesh, failed};
use crate::id::NodeId;
use crate::wire::control::SocketKind;

/// The one name in every certificate, and what TLS is told to expect: who a peer is, its key says.
pub(crate) const SERVER_NAME: &str = "meshmq";
/// Under 2.25 a random number is nobody else's, without a register (ITU-T X.667); of 63 bits, so that every parser takes it.
const GRANTS_OID: &[u64] = &[2, 25, 8_097_477_987_565_452_274];
/// The only version there is: the content is one byte, the version, and grants everything.
const GRANTS_VERSION: u8 = 1;

/// Valid from 1970, so that a board without a clock can join, and for ever.
pub(super) fn validity(params: &mut CertificateParams) {
    params.not_before = rcgen::date_time_ymd(1970, 1, 1);
    params.not_after = rcgen::date_time_ymd(9999, 12, 31);
}

/// The certificate of a holder of the mesh key: everything is granted.
pub(super) fn issue(mesh: &Mesh, identity: &Identity) -> Result<CertificateDer<'static>, TrustError> {
    issue_with(mesh, identity, Some(&[GRANTS_VERSION]))
}

pub(super) fn issue_with(
    mesh: &Mesh,
    identity: &Identity,
    grants: Option<&[u8]>,
) -> Result<CertificateDer<'static>, TrustError> {
    let mut params = CertificateParams::new(vec![SERVER_NAME.to_owned()]).map_err(failed)?;
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    if let Some(grants) = grants {
        // Not critical: the verifier refuses critical extensions that it does not know. We insist on it ourselves.
        params.custom_extensions = vec![CustomExtension::from_oid_content(GRANTS_OID, grants.to_vec())];
    }
    validity(&mut params);
    Ok(params.signed_by(&identity.key, &mesh.issuer).map_err(failed)?.der().clone())
}

/// Who is at the other end, from a certificate that the handshake has verified.
#[derive(Debug, Clone)]
pub(crate) struct Member {
    pub(crate) node: NodeId,
    pub(crate) grants: Grants,
}

/// Reads a verified peer's certificate.
pub(crate) fn member(chain: &[CertificateDer<'_>]) -> Result<Member, TrustError> {
    let refused = |what: &str| TrustError(what.to_owned());
    let [certificate] = chain else {
        return Err(TrustError(format!("{} certificates in the place of one", chain.len())));
    };
    let (rest, certificate) =
        X509Certificate::from_der(certificate).map_err(|_| refused("an unreadable certificate"))?;
    if !rest.is_empty() {
        return Err(refused("something follows the certificate"));
    }
    let key = certificate.public_key();
    if key.algorithm.algorithm != OID_SIG_ED25519 {
        return Err(refused("a key of another kind than Ed25519"));
    }
    let raw: [u8; 32] =
        key.subject_public_key.data.as_ref().try_into().map_err(|_| refused("an Ed25519 key of another length"))?;
    let is_ours = |oid: &Oid<'_>| oid.iter().is_some_and(|arcs| arcs.eq(GRANTS_OID.iter().copied()));
    let mut grants = certificate.extensions().iter().filter(|extension| is_ours(&extension.oid));
    match (grants.next(), grants.next()) {
        (None, _) => Err(refused("a certificate without grants")),
        (Some(_), Some(_)) => Err(refused("a certificate with grants twice")),
        (Some(found), None) if found.value == [GRANTS_VERSION] => {
            Ok(Member { node: NodeId::from_bytes(raw), grants: Grants::everything() })
        }
        _ => Err(refused("grants of a version that this node does not know: update meshmq here")),
    }
}

/// Which sockets a peer may have.
#[derive(Debug, Clone)]
pub(crate) struct Grants(());

impl Grants {
    /// Of a holder of the mesh key.
    pub(crate) fn everything() -> Self {
        Self(())
    }

    /// Whether a peer may have a socket of this kind on this channel.
    pub(crate) fn allows(&self, _: SocketKind, _: &str) -> bool {
        true
    }
}
