//! Holds the hand-over between threads to what is promised of it, in every interleaving.

use meshmq_threads::models;

macro_rules! models {
    ($($model:ident)*) => {$(
        #[test]
        fn $model() {
            println!("{}: {} interleavings", stringify!($model), models::$model());
        }
    )*};
}

models! {
    senders_wait_for_room
    room_that_was_set_aside_comes_back
    a_sink_waits_for_room
    a_dropped_sender_wakes_the_next_one
    a_bound_is_exact
    the_end_wakes_every_sender
    who_waits_for_an_answer_is_told
    a_socket_without_handles_ends_once_nothing_is_owed
    a_draining_socket_ends_its_lane_with_the_last_permit
    receivers_wait_for_messages
    a_dropped_receiver_wakes_the_next_one
    every_answer_arrives
    one_slot_is_one_message
    what_is_announced_has_come
    a_closed_socket_hands_nothing_out
    an_answer_to_a_lane_that_is_lost_counts_once
    from_thread_to_thread
}
