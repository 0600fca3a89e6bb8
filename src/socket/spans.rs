//! What tracing is told of a message: one span where it is sent, one where it is handled, one each time it goes out again.
//!
//! Fields are named as in OpenTelemetry's conventions for messaging, where these have a name. While nobody records spans
//! of the level `debug`, each of them costs one look at a number.

use std::sync::Arc;

use tracing::field::{Empty, display};
use tracing::level_filters::{LevelFilter, STATIC_MAX_LEVEL};
use tracing::{Level, Span, debug_span};

use crate::env::Env;
use crate::error::{RequestError, SendErrorKind};
use crate::id::NodeId;
use crate::message::{Headers, Message, MessageId, NewMessage, TraceParent};
use crate::pattern::batch::Batch;
use crate::pattern::push::SentAgain;

const LEVEL: Level = Level::DEBUG;

/// Somebody may record spans.
#[inline]
pub(super) fn wanted() -> bool {
    LEVEL <= STATIC_MAX_LEVEL && LEVEL <= LevelFilter::current()
}

/// The span of a message that is sent: from the call until it is accepted. Dropped before, it was not.
#[derive(Debug, Default)]
pub(super) struct Sending(Option<Box<Recorded>>);

#[derive(Debug)]
struct Recorded {
    span: Span,
    /// Where the headers ended before one was added.
    added_at: Option<usize>,
}

impl Sending {
    /// Begins the span. A message that says nothing of a trace becomes the first of a new one, where a header more fits
    /// into `room` bytes for the whole message.
    #[cold]
    pub(super) fn begin(channel: &str, env: &Env, message: &mut NewMessage, room: u64) -> Self {
        let span = debug_span!(
            target: "meshmq::socket",
            "send",
            otel.kind = "producer",
            messaging.system = "meshmq",
            messaging.operation.name = "send",
            "messaging.operation.type" = "send",
            messaging.destination.name = channel,
            messaging.message.body.size = message.body().len(),
            messaging.message.id = Empty,
            traceparent = Empty,
            error = Empty,
        );
        if span.is_disabled() {
            return Self(None);
        }
        let mut added_at = None;
        if message.value(TraceParent::HEADER).is_none()
            && let Some(parent) = new_trace(env)
        {
            added_at = message.add_within(TraceParent::HEADER, &parent.to_string(), room);
        }
        if let Some(parent) = message.value(TraceParent::HEADER) {
            span.record("traceparent", parent);
        }
        Self(Some(Box::new(Recorded { span, added_at })))
    }

    /// It has begun.
    pub(super) fn is_recorded(&self) -> bool {
        self.0.is_some()
    }

    /// The message is accepted: the span ends.
    #[inline]
    pub(super) fn accepted(&mut self, id: impl FnOnce() -> MessageId) {
        if self.0.is_some() {
            self.accept(id());
        }
    }

    #[cold]
    fn accept(&mut self, id: MessageId) {
        if let Some(recorded) = self.0.take() {
            recorded.span.record("messaging.message.id", display(id));
        }
    }

    /// The message is given back as it came.
    #[cold]
    pub(super) fn refused(&mut self, message: &mut NewMessage, why: SendErrorKind) {
        if let Some(recorded) = self.0.take() {
            recorded.span.record("error", display(why));
            if let Some(before) = recorded.added_at {
                message.cut_headers(before);
            }
        }
    }
}

/// The span of a delivery, from its hand-over to its answer.
#[cold]
pub(super) fn handle(channel: &str, batch: Arc<Batch>, index: u32) -> Option<Box<Span>> {
    let message = Message::new(batch, index);
    let span = debug_span!(
        target: "meshmq::socket",
        "handle",
        otel.kind = "consumer",
        messaging.system = "meshmq",
        messaging.operation.name = "handle",
        "messaging.operation.type" = "process",
        messaging.destination.name = channel,
        messaging.message.body.size = message.len(),
        messaging.message.id = %message.id(),
        traceparent = message.trace_parent().map(display),
        sender = %message.sender().short(),
        attempt = message.attempt(),
        failures = message.failures(),
        redelivered = message.redelivered(),
        answer = Empty,
    );
    (!span.is_disabled()).then(|| Box::new(span))
}

