//! Stories about the distributed form alone: several gateways and core services, and what happens when a part of it dies
//! or is away. A run on the standalone form leaves them out; `tests/run` runs them by this module's name.

mod away;
mod chat;
mod deaths;
mod link;
mod put_back;
mod several;
