//! Requests and replies between real nodes over real sockets, and real processes where one is killed.

use std::future::IntoFuture;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::*};
use std::time::{Duration, Instant};

use crate::support::{PATIENCE, Place, Role, address, run, until};
use futures_util::StreamExt;
use futures_util::future::{join_all, pending};
use meshmq::{Builder, Event, Message, NewMessage, Node, RemoteError, Replier, ReplyError, RequestError, Requester};
use rustix::process::Signal;

const SECOND: Duration = Duration::from_secs(1);

/// A role: answers in upper case, as many at a time as its first argument says, or with `hold` says of each that it has it
/// and holds it; how it meets others is the second argument.
#[test]
fn replier() {
    let Some(role) = Role::of("replier") else { return };
    run(async {
        let node = met_by(role.args.get(1), role.builder()).await.unwrap();
        let replier = node.replier("work").await.unwrap();
        role.say("ready");
        if role.args[0] == "hold" {
            let mut held = Vec::new();
            while let Ok(request) = replier.recv().await {
                role.say(String::from_utf8_lossy(&request));
                held.push(request);
            }
        }
        replier.serve(role.arg(0), upper).await.unwrap();
    });
}

/// A role: asks for each number up to its first argument, and says what became of it.
#[test]
fn requester() {
    let Some(role) = Role::of("requester") else { return };
    run(async {
        let node = met_by(role.args.get(1), role.builder()).await.unwrap();
        let requester = node.requester("work").await.unwrap();
        role.say("ready");
        for number in 0..role.arg::<u32>(0) {
            let reply = requester.request(format!("n{number}")).timeout(PATIENCE).wait_for_replier().await.unwrap();
            assert_eq!(reply.body(), format!("N{number}"));
        }
        role.say("done");
    });
}

/// A role: holds what it is asked until it is told to answer; then it answers that, and everything else at once.
#[test]
fn holder() {
    let Some(role) = Role::of("holder") else { return };
    let (tell, mut told) = tokio::sync::watch::channel(false);
    std::thread::spawn(move || {
        std::io::stdin().read_line(&mut String::new()).unwrap();
        tell.send_replace(true);
    });
    run(async {
        let node = role.builder().await.unwrap();
        let replier = node.replier("work").limit(20_000).await.unwrap();
        role.say("ready");
        let mut held = Vec::new();
        loop {
            tokio::select! {
                biased;
                _ = told.wait_for(|told| *told) => break,
                request = replier.recv() => held.push(request.unwrap()),
            }
        }
        role.say(held.len());
        for request in held {
            let answer = request.to_ascii_uppercase();
            request.reply(answer).unwrap();
        }
        replier.serve(100, upper).await.unwrap();
    });
}

/// In the folder of the test, or by `listen ADDRESS` or `dial ADDRESS` alone.
fn met_by(how: Option<&String>, builder: Builder) -> Builder {
    match how.and_then(|how| how.split_once(' ')) {
        None | Some(("", _)) => builder,
        Some(("listen", address)) => builder.without_local().listen(address.parse().unwrap()),
        Some((_, address)) => builder.without_local().peer(address),
    }
}

async fn upper(request: Message) -> Result<Vec<u8>, RemoteError> {
    Ok(request.to_ascii_uppercase())
}

/// Two nodes that are linked, with a requester and a replier of this limit.
async fn two(place: &Place, limit: usize) -> (Node, Requester, Node, Replier) {
    let (asking, answering) = (place.builder().await.unwrap(), place.builder().await.unwrap());
    let requester = asking.requester("work").await.unwrap();
    let replier = answering.replier("work").limit(limit).await.unwrap();
    requester.wait_for_repliers(1).await.unwrap();
    (asking, requester, answering, replier)
}

#[test]
fn requests_are_answered_whoever_starts_first_and_whoever_dials() {
    let ways = [["", ""], ["dial", "listen"], ["listen", "dial"]];
    let cases = ways.iter().flat_map(|way| [true, false].map(|replier_first| (way, replier_first)));
    for (nth, ([replier_does, requester_does], replier_first)) in cases.enumerate() {
        let place = Place::new();
        let address = address(8, nth as u16);
        let start_replier = || place.start("replier", &[&4, &format!("{replier_does} {address}")]);
        let start_requester = || place.start("requester", &[&100, &format!("{requester_does} {address}")]);
        let (_replier, requester) = if replier_first {
            let replier = start_replier();
            replier.hear_this("ready");
            (replier, start_requester())
        } else {
            let requester = start_requester();
            requester.hear_this("ready");
            (start_replier(), requester)
        };
        requester.hear_this("done");
    }
}

