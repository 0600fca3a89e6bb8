//! What the user sees when something is wrong. Each message names the thing and the remedy.

#![allow(clippy::unwrap_used)]

mod common;

use std::fs::{self, set_permissions};
use std::net::UdpSocket;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use common::{Ended, Process, User, run};

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
    refused(user.meshmq(&["pull", "jobs"]).env("MESHMQ_KEY_FILE", "absent.key"), 1, &["absent.key", "No such file"]);
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
    push.says("nobody.invalid");
    push.says("to do:");
}

#[test]
fn a_body_over_the_limit() {
    let user = User::new();
    let large = user.file("large", vec![b'x'; (16 << 20) + 1]);
    let file = large.to_str().unwrap();
    refused(&mut user.meshmq(&["push", "jobs", "--whole", file]), 1, &["large", "16 MiB"]);
    // A line before it is still delivered.
    let mut pull = Process::start(&mut user.meshmq(&["pull", "jobs"]));
    let small = user.file("small", "before\n");
    refused(&mut user.meshmq(&["push", "jobs", small.to_str().unwrap(), file]), 1, &["large", "message 1", "16 MiB"]);
    assert_eq!(pull.line(), "before");
}

#[test]
fn a_channel_that_is_no_name() {
    let user = User::new();
    for command in ["push", "pull"] {
        refused(&mut user.meshmq(&[command, &"x".repeat(256)]), 2, &["256 bytes", "at most 255"]);
        refused(&mut user.meshmq(&[command, "two\nlines"]), 2, &["control character '\\n' at byte 3"]);
        refused(&mut user.meshmq(&[command, ""]), 2, &["at least one byte"]);
    }
    let pulled = run(&mut user.meshmq(&["pull", &"x".repeat(255), "--timeout", "100ms"]), "");
    assert_eq!(pulled.code, Some(3), "255 bytes are a name: {}", pulled.stderr);
}

#[test]
fn a_runtime_folder_that_others_can_enter() {
    let user = User::new();
    let folder = user.runtime().join("meshmq");
    fs::create_dir(&folder).unwrap();
    set_permissions(&folder, PermissionsExt::from_mode(0o777)).unwrap();
    let mut pull = Process::start(&mut user.meshmq(&["pull", "jobs"]));
    pull.says("mode 777");
    pull.says("chmod 700");
}

#[test]
fn inputs_that_cannot_be() {
    let user = User::new();
    refused(&mut user.meshmq(&["push", "jobs", "absent"]), 1, &["absent", "No such file"]);
    refused(&mut user.meshmq(&["push", "jobs", "."]), 1, &["it is a folder"]);
    refused(&mut user.meshmq(&["push", "jobs", "--key-file", "-"]), 2, &["standard input cannot be both"]);
}
