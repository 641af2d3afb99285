//! The distributed form on this machine: a database, nats-server, one core and one gateway; on which processor each is,
//! and what the core says of its requests to the database.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use components::{Cassandra, Nats, cassandra, nats, ready};

use crate::driver::{CLIENT_PROCESSOR, Driver, Pinned, Running, SERVER_PROCESSOR, Target};

const KEYSPACE: &str = "sama";
/// The core's stream, of the cell that is the default.
const STREAM: &str = "sama_events";
const REPLICATION: &str = "{'class': 'NetworkTopologyStrategy', 'replication_factor': 1}";
const TOKEN: &str = "the token of the benchmark's gateway";
/// Room in NATS is set aside, so it is far below what a server has.
const STREAM_BYTES: &str = "268435456";
/// How long a service may take until it takes work.
const PATIENCE: Duration = Duration::from_secs(60);
/// The counter of requests to the database.
const REQUESTS: &str = "core_cql_requests_total{statement=\"";

/// Its processes, in the order in which they are measured and stopped.
#[derive(Debug)]
pub(crate) struct Deployment {
    gateway: Running,
    core: Running,
    nats: Nats,
    database: Cassandra,
}

impl Deployment {
    /// Starts everything, makes users, and lets them talk until the database has compiled what is used much.
    pub(crate) fn start(driver: &Driver) -> anyhow::Result<Self> {
        let programs = driver.server.parent().context("a program lies in a directory")?;
        let core_program = programs.join("core-service");
        let options = cassandra::Options { starts_quickly: false, ..cassandra::Options::default() };
        eprintln!("starting a database and NATS");
        let database = Cassandra::start_with(&driver.work().join("database"), &options)?;
        let nats = Nats::start_in(&driver.work().join("nats"), &nats::Options::default())?;
        let (cql_address, nats_url) = (database.address().to_string(), nats.url());

        migrate(driver, &core_program, &cql_address)?;
        let mut command = driver.server_command(&core_program, Pinned::Yes)?;
        command.env("CQL_ADDRESSES", &cql_address).env("CQL_KEYSPACE", KEYSPACE).env("NATS_URL", &nats_url);
        command.env("CORE_GATEWAY_TOKENS", TOKEN).env("NATS_STREAM_MAX_BYTES", STREAM_BYTES);
        let core = driver.start_service("core", command)?;
        wait_until_ready(&core)?;
        let mut command = driver.server_command(&programs.join("gateway"), Pinned::Yes)?;
        command.env("CORE_ADDRESSES", format!("http://{}", core.address)).env("CORE_GATEWAY_TOKEN", TOKEN);
        command.env("NATS_URL", &nats_url);
        let gateway = driver.start_service("gateway", command)?;
        wait_until_ready(&gateway)?;

        let deployment = Self { gateway, core, nats, database };
        deployment.heat(driver)?;
        deployment.place_apart(driver)?;
        Ok(deployment)
    }

    /// Gives gateway and core a processor of their own, as if the others were on other machines: for what they use.
    pub(crate) fn place_apart(&self, driver: &Driver) -> anyhow::Result<()> {
        self.place(driver, [SERVER_PROCESSOR, SERVER_PROCESSOR, CLIENT_PROCESSOR, CLIENT_PROCESSOR])
    }

    /// Lets every process run where it has room: for how long things take.
    pub(crate) fn place_anywhere(&self, driver: &Driver) -> anyhow::Result<()> {
        self.place(driver, [&format!("{SERVER_PROCESSOR},{CLIENT_PROCESSOR}"); 4])
    }

    fn place(&self, driver: &Driver, processors: [&str; 4]) -> anyhow::Result<()> {
        let pids = Target::from(self).pids;
        pids.into_iter().zip(processors).try_for_each(|(pid, processors)| driver.place(pid, processors))
    }

    fn heat(&self, driver: &Driver) -> anyhow::Result<()> {
        let users = driver.scale.users;
        driver.make_users(self, users)?;
        eprintln!("heating the database for {} s", driver.scale.heating);
        let options =
            [("--users", users / 4 * 4), ("--group-size", 4)].map(|(name, value)| [name.into(), value.to_string()]);
        let seconds = ["--seconds".to_owned(), driver.scale.heating.to_string()];
        driver.load(self, &[&["chat".to_owned()][..], &seconds, &options.concat()].concat())?;
        Ok(())
    }

    /// Requests that the core has sent to the database, by statement.
    pub(crate) fn cql_requests(&self) -> anyhow::Result<BTreeMap<String, f64>> {
        let text = metrics(admin(&self.core)?).context("cannot read the core's metrics")?;
        let counters = text.lines().filter_map(|line| {
            let (statement, count) = line.strip_prefix(REQUESTS)?.split_once("\"} ")?;
            Some((statement.to_owned(), count.parse().ok()?))
        });
        let counters: BTreeMap<_, _> = counters.collect();
        ensure!(!counters.is_empty(), "the core counts no requests to the database:\n{text}");
        Ok(counters)
    }

    /// What the yardstick of rounds needs to know of it.
    pub(crate) fn addresses(&self) -> [(&'static str, String); 4] {
        [
            ("--cql-address", self.database.address().to_string()),
            ("--keyspace", KEYSPACE.to_owned()),
            ("--nats-url", self.nats.url()),
            ("--like-stream", STREAM.to_owned()),
        ]
    }

    /// Lets the services finish, then ends the rest.
    pub(crate) fn stop(self) -> anyhow::Result<()> {
        self.gateway.stop()?;
        self.core.stop()
    }
}

impl From<&Deployment> for Target {
    fn from(deployment: &Deployment) -> Self {
        let Deployment { gateway, core, nats, database } = deployment;
        let servers = [nats.pid(), database.pid()].map(|pid| pid.expect("nobody has stopped it"));
        Self { address: gateway.address, pids: [[gateway.pid(), core.pid()], servers].concat() }
    }
}

fn migrate(driver: &Driver, core_program: &Path, cql_address: &str) -> anyhow::Result<()> {
    let mut command = driver.server_command(core_program, Pinned::No)?;
    command.arg("migrate").env("CQL_ADDRESSES", cql_address).env("CQL_KEYSPACE", KEYSPACE);
    let output = command.env("CQL_REPLICATION", REPLICATION).output().context("cannot start core-service")?;
    ensure!(output.status.success(), "core-service migrate failed: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

fn admin(service: &Running) -> anyhow::Result<SocketAddr> {
    service.admin.context("a service says where its metrics are")
}

fn wait_until_ready(service: &Running) -> anyhow::Result<()> {
    let (admin, deadline) = (admin(service)?, Instant::now() + PATIENCE);
    while !ready::is_ready(admin) {
        ensure!(Instant::now() < deadline, "the service at {admin} was not ready within {} s", PATIENCE.as_secs());
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

fn metrics(admin: SocketAddr) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(admin)?;
    write!(stream, "GET /metrics HTTP/1.1\r\nhost: {admin}\r\nconnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}
