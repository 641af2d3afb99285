//! What the server promises, shown over real sockets against the real processes, one file per story.
//!
//! The stories run on either form of the server, but for those in [`standalone`] and [`distributed`].

#![expect(clippy::unwrap_used, reason = "what is not there fails the test, in helpers too")]

mod big_page;
mod browser;
mod carbons;
mod conversation_list;
mod create;
mod distributed;
mod envelopes;
mod frames;
mod fuzz;
mod heartbeat;
mod http;
mod kill;
mod leave;
mod limits;
mod list;
mod login;
mod logs;
mod memory;
mod metrics;
mod participants;
mod read;
mod resend;
mod sending;
mod shutdown;
mod slow_reader;
mod standalone;
mod team;
mod trace;
mod typing;
mod update;
mod users;
