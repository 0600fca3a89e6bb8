//! The figures of a node as Prometheus reads them, over HTTP.
#![allow(missing_docs, clippy::unwrap_used)]

mod support;

use std::future::IntoFuture;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use prometheus_parse::{Scrape, Value};
use support::{PATIENCE, Place, run, until};

/// Sends this and hears until the other end closes: head and body of the answer; both empty where there is none.
fn ask(address: SocketAddr, request: &str) -> (String, String) {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    // Cut off after it was told what is wrong.
    let _ = stream.read_to_string(&mut answer);
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_default();
    (head.to_owned(), body.to_owned())
}

fn page(address: SocketAddr) -> String {
    let (head, body) = ask(address, "GET /metrics HTTP/1.1\r\nHost: localhost\r\nAccept: text/plain\r\n\r\n");
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
    assert!(head.contains("\r\nContent-Type: text/plain; version=0.0.4; charset=utf-8\r\n"), "{head}");
    assert!(head.contains(&format!("\r\nContent-Length: {}\r\n", body.len())), "{head}");
    body
}

fn port() -> SocketAddr {
    "127.0.0.1:0".parse().unwrap()
}

/// The value of the one sample of this name with these labels.
fn value(scrape: &Scrape, name: &str, labels: &[(&str, &str)]) -> f64 {
    let is_meant = |sample: &&prometheus_parse::Sample| {
        sample.metric == name && labels.iter().all(|(label, value)| sample.labels.get(label) == Some(*value))
    };
    let found: Vec<_> = scrape.samples.iter().filter(is_meant).collect();
    match found[..] {
        [sample] => match sample.value {
            Value::Counter(value) | Value::Gauge(value) | Value::Untyped(value) => value,
            ref other => panic!("{name} is {other:?}"),
        },
        _ => panic!("{} of {name} {labels:?} in {scrape:?}", found.len()),
    }
}

