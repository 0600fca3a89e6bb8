//! Members of the mesh that subscribe or publish as they like.

use super::*;
use crate::wire::frame::put_published_head;
use crate::wire::limits::{MAX_LANES, MAX_SEQUENCE_SAID, MAX_SUBSCRIPTIONS, MAX_SUBSCRIPTIONS_OF_NODE};
use crate::wire::subscription::{self, Change, Who};

/// Tells the victim of a subscriber, and takes the lane that its publisher opens.
async fn subscribes(hostile: &mut Hostile, bytes: &[u8]) -> (SendStream, RecvStream) {
    hostile.tell([entry(1, SocketKind::Subscriber, "ticks")], true).await;
    let (mut send, recv) = hostile.connection.quinn().accept_bi().await.unwrap();
    let _ = send.write_all(bytes).await;
    (send, recv)
}

/// The whole of what a subscriber wants.
fn wants<'a>(version: u64, who: u64, patterns: impl IntoIterator<Item = &'a str>) -> Vec<u8> {
    let (mut out, who) = (BytesMut::new(), Some(Who { epoch: who, at: None }));
    let changes = patterns.into_iter().map(|pattern| Change { add: true, pattern });
    let put = |payload: &[u8]| frame::put_answer(&mut out, to_sender::SUBSCRIBE, payload);
    subscription::write(version, true, who, changes, put);
    out.to_vec()
}

/// A part of the first version that another one follows: so many times one pattern, as a change takes up least.
fn part(who: Option<u64>, changes: usize) -> Vec<u8> {
    let (mut out, mut payload) = (BytesMut::new(), Payload::of(&[1]));
    payload.0.push(1 | 2 | if who.is_some() { 4 } else { 0 });
    who.into_iter().for_each(|who| payload.push(who));
    (0..changes).for_each(|_| payload.0.extend([1, 1, b'a']));
    frame::put_answer(&mut out, to_sender::SUBSCRIBE, &payload.0);
    out.to_vec()
}

/// Opens a lane to the victim's subscriber, waits until that has said what it wants, and says these bytes.
async fn publishes(hostile: &mut Hostile, bytes: &[u8]) -> (SendStream, RecvStream) {
    let mut opening = BytesMut::new();
    let (to, kind, level) = (hostile.victims("news"), SocketKind::Publisher, Level::AtLeastOnce);
    frame::put_open(&mut opening, &OpenLane { from: SocketId(1), to, kind, level, epoch: 7, base: 0, taken: false });
    let (mut send, mut recv) = hostile.connection.quinn().open_bi().await.unwrap();
    let _ = send.write_all(&opening).await;
    let heard = recv.read_chunk(1 << 10, true).await.unwrap().unwrap();
    assert_eq!(heard.bytes.first(), Some(&to_sender::SUBSCRIBE));
    let _ = send.write_all(bytes).await;
    (send, recv)
}

fn control(kind: u8, numbers: &[u64]) -> Vec<u8> {
    let mut out = BytesMut::new();
    frame::put_control(&mut out, kind, &Payload::of(numbers).0);
    out.to_vec()
}

fn published(topic: &str, body: usize) -> Vec<u8> {
    let mut out = BytesMut::new();
    put_published_head(&mut out, topic, &[], body);
    [&out[..], &vec![0; body]].concat()
}

fn confirmed(version: u64) -> Vec<u8> {
    control(to_receiver::SUBSCRIBED, &[version, 1])
}

/// Reads what the victim's subscriber says until it is this.
async fn until_it_says(recv: &mut RecvStream, wanted: u8) {
    let (mut heard, mut seen) = (BytesMut::new(), false);
    while !seen {
        heard.extend_from_slice(&recv.read_chunk(1 << 10, true).await.unwrap().unwrap().bytes);
        frame::answers(&mut heard, |kind, _| {
            seen |= kind == wanted;
            Ok(())
        })
        .unwrap();
    }
}

