//! Members of the mesh that ask or answer as they like.

use std::future::IntoFuture;

use super::*;
use crate::error::RequestError;
use crate::wire::exchange::{
    self, RequestHead, put_more, put_numbers, put_reply, put_request, to_replier, to_requester,
};

const HEAD: RequestHead = RequestHead { id: 0, remaining: 300, idempotent: false, attempt: 1 };

/// Tells the victim of a requester, opens a lane of it to the victim's replier, and says these bytes on it once it may.
async fn asks(hostile: &mut Hostile, bytes: &[u8]) -> (SendStream, RecvStream) {
    hostile.tell([entry(1, SocketKind::Requester, "work")], true).await;
    asks_more(hostile, bytes).await
}

/// The same over one lane more.
async fn asks_more(hostile: &mut Hostile, bytes: &[u8]) -> (SendStream, RecvStream) {
    let mut opening = BytesMut::new();
    let to = hostile.sockets.iter().find(|socket| socket.kind == SocketKind::Replier).unwrap().id;
    let (kind, level) = (SocketKind::Requester, Level::AtMostOnce);
    let from = SocketId(hostile.next_lane);
    hostile.next_lane += 1;
    frame::put_open(&mut opening, &OpenLane { from, to, kind, level, epoch: 7, base: 0, taken: false });
    let (mut send, mut recv) = hostile.connection.quinn().open_bi().await.unwrap();
    let _ = send.write_all(&opening).await;
    // To ask without credit would be another breach.
    let credit = recv.read_chunk(1 << 10, true).await.unwrap().unwrap();
    assert_eq!(credit.bytes.first(), Some(&to_requester::CREDIT));
    let _ = send.write_all(bytes).await;
    (send, recv)
}

fn request(head: RequestHead, body: usize, piece: &[u8]) -> Vec<u8> {
    let mut out = BytesMut::new();
    put_request(&mut out, head, &[], body, piece.len());
    [&out[..], piece].concat()
}

#[tokio::test]
async fn a_body_that_is_announced_and_never_sent_costs_nobody_anything() {
    let key = key();
    let victim = node(&key).env(world(None)).await.unwrap();
    let replier = victim.replier("work").limit(1).await.unwrap();
    let requester = victim.requester("work").await.unwrap();
    requester.wait_for_repliers(1).await.unwrap();
    let den = Den::new(&key);
    let mut hostile = Hostile::linked(&den, &victim).await;
    let _lane = asks(&mut hostile, &request(HEAD, 16 << 20, b"x")).await;
    until(|| replier.metrics().arriving == 1).await;
    assert_eq!(requester.request("x").await.unwrap_err(), RequestError::Busy, "it has the only place, for a while");
    until(|| replier.metrics().expired == 1).await;
    assert_eq!((replier.metrics().arriving, replier.metrics().bytes), (0, 0));
    let answer = async { replier.recv().await.unwrap().reply("y").unwrap() };
    let (reply, ()) = tokio::join!(requester.request("x").into_future(), answer);
    assert_eq!(reply.unwrap().body(), "y");
    assert_eq!(victim.peers().len(), 1, "a body may be late");
}

#[tokio::test]
async fn who_asks_against_the_rules_loses_the_link() {
    let key = key();
    let victim = node(&key).env(world(None)).await.unwrap();
    let replier = victim.replier("work").await.unwrap();
    let twice = [request(HEAD, 1, b"x"), request(HEAD, 1, b"x")].concat();
    let too_long = request(HEAD, (16 << 20) + 1, b"x");
    let mut more = BytesMut::new();
    put_more(&mut more, 0, 1);
    let beyond = [&request(HEAD, 2, b"x")[..], &more, b"y", &more, b"z"].concat();
    for bytes in [twice, too_long, beyond, vec![0x3f, 0], vec![0x02, 0x01, 0x00]] {
        let den = Den::new(&key);
        let mut hostile = Hostile::linked(&den, &victim).await;
        let _lane = asks(&mut hostile, &bytes).await;
        assert_eq!(hostile.code().await, Some(CloseCode::Violation), "{:?}", &bytes[..4.min(bytes.len())]);
    }
    until(|| replier.metrics().requesters.is_empty()).await;
    assert_eq!(replier.metrics().bytes, 0);
}

