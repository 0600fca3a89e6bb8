//! Sockets that carry values: who meets whom, and what becomes of what is no value.

use std::time::Duration;

use crate::support::{Place, run, until};
use futures_util::{FutureExt, SinkExt, StreamExt};
use meshmq::{
    Event, Events, HandleError, InvalidTypeName, NewTyped, Node, NodeStatus, OpenError, RequestError, SendErrorKind,
    TypeName, Typed, TypedPull, TypedRecvError, TypedReplyError, TypedRequestError, TypedRequestErrorKind,
    TypedSendErrorKind, WhenFull, blocking,
};
use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Job {
    file: String,
    width: u32,
}

impl Typed for Job {
    const NAME: &'static str = "shop.Job";
    const VERSION: u32 = 3;
}

fn job(width: u32) -> Job {
    Job { file: "cat.png".into(), width }
}

/// The same type, as an older program has it.
#[derive(Debug, Serialize, Deserialize)]
struct OldJob {
    file: String,
}

impl Typed for OldJob {
    const NAME: &'static str = "shop.Job";
    const VERSION: u32 = 2;
}

#[derive(Debug, Serialize, Deserialize)]
struct Order(u64);

impl Typed for Order {
    const NAME: &'static str = "shop.Order";
}

async fn two_nodes(place: &Place) -> (Node, Node) {
    (place.builder().await.unwrap(), place.builder().await.unwrap())
}

/// What the node tells of sockets that do not meet: whose the other one is, which channel, and what both say.
async fn mismatch(events: &mut Events) -> (meshmq::NodeId, String, &'static str, String, String) {
    loop {
        if let Event::TypeMismatch { node, channel, kind, here, there } = events.recv().await.unwrap() {
            return (node, channel, kind, here.to_string(), there.to_string());
        }
    }
}

#[test]
fn values_pass_between_nodes() {
    run(async {
        let place = Place::new();
        let (one, two) = two_nodes(&place).await;
        let push = one.push("jobs").typed::<Job>().await.unwrap();
        let pull = two.pull("jobs").prefetch(2).typed::<Job>().await.unwrap();
        push.wait_for_pullers(1).await.unwrap();
        let (sent, ()) = tokio::join!(push.send(NewTyped::new(job(640)).header("kind", "resize")).handled(), async {
            let got = pull.recv().await.unwrap();
            assert_eq!((got.value(), got.width, got.raw().sender()), (&job(640), 640, one.id()));
            assert_eq!((got.raw().header("kind"), got.raw().attempt()), (Some("resize"), 1));
            assert_eq!(got.ack_into_value(), job(640));
        });
        sent.unwrap();
        push.try_send(job(1)).unwrap();
        push.send_timeout(job(2), Duration::from_secs(1)).await.unwrap();
        assert_eq!(push.send_batch([job(3), job(4)]).await.unwrap(), 2);
        push.reserve(100).await.unwrap().send(job(5)).unwrap();
        let mut widths = Vec::new();
        for batch in 0..5 {
            let got = match batch {
                0 => pull.recv().await.unwrap(),
                1 => pull.recv_batch(1).await.unwrap().remove(0).unwrap(),
                _ => loop {
                    if let Some(got) = pull.try_recv().unwrap() {
                        break got;
                    }
                    tokio::task::yield_now().await;
                },
            };
            widths.push(got.ack_into_value().width);
        }
        assert_eq!(widths, [1, 2, 3, 4, 5]);
        push.flush().await.unwrap();
        assert_eq!(push.metrics().handled, 6);

        let said = |status: NodeStatus| status.sockets[0].message_type.clone().map(|said: TypeName| said.to_string());
        assert_eq!(said(one.status_of(two.id(), Duration::from_secs(5)).await.unwrap()), Some("shop.Job v3".into()));
    });
}

#[test]
fn a_sink_and_a_stream_of_values() {
    run(async {
        let node = Node::isolated().await.unwrap();
        let pull = node.pull("jobs").typed::<Job>().await.unwrap();
        let mut sink = node.push("jobs").bound(3, 1000).typed::<Job>().await.unwrap().into_sink();
        for width in [1, 2] {
            sink.feed(job(width)).await.unwrap();
        }
        SinkExt::flush(&mut sink).await.unwrap();
        let got: Vec<_> = pull.take(2).map(|got| got.unwrap().ack_into_value().width).collect().await;
        assert_eq!(got, [1, 2]);
        drop(node.shutdown(Duration::ZERO).await);
        let refused = sink.send(job(3)).await.unwrap_err();
        assert_eq!(refused.kind, TypedSendErrorKind::Refused(SendErrorKind::Closed));
    });
}

#[test]
fn a_sink_gives_back_a_value_that_it_holds_when_its_socket_closes() {
    run(async {
        let node = Node::isolated().await.unwrap();
        let mut sink = node.push("jobs").bound(3, 30).typed::<Job>().await.unwrap().into_sink();
        sink.feed(job(1)).await.unwrap();
        // There is a place for it, and none for its bytes.
        sink.feed(job(2)).await.unwrap();
        assert!(SinkExt::flush(&mut sink).now_or_never().is_none());
        drop(node.shutdown(Duration::ZERO).await);
        assert_eq!(SinkExt::flush(&mut sink).await.unwrap_err().message, Some(job(2)));
    });
}

