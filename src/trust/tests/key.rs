//! The mesh key's text and its file.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Barrier;

use crate::env::Random;
use crate::trust::*;

/// Set for the inside of a test that runs in processes of its own.
const RACE: &str = "MESHMQ_TEST_KEY_RACE";
const FULL_DISK: &str = "MESHMQ_TEST_FULL_DISK";

/// One test of this file, in a process of its own.
fn this_test(name: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", &format!("{}::{name}", module_path!().split_once("::").unwrap().1), "--nocapture"]);
    command
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
    assert_eq!(format!("{key:?}"), "MeshKey(..)");
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
fn twenty_threads_that_start_at_once_get_one_key() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("new/mesh.key");
    let start = Barrier::new(20);
    let keys: Vec<_> = std::thread::scope(|scope| {
        let race = || {
            start.wait();
            MeshKey::load_or_create(&path).unwrap()
        };
        let threads: Vec<_> = (0..20).map(|_| scope.spawn(race)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert!(keys.iter().all(|(key, _)| *key == keys[0].0));
    assert_eq!(keys.iter().filter(|(_, made)| *made).count(), 1);
    assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1, "nothing else is left");
}

#[test]
fn twenty_processes_that_start_at_once_get_one_key() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("new/mesh.key");
    let mut racers: Vec<_> = (0..20)
        .map(|_| {
            this_test("one_of_twenty_processes")
                .env(RACE, &path)
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .spawn()
                .unwrap()
        })
        .collect();
    // Each is there and waits for its standard input to end.
    for racer in &mut racers {
        let said = BufReader::new(racer.stdout.as_mut().unwrap()).lines();
        assert!(said.map(Result::unwrap).any(|line| line.ends_with("ready")));
    }
    racers.iter_mut().for_each(|racer| drop(racer.stdin.take()));
    let said: Vec<_> = racers.into_iter().map(|racer| racer.wait_with_output().unwrap()).collect();
    assert!(said.iter().all(|said| said.status.success()));
    let said: Vec<_> = said.into_iter().map(|said| String::from_utf8(said.stdout).unwrap()).collect();
    let key = MeshKey::load(&path).unwrap().reveal();
    assert!(said.iter().all(|said| said.contains(&key)), "{said:?}");
    assert_eq!(said.iter().filter(|said| said.contains("made here")).count(), 1);
}

/// The inside of the test above.
#[test]
fn one_of_twenty_processes() {
    let Some(path) = std::env::var_os(RACE) else { return };
    println!("ready");
    std::io::stdin().read_to_end(&mut Vec::new()).unwrap();
    let (key, made) = MeshKey::load_or_create(Path::new(&path)).unwrap();
    println!("{}{}", key.reveal(), if made { " made here" } else { "" });
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
fn the_same_key_is_saved_again_and_what_stops_that_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("mesh.key");
    let key = MeshKey::generate().unwrap();
    key.save(&path).unwrap();
    key.save(&path).unwrap();
    assert!(matches!(MeshKey::generate().unwrap().save(&path), Err(KeyError::Exists { .. })));
    assert_eq!(MeshKey::load(&path).unwrap(), key);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
    assert!(matches!(key.save(&path), Err(KeyError::Open { mode: 0o640, .. })));
}

#[test]
fn a_place_that_cannot_be_used_names_the_way_out() {
    let file = tempfile::NamedTempFile::new().unwrap();
    for path in [Path::new("/proc/nowhere/mesh.key"), &file.path().join("mesh.key")] {
        let error = MeshKey::load_or_create(path).unwrap_err().to_string();
        assert!(error.contains("MESHMQ_KEY_FILE") && error.contains(path.to_str().unwrap()), "{error}");
    }
}

/// A file system of one page, which is taken, stands for a full disk. Where none can be mounted, the test says so, or fails
/// with `MESHMQ_REQUIRE_NETNS=1`.
#[test]
fn a_full_disk_leaves_no_half_key() {
    const FILL: &str = "mount -t tmpfs -o size=4k none \"$1\" && { echo taken > \"$1/full\"; shift; exec \"$@\"; }";
    let folder = tempfile::tempdir().unwrap();
    let inside = this_test("on_a_full_disk");
    let run = Command::new("unshare")
        .args(["-rm", "sh", "-c", FILL, "sh"])
        .arg(folder.path())
        .arg(inside.get_program())
        .args(inside.get_args())
        .env(FULL_DISK, folder.path())
        .output();
    let why = match run {
        Ok(run) => {
            let (said, wrong) = (String::from_utf8_lossy(&run.stdout), String::from_utf8_lossy(&run.stderr));
            if said.contains("the disk was full") {
                return;
            }
            assert!(wrong.contains("mount:") || wrong.contains("unshare:"), "{said}{wrong}");
            wrong.into_owned()
        }
        Err(error) => error.to_string(),
    };
    let required = std::env::var_os("MESHMQ_REQUIRE_NETNS").is_some_and(|value| value == "1");
    assert!(!required, "a_full_disk_leaves_no_half_key needs mounts of its own (MESHMQ_REQUIRE_NETNS=1): {why}");
    // Not by a macro, whose words are kept back where a test passes.
    let _ = writeln!(std::io::stderr(), "SKIPPED a_full_disk_leaves_no_half_key: no mounts of its own here: {why}");
}

/// The inside of the test above.
#[test]
fn on_a_full_disk() {
    let Some(folder) = std::env::var_os(FULL_DISK) else { return };
    let path = Path::new(&folder).join("mesh.key");
    let error = MeshKey::load_or_create(&path).unwrap_err().to_string();
    assert!(error.contains("cannot make the key file") && error.contains("space"), "{error}");
    let left: Vec<_> = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["full"], "nothing is left of the attempt");
    println!("the disk was full");
}

/// As in a world where the same happens again.
struct Sevens;

impl Random for Sevens {
    fn fill(&self, out: &mut [u8]) -> std::io::Result<()> {
        out.fill(7);
        Ok(())
    }
}

#[test]
fn a_key_is_made_of_the_randomness_that_it_is_given() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("mesh.key");
    let (key, made) = MeshKey::load_or_create_from(&path, &Sevens).unwrap();
    assert!(made && key == MeshKey::from_bytes([7; 32]));
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "nothing else is left");
}
