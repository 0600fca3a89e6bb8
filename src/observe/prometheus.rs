//! A node's figures in the text format of Prometheus, version 0.0.4.

use std::fmt;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use prometheus_client::encoding::prometheus_text;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::{
    Metrics, PublisherMetrics, PullMetrics, PushMetrics, ReplierMetrics, RequesterMetrics, SocketFigures,
    SubscriberMetrics,
};
use crate::id::NodeId;

/// What the text is.
pub(crate) const CONTENT_TYPE: &str = prometheus_text::CONTENT_TYPE;

/// What a page tells of beside the node's metrics.
pub(crate) struct About<'a> {
    pub(crate) node: NodeId,
    pub(crate) name: &'a str,
    pub(crate) mesh: &'a str,
    /// The number of each socket in the metrics, which tells apart those on one channel.
    pub(crate) sockets: Vec<u64>,
    /// Each link: the peer, what it calls itself, and the round trip.
    pub(crate) links: Vec<(NodeId, String, Duration)>,
}

/// The whole page.
///
/// # Errors
/// None that can happen: text is written into memory.
pub(crate) fn page(about: &About<'_>, metrics: &Metrics) -> Result<String, fmt::Error> {
    let mut page = Page(Registry::with_prefix("meshmq"));
    page.node(about, metrics);
    let sockets = || about.sockets.iter().zip(&metrics.sockets);
    let labels = |(id, socket): (&u64, &super::SocketMetrics)| {
        vec![("channel", socket.channel.clone()), ("socket", id.to_string())]
    };
    macro_rules! of_kind {
        ($kind:ident) => {
            sockets()
                .filter_map(|socket| match &socket.1.figures {
                    SocketFigures::$kind(figures) => Some((labels(socket), figures)),
                    _ => None,
                })
                .collect::<Vec<_>>()
        };
    }
    let (pushes, pulls) = (of_kind!(Push), of_kind!(Pull));
    let (publishers, subscribers) = (of_kind!(Publisher), of_kind!(Subscriber));
    let (requesters, repliers) = (of_kind!(Requester), of_kind!(Replier));
    PUSH.iter().for_each(|figure| page.figure("push", figure, &pushes));
    PULL.iter().for_each(|figure| page.figure("pull", figure, &pulls));
    PUBLISHER.iter().for_each(|figure| page.figure("publisher", figure, &publishers));
    SUBSCRIBER.iter().for_each(|figure| page.figure("subscriber", figure, &subscribers));
    REQUESTER.iter().for_each(|figure| page.figure("requester", figure, &requesters));
    REPLIER.iter().for_each(|figure| page.figure("replier", figure, &repliers));
    let mut text = String::new();
    prometheus_text::encode(&mut text, &page.0)?;
    Ok(text)
}

