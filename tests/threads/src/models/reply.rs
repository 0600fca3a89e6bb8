//! A replier: threads receive, answer and close, and the node's thread brings requests, and who gives them up.

use std::convert::Infallible;
use std::future::IntoFuture;
use std::pin::pin;

use super::explore;
use super::request::{InHand, answer, each_has_ended};
use crate::error::RequestError;
use crate::message::Message;
use crate::socket::Requester;
use crate::stage::{block_on, poll_once};

/// Asks, as a task of the node's thread, and is answered.
async fn ask(requester: Requester) {
    requester.request("ask").await.expect("somebody answers");
}

/// Two threads receive: each request wakes one that takes it.
pub fn each_request_is_taken_by_one() -> usize {
    explore(2, |node| {
        let (requester, replier, _) = node.work(|requester| requester);
        for _ in 0..2 {
            node.task(ask(requester.clone()));
            let answering = replier.clone();
            node.thread(move || block_on(answer(answering, 1)));
        }
        node.run();
        each_has_ended(&requester, &replier, 2);
        assert_eq!((replier.metrics().handed, replier.metrics().replied), (2, 2));
    })
}

/// A receiver that waits and is dropped has taken no request, and another one has what comes.
pub fn a_dropped_receiver_of_requests_wakes_the_next_one() -> usize {
    explore(2, |node| {
        let (requester, replier, _) = node.work(|requester| requester);
        let asking = requester.clone();
        // What the first one has after all fails, as it is dropped without an answer.
        node.task(async move { while asking.request("ask").await.is_err() {} });
        let giving_up = replier.clone();
        node.thread(move || {
            let _ = poll_once(pin!(giving_up.recv()));
        });
        let answering = replier.clone();
        node.thread(move || block_on(answer(answering, 1)));
        node.run();
        each_has_ended(&requester, &replier, requester.metrics().asked);
        assert_eq!(requester.metrics().replied, 1);
    })
}

/// Whoever has a request in hand and waits for its end is woken when it is given up.
pub fn a_request_in_hand_is_told_that_it_was_given_up() -> usize {
    explore(3, |node| {
        let InHand { requester, replier, lane: _, asking, request } = InHand::new(node);
        node.thread(move || drop(asking));
        node.thread(move || block_on(request.cancelled()));
        node.run();
        assert_eq!((requester.metrics().cancelled, replier.metrics().cancelled), (1, 1));
    })
}

/// A request is given up while its handler drops it: it ends once, as the one or the other.
pub fn a_request_that_is_given_up_while_it_is_dropped_ends_once() -> usize {
    explore(3, |node| {
        let InHand { requester, replier, lane: _, asking, request } = InHand::new(node);
        node.thread(move || drop(asking));
        node.thread(move || drop(request));
        node.run();
        each_has_ended(&requester, &replier, 1);
    })
}

/// A handler whose request is given up is dropped, and the loop that runs it goes on: here to its end.
pub fn a_handler_is_dropped_when_nobody_waits() -> usize {
    explore(2, |node| {
        let (requester, replier, _) = node.work(|requester| requester);
        let mut asking = requester.request("ask").into_future();
        assert!(poll_once(pin!(&mut asking)).is_pending());
        let serving = replier.clone();
        node.thread(move || {
            let for_ever = |_: Message| std::future::pending::<Result<&str, Infallible>>();
            block_on(serving.serve(1, for_ever)).expect("it ends without a fault");
        });
        let closing = replier.clone();
        node.thread(move || {
            drop(asking);
            closing.close();
        });
        node.run();
        each_has_ended(&requester, &replier, 1);
    })
}

/// A replier closes while it is asked: nothing is handed out afterwards, and who asks is told, by whatever end it is.
pub fn a_closed_replier_hands_nothing_out() -> usize {
    explore(2, |node| {
        let (requester, replier, _) = node.work(|requester| requester);
        let asking = requester.clone();
        node.task(async move {
            let ended = asking.request("ask").await;
            assert!(matches!(ended, Ok(_) | Err(RequestError::NoReplier | RequestError::Busy)), "{ended:?}");
        });
        let closing = replier.clone();
        node.thread(move || {
            closing.close();
            assert!(closing.try_recv().is_err(), "it was handed out after the close");
        });
        let receiving = replier.clone();
        node.thread(move || {
            while let Ok(request) = block_on(receiving.recv()) {
                request.reply("answer").expect("it fits");
            }
        });
        node.run();
        each_has_ended(&requester, &replier, 1);
    })
}