#[tokio::test]
async fn who_answers_against_the_rules_loses_the_link_and_the_request_says_so() {
    let key = key();
    let victim = node(&key).env(world(None)).await.unwrap();
    let requester = victim.requester("asked").await.unwrap();
    let mut credit = BytesMut::new();
    put_numbers(&mut credit, to_requester::CREDIT, &[1 << 20]);
    let reply = |id: u64, body: usize| {
        let mut out = BytesMut::new();
        put_reply(&mut out, id, &[], body, 1);
        [&out[..], b"x"].concat()
    };
    let mut more = BytesMut::new();
    put_more(&mut more, 0, 9);
    for (nth, answer) in [
        reply(1000, 1),
        reply(0, (16 << 20) + 1),
        [&reply(0, 2)[..], &more, b"yyyyyyyyy"].concat(),
        [reply(0, 2), reply(0, 2)].concat(),
        vec![exchange::MORE, 0x01, 0x00],
    ]
    .into_iter()
    .enumerate()
    {
        let den = Den::new(&key);
        let mut hostile = Hostile::linked(&den, &victim).await;
        hostile.tell([entry(1, SocketKind::Replier, "asked")], true).await;
        let (mut send, mut recv) = hostile.connection.quinn().accept_bi().await.unwrap();
        send.write_all(&credit).await.unwrap();
        let open = requester.request("x").wait_for_replier().into_future();
        let hostility = async {
            // Once it has been asked: the opening frame, credit, and then the request.
            let mut heard = Vec::new();
            while !heard.ends_with(b"x") {
                heard.extend_from_slice(&recv.read_chunk(1 << 16, true).await.unwrap().unwrap().bytes);
            }
            // The number of the request is that of the round.
            let mut answer = answer.clone();
            if answer[0] == to_requester::REPLY && answer[2] == 0 {
                for at in numbers(&answer) {
                    answer[at] = nth as u8;
                }
            }
            send.write_all(&answer).await.unwrap();
            assert_eq!(hostile.code().await, Some(CloseCode::Violation), "answer {nth}");
        };
        let (ended, ()) = tokio::join!(open, hostility);
        assert!(matches!(ended.unwrap_err(), RequestError::Unknown { .. }), "answer {nth}");
    }
}

/// Where the numbers of requests stand in the frames of these bytes.
fn numbers(mut bytes: &[u8]) -> Vec<usize> {
    let (mut at, mut all) = (0, Vec::new());
    while let Ok(Some((_, payload))) = exchange::find(bytes) {
        all.push(at + payload.start);
        at += payload.end;
        match bytes.get(payload.end..) {
            Some(rest) => bytes = rest,
            None => break,
        }
    }
    all
}

#[tokio::test]
async fn answers_that_nobody_waits_for_are_passed_over() {
    let key = key();
    let victim = node(&key).env(world(None)).await.unwrap();
    let requester = victim.requester("asked").await.unwrap();
    let den = Den::new(&key);
    let mut hostile = Hostile::linked(&den, &victim).await;
    hostile.tell([entry(1, SocketKind::Replier, "asked")], true).await;
    let (mut send, _recv) = hostile.connection.quinn().accept_bi().await.unwrap();
    let mut bytes = BytesMut::new();
    put_numbers(&mut bytes, to_requester::CREDIT, &[1 << 20]);
    send.write_all(&bytes).await.unwrap();
    let late = requester.request("x").timeout(Duration::from_millis(50)).wait_for_replier().await;
    assert_eq!(late.unwrap_err(), RequestError::TimedOut);
    // Late, and again and again, in pieces of which the first is a long way back.
    let mut bytes = BytesMut::new();
    for _ in 0..1000 {
        put_reply(&mut bytes, 0, &[], 9, 1);
        bytes.extend_from_slice(b"x");
        put_more(&mut bytes, 0, 1);
        bytes.extend_from_slice(b"x");
        put_numbers(&mut bytes, to_requester::BUSY, &[0]);
    }
    send.write_all(&bytes).await.unwrap();
    until(|| requester.metrics().late == 1000).await;
    assert_eq!((victim.peers().len(), requester.metrics().open), (1, 0));
}

