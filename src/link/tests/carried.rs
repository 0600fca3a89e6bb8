use std::sync::Arc;

use futures_util::FutureExt;

use super::*;

/// Both ends of a lane between two sites, its opening frame read.
async fn lane() -> [(Site, Connection, LaneStream); 2] {
    let [(one, dialled), (two, accepted)] = connected().await;
    dialled.admitted();
    accepted.admitted();
    let mut here = dialled.open_lane().await.unwrap();
    here.send.write_chunk(opening_frame().freeze()).await.unwrap();
    let mut there = accepted.accept_lane().await.unwrap();
    assert_eq!(read_open(&mut there, &two.env).await.unwrap(), opening());
    [(one, dialled, here), (two, accepted, there)]
}

#[tokio::test]
async fn bytes_go_both_ways_unchanged() {
    let [(one, _d, here), (two, _a, there)] = lane().await;
    let (forth, back) = (pattern(5_000_000), pattern(3_000_001));
    let here_end = Arc::new(Recorder::saying(&forth, false));
    let there_end = Arc::new(Recorder::saying(&back, false));
    let finish = async {
        here_end.has_heard(back.len()).await;
        there_end.has_heard(forth.len()).await;
        here_end.say(b"", true);
    };
    let (here, there, ()) =
        tokio::join!(carry(here, here_end.clone(), one.env), carry(there, there_end.clone(), two.env), finish);
    assert_eq!((here, there), (Carried::Finished, Carried::Finished));
    assert!(here_end.heard() == back && there_end.heard() == forth);
    assert_eq!((here_end.closed(), there_end.closed()), (1, 1));
}

#[tokio::test]
async fn what_was_said_before_the_end_arrives() {
    let [(one, _d, here), (two, _a, there)] = lane().await;
    let said = pattern(300_000);
    let here_end = Arc::new(Recorder::saying(&said, true));
    let there_end = Arc::new(Recorder::default());
    let (here, there) = tokio::join!(carry(here, here_end.clone(), one.env), carry(there, there_end.clone(), two.env));
    assert_eq!((here, there), (Carried::Finished, Carried::Finished));
    assert!(there_end.heard() == said);
}

#[tokio::test]
async fn a_violation_ends_the_lane_and_the_peer_loses_it() {
    let [(one, _d, here), (two, _a, there)] = lane().await;
    let here_end = Arc::new(Recorder::saying(&pattern(1000), false));
    let there_end = Arc::new(Recorder { limit: Some(999), ..Recorder::default() });
    let (here, there) = tokio::join!(carry(here, here_end.clone(), one.env), carry(there, there_end.clone(), two.env));
    assert_eq!((here, there), (Carried::Lost, Carried::Violation(Violation("too much"))));
    assert_eq!((here_end.closed(), there_end.closed()), (1, 1));
}

#[tokio::test]
async fn dropped_on_its_way_it_is_lost_at_both_ends() {
    let [(one, _d, here), (two, _a, there)] = lane().await;
    let here_end = Arc::new(Recorder::saying(&pattern(1000), false));
    let there_end = Arc::new(Recorder::default());
    let here = async {
        let mut carried = Box::pin(carry(here, here_end.clone(), one.env));
        tokio::select! {
            biased;
            _ = &mut carried => panic!("the lane goes on"),
            () = there_end.has_heard(1000) => drop(carried),
        }
    };
    let ((), there) = tokio::join!(here, carry(there, there_end.clone(), two.env));
    assert_eq!(there, Carried::Lost, "half a conversation is no end");
    assert_eq!((here_end.closed(), there_end.closed()), (1, 1));
}

#[tokio::test]
async fn never_polled_it_still_tells_the_end() {
    let [(one, _d, here), _two] = lane().await;
    let end = Arc::new(Recorder::default());
    drop(carry(here, end.clone(), one.env.clone()));
    assert_eq!(end.closed(), 1);
    drop(carry_in_memory(end.clone(), |_| panic!("nothing was opened"), one.env));
    assert_eq!(end.closed(), 2);
}

#[tokio::test]
async fn a_lost_link_loses_the_lane() {
    let [(one, dialled, here), _two] = lane().await;
    let end = Arc::new(Recorder::default());
    let (carried, ()) = tokio::join!(carry(here, end.clone(), one.env), async { dialled.close(CloseCode::Silent, "") });
    assert_eq!((carried, end.closed()), (Carried::Lost, 1));
}