/// What no subscriber says, and a part of the reason that its link ends for.
fn as_subscriber() -> Vec<(Vec<u8>, &'static str)> {
    let live = wants(1, 1, ["a"]);
    let then = |frame: BytesMut| [&live[..], &frame].concat();
    let many: Vec<_> = (0..=MAX_SUBSCRIPTIONS).map(|nth| nth.to_string()).collect();
    let long = "a.".repeat(32) + "a";
    let mut odd = BytesMut::new();
    frame::put_answer(&mut odd, to_sender::SUBSCRIBE, &[2, 0x40]);
    let mut bad = BytesMut::new();
    frame::put_answer(&mut bad, to_sender::SUBSCRIBE, &[2, 0, 1, 3, b'>', b'.', b'a']);
    vec![
        (answer(0x3f, &[]).to_vec(), "a kind that this revision does not know"),
        (answer(to_sender::ACK_UP_TO, &[1]).to_vec(), "a kind that this revision does not know"),
        (answer(to_sender::RECEIVED, &[1]).to_vec(), "before it was subscribed to"),
        (answer(to_sender::SUBSCRIBE, &[1]).to_vec(), "ends too early"),
        ([to_sender::SUBSCRIBE, 0x80, 1, 0, 1].to_vec(), "too long"),
        (then(answer(to_sender::RECEIVED, &[1 << 40])), ""),
        (
            then([answer(to_sender::CREDIT, &[5, 5]), answer(to_sender::CREDIT, &[4, 5])].concat()[..].into()),
            "taken back",
        ),
        ([live.clone(), live.clone()].concat(), "says who it is once"),
        (then(odd), "a flag that this revision does not know"),
        (then(bad), "a pattern is"),
        (wants(1, 1, [&long[..]]), "a pattern is"),
        (wants(1, 1, ["a", "a"]), "names one twice"),
        (wants(1, 1, many.iter().map(String::as_str)), "more patterns than it may have"),
    ]
}

/// What no publisher says, and a part of the reason that its link ends for.
fn as_publisher() -> Vec<(Vec<u8>, &'static str)> {
    let then = |frame: &[u8]| [&confirmed(1)[..], frame].concat();
    vec![
        (control(0x3f, &[]), "a kind that this revision does not know"),
        (published("a", 1), "before it has confirmed"),
        (confirmed(2), "what it was not asked for"),
        (then(&confirmed(1)), "what it was not asked for"),
        (control(to_receiver::GAP, &[1]), "before it has confirmed"),
        (then(&control(to_receiver::GAP, &[0])), "no messages"),
        (then(&control(to_receiver::GAP, &[MAX_SEQUENCE_SAID + 1])), "more than there can be"),
        (then(&control(to_receiver::GAP, &[MAX_SEQUENCE_SAID]).repeat(2)), "beyond what a socket can count"),
        (then(&message(1)), ""),
        (then(&published("a", 1).repeat(100_000)), "more credit than it had"),
        // Announced alone.
        (then(&[0xa0, 0, 0, 0]), "longer than this node takes"),
        (then(&[0, to_receiver::GAP, 0x80, 1, 0, 1]), "too long"),
    ]
}

/// The link ends, and its end says why, to either side.
async fn ends(hostile: &Hostile, events: &mut Events, why: &str) {
    assert_eq!(hostile.code().await, Some(CloseCode::Violation), "{why}");
    let told = event(events, |event| matches!(event, Event::PeerLeft { .. })).await;
    let Event::PeerLeft { why: said, .. } = told else { unreachable!() };
    assert!(said.len() > 10 && said.contains(why), "{said:?} is not {why:?}");
}