#[test]
fn nobody_there_is_said_at_once_when_the_mesh_is_settled() {
    run(async {
        let place = Place::new();
        let (node, other) = (place.builder().await.unwrap(), place.builder().await.unwrap());
        let requester = node.requester("work").await.unwrap();
        node.settled().await;
        let begun = Instant::now();
        assert_eq!(requester.request("x").await.unwrap_err(), RequestError::NoReplier);
        assert_eq!(requester.request("x").to(other.id()).await.unwrap_err(), RequestError::NoReplier);
        assert!(begun.elapsed() < SECOND / 2, "it was waited: {:?}", begun.elapsed());
        assert!(!RequestError::NoReplier.may_have_run());

        // Who wants to wait does, and not for ever.
        let waited = requester.request("x").wait_for_replier().timeout(SECOND / 5).await;
        assert_eq!(waited.unwrap_err(), RequestError::NoReplier);
        let waiting = tokio::spawn(requester.request("x").wait_for_replier().into_future());
        until("it waits", || requester.metrics().waiting == 1).await;
        let replier = other.replier("work").await.unwrap();
        replier.recv().await.unwrap().reply("there").unwrap();
        assert_eq!(waiting.await.unwrap().unwrap().body(), "there");
        assert_eq!(requester.metrics().no_replier, 3);
    });
}

#[test]
fn a_young_node_looks_for_a_replier_before_it_says_that_there_is_none() {
    run(async {
        let place = Place::new();
        let answering = place.builder().await.unwrap();
        let replier = answering.replier("work").await.unwrap();
        // It can be found from now on.
        answering.settled().await;
        let serving = async { replier.serve(1, upper).await.unwrap() };
        let asking = async {
            let begun = Instant::now();
            let node = place.builder().await.unwrap();
            let requester = node.requester("work").await.unwrap();
            match requester.request("at once").await {
                Ok(reply) => assert_eq!(reply.body(), "AT ONCE"),
                // It looks for no longer than that, on a machine that is busy with other things.
                Err(error) => assert!(begun.elapsed() > SECOND, "{error} after {:?}", begun.elapsed()),
            }
        };
        tokio::select! {
            () = serving => unreachable!(),
            () = asking => {}
        }
    });
}

#[test]
fn what_a_handler_says_arrives_with_its_code_and_a_panic_harms_nobody_else() {
    run(async {
        let place = Place::new();
        let (_asking, requester, _answering, replier) = two(&place, 100).await;
        async fn handle(request: Message) -> meshmq::Result<NewMessage> {
            match &request[..] {
                b"code" => Err(RemoteError::new("no_such_user", "there is no user 7").into()),
                b"plain" => Err("it did not work".into()),
                b"panic" => panic!("on purpose"),
                _ => Ok(NewMessage::new(request.body()).with_headers(&request.headers())),
            }
        }
        let asking = async {
            let remote =
                |code: &str, message: &str| RequestError::Remote { code: code.into(), message: message.into() };
            let ask = async |body: &'static str| requester.request(body).await.unwrap_err();
            assert_eq!(ask("code").await, remote("no_such_user", "there is no user 7"));
            assert_eq!(ask("plain").await, remote("error", "it did not work"));
            assert_eq!(ask("panic").await, remote("panic", "the handler panicked"));
            let reply = requester.request("echo").header("user", "jürgen").await.unwrap();
            assert_eq!((&reply[..], reply.header("user")), (&b"echo"[..], Some("jürgen")));
        };
        tokio::select! {
            closed = replier.serve(2, handle) => closed.unwrap(),
            () = asking => {}
        }
        let failed = (requester.metrics().failed, replier.metrics().failed);
        assert_eq!(failed, (3, 3));

        let asking = tokio::spawn(requester.request("dropped").into_future());
        drop(replier.recv().await.unwrap());
        let Err(RequestError::Remote { code, .. }) = asking.await.unwrap() else { panic!("it has failed") };
        assert_eq!(code, "dropped");
    });
}

