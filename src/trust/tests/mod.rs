mod handshake;
mod key;

use std::fs;
use std::os::unix::fs::PermissionsExt;

use super::certificate::{issue, issue_with};
use super::*;
use crate::env::Random;

struct System;

impl Random for System {
    fn fill(&self, out: &mut [u8]) -> std::io::Result<()> {
        getrandom::fill(out).map_err(std::io::Error::other)
    }
}

fn identity() -> Identity {
    Identity::ephemeral(&System).unwrap()
}

#[test]
fn a_name_makes_another_mesh_of_the_same_key() {
    let key = MeshKey::from_bytes([1; 32]);
    let tag = |key: &MeshKey, name| Mesh::derive(key, name).unwrap().tag();
    assert_eq!(tag(&key, "shop"), tag(&key, "shop"));
    assert_ne!(tag(&key, "shop"), tag(&key, "shed"));
    assert_ne!(tag(&key, "shop"), tag(&MeshKey::from_bytes([2; 32]), "shop"));
}

#[test]
fn only_a_certificate_with_known_grants_makes_a_member() {
    let mesh = Mesh::derive(&MeshKey::from_bytes([1; 32]), "shop").unwrap();
    let identity = identity();
    let good = issue(&mesh, &identity).unwrap();
    let found = member(std::slice::from_ref(&good)).unwrap();
    assert_eq!(found.node, identity.id());
    let refused = |chain: &[_]| member(chain).unwrap_err().0;
    assert!(refused(&[]).contains("0 certificates"));
    assert!(refused(&[good.clone(), good.clone()]).contains("2 certificates"));
    assert!(refused(&[issue_with(&mesh, &identity, None).unwrap()]).contains("without grants"));
    assert!(refused(&[issue_with(&mesh, &identity, Some(&[2])).unwrap()]).contains("version"));
    assert!(refused(&[vec![1, 2, 3].into()]).contains("unreadable"));
    let other = rcgen::generate_simple_self_signed(vec!["meshmq".to_owned()]).unwrap();
    assert!(refused(&[other.cert.der().clone()]).contains("Ed25519"));
}

#[test]
fn a_kept_identity_comes_back_and_is_nobody_elses() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("identity");
    let first = Identity::kept(&path, &System).unwrap();
    let id = first.id();
    assert!(matches!(Identity::kept(&path, &System), Err(IdentityError::InUse { .. })));
    drop(first);
    assert_eq!(Identity::kept(&path, &System).unwrap().id(), id);
    fs::write(&path, "half").unwrap();
    assert!(matches!(Identity::kept(&path, &System), Err(IdentityError::Invalid { .. })));
    fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
    assert!(matches!(Identity::kept(&path, &System), Err(IdentityError::Open { .. })));
}
