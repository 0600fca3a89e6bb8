//! The demo, as a newcomer runs it, and as they interrupt it.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::common::terminal::{Terminal, plain};
use crate::common::{Process, User, run, wait_until_gone};
use rustix::process::{Signal, geteuid};

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

/// Those in the table that is left on the terminal.
fn pids_in_table(text: &str) -> Vec<i32> {
    let rows = text.lines().filter(|line| !line.starts_with(' ')).map(|line| line.split_whitespace());
    let pids = rows.filter_map(|mut row| row.nth(2)?.parse().ok());
    pids.collect()
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
    for words in [
        "2 text files",
        "is killed (SIGKILL, pid ",
        "has joined the mesh, node ",
        "attempt 2",
        "3 workers: 3 of them know the last count of each",
        "It holds: ",
    ] {
        assert!(demo.stdout.contains(words), "{words:?} is not in\n{}", demo.stdout);
    }
    assert!(!demo.stdout.contains('\x1b'), "no colours in a pipe");
    let pids = pids(&demo.stdout);
    assert!(pids.len() >= 5, "{pids:?}");
    nothing_is_left(&user, &pids);
}

#[test]
fn on_a_terminal_it_is_a_live_table_that_stays() {
    let user = User::new();
    let folder = texts(&user);
    let mut terminal = Terminal::start(&user.meshmq(&["demo", folder.to_str().unwrap()]), (24, 100));
    terminal.shows(|shown| shown.contains("attempt 2"));
    let (code, shown) = terminal.end();
    let left = left(&shown);
    let frames: Vec<_> = shown[..shown.len() - left.len()].split("\x1b[H").skip(1).collect();
    assert!(frames.len() > 10, "{} pictures:\n{shown}", frames.len());
    assert!(frames.iter().all(|frame| frame.matches("\r\n").count() < 24), "{shown}");
    for words in ["starting", "working", "killed"] {
        assert!(frames.iter().any(|frame| frame.contains(words)), "no {words} in\n{shown}");
    }
    for words in ["WORKER", "killed", "finished", "(SIGKILL, pid ", "attempt 2", "█", "It holds: "] {
        assert!(left.contains(words), "{words:?} is not in\n{left}");
    }
    assert!(!left.contains('░'), "all pieces are counted: {left}");
    assert!(left.contains("\x1b[31m"), "the killed one is in red: {left:?}");
    assert_eq!(code, Some(0));
    let pids = pids_in_table(&plain(left));
    assert_eq!(pids.len(), 4, "{left}");
    nothing_is_left(&user, &pids);
}

#[test]
fn interrupted_on_a_terminal_it_leaves_it_as_it_was() {
    let user = User::new();
    let folder = texts(&user);
    let mut demo = user.meshmq(&["demo", folder.to_str().unwrap()]);
    let mut terminal = Terminal::start(demo.env("NO_COLOR", "1"), (24, 100));
    terminal.shows(|shown| shown.contains("working"));
    let narrow = terminal.shown.len();
    terminal.resize((12, 44));
    let fits = |frame: &str| frame.contains("IN HAND") && !frame.contains("NODE") && frame.matches("\r\n").count() < 12;
    terminal.shows(|shown| shown[narrow..].split("\x1b[H").skip(1).any(fits));
    terminal.resize((24, 100));
    let wide = terminal.shown.len();
    terminal.shows(|shown| shown[wide..].split("\x1b[H").skip(1).any(|frame| frame.contains("NODE")));
    terminal.press("\x03");
    let (code, shown) = terminal.end();
    assert_eq!(code, Some(130), "{shown}");
    assert!(!shown.contains("\x1b[0m") && !shown.contains("\x1b[1m"), "no colours: {shown:?}");
    let left = left(&shown);
    assert!(left.contains("WORKER") && !left.contains('\x1b') && !left.contains("It holds"), "{left:?}");
    let pids = pids_in_table(left);
    assert!(pids.len() >= 3, "{left}");
    nothing_is_left(&user, &pids);
}

