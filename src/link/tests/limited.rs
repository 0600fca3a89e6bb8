use futures_util::FutureExt;

use super::transport::{LANE_WINDOW, WINDOW_AT_FIRST};
use super::*;
use crate::wire::limits::{LANES_AT_FIRST, MAX_LANES};

#[tokio::test]
async fn before_admission_there_is_one_stream_and_a_small_window() {
    let [(_one, dialled), (_two, accepted)] = connected().await;
    for quinn in [dialled.quinn(), accepted.quinn()] {
        assert!(quinn.open_uni().now_or_never().is_none());
        assert!(quinn.send_datagram("x".into()).is_err());
    }
    let (mut send, _recv) = dialled.quinn().open_bi().await.unwrap();
    assert!(dialled.quinn().open_bi().now_or_never().is_none());
    // Nobody reads.
    let too_much = vec![0; WINDOW_AT_FIRST as usize + 1024];
    assert_eq!(send.write(&too_much).await.unwrap(), WINDOW_AT_FIRST as usize);
    assert!(send.write(&too_much).now_or_never().is_none());

    accepted.admitted();
    send.write_all(&vec![0; 2 << 20]).await.unwrap();
    let mut lanes = Vec::new();
    for _ in 0..LANES_AT_FIRST {
        lanes.push(dialled.open_lane().await.unwrap());
    }
    assert!(dialled.open_lane().now_or_never().is_none());
    accepted.allow_lanes(u32::MAX);
    for _ in LANES_AT_FIRST..MAX_LANES {
        lanes.push(dialled.open_lane().await.unwrap());
    }
    assert!(dialled.open_lane().now_or_never().is_none());
}

#[tokio::test]
async fn a_lane_that_nobody_reads_has_its_own_window() {
    let [(_one, dialled), (_two, accepted)] = connected().await;
    accepted.admitted();
    let mut unread = dialled.open_lane().await.unwrap();
    unread.send.write_all(&vec![0; LANE_WINDOW as usize]).await.unwrap();
    assert!(unread.send.write(&[0]).now_or_never().is_none());

    let mut busy = dialled.open_lane().await.unwrap();
    let passes = async {
        busy.send.write_all(&pattern(1 << 20)).await.unwrap();
        busy.send.finish().unwrap();
    };
    let arrives = async {
        let _unread = accepted.accept_lane().await.unwrap();
        let mut busy = accepted.accept_lane().await.unwrap();
        busy.recv.read_to_end(1 << 20).await.unwrap()
    };
    let ((), arrived) = tokio::join!(passes, arrives);
    assert!(arrived == pattern(1 << 20));
}

#[tokio::test]
async fn loopback_gets_large_packets_on_both_sides_and_all_arrives() {
    let [(_one, dialled), (_two, accepted)] = connected().await;
    dialled.admitted();
    accepted.admitted();
    let sent = pattern(10 << 20);
    let echo = async {
        let mut lane = accepted.accept_lane().await.unwrap();
        let read = lane.recv.read_to_end(10 << 20).await.unwrap();
        lane.send.write_all(&read).await.unwrap();
        lane.send.finish().unwrap();
        lane.send.stopped().await.unwrap();
    };
    let ask = async {
        let mut lane = dialled.open_lane().await.unwrap();
        lane.send.write_all(&sent).await.unwrap();
        lane.send.finish().unwrap();
        lane.recv.read_to_end(10 << 20).await.unwrap()
    };
    let ((), back) = tokio::join!(echo, ask);
    assert!(back == sent);
    for quinn in [dialled.quinn(), accepted.quinn()] {
        let mtu = quinn.stats().path.current_mtu;
        assert!(mtu > 65_000, "{mtu}");
    }
}
