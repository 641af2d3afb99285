//! A CQL database and nats-server, from where they can be had: addresses given, Docker, or fetched and started.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use rustix::process::Pid;

use crate::process::{Owner, Process, Program};
use crate::{Cassandra, Nats, cassandra, docker, nats};

/// How long a server in a container may take to start.
const PATIENCE: Duration = Duration::from_secs(300);

/// Servers that are there already.
#[derive(Clone, Debug, clap::Args)]
pub struct Given {
    /// A CQL database that is there already
    #[arg(long, env = "TEST_CQL_ADDRESS", value_name = "HOST:PORT")]
    pub cql_address: Option<String>,

    /// A NATS server with JetStream that is there already
    #[arg(long, env = "TEST_NATS_URL", value_name = "URL")]
    pub nats_url: Option<String>,

    /// What keyspaces on that database are made with, such as `AND tablets = {'enabled': false}` on ScyllaDB
    #[arg(long, env = "TEST_CQL_KEYSPACE_OPTIONS", default_value = "", value_name = "CQL")]
    pub cql_keyspace_options: String,

    /// How keyspaces are replicated
    #[arg(
        long,
        env = "TEST_CQL_REPLICATION",
        default_value = "{'class': 'NetworkTopologyStrategy', 'replication_factor': 1}",
        value_name = "MAP"
    )]
    pub cql_replication: String,
}

/// How a server is started when it is not given.
#[derive(Debug)]
pub struct Wanted<'a> {
    /// Where its data and log lie.
    pub directory: &'a Path,
    /// On which port of 127.0.0.1.
    pub port: u16,
    /// Whom it belongs to.
    pub owner: Owner,
    /// Whether a quick start matters more than the speed later.
    pub starts_quickly: bool,
}

/// A server that can be used.
#[derive(Debug)]
pub struct Server {
    /// HOST:PORT of a database, the URL of NATS.
    pub address: String,
    /// What keyspaces of a database are made with.
    pub keyspace_options: String,
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    Given,
    Container(Process),
    Cassandra(Cassandra),
    Nats(Box<Nats>),
}

impl Server {
    /// Its process id, unless it was given.
    pub fn pid(&self) -> Option<Pid> {
        match &self.kind {
            Kind::Given => None,
            Kind::Container(process) => Some(process.pid()),
            Kind::Cassandra(database) => database.pid(),
            Kind::Nats(server) => server.pid(),
        }
    }
}

/// The CQL database. Blocks until it serves.
///
/// # Errors
/// When it cannot be had; says what to do.
pub fn database(given: &Given, wanted: &Wanted<'_>) -> anyhow::Result<Server> {
    if let Some(address) = named(&given.cql_address) {
        return Ok(Server { address, keyspace_options: given.cql_keyspace_options.clone(), kind: Kind::Given });
    }
    let address = local(wanted);
    if docker::answers() {
        let program = docker::scylla(wanted.directory, wanted.port, &wanted.owner)?;
        let kind = start(&program, wanted, || cassandra::answers(address))?;
        let keyspace_options = docker::KEYSPACE_OPTIONS.to_owned();
        return Ok(Server { address: address.to_string(), keyspace_options, kind });
    }
    let options = cassandra::Options {
        port: Some(wanted.port),
        owner: wanted.owner.clone(),
        starts_quickly: wanted.starts_quickly,
        ..cassandra::Options::default()
    };
    let kind = Kind::Cassandra(Cassandra::start_with(wanted.directory, &options)?);
    Ok(Server { address: address.to_string(), keyspace_options: String::new(), kind })
}

/// The NATS server. Blocks until it serves.
///
/// # Errors
/// When it cannot be had; says what to do.
pub fn nats(given: &Given, wanted: &Wanted<'_>) -> anyhow::Result<Server> {
    if let Some(address) = named(&given.nats_url) {
        return Ok(Server { address, keyspace_options: String::new(), kind: Kind::Given });
    }
    let address = local(wanted);
    let kind = if docker::answers() {
        let program = docker::nats(wanted.directory, wanted.port, &wanted.owner)?;
        start(&program, wanted, || nats::greets(address))?
    } else {
        let options =
            nats::Options { port: Some(wanted.port), owner: wanted.owner.clone(), ..nats::Options::default() };
        Kind::Nats(Box::new(Nats::start_in(wanted.directory, &options)?))
    };
    Ok(Server { address: format!("nats://{address}"), keyspace_options: String::new(), kind })
}

/// A variable that is set to nothing names nothing.
fn named(address: &Option<String>) -> Option<String> {
    address.clone().filter(|address| !address.is_empty())
}

fn local(wanted: &Wanted<'_>) -> SocketAddr {
    ([127, 0, 0, 1], wanted.port).into()
}

fn start(program: &Program, wanted: &Wanted<'_>, is_ready: impl FnMut() -> bool) -> anyhow::Result<Kind> {
    let mut process = program.start(&wanted.owner)?;
    process.wait_until(PATIENCE, is_ready)?;
    Ok(Kind::Container(process))
}