#[test]
fn a_request_says_who_asks_and_how_long() {
    run(async {
        let place = Place::new();
        let (asking, requester, answering, replier) = two(&place, 100).await;
        let waiting = tokio::spawn(requester.request("x").timeout(5 * SECOND).idempotent().into_future());
        let request = replier.recv().await.unwrap();
        assert_eq!((request.sender(), request.attempt(), request.redelivered()), (asking.id(), 1, false));
        assert!(request.is_idempotent() && !request.is_cancelled());
        assert!(request.remaining() <= 5 * SECOND && request.remaining() > SECOND, "{:?}", request.remaining());
        let id = request.id();
        assert_eq!(id.node, asking.id());
        request.reply("y").unwrap();
        let reply = waiting.await.unwrap().unwrap();
        assert_eq!((reply.sender(), reply.id()), (answering.id(), id));
    });
}

/// Says when it is dropped.
struct Dropped(Arc<AtomicUsize>);

impl Drop for Dropped {
    fn drop(&mut self) {
        self.0.fetch_add(1, AcqRel);
    }
}

#[test]
fn whoever_gives_up_or_runs_out_of_time_has_the_handler_dropped() {
    run(async {
        let place = Place::new();
        let (_asking, requester, _answering, replier) = two(&place, 100).await;
        let (begun, ended) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let serving = {
            let (begun, ended) = (begun.clone(), ended.clone());
            tokio::spawn(async move {
                let handler = |_: Message| {
                    begun.fetch_add(1, AcqRel);
                    let dropped = Dropped(ended.clone());
                    async move {
                        let _dropped = dropped;
                        pending::<Result<NewMessage, RemoteError>>().await
                    }
                };
                let _ = replier.serve(10, handler).await;
                replier
            })
        };
        let giving_up = tokio::spawn(requester.request("x").timeout(PATIENCE).into_future());
        until("it runs", || begun.load(Acquire) == 1).await;
        giving_up.abort();
        let since = Instant::now();
        until("it is dropped", || ended.load(Acquire) == 1).await;
        assert!(since.elapsed() < SECOND, "after {:?}", since.elapsed());

        let late = requester.request("x").timeout(SECOND / 4).await;
        assert_eq!(late.unwrap_err(), RequestError::TimedOut);
        until("it is dropped", || ended.load(Acquire) == 2).await;
        let metrics = requester.metrics();
        assert_eq!((metrics.cancelled, metrics.timed_out, metrics.open), (1, 1, 0));
        serving.abort();
    });
}

#[test]
fn a_request_in_hand_is_told_that_nobody_waits() {
    run(async {
        let place = Place::new();
        let (_asking, requester, _answering, replier) = two(&place, 100).await;
        let asking = tokio::spawn(requester.request("x").into_future());
        let request = replier.recv().await.unwrap();
        asking.abort();
        request.cancelled().await;
        assert!(request.is_cancelled());
        request.reply("nobody hears it").unwrap();
        until("it is counted", || replier.metrics().cancelled == 1).await;
        assert_eq!(replier.metrics().replied, 0);
    });
}

#[test]
fn full_repliers_are_passed_over_and_when_all_are_it_is_said_at_once() {
    run(async {
        let place = Place::new();
        let (_asking, requester, _answering, one) = two(&place, 1).await;
        let third = place.builder().await.unwrap();
        let two = third.replier("work").limit(1).await.unwrap();
        requester.wait_for_repliers(2).await.unwrap();
        let first = tokio::spawn(requester.request("x").into_future());
        let second = tokio::spawn(requester.request("x").into_future());
        let (in_hand, also) = (one.recv().await.unwrap(), two.recv().await.unwrap());
        let begun = Instant::now();
        assert_eq!(requester.request("x").await.unwrap_err(), RequestError::Busy);
        assert!(begun.elapsed() < SECOND);
        in_hand.reply("y").unwrap();
        also.reply("y").unwrap();
        assert!(first.await.unwrap().is_ok() && second.await.unwrap().is_ok());
        let busy = one.metrics().busy + two.metrics().busy;
        assert_eq!(busy, requester.metrics().refused);
    });
}

