//! A requester: threads ask, wait for room and give up, and the node's thread brings answers, or the end.

use std::future::IntoFuture;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use super::explore;
use crate::error::RequestError;
use crate::socket::{Asking, Replier, Request, Requester};
use crate::stage::{Lane, NodeThread, block_on, lose, poll_once};

/// One request is in hand: who asked, whoever has it, and their sockets.
pub(super) struct InHand {
    pub(super) requester: Requester,
    pub(super) replier: Arc<Replier>,
    pub(super) lane: Lane,
    pub(super) asking: Asking,
    pub(super) request: Request,
}

impl InHand {
    pub(super) fn new(node: &mut NodeThread) -> Self {
        let (requester, replier, lane) = node.work(|requester| requester);
        let mut asking = requester.request("ask").into_future();
        assert!(poll_once(pin!(&mut asking)).is_pending());
        node.run();
        let request = replier.try_recv().expect("it is open").expect("it has come");
        Self { requester, replier, lane, asking, request }
    }
}

/// So many requests were asked and answered, or came to another end of those that are counted in `others`; each of them
/// once, here and there, and nothing is held for them.
pub(super) fn each_has_ended(requester: &Requester, replier: &Replier, count: u64) {
    let (asked, answered) = (requester.metrics(), replier.metrics());
    let ends = asked.replied + asked.failed + asked.cancelled + asked.timed_out + asked.unknown + asked.closed;
    let others = asked.no_replier + asked.busy + asked.not_sent;
    assert_eq!((asked.asked, ends + others, asked.open, asked.bytes), (count, count, 0, 0), "{asked:?}");
    let ends = answered.replied + answered.failed + answered.cancelled + answered.expired + answered.lost;
    assert_eq!(ends + answered.returned, answered.received, "{answered:?}");
    assert_eq!((answered.waiting, answered.in_hand, answered.bytes), (0, 0, 0), "{answered:?}");
}

/// Receives and answers so many requests.
pub(super) async fn answer(replier: Arc<Replier>, count: usize) {
    for _ in 0..count {
        replier.recv().await.expect("it is open").reply("answer").expect("it fits");
    }
}

/// One thread asks, another one answers: who asks is woken by the reply, who receives by the request.
pub fn a_request_is_answered_from_thread_to_thread() -> usize {
    explore(2, |node| {
        let (requester, replier, _) = node.work(|requester| requester);
        let asking = requester.clone();
        node.thread(move || {
            let reply = block_on(asking.request("ask").into_future()).expect("somebody answers");
            assert_eq!(reply[..], *b"answer");
        });
        let answering = replier.clone();
        node.thread(move || block_on(answer(answering, 1)));
        node.run();
        each_has_ended(&requester, &replier, 1);
        assert_eq!((requester.metrics().replied, replier.metrics().replied), (1, 1));
    })
}

/// With room for one request at repliers, two threads ask: the second one has its turn when the first one has ended.
pub fn who_asks_waits_for_room() -> usize {
    explore(2, |node| {
        let (requester, replier, _) = node.work(|requester| requester.bound(1, 1000));
        node.task(answer(replier.clone(), 2));
        for _ in 0..2 {
            let asking = requester.clone();
            node.thread(move || drop(block_on(asking.request("ask").into_future()).expect("somebody answers")));
        }
        node.run();
        each_has_ended(&requester, &replier, 2);
        assert_eq!(requester.metrics().replied, 2);
    })
}

/// Who waits for room and gives up gets nobody else's: the other one has it.
pub fn who_asks_and_gives_up_leaves_the_room() -> usize {
    explore(2, |node| {
        let (requester, replier, _) = node.work(|requester| requester.bound(1, 1000));
        node.task(answer(replier.clone(), 2));
        let giving_up = requester.clone();
        node.thread(move || {
            let _ = poll_once(pin!(giving_up.request("given up").into_future()));
        });
        let asking = requester.clone();
        node.thread(move || drop(block_on(asking.request("ask").into_future()).expect("somebody answers")));
        node.run();
        each_has_ended(&requester, &replier, 2);
    })
}

/// A request is given up while its handler answers: it ends once, here and there, and nothing is held for it.
pub fn a_request_that_is_given_up_while_it_is_answered_ends_once() -> usize {
    explore(3, |node| {
        let InHand { requester, replier, lane: _, asking, request } = InHand::new(node);
        node.thread(move || drop(asking));
        node.thread(move || request.reply("answer").expect("it fits"));
        node.run();
        each_has_ended(&requester, &replier, 1);
    })
}

