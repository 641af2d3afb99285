//! The rules: what the requests mean, who may do what, and which events they cause.
//!
//! Commands come in from `grpc` with everything a client wrote still unchecked; data goes out through the ports in
//! [`crate::store`], time and ids come from [`clock`]. Nothing here knows a transport or a database. From `proto` it
//! takes the ids and the protocol's closed list of failure reasons.

pub mod accounts;
mod changing;
pub mod clock;
pub mod conversation;
pub mod conversing;
pub mod event;
pub mod failure;
pub mod history;
mod leaving;
pub mod limits;
pub mod login;
mod membership;
pub mod message;
pub mod messaging;
pub mod organization;
pub mod password;
pub mod presence;
pub mod read_ranges;
pub mod recent;
mod restoring;
pub mod send_message;
mod service_message;
pub mod session;
pub mod tokens;
pub mod updating;
pub mod user;

#[cfg(test)]
mod testing;
