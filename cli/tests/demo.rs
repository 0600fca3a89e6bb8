//! The demo, as a newcomer runs it, and as they interrupt it.

#![allow(clippy::unwrap_used)]

mod common;

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use common::{Process, User, run, wait_until_gone};
use rustix::process::Signal;

/// A folder with some text.
fn texts(user: &User) -> PathBuf {
    let folder = user.home().join("texts");
    fs::create_dir(&folder).unwrap();
    fs::write(folder.join("one.txt"), "The quick brown fox jumps over the lazy dog.\n".repeat(200)).unwrap();
    fs::write(folder.join("two.txt"), "Größe, Ärger und Übermut tun selten gut.\n".repeat(100)).unwrap();
    fs::write(folder.join("binary"), b"not \0 text").unwrap();
    folder
}

fn demo(user: &User) -> Process {
    let folder = texts(user);
    Process::start(&mut user.meshmq(&["demo", folder.to_str().unwrap()]))
}

/// The process ids that the demo names.
fn pids(text: &str) -> Vec<i32> {
    let numbers = text.split("pid ").skip(1);
    numbers.map(|rest| rest.split(|c: char| !c.is_ascii_digit()).next().unwrap().parse().unwrap()).collect()
}

fn nothing_is_left(user: &User, pids: &[i32]) {
    pids.iter().for_each(|pid| wait_until_gone(*pid));
    for folder in [user.runtime(), user.config()] {
        let left: Vec<_> = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        assert!(left.is_empty(), "{left:?}");
    }
}

#[test]
fn it_holds_and_leaves_nothing() {
    let user = User::new();
    let demo = demo(&user).end();
    assert_eq!(demo.code, Some(0), "{}\n{}", demo.stdout, demo.stderr);
    for words in ["2 text files", "is killed (SIGKILL, pid ", "has joined the mesh, node ", "attempt 2", "It holds: "] {
        assert!(demo.stdout.contains(words), "{words:?} is not in\n{}", demo.stdout);
    }
    assert!(!demo.stdout.contains('\x1b'), "no colours in a pipe");
    let pids = pids(&demo.stdout);
    assert!(pids.len() >= 5, "{pids:?}");
    nothing_is_left(&user, &pids);
}

#[test]
fn interrupted_it_leaves_nothing() {
    for signal in [Signal::INT, Signal::TERM] {
        let user = User::new();
        let mut demo = demo(&user);
        let mut seen = String::new();
        while !seen.contains("one mesh") {
            seen += &demo.line();
        }
        demo.signal(signal);
        let ended = demo.end();
        assert_eq!(ended.code, Some(130), "{}", ended.stderr);
        nothing_is_left(&user, &pids(&seen));
    }
}

#[test]
fn killed_it_leaves_no_process() {
    let user = User::new();
    let mut demo = demo(&user);
    let mut seen = String::new();
    while !seen.contains("one mesh") {
        seen += &demo.line();
    }
    demo.signal(Signal::KILL);
    assert_eq!(demo.end().code, None);
    nothing_is_left(&user, &pids(&seen));
}

#[test]
fn a_folder_without_text_is_an_error() {
    let user = User::new();
    for (folder, words) in
        [("config", "no text below config"), ("absent", "cannot read the folder absent: No such file")]
    {
        let ended = run(&mut user.meshmq(&["demo", folder]), "");
        assert_eq!((ended.code, &ended.stdout[..]), (Some(1), ""), "{}", ended.stderr);
        assert!(ended.stderr.contains(words), "{}", ended.stderr);
    }
    nothing_is_left(&user, &[]);
}

#[test]
fn little_text_is_enough() {
    let user = User::new();
    user.file("word", "word");
    let started = std::time::Instant::now();
    let ended = run(&mut user.meshmq(&["demo"]), "");
    assert_eq!(ended.code, Some(0), "{}\n{}", ended.stdout, ended.stderr);
    assert!(started.elapsed() < Duration::from_secs(20), "{:?}", started.elapsed());
}
