//! What `tracing` is told of messages, by a subscriber that records all spans of this process.
#![allow(missing_docs, clippy::unwrap_used)]

mod support;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Mutex, OnceLock};
use std::time::Duration;

use meshmq::{InvalidHeader, NewMessage, Node, SendErrorKind, TraceParent};
use support::{Place, run};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Instrument, Subscriber};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};
use tracing_subscriber::registry::LookupSpan;

const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

/// A span that has ended, with the events in it.
#[derive(Debug, Clone, Default)]
struct Ended {
    name: &'static str,
    target: &'static str,
    fields: BTreeMap<&'static str, String>,
    events: Vec<String>,
}

impl Ended {
    fn field(&self, name: &str) -> Option<&str> {
        self.fields.get(name).map(String::as_str)
    }
}

impl Visit for Ended {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.fields.insert(field.name(), format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.fields.insert(field.name(), value.to_owned());
    }
}

/// All spans that have ended, of all tests here: each has a channel of its own.
struct Recorder;

static ENDED: Mutex<Vec<Ended>> = Mutex::new(Vec::new());

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Recorder {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let meta = attributes.metadata();
        let mut begun = Ended { name: meta.name(), target: meta.target(), ..Ended::default() };
        attributes.record(&mut begun);
        context.span(id).unwrap().extensions_mut().insert(begun);
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        values.record(context.span(id).unwrap().extensions_mut().get_mut::<Ended>().unwrap());
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let mut said = Ended::default();
        event.record(&mut said);
        for span in context.event_scope(event).into_iter().flatten() {
            if let Some(inside) = span.extensions_mut().get_mut::<Ended>() {
                inside.events.push(said.field("message").unwrap_or_default().to_owned());
            }
        }
    }

    fn on_close(&self, id: Id, context: Context<'_, S>) {
        let ended = context.span(&id).unwrap().extensions_mut().remove::<Ended>().unwrap();
        ENDED.lock().unwrap().push(ended);
    }
}

fn record() {
    static BEGUN: OnceLock<()> = OnceLock::new();
    BEGUN.get_or_init(|| {
        tracing::subscriber::set_global_default(tracing_subscriber::registry().with(Recorder)).unwrap();
    });
}

/// The spans of this name on this channel that have ended so far.
fn spans(name: &str, channel: &str) -> Vec<Ended> {
    let ended = ENDED.lock().unwrap();
    let of = |span: &&Ended| span.name == name && span.field("messaging.destination.name") == Some(channel);
    ended.iter().filter(of).cloned().collect()
}

fn trace_id(span: &Ended) -> u128 {
    span.field("traceparent").unwrap().parse::<TraceParent>().unwrap().trace_id()
}

#[test]
fn a_message_is_in_one_trace_on_both_ends() {
    record();
    run(async {
        let place = Place::new();
        let (pushing, pulling) = (place.builder().await.unwrap(), place.builder().await.unwrap());
        let push = pushing.push("both-ends").await.unwrap();
        let pull = pulling.pull("both-ends").await.unwrap();
        push.send("first").await.unwrap();
        push.try_send(NewMessage::new("second").header("traceparent", PARENT)).unwrap();
        for _ in 0..2 {
            let job = pull.recv().await.unwrap();
            assert!(job.trace_parent().is_some());
            job.ack();
        }
        push.flush().await.unwrap();

        let (sent, handled) = (spans("send", "both-ends"), spans("handle", "both-ends"));
        assert_eq!((sent.len(), handled.len()), (2, 2));
        for (sent, handled) in sent.iter().zip(&handled) {
            assert_eq!(sent.field("traceparent"), handled.field("traceparent"));
            assert_eq!(sent.field("messaging.message.id"), handled.field("messaging.message.id"));
            assert_eq!((sent.target, handled.target), ("meshmq::socket", "meshmq::socket"));
            assert_eq!(sent.field("messaging.operation.type"), Some("send"));
            assert_eq!(handled.field("messaging.operation.type"), Some("process"));
            assert_eq!((handled.field("attempt"), handled.field("redelivered")), (Some("1"), Some("false")));
            assert_eq!(handled.field("answer"), Some("acked"));
        }
        assert_eq!(sent[1].field("traceparent"), Some(PARENT), "what the user has set stays");
        assert_ne!(trace_id(&sent[0]), trace_id(&sent[1]), "without one it begins a new trace");
    });
}

