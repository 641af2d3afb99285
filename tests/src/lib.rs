//! The harness of the end-to-end tests: real server processes, and clients that speak the public protocol only.
//!
//! A story runs on either form of the server ([`Form`]); it starts a [`TestStack`] (most share one, each in an organization of its own), signs up users with
//! [`Organization::client`] and talks through [`TestClient`]. Absence is never waited for: a story sends something
//! that must arrive later on the same way, and looks at what came before it. [`history`] judges what many clients
//! logged while servers died under them.

mod binaries;
mod builder;
mod chatter;
mod client;
mod form;
pub mod history;
mod inbox;
pub mod packets;
mod process;
mod requests;
mod stack;
mod user;
mod waiting;
pub mod wire;

pub use binaries::{core_service, gateway, standalone};
pub use builder::{GATEWAY_TOKEN, StackBuilder};
pub use chatter::Chatter;
pub use client::TestClient;
pub use form::{Deployment, Form};
pub use inbox::Closed;
pub use process::{FailedStart, Launch, Output, ServerProcess};
pub use stack::{ADMIN_KEY, StackHandle, TestStack};
pub use user::{Ack, Device, Organization, Session, TestUser};
pub use waiting::{PATIENCE, eventually};
