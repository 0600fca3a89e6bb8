//! A requester and a replier: threads ask, give up, receive and answer, and the node's thread carries what they say.

use std::future::IntoFuture;
use std::pin::pin;
use std::sync::Arc;

use super::explore;
use crate::error::RequestError;
use crate::stage::{NodeThread, block_on, poll_once};

/// One thread asks, another one answers: who asks is woken by the reply, who receives by the request.
pub fn a_request_is_answered_from_thread_to_thread() -> usize {
    explore(2, || {
        let mut node = NodeThread::new();
        let (requester, from) = node.requester();
        let (replier, to) = node.replier(10);
        node.join(&from, &to, false);
        let asking = requester.clone();
        node.thread(move || {
            let reply = block_on(asking.request("ask").into_future()).expect("somebody answers");
            assert_eq!(reply[..], *b"answer");
        });
        let replier = Arc::new(replier);
        let answering = replier.clone();
        node.thread(move || {
            let request = block_on(answering.recv()).expect("it is open");
            request.reply("answer").expect("it fits");
        });
        node.run();
        let (asked, answered) = (requester.metrics(), replier.metrics());
        assert_eq!((asked.replied, asked.open, asked.bytes), (1, 0, 0));
        assert_eq!((answered.replied, answered.in_hand, answered.bytes), (1, 0, 0));
    })
}

/// A request is given up while its handler answers: it ends once, here and there, and nothing is held for it.
pub fn a_request_that_is_given_up_while_it_is_answered_ends_once() -> usize {
    explore(3, || {
        let mut node = NodeThread::new();
        let (requester, from) = node.requester();
        let (replier, to) = node.replier(10);
        node.join(&from, &to, false);
        let mut asking = Box::pin(requester.request("ask").into_future());
        assert!(poll_once(asking.as_mut()).is_pending());
        node.run();
        let request = replier.try_recv().expect("it is open").expect("it has come");
        node.thread(move || drop(asking));
        node.thread(move || request.reply("answer").expect("it fits"));
        node.run();
        let (asked, answered) = (requester.metrics(), replier.metrics());
        assert_eq!((asked.replied + asked.cancelled, asked.open, asked.bytes), (1, 0, 0));
        assert_eq!((answered.replied + answered.cancelled, answered.in_hand, answered.bytes), (1, 0, 0));
    })
}

/// Whoever has a request in hand and waits for its end is woken when it is given up.
pub fn a_request_in_hand_is_told_that_it_was_given_up() -> usize {
    explore(3, || {
        let mut node = NodeThread::new();
        let (requester, from) = node.requester();
        let (replier, to) = node.replier(10);
        node.join(&from, &to, false);
        let mut asking = Box::pin(requester.request("ask").into_future());
        assert!(poll_once(asking.as_mut()).is_pending());
        node.run();
        let request = replier.try_recv().expect("it is open").expect("it has come");
        node.thread(move || drop(asking));
        node.thread(move || block_on(request.cancelled()));
        node.run();
        assert_eq!((requester.metrics().cancelled, replier.metrics().cancelled), (1, 1));
    })
}

/// The lane is lost while a request is answered: it ends as answered, or as unknown, and not as anything else.
pub fn an_answer_to_a_lane_that_is_lost_is_a_reply_or_unknown() -> usize {
    explore(3, || {
        let mut node = NodeThread::new();
        let (requester, from) = node.requester();
        let (replier, to) = node.replier(10);
        let lane = node.join(&from, &to, false);
        let mut asking = Box::pin(requester.request("ask").into_future());
        assert!(poll_once(asking.as_mut()).is_pending());
        node.run();
        let request = replier.try_recv().expect("it is open").expect("it has come");
        node.thread(move || request.reply("answer").expect("it fits"));
        node.task(async move { lane.lose() });
        node.run();
        let ended = block_on(asking);
        assert!(matches!(ended, Ok(_) | Err(RequestError::Unknown { .. })), "{ended:?}");
        assert_eq!((requester.metrics().open, replier.metrics().in_hand), (0, 0));
    })
}

/// The last handle goes while the lane is at work: the lane ends, and the socket is no more.
pub fn a_requester_without_handles_ends() -> usize {
    explore(3, || {
        let mut node = NodeThread::new();
        let (requester, from) = node.requester();
        let (replier, to) = node.replier(10);
        node.join(&from, &to, false);
        node.thread(move || {
            let _ = poll_once(pin!(requester.request("given up").into_future()));
            drop(requester);
        });
        node.run();
        drop(from);
        assert_eq!(node.hall().ended().len(), 1, "the socket has left the table");
        // The tasks: the requester's, the replier's, and of the lane the way there.
        assert!(node.is_over(0) && node.is_over(2));
        assert_eq!((replier.metrics().waiting, replier.metrics().bytes), (0, 0));
    })
}
