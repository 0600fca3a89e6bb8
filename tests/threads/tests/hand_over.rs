//! Holds the hand-over between threads to what is promised of it, in every interleaving. What each model does stands at it.

use meshmq_threads::models;

fn told(interleavings: usize) {
    println!("{interleavings} interleavings");
    assert!(interleavings > 1, "nothing was handed over between threads");
}

#[test]
fn senders_wait_for_room() {
    told(models::senders_wait_for_room());
}

#[test]
fn room_that_was_set_aside_comes_back() {
    told(models::room_that_was_set_aside_comes_back());
}

#[test]
fn a_sink_waits_for_room() {
    told(models::a_sink_waits_for_room());
}

#[test]
fn a_dropped_sender_wakes_the_next_one() {
    told(models::a_dropped_sender_wakes_the_next_one());
}

#[test]
fn a_bound_is_exact() {
    told(models::a_bound_is_exact());
}

#[test]
fn the_end_wakes_every_sender() {
    told(models::the_end_wakes_every_sender());
}

#[test]
fn who_waits_for_an_answer_is_told() {
    told(models::who_waits_for_an_answer_is_told());
}

#[test]
fn a_socket_without_handles_ends_once_nothing_is_owed() {
    told(models::a_socket_without_handles_ends_once_nothing_is_owed());
}

#[test]
fn a_draining_socket_ends_its_lane_with_the_last_permit() {
    told(models::a_draining_socket_ends_its_lane_with_the_last_permit());
}

#[test]
fn receivers_wait_for_messages() {
    told(models::receivers_wait_for_messages());
}

#[test]
fn a_dropped_receiver_wakes_the_next_one() {
    told(models::a_dropped_receiver_wakes_the_next_one());
}

#[test]
fn every_answer_arrives() {
    told(models::every_answer_arrives());
}

#[test]
fn one_slot_is_one_message() {
    told(models::one_slot_is_one_message());
}

#[test]
fn what_is_announced_has_come() {
    told(models::what_is_announced_has_come());
}

#[test]
fn a_closed_socket_hands_nothing_out() {
    told(models::a_closed_socket_hands_nothing_out());
}

#[test]
fn an_answer_to_a_lane_that_is_lost_counts_once() {
    told(models::an_answer_to_a_lane_that_is_lost_counts_once());
}

#[test]
fn from_thread_to_thread() {
    told(models::from_thread_to_thread());
}

#[test]
fn a_request_is_answered_from_thread_to_thread() {
    told(models::a_request_is_answered_from_thread_to_thread());
}

#[test]
fn a_request_that_is_given_up_while_it_is_answered_ends_once() {
    told(models::a_request_that_is_given_up_while_it_is_answered_ends_once());
}

#[test]
fn a_request_in_hand_is_told_that_it_was_given_up() {
    told(models::a_request_in_hand_is_told_that_it_was_given_up());
}

#[test]
fn an_answer_to_a_lane_that_is_lost_is_a_reply_or_unknown() {
    told(models::an_answer_to_a_lane_that_is_lost_is_a_reply_or_unknown());
}

#[test]
fn a_requester_without_handles_ends() {
    told(models::a_requester_without_handles_ends());
}
