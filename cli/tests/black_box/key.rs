//! The mesh key: made once, shown when asked for, taken over from another machine.

use std::fs;
use std::os::unix::fs::MetadataExt;

use crate::common::{Process, User, run};

#[test]
fn a_key_goes_from_one_machine_to_another() {
    let (here, there) = (User::new(), User::new());
    let shown = run(&mut here.meshmq(&["key", "show"]), "");
    assert!(shown.stdout.starts_with("meshkey1") && shown.stdout.ends_with('\n'), "{}", shown.stdout);
    assert!(shown.stderr.contains("made this user's mesh key"), "{}", shown.stderr);
    assert_eq!(run(&mut here.meshmq(&["key", "show"]), "").stderr, "", "made once");

    let set = run(&mut there.meshmq(&["key", "set"]), &shown.stdout);
    assert_eq!((set.code, &set.stdout[..]), (Some(0), ""), "{}", set.stderr);
    assert_eq!(run(&mut there.meshmq(&["key", "show"]), "").stdout, shown.stdout);
    assert_eq!(run(&mut there.meshmq(&["key", "set"]), &shown.stdout).code, Some(0), "the same key is no change");

    let path = run(&mut there.meshmq(&["key", "path"]), "").stdout;
    let meta = fs::metadata(path.trim()).unwrap();
    assert_eq!(meta.mode() & 0o777, 0o600);
    assert!(path.starts_with(there.config().to_str().unwrap()), "{path}");
}

#[test]
fn a_key_is_never_replaced_by_accident() {
    let user = User::new();
    let new = run(&mut user.meshmq(&["key", "new"]), "");
    assert_eq!((new.code, &new.stdout[..]), (Some(0), ""), "{}", new.stderr);
    let shown = run(&mut user.meshmq(&["key", "show"]), "").stdout;
    let other = run(&mut User::new().meshmq(&["key", "show"]), "").stdout;
    for (args, input) in [(["key", "new"], ""), (["key", "set"], &other[..])] {
        let refused = run(&mut user.meshmq(&args), input);
        assert_eq!(refused.code, Some(1));
        assert!(refused.stderr.contains("exists") && refused.stderr.contains("move it away"), "{}", refused.stderr);
    }
    assert_eq!(run(&mut user.meshmq(&["key", "show"]), "").stdout, shown);
    let nonsense = run(&mut User::new().meshmq(&["key", "set"]), "nonsense\n");
    assert_eq!(nonsense.code, Some(1));
    assert!(nonsense.stderr.contains("standard input: not a mesh key"), "{}", nonsense.stderr);
}

#[test]
fn a_key_can_be_in_another_file() {
    let user = User::new();
    assert_eq!(run(&mut user.meshmq(&["key", "new", "--key-file", "team.key"]), "").code, Some(0));
    let path = run(user.meshmq(&["key", "path"]).env("MESHMQ_KEY_FILE", "team.key"), "");
    assert_eq!(path.stdout, "team.key\n");
    let key = run(user.meshmq(&["key", "show"]).env("MESHMQ_KEY_FILE", "team.key"), "").stdout;
    assert_ne!(run(&mut user.meshmq(&["key", "show"]), "").stdout, key, "the user's own is another one");

    // By file, by variable, on standard input: the same mesh.
    let mut push = Process::start(&mut user.meshmq(&["push", "jobs", "--key-file", "team.key"]));
    push.write("a\nb\n");
    push.close();
    let by_variable = run(user.meshmq(&["pull", "jobs", "-n", "1"]).env("MESHMQ_KEY", key.trim()), "");
    let by_input = run(&mut user.meshmq(&["pull", "jobs", "-n", "1", "--key-file", "-"]), &key);
    assert_eq!((by_variable.code, by_input.code), (Some(0), Some(0)), "{}", by_input.stderr);
    assert_eq!(push.end().code, Some(0));
}

#[test]
fn no_help_shows_a_key() {
    let user = User::new();
    let key = run(&mut user.meshmq(&["key", "show"]), "").stdout.trim().to_owned();
    let others = ["", "push", "pull", "ls", "demo", "completions", "man"];
    for command in others.into_iter().chain(["key", "key new", "key show", "key set", "key path"]) {
        for help in ["-h", "--help"] {
            let words: Vec<_> = command.split_whitespace().chain([help]).collect();
            let shown = run(user.meshmq(&words).env("MESHMQ_KEY", &key).env("MESHMQ_MESH", "mesh-of-mine"), "");
            assert_eq!(shown.code, Some(0), "{words:?}");
            let text = shown.stdout + &shown.stderr;
            assert!(text.contains("Usage") && !text.contains(&key), "{words:?}: {text}");
            // Nor what else is in a variable.
            assert!(!text.contains("mesh-of-mine"), "{words:?}: {text}");
        }
    }
}

#[test]
fn what_can_not_be_shown_is_an_error() {
    for command in ["show", "path"] {
        let user = User::new();
        let closed = run(&mut user.shell(&format!("$M key {command} >&-")), "");
        assert_eq!(closed.code, Some(1), "{}", closed.stderr);
        assert!(closed.stderr.contains("cannot print the"), "{}", closed.stderr);
        assert!(closed.stderr.contains("standard output is closed"), "{}", closed.stderr);
        assert!(!user.config().join("meshmq").exists(), "and no key is made for nobody");
        let full = run(&mut user.shell(&format!("$M key {command} >/dev/full")), "");
        assert_eq!(full.code, Some(1), "{}", full.stderr);
        assert!(full.stderr.contains("No space left"), "{}", full.stderr);
        let unread = run(&mut user.shell(&format!("$M key {command} >/dev/null")), "");
        assert_eq!(unread.code, Some(0), "{}", unread.stderr);
    }
}

#[test]
fn twenty_processes_that_start_at_once_share_one_key() {
    let user = User::new();
    let all: Vec<_> = (0..20).map(|_| Process::start(&mut user.meshmq(&["key", "show"]))).collect();
    let all: Vec<_> = all.into_iter().map(Process::end).collect();
    assert!(all.iter().all(|shown| shown.code == Some(0) && shown.stdout == all[0].stdout), "{all:?}");
    assert_eq!(all.iter().filter(|shown| shown.stderr.contains("made")).count(), 1);
    let left: Vec<_> =
        fs::read_dir(user.config().join("meshmq")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["mesh.key"], "no temporary file is left");
}

#[test]
fn eight_processes_that_start_at_once_are_one_mesh() {
    let user = User::new();
    let pulls: Vec<_> = (0..7).map(|_| Process::start(&mut user.meshmq(&["pull", "jobs", "-n", "1"]))).collect();
    let pushed = run(&mut user.meshmq(&["push", "jobs"]), &crate::common::seq(7));
    assert_eq!(pushed.code, Some(0), "{}", pushed.stderr);
    let lines: String = pulls.into_iter().map(|pull| pull.end().stdout).collect();
    assert_eq!(crate::common::sorted(&lines), (1..=7).collect::<Vec<_>>());
}