#[test]
fn sockets_of_different_types_do_not_meet_and_both_ends_are_told() {
    run(async {
        let place = Place::new();
        let (one, two) = two_nodes(&place).await;
        let push = one.push("jobs").typed::<Job>().await.unwrap();
        let orders = two.pull("jobs").typed::<Order>().await.unwrap();
        let (mut here, mut there) = (one.events(), two.events());
        let (job_v3, order) = ("shop.Job v3".to_owned(), "shop.Order v1".to_owned());
        assert_eq!(
            mismatch(&mut here).await,
            (two.id(), "jobs".into(), "push", job_v3.clone(), order.clone()),
            "the pusher's side"
        );
        assert_eq!(mismatch(&mut there).await, (one.id(), "jobs".into(), "pull", order, job_v3), "the puller's side");
        push.send(job(7)).await.unwrap();
        assert!(push.wait_for_pullers(1).now_or_never().is_none(), "there is nobody");
        assert!(orders.wait_for_pushers(1).now_or_never().is_none());

        // Who waits for somebody is told why nobody comes.
        let told = loop {
            match here.recv().await.unwrap() {
                Event::ChannelAlone { channel, missing, nearest, mismatch } => {
                    break (channel, missing, nearest, mismatch.unwrap().to_string());
                }
                Event::TypeMismatch { .. } => panic!("it was told already"),
                _ => {}
            }
        };
        assert_eq!(told, ("jobs".into(), "pull", None, "shop.Order v1".into()));
        assert_eq!(push.metrics().queued, 1);

        let pull = two.pull("jobs").typed::<Job>().await.unwrap();
        assert_eq!(pull.recv().await.unwrap().ack_into_value(), job(7), "nothing was lost meanwhile");
        push.flush().await.unwrap();
    });
}

#[test]
fn sockets_of_two_versions_do_not_meet() {
    run(async {
        let place = Place::new();
        let (one, two) = two_nodes(&place).await;
        // The puller is there first this time.
        let pull = two.pull("jobs").typed::<OldJob>().await.unwrap();
        one.wait_for_peers(1).await.unwrap();
        let push = one.push("jobs").typed::<Job>().await.unwrap();
        let (_, _, _, here, there) = mismatch(&mut one.events()).await;
        assert_eq!((here, there), ("shop.Job v3".into(), "shop.Job v2".into()));
        mismatch(&mut two.events()).await;
        assert_eq!((push.pullers(), pull.metrics().pushers.len()), (0, 0));
    });
}

#[test]
fn sockets_of_one_node_are_held_apart_too() {
    run(async {
        let node = Node::isolated().await.unwrap();
        let orders = node.pull("jobs").typed::<Order>().await.unwrap();
        let push = node.push("jobs").typed::<Job>().await.unwrap();
        let told = mismatch(&mut node.events()).await;
        assert_eq!(told, (node.id(), "jobs".into(), "push", "shop.Job v3".into(), "shop.Order v1".into()));
        let pull = node.pull("jobs").typed::<Job>().await.unwrap();
        push.send(job(1)).handled().now_or_never();
        push.send(job(2)).await.unwrap();
        assert_eq!(pull.recv().await.unwrap().ack_into_value().width, 1);
        assert_eq!(pull.recv().await.unwrap().ack_into_value().width, 2);
        push.flush().await.unwrap();
        assert_eq!(orders.metrics().received, 0);
    });
}

#[test]
fn who_has_no_type_meets_everybody() {
    run(async {
        let place = Place::new();
        let (one, two) = two_nodes(&place).await;
        let push = one.push("jobs").typed::<Job>().await.unwrap();
        let bytes = two.pull("jobs").await.unwrap();
        push.send(job(5)).await.unwrap();
        let got = bytes.recv().await.unwrap();
        assert_eq!(&**got, b"\x82\xa4file\xa7cat.png\xa5width\x05", "a map with the names of its fields");
        got.ack();

        let bytes = one.push("answers").await.unwrap();
        let pull = two.pull("answers").typed::<Job>().await.unwrap();
        bytes.send(&b"\x82\xa5width\x06\xa4file\xa1x"[..]).await.unwrap();
        assert_eq!(pull.recv().await.unwrap().ack_into_value(), Job { file: "x".into(), width: 6 });
        let mut events = one.events();
        while let Some(event) = events.try_recv() {
            assert!(!matches!(event, Event::TypeMismatch { .. }), "{event:?}");
        }
    });
}

/// A typed puller, and somebody who sends it what is no value of the type.
async fn wrong() -> (Node, meshmq::Push, TypedPull<Job>) {
    let node = Node::isolated().await.unwrap();
    let (push, pull) = (node.push("jobs").await.unwrap(), node.pull("jobs").typed::<Job>().await.unwrap());
    push.send(&b"\x82\xa4file\xa1x\xa5width\xa1y"[..]).await.unwrap();
    (node, push, pull)
}