/// The span of a message that goes out again; it ends at once.
#[cold]
pub(super) fn again(channel: &str, id: impl Fn(u64) -> MessageId, sent: SentAgain) {
    let headers = Headers::of(sent.headers);
    let _span = debug_span!(
        target: "meshmq::socket",
        "redeliver",
        otel.kind = "producer",
        messaging.system = "meshmq",
        messaging.operation.name = "redeliver",
        "messaging.operation.type" = "send",
        messaging.destination.name = channel,
        messaging.message.id = %id(sent.sequence),
        traceparent = headers.get(TraceParent::HEADER),
        receiver = %sent.to.short(),
        attempt = sent.attempt,
        failures = sent.failures,
        redelivered = sent.redelivered,
    );
}

/// `None`: there is no randomness to be had.
fn new_trace(env: &Env) -> Option<TraceParent> {
    const SAMPLED: u8 = 1;
    let random = || env.random_u64().ok();
    let trace_id = u128::from(random()?) << 64 | u128::from(random()?);
    TraceParent::new(trace_id, random()?, SAMPLED)
}

/// The span of a request, from when it is asked until it ends.
#[derive(Debug, Default)]
pub(super) struct AskingSpan(Option<Box<Span>>);

impl AskingSpan {
    /// Begins the span. A request that says nothing of a trace becomes the first of a new one, where a header more fits.
    #[cold]
    pub(super) fn begin(channel: &str, env: &Env, message: &mut NewMessage) -> Self {
        let span = debug_span!(
            target: "meshmq::socket",
            "request",
            otel.kind = "client",
            messaging.system = "meshmq",
            messaging.operation.name = "request",
            "messaging.operation.type" = "send",
            messaging.destination.name = channel,
            messaging.message.body.size = message.body().len(),
            messaging.message.id = Empty,
            traceparent = Empty,
            replier = Empty,
            error = Empty,
        );
        if span.is_disabled() {
            return Self(None);
        }
        if message.value(TraceParent::HEADER).is_none()
            && let Some(parent) = new_trace(env)
        {
            message.add_within(TraceParent::HEADER, &parent.to_string(), u64::MAX);
        }
        if let Some(parent) = message.value(TraceParent::HEADER) {
            span.record("traceparent", parent);
        }
        Self(Some(Box::new(span)))
    }

    /// It has its number.
    pub(super) fn asked(&self, id: impl FnOnce() -> MessageId) {
        if let Some(span) = &self.0 {
            span.record("messaging.message.id", display(id()));
        }
    }

    /// It has ended: by this node's reply, or without one.
    pub(super) fn ended(&mut self, result: &Result<NodeId, &RequestError>) {
        let Some(span) = self.0.take() else { return };
        match result {
            Ok(node) => span.record("replier", display(node.short())),
            Err(error) => span.record("error", display(error)),
        };
    }
}

/// The span of a request that is handled, from its hand-over to its answer.
#[cold]
pub(super) fn handle_request(channel: &str, message: &Message) -> Option<Box<Span>> {
    let span = debug_span!(
        target: "meshmq::socket",
        "handle",
        otel.kind = "server",
        messaging.system = "meshmq",
        messaging.operation.name = "handle",
        "messaging.operation.type" = "process",
        messaging.destination.name = channel,
        messaging.message.body.size = message.len(),
        messaging.message.id = %message.id(),
        traceparent = message.trace_parent().map(display),
        sender = %message.sender().short(),
        attempt = message.attempt(),
        answer = Empty,
    );
    (!span.is_disabled()).then(|| Box::new(span))
}
