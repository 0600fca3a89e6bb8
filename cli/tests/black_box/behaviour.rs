//! How the commands end, and what becomes of what they have not done.

use crate::common::{Process, User, run, seq, sorted};
use rustix::process::Signal;

#[test]
fn what_was_not_written_goes_back() {
    for stop in ["enough", "interrupt", "terminate"] {
        let user = User::new();
        let mut push = Process::start(&mut user.meshmq(&["push", "jobs"]));
        push.write(seq(500));
        let args: &[&str] = if stop == "enough" { &["pull", "jobs", "-n", "10"] } else { &["pull", "jobs"] };
        let mut pull = Process::start(&mut user.meshmq(args));
        let first = pull.line();
        match stop {
            "interrupt" => pull.signal(Signal::INT),
            "terminate" => pull.signal(Signal::TERM),
            _ => {}
        }
        let stopped = pull.end();
        assert_eq!(stopped.code, Some(if stop == "enough" { 0 } else { 130 }), "{stop}: {}", stopped.stderr);
        push.write((501..=1000).map(|number| format!("{number}\n")).collect::<String>());
        push.close();
        let pull = Process::start(&mut user.meshmq(&["pull", "jobs"]));
        assert_eq!(push.end().code, Some(0), "{stop}");
        pull.signal(Signal::TERM);
        let lines = format!("{first}\n{}{}", stopped.stdout, pull.end().stdout);
        assert_eq!(sorted(&lines), (1..=1000).collect::<Vec<_>>(), "{stop}: each once");
    }
}

#[test]
fn a_puller_that_has_enough_hands_the_rest_back() {
    let user = User::new();
    let mut push = Process::start(&mut user.meshmq(&["push", "jobs"]));
    push.write(seq(1000));
    push.close();
    let some = run(&mut user.meshmq(&["pull", "jobs", "-n", "10"]), "");
    assert_eq!((some.code, some.stdout.lines().count()), (Some(0), 10), "{}", some.stderr);
    let rest = run(&mut user.meshmq(&["pull", "jobs", "-n", "990"]), "");
    assert_eq!(sorted(&(some.stdout + &rest.stdout)), (1..=1000).collect::<Vec<_>>(), "each once");
    assert_eq!(push.end().code, Some(0));
}

#[test]
fn a_reader_that_has_left_leaves_the_rest_to_others() {
    let user = User::new();
    let mut push = Process::start(&mut user.meshmq(&["push", "jobs"]));
    push.write(seq(100));
    let head = run(&mut user.shell("{ $M pull jobs; echo code $? >&2; } | head -n 3"), "");
    assert_eq!(head.stdout.lines().count(), 3);
    assert!(head.stderr.contains("code 0"), "{}", head.stderr);
    // What was in the pipe counts as printed; whatever is pushed now arrives.
    push.write("last\n");
    push.close();
    let mut pull = Process::start(&mut user.meshmq(&["pull", "jobs"]));
    assert_eq!(push.end().code, Some(0));
    pull.shows("last");
}

#[test]
fn closed_from_the_start_nothing_is_taken() {
    let user = User::new();
    let closed = run(&mut user.shell("$M pull jobs >&-"), "");
    assert_eq!(closed.code, Some(0));
    assert!(closed.stderr.contains("standard output is closed"), "{}", closed.stderr);
}

#[test]
fn signals_end_a_puller_and_a_pusher() {
    for signal in [Signal::INT, Signal::TERM] {
        let user = User::new();
        let mut pull = Process::start(&mut user.meshmq(&["pull", "one", "-v"]));
        pull.says("node ");
        pull.signal(signal);
        assert_eq!(pull.end().code, Some(130));

        let mut push = Process::start(&mut user.meshmq(&["push", "two", "-v"]));
        push.says("node ");
        push.write("job\n");
        push.says("waiting for a puller on channel \"two\" to take 1 message");
        push.signal(signal);
        let push = push.end();
        assert_eq!(push.code, Some(130));
        assert!(push.stderr.contains("interrupted on channel \"two\": 1 message not acknowledged"), "{}", push.stderr);
    }
}

#[test]
fn the_first_signal_lets_a_command_end_and_the_second_does_not() {
    let user = User::new();
    let mut push = Process::start(&mut user.meshmq(&["push", "jobs"]));
    push.write("job\n");
    push.close();
    let mut pull = Process::start(&mut user.meshmq(&["pull", "jobs", "--exec", "echo $$; exec tail -f /dev/null"]));
    let command = pull.line().parse().unwrap();
    pull.signal(Signal::INT);
    pull.says("waiting for 1 command to end");
    pull.signal(Signal::INT);
    assert_eq!(pull.end().code, Some(130));
    crate::common::wait_until_gone(command);
    // The job was not handled, so it goes to the next one.
    let mut pull = Process::start(&mut user.meshmq(&["pull", "jobs"]));
    assert_eq!(pull.line(), "job");
    assert_eq!(push.end().code, Some(0));
}