#[test]
fn what_is_no_value_is_an_error_that_holds_the_message() {
    run(async {
        let (node, push, mut pull) = wrong().await;
        let TypedRecvError::Undecodable(error) = pull.recv().await.unwrap_err() else { panic!("not closed") };
        let text = error.to_string();
        for part in ["not a shop.Job v3", "wrong msgpack marker FixStr(1)", "at byte 15 of 16"] {
            assert!(text.contains(part), "{part}: {text}");
        }
        assert_eq!((error.raw.len(), error.raw.attempt(), error.at), (16, 1, 15));
        // Dropped, the message is not lost.
        drop(error);
        let error = pull.next().await.unwrap().unwrap_err();
        assert_eq!((error.raw.attempt(), error.raw.redelivered()), (2, true));
        push.send(&b"\x82\xa4file\xa1x\xa5width\x01"[..]).await.unwrap();
        assert_eq!(pull.recv().await.unwrap().ack_into_value().width, 1, "the socket goes on");

        error.reject();
        push.flush().await.unwrap();
        let mut events = node.events();
        let reason = loop {
            if let Event::Rejected { reason, message, .. } = events.recv().await.unwrap() {
                assert_eq!(message.len(), 16);
                break reason;
            }
        };
        assert_eq!(reason, text);
        assert_eq!((push.metrics().handled, push.metrics().rejected), (1, 1));
    });
}

#[test]
fn serve_rejects_by_name_what_is_no_value() {
    run(async {
        let (node, push, pull) = wrong().await;
        push.send(&b"\x82\xa4file\xa1x\xa5width\x01"[..]).await.unwrap();
        let mut seen = Vec::new();
        let serving = pull.serve(2, |job| {
            seen.push((job.width, job.raw().attempt()));
            async move { Ok::<_, String>(()) }
        });
        tokio::select! {
            biased;
            flushed = push.flush() => flushed.unwrap(),
            _ = serving => panic!("the socket is open"),
        }
        assert_eq!(seen, [(1, 1)]);
        let rejected =
            |event: &Event| matches!(event, Event::Rejected { reason, .. } if reason.contains("shop.Job v3"));
        let mut events = node.events();
        while !rejected(&events.recv().await.unwrap()) {}
        assert_eq!((push.metrics().handled, push.metrics().rejected), (1, 1));
    });
}

/// A value that has no form.
#[derive(Debug, PartialEq)]
struct Odd;

impl Serialize for Odd {
    fn serialize<S: serde::Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
        Err(serde::ser::Error::custom("out of order"))
    }
}

impl Typed for Odd {
    const NAME: &'static str = "odd";
}

#[test]
fn a_value_that_is_refused_is_given_back() {
    run(async {
        let node = Node::isolated().max_message(100).await.unwrap();
        let push = node.push("jobs").bound(1, 1000).typed::<Job>().await.unwrap();
        let large = Job { file: "x".repeat(100), width: 1 };
        let refused = push.send(large.clone()).await.unwrap_err();
        assert!(matches!(refused.kind, TypedSendErrorKind::Refused(SendErrorKind::TooLarge { limit: 100, .. })));
        assert_eq!(refused.into_value(), large);
        push.send(job(1)).await.unwrap();
        let message = NewTyped::new(job(2)).header("kind", "resize");
        for refused in [
            push.try_send(message.clone()).unwrap_err(),
            push.send_timeout(message.clone(), Duration::from_millis(1)).await.unwrap_err(),
        ] {
            assert_eq!(refused.kind, TypedSendErrorKind::Refused(SendErrorKind::Full));
            assert_eq!(refused.message, message, "with its headers");
        }
        let pull = node.pull("jobs").await.unwrap();
        pull.recv().await.unwrap().ack();
        push.flush().await.unwrap();
        let refused = push.reserve(5).await.unwrap().send(job(3)).unwrap_err();
        assert_eq!((refused.to_string().contains("at most 5"), refused.into_value()), (true, job(3)));

        let odd = node.push("odd").typed::<Odd>().await.unwrap();
        let refused = odd.send(Odd).await.unwrap_err();
        assert_eq!(refused.to_string(), "this odd v1 can not be encoded: out of order");
        assert_eq!(refused.into_value(), Odd);
        let unhandled = odd.send(Odd).handled().await.unwrap_err();
        assert!(matches!(&unhandled, HandleError::Unencodable(why) if why.contains("out of order")), "{unhandled}");
        assert_eq!(odd.metrics().accepted, 0);

        drop(node.shutdown(Duration::ZERO).await);
        let refused = push.send(job(4)).await.unwrap_err();
        assert_eq!(refused.kind, TypedSendErrorKind::Refused(SendErrorKind::Closed));
        assert_eq!(refused.into_value(), job(4));
    });
}

macro_rules! named {
    ($($type:ident: $name:expr,)*) => {
        $(struct $type;
        impl Typed for $type {
            const NAME: &'static str = $name;
        })*
    };
}

