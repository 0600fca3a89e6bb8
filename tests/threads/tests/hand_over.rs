//! Holds the hand-over between threads to what is promised of it, in every interleaving. What each model does stands at it.

use std::process::Command;

use meshmq_threads::models;

/// Takes the models of these names.
macro_rules! models {
    ($(#[test] fn $model:ident();)*) => {
        $(
            #[test]
            fn $model() {
                take(stringify!($model), models::$model);
            }
        )*
    };
}

/// Set in a process that takes one model.
const ALONE: &str = "MESHMQ_MODEL_ALONE";

/// In a process of its own: each interleaving maps stacks for its threads, and models of one process wait for each other
/// there, on any number of cores.
fn take(name: &str, model: fn() -> usize) {
    if std::env::var_os(ALONE).is_none() {
        let this = std::env::current_exe().expect("this program has a path");
        let output = Command::new(this).args(["--exact", name, "--nocapture"]).env(ALONE, "1").output();
        let output = output.expect("this program starts once more");
        print!("{}", String::from_utf8_lossy(&output.stdout));
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        return;
    }
    let interleavings = model();
    println!("{interleavings} interleavings");
    assert!(interleavings > 1, "nothing was handed over between threads");
}

models! {
    #[test]
    fn senders_wait_for_room();
    #[test]
    fn room_that_was_set_aside_comes_back();
    #[test]
    fn a_sink_waits_for_room();
    #[test]
    fn a_dropped_sender_wakes_the_next_one();
    #[test]
    fn a_bound_is_exact();
    #[test]
    fn the_end_wakes_every_sender();
    #[test]
    fn who_waits_for_an_answer_is_told();
    #[test]
    fn a_socket_without_handles_ends_once_nothing_is_owed();
    #[test]
    fn a_draining_socket_ends_its_lane_with_the_last_permit();

    #[test]
    fn receivers_wait_for_messages();
    #[test]
    fn a_dropped_receiver_wakes_the_next_one();
    #[test]
    fn every_answer_arrives();
    #[test]
    fn one_slot_is_one_message();
    #[test]
    fn what_is_announced_has_come();
    #[test]
    fn a_closed_socket_hands_nothing_out();
    #[test]
    fn an_answer_to_a_lane_that_is_lost_counts_once();
    #[test]
    fn from_thread_to_thread();

    #[test]
    fn the_oldest_is_dropped_and_told_once();
    #[test]
    fn the_newest_is_dropped_and_told_once();
    #[test]
    fn the_replaced_is_dropped_and_told_once();
    #[test]
    fn who_publishes_waits_for_room();
    #[test]
    fn a_slow_subscriber_is_given_up_and_told_once();
    #[test]
    fn who_has_waited_for_long_enough_publishes_once();
    #[test]
    fn who_flushes_is_told();
    #[test]
    fn a_flush_waits_for_no_lane_that_is_lost();
    #[test]
    fn a_publisher_without_handles_ends_once_all_has_come();
    #[test]
    fn the_end_wakes_who_publishes();

    #[test]
    fn who_receives_news_waits_for_it();
    #[test]
    fn a_dropped_receiver_of_news_wakes_the_next_one();
    #[test]
    fn news_from_thread_to_thread();
    #[test]
    fn a_closed_subscriber_hands_nothing_out();
    #[test]
    fn who_waits_for_the_room_of_one_that_leaves_goes_on();
    #[test]
    fn a_subscription_is_in_force_when_that_is_told();
    #[test]
    fn a_lane_that_is_lost_loses_no_news();

    #[test]
    fn a_request_is_answered_from_thread_to_thread();
    #[test]
    fn who_asks_waits_for_room();
    #[test]
    fn who_asks_and_gives_up_leaves_the_room();
    #[test]
    fn a_request_that_is_given_up_while_it_is_answered_ends_once();
    #[test]
    fn a_request_that_is_given_up_while_it_is_sent_ends_once();
    #[test]
    fn a_request_whose_time_is_up_while_it_is_answered_ends_once();
    #[test]
    fn a_request_that_nobody_answers_ends_when_its_time_is_up();
    #[test]
    fn an_answer_to_a_lane_that_is_lost_is_a_reply_or_unknown();
    #[test]
    fn who_asks_everybody_hears_everybody();
    #[test]
    fn the_end_wakes_who_asks();
    #[test]
    fn a_requester_without_handles_ends();

    #[test]
    fn each_request_is_taken_by_one();
    #[test]
    fn a_dropped_receiver_of_requests_wakes_the_next_one();
    #[test]
    fn a_request_in_hand_is_told_that_it_was_given_up();
    #[test]
    fn a_request_that_is_given_up_while_it_is_dropped_ends_once();
    #[test]
    fn a_handler_is_dropped_when_nobody_waits();
    #[test]
    fn a_closed_replier_hands_nothing_out();
}
