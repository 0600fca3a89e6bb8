//! Why a link ends is told, whatever else is under way.

use super::*;

#[tokio::test]
async fn the_peer_hears_why_also_where_all_that_may_be_under_way_is() {
    // The transport gets so many turns to send what it may.
    for turns in 0..8 {
        let [(_one, dialled), (_two, accepted)] = connected().await;
        let (mut writer, mut reader) = dialled.control().await.unwrap();
        writer.write("hello".into()).await.unwrap();
        let (mut their_writer, _their_reader) = accepted.control().await.unwrap();
        accepted.admitted();
        their_writer.write("you may".into()).await.unwrap();
        reader.read().await.unwrap();

        let mut lane = dialled.open_lane().await.unwrap();
        lane.send.write_chunk(vec![7; 2 << 20].into()).await.unwrap();
        for _ in 0..turns {
            pause().await;
        }
        dialled.close(CloseCode::Violation, "for the test");
        let lost = tokio::time::timeout(Duration::from_secs(10), accepted.closed()).await.expect("it hears of the end");
        assert_eq!(lost.code, Some(CloseCode::Violation), "after {turns} turns: {lost}");
        assert!(lost.why.contains("for the test"), "{lost}");
    }
}