#[test]
fn one_node_can_be_asked_and_all_can() {
    run(async {
        let place = Place::new();
        let asking = place.builder().await.unwrap();
        let requester = asking.requester("work").await.unwrap();
        assert_eq!(requester.request_all("x").await.unwrap_err(), RequestError::NoReplier);
        let mut nodes = Vec::new();
        for answer in ["one", "two", "three"] {
            let node = place.builder().await.unwrap();
            let replier = node.replier("work").await.unwrap();
            let handler = move |request: Message| async move {
                match &request[..] {
                    b"fail" if answer == "two" => Err(RemoteError::new("no", "not me")),
                    b"hang" if answer == "three" => pending().await,
                    _ => Ok(answer),
                }
            };
            nodes.push((node, answer, tokio::spawn(async move { replier.serve(4, handler).await })));
        }
        requester.wait_for_repliers(3).await.unwrap();
        for (node, answer, _) in &nodes {
            for _ in 0..5 {
                let reply = requester.request("x").to(node.id()).await.unwrap();
                assert_eq!((&reply[..], reply.sender()), (answer.as_bytes(), node.id()));
            }
        }
        let all: Vec<_> = requester.request_all("x").await.unwrap().collect().await;
        let mut heard: Vec<_> = all.iter().map(|reply| String::from_utf8(reply.to_vec()).unwrap()).collect();
        heard.sort();
        assert_eq!(heard, ["one", "three", "two"]);

        let mut some = requester.request_all("fail").await.unwrap();
        assert!(some.recv().await.is_some() && some.recv().await.is_some() && some.recv().await.is_none());
        let [missing] = some.missing() else { panic!("one is missing: {:?}", some.missing()) };
        let why = RequestError::Remote { code: "no".into(), message: "not me".into() };
        assert_eq!((missing.node, &missing.why), (nodes[1].0.id(), &why));

        let mut some = requester.request_all("hang").timeout(SECOND).await.unwrap();
        while some.recv().await.is_some() {}
        let [missing] = some.missing() else { panic!("one is missing: {:?}", some.missing()) };
        assert_eq!((missing.node, &missing.why), (nodes[2].0.id(), &RequestError::TimedOut));
    });
}

#[test]
fn the_largest_bodies_pass_and_larger_ones_are_refused() {
    run(async {
        let place = Place::new();
        let (_asking, requester, _answering, replier) = two(&place, 100).await;
        let most = 16 << 20;
        let body: Vec<u8> = (0..most).map(|at: usize| (at / 1000) as u8).collect();
        let answering = async {
            replier.recv().await.unwrap().reply(body.clone()).unwrap();
            let fault = replier.recv().await.unwrap().reply(vec![0; most + 1]).unwrap_err();
            assert_eq!(fault, ReplyError::TooLarge { len: most + 1, limit: most });
        };
        let asking = async {
            let reply = requester.request(body.clone()).timeout(PATIENCE).await.unwrap();
            assert!(reply[..] == body[..], "the body is another one");
            let Err(RequestError::Remote { code, message }) = requester.request("x").await else { panic!("too large") };
            assert_eq!(code, "too_large");
            assert!(message.contains("16777217"), "{message}");
            let refused = requester.request(vec![0; most + 1]).await.unwrap_err();
            assert_eq!(refused, RequestError::TooLarge { len: most + 1, limit: most });
        };
        tokio::join!(answering, asking);

        // A short request passes a long one that was begun before it.
        let long = tokio::spawn(requester.request(body.clone()).timeout(PATIENCE).into_future());
        until("it is asked", || requester.metrics().open == 1).await;
        let short = tokio::spawn(requester.request("short").into_future());
        let first = replier.recv().await.unwrap();
        assert_eq!(&first[..], b"short");
        first.reply("x").unwrap();
        replier.recv().await.unwrap().reply("x").unwrap();
        assert!(short.await.unwrap().is_ok() && long.await.unwrap().is_ok());
        let bytes = || (requester.metrics().bytes, replier.metrics().bytes);
        until("nothing is held any more", || bytes() == (0, 0)).await;
    });
}

