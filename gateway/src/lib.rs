//! The gateway: frames in, gRPC out; events in, frames out; and the HTTP routes beside the socket.
//!
//! It decides nothing about who may do what. It owns sockets, JSON, limits and back-pressure, and holds only what dies
//! with its sockets. Rooms: [`server`] accepts, `connection` is one task per socket, `session` turns packets into
//! requests, [`core_client`] makes the calls, [`events`] says where events come from and `delivery` fans them out.

pub mod address;
pub mod config;
mod connection;
pub mod core_client;
mod delivery;
pub mod events;
mod handshake;
pub mod http;
pub mod limits;
mod metrics;
pub mod packet;
pub mod readiness;
mod registry;
pub mod server;
mod session;
