//! The socket protocol as types: frames in become packets, replies and events become frames.
//!
//! Pure: no I/O, no clock, no state. Nothing here knows who a client is or what he may do.

pub mod client;
pub mod error;
mod reply_to;
pub mod server;

pub use reply_to::{ReplyTo, RequestId};