/// A request is given up while it is still being sent: what has come of it is dropped.
pub fn a_request_that_is_given_up_while_it_is_sent_ends_once() -> usize {
    explore(2, |node| {
        let (requester, replier, _) = node.work(|requester| requester);
        let asking = requester.clone();
        node.thread(move || {
            // More than a writer takes at a time.
            let mut asking = pin!(asking.request(vec![0; 300 << 10]).into_future());
            assert!(poll_once(asking.as_mut()).is_pending());
        });
        node.run();
        each_has_ended(&requester, &replier, 1);
        assert_eq!(replier.metrics().arriving, 0);
    })
}

/// The time of a request is up while its handler answers: who asked is told the one or the other.
pub fn a_request_whose_time_is_up_while_it_is_answered_ends_once() -> usize {
    explore(2, |node| {
        let InHand { requester, replier, lane: _, asking, request } = InHand::new(node);
        let (env, deadline) = (node.hall().env().clone(), request.deadline());
        node.task(async move { env.ring(deadline) });
        node.thread(move || request.reply("answer").expect("it fits"));
        node.thread(move || {
            let ended = block_on(asking);
            assert!(matches!(ended, Ok(_) | Err(RequestError::TimedOut)), "{ended:?}");
        });
        node.run();
        each_has_ended(&requester, &replier, 1);
    })
}

/// Nobody answers: a request ends when its time is up, also where that is so while it is still being asked.
pub fn a_request_that_nobody_answers_ends_when_its_time_is_up() -> usize {
    explore(2, |node| {
        let (requester, replier, _) = node.work(|requester| requester);
        let (env, asker) = (node.hall().env().clone(), requester.clone());
        node.thread(move || {
            let mut asking = asker.request("ask").timeout(Duration::from_secs(1)).into_future();
            assert!(poll_once(pin!(&mut asking)).is_pending());
            env.ring(env.after(Duration::from_secs(1)));
            let ended = block_on(asking);
            assert!(matches!(ended, Err(RequestError::TimedOut | RequestError::NotSent)), "{ended:?}");
        });
        node.run();
        each_has_ended(&requester, &replier, 1);
    })
}

/// The lane is lost while a request is answered: it ends as answered, or as unknown, and not as anything else.
pub fn an_answer_to_a_lane_that_is_lost_is_a_reply_or_unknown() -> usize {
    explore(3, |node| {
        let InHand { requester, replier, lane, asking, request } = InHand::new(node);
        node.thread(move || request.reply("answer").expect("it fits"));
        node.task(lose(lane));
        node.run();
        let ended = block_on(asking);
        assert!(matches!(ended, Ok(_) | Err(RequestError::Unknown { .. })), "{ended:?}");
        each_has_ended(&requester, &replier, 1);
    })
}

/// The same request to two repliers, which answer from threads: who asked has both replies.
pub fn who_asks_everybody_hears_everybody() -> usize {
    explore(1, |node| {
        let (requester, one, lane) = node.work(|requester| requester);
        let (two, end) = node.replier();
        node.join(&lane.from, &end);
        node.task(answer(one.clone(), 1));
        let answering = two.clone();
        node.thread(move || block_on(answer(answering, 1)));
        let asking = requester.clone();
        node.thread(move || {
            block_on(async {
                let mut replies = asking.request_all("ask").await.expect("two are there");
                assert!(replies.recv().await.is_some() && replies.recv().await.is_some());
                assert!(replies.recv().await.is_none() && replies.missing().is_empty());
            });
        });
        node.run();
        assert_eq!((requester.metrics().replied, requester.metrics().open), (2, 0));
    })
}

/// The node ends while a request is answered: who asked is told something.
pub fn the_end_wakes_who_asks() -> usize {
    explore(3, |node| {
        let InHand { requester, replier, lane, asking, request } = InHand::new(node);
        node.task(async move { drop((lane.from.close(), lane.to.close())) });
        node.thread(move || request.reply("answer").expect("it fits"));
        node.thread(move || {
            let ended = block_on(asking);
            assert!(matches!(ended, Ok(_) | Err(RequestError::Unknown { .. })), "{ended:?}");
        });
        node.run();
        each_has_ended(&requester, &replier, 1);
    })
}

/// The last handle goes while the lane is at work: the lane ends, and the socket is no more.
pub fn a_requester_without_handles_ends() -> usize {
    explore(3, |node| {
        let (requester, replier, _) = node.work(|requester| requester);
        node.thread(move || {
            let _ = poll_once(pin!(requester.request("given up").into_future()));
            drop(requester);
        });
        node.run();
        assert_eq!(node.hall().ended().len(), 1, "the socket has left the table");
        // The tasks: the requester's, the replier's, and of the lane the way there.
        assert!(node.is_over(0) && node.is_over(2));
        assert_eq!((replier.metrics().waiting, replier.metrics().bytes), (0, 0));
    })
}
