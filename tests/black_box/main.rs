//! meshmq as programs use it: nodes and processes, over real sockets and networks. In one program, so that tests which wait do
//! so side by side. Tests that count what is in their process have programs of their own.
#![allow(missing_docs, clippy::unwrap_used)]

#[path = "../support/mod.rs"]
mod support;

mod avahi;
mod cancel_safety;
mod hard_networks;
mod headers;
mod lan;
mod lan_workers;
mod mesh;
mod pub_sub;
mod pub_sub_cancelled;
mod pub_sub_crowd;
mod push_pull;
mod req_rep;
mod sharing;
mod sink_and_stream;
mod status;
mod typed;
mod under_load;