const LONG: &str = match std::str::from_utf8(&[b't'; 256]) {
    Ok(name) => name,
    Err(_) => "",
};

named! {
    Nameless: "",
    Long: LONG,
    Longest: LONG.split_at(255).0,
    Broken: "a\nb",
}

#[test]
fn a_name_that_does_not_fit_opens_no_socket() {
    run(async {
        let node = Node::isolated().await.unwrap();
        let refused = |error: OpenError| match error {
            OpenError::Type(error) => error,
            other => panic!("{other}"),
        };
        let nameless = node.push("jobs").typed::<Nameless>().await.unwrap_err();
        assert_eq!(refused(nameless), InvalidTypeName::Empty);
        let long = node.pull("jobs").typed::<Long>().await.unwrap_err();
        assert_eq!(refused(long), InvalidTypeName::TooLong { len: 256 });
        let broken = node.push("jobs").typed::<Broken>().await.unwrap_err();
        assert_eq!(refused(broken), InvalidTypeName::Control { character: '\n', at: 1 });
        assert!(node.channels().is_empty());
        node.push("jobs").typed::<Longest>().await.unwrap();
    });
}

#[test]
fn threads_have_the_same_views() {
    let node = blocking::Node::isolated().join().unwrap();
    let push = node.push("jobs").bound(3, 1000).typed::<Job>().open().unwrap();
    let pull = node.pull("jobs").typed::<Job>().open().unwrap();
    push.wait_for_pullers(1).unwrap();
    push.send(job(1)).unwrap();
    push.try_send(job(2)).unwrap();
    push.send_timeout(job(3), Duration::from_secs(1)).unwrap();
    assert_eq!(push.try_send(job(4)).unwrap_err().into_value(), job(4));
    assert_eq!(pull.recv().unwrap().ack_into_value().width, 1);
    assert_eq!(pull.recv_timeout(Duration::from_secs(1)).unwrap().unwrap().ack_into_value().width, 2);
    assert_eq!(pull.recv_batch(4).unwrap().remove(0).unwrap().ack_into_value().width, 3);
    push.flush().unwrap();
    assert!(pull.try_recv().unwrap().is_none());

    std::thread::scope(|scope| {
        scope.spawn(|| pull.serve(2, |job| if job.width == 6 { Err("six") } else { Ok(()) }).unwrap());
        push.send_handled(job(5)).unwrap();
        assert_eq!(push.send_batch([job(7), job(8)]).unwrap(), 2);
        push.reserve(100).unwrap().send(job(9)).unwrap();
        push.flush().unwrap();
        let untyped = node.push("jobs").open().unwrap();
        let rejected = untyped.send_handled("no job").unwrap_err();
        assert!(
            matches!(&rejected, HandleError::Rejected { reason } if reason.contains("not a shop.Job v3")),
            "{rejected}"
        );
        pull.close();
    });
    let odd = node.push("odd").typed::<Odd>().open().unwrap();
    assert!(matches!(odd.send_handled(Odd), Err(HandleError::Unencodable(_))));
    // Async and back.
    let push = blocking::TypedPush::from(push.into_async());
    let pull = blocking::TypedPull::from(pull.into_async());
    assert!(pull.iter().next().is_none(), "it is closed");
    assert_eq!((push.channel(), pull.channel()), ("jobs", "jobs"));
    assert_eq!(push.into_untyped().metrics().handled, 7);
}

/// Polls it once, and drops it.
fn dropped<F: Future>(future: F) {
    assert!(Box::pin(future).as_mut().now_or_never().is_none(), "there was nothing to wait for");
}

#[test]
fn a_typed_future_that_is_dropped_has_done_nothing() {
    run(async {
        let node = Node::isolated().await.unwrap();
        drop(node.push("jobs").typed::<Job>());
        drop(IntoFuture::into_future(node.push("jobs").typed::<Job>()));
        assert!(node.channels().is_empty());
        let push = node.push("jobs").bound(1, 1000).typed::<Job>().await.unwrap();
        push.send(job(1)).await.unwrap();
        dropped(push.send(job(2)));
        dropped(push.send(job(3)).handled());
        dropped(push.send_timeout(job(4), Duration::from_secs(600)));
        dropped(push.send_batch([job(5), job(6)]));
        dropped(push.reserve(10));
        assert_eq!(push.metrics().accepted, 1);

        let pull = node.pull("jobs").typed::<Job>().await.unwrap();
        assert_eq!(pull.recv().await.unwrap().ack_into_value().width, 1);
        push.flush().await.unwrap();
        dropped(pull.recv());
        dropped(pull.recv_batch(2));
        dropped(pull.serve(1, |_| async { Ok::<_, String>(()) }));
        push.send(job(7)).await.unwrap();
        until("it is here", || pull.metrics().waiting == 1).await;
        assert_eq!(pull.recv().await.unwrap().ack_into_value().width, 7, "nobody has taken it");
    });
}