#[test]
fn exit_codes() {
    let user = User::new();
    for (code, args) in [
        (0, &["--help"][..]),
        (0, &["--version"]),
        (1, &["push", "jobs", "absent.txt"]),
        (2, &[]),
        (2, &["pull", "jobs", "--nonsense"]),
        (2, &["push", "jobs", "--timeout", "soon"]),
        (3, &["pull", "jobs", "--timeout", "300ms"]),
        (3, &["push", "jobs", "--timeout", "300ms"]),
    ] {
        let ended = run(&mut user.meshmq(args), "job\n");
        assert_eq!(ended.code, Some(code), "{args:?}: {}", ended.stderr);
    }
    assert_eq!(run(&mut user.meshmq(&["push", "jobs"]), "").code, Some(0), "no line is no work");
}

#[test]
fn who_waits_says_for_what() {
    let user = User::new();
    let mut pull = Process::start(&mut user.meshmq(&["pull", "jobs", "--name", "worker", "-v"]));
    pull.says("node ");
    let mut push = Process::start(&mut user.meshmq(&["push", "jbos"]));
    push.write("job\n");
    push.says("waiting for a puller on channel \"jbos\" to take 1 message; nodes of mesh \"default\" in sight: worker");
    push.says("did you mean \"jobs\"?");
    pull.says("waiting for messages on channel \"jobs\"; nodes of mesh \"default\" in sight: ");
}

#[test]
fn quiet_is_quiet() {
    let user = User::new();
    let mut push = Process::start(&mut user.meshmq(&["push", "jobs", "-q"]));
    push.write("job\n");
    let pulled = run(&mut user.meshmq(&["pull", "jobs", "-n", "1", "-q"]), "");
    assert_eq!((&pulled.stdout[..], &pulled.stderr[..]), ("job\n", ""));
    assert_eq!(push.end().stderr, "");
}

#[test]
fn what_a_worker_rejects_ends_a_push_with_4() {
    let user = User::new();
    let key = run(&mut user.meshmq(&["key", "path"]), "").stdout;
    run(&mut user.meshmq(&["key", "new"]), "");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let joined = async {
        let builder = meshmq::Node::builder("default").key_file(key.trim()).without_mdns();
        builder.local_folder(user.runtime().join("meshmq")).await
    };
    let node = runtime.block_on(joined).unwrap();
    let mut push = Process::start(&mut user.meshmq(&["push", "jobs", "--json"]));
    push.write("good\nbad\n");
    push.close();
    runtime.block_on(async {
        let pull = node.pull("jobs").await.unwrap();
        for _ in 0..2 {
            let job = pull.recv().await.unwrap();
            if &job[..] == b"bad" { job.reject("not a job") } else { job.ack() }
        }
    });
    let push = push.end();
    assert_eq!(push.code, Some(4), "{}", push.stderr);
    for words in ["was refused by", "not a job", "1 message refused by a worker"] {
        assert!(push.stderr.contains(words), "{words:?} is not in {}", push.stderr);
    }
    let told: serde_json::Value = serde_json::from_str(&push.stdout).unwrap();
    assert_eq!((&told["handled"], &told["rejected"]), (&1.into(), &1.into()));
}

#[test]
fn push_can_tell_in_json_what_became_of_it() {
    let user = User::new();
    let mut pull = Process::start(&mut user.meshmq(&["pull", "jobs"]));
    let pushed = run(&mut user.meshmq(&["push", "jobs", "--json"]), &seq(10));
    assert_eq!(pushed.code, Some(0), "{}", pushed.stderr);
    let told: serde_json::Value = serde_json::from_str(&pushed.stdout).unwrap();
    assert_eq!((&told["accepted"], &told["handled"], &told["unacknowledged"]), (&10.into(), &10.into(), &0.into()));
    assert_eq!(pull.line(), "1");
}

#[test]
fn metrics_are_served_where_they_are_wanted() {
    let user = User::new();
    let mut puller = Process::start(&mut user.meshmq(&["pull", "jobs", "--metrics", "127.0.0.1:0"]));
    puller.says("/metrics\n");
    let url = puller.stderr_word("http://");
    let address = url.strip_prefix("http://").and_then(|rest| rest.strip_suffix("/metrics")).unwrap().to_owned();
    let ended = run(&mut user.meshmq(&["push", "jobs"]), "one\n");
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    let mut stream = std::net::TcpStream::connect(&address).unwrap();
    std::io::Write::write_all(&mut stream, b"GET /metrics HTTP/1.1\r\n\r\n").unwrap();
    let page = std::io::read_to_string(stream).unwrap();
    assert!(page.contains("\nmeshmq_pull_messages_acknowledged_total{channel=\"jobs\",socket=\"1\"} 1\n"), "{page}");

    // The port is taken.
    let ended = run(&mut user.meshmq(&["pull", "jobs", "--metrics", &address]), "");
    assert_eq!(ended.code, Some(1));
    assert!(ended.stderr.contains(&format!("cannot serve metrics at {address}")), "{}", ended.stderr);
}
