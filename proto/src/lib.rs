//! The contract between gateway and core: services, events, ids, failure reasons, when logins are the same.
//!
//! Everything two processes must agree on, and nothing else. The `.proto` files under `chat/v1` are the source;
//! `src/gen/` is made from them (see `tests/generated_code_is_fresh.rs`).

pub mod claim_key;
pub mod ids;
pub mod reason;
pub mod subject;
pub mod trace;

/// Generated messages, clients and servers of package `chat.v1`.
#[allow(missing_docs, clippy::all, clippy::pedantic, reason = "generated code is not written to our lints")]
pub mod v1 {
    include!("gen/chat.v1.rs");
}

/// The compiled `.proto` files, for gRPC reflection.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!("gen/chat.v1.bin");

/// The largest gRPC message, in bytes, on both sides: a page of 100 messages of the largest size is 46 MB.
pub const MAX_MESSAGE_BYTES: usize = 64 * 1024 * 1024;