async fn requests(place: &Place) -> (Node, Node, meshmq::TypedRequester<Job, u64>, meshmq::TypedReplier<Job, u64>) {
    let (one, two) = two_nodes(place).await;
    let requester = one.requester("width").typed::<Job, u64>().await.unwrap();
    let replier = two.replier("width").typed::<Job, u64>().await.unwrap();
    requester.wait_for_repliers(1).await.unwrap();
    (one, two, requester, replier)
}

/// The code and the words that a request has failed with.
fn remote<Q>(error: TypedRequestError<Q>) -> (String, String) {
    match error.kind {
        TypedRequestErrorKind::Request(RequestError::Remote { code, message }) => (code, message),
        other => panic!("{other}"),
    }
}

#[test]
fn values_are_asked_and_answered() {
    run(async {
        let place = Place::new();
        let (_one, two, requester, replier) = requests(&place).await;
        let asking = async {
            let reply = requester.request(NewTyped::new(job(7)).header("kind", "x")).timeout(crate::support::PATIENCE);
            let reply = reply.idempotent().wait_for_replier().to(two.id()).await.unwrap();
            assert_eq!((*reply, reply.raw().sender()), (7, two.id()));
            assert_eq!(remote(requester.request(job(0)).await.unwrap_err()), ("zero".into(), "no width".into()));
        };
        let answering = async {
            let request = replier.recv().await.unwrap();
            assert_eq!((request.width, request.raw().header("kind")), (7, Some("x")));
            let width = u64::from(request.width);
            request.reply(width).unwrap();
            replier.recv().await.unwrap().fail("zero", "no width");
        };
        tokio::join!(asking, answering);

        let serving = replier.serve(2, async |job| match job.width {
            0 => Err("no width"),
            width => Ok(u64::from(width)),
        });
        tokio::select! {
            biased;
            _ = serving => panic!("the socket is open"),
            () = async {
                assert_eq!(*requester.request(job(9)).await.unwrap(), 9);
                assert_eq!(remote(requester.request(job(0)).await.unwrap_err()).0, "error");
                let mut replies = requester.request_all(job(3)).timeout(crate::support::PATIENCE).await.unwrap();
                assert_eq!(*replies.recv().await.unwrap().unwrap(), 3);
                assert!(replies.next().await.is_none() && replies.missing().is_empty());
            } => {}
        }
        assert!(replier.try_recv().unwrap().is_none());
    });
}

#[test]
fn the_types_of_requests_and_of_replies_have_to_agree() {
    run(async {
        let place = Place::new();
        let (one, two) = two_nodes(&place).await;
        let other_reply = two.replier("width").typed::<Job, String>().await.unwrap();
        let other_request = two.replier("width").typed::<OldJob, u64>().await.unwrap();
        let requester = one.requester("width").typed::<Job, u64>().await.unwrap();
        let mut events = two.events();
        let told = [mismatch(&mut events).await, mismatch(&mut events).await];
        let mut here: Vec<_> = told.iter().map(|(_, _, _, here, _)| &here[..]).collect();
        here.sort_unstable();
        assert_eq!(here, ["shop.Job v2 -> u64 v1", "shop.Job v3 -> string v1"]);
        assert_eq!(told[0].4, "shop.Job v3 -> u64 v1");
        one.settled().await;
        // Nobody is there for it, and that is said at once.
        let nobody = requester.request(job(1)).timeout(Duration::from_secs(600)).await.unwrap_err();
        assert!(matches!(nobody.kind, TypedRequestErrorKind::Request(RequestError::NoReplier)), "{nobody}");
        let nobody = requester.request_all(job(1)).await.unwrap_err();
        assert!(matches!(nobody.kind, TypedRequestErrorKind::Request(RequestError::NoReplier)), "{nobody}");
        assert_eq!(other_reply.metrics().received + other_request.metrics().received, 0);
    });
}

#[test]
fn what_is_no_value_fails_a_request_by_name() {
    run(async {
        let place = Place::new();
        let (one, two, requester, mut replier) = requests(&place).await;
        let untyped = one.requester("width").await.unwrap();
        untyped.wait_for_repliers(1).await.unwrap();
        let asking = async {
            let error = untyped.request("no job").await.unwrap_err();
            let RequestError::Remote { code, message } = error else { panic!("{error}") };
            assert!(code == "undecodable" && message.contains("not a shop.Job v3"), "{code}: {message}");
        };
        let answering = async {
            let Err(TypedRecvError::Undecodable(wrong)) = replier.recv().await else { panic!("it is none") };
            assert_eq!(wrong.raw.body(), "no job");
            wrong.fail();
        };
        tokio::join!(asking, answering);
        // By serve as well, and the socket goes on.
        tokio::select! {
            biased;
            _ = replier.serve(1, async |job| Ok::<_, String>(u64::from(job.width))) => panic!("the socket is open"),
            () = async {
                assert!(matches!(untyped.request("no").await, Err(RequestError::Remote { code, .. }) if code == "undecodable"));
                assert_eq!(*requester.request(job(4)).await.unwrap(), 4);
            } => {}
        }
        // As a stream, and dropped without an answer.
        let (error, ()) = tokio::join!(untyped.request("no").into_future(), async {
            drop(replier.next().await.unwrap().unwrap_err());
        });
        assert!(matches!(error, Err(RequestError::Remote { code, .. }) if code == "dropped"));

        // A reply that is none is an error that holds it. Where the other one has gone first, there may be nobody to ask.
        let untyped = two.replier("width").await.unwrap();
        requester.wait_for_repliers(2).await.unwrap();
        drop(replier);
        until("the typed one is gone", || requester.repliers() == 1).await;
        let (error, ()) = tokio::join!(requester.request(job(1)).into_future(), async {
            untyped.recv().await.unwrap().reply("no number").unwrap();
        });
        let error = error.unwrap_err();
        assert!(error.may_have_run());
        let TypedRequestErrorKind::Undecodable(wrong) = error.kind else { panic!("{error:?}") };
        assert!(wrong.raw.body() == "no number" && wrong.to_string().contains("not a u64 v1"), "{wrong}");
    });
}