#[tokio::test]
async fn a_peer_that_has_not_told_its_sockets_yet_may_have_a_replier() {
    let key = key();
    let victim = node(&key).env(world(None)).await.unwrap();
    let requester = victim.requester("asked").await.unwrap();
    victim.settled().await;
    let den = Den::new(&key);
    let mut peer = Hostile::linked(&den, &victim).await;
    until(|| victim.peers().len() == 1).await;
    let one = async { requester.request("to one").await.unwrap() };
    let all = async { requester.request_all("to all").await.unwrap().recv().await.unwrap() };
    let told = async {
        peer.tell([entry(1, SocketKind::Replier, "asked")], true).await;
        let (mut send, mut recv) = peer.connection.quinn().accept_bi().await.unwrap();
        let mut bytes = BytesMut::new();
        put_numbers(&mut bytes, to_requester::CREDIT, &[1 << 20]);
        send.write_all(&bytes).await.unwrap();
        // The opening frame, credit, and both requests.
        let mut heard = Vec::new();
        while !["to one", "to all"].iter().all(|body| heard.windows(6).any(|part| part == body.as_bytes())) {
            heard.extend_from_slice(&recv.read_chunk(1 << 16, true).await.unwrap().unwrap().bytes);
        }
        let mut bytes = BytesMut::new();
        for id in 0..2 {
            put_reply(&mut bytes, id, &[], 1, 1);
            bytes.extend_from_slice(b"z");
        }
        send.write_all(&bytes).await.unwrap();
        (send, recv)
    };
    let (one, all, _lane) = tokio::join!(one, all, told);
    assert_eq!((one.body(), all.body()), ("z".into(), "z".into()));
}

#[tokio::test]
async fn nobody_there_is_said_as_soon_as_the_last_peer_has_told_its_sockets() {
    let key = key();
    let victim = node(&key).env(world(None)).await.unwrap();
    let requester = victim.requester("asked").await.unwrap();
    victim.settled().await;
    let den = Den::new(&key);
    let mut peer = Hostile::linked(&den, &victim).await;
    until(|| victim.peers().len() == 1).await;
    let late = requester.request("x").timeout(Duration::from_millis(50)).await;
    assert_eq!((late.unwrap_err(), requester.metrics().no_replier), (RequestError::NoReplier, 1), "it has its time");
    let told = async { peer.tell([entry(1, SocketKind::Replier, "another")], true).await };
    let (one, ()) = tokio::join!(requester.request("x").into_future(), told);
    assert_eq!(one.unwrap_err(), RequestError::NoReplier);
}

#[tokio::test]
async fn bodies_that_are_announced_and_never_sent_keep_nobody_else_out() {
    let (key, board) = (key(), Board::default());
    let (victim, honest) = (on_board(&key, &board).await, on_board(&key, &board).await);
    let replier = victim.replier("work").await.unwrap();
    let requester = honest.requester("work").await.unwrap();
    requester.wait_for_repliers(1).await.unwrap();
    let den = Den::new(&key);
    let mut hostile = Hostile::linked(&den, &victim).await;
    // For a year, as many as there is room for, and more; and one that is said to be long.
    let body = |id| if id == 0 { 16 << 20 } else { 100 };
    let asked = |id| request(RequestHead { id, remaining: 31_536_000_000, ..HEAD }, body(id), b"x");
    let bytes: Vec<u8> = (0..1500).flat_map(asked).collect();
    let (mut send, _recv) = asks(&mut hostile, &bytes).await;
    until(|| replier.metrics().busy >= 400).await;
    assert_eq!(replier.metrics().arriving, 1024);
    for _ in 0..10 {
        let answer = async { replier.recv().await.unwrap().reply("y").unwrap() };
        let asking = async { requester.request("x").await.unwrap() };
        let (reply, ()) = tokio::join!(asking, answer);
        assert_eq!(reply.body(), "y");
    }
    let before = resident();
    assert_eq!(victim.peers().len(), 2, "that is within the rules");
    // Nobody waits for what it has given up or was never asked, however often it says so.
    let mut cancels = BytesMut::new();
    (0..200_000_u64).for_each(|id| put_numbers(&mut cancels, to_replier::CANCEL, &[id % 3000]));
    send.write_all(&cancels).await.unwrap();
    until(|| replier.metrics().arriving == 0).await;
    assert_eq!(replier.metrics().bytes, 0);
    assert!(resident() < before + (64 << 20));
}

#[tokio::test]
async fn bodies_on_many_lanes_of_one_node_are_bounded_together() {
    let key = key();
    let victim = node(&key).env(world(None)).await.unwrap();
    let replier = victim.replier("work").await.unwrap();
    let den = Den::new(&key);
    let mut hostile = Hostile::linked(&den, &victim).await;
    hostile.tell((1..=100).map(|id| entry(id, SocketKind::Requester, "work")), true).await;
    let mut lanes = Vec::new();
    for _ in 0..100 {
        lanes.push(asks_more(&mut hostile, &request(RequestHead { remaining: 1 << 40, ..HEAD }, 16 << 20, b"x")).await);
    }
    until(|| replier.metrics().received + replier.metrics().busy == 100).await;
    // Four windows of 64 MiB.
    assert_eq!(replier.metrics().received, 16);
    assert_eq!(victim.peers().len(), 1);
}
