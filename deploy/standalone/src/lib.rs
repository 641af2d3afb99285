//! The whole server in one process: core over the embedded store, the gateway, and the journal between them.
//!
//! Nothing here decides anything. It opens the store, gives core its ports, wires the gateway's generated client
//! straight to core's generated service, and starts core before the gateway and stops them the other way round.

pub mod journal;
mod stack;

pub use stack::Stack;
