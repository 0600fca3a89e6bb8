//! `meshmq ls`: the mesh in a picture, from any place in it.

use crate::common::terminal::Terminal;
use crate::common::{Process, User, run};
use rustix::process::Signal;
use serde_json::Value;

/// A pusher with three lines that nobody takes, and a puller that has nothing to do; both are seen by the other.
fn mesh(user: &User) -> (Process, Process) {
    let puller = Process::start(&mut user.meshmq(&["pull", "idle", "--name", "puller"]));
    let mut pusher = Process::start(&mut user.meshmq(&["push", "jobs", "--name", "pusher", "-v"]));
    pusher.write("one\ntwo\nthree\n");
    pusher.says("node puller (");
    (pusher, puller)
}

fn picture(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

fn node<'a>(picture: &'a Value, name: &str) -> &'a Value {
    let nodes = picture["nodes"].as_array().unwrap();
    nodes.iter().find(|node| node["name"] == name).unwrap_or_else(|| panic!("no {name} in {picture}"))
}

#[test]
fn the_whole_mesh_is_shown() {
    let user = User::new();
    let (_pusher, _puller) = mesh(&user);
    let ended = run(&mut user.meshmq(&["ls", "--json"]), "");
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    let shown = picture(&ended.stdout);
    assert_eq!(shown["nodes"].as_array().unwrap().len(), 2, "it is itself not in the picture: {shown}");
    let (pusher, puller) = (node(&shown, "pusher"), node(&shown, "puller"));
    assert_eq!(pusher["found"][0], "local");
    let links = pusher["status"]["links"].as_array().unwrap();
    assert_eq!((links.len(), &links[0]["node"]), (1, &puller["id"]));
    let push = &pusher["status"]["sockets"][0];
    assert_eq!((&push["kind"], &push["channel"], &push["queued"]), (&"push".into(), &"jobs".into(), &3.into()));
    assert_eq!((&push["peers"], &push["bytes"], &push["bound_messages"]), (&0.into(), &11.into(), &100_000.into()));
    assert!(push["oldest_s"].as_f64().unwrap() < crate::common::PATIENCE.as_secs_f64());
    assert_eq!(push["rates"]["handled_per_s"], 0.0);
    assert_eq!(puller["status"]["sockets"][0]["channel"], "idle");

    let ended = run(&mut user.meshmq(&["ls"]), "");
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    let lines: Vec<Vec<&str>> = ended.stdout.lines().map(|line| line.split_whitespace().collect()).collect();
    let row = |first: &str, more: &[&str]| {
        let found = lines.iter().find(|row| row.first() == Some(&first) && more.iter().all(|word| row.contains(word)));
        assert!(found.is_some(), "no row {first} with {more:?} in\n{}", ended.stdout);
    };
    row("mesh", &["default:", "2", "nodes,", "1", "link,", "channels"]);
    row("jobs", &["push", "pusher", "3"]);
    row("idle", &["pull", "puller"]);
    row("puller", &["pusher", "ms"]);
    assert!(!ended.stdout.contains("REJECTED"), "nothing was:\n{}", ended.stdout);
    assert!(!ended.stdout.contains("meshmq ls"), "{}", ended.stdout);
    assert!(ended.stdout.lines().all(|line| line == line.trim_end()));
}

#[test]
fn sockets_of_every_kind_are_shown() {
    let user = User::new();
    let mut processes = [
        (&["push", "jobs"][..], "node "),
        (&["pull", "jobs"], "node "),
        (&["pub", "news", "--wait-subscribers", "1"], "node "),
        (&["sub", "news"], "subscribed to "),
        (&["rep", "upper", "--exec", "exec tail -f /dev/null"], "answers on channel "),
        (&["req", "upper", "hello", "--timeout", "5m"], "node "),
    ]
    .map(|(args, words)| {
        let mut process = Process::start(user.meshmq(args).arg("-v"));
        process.says(words);
        process
    });
    processes[5].says("waiting for an answer on channel \"upper\"");
    let ended = run(&mut user.meshmq(&["ls"]), "");
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    let (_, table) = ended.stdout.split_once("\nCHANNEL").unwrap();
    let rows = table.split("\n\n").next().unwrap().lines().skip(1);
    // A channel is named in its first row alone.
    let words: Vec<Vec<&str>> = rows.map(|row| row.split_whitespace().take(2).collect()).collect();
    for expected in [["jobs", "push"], ["news", "publisher"], ["upper", "requester"]] {
        assert!(words.iter().any(|row| row[..] == expected), "{expected:?}: {}", ended.stdout);
    }
    for kind in ["pull", "subscriber", "replier"] {
        assert!(words.iter().any(|row| row[0] == kind), "{kind}: {}", ended.stdout);
    }
    assert!(!ended.stdout.contains("TYPE"), "none says one: {}", ended.stdout);
}