#[test]
fn a_reply_that_is_too_large_for_who_asked_is_told_by_an_event() {
    run(async {
        let place = Place::new();
        let (small, answering) = (place.builder().max_message(1000).await.unwrap(), place.builder().await.unwrap());
        let replier = answering.replier("work").await.unwrap();
        let requester = small.requester("work").await.unwrap();
        requester.wait_for_repliers(1).await.unwrap();
        let mut events = answering.events();
        for len in [1001, 2000] {
            let answer = async {
                let fault = replier.recv().await.unwrap().reply(vec![0; len]).unwrap_err();
                assert_eq!(fault, ReplyError::TooLarge { len, limit: 1000 });
            };
            let (failed, ()) = tokio::join!(requester.request("x").into_future(), answer);
            assert!(matches!(failed, Err(RequestError::Remote { code, .. }) if code == "too_large"));
        }
        // Another one is told of by itself; this node takes what it sends.
        let own = answering.requester("work").await.unwrap();
        own.wait_for_repliers(1).await.unwrap();
        let most = 16 << 20;
        let answer = async { replier.recv().await.unwrap().reply(vec![0; most + 1]).unwrap_err() };
        let (_, _) = tokio::join!(own.request("x").into_future(), answer);

        let mut told = Vec::new();
        while let Some(event) = events.try_recv() {
            if let Event::ReplyTooLarge { channel, requester, len, limit } = event {
                assert_eq!(channel, "work");
                told.push((requester, len, limit));
            }
        }
        assert_eq!(told[0], (small.id(), 1001, 1000));
        assert_eq!(told[told.len() - 1], (answering.id(), most + 1, most));
        // At once, and then once a second: on a busy machine that may have passed.
        assert!(told.len() == 2 || told[1] == (small.id(), 2000, 1000), "{told:?}");
    });
}

#[test]
fn any_number_may_be_open_and_each_is_answered_with_its_own() {
    run(async {
        let place = Place::new();
        let (_asking, requester, _answering, replier) = two(&place, 20_000).await;
        let count = 10_000;
        let asking: Vec<_> = (0..count)
            .map(|number: u32| tokio::spawn(requester.request(number.to_string()).timeout(PATIENCE).into_future()))
            .collect();
        let mut in_hand = Vec::new();
        while in_hand.len() < count as usize {
            in_hand.push(replier.recv().await.unwrap());
        }
        assert_eq!(requester.metrics().open, u64::from(count));
        // The last one first.
        for request in in_hand.into_iter().rev() {
            let answer = format!("re {}", String::from_utf8_lossy(&request));
            request.reply(answer).unwrap();
        }
        for (number, reply) in join_all(asking).await.into_iter().enumerate() {
            assert_eq!(reply.unwrap().unwrap().body(), format!("re {number}"));
        }
    });
}

#[test]
fn a_killed_repliers_requests_are_unknown_at_once_or_asked_again() {
    let place = Place::new();
    let mut killed = place.start("replier", &[&"hold"]);
    killed.hear_this("ready");
    run(async {
        let node = place.builder().await.unwrap();
        let requester = node.requester("work").await.unwrap();
        requester.wait_for_repliers(1).await.unwrap();
        let once = tokio::spawn(requester.request("once").into_future());
        let again = tokio::spawn(requester.request("again").idempotent().into_future());
        until("both are asked", || requester.metrics().asked == 2).await;
        let mut heard = [killed.hear(), killed.hear()];
        heard.sort();
        assert_eq!(heard, ["again", "once"]);
        let other = place.start("replier", &[&1]);
        other.hear_this("ready");
        requester.wait_for_repliers(2).await.unwrap();
        let begun = Instant::now();
        killed.kill();
        let lost = once.await.unwrap().unwrap_err();
        assert!(matches!(lost, RequestError::Unknown { .. }) && lost.may_have_run(), "{lost}");
        let reply = again.await.unwrap().unwrap();
        assert_eq!((&reply[..], reply.attempt()), (&b"AGAIN"[..], 2));
        assert!(begun.elapsed() < SECOND, "after {:?}", begun.elapsed());
        drop(other);
    });
}