type Labels = Vec<(&'static str, String)>;

struct Page(Registry);

impl Page {
    fn node(&mut self, about: &About<'_>, metrics: &Metrics) {
        let info = vec![
            ("node", about.node.to_string()),
            ("name", about.name.to_owned()),
            ("mesh", about.mesh.to_owned()),
            ("version", env!("CARGO_PKG_VERSION").to_owned()),
        ];
        self.gauges("node_info", "The node that tells; always 1", [(info, 1.0)]);
        let one = |value: usize| [(Labels::new(), value as f64)];
        self.gauges("links", "Links that are open", one(metrics.links));
        let trips = about.links.iter().map(|(peer, name, trip)| {
            (vec![("peer", peer.to_string()), ("peer_name", name.clone())], trip.as_secs_f64())
        });
        self.gauges("link_round_trip_seconds", "Time that a packet and its acknowledgement take, by peer", trips);
        let count = |value: u64| [(Labels::new(), value)];
        self.counters("links_opened", "Links that were opened", count(metrics.links_opened));
        self.counters(
            "connections_refused",
            "Connections that were refused or failed to prove their membership",
            count(metrics.refused),
        );
        self.counters(
            "events_missed",
            "Events that nobody read before there were too many",
            count(metrics.events_missed),
        );
    }

    fn figure<M>(&mut self, kind: &str, figure: &Figure<M>, sockets: &[(Labels, &M)]) {
        let Figure { name, help, value } = figure;
        let name = format!("{kind}_{name}");
        let each = || sockets.iter().map(|(labels, metrics)| (labels.clone(), *metrics));
        match value {
            Value::Counter(of) => self.counters(&name, help, each().map(|(labels, metrics)| (labels, of(metrics)))),
            Value::Gauge(of) => self.gauges(&name, help, each().map(|(labels, metrics)| (labels, of(metrics) as f64))),
            Value::Age(of) => {
                let seconds = |metrics: &M| of(metrics).unwrap_or_default().as_secs_f64();
                self.gauges(&name, help, each().map(|(labels, metrics)| (labels, seconds(metrics))));
            }
        }
    }

    /// Without its `_total`, which the format adds.
    fn counters(&mut self, name: &str, help: &str, values: impl IntoIterator<Item = (Labels, u64)>) {
        let family = Family::<Labels, Counter>::default();
        for (labels, value) in values {
            family.get_or_create(&labels).inc_by(value);
        }
        self.0.register(name, help, family);
    }

    fn gauges(&mut self, name: &str, help: &str, values: impl IntoIterator<Item = (Labels, f64)>) {
        let family = Family::<Labels, Gauge<f64, AtomicU64>>::default();
        for (labels, value) in values {
            family.get_or_create(&labels).set(value);
        }
        self.0.register(name, help, family);
    }
}

/// A figure of each socket of a kind.
struct Figure<M> {
    name: &'static str,
    help: &'static str,
    value: Value<M>,
}

enum Value<M> {
    Counter(fn(&M) -> u64),
    Gauge(fn(&M) -> u64),
    Age(fn(&M) -> Option<Duration>),
}

const fn figure<M>(name: &'static str, help: &'static str, value: Value<M>) -> Figure<M> {
    Figure { name, help, value }
}

const PUSH: &[Figure<PushMetrics>] = &[
    figure(
        "messages_accepted",
        "Messages that the socket took responsibility for",
        Value::Counter(|push| push.accepted),
    ),
    figure("messages_handled", "Messages that a worker acknowledged", Value::Counter(|push| push.handled)),
    figure("messages_rejected", "Messages that a worker rejected for ever", Value::Counter(|push| push.rejected)),
    figure("messages_exhausted", "Messages that failed too often", Value::Counter(|push| push.exhausted)),
    figure(
        "messages_handed_back",
        "Messages that the application was given back when the node ended",
        Value::Counter(|push| push.handed_back),
    ),
    figure("messages_nacked", "Answers that said a message failed", Value::Counter(|push| push.nacked)),
    figure(
        "messages_returned",
        "Messages that came back without having been handed out",
        Value::Counter(|push| push.returned),
    ),
    figure("messages_redelivered", "Dispatches beyond a message's first", Value::Counter(|push| push.redelivered)),
    figure(
        "answers_late",
        "Answers that came after their link was lost, and counted",
        Value::Counter(|push| push.late),
    ),
    figure("messages_queued", "Messages that wait, also for their back-off to end", Value::Gauge(|push| push.queued)),
    figure("messages_in_flight", "Messages with pullers, unanswered", Value::Gauge(|push| push.in_flight)),
    figure("message_bytes", "Bytes of headers and bodies queued and in flight", Value::Gauge(|push| push.bytes)),
    figure(
        "bound_messages",
        "The most messages that may be queued and in flight",
        Value::Gauge(|push| push.bound_messages),
    ),
    figure("bound_bytes", "The most bytes that may be queued and in flight", Value::Gauge(|push| push.bound_bytes)),
    figure(
        "oldest_message_age_seconds",
        "How long the oldest unsettled message has waited; 0 without one",
        Value::Age(|push| push.oldest),
    ),
    figure("pullers", "Pull sockets that it is connected to", Value::Gauge(|push| push.pullers.len() as u64)),
];

const PULL: &[Figure<PullMetrics>] = &[
    figure("messages_received", "Messages that arrived", Value::Counter(|pull| pull.received)),
    figure("messages_handed_out", "Messages that the application was handed", Value::Counter(|pull| pull.handed)),
    figure("messages_acknowledged", "Answers that were acknowledgements", Value::Counter(|pull| pull.acked)),
    figure("messages_nacked", "Answers that said a message failed", Value::Counter(|pull| pull.nacked)),
    figure(
        "messages_rejected",
        "Answers that said a message must never be delivered again",
        Value::Counter(|pull| pull.rejected),
    ),
    figure(
        "messages_returned",
        "Messages given back without having been handed out",
        Value::Counter(|pull| pull.returned),
    ),
    figure(
        "messages_orphaned",
        "Messages whose link was lost while they were in hand",
        Value::Counter(|pull| pull.orphaned),
    ),
    figure("messages_waiting", "Messages waiting to be handed out", Value::Gauge(|pull| pull.waiting)),
    figure("messages_in_hand", "Messages in the application's hands, unanswered", Value::Gauge(|pull| pull.in_hand)),
    figure(
        "prefetch_messages",
        "The most that may be waiting and in hand; 0 where that sizes itself",
        Value::Gauge(|pull| pull.prefetch.unwrap_or(0)),
    ),
    figure(
        "oldest_message_age_seconds",
        "How long ago the oldest unanswered message arrived; 0 without one",
        Value::Age(|pull| pull.oldest),
    ),
    figure("pushers", "Push sockets that it is connected to", Value::Gauge(|pull| pull.pushers.len() as u64)),
];

const REQUESTER: &[Figure<RequesterMetrics>] = &[
    figure("requests_asked", "Requests that were asked", Value::Counter(|requester| requester.asked)),
    figure("requests_replied", "Requests that were answered", Value::Counter(|requester| requester.replied)),
    figure("requests_failed", "Requests that failed at their replier", Value::Counter(|requester| requester.failed)),
    figure(
        "requests_no_replier",
        "Requests that nobody was there for",
        Value::Counter(|requester| requester.no_replier),
    ),
    figure("requests_busy", "Requests for which every replier was full", Value::Counter(|requester| requester.busy)),
    figure("requests_not_sent", "Requests that were not sent in time", Value::Counter(|requester| requester.not_sent)),
    figure("requests_unknown", "Requests that were sent, then lost", Value::Counter(|requester| requester.unknown)),
    figure(
        "requests_timed_out",
        "Requests that were sent and not answered in time",
        Value::Counter(|requester| requester.timed_out),
    ),
    figure("requests_too_large", "Requests that no replier takes", Value::Counter(|requester| requester.too_large)),
    figure("requests_closed", "Requests that ended with the node", Value::Counter(|requester| requester.closed)),
    figure(
        "requests_cancelled",
        "Requests that nobody waited for any more",
        Value::Counter(|requester| requester.cancelled),
    ),
    figure("requests_refused", "Times that a replier was full", Value::Counter(|requester| requester.refused)),
    figure("requests_repeated", "Attempts beyond a request's first", Value::Counter(|requester| requester.repeated)),
    figure("answers_late", "Answers that nobody waited for any more", Value::Counter(|requester| requester.late)),
    figure("requests_open", "Requests that have not ended", Value::Gauge(|requester| requester.open)),
    figure("requests_waiting", "Requests that are with no replier", Value::Gauge(|requester| requester.waiting)),
    figure("request_bytes", "Bytes of requests that are with repliers", Value::Gauge(|requester| requester.bytes)),
    figure("repliers", "Repliers that it is connected to", Value::Gauge(|requester| requester.repliers.len() as u64)),
];

const REPLIER: &[Figure<ReplierMetrics>] = &[
    figure("requests_received", "Requests that were taken in", Value::Counter(|replier| replier.received)),
    figure("requests_handed_out", "Requests that the application was handed", Value::Counter(|replier| replier.handed)),
    figure("requests_replied", "Requests that were answered", Value::Counter(|replier| replier.replied)),
    figure("requests_failed", "Requests that failed", Value::Counter(|replier| replier.failed)),
    figure("requests_cancelled", "Requests that were given up", Value::Counter(|replier| replier.cancelled)),
    figure("requests_expired", "Requests that ran out of time", Value::Counter(|replier| replier.expired)),
    figure("requests_lost", "Requests that were lost with their link", Value::Counter(|replier| replier.lost)),
    figure(
        "requests_returned",
        "Requests that went elsewhere as this replier closed",
        Value::Counter(|replier| replier.returned),
    ),
    figure("requests_busy", "Requests that there was no room for", Value::Counter(|replier| replier.busy)),
    figure("requests_repeated", "Idempotent requests that came again", Value::Counter(|replier| replier.repeated)),
    figure("requests_waiting", "Requests waiting to be handed out", Value::Gauge(|replier| replier.waiting)),
    figure("requests_in_hand", "Requests in the application's hands", Value::Gauge(|replier| replier.in_hand)),
    figure("request_bytes", "Bytes of requests and replies that are here", Value::Gauge(|replier| replier.bytes)),
    figure("limit_requests", "The most requests that are taken in at a time", Value::Gauge(|replier| replier.limit)),
    figure("requesters", "Requesters that it is connected to", Value::Gauge(|replier| replier.requesters.len() as u64)),
];

const PUBLISHER: &[Figure<PublisherMetrics>] = &[
    figure("messages_published", "Messages that were published", Value::Counter(|publisher| publisher.published)),
    figure(
        "messages_dropped",
        "Messages dropped for subscribers that were too slow or away, once for each of them",
        Value::Counter(|publisher| publisher.dropped.total()),
    ),
    figure(
        "messages_queued",
        "Messages that wait, once for each subscriber that they wait for",
        Value::Gauge(|publisher| publisher.subscribers.iter().map(|subscriber| subscriber.queued).sum()),
    ),
    figure(
        "messages_in_flight",
        "Messages sent and not known to have arrived, once for each subscriber",
        Value::Gauge(|publisher| publisher.subscribers.iter().map(|subscriber| subscriber.in_flight).sum()),
    ),
    figure(
        "longest_queue",
        "Messages that wait for the subscriber that is behind the most",
        Value::Gauge(|publisher| publisher.subscribers.iter().map(|subscriber| subscriber.queued).max().unwrap_or(0)),
    ),
    figure(
        "bound_messages",
        "The most messages that may wait for one subscriber",
        Value::Gauge(|publisher| publisher.bound_messages),
    ),
    figure(
        "bound_bytes",
        "The most bytes that may wait for one subscriber",
        Value::Gauge(|publisher| publisher.bound_bytes),
    ),
    figure(
        "messages_retained",
        "Messages that are retained for later subscribers",
        Value::Gauge(|publisher| publisher.retained),
    ),
    figure("patterns", "Patterns of all subscribers together", Value::Gauge(|publisher| publisher.patterns)),
    figure(
        "subscribers",
        "Subscribers that it is connected to",
        Value::Gauge(|publisher| publisher.subscribers.iter().filter(|subscriber| subscriber.connected).count() as u64),
    ),
];

const SUBSCRIBER: &[Figure<SubscriberMetrics>] = &[
    figure("messages_received", "Messages that arrived", Value::Counter(|subscriber| subscriber.received)),
    figure(
        "messages_handed_out",
        "Messages that the application was handed",
        Value::Counter(|subscriber| subscriber.handed),
    ),
    figure(
        "messages_missed",
        "Messages that its publishers have dropped for it",
        Value::Counter(|subscriber| subscriber.missed),
    ),
    figure("messages_waiting", "Messages waiting to be handed out", Value::Gauge(|subscriber| subscriber.waiting)),
    figure("patterns", "Patterns that it has subscribed to", Value::Gauge(|subscriber| subscriber.patterns)),
    figure(
        "publishers",
        "Publishers that it is connected to",
        Value::Gauge(|subscriber| subscriber.publishers.len() as u64),
    ),
];
