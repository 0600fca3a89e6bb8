//! Messages between real processes: push and pull as people use them.

use std::collections::BTreeSet;
use std::process::Command;

use crate::common::{Process, User, run, seq, sorted};
use rustix::process::Signal;

fn all(last: u32) -> Vec<u32> {
    (1..=last).collect()
}

#[test]
fn lines_arrive() {
    let user = User::new();
    let mut pull = Process::start(&mut user.meshmq(&["pull", "jobs", "-n", "1000", "-v"]));
    pull.says("node ");
    let pushed = run(&mut user.meshmq(&["push", "jobs"]), &seq(1000));
    assert_eq!(pushed.code, Some(0), "{}", pushed.stderr);
    let pulled = pull.end();
    assert_eq!((pulled.code, sorted(&pulled.stdout)), (Some(0), all(1000)), "{}", pulled.stderr);
}

#[test]
fn lines_arrive_when_the_pusher_was_first() {
    let user = User::new();
    let mut push = Process::start(&mut user.meshmq(&["push", "jobs", "-v"]));
    push.says("node ");
    push.write(seq(1000));
    push.close();
    let pulled = run(&mut user.meshmq(&["pull", "jobs", "-n", "1000"]), "");
    assert_eq!((pulled.code, sorted(&pulled.stdout)), (Some(0), all(1000)), "{}", pulled.stderr);
    assert_eq!(push.end().code, Some(0));
}

#[test]
fn a_line_is_sent_when_it_is_read() {
    let user = User::new();
    let mut pull = Process::start(&mut user.meshmq(&["pull", "chat"]));
    let mut push = Process::start(&mut user.meshmq(&["push", "chat"]));
    for line in ["one", "", "three"] {
        push.write(format!("{line}\n"));
        assert_eq!(pull.line(), line);
    }
    // The last one has no line break.
    push.write("four");
    push.close();
    assert_eq!(pull.line(), "four");
    assert_eq!(push.end().code, Some(0));
}

#[test]
fn a_killed_puller_loses_no_line() {
    const LINES: u32 = 20_000;
    let user = User::new();
    let mut first = Process::start(&mut user.meshmq(&["pull", "jobs"]));
    let mut push = Process::start(&mut user.meshmq(&["push", "jobs"]));
    let lines = seq(LINES);
    let (head, tail) = lines.split_at(lines.len() / 2);
    push.write(head);
    let line = first.line();
    let mut others = [(); 2].map(|()| Process::start(&mut user.meshmq(&["pull", "jobs", "-v"])));
    others.iter_mut().for_each(|pull| pull.says("is here"));
    // Stopped, it takes in what it will never print.
    first.signal(Signal::STOP);
    push.write(tail);
    first.signal(Signal::KILL);
    push.close();
    let pushed = push.end();
    assert_eq!(pushed.code, Some(0), "{}", pushed.stderr);
    let mut seen = BTreeSet::from([line.parse::<u32>().unwrap()]);
    for pull in others {
        pull.signal(Signal::TERM);
        let pulled = pull.end();
        assert_eq!(pulled.code, Some(130), "{}", pulled.stderr);
        seen.extend(sorted(&pulled.stdout));
    }
    // It may have been killed in the middle of a line, which then is with another one.
    let killed = first.end();
    assert_eq!(killed.code, None);
    let whole = killed.stdout.rfind('\n').map_or("", |end| &killed.stdout[..end]);
    seen.extend(sorted(whole));
    assert_eq!(seen.into_iter().collect::<Vec<_>>(), all(LINES));
}

#[test]
fn exec_answers_by_exit_code() {
    let user = User::new();
    let mut push = Process::start(&mut user.meshmq(&["push", "jobs"]));
    push.write("a\nb\n");
    push.close();
    let command = r#"test "$MESHMQ_ATTEMPT" = 2 && cat && echo " on $MESHMQ_CHANNEL""#;
    let pulled = run(&mut user.meshmq(&["pull", "jobs", "-n", "2", "--exec", command]), "");
    let mut lines: Vec<_> = pulled.stdout.lines().collect();
    lines.sort_unstable();
    assert_eq!((pulled.code, lines), (Some(0), vec!["a on jobs", "b on jobs"]), "{}", pulled.stderr);
    assert_eq!(pulled.stderr.matches("goes back after attempt 1: exit status: 1").count(), 2, "{}", pulled.stderr);
    assert_eq!(push.end().code, Some(0));
}

