//! What the user sees when something is wrong. Each message names the thing and the remedy.

use std::fs::{self, set_permissions};
use std::net::UdpSocket;
use std::os::unix::fs::{PermissionsExt, chown};
use std::process::Command;

use crate::common::{Ended, Process, User, run, skip};

/// Ends with this code, prints nothing, and says all of this.
#[track_caller]
fn refused(command: &mut Command, code: i32, words: &[&str]) -> Ended {
    let ended = run(command, "job\n");
    assert_eq!((ended.code, &ended.stdout[..]), (Some(code), ""), "{}", ended.stderr);
    for word in words {
        assert!(ended.stderr.contains(word), "{word:?} is not in {:?}", ended.stderr);
    }
    ended
}

#[test]
fn a_malformed_key() {
    let user = User::new();
    let key = run(&mut user.meshmq(&["key", "show"]), "").stdout.trim().to_owned();
    let last = if key.ends_with('a') { 'b' } else { 'a' };
    let mistyped = format!("{}{last}", &key[..key.len() - 1]);
    for (bad, word) in [("secret", "begin with `meshkey1`"), (&key[..20], "20 characters"), (&mistyped, "mistyped")] {
        let ended = refused(user.meshmq(&["push", "jobs"]).env("MESHMQ_KEY", bad), 2, &["MESHMQ_KEY", word]);
        assert!(!ended.stderr.contains(bad), "nearly a secret: {}", ended.stderr);
        let file = user.file("team.key", bad);
        refused(&mut user.meshmq(&["push", "jobs", "--key-file", file.to_str().unwrap()]), 1, &["team.key", word]);
    }
}

#[test]
fn a_key_file_that_others_can_read() {
    let user = User::new();
    let file = user.file("open.key", run(&mut user.meshmq(&["key", "show"]), "").stdout);
    set_permissions(&file, PermissionsExt::from_mode(0o644)).unwrap();
    refused(user.meshmq(&["pull", "jobs"]).env("MESHMQ_KEY_FILE", &file), 1, &["open.key", "mode 644", "chmod 600"]);
    refused(
        user.meshmq(&["pull", "jobs"]).env("MESHMQ_KEY_FILE", "absent.key"),
        1,
        &["absent.key", "No such file", "meshmq key new --key-file absent.key"],
    );
}

#[test]
fn no_folder_for_the_key() {
    let user = User::new();
    let command = &mut user.meshmq(&["pull", "jobs"]);
    refused(command.env("XDG_CONFIG_HOME", "/proc/nowhere"), 1, &["/proc/nowhere", "MESHMQ_KEY_FILE"]);
    let command = &mut user.meshmq(&["pull", "jobs"]);
    refused(command.env_remove("XDG_CONFIG_HOME").env_remove("HOME"), 1, &["MESHMQ_KEY_FILE"]);
}

#[test]
fn an_unknown_flag() {
    let user = User::new();
    refused(&mut user.meshmq(&["push", "jobs", "--tiemout", "5s"]), 2, &["--tiemout", "--timeout"]);
    refused(&mut user.meshmq(&["psuh", "jobs"]), 2, &["psuh", "push"]);
    refused(&mut user.meshmq(&["pull", "jobs", "-n", "0"]), 2, &["--count", "'0'"]);
}

#[test]
fn a_port_in_use() {
    let user = User::new();
    let other = UdpSocket::bind("127.0.0.1:0").unwrap();
    let taken = other.local_addr().unwrap().to_string();
    refused(&mut user.meshmq(&["pull", "jobs", "--listen", &taken]), 1, &[&taken, "in use"]);
    refused(&mut user.meshmq(&["pull", "jobs", "--listen", "here"]), 2, &["--listen", "here"]);
}

#[test]
fn a_peer_that_is_no_address() {
    let user = User::new();
    refused(&mut user.meshmq(&["pull", "jobs", "--peer", "build-1"]), 2, &["build-1", "port is missing"]);
}

