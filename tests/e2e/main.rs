//! What the server promises, shown over real sockets against the real process, one file per story.

#![expect(clippy::unwrap_used, reason = "what is not there fails the test, in helpers too")]

mod big_page;
mod browser;
mod carbons;
mod conversation_list;
mod core_service;
mod create;
mod disk;
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
mod start;
mod team;
mod trace;
mod typing;
mod update;
mod users;
