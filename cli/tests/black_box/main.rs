//! The command as people and scripts use it: processes, pipes and signals. In one program, so that tests which wait do so side
//! by side.
#![allow(missing_docs, clippy::unwrap_used)]

mod common;

mod bad_input;
mod behaviour;
mod demo;
mod help;
mod key;
mod ls;
mod pub_sub;
mod push_pull;
mod req_rep;
mod transcripts;
