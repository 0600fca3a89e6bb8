//! Requests and replies between real processes, as people use them.

use std::io::Write;

use crate::common::{Process, User, run, wait_until_gone};
use rustix::process::Signal;
use serde_json::Value;

/// A replier that is in the mesh.
fn rep(user: &User, args: &[&str]) -> Process {
    let mut rep = Process::start(user.meshmq(&["rep"]).args(args).arg("-v"));
    rep.says("answers on channel ");
    rep
}

#[test]
fn a_command_answers() {
    let user = User::new();
    let _rep = rep(&user, &["upper", "--exec", "tr a-z A-Z"]);
    let asked = run(&mut user.meshmq(&["req", "upper", "hello"]), "");
    assert_eq!((asked.code, &asked.stdout[..], &asked.stderr[..]), (Some(0), "HELLO\n", ""));
    // All of standard input is one request, and bytes stay what they are.
    let asked = run(&mut user.meshmq(&["req", "upper"]), "two\nlines\n");
    assert_eq!((asked.code, &asked.stdout[..]), (Some(0), "TWO\nLINES\n"), "{}", asked.stderr);
    let asked = run(&mut user.meshmq(&["req", "upper", "--raw", "raw"]), "");
    assert_eq!((asked.code, &asked.stdout[..]), (Some(0), "RAW"), "{}", asked.stderr);
    let asked = run(&mut user.meshmq(&["req", "upper", ""]), "");
    assert_eq!((asked.code, &asked.stdout[..]), (Some(0), "\n"), "{}", asked.stderr);
    let bytes = run(&mut user.shell(r"printf 'a\377\000b' | $M req upper --raw | od -An -tx1"), "");
    assert_eq!((bytes.code, bytes.stdout.trim()), (Some(0), "41 ff 00 42"), "{}", bytes.stderr);
    let asked = run(&mut user.meshmq(&["req", "upper", "hello", "--json"]), "");
    let shown: Value = serde_json::from_str(&asked.stdout).unwrap();
    assert_eq!((&shown["channel"], &shown["body"]), (&"upper".into(), &"HELLO".into()));
}

#[test]
fn a_request_waits_for_a_replier_or_does_not() {
    let user = User::new();
    let mut asking = Process::start(&mut user.meshmq(&["req", "late", "hello", "--timeout", "1m"]));
    asking.says("waiting for a replier on channel \"late\"");
    let _rep = rep(&user, &["late", "--echo"]);
    let asked = asking.end();
    assert_eq!((asked.code, &asked.stdout[..]), (Some(0), "hello\n"), "{}", asked.stderr);

    for args in [&["req", "nobody", "hello", "--no-wait"][..], &["req", "nobody", "hello", "--timeout", "300ms"]] {
        let asked = run(&mut user.meshmq(args), "");
        assert_eq!((asked.code, &asked.stdout[..]), (Some(3), ""), "{args:?}: {}", asked.stderr);
        assert!(asked.stderr.contains("no reply on channel \"nobody\": "), "{}", asked.stderr);
    }
}

#[test]
fn a_command_that_fails_fails_the_request() {
    let user = User::new();
    for (command, code, words) in [
        ("echo half; echo broken >&2; exit 3", "exit_3", "exit status: 3: broken"),
        ("no-such-command", "exit_127", "not found"),
        ("kill -9 $$", "signal_9", "signal: 9"),
        ("seq 2000 >&2; echo the end >&2; exit 1", "exit_1", "the end"),
        ("exec head -c 20000000 /dev/zero", "too_large", "the command prints more than 16 MiB: it is killed"),
    ] {
        let mut rep = rep(&user, &["work", "-n", "1", "--exec", command]);
        let asked = run(&mut user.meshmq(&["req", "work", "job"]), "");
        assert_eq!((asked.code, &asked.stdout[..]), (Some(1), ""), "{command}: {}", asked.stderr);
        let asked_words = [words, &format!("(code {code})")];
        assert!(asked_words.iter().all(|words| asked.stderr.contains(words)), "{command}: {}", asked.stderr);
        assert!(asked.stderr.len() < 2000, "the end of it: {}", asked.stderr);
        rep.says(&format!("has failed with code {code}"));
        assert_eq!(rep.end().code, Some(0));
    }
}

#[test]
fn a_command_ends_when_nobody_waits_for_it() {
    let user = User::new();
    // The shell waits for another process: both have to go. Neither would notice that nobody reads what it prints.
    let command = "tail -f /dev/null > /dev/null & echo $$ $! > pids; wait";
    for how in ["deadline", "interrupt", "kill"] {
        let mut rep = rep(&user, &["slow", "--exec", command]);
        assert!(user.shell("rm -f pids; mkfifo pids").status().unwrap().success());
        let timeout = if how == "deadline" { "4s" } else { "1m" };
        let asking = Process::start(&mut user.meshmq(&["req", "slow", "job", "--timeout", timeout]));
        let pids = run(&mut user.shell("cat pids"), "").stdout;
        match how {
            "interrupt" => asking.signal(Signal::INT),
            "kill" => asking.signal(Signal::KILL),
            _ => {}
        }
        for pid in pids.split_whitespace() {
            wait_until_gone(pid.parse().unwrap());
        }
        rep.says("was given up by whoever asked: its command is killed");
        let asked = asking.end();
        let code = match how {
            "deadline" => Some(3),
            "interrupt" => Some(130),
            _ => None,
        };
        assert_eq!(asked.code, code, "{how}: {}", asked.stderr);
        rep.signal(Signal::TERM);
        assert_eq!(rep.end().code, Some(130));
    }
}