#[test]
fn of_ten_thousand_open_requests_each_ends_once_when_two_of_four_repliers_are_killed() {
    let place = Place::new();
    let mut repliers: Vec<_> = (0..4).map(|_| place.start("holder", &[])).collect();
    repliers.iter().for_each(|replier| replier.hear_this("ready"));
    run(async {
        let node = place.builder().await.unwrap();
        let requester = node.requester("work").await.unwrap();
        requester.wait_for_repliers(4).await.unwrap();
        let asking: Vec<_> = (0..10_000_u32)
            .map(|number| {
                let ask = requester.request(format!("n{number}")).timeout(PATIENCE);
                // Every other one may be asked again.
                let ask = if number.is_multiple_of(2) { ask.idempotent() } else { ask };
                tokio::spawn(ask.into_future())
            })
            .collect();
        let with_repliers = || requester.metrics().repliers.iter().map(|replier| replier.open).sum::<u64>();
        until("all are asked", || requester.metrics().asked == 10_000 && with_repliers() == 10_000).await;
        let mut survivors = repliers.split_off(2);
        for killed in &mut repliers {
            killed.kill();
        }
        let begun = Instant::now();
        until("both are missed", || requester.metrics().repliers.len() == 2).await;
        assert!(begun.elapsed() < SECOND, "after {:?}", begun.elapsed());
        survivors.iter_mut().for_each(|replier| replier.tell("answer"));
        let (mut unknown, mut again) = (0, 0);
        for (number, ended) in join_all(asking).await.into_iter().enumerate() {
            match ended.unwrap() {
                Ok(reply) => {
                    assert_eq!(reply.body(), format!("N{number}"));
                    again += u64::from(reply.attempt() - 1);
                }
                Err(error) => {
                    assert!(number % 2 == 1 && matches!(error, RequestError::Unknown { .. }), "{number}: {error}");
                    unknown += 1;
                }
            }
        }
        let metrics = requester.metrics();
        assert_eq!((metrics.unknown, metrics.repeated, metrics.open), (unknown, again, 0));
        assert_eq!(metrics.replied + metrics.unknown, 10_000);
        assert!(unknown > 500 && again > 500, "two of four had some: {unknown} unknown, {again} asked again");
    });
}

#[test]
fn a_stopped_replier_is_given_up_and_its_late_answer_harms_nobody() {
    let place = Place::new();
    let stopped = place.start("replier", &[&"hold"]);
    stopped.hear_this("ready");
    run(async {
        let node = place.builder().await.unwrap();
        let requester = node.requester("work").await.unwrap();
        requester.wait_for_repliers(1).await.unwrap();
        let once = tokio::spawn(requester.request("once").timeout(PATIENCE).into_future());
        until("it is asked", || requester.metrics().asked == 1).await;
        stopped.hear_this("once");
        let begun = Instant::now();
        stopped.stop();
        let lost = once.await.unwrap().unwrap_err();
        assert!(matches!(lost, RequestError::Unknown { .. }), "{lost}");
        assert!(begun.elapsed() < 5 * SECOND, "after {:?}", begun.elapsed());
        stopped.signal(Signal::CONT);
        // It comes back, and takes requests again.
        requester.wait_for_repliers(1).await.unwrap();
        let asking = tokio::spawn(requester.request("back").wait_for_replier().timeout(PATIENCE).into_future());
        until("it is asked", || requester.metrics().asked == 2).await;
        stopped.hear_this("back");
        asking.abort();
    });
}

#[test]
fn a_closing_replier_answers_what_it_has_in_hand_and_the_rest_goes_elsewhere() {
    run(async {
        let place = Place::new();
        let (_asking, requester, answering, replier) = two(&place, 100).await;
        let asking: Vec<_> =
            (0..10).map(|_| tokio::spawn(requester.request("x").timeout(PATIENCE).into_future())).collect();
        let in_hand = replier.recv().await.unwrap();
        until("the others wait", || replier.metrics().waiting == 9).await;
        let other = place.builder().await.unwrap();
        let next = other.replier("work").await.unwrap();
        requester.wait_for_repliers(2).await.unwrap();
        let shutdown = tokio::spawn(async move { answering.shutdown(PATIENCE).await });
        for _ in 0..9 {
            next.recv().await.unwrap().reply("elsewhere").unwrap();
        }
        assert!(!shutdown.is_finished(), "what is in hand may still be answered");
        in_hand.reply("still here").unwrap();
        shutdown.await.unwrap();
        let mut heard: Vec<_> =
            join_all(asking).await.into_iter().map(|reply| reply.unwrap().unwrap().body()).collect();
        heard.sort();
        assert_eq!(heard[9], "still here");
        assert!(heard[..9].iter().all(|reply| reply == "elsewhere"));
        assert!(replier.recv().await.is_err());
    });
}