#[test]
fn another_parser_reads_the_figures() {
    run(async {
        let place = Place::new();
        let (node, other) = (place.builder().name("a \"quoted\" name").await.unwrap(), place.builder().await.unwrap());
        let address = node.serve_metrics(port()).unwrap();
        let push = node.push("jobs").bound(10, 1000).await.unwrap();
        let _second = node.push("jobs").await.unwrap();
        let pull = other.pull("jobs").prefetch(1).await.unwrap();
        let idle = node.pull("idle").prefetch(7).await.unwrap();
        push.wait_for_pullers(1).await.unwrap();
        for body in ["handled", "rejected", "in hand", "waits"] {
            push.send(body).await.unwrap();
        }
        pull.recv().await.unwrap().ack();
        pull.recv().await.unwrap().reject("no");
        let _in_hand = pull.recv().await.unwrap();
        until("the answers arrive", || push.metrics().rejected == 1 && push.metrics().in_flight == 1).await;

        let (requester, replier) = (node.requester("asked").await.unwrap(), other.replier("asked").await.unwrap());
        requester.wait_for_repliers(1).await.unwrap();
        let answer = async { replier.recv().await.unwrap().fail("no", "not now") };
        let (failed, ()) = tokio::join!(requester.request("x").into_future(), answer);
        assert!(failed.is_err());
        let here = node.replier("answered").limit(7).await.unwrap();

        let text = page(address);
        let scrape = Scrape::parse(text.lines().map(|line| Ok(line.to_owned()))).unwrap();
        let first = [("channel", "jobs"), ("socket", "1")];
        for (name, expected) in [
            ("meshmq_push_messages_accepted_total", 4.0),
            ("meshmq_push_messages_handled_total", 1.0),
            ("meshmq_push_messages_rejected_total", 1.0),
            ("meshmq_push_messages_exhausted_total", 0.0),
            ("meshmq_push_messages_queued", 1.0),
            ("meshmq_push_messages_in_flight", 1.0),
            ("meshmq_push_message_bytes", "in handwaits".len() as f64),
            ("meshmq_push_bound_messages", 10.0),
            ("meshmq_push_pullers", 1.0),
        ] {
            assert_eq!(value(&scrape, name, &first), expected, "{name}");
        }
        assert!(value(&scrape, "meshmq_push_oldest_message_age_seconds", &first) < PATIENCE.as_secs_f64());
        assert_eq!(value(&scrape, "meshmq_push_messages_accepted_total", &[("socket", "2")]), 0.0);
        assert_eq!(value(&scrape, "meshmq_pull_prefetch_messages", &[("channel", idle.channel())]), 7.0);
        for (name, expected) in [
            ("meshmq_requester_requests_asked_total", 1.0),
            ("meshmq_requester_requests_failed_total", 1.0),
            ("meshmq_requester_requests_replied_total", 0.0),
            ("meshmq_requester_requests_open", 0.0),
            ("meshmq_requester_repliers", 1.0),
        ] {
            assert_eq!(value(&scrape, name, &[("channel", "asked")]), expected, "{name}");
        }
        assert_eq!(value(&scrape, "meshmq_replier_limit_requests", &[("channel", here.channel())]), 7.0);
        assert_eq!(value(&scrape, "meshmq_links", &[]), 1.0);
        let peer = other.id().to_string();
        assert!(value(&scrape, "meshmq_link_round_trip_seconds", &[("peer", &peer)]) > 0.0);
        assert_eq!(value(&scrape, "meshmq_node_info", &[("mesh", "test"), ("node", &node.id().to_string())]), 1.0);
        assert!(text.contains(r#"name="a \"quoted\" name""#), "{text}");
        assert!(text.ends_with('\n'));
        let help: Vec<_> = text.lines().filter_map(|line| line.strip_prefix("# HELP ")).collect();
        let kinds: Vec<_> = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")).collect();
        assert_eq!(help.len(), kinds.len());
        assert!(kinds.iter().all(|kind| kind.ends_with("_total counter") || kind.ends_with(" gauge")), "{kinds:?}");

        promtool(&text);
        assert!(!node.shutdown(Duration::ZERO).await.is_empty());
        until("the port is closed", || TcpStream::connect(address).is_err()).await;
        assert!(node.serve_metrics(port()).is_err(), "the node has ended");
    });
}

/// Prometheus' own word on the page, where it is installed.
fn promtool(text: &str) {
    let promtool =
        Command::new("promtool").args(["check", "metrics"]).stdin(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let Ok(mut promtool) = promtool else {
        assert!(std::env::var_os("MESHMQ_REQUIRE_NETNS").is_none(), "promtool is not installed");
        let _ = writeln!(std::io::stderr(), "SKIPPED promtool check metrics: promtool is not installed");
        return;
    };
    promtool.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let output = promtool.wait_with_output().unwrap();
    assert!(output.status.success(), "{}\n{text}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn what_is_not_a_question_for_metrics_is_told_so() {
    run(async {
        let place = Place::new();
        let node = place.builder().await.unwrap();
        let address = node.serve_metrics(port()).unwrap();
        let long = format!("GET /metrics HTTP/1.1\r\nx: {}\r\n\r\n", "y".repeat(9000));
        for (request, status) in [
            ("GET / HTTP/1.1\r\n\r\n", "404"),
            ("GET /metricsx HTTP/1.1\r\n\r\n", "404"),
            ("POST /metrics HTTP/1.1\r\nContent-Length: 0\r\n\r\n", "405"),
            ("GET /metrics HTTP/2\r\n\r\n", "505"),
            ("GET /metrics\r\n\r\n", "400"),
            ("\r\n\r\n", "400"),
            (&long, "431"),
        ] {
            let (head, _) = ask(address, request);
            assert!(
                head.starts_with(&format!("HTTP/1.1 {status} ")),
                "{:?}: {head}",
                &request[..20.min(request.len())]
            );
        }
        let (head, body) = ask(address, "HEAD /metrics?name=x HTTP/1.0\r\n\r\n");
        assert!(head.starts_with("HTTP/1.1 200 OK") && body.is_empty(), "{head} {body}");
        assert!(page(address).contains("meshmq_links 0"));
    });
}

#[test]
fn who_says_nothing_is_cut_off_and_keeps_nobody_out_for_long() {
    run(async {
        let place = Place::new();
        let node = place.builder().await.unwrap();
        let address = node.serve_metrics(port()).unwrap();
        let started = Instant::now();
        let mut silent: Vec<_> = (0..16).map(|_| TcpStream::connect(address).unwrap()).collect();
        silent[0].write_all(b"GET /metr").unwrap();
        assert_eq!(ask(address, "GET /metrics HTTP/1.1\r\n\r\n"), Default::default(), "all places are taken");
        for stream in &mut silent {
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
            assert_eq!(stream.read(&mut [0; 1]).unwrap(), 0, "closed");
        }
        assert!(started.elapsed() >= Duration::from_secs(4), "each has had its time");
        until("the places are free", || ask(address, "GET /metrics HTTP/1.1\r\n\r\n").0.contains("200 OK")).await;
    });
}

#[test]
fn a_port_in_use_is_an_error() {
    run(async {
        let place = Place::new();
        let node = place.builder().await.unwrap();
        let address = node.serve_metrics(port()).unwrap();
        let error = node.serve_metrics(address).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::AddrInUse);
        assert!(page(address).contains("meshmq_node_info"), "the first one goes on");
    });
}
