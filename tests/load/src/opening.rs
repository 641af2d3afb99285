//! Many sockets, logged in a few at a time.

use std::time::Duration;

use clap::Args;
use futures_util::{Stream, StreamExt, stream};
use tokio::time::Instant;

use crate::Target;
use crate::people::Session;
use crate::socket::{Buffers, Socket};

/// How many sockets there are, and whose.
#[derive(Args, Clone, Copy, Debug)]
pub struct Crowd {
    /// Sockets; one process can have about 19,000 where it may open 20,000 files
    #[arg(long, default_value_t = 1_000, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..))]
    pub connections: u32,

    /// Sockets that share one user and device; a server may close more than 20
    #[arg(long, default_value_t = 20, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..))]
    pub sockets_per_user: u32,

    /// Sockets that connect at the same time
    #[arg(long, default_value_t = 64, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..))]
    pub at_once: u32,
}

impl Crowd {
    pub(crate) fn users(&self) -> usize {
        self.connections.div_ceil(self.sockets_per_user) as usize
    }

    /// The sessions of its users.
    pub(crate) async fn sign_in(&self, target: &Target) -> anyhow::Result<Vec<Session>> {
        target.people.sign_in(&target.server, self.users()).await
    }

    /// Opens all its sockets and logs them in. Socket `n` is of user `n % users`; they come as they are ready.
    pub(crate) fn open<'a>(
        self,
        target: &'a Target,
        sessions: &'a [Session],
    ) -> impl Stream<Item = (usize, anyhow::Result<Opened>)> {
        let numbers = stream::iter(0..self.connections as usize);
        let opening = numbers.map(move |number| async move {
            let begun = Instant::now();
            let socket = Socket::bound(&target.server, Buffers::Idle, &sessions[number % sessions.len()]).await;
            (number, socket.map(|socket| Opened { socket, took: begun.elapsed() }))
        });
        opening.buffer_unordered(self.at_once as usize)
    }
}

/// A socket that is logged in.
#[derive(Debug)]
pub(crate) struct Opened {
    pub(crate) socket: Socket,
    /// From the first packet of TCP to the reply to `connect`.
    pub(crate) took: Duration,
}