#[test]
fn a_value_that_nobody_has_worked_on_is_given_back() {
    run(async {
        let place = Place::new();
        let (one, two) = two_nodes(&place).await;
        let requester = one.requester("width").typed::<Job, u64>().await.unwrap();
        one.settled().await;
        let asked = || NewTyped::new(job(7)).header("kind", "resize");
        let is_back = |error: TypedRequestError<Job>, how: RequestError| {
            assert!(matches!(&error.kind, TypedRequestErrorKind::Request(kind) if *kind == how), "{error}");
            assert!(!error.may_have_run());
            assert_eq!(error.message, Some(asked()), "{how}");
        };
        is_back(requester.request(asked()).await.unwrap_err(), RequestError::NoReplier);
        is_back(requester.request_all(asked()).await.unwrap_err(), RequestError::NoReplier);

        let replier = two.replier("width").limit(1).typed::<Job, u64>().await.unwrap();
        requester.wait_for_repliers(1).await.unwrap();
        let in_hand = tokio::spawn(requester.request(asked()).timeout(crate::support::PATIENCE).into_future());
        let request = replier.recv().await.unwrap();
        is_back(requester.request(asked()).await.unwrap_err(), RequestError::Busy);
        request.fail("zero", "no width");
        let failed = in_hand.await.unwrap().unwrap_err();
        assert!(failed.may_have_run() && failed.message.is_none(), "{failed}");

        // What does not fit is refused before anybody is asked.
        let most = 16 << 20;
        let large = || Job { file: "x".repeat(most), width: 1 };
        let refused = requester.request(large()).await.unwrap_err();
        assert!(matches!(refused.kind, TypedRequestErrorKind::Request(RequestError::TooLarge { .. })), "{refused}");
        assert!(refused.into_value().is_some_and(|value| value == large()));
        assert!(requester.request_all(large()).await.unwrap_err().into_value().is_some_and(|value| value == large()));
        let untold = NewTyped::new(job(1)).header("", "no name");
        let refused = requester.request(untold.clone()).await.unwrap_err();
        assert!(matches!(refused.kind, TypedRequestErrorKind::Request(RequestError::Header(_))), "{refused}");
        assert_eq!(refused.message, Some(untold));
        drop(one.shutdown(Duration::ZERO).await);
        is_back(requester.request(asked()).await.unwrap_err(), RequestError::Closed);
    });
}

#[test]
fn what_has_no_form_is_neither_asked_nor_answered() {
    run(async {
        let node = Node::isolated().await.unwrap();
        let requester = node.requester("odd").typed::<Odd, u64>().await.unwrap();
        let error = requester.request(Odd).await.unwrap_err();
        assert!(
            matches!(&error.kind, TypedRequestErrorKind::Unencodable(why) if why.contains("out of order")),
            "{error}"
        );
        assert!(error.into_value().is_some());
        let error = requester.request_all(Odd).await.unwrap_err();
        assert!(matches!(error.kind, TypedRequestErrorKind::Unencodable(_)) && error.message.is_some(), "{error}");
        assert_eq!(requester.metrics().asked, 0);

        let requester = node.requester("width").await.unwrap();
        let replier = node.replier("width").typed::<u64, Odd>().await.unwrap();
        requester.wait_for_repliers(1).await.unwrap();
        let (error, ()) = tokio::join!(requester.request(vec![1]).into_future(), async {
            let refused = replier.recv().await.unwrap().reply(Odd).unwrap_err();
            assert!(matches!(&refused, TypedReplyError::Unencodable(why) if why.contains("out of order")), "{refused}");
        });
        assert!(matches!(error, Err(RequestError::Remote { code, .. }) if code == "unencodable"));
        tokio::select! {
            biased;
            _ = replier.serve(1, async |_| Ok::<_, String>(Odd)) => panic!("the socket is open"),
            error = requester.request(vec![1]) => {
                assert!(matches!(error, Err(RequestError::Remote { code, .. }) if code == "unencodable"));
            }
        }
    });
}