#[test]
fn a_message_that_goes_out_again_says_so_and_stays_in_its_trace() {
    record();
    run(async {
        let node = Node::isolated().await.unwrap();
        let (push, pull) = (node.push("again").await.unwrap(), node.pull("again").await.unwrap());
        push.send("job").await.unwrap();
        pull.recv().await.unwrap().nack();
        drop(pull.recv().await.unwrap());
        pull.recv().await.unwrap().reject("no");
        push.flush().await.unwrap();

        let sent = spans("send", "again");
        let (again, handled) = (spans("redeliver", "again"), spans("handle", "again"));
        assert_eq!((sent.len(), again.len(), handled.len()), (1, 2, 3));
        let attempts: Vec<_> = handled.iter().map(|span| span.field("attempt").unwrap()).collect();
        assert_eq!(attempts, ["1", "2", "3"]);
        let answers: Vec<_> = handled.iter().map(|span| span.field("answer").unwrap()).collect();
        assert_eq!(answers, ["nacked", "nacked", "rejected"]);
        for (at, span) in again.iter().enumerate() {
            assert_eq!(span.field("attempt"), Some(&(at + 2).to_string()[..]));
            assert_eq!(
                (span.field("redelivered"), span.field("failures")),
                (Some("true"), Some(&(at + 1).to_string()[..]))
            );
            assert_eq!(span.target, "meshmq::socket");
        }
        for span in handled.iter().chain(&again) {
            assert_eq!(span.field("traceparent"), sent[0].field("traceparent"));
            assert_eq!(span.field("messaging.message.id"), sent[0].field("messaging.message.id"));
        }
    });
}

#[test]
fn a_handler_of_serve_runs_in_the_span_of_its_message() {
    record();
    run(async {
        let node = Node::isolated().await.unwrap();
        let (push, pull) = (node.push("served").await.unwrap(), node.pull("served").prefetch(3).await.unwrap());
        push.send_batch(["one", "two", "boom"]).await.unwrap();
        let serving = pull.serve(3, |job| {
            let text = String::from_utf8_lossy(&job).into_owned();
            tracing::info!("making {text}");
            assert!(job.attempt() > 1 || text != "boom", "a handler that fails before its future is made");
            async move {
                tokio::task::yield_now().await;
                tracing::info!("working on {text}");
                Ok::<_, fmt::Error>(())
            }
        });
        let flushing = async {
            push.flush().await.unwrap();
            pull.close();
        };
        let (served, ()) = tokio::join!(serving, flushing);
        served.unwrap();
        let handled = spans("handle", "served");
        assert_eq!(handled.len(), 4);
        for text in ["one", "two"] {
            let said = [format!("making {text}"), format!("working on {text}")];
            assert!(handled.iter().any(|span| span.events == said), "{handled:?}");
        }
        let said = ["making boom", "a handler panicked"];
        assert!(handled.iter().any(|span| span.events == said), "{handled:?}");
    });
}

#[test]
fn a_handler_of_the_blocking_serve_does_too() {
    record();
    let node = meshmq::blocking::Node::isolated().join().unwrap();
    let (push, pull) = (node.push("threads").open().unwrap(), node.pull("threads").open().unwrap());
    std::thread::scope(|scope| {
        scope.spawn(|| {
            pull.serve(1, |_| {
                tracing::info!("at work");
                Ok::<_, fmt::Error>(())
            })
            .unwrap();
        });
        push.send("job").unwrap();
        push.flush().unwrap();
        pull.close();
    });
    assert_eq!(spans("handle", "threads")[0].events, ["at work"]);
    assert_eq!(spans("send", "threads").len(), 1);
}

#[test]
fn work_outside_of_serve_can_be_put_into_the_span() {
    record();
    run(async {
        let node = Node::isolated().await.unwrap();
        let (push, pull) = (node.push("by-hand").await.unwrap(), node.pull("by-hand").await.unwrap());
        push.send("job").await.unwrap();
        let job = pull.recv().await.unwrap();
        async { tracing::info!("at work") }.instrument(job.span()).await;
        job.ack();
        assert_eq!(spans("handle", "by-hand")[0].events, ["at work"]);
    });
}