#[tokio::test]
async fn who_subscribes_against_the_rules_loses_the_link_and_is_told_why() {
    let key = key();
    let victim = node(&key).env(world(None)).await.unwrap();
    let publisher = victim.publisher("ticks").await.unwrap();
    let honest = victim.subscriber("ticks").await.unwrap();
    let mut events = victim.events();
    for (nth, (bytes, why)) in as_subscriber().into_iter().enumerate() {
        let den = Den::new(&key);
        let mut hostile = Hostile::linked(&den, &victim).await;
        let _lane = subscribes(&mut hostile, &bytes).await;
        ends(&hostile, &mut events, why).await;
        publisher.publish("a", nth.to_string()).await.unwrap();
        assert_eq!(&honest.recv().await.unwrap()[..], nth.to_string().as_bytes());
    }
}

#[tokio::test]
async fn who_publishes_against_the_rules_loses_the_link_and_is_told_why() {
    let key = key();
    let victim = node(&key).env(world(None)).await.unwrap();
    let subscriber = victim.subscriber("news").await.unwrap();
    let honest = victim.publisher("news").await.unwrap();
    subscriber.wait_for_publishers(1).await.unwrap();
    let mut events = victim.events();
    for (nth, (bytes, why)) in as_publisher().into_iter().enumerate() {
        let den = Den::new(&key);
        let mut hostile = Hostile::linked(&den, &victim).await;
        let _lane = publishes(&mut hostile, &bytes).await;
        ends(&hostile, &mut events, why).await;
        honest.publish("honest", nth.to_string()).await.unwrap();
        loop {
            // What came before the breach is a message like any other.
            let heard = subscriber.recv().await.unwrap();
            if heard.topic() == "honest" {
                assert_eq!(&heard[..], nth.to_string().as_bytes());
                break;
            }
        }
    }
}

/// What is legal, and too much of it.
const FLOODS: usize = 6;

async fn flood(hostile: &mut Hostile, which: usize) -> Vec<(SendStream, RecvStream)> {
    let mut kept = Vec::new();
    match which {
        0 => {
            // Changes without end, whose confirmations nobody reads.
            let (mut send, recv) = subscribes(hostile, &wants(1, 1, ["a"])).await;
            let mut changes = BytesMut::new();
            for version in 2..100_000 {
                let change = Change { add: version % 2 == 0, pattern: "b" };
                let put = |payload: &[u8]| frame::put_answer(&mut changes, to_sender::SUBSCRIBE, payload);
                subscription::write(version, false, None, [change], put);
            }
            let _ = send.write_all(&changes).await;
            kept.push((send, recv));
        }
        1 => {
            // As many patterns as a node may have, by as many sockets as that takes; and then one more.
            let sockets = (MAX_SUBSCRIPTIONS_OF_NODE / MAX_SUBSCRIPTIONS) as u64;
            hostile.tell((1..=sockets + 1).map(|id| entry(id, SocketKind::Subscriber, "ticks")), true).await;
            let patterns: Vec<_> = (0..MAX_SUBSCRIPTIONS).map(|nth| format!("a{nth}.b.*.>")).collect();
            for who in 0..=sockets {
                let (mut send, recv) = hostile.connection.quinn().accept_bi().await.unwrap();
                let _ = send.write_all(&wants(1, who, patterns.iter().map(String::as_str))).await;
                kept.push((send, recv));
            }
            assert_eq!(hostile.code().await, Some(CloseCode::Violation));
        }
        2 => {
            // Parts of subscriptions, of which none ever ends, on as many lanes as there may be.
            for first in (1..=u64::from(MAX_LANES)).step_by(64) {
                let opened = (first..first + 64).map(|id| entry(id, SocketKind::Subscriber, "ticks"));
                hostile.tell(opened, first == 1).await;
            }
            // Until the victim has had enough of it.
            while let Ok((mut send, recv)) = hostile.connection.quinn().accept_bi().await {
                let _ = send.write_all(&part(Some(kept.len() as u64), 20_000)).await;
                kept.push((send, recv));
            }
            assert_eq!(hostile.code().await, Some(CloseCode::Violation));
        }
        3 => {
            // Takes everything and reads nothing.
            let mut bytes = wants(1, 1, [">"]);
            bytes.extend_from_slice(&answer(to_sender::CREDIT, &[1 << 60, 1 << 60]));
            kept.push(subscribes(hostile, &bytes).await);
        }
        4 => {
            // Gaps without end.
            let gaps = control(to_receiver::GAP, &[1]).repeat(200_000);
            kept.push(publishes(hostile, &[confirmed(1), gaps].concat()).await);
        }
        _ => {
            // As much as there can be, missed again and again.
            for life in 0..20 {
                let said =
                    [control(to_receiver::SUBSCRIBED, &[1, life]), control(to_receiver::GAP, &[MAX_SEQUENCE_SAID])];
                let (send, mut recv) = publishes(hostile, &said.concat()).await;
                until_it_says(&mut recv, to_sender::RECEIVED).await;
                drop(send);
            }
        }
    }
    kept
}