#[test]
fn threads_ask_and_answer_with_values() {
    let node = blocking::Node::isolated().join().unwrap();
    let requester = node.requester("width").typed::<Job, u64>().open().unwrap();
    let replier = node.replier("width").limit(10).typed::<Job, u64>().open().unwrap();
    requester.wait_for_repliers(1).unwrap();
    assert!(replier.try_recv().unwrap().is_none());
    assert!(replier.recv_timeout(Duration::from_millis(1)).unwrap().is_none());
    std::thread::scope(|scope| {
        let asking = scope.spawn(|| [1, 2].map(|width| *requester.request(job(width)).send().unwrap()));
        for request in replier.iter().take(2) {
            let request = request.unwrap();
            let width = u64::from(request.width);
            request.reply(width * 10).unwrap();
        }
        assert_eq!(asking.join().unwrap(), [10, 20]);
    });
    let untyped = node.requester("width").open().unwrap();
    untyped.wait_for_repliers(1).unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| replier.serve(2, |job| Ok::<_, String>(u64::from(job.width))).unwrap());
        let ask =
            requester.request(job(5)).timeout(crate::support::PATIENCE).idempotent().wait_for_replier().to(node.id());
        assert_eq!(*ask.send().unwrap(), 5);
        let mut replies = requester.request_all(job(6)).timeout(crate::support::PATIENCE).send().unwrap();
        assert_eq!(*replies.next().unwrap().unwrap(), 6);
        assert!(replies.recv().is_none() && replies.missing().is_empty());
        let error = untyped.request("no job").send().unwrap_err();
        assert!(matches!(&error, RequestError::Remote { code, .. } if code == "undecodable"), "{error}");
        replier.close();
    });
    let requester = blocking::TypedRequester::from(requester.into_async());
    let replier = blocking::TypedReplier::from(replier.into_async());
    assert_eq!((requester.into_untyped().channel(), replier.into_untyped().channel()), ("width", "width"));
}

#[test]
fn a_typed_request_that_is_dropped_has_done_nothing() {
    run(async {
        let node = Node::isolated().await.unwrap();
        let requester = node.requester("width").typed::<Job, u64>().await.unwrap();
        let replier = node.replier("width").typed::<Job, u64>().await.unwrap();
        requester.wait_for_repliers(1).await.unwrap();
        drop(requester.request(job(1)));
        drop(requester.request_all(job(1)));
        dropped(replier.recv());
        dropped(replier.serve(1, async |_| Ok::<u64, String>(1)));
        assert_eq!((requester.metrics().asked, replier.metrics().received), (0, 0));

        // Whoever has it is told.
        let mut asking = Box::pin(requester.request(job(2)).into_future());
        assert!((&mut asking).now_or_never().is_none());
        let request = replier.recv().await.unwrap();
        drop(asking);
        request.raw().cancelled().await;
        drop(request);
        let mut replies = requester.request_all(job(3)).await.unwrap();
        dropped(replies.recv());
        let request = replier.recv().await.unwrap();
        assert_eq!(request.width, 3);
        request.reply(3_u64).unwrap();
        assert_eq!(*replies.recv().await.unwrap().unwrap(), 3, "nobody has taken it");
    });
}

#[test]
fn values_are_published_to_who_wants_them() {
    run(async {
        let place = Place::new();
        let (one, two) = two_nodes(&place).await;
        let publisher =
            one.publisher("jobs").when_full(WhenFull::Block(crate::support::PATIENCE)).typed::<Job>().await.unwrap();
        let mut sub = two.subscriber("jobs").topic("big.*").typed::<Job>().await.unwrap();
        publisher.wait_for_subscribers(1).await.unwrap();
        publisher.publish("big.a", NewTyped::new(job(1)).header("kind", "x")).await.unwrap();
        publisher.try_publish("small.b", job(0)).unwrap();
        assert_eq!(publisher.publish_batch([("big.b", job(2)), ("big.c", job(3))]).await.unwrap(), 2);
        let got = sub.recv().await.unwrap();
        assert_eq!((got.width, got.raw().topic(), got.raw().header("kind")), (1, "big.a", Some("x")));
        assert_eq!(sub.recv_batch(1).await.unwrap().remove(0).unwrap().width, 2);
        assert_eq!(sub.next().await.unwrap().unwrap().width, 3);
        assert!(sub.try_recv().unwrap().is_none());

        let refused = publisher.publish("big..a", NewTyped::new(job(4)).header("kind", "x")).await.unwrap_err();
        assert_eq!(refused.message, NewTyped::new(job(4)).header("kind", "x"));
        let refused = publisher.publish("big..a", job(4)).await.unwrap_err();
        assert!(matches!(refused.kind, TypedSendErrorKind::Refused(SendErrorKind::Topic(_))), "{refused}");
        assert_eq!(refused.into_value(), job(4));
        let mut sink = publisher.clone().into_sink();
        sink.send(("big.d", job(5))).await.unwrap();
        let refused = sink.send(("big.*", job(6))).await.unwrap_err();
        assert_eq!(refused.message, Some(job(6)));
        assert_eq!(sub.recv().await.unwrap().width, 5);
        publisher.flush().await.unwrap();
        let odd = one.publisher("odd").typed::<Odd>().await.unwrap();
        let refused = odd.publish("odd", Odd).await.unwrap_err();
        assert!(matches!(refused.kind, TypedSendErrorKind::Unencodable { .. }));
        assert_eq!(odd.into_sink().send(("odd", Odd)).await.unwrap_err().message, Some(Odd));

        // What is none is an error that holds it, and the socket goes on.
        let untyped = one.publisher("jobs").await.unwrap();
        untyped.wait_for_subscribers(1).await.unwrap();
        untyped.publish("big.e", "no job").await.unwrap();
        let Err(TypedRecvError::Undecodable(wrong)) = sub.recv().await else { panic!("it is none") };
        assert!(wrong.raw.topic() == "big.e" && wrong.to_string().contains("not a shop.Job v3"), "{wrong}");
        publisher.publish("big.f", job(7)).await.unwrap();
        assert_eq!(sub.recv().await.unwrap().width, 7);
    });
}