#[test]
fn a_requester_that_shuts_down_ends_its_requests_by_their_outcome() {
    run(async {
        let place = Place::new();
        let (asking, requester, _answering, replier) = two(&place, 100).await;
        let open = tokio::spawn(requester.request("x").into_future());
        let in_hand = replier.recv().await.unwrap();
        let shutdown = tokio::spawn({
            let asking = asking.clone();
            async move { asking.shutdown(PATIENCE).await }
        });
        until("it takes no more", || shutdown.is_finished() || requester.metrics().closed > 0 || closing(&requester))
            .await;
        in_hand.reply("in time").unwrap();
        assert_eq!(open.await.unwrap().unwrap().body(), "in time");
        shutdown.await.unwrap();
        assert_eq!(requester.request("x").await.unwrap_err(), RequestError::Closed);

        // And where no answer comes while it drains, that is said.
        let place = Place::new();
        let (asking, requester, _answering, replier) = two(&place, 100).await;
        let open = tokio::spawn(requester.request("x").timeout(PATIENCE).into_future());
        let in_hand = replier.recv().await.unwrap();
        asking.shutdown(SECOND / 10).await;
        assert!(matches!(open.await.unwrap().unwrap_err(), RequestError::Unknown { .. }));
        in_hand.cancelled().await;
    });
}

/// It refuses requests.
fn closing(requester: &Requester) -> bool {
    use futures_util::FutureExt;
    matches!(requester.request("probe").into_future().now_or_never(), Some(Err(RequestError::Closed)))
}

#[test]
fn what_the_bound_holds_back_waits_within_its_time() {
    run(async {
        let place = Place::new();
        let (_asking, _requester, answering, replier) = two(&place, 100).await;
        let node = place.builder().await.unwrap();
        let requester = node.requester("work").bound(2, 1 << 20).await.unwrap();
        requester.wait_for_repliers(1).await.unwrap();
        let asking: Vec<_> = (0..4).map(|_| tokio::spawn(requester.request("x").into_future())).collect();
        let (one, two) = (replier.recv().await.unwrap(), replier.recv().await.unwrap());
        until("the others wait", || requester.metrics().waiting == 2).await;
        let late = requester.request("x").timeout(SECOND / 10).await;
        assert_eq!(late.unwrap_err(), RequestError::NotSent);
        assert!(!RequestError::NotSent.may_have_run());
        one.reply("y").unwrap();
        two.reply("y").unwrap();
        for _ in 0..2 {
            replier.recv().await.unwrap().reply("y").unwrap();
        }
        assert!(join_all(asking).await.into_iter().all(|reply| reply.unwrap().is_ok()));
        drop(answering);
    });
}

#[test]
fn sockets_of_one_node_meet_in_memory() {
    run(async {
        let node = Node::isolated().await.unwrap();
        let (requester, replier) = (node.requester("work").await.unwrap(), node.replier("work").await.unwrap());
        let serving = tokio::spawn(async move { replier.serve(4, upper).await });
        for number in 0..100 {
            let reply = requester.request(format!("n{number}")).await.unwrap();
            assert_eq!(reply.body(), format!("N{number}"));
        }
        let metrics = requester.metrics();
        assert_eq!((metrics.asked, metrics.replied, metrics.repliers.len()), (100, 100, 1));
        node.shutdown(SECOND).await;
        serving.await.unwrap().unwrap();
    });
}

#[test]
fn a_replier_is_a_stream_and_says_who_is_connected() {
    run(async {
        let node = Node::isolated().await.unwrap();
        let requester = node.requester("work").await.unwrap();
        let mut replier = node.replier("work").await.unwrap();
        replier.wait_for_requesters(1).await.unwrap();
        assert!(replier.try_recv().unwrap().is_none());
        let asking = tokio::spawn(requester.request("x").into_future());
        let request = replier.next().await.unwrap();
        request.fail("later", "not now");
        assert!(asking.await.unwrap().is_err());
        replier.close();
        assert!(replier.next().await.is_none() && replier.try_recv().is_err());
        assert!(node.requester("work").bound(0, 1).await.unwrap_err().to_string().contains("bound"));
        assert!(node.replier("work").limit(0).await.is_err());
        assert_eq!(requester.channel(), "work");
    });
}