#[tokio::test]
async fn an_end_is_asked_again_at_its_time() {
    let [(one, _d, here), (two, _a, there)] = lane().await;
    let at = one.env.now() + Duration::from_millis(20);
    let here_end = Arc::new(Recorder::saying(b"late", true));
    here_end.state.lock().unwrap().not_before = Some(at);
    let there_end = Arc::new(Recorder::default());
    tokio::join!(carry(here, here_end, one.env.clone()), carry(there, there_end.clone(), two.env)).0.expect_finished();
    assert!(one.env.now() >= at && there_end.heard() == b"late");
}

impl Carried {
    fn expect_finished(self) {
        assert_eq!(self, Self::Finished);
    }
}

#[tokio::test]
async fn what_came_with_the_opening_frame_is_heard_first() {
    let [(_one, dialled), (two, accepted)] = connected().await;
    accepted.admitted();
    let mut here = dialled.open_lane().await.unwrap();
    let mut bytes = opening_frame();
    bytes.extend_from_slice(b"first ");
    for byte in &bytes {
        here.send.write_all(&[*byte]).await.unwrap();
    }
    let mut there = accepted.accept_lane().await.unwrap();
    assert_eq!(read_open(&mut there, &two.env).await.unwrap(), opening());
    here.send.write_all(b"second").await.unwrap();
    here.send.finish().unwrap();
    let end = Arc::new(Recorder::default());
    let answer = here.recv.read_to_end(0);
    let (carried, answer) = tokio::join!(carry(there, end.clone(), two.env), answer);
    carried.expect_finished();
    assert_eq!((end.heard(), answer.unwrap()), (b"first second".to_vec(), Vec::new()));
}

#[tokio::test]
async fn a_lane_that_ends_or_is_given_up_before_its_first_frame_is_lost() {
    let [(_one, dialled), (two, accepted)] = connected().await;
    accepted.admitted();
    for finish in [true, false] {
        let mut here = dialled.open_lane().await.unwrap();
        here.send.write_all(&opening_frame()[..3]).await.unwrap();
        let mut there = accepted.accept_lane().await.unwrap();
        if finish {
            here.send.finish().unwrap();
        }
        drop(here);
        assert_eq!(read_open(&mut there, &two.env).await, Err(OpeningError::Lost));
    }
}

#[tokio::test]
async fn in_memory_bytes_go_both_ways_unchanged() {
    let env = Env::real(Handle::current());
    let (forth, back) = (pattern(500_000), pattern(300_001));
    let sending = Arc::new(Recorder::default());
    sending.say(&opening_frame(), false);
    sending.say(&forth, false);
    let receiving = Arc::new(Recorder::saying(&back, false));
    let receiver = receiving.clone();
    let accept = |open: &OpenLane| {
        assert_eq!(open, &opening());
        Ok(receiver as Arc<dyn LaneEnd>)
    };
    let finish = async {
        sending.has_heard(back.len()).await;
        receiving.has_heard(forth.len()).await;
        receiving.say(b"end", true);
    };
    let (carried, ()) = tokio::join!(carry_in_memory(sending.clone(), accept, env), finish);
    carried.expect_finished();
    assert!(sending.heard() == [&back[..], b"end"].concat() && receiving.heard() == forth);
    assert_eq!((sending.closed(), receiving.closed()), (1, 1));
}

/// Whatever is opened leads to `end`.
fn accepting(end: &Arc<Recorder>) -> impl FnOnce(&OpenLane) -> Result<Arc<dyn LaneEnd>, Violation> + 'static {
    let end = end.clone();
    |_| Ok(end)
}

#[tokio::test]
async fn in_memory_every_end_closes_once() {
    let env = Env::real(Handle::current());
    let sending = || Arc::new(Recorder::saying(&[&opening_frame()[..], &[0; 10]].concat(), false));

    let refused = sending();
    let carried = carry_in_memory(refused.clone(), |_| Err(Violation("no such socket")), env.clone()).await;
    assert_eq!((carried, refused.closed()), (Carried::Violation(Violation("no such socket")), 1));

    let (one, two) = (sending(), Arc::new(Recorder { limit: Some(9), ..Recorder::default() }));
    let carried = carry_in_memory(one.clone(), accepting(&two), env.clone()).await;
    assert_eq!(carried, Carried::Violation(Violation("too much")));
    assert_eq!((one.closed(), two.closed()), (1, 1));

    let (one, two) = (sending(), Arc::new(Recorder::default()));
    assert!(carry_in_memory(one.clone(), accepting(&two), env.clone()).now_or_never().is_none());
    assert_eq!((one.closed(), two.closed(), two.heard().len()), (1, 1, 10));

    let unopened = Arc::new(Recorder::saying(b"", true));
    carry_in_memory(unopened.clone(), |_| panic!("nothing was opened"), env).await.expect_finished();
    assert_eq!(unopened.closed(), 1);
}