#[test]
fn headers_are_variables_of_the_command() {
    let user = User::new();
    let args = ["push", "jobs", "--header", "kind=re=size", "--header", "x-y=$(echo no)", "--header", "kind=other"];
    let mut push = Process::start(&mut user.meshmq(&args));
    push.write("a\n");
    push.close();
    let command = r#"test "$MESHMQ_ATTEMPT" = 2 && echo "$(cat) $MESHMQ_HEADER_KIND $MESHMQ_HEADER_X_Y""#;
    let pulled = run(&mut user.meshmq(&["pull", "jobs", "-n", "1", "--exec", command]), "");
    assert_eq!((pulled.code, &pulled.stdout[..]), (Some(0), "a re=size $(echo no)\n"), "{}", pulled.stderr);
    assert_eq!(push.end().code, Some(0));

    let mut push = Process::start(&mut user.meshmq(&args));
    push.write("a\n");
    push.close();
    let pulled = run(&mut user.meshmq(&["pull", "jobs", "-n", "1", "--json"]), "");
    let headers = r#""headers":[["kind","re=size"],["x-y","$(echo no)"],["kind","other"]],"body":"a""#;
    assert!(pulled.stdout.contains(headers), "{}", pulled.stdout);
    assert_eq!(push.end().code, Some(0));

    for (bad, why) in [
        ("kind", "expected NAME=VALUE"),
        ("=resize", "it has no name"),
        ("kind=a\nb", "it has the control character '\\n'"),
        ("traceparent=00-1-2-3", "not a traceparent"),
    ] {
        let refused = run(&mut user.meshmq(&["push", "jobs", "--header", bad]), "");
        assert!(refused.code == Some(2) && refused.stderr.contains(why), "{bad:?}: {}", refused.stderr);
    }
}

#[test]
fn several_commands_run_at_a_time() {
    let user = User::new();
    assert!(user.shell("mkfifo meeting").status().unwrap().success());
    let mut push = Process::start(&mut user.meshmq(&["push", "jobs"]));
    push.write("read\nwrite\n");
    push.close();
    // Each waits for the other one.
    let command = r#"case "$(cat)" in read) cat meeting;; write) echo met > meeting;; esac"#;
    let pulled = run(&mut user.meshmq(&["pull", "jobs", "-n", "2", "--jobs", "2", "--exec", command]), "");
    assert_eq!((pulled.code, &pulled.stdout[..]), (Some(0), "met\n"), "{}", pulled.stderr);
    assert_eq!(push.end().code, Some(0));
}

#[test]
fn a_body_with_the_separator_is_not_printed_as_two() {
    let user = User::new();
    let file = user.file("poem", "two\nlines");
    let mut push = Process::start(&mut user.meshmq(&["push", "--whole", "poems", file.to_str().unwrap()]));
    let mut pull = Process::start(&mut user.meshmq(&["pull", "poems"]));
    pull.says("it holds a line break: use -0 or --json");
    drop(pull);
    let pulled = run(&mut user.meshmq(&["pull", "-0", "poems", "-n", "1"]), "");
    assert_eq!((pulled.code, &pulled.stdout[..]), (Some(0), "two\nlines\0"));
    push.close();
    assert_eq!(push.end().code, Some(0));
}

#[test]
fn json_carries_any_body() {
    let user = User::new();
    let mut push = Process::start(&mut user.meshmq(&["push", "-0", "things"]));
    push.write(b"two\nlines\0\xff\xfe\0");
    push.close();
    let pulled = run(&mut user.meshmq(&["pull", "things", "-n", "2", "--json"]), "");
    assert_eq!(push.end().code, Some(0));
    let mut bodies: Vec<String> = Vec::new();
    for line in pulled.stdout.lines() {
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        assert_eq!((&line["channel"], &line["attempt"]), (&"things".into(), &1.into()));
        bodies.push(line["body"].as_str().or_else(|| line["body_base64"].as_str()).unwrap().to_owned());
    }
    bodies.sort_unstable();
    assert_eq!(bodies, ["//4=", "two\nlines"]);
}

#[test]
fn meshes_of_two_names_do_not_meet() {
    let user = User::new();
    let mut other = Process::start(&mut user.meshmq(&["pull", "jobs", "-m", "other", "-v"]));
    other.says("node ");
    let pushed = run(&mut user.meshmq(&["push", "jobs", "--timeout", "1s"]), "job\n");
    assert_eq!(pushed.code, Some(3));
    assert!(
        pushed.stderr.contains("timed out with no puller on channel \"jobs\": 1 message not acknowledged"),
        "{}",
        pushed.stderr
    );
}

