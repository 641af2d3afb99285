//! The servers that the distributed form and its tests stand on, a CQL database and nats-server: found or fetched,
//! started and stopped.
//!
//! Out go addresses on 127.0.0.1 and handles that kill, restart and copy. What is fetched is pinned by version and
//! checksum and kept in a cache folder ([`cache`]). A server started for somebody ends with its owner, however that
//! ends ([`leash`]); one started for [`local`] stays until it is told to go.

pub mod cache;
pub mod cassandra;
mod docker;
pub mod leash;
pub mod local;
pub mod nats;
pub mod ports;
pub mod process;
pub mod proxy;
pub mod ready;
pub mod servers;
mod tools;

pub use cassandra::Cassandra;
pub use nats::Nats;
pub use proxy::Proxy;
