use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Barrier;

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
fn a_key_survives_its_text_form() {
    let key = MeshKey::generate().unwrap();
    let text = key.reveal();
    assert_eq!(text.len(), 68);
    assert_eq!(text.parse(), Ok(key.clone()));
    assert_eq!(format!("  {text}\n").parse(), Ok(key));
}

#[test]
fn a_mistyped_key_names_the_mistake() {
    let text = MeshKey::from_bytes([7; 32]).reveal();
    let parse = |text: &str| text.parse::<MeshKey>().unwrap_err();
    assert_eq!(parse("mehskey1abc"), InvalidMeshKey::Prefix);
    assert_eq!(parse(&text[..60]), InvalidMeshKey::Length { found: 60, expected: 68 });
    assert_eq!(
        parse(&text.replacen(&text[20..21], "0", 1)),
        InvalidMeshKey::Character { at: text.find(&text[20..21]).unwrap() + 1 }
    );
    for at in 8..text.len() {
        let other = if &text[at..=at] == "a" { "b" } else { "a" };
        let mistyped = format!("{}{other}{}", &text[..at], &text[at + 1..]);
        assert_eq!(parse(&mistyped), InvalidMeshKey::Checksum, "character {at}");
    }
}

#[test]
fn nothing_shows_a_key() {
    let key = MeshKey::from_bytes([7; 32]);
    let text = key.reveal();
    assert!(!format!("{key:?}").contains(&text[8..20]));
    assert!(!format!("{key:?}").contains('7'));
    let mistyped = format!("{}0", &text[..67]);
    let error = mistyped.parse::<MeshKey>().unwrap_err();
    assert!(!error.to_string().contains(&text[8..14]) && !format!("{error:?}").contains(&text[8..14]));
}

#[test]
fn a_key_file_is_made_once_and_is_private() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("deep/mesh.key");
    let (key, made) = MeshKey::load_or_create(&path).unwrap();
    assert!(made);
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(fs::metadata(path.parent().unwrap()).unwrap().permissions().mode() & 0o777, 0o700);
    let (again, made) = MeshKey::load_or_create(&path).unwrap();
    assert!(!made && again == key);
    assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1, "nothing else is left");
}

#[test]
fn twenty_that_start_at_once_get_one_key() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("mesh.key");
    let start = Barrier::new(20);
    let keys: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..20)
            .map(|_| {
                scope.spawn(|| {
                    start.wait();
                    MeshKey::load_or_create(&path).unwrap()
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert!(keys.iter().all(|(key, _)| *key == keys[0].0));
    assert_eq!(keys.iter().filter(|(_, made)| *made).count(), 1);
}

#[test]
fn a_key_file_that_others_can_read_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("mesh.key");
    MeshKey::load_or_create(&path).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    let error = MeshKey::load(&path).unwrap_err().to_string();
    assert!(error.contains("chmod 600") && error.contains("644"), "{error}");
}

#[test]
fn a_key_file_without_a_key_is_refused_and_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("mesh.key");
    fs::write(&path, "shopping list").unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    let error = MeshKey::load_or_create(&path).unwrap_err().to_string();
    assert!(error.contains("holds no mesh key"), "{error}");
    assert!(matches!(MeshKey::generate().unwrap().save(&path), Err(KeyError::Exists { .. })));
    assert_eq!(fs::read_to_string(&path).unwrap(), "shopping list");
}

#[test]
fn a_place_that_cannot_be_written_names_the_way_out() {
    let error = MeshKey::load_or_create(Path::new("/proc/nowhere/mesh.key")).unwrap_err().to_string();
    assert!(error.contains("MESHMQ_KEY_FILE"), "{error}");
}

/// A file system of 4 KiB without room for a file's content stands for a full disk. Where none can be mounted, the test
/// says so.
#[test]
fn a_full_disk_leaves_no_half_key() {
    let folder = tempfile::tempdir().unwrap();
    let script = format!(
        "mount -t tmpfs -o size=4k,mode=700 none {0} && dd if=/dev/zero of={0}/full bs=4096 count=1 2>/dev/null; exec \"$0\" --exact trust::tests::on_a_full_disk --include-ignored --nocapture",
        folder.path().display()
    );
    let run = std::process::Command::new("unshare")
        .args(["-rm", "sh", "-c", &script])
        .arg(std::env::current_exe().unwrap())
        .env("MESHMQ_TEST_FULL_DISK", folder.path())
        .output();
    match run {
        Ok(run) if String::from_utf8_lossy(&run.stdout).contains("the disk was full") => {}
        Ok(run) if String::from_utf8_lossy(&run.stderr).contains("mount:") => {
            eprintln!("skipped: nothing can be mounted here")
        }
        Ok(run) => panic!("{}{}", String::from_utf8_lossy(&run.stdout), String::from_utf8_lossy(&run.stderr)),
        Err(error) => eprintln!("skipped: {error}"),
    }
}

/// The inside of the test above, in a process of its own.
#[test]
fn on_a_full_disk() {
    let Some(folder) = std::env::var_os("MESHMQ_TEST_FULL_DISK") else { return };
    let path = Path::new(&folder).join("mesh.key");
    let error = MeshKey::load_or_create(&path).unwrap_err().to_string();
    assert!(error.contains("cannot make the key file") && error.contains("space"), "{error}");
    let left: Vec<_> = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["full"], "nothing is left of the attempt");
    println!("the disk was full");
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