/// What stands on the first screen after the picture. The cursor is there again, and long lines wrap.
fn left(shown: &str) -> &str {
    let (picture, left) = shown.rsplit_once("\x1b[?1049l").unwrap_or_else(|| panic!("no second screen: {shown:?}"));
    for (hidden, there) in [("\x1b[?25l", "\x1b[?25h"), ("\x1b[?7l", "\x1b[?7h")] {
        assert!(picture.rfind(hidden).unwrap() < picture.rfind(there).unwrap(), "{picture:?}");
        assert!(!left.contains(hidden), "{left:?}");
    }
    left
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

/// A command line of the shell, run by somebody to whom files can be closed: root gives that right up.
fn unprivileged(user: &User, line: &str) -> Command {
    let caps = "-dac_override,-dac_read_search";
    let as_root = format!("exec setpriv --inh-caps={caps} --bounding-set={caps} {line}");
    user.shell(if geteuid().is_root() { &as_root } else { line })
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

#[test]
fn what_can_not_be_read_is_said() {
    let user = User::new();
    let folder = user.home().join("folder");
    fs::create_dir_all(folder.join("below")).unwrap();
    let files = [folder.join("one"), folder.join("below/two")];
    files.iter().for_each(|file| fs::write(file, "some words").unwrap());
    let demo = || run(&mut unprivileged(&user, "$M demo folder"), "");
    let refused = |words: &str| {
        let ended = demo();
        assert_eq!((ended.code, &ended.stdout[..]), (Some(1), ""), "{}", ended.stderr);
        assert!(ended.stderr.contains(words), "{words:?} is not in {}", ended.stderr);
    };
    // Nothing of it can be read: two files, then a file and a folder.
    files.iter().for_each(|file| set_mode(file, 0));
    refused("no text below folder (2 paths could not be read): name a folder with text files");
    set_mode(&folder.join("below"), 0);
    refused("no text below folder (2 paths could not be read)");
    // Its names can be read and no more, and then not even they.
    set_mode(&folder, 0o400);
    refused("no text below folder (2 paths could not be read)");
    set_mode(&folder, 0);
    refused("cannot read the folder folder: Permission denied");
    // Some of it can.
    set_mode(&folder, 0o700);
    set_mode(&files[0], 0o600);
    let ended = demo();
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert!(ended.stdout.contains("1 path could not be read"), "{}", ended.stdout);
    set_mode(&folder.join("below"), 0o700);
}

#[test]
fn its_key_is_in_no_argument_and_no_variable() {
    let user = User::new();
    let mut demo = demo(&user);
    let mut seen = String::new();
    while !seen.contains("one mesh") {
        seen += &demo.line();
    }
    for pid in pids(&seen) {
        for (file, holds) in [("cmdline", "demo"), ("environ", "HOME=")] {
            let shown = fs::read(format!("/proc/{pid}/{file}")).unwrap();
            let shown = String::from_utf8_lossy(&shown);
            assert!(shown.contains(holds), "{pid} still runs: {shown}");
            assert!(!shown.contains("meshkey1"), "{file} of {pid}: {shown}");
        }
    }
    demo.signal(Signal::INT);
    assert_eq!(demo.end().code, Some(130));
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

#[test]
fn the_documentation_is_counted_in_time() {
    let user = User::new();
    let docs = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs");
    let started = std::time::Instant::now();
    let ended = run(&mut user.meshmq(&["demo", docs]), "");
    let took = started.elapsed();
    assert_eq!(ended.code, Some(0), "{}\n{}", ended.stdout, ended.stderr);
    assert!(ended.stdout.contains("It holds: "), "{}", ended.stdout);
    assert!(took < Duration::from_secs(20), "{took:?}");
    nothing_is_left(&user, &pids(&ended.stdout));
}