#[test]
fn who_does_not_answer_is_shown_as_such() {
    let user = User::new();
    let (_pusher, puller) = mesh(&user);
    puller.stop();
    let mut looking = user.meshmq(&["ls", "--json", "--timeout", "500ms"]);
    // Its kernel takes what comes, but nobody answers: it is known from the pusher alone.
    let ended = run(&mut looking, "");
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    let shown = picture(&ended.stdout);
    assert_eq!(node(&shown, "puller")["status"], Value::Null);
    assert_eq!(node(&shown, "puller")["no_status"], "not_linked");
    assert_eq!(node(&shown, "pusher")["status"]["sockets"][0]["queued"], 3);
}

#[test]
fn who_is_alone_is_told_what_was_tried() {
    let user = User::new();
    for args in [&["ls"][..], &["ls", "--json"]] {
        let ended = run(&mut user.meshmq(args), "");
        assert_eq!((ended.code, &ended.stdout[..]), (Some(3), ""), "{}", ended.stderr);
        for part in ["mesh `default`: nobody found yet", "local: ", "to do: start another node"] {
            assert!(ended.stderr.contains(part), "{}", ended.stderr);
        }
    }
}

#[test]
fn a_stranger_is_told_that_it_was_refused() {
    let (here, stranger) = (User::new(), User::new());
    let mut puller = Process::start(&mut here.meshmq(&["pull", "jobs", "--listen", "127.0.0.1:0", "-v"]));
    puller.says("127.0.0.1:");
    let address = puller.stderr_word("127.0.0.1:");
    let ended = run(&mut stranger.meshmq(&["ls", "--peer", &address]), "");
    assert_eq!((ended.code, &ended.stdout[..]), (Some(4), ""), "{}", ended.stderr);
    assert!(ended.stderr.contains("refused: no link with 127.0.0.1:"), "{}", ended.stderr);
}

#[test]
fn watching_goes_on_until_it_is_interrupted() {
    let user = User::new();
    let mut watching = Process::start(&mut user.meshmq(&["ls", "--watch", "--json"]));
    assert_eq!(picture(&watching.line())["nodes"].as_array().map(Vec::len), Some(0), "nobody yet, and it goes on");
    let (mut pusher, _puller) = mesh(&user);
    let mut shown = picture(&watching.line());
    while shown["nodes"].as_array().unwrap().len() < 2 || node(&shown, "pusher")["status"].is_null() {
        shown = picture(&watching.line());
    }
    pusher.write("four\nfive\n");
    let queued = |shown: &Value| node(shown, "pusher")["status"]["sockets"][0]["queued"].as_u64();
    while queued(&shown) != Some(5) {
        shown = picture(&watching.line());
    }
    assert!(node(&shown, "pusher")["status"]["sockets"][0]["rates"]["taken_in_per_s"].as_f64().unwrap() > 0.0);
    watching.signal(Signal::INT);
    assert_eq!(watching.end().code, Some(130));

    let mut watching = Process::start(&mut user.meshmq(&["ls", "-w"]));
    for _ in 0..2 {
        watching.shows("mesh default: 2 nodes");
        let row = watching.shows("pusher");
        assert!(!row.contains('\x1b'), "no terminal: {row:?}");
    }
}

#[test]
fn on_a_terminal_the_picture_is_live_and_leaves_nothing_behind() {
    let user = User::new();
    let (_pusher, _puller) = mesh(&user);
    let mut terminal = Terminal::start(&user.meshmq(&["ls", "--watch"]), (24, 100));
    terminal.shows(|shown| shown.matches("\x1b[H").count() > 1 && shown.contains("pusher"));
    assert!(terminal.shown.starts_with("\x1b[?1049h"), "{:?}", terminal.shown);
    terminal.press("\x03");
    let (code, shown) = terminal.end();
    assert_eq!(code, Some(130));
    assert!(shown.rfind("\x1b[?25l") < shown.rfind("\x1b[?25h"), "the cursor is back: {shown:?}");
    assert_eq!(shown.rsplit("\x1b[?1049l").next(), Some(""), "{shown:?}");
}

#[test]
fn a_reader_that_has_seen_enough_is_no_failure() {
    let user = User::new();
    let (_pusher, _puller) = mesh(&user);
    let ended = run(&mut user.shell("$M ls --watch | head -n 1; echo ${PIPESTATUS:-}"), "");
    assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""));
    assert!(ended.stdout.starts_with("mesh default"), "{}", ended.stdout);
}
