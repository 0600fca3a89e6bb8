//! Publishing and subscribing between real processes, as people use them.

use crate::common::{Process, User, run, seq, skip};
use rustix::process::Signal;
use serde_json::Value;

/// A subscriber whose subscriptions are in force.
fn sub(user: &User, args: &[&str]) -> Process {
    let mut sub = Process::start(user.meshmq(&["sub"]).args(args).arg("-v"));
    sub.says("subscribed to ");
    sub
}

fn line(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

#[test]
fn a_log_that_grows_is_read_by_jq() {
    let user = User::new();
    if !user.shell("command -v jq >/dev/null").status().unwrap().success() {
        return skip("a_log_that_grows_is_read_by_jq", "there is no jq");
    }
    let log = user.file("log", "{\"path\":\"/\"}\n");
    // As it is written in the documents, but that jq writes each line at once, and that we know when it is there.
    let mut sub = Process::start(&mut user.shell("$M sub logs 'app.*' -v | jq --unbuffered -c .path"));
    sub.says("subscribed to app.* on channel \"logs\"");
    let _pub = Process::start(&mut user.shell("tail -f log | $M pub logs --topic app.web"));
    assert_eq!(sub.line(), "\"/\"");
    std::fs::OpenOptions::new()
        .append(true)
        .open(log)
        .and_then(|mut log| std::io::Write::write_all(&mut log, b"{\"path\":\"/cart\"}\n"))
        .unwrap();
    assert_eq!(sub.line(), "\"/cart\"");
}

#[test]
fn each_subscriber_has_what_it_wants() {
    let user = User::new();
    let (mut web, mut all) = (sub(&user, &["logs", "app.*"]), sub(&user, &["logs", "--topics"]));
    let mut named = sub(&user, &["logs", "logs"]);
    for (args, lines) in [
        (&["pub", "logs", "--wait-subscribers", "3", "--topic", "app.web"][..], "one\ntwo\n"),
        (&["pub", "logs", "--wait-subscribers", "3", "-t", "app.web.errors"], "three\n"),
        // The topic is the channel's name.
        (&["pub", "logs", "--wait-subscribers", "3"], "four\n"),
    ] {
        let published = run(&mut user.meshmq(args), lines);
        assert_eq!((published.code, &published.stdout[..]), (Some(0), ""), "{}", published.stderr);
        assert!(!published.stderr.contains("nobody has subscribed"), "{}", published.stderr);
    }
    assert_eq!([web.line(), web.line()], ["one", "two"]);
    let lines: Vec<_> = (0..4).map(|_| all.line()).collect();
    assert_eq!(lines, ["app.web\tone", "app.web\ttwo", "app.web.errors\tthree", "logs\tfour"]);
    assert_eq!(named.line(), "four");
    web.signal(Signal::TERM);
    let ended = web.end();
    assert_eq!((ended.code, &ended.stdout[..]), (Some(130), ""), "{}", ended.stderr);
}

#[test]
fn what_one_prints_with_topics_another_can_publish() {
    let user = User::new();
    let mut copy = sub(&user, &["copy", "--topics"]);
    let mut relay = Process::start(&mut user.shell("$M sub logs 'a.>' -v --topics | $M pub copy --topic-from-line"));
    relay.says("subscribed to ");
    let ended = run(
        &mut user.meshmq(&["pub", "logs", "--wait-subscribers", "1", "--topic-from-line"]),
        "a.b\tone\nb.c\tno\na.c\ttwo\twords\n",
    );
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert_eq!([copy.line(), copy.line()], ["a.b\tone", "a.c\ttwo\twords"]);
}

#[test]
fn whole_files_and_nul_are_published_as_well() {
    let user = User::new();
    let mut parts = sub(&user, &["files", "-0", "-n", "2"]);
    let file = user.file("poem", "two\nlines");
    let ended =
        run(&mut user.meshmq(&["pub", "files", "--wait-subscribers", "1", "--whole", file.to_str().unwrap()]), "");
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    let ended = run(&mut user.meshmq(&["pub", "files", "--wait-subscribers", "1", "-0"]), "a\nb\0");
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert_eq!([parts.line(), parts.line(), parts.line()], ["two", "lines\0a", "b\0"]);
    assert_eq!(parts.end().code, Some(0));

    // As lines it would look like two.
    let mut lines = sub(&user, &["files", "-n", "1"]);
    let ended =
        run(&mut user.meshmq(&["pub", "files", "--wait-subscribers", "1", "--whole", file.to_str().unwrap()]), "");
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    lines.says("of topic files was not printed: it holds a line break: use -0 or --json");
    let ended = run(&mut user.meshmq(&["pub", "files", "--wait-subscribers", "1"]), "good\n");
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    let ended = lines.end();
    assert_eq!((ended.code, &ended.stdout[..]), (Some(1), "good\n"), "{}", ended.stderr);
}

#[test]
fn json_tells_all() {
    let user = User::new();
    let mut sub = sub(&user, &["ticks", "eu.>", "--json", "-n", "1"]);
    let args = ["pub", "ticks", "--wait-subscribers", "1", "--topic", "eu.dax", "--header", "unit=EUR", "--json"];
    let published = run(&mut user.meshmq(&args), "18,412\n");
    assert_eq!(published.code, Some(0), "{}", published.stderr);
    let summary = line(&published.stdout);
    assert_eq!(
        (&summary["published"], &summary["subscribers"], &summary["dropped"]),
        (&1.into(), &1.into(), &0.into())
    );
    let shown = line(&sub.line());
    for (field, value) in [("channel", "ticks"), ("topic", "eu.dax"), ("body", "18,412")] {
        assert_eq!(shown[field], value, "{shown}");
    }
    assert_eq!(shown["headers"][0][1], "EUR");
    assert!(shown.get("attempt").is_none(), "nothing comes again: {shown}");
    assert_eq!(sub.end().code, Some(0));
}

#[test]
fn what_was_missed_is_told_in_its_place() {
    let user = User::new();
    assert!(user.shell("mkfifo gate").status().unwrap().success());
    // It reads nothing until the gate opens: meanwhile there are more bytes than may wait anywhere.
    let mut slow = Process::start(&mut user.shell("$M sub big --json -v | { cat gate; stdbuf -oL cut -c -300; }"));
    slow.says("subscribed to ");
    let lines: String = (0..1200).map(|number| format!("{number:<50000}\n")).collect();
    let mut publisher = Process::start(&mut user.meshmq(&["pub", "big"]));
    publisher.write(lines);
    publisher.close();
    publisher.says("waiting for 1 subscriber on channel \"big\" to take what was published");
    assert!(user.shell("echo open > gate").status().unwrap().success());
    assert_eq!(slow.line(), "open");
    let published = publisher.end();
    assert_eq!(published.code, Some(0), "{}", published.stderr);
    assert!(published.stderr.contains("dropped for subscribers that were too slow"), "{}", published.stderr);
    let (mut next, mut missed) = (0, 0);
    while next < 1200 {
        let text = slow.line();
        if let Some((_, rest)) = text.split_once("\"missed\":") {
            let count: u64 = rest.split(',').next().unwrap().parse().unwrap();
            missed += count;
            next += count;
        } else {
            let body = text.split_once("\"body\":\"").unwrap().1;
            assert_eq!(body.split_whitespace().next().unwrap(), next.to_string(), "in its place");
            next += 1;
        }
    }
    assert!(missed > 0);
    slow.says(" messages of the publisher on node ");
}

#[test]
fn the_input_can_wait_for_a_slow_subscriber() {
    let user = User::new();
    assert!(user.shell("mkfifo gate").status().unwrap().success());
    let mut slow = Process::start(&mut user.shell("$M sub big -v | { cat gate; stdbuf -oL cut -c -10; }"));
    slow.says("subscribed to ");
    let mut publisher = Process::start(&mut user.shell("seq -f '%0100000g' 600 | $M pub big --block 1m"));
    publisher.says("waiting for 1 subscriber on channel \"big\" to take what was published");
    assert!(user.shell("echo open > gate").status().unwrap().success());
    assert_eq!(slow.line(), "open");
    let ended = publisher.end();
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert!(!ended.stderr.contains("dropped"), "{}", ended.stderr);
    for _ in 0..600 {
        assert_eq!(slow.line().len(), 10);
    }
}

#[test]
fn who_comes_late_has_what_is_retained() {
    let user = User::new();
    let mut publisher = Process::start(&mut user.meshmq(&["pub", "ticks", "--topic-from-line", "--retain", "1", "-v"]));
    let mut first = sub(&user, &["ticks", "-t"]);
    publisher.write("eu.dax\t1\neu.dax\t2\nus.dow\t3\n");
    assert_eq!([first.line(), first.line(), first.line()], ["eu.dax\t1", "eu.dax\t2", "us.dow\t3"]);
    let (mut all, mut late) = (sub(&user, &["ticks", "-t"]), sub(&user, &["ticks", "eu.*"]));
    assert_eq!([all.line(), all.line(), late.line()], ["eu.dax\t2", "us.dow\t3", "2"]);
    publisher.write("eu.dax\t4\n");
    assert_eq!([first.line(), all.line(), late.line()], ["eu.dax\t4", "eu.dax\t4", "4"]);
    publisher.close();
    assert_eq!(publisher.end().code, Some(0));
}

#[test]
fn a_publisher_waits_for_subscribers_or_says_that_there_are_none() {
    let user = User::new();
    let alone = run(&mut user.meshmq(&["pub", "ticks"]), "one\ntwo\n");
    assert_eq!(alone.code, Some(0), "{}", alone.stderr);
    assert!(
        alone.stderr.contains("2 messages published on channel \"ticks\", and nobody has subscribed"),
        "{}",
        alone.stderr
    );
    let alone = run(&mut user.meshmq(&["pub", "ticks", "--wait-subscribers", "1", "--timeout", "300ms"]), "one\n");
    assert_eq!(alone.code, Some(3), "{}", alone.stderr);
    assert!(alone.stderr.contains("timed out waiting for 1 subscriber on channel \"ticks\""), "{}", alone.stderr);

    let mut publisher = Process::start(&mut user.meshmq(&["pub", "ticks", "--wait-subscribers", "2"]));
    publisher.write(seq(100));
    publisher.close();
    publisher.says("waiting for 2 subscribers on channel \"ticks\"");
    let subs = [(); 2].map(|()| Process::start(&mut user.meshmq(&["sub", "ticks", "-n", "100"])));
    for sub in subs {
        let ended = sub.end();
        assert_eq!((ended.code, &ended.stdout[..]), (Some(0), &seq(100)[..]), "{}", ended.stderr);
    }
    assert_eq!(publisher.end().code, Some(0));
}

#[test]
fn a_command_for_each_message() {
    let user = User::new();
    let command = r#"echo "$MESHMQ_TOPIC $MESHMQ_CHANNEL $MESHMQ_HEADER_KIND: $(cat)"; test "$MESHMQ_TOPIC" != b"#;
    let mut sub = sub(&user, &["news", "-n", "2", "--exec", command]);
    let args = ["pub", "news", "--wait-subscribers", "1", "--topic-from-line", "--header", "kind=x"];
    let published = run(&mut user.meshmq(&args), "a.b\tone\nb\ttwo\n");
    assert_eq!(published.code, Some(0), "{}", published.stderr);
    assert_eq!([sub.line(), sub.line()], ["a.b news x: one", "b news x: two"]);
    let ended = sub.end();
    assert_eq!(ended.code, Some(1), "{}", ended.stderr);
    assert!(ended.stderr.contains("of topic b: exit status: 1"), "{}", ended.stderr);
    assert_eq!(ended.stderr.matches("the command failed").count(), 1, "{}", ended.stderr);
}

#[test]
fn a_command_that_is_not_there_or_hangs_stops_no_other_message() {
    let user = User::new();
    let mut absent = sub(&user, &["news", "-n", "1", "--exec", "no-such-command"]);
    let command = r#"case "$(cat)" in hang) echo $$; exec tail -f /dev/null;; *) echo done;; esac"#;
    let mut hangs = sub(&user, &["news", "--jobs", "2", "--exec", command]);
    let published = run(&mut user.meshmq(&["pub", "news", "--wait-subscribers", "2"]), "hang\ngo\n");
    assert_eq!(published.code, Some(0), "{}", published.stderr);
    let mut lines = [hangs.line(), hangs.line()];
    lines.sort();
    assert_eq!(lines[1], "done");
    let pid = lines[0].parse().unwrap();
    hangs.signal(Signal::TERM);
    hangs.says("waiting for 1 command to end");
    hangs.signal(Signal::TERM);
    assert_eq!(hangs.end().code, Some(130));
    crate::common::wait_until_gone(pid);
    absent.says("exit status: 127");
    assert_eq!(absent.end().code, Some(1));
}

#[test]
fn topics_that_do_not_fit_are_refused() {
    let user = User::new();
    let long = "a".repeat(256);
    for (args, words) in [
        (&["pub", "logs", "--topic", "app..web"][..], "part 2 of the topic is empty"),
        (&["pub", "logs", "--topic", "app.*"], "'app.*'"),
        (&["pub", "logs", "--topic", &long], "at most 255 are possible"),
        (&["pub", "a b..c"], "the name of the channel can not be the topic"),
        (&["pub", "logs", "--topic", "a", "--topic-from-line"], "cannot be used with"),
        (&["sub", "logs", "eu.>.dax"], "'eu.>.dax'"),
        (&["sub", "logs", ""], "part 1 of the topic is empty"),
        (&["sub", "logs", "--exec", "true", "--topics"], "cannot be used with"),
        (&["pub", "logs", "--block", "soon"], "unknown unit \"soon\""),
    ] {
        let refused = run(&mut user.meshmq(args), "line\n");
        assert_eq!((refused.code, &refused.stdout[..]), (Some(2), ""), "{args:?}: {}", refused.stderr);
        assert!(refused.stderr.contains(words), "{args:?}: {}", refused.stderr);
    }
    let mut all = sub(&user, &["logs", "-t"]);
    for (bad, words) in [
        ("no tab\n", "message 2 has no tab: expected its topic, a tab, its body"),
        ("a..b\tx\n", "message 2: part 2 of the topic is empty"),
        ("a.*\tx\n", "message 2: "),
    ] {
        let refused = run(
            &mut user.meshmq(&["pub", "logs", "--wait-subscribers", "1", "--topic-from-line"]),
            &format!("a\tgood\n{bad}b\tlater\n"),
        );
        assert_eq!(refused.code, Some(1), "{}", refused.stderr);
        assert!(refused.stderr.contains(words), "{}", refused.stderr);
        assert_eq!(all.line(), "a\tgood", "what stands before it is published");
    }
}

#[test]
fn who_has_seen_enough_is_no_failure() {
    let user = User::new();
    let mut head = Process::start(&mut user.shell("{ $M sub ticks -v; echo code $? >&2; } | head -n 2"));
    head.says("subscribed to ");
    let published = run(&mut user.meshmq(&["pub", "ticks", "--wait-subscribers", "1"]), &seq(100));
    assert_eq!(published.code, Some(0), "{}", published.stderr);
    let ended = head.end();
    assert_eq!(ended.stdout, "1\n2\n");
    assert!(ended.stderr.contains("code 0"), "{}", ended.stderr);
    let closed = run(&mut user.shell("$M sub ticks >&-"), "");
    assert!(closed.code == Some(0) && closed.stderr.contains("standard output is closed"), "{}", closed.stderr);
    let alone = run(&mut user.meshmq(&["sub", "ticks", "--timeout", "300ms"]), "");
    assert_eq!(alone.code, Some(3), "{}", alone.stderr);
}
