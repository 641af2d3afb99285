//! The core service: every rule, all data, all token keys.
//!
//! It is stateless beyond its store. Gateways reach it over gRPC, in standalone through the same generated client
//! wired straight to the same generated service; internal services reach it the same way under names of their own.

pub mod config;
pub mod convert;
pub mod distributed;
pub mod domain;
pub mod grpc;
mod metrics;
pub mod publish;
pub mod server;
pub mod signing_key;
pub mod store;