#[test]
fn a_peer_whose_name_is_unknown() {
    let user = User::new();
    let mut push = Process::start(&mut user.meshmq(&["push", "jobs", "--peer", "nobody.invalid:7400"]));
    push.write("job\n");
    push.says("nobody.invalid:7400 cannot be looked up");
    push.says("check the name, or write an IP address");
    push.says("to do:");
    // Others are found all the same.
    let mut pull = Process::start(&mut user.meshmq(&["pull", "jobs"]));
    assert_eq!(pull.line(), "job");
}

#[test]
fn a_body_over_the_limit() {
    let user = User::new();
    let large = user.file("large", vec![b'x'; (16 << 20) + 1]);
    let file = large.to_str().unwrap();
    refused(&mut user.meshmq(&["push", "jobs", "--whole", file]), 1, &["large", "16 MiB"]);
    let line = "x".repeat((16 << 20) + 1);
    let ended = run(&mut user.meshmq(&["push", "jobs"]), &line);
    assert_eq!(ended.code, Some(1));
    assert!(ended.stderr.contains("standard input: message 1 is longer than 16 MiB"), "{}", ended.stderr);
    // A line before it is still delivered.
    let mut pull = Process::start(&mut user.meshmq(&["pull", "jobs"]));
    let small = user.file("small", "before\n");
    refused(&mut user.meshmq(&["push", "jobs", small.to_str().unwrap(), file]), 1, &["large", "message 1", "16 MiB"]);
    assert_eq!(pull.line(), "before");
}

#[test]
fn a_mesh_that_is_no_name() {
    let user = User::new();
    let words = "the name of a mesh has 1 to 255 bytes and no control characters";
    for mesh in ["", "two\nlines", &"x".repeat(256)] {
        refused(&mut user.meshmq(&["pull", "jobs", "--mesh", mesh]), 2, &[words]);
        refused(user.meshmq(&["pull", "jobs"]).env("MESHMQ_MESH", mesh), 2, &[words]);
    }
}

#[test]
fn a_channel_that_is_no_name() {
    let user = User::new();
    for command in ["push", "pull"] {
        refused(&mut user.meshmq(&[command, &"x".repeat(256)]), 2, &["256 bytes", "at most 255", "shorten it"]);
        refused(&mut user.meshmq(&[command, "two\nlines"]), 2, &["control character '\\n' at byte 3", "leave it out"]);
        refused(&mut user.meshmq(&[command, ""]), 2, &["at least one byte", "for instance `jobs`"]);
        // Said before anything else is looked at.
        refused(&mut user.meshmq(&[command, "", "--key-file", "absent"]), 2, &["at least one byte"]);
    }
    refused(&mut user.meshmq(&["push", "", "absent"]), 2, &["at least one byte"]);
    assert_eq!(fs::read_dir(user.config()).unwrap().count(), 0, "no key was made");
    let pulled = run(&mut user.meshmq(&["pull", &"x".repeat(255), "--timeout", "100ms"]), "");
    assert_eq!(pulled.code, Some(3), "255 bytes are a name: {}", pulled.stderr);
}

#[test]
fn a_runtime_folder_that_others_can_enter() {
    let user = User::new();
    let folder = user.runtime().join("meshmq");
    fs::create_dir(&folder).unwrap();
    set_permissions(&folder, PermissionsExt::from_mode(0o777)).unwrap();
    let ended =
        refused(&mut user.meshmq(&["push", "jobs", "--timeout", "1s"]), 3, &["mode 777", "chmod 700", "no puller"]);
    assert!(ended.stderr.contains(folder.to_str().unwrap()), "{}", ended.stderr);
    // Others may look into the folder above it, as on some systems; nobody else can put anything there.
    set_permissions(&folder, PermissionsExt::from_mode(0o700)).unwrap();
    set_permissions(user.runtime(), PermissionsExt::from_mode(0o755)).unwrap();
    let mut pull = Process::start(&mut user.meshmq(&["pull", "jobs"]));
    assert_eq!(run(&mut user.meshmq(&["push", "jobs"]), "job\n").code, Some(0));
    assert_eq!(pull.line(), "job");
}