/// In a process of its own, as it measures memory, which other tests of this process take as well.
#[test]
fn hostile_subscribers_and_publishers_cost_their_own_links_only() {
    alone("node::tests::hostile::news::hostile_news_beside_honest_news");
}

#[tokio::test]
#[ignore = "run by the test before it"]
async fn hostile_news_beside_honest_news() {
    let (key, board) = (key(), Board::default());
    let (victim, honest) = (on_board(&key, &board).await, on_board(&key, &board).await);
    let ticks = victim.publisher("ticks").await.unwrap();
    let hears = honest.subscriber("ticks").topic("honest").await.unwrap();
    let news = victim.subscriber("news").await.unwrap();
    let tells = honest.publisher("news").await.unwrap();
    tells.wait_for_subscribers(1).await.unwrap();

    let done = watch::Sender::new(0_u64);
    let work = async {
        for round in 0_u64.. {
            let told = honest.host.hall.env.timeout(Duration::from_secs(30), async {
                ticks.publish("honest", round.to_string()).await.unwrap();
                ticks.publish("a", "for others").await.unwrap();
                assert_eq!(&hears.recv().await.unwrap()[..], round.to_string().as_bytes());
                tells.publish("honest", round.to_string()).await.unwrap();
                let heard = news.recv().await.unwrap();
                assert_eq!(&heard[..], round.to_string().as_bytes());
                assert_eq!(heard.missed().filter(|gap| gap.publisher == honest.id()), None);
            });
            told.await.expect("honest news go on");
            done.send_modify(|done| *done += 1);
        }
    };
    let harm = async {
        let tasks = || Handle::current().metrics().num_alive_tasks();
        // Once before anything is measured, for what is allocated once.
        for round in 0..2 {
            let (before, idle) = (resident(), tasks());
            for which in 0..FLOODS {
                let den = Den::new(&key);
                let mut hostile = Hostile::linked(&den, &victim).await;
                let heard = *done.borrow();
                let flooded = victim.host.hall.env.timeout(Duration::from_secs(60), flood(&mut hostile, which));
                let kept = flooded.await.expect("the victim takes it, or has had enough of it");
                done.subscribe().wait_for(|done| *done > heard + 20).await.unwrap();
                let grown = resident().saturating_sub(before);
                assert!(grown < 256 << 20, "{grown} bytes more in flood {which}");
                hostile.say(Control::Goodbye { reason: String::new() }).await;
                drop(kept);
                until(|| victim.peers().len() == 1).await;
            }
            until(|| tasks() <= idle + 256).await;
            let grown = resident().saturating_sub(before);
            assert!(round == 0 || grown < 64 << 20, "{grown} bytes more than before");
        }
    };
    tokio::select! {
        biased;
        () = harm => {}
        () = work => {}
    }
    assert_eq!(victim.peers()[0].id, honest.id(), "its link was never lost");
    assert_eq!(honest.metrics().links_opened, 1);
}