#[test]
fn who_subscribes_to_another_type_waits_for_no_publisher() {
    run(async {
        let place = Place::new();
        let (one, two) = two_nodes(&place).await;
        let publisher = one.publisher("jobs").typed::<Job>().await.unwrap();
        two.wait_for_peers(1).await.unwrap();
        two.settled().await;
        // It would have to confirm.
        let opening = two.subscriber("jobs").confirm_within(Duration::from_secs(600)).typed::<OldJob>();
        let sub = tokio::time::timeout(crate::support::PATIENCE, opening.into_future())
            .await
            .expect("nobody confirms")
            .unwrap();
        let told = mismatch(&mut one.events()).await;
        assert_eq!(told, (two.id(), "jobs".into(), "publisher", "shop.Job v3".into(), "shop.Job v2".into()));
        let here = one.subscriber("jobs").confirm_within(Duration::from_secs(600)).typed::<Order>();
        tokio::time::timeout(crate::support::PATIENCE, here.into_future())
            .await
            .expect("nobody confirms here either")
            .unwrap();
        publisher.publish("a", job(1)).await.unwrap();
        assert_eq!((publisher.subscribers(), sub.publishers()), (0, 0));
    });
}

#[test]
fn threads_publish_and_subscribe_to_values() {
    let node = blocking::Node::isolated().join().unwrap();
    let publisher = node.publisher("jobs").retain_last(1).typed::<Job>().open().unwrap();
    publisher.publish("a", job(1)).unwrap();
    let sub = node.subscriber("jobs").typed::<Job>().open().unwrap();
    publisher.try_publish("a", job(2)).unwrap();
    assert_eq!(publisher.publish_batch([("a", job(3)), ("b", job(4)), ("c", job(5))]).unwrap(), 3);
    assert_eq!(sub.recv().unwrap().width, 1);
    assert_eq!(sub.recv_timeout(crate::support::PATIENCE).unwrap().unwrap().width, 2);
    assert_eq!(sub.recv_batch(1).unwrap().remove(0).unwrap().width, 3);
    let widths: Vec<_> = sub.iter().take(2).map(|job| job.unwrap().width).collect();
    assert_eq!(widths, [4, 5]);
    assert!(sub.try_recv().unwrap().is_none());
    assert_eq!(publisher.publish("a..b", job(6)).unwrap_err().into_value(), job(6));
    let publisher = blocking::TypedPublisher::from(publisher.into_async());
    let sub = blocking::TypedSubscriber::from(sub.into_async());
    sub.close();
    assert!(sub.iter().next().is_none());
    assert_eq!((publisher.clone().into_untyped().channel(), sub.into_untyped().channel()), ("jobs", "jobs"));
}

#[test]
fn a_typed_publish_that_is_dropped_has_done_nothing() {
    run(async {
        let node = Node::isolated().await.unwrap();
        let wait = WhenFull::Block(Duration::from_secs(600));
        let publisher = node.publisher("jobs").bound(1, 1000).when_full(wait).typed::<Job>().await.unwrap();
        let sub = node.subscriber("jobs").prefetch(1).typed::<Job>().await.unwrap();
        publisher.wait_for_subscribers(1).await.unwrap();
        dropped(sub.recv());
        dropped(sub.recv_batch(2));
        drop(publisher.publish("a", job(0)));
        // One is there, and one waits for it: there is no room for more.
        let mut sent = 0;
        while publisher.try_publish("a", job(sent)).is_ok() {
            sent += 1;
            until("it has gone as far as it can", || {
                let to = &publisher.metrics().subscribers[0];
                to.in_flight == 0 && (to.queued == 0 || to.credit == 0)
            })
            .await;
        }
        dropped(publisher.publish("a", job(100)));
        dropped(publisher.publish_batch([("a", job(101)), ("a", job(102))]));
        let mut sink = publisher.clone().into_sink();
        dropped(sink.send(("a", job(103))));
        drop(sink);
        for width in 0..sent {
            assert_eq!(sub.recv().await.unwrap().width, width);
        }
        publisher.flush().await.unwrap();
        assert!(sub.try_recv().unwrap().is_none());
        assert_eq!(publisher.metrics().published, u64::from(sent));
    });
}
