//! What the server is compared with: the least that anything on the same libraries could do for the same effect.

pub(crate) mod commits;
mod rounds;
mod sockets;

use clap::Subcommand;

/// A yardstick, as a program.
#[derive(Debug, Subcommand)]
pub(crate) enum Yardstick {
    /// A WebSocket server that answers requests and passes messages on to everybody, and does nothing else
    Sockets(sockets::Options),
    /// Writes a database's messages into a new one, so many to a commit
    Commits(commits::Options),
    /// Writes and publishes as many messages as are due, with nothing around it
    Rounds(rounds::Options),
}

impl Yardstick {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        match self {
            Self::Sockets(options) => sockets::run(&options),
            Self::Commits(options) => commits::run(&options),
            Self::Rounds(options) => rounds::run(&options),
        }
    }
}
