//! meshmq (story to come)
pub mod discovery;
pub mod env;
mod error;
mod id;
mod link;
mod message;
mod node;
mod observe;
mod pattern;
mod session;
mod socket;
mod trust;
mod wire;
pub use error::*; pub use message::*; pub use socket::*; pub use observe::*; pub use id::NodeId;