#[test]
fn a_request_is_in_one_trace_on_both_ends() {
    record();
    run(async {
        let place = Place::new();
        let (asking, answering) = (place.builder().await.unwrap(), place.builder().await.unwrap());
        let requester = asking.requester("asked").await.unwrap();
        let replier = answering.replier("asked").await.unwrap();
        requester.wait_for_repliers(1).await.unwrap();
        let handle = async |request: meshmq::Message| {
            tracing::info!("in the handler");
            if &request[..] == b"fail" { Err("no") } else { Ok("yes") }
        };
        let ask = async {
            requester.request("x").await.unwrap();
            requester.request(NewMessage::new("fail").header("traceparent", PARENT)).await.unwrap_err();
        };
        tokio::select! {
            biased;
            closed = replier.serve(2, handle) => closed.unwrap(),
            () = ask => {}
        }
        let (asked, handled) = (spans("request", "asked"), spans("handle", "asked"));
        assert_eq!((asked.len(), handled.len()), (2, 2));
        for (asked, handled) in asked.iter().zip(&handled) {
            assert_eq!(asked.field("traceparent"), handled.field("traceparent"));
            assert_eq!(asked.field("messaging.message.id"), handled.field("messaging.message.id"));
            assert_eq!((asked.field("otel.kind"), handled.field("otel.kind")), (Some("client"), Some("server")));
            assert_eq!(handled.events, ["in the handler"]);
        }
        let answering = answering.id().short().to_string();
        assert_eq!((asked[0].field("replier"), asked[0].field("error")), (Some(&answering[..]), None));
        assert!(asked[1].field("error").is_some_and(|error| error.contains("no")));
        assert_eq!((handled[0].field("answer"), handled[1].field("answer")), (Some("replied"), Some("failed")));
        assert_eq!(asked[1].field("traceparent"), Some(PARENT), "what the user has set stays");
    });
}

#[test]
fn what_is_refused_is_given_back_as_it_came() {
    record();
    run(async {
        let node = Node::isolated().await.unwrap();
        let push = node.push("refused").bound(1, 1000).await.unwrap();
        let malformed = NewMessage::new("job").header("traceparent", "00-1-2-3");
        let refused = push.send(malformed.clone()).await.unwrap_err();
        let why = SendErrorKind::Header(InvalidHeader::TraceParent { number: 1 });
        assert_eq!((refused.kind, refused.message), (why, malformed));
        push.send("fills it").await.unwrap();
        for message in [NewMessage::new("job"), NewMessage::new("job").header("a", "1")] {
            let refused = push.try_send(message.clone()).unwrap_err();
            assert_eq!((refused.kind, refused.message), (SendErrorKind::Full, message.clone()));
            let refused = push.send_timeout(message.clone(), Duration::ZERO).await.unwrap_err();
            assert_eq!((refused.kind, refused.message), (SendErrorKind::Full, message));
        }
        let errors: Vec<_> = spans("send", "refused").iter().map(|span| span.field("error").is_some()).collect();
        assert_eq!(errors, [true, false, true, true, true, true]);
    });
}

#[test]
fn being_watched_makes_no_message_too_large() {
    record();
    run(async {
        let node = Node::isolated().await.unwrap();
        let push = node.push("bound").bound(10, 100).await.unwrap();
        let pull = node.pull("bound").await.unwrap();
        let permit = push.reserve(50).await.unwrap();
        permit.send(vec![0; 50]).unwrap();
        assert_eq!(pull.recv().await.unwrap().ack_into_message().headers().len(), 0, "there was no room for a header");
        push.flush().await.unwrap();
        push.send(vec![0; 100]).await.unwrap();
        assert_eq!(pull.recv().await.unwrap().ack_into_message().headers().len(), 0);
        push.flush().await.unwrap();
        push.send(vec![0; 10]).await.unwrap();
        assert_eq!(pull.recv().await.unwrap().ack_into_message().headers().len(), 1);
        push.flush().await.unwrap();
    });
}