#[test]
fn meshes_of_two_names_work_side_by_side() {
    let user = User::new();
    two_meshes_work_side_by_side(|mesh, args| {
        let mut command = user.meshmq(args);
        command.env("MESHMQ_MESH", ["shop", "shed"][mesh]);
        command
    });
}

#[test]
fn meshes_of_two_keys_do_not_meet() {
    let user = User::new();
    let keys = [(); 2].map(|()| run(&mut User::new().meshmq(&["key", "show"]), "").stdout.trim().to_owned());
    two_meshes_work_side_by_side(|mesh, args| {
        let mut command = user.meshmq(args);
        command.env("MESHMQ_KEY", &keys[mesh]);
        command
    });
}

/// In one user's folders and on the same channel, each mesh does its work and nothing of the other's, also where one
/// dials the other.
fn two_meshes_work_side_by_side(with: impl Fn(usize, &[&str]) -> Command) {
    let mut pulls =
        [0, 1].map(|mesh| Process::start(&mut with(mesh, &["pull", "jobs", "--listen", "127.0.0.1:0", "-v"])));
    pulls.iter_mut().for_each(|pull| pull.says("127.0.0.1:"));
    let mut pushes = [0, 1].map(|mesh| Process::start(&mut with(mesh, &["push", "jobs", "-v"])));
    for (push, first) in pushes.iter_mut().zip([1, 501]) {
        push.write((first..first + 500).map(|number| format!("{number}\n")).collect::<String>());
        push.close();
    }
    let pushes = pushes.map(|push| push.end());
    pushes.iter().for_each(|push| assert_eq!(push.code, Some(0), "{}", push.stderr));

    // One dials the other's address.
    let address = pulls[0].stderr_word("127.0.0.1:");
    let stray = run(&mut with(1, &["push", "jobs", "--peer", &address, "-v"]), "1001\n");
    assert_eq!(stray.code, Some(0), "its own mesh has taken it: {}", stray.stderr);
    let mut stray = Process::start(&mut with(1, &["push", "nobody", "--peer", &address, "-v"]));
    stray.says(&format!("no link with {address}: we refused the peer: the certificate is of another mesh"));
    pulls[0].says("refused 127.0.0.1:");
    pulls[0].says("the peer refused us: the certificate is of another mesh");

    let nodes = pushes.map(|push| word_after(&push.stderr, "node "));
    let pulled = pulls.map(|pull| {
        pull.signal(Signal::TERM);
        pull.end()
    });
    assert_eq!(sorted(&pulled[0].stdout), (1..=500).collect::<Vec<_>>(), "{}", pulled[0].stderr);
    assert_eq!(sorted(&pulled[1].stdout), (501..=1001).collect::<Vec<_>>(), "{}", pulled[1].stderr);
    for (pull, (own, other)) in pulled.iter().zip([(&nodes[0], &nodes[1]), (&nodes[1], &nodes[0])]) {
        let met = |node: &str| pull.stderr.contains(&format!("node {} ", &node[..10]));
        assert!(met(own) && !met(other), "{own}, not {other}: {}", pull.stderr);
    }
}

/// The word that follows these.
fn word_after(text: &str, words: &str) -> String {
    text.split(words).nth(1).unwrap().split_whitespace().next().unwrap().to_owned()
}

#[test]
fn users_with_the_same_key_meet_at_an_address() {
    let (here, there) = (User::new(), User::new());
    let key = run(&mut here.meshmq(&["key", "show"]), "").stdout;
    let mut pull = Process::start(&mut here.meshmq(&["pull", "jobs", "--listen", "127.0.0.1:0", "-v"]));
    pull.says("127.0.0.1:");
    let address = pull.stderr_word("127.0.0.1:");
    let pushed = run(there.meshmq(&["push", "jobs", "--peer", &address]).env("MESHMQ_KEY", key.trim()), "job\n");
    assert_eq!(pushed.code, Some(0), "{}", pushed.stderr);
    assert_eq!(pull.line(), "job");
}

#[test]
fn a_stranger_is_told_why_there_is_no_link() {
    let (here, stranger) = (User::new(), User::new());
    let mut pull = Process::start(&mut here.meshmq(&["pull", "jobs", "--listen", "127.0.0.1:0", "-v"]));
    pull.says("127.0.0.1:");
    let address = pull.stderr_word("127.0.0.1:");
    let mut push = Process::start(&mut stranger.meshmq(&["push", "jobs", "--peer", &address]));
    push.says("no link with 127.0.0.1:");
    push.says("of another mesh");
    pull.says("refused 127.0.0.1:");
}
