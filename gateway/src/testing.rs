//! What tests of several rooms use.

pub(crate) mod nats_server;
pub(crate) mod proxy;
