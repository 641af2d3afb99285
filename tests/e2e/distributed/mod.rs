//! Stories about the distributed form alone: several gateways and core services, what happens when a part of it dies or
//! is away, and servers that let in nobody without TLS and a password. A run on the standalone form leaves them out;
//! `tests/run` runs them by this module's name.

mod away;
mod chat;
mod deaths;
mod guarded;
mod link;
mod put_back;
mod several;