#[test]
fn the_end_of_a_replier_lets_its_commands_end() {
    let user = User::new();
    assert!(user.shell("mkfifo begun gate").status().unwrap().success());
    let mut rep = rep(&user, &["slow", "--exec", "echo > begun; cat gate"]);
    let asking = Process::start(&mut user.meshmq(&["req", "slow", "job"]));
    assert!(user.shell("cat begun").status().unwrap().success());
    rep.signal(Signal::TERM);
    rep.says("waiting for 1 command to end");
    let mut gate = std::fs::OpenOptions::new().write(true).open(user.home().join("gate")).unwrap();
    gate.write_all(b"answer\n").unwrap();
    drop(gate);
    let asked = asking.end();
    assert_eq!((asked.code, &asked.stdout[..]), (Some(0), "answer\n"), "{}", asked.stderr);
    assert_eq!(rep.end().code, Some(130));
}

#[test]
fn a_killed_replier_is_said_or_another_one_is_asked() {
    let user = User::new();
    for idempotent in [false, true] {
        assert!(user.shell("rm -f begun; mkfifo begun").status().unwrap().success());
        let first = rep(&user, &["work", "--exec", "echo > begun; exec tail -f /dev/null"]);
        let mut args = vec!["req", "work", "job"];
        args.extend(idempotent.then_some("--idempotent"));
        let asking = Process::start(&mut user.meshmq(&args));
        assert!(user.shell("cat begun").status().unwrap().success());
        let second = rep(&user, &["work", "--exec", "echo attempt $MESHMQ_ATTEMPT"]);
        first.signal(Signal::KILL);
        let asked = asking.end();
        let expected = if idempotent { (Some(0), "attempt 2\n") } else { (Some(1), "") };
        assert_eq!((asked.code, &asked.stdout[..]), expected, "{}", asked.stderr);
        assert!(idempotent || asked.stderr.contains("it is not known what became of the request"), "{}", asked.stderr);
        drop(second);
    }
}

#[test]
fn several_commands_answer_at_a_time() {
    let user = User::new();
    assert!(user.shell("mkfifo meeting").status().unwrap().success());
    let _rep = rep(
        &user,
        &[
            "pairs",
            "--concurrency",
            "2",
            "--exec",
            r#"case "$(cat)" in read) cat meeting;; write) echo met > meeting; echo wrote;; esac"#,
        ],
    );
    // Each waits for the other one.
    let mut read = Process::start(&mut user.meshmq(&["req", "pairs", "read"]));
    let write = run(&mut user.meshmq(&["req", "pairs", "write"]), "");
    assert_eq!((write.code, &write.stdout[..]), (Some(0), "wrote\n"), "{}", write.stderr);
    assert_eq!(read.line(), "met");
}

#[test]
fn everybody_can_be_asked() {
    let user = User::new();
    let _reps = [
        rep(&user, &["load", "--name", "one", "--exec", "echo one"]),
        rep(&user, &["load", "--name", "two", "--exec", "echo two"]),
    ];
    let asked = run(&mut user.meshmq(&["req", "load", "how much?", "--all"]), "");
    let mut lines: Vec<_> = asked.stdout.lines().collect();
    lines.sort_unstable();
    assert_eq!((asked.code, lines), (Some(0), vec!["one", "two"]), "{}", asked.stderr);

    let _sick = rep(&user, &["load", "--exec", "echo sick >&2; exit 1"]);
    let asked = run(&mut user.meshmq(&["req", "load", "how much?", "--all"]), "");
    assert_eq!((asked.code, asked.stdout.lines().count()), (Some(1), 2), "{}", asked.stderr);
    assert!(asked.stderr.contains("no reply from node ") && asked.stderr.contains("sick"), "{}", asked.stderr);
    let asked = run(&mut user.meshmq(&["req", "nobody", "how much?", "--all"]), "");
    assert_eq!(asked.code, Some(3), "{}", asked.stderr);
}

#[test]
fn a_command_knows_what_it_is_asked() {
    let user = User::new();
    let command = r#"echo "$MESHMQ_CHANNEL $MESHMQ_ATTEMPT $MESHMQ_HEADER_UNIT ${MESHMQ_TOPIC-none} $MESHMQ_SENDER""#;
    let _rep = rep(&user, &["price", "--exec", command]);
    let mut asking = user.meshmq(&["req", "price", "eu.dax", "--header", "unit=EUR", "-v"]);
    let asked = run(&mut asking, "");
    assert_eq!(asked.code, Some(0), "{}", asked.stderr);
    let words: Vec<_> = asked.stdout.split_whitespace().collect();
    assert_eq!(words[..4], ["price", "1", "EUR", "none"]);
    assert!(asked.stderr.contains(&format!("node {} of mesh", words[4])), "{}", asked.stderr);

    let _echo = rep(&user, &["mirror", "--echo"]);
    let asked = run(&mut user.meshmq(&["req", "mirror", "eu.dax", "--header", "unit=EUR", "--json"]), "");
    let shown: Value = serde_json::from_str(&asked.stdout).unwrap();
    assert_eq!((&shown["headers"][0][1], &shown["body"]), (&"EUR".into(), &"eu.dax".into()));
}

#[test]
fn what_makes_no_sense_is_refused() {
    let user = User::new();
    for args in [
        &["rep", "upper"][..],
        &["rep", "upper", "--echo", "--exec", "true"],
        &["rep", "upper", "--exec", "true", "--concurrency", "0"],
        &["req"],
        &["req", "a\nb", "x"],
        &["req", "upper", "x", "--all", "--idempotent"],
        &["req", "upper", "x", "--raw", "--json"],
        &["req", "upper", "--key-file", "-"],
    ] {
        let refused = run(&mut user.meshmq(args), "");
        assert_eq!((refused.code, &refused.stdout[..]), (Some(2), ""), "{args:?}: {}", refused.stderr);
    }
}
