//! The load generator: clients without a screen, for any SAMA server, over the public protocol alone.
//!
//! A mode signs users in ([`people`]), sets the stage (sockets and conversations), lets it run, and hands back a report
//! that can be read by people ([`std::fmt::Display`]) and by programs (JSON). Where messages flow, the [`ledger`] keeps
//! account of them and says what was lost, doubled or out of order. Everything kept while running is bounded: by the
//! sockets, by what is under way, by what went wrong; not by the messages sent.

pub mod chat;
pub mod comeback;
pub mod idle;
pub mod latency;
pub mod ledger;
pub mod lists;
mod opening;
mod order;
pub mod pace;
pub mod people;
mod players;
pub mod report;
pub mod server_use;
pub mod socket;
mod stage;
pub mod storm;
pub mod wire;

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::people::PeopleOptions;
use crate::report::Report;
use crate::server_use::Processes;
use crate::socket::Server;

/// Puts load on a SAMA server and judges what comes back.
///
/// Everything goes through the public protocol, so any server of it will do. Users are made where they do not exist yet
/// (`load-0`, `load-1`, ...), and every run makes conversations of its own. Exit codes: 0 all went well, 1 it could not
/// be done, 2 bad options, 3 the server broke a promise (a message lost, doubled or out of order, a socket closed).
#[derive(Debug, Parser)]
#[command(name = "load", version, after_help = EXAMPLES)]
pub struct Arguments {
    /// Where clients connect: ws://HOST:PORT
    pub server: Server,

    /// A process of the server, to measure its CPU and memory; may be given several times
    #[arg(long = "pid", value_name = "PID")]
    pub pids: Vec<i32>,

    /// Also write the report to this file, as JSON
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,

    /// Threads of the generator itself
    #[arg(long, default_value_t = 1, value_name = "COUNT", value_parser = clap::value_parser!(u16).range(1..=64))]
    pub threads: u16,

    /// Who the clients are.
    #[command(flatten)]
    pub people: PeopleOptions,

    /// What they do.
    #[command(subcommand)]
    pub mode: Mode,
}

const EXAMPLES: &str = "\
Examples:
  load ws://127.0.0.1:9001 chat
      40 users in groups of 4, each sends when its last message is acknowledged, for 10 s
  load ws://127.0.0.1:9001 --pid 4711 --json chat.json chat --rate 1000 --seconds 60
      1,000 messages a second whatever the server does; latency counts from when each was due
  load ws://127.0.0.1:9001 --pid 4711 --sessions sessions.json idle --connections 10000
      logged-in sockets that do nothing; run it twice, so that no password is hashed while memory is measured
  load ws://127.0.0.1:9001 --sessions sessions.json comeback --connections 10000
      then restart the server";

/// What the clients do.
#[derive(Debug, Subcommand)]
pub enum Mode {
    /// Groups talk; every message is accounted for
    Chat(chat::ChatOptions),
    /// As chat, with a member in every group that stops reading
    Stall(chat::StallOptions),
    /// Sockets log in and do nothing: memory per connection
    Idle(idle::IdleOptions),
    /// Sockets log in as fast as the server lets them
    Storm(storm::StormOptions),
    /// Sockets log in, wait for a restart of the server, and all come back at once
    Comeback(comeback::ComebackOptions),
    /// Latency of conversation_list and message_list
    Lists(lists::ListsOptions),
}

/// What every mode works with.
#[derive(Debug)]
pub(crate) struct Target {
    pub(crate) server: Server,
    pub(crate) people: PeopleOptions,
    pub(crate) processes: Processes,
}

/// The server broke a promise.
const PROMISE_BROKEN: u8 = 3;

impl Arguments {
    /// Does what was asked for, shows and keeps the report. The exit code says whether promises were kept.
    ///
    /// # Errors
    /// As [`Arguments::run`], and when the report cannot be written.
    pub fn execute(self) -> anyhow::Result<ExitCode> {
        let json = self.json.clone();
        let report = self.run()?;
        if let Some(path) = json {
            report.save(&path)?;
        }
        write!(std::io::stdout(), "{report}")?;
        Ok(if report.is_clean() { ExitCode::SUCCESS } else { ExitCode::from(PROMISE_BROKEN) })
    }

    /// Does what was asked for.
    ///
    /// # Errors
    /// When the server cannot be reached, or refuses what a mode cannot do without.
    pub fn run(self) -> anyhow::Result<Report> {
        let mut runtime = match self.threads {
            1 => tokio::runtime::Builder::new_current_thread(),
            _ => tokio::runtime::Builder::new_multi_thread(),
        };
        let runtime = runtime.worker_threads(self.threads.into()).enable_all().build()?;
        let target = Target { server: self.server, people: self.people, processes: Processes::find(&self.pids)? };
        runtime.block_on(async {
            Ok(match self.mode {
                Mode::Chat(options) => Report::Chat(chat::chat(&target, &options).await?),
                Mode::Stall(options) => Report::Stall(chat::stall(&target, &options).await?),
                Mode::Idle(options) => Report::Idle(idle::run(&target, &options).await?),
                Mode::Storm(options) => Report::Storm(storm::run(&target, &options).await?),
                Mode::Comeback(options) => Report::Comeback(comeback::run(&target, &options).await?),
                Mode::Lists(options) => Report::Lists(lists::run(&target, &options).await?),
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn the_options_pass_claps_own_check() {
        super::Arguments::command().debug_assert();
    }
}