#[test]
fn a_runtime_folder_of_another_user() {
    if !rustix::process::geteuid().is_root() {
        return skip("a_runtime_folder_of_another_user", "only root can make a folder another user's");
    }
    let user = User::new();
    let folder = user.runtime().join("meshmq");
    fs::create_dir(&folder).unwrap();
    chown(&folder, Some(1), None).unwrap();
    refused(
        &mut user.meshmq(&["push", "jobs", "--timeout", "1s"]),
        3,
        &["belongs to user 1; remove it", "XDG_RUNTIME_DIR"],
    );
    fs::remove_dir(&folder).unwrap();

    // As after `su`: the other user's folder is left alone.
    chown(user.runtime(), Some(1), None).unwrap();
    // The program itself may lie in the folder that is put out of sight.
    let both = "
        : >\"$HOME/m\" && mount --bind \"$M\" \"$HOME/m\" && mount --rbind \"$HOME\" /mnt &&
            mount -t tmpfs none /tmp && cd /mnt || exit 99
        export M=/mnt/m HOME=/mnt XDG_CONFIG_HOME=/mnt/config XDG_RUNTIME_DIR=/mnt/runtime
        $M pull jobs -n 1 & echo job | $M push jobs && wait && stat -c '%n %a' /tmp/meshmq-0";
    let ended = run(&mut user.unshared(both), "");
    if ended.code == Some(99) || ended.stderr.contains("unshare:") {
        return skip("a_runtime_folder_of_another_user", &format!("nothing can be mounted: {}", ended.stderr));
    }
    assert_eq!((ended.code, &ended.stdout[..]), (Some(0), "job\n/tmp/meshmq-0 700\n"), "{}", ended.stderr);
    assert_eq!(fs::read_dir(user.runtime()).unwrap().count(), 0);
}

#[test]
fn a_full_disk_when_the_key_is_made() {
    let user = User::new();
    let full = "
        mount -t tmpfs -o size=4k none \"$XDG_CONFIG_HOME\" && echo taken > \"$XDG_CONFIG_HOME/full\" || exit 99
        $M push jobs; echo code $? >&2; ls -AR \"$XDG_CONFIG_HOME\"";
    let ended = run(&mut user.unshared(full), "job\n");
    if ended.code == Some(99) || ended.stderr.contains("unshare:") {
        return skip("a_full_disk_when_the_key_is_made", &format!("nothing can be mounted: {}", ended.stderr));
    }
    for word in ["cannot make the key file", "mesh.key", "No space left on device", "MESHMQ_KEY_FILE", "code 1"] {
        assert!(ended.stderr.contains(word), "{word:?} is not in {:?}", ended.stderr);
    }
    assert!(!ended.stdout.contains("mesh.key"), "nothing is left of the attempt: {}", ended.stdout);
}

#[test]
fn a_peer_of_another_mesh() {
    let (here, stranger) = (User::new(), User::new());
    let mut pull = Process::start(&mut here.meshmq(&["pull", "jobs", "--listen", "127.0.0.1:0", "-v"]));
    pull.says("127.0.0.1:");
    let address = pull.stderr_word("127.0.0.1:");
    let port = address.rsplit(':').next().unwrap();
    let why = ["refused: no link with 127.0.0.1:", "another mesh", "the same key", "--mesh"];
    refused(&mut stranger.meshmq(&["push", "jobs", "--timeout", "2s", "-q", "--peer", &address]), 4, &why);
    refused(&mut stranger.meshmq(&["pull", "jobs", "--timeout", "2s", "-q", "--peer", &address]), 4, &why);
    let named = format!("localhost:{port}");
    refused(&mut stranger.meshmq(&["pull", "jobs", "--timeout", "2s", "--exec", "cat", "--peer", &named]), 4, &why);
    // Another one has said nothing, and may still come.
    let both = ["push", "jobs", "--timeout", "2s", "--peer", &address, "--peer", "127.0.0.1:9"];
    refused(&mut stranger.meshmq(&both), 3, &["no link with 127.0.0.1:", "another mesh", "no puller"]);
}

#[test]
fn inputs_that_cannot_be() {
    let user = User::new();
    refused(&mut user.meshmq(&["push", "jobs", "absent"]), 1, &["absent", "No such file"]);
    refused(&mut user.meshmq(&["push", "jobs", "."]), 1, &["it is a folder"]);
    refused(&mut user.meshmq(&["push", "jobs", "--key-file", "-"]), 2, &["standard input cannot be both"]);
}
