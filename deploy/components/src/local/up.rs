//! Starting: the database and NATS, the tables, cores, gateways.

use std::ffi::OsString;
use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, bail};

use super::stack::{Cql, Nats, Service, Stack};
use super::{Place, Wanted, say};
use crate::process::{Owner, Process, Program, tail};
use crate::ready::is_ready;
use crate::servers::{self, Server};
use crate::{cache, ports};

/// How long a core or a gateway may take to be ready.
const PATIENCE: Duration = Duration::from_secs(60);

/// Where ports are looked for: the first free one from there on.
const CQL_PORT: u16 = 9042;
const NATS_PORT: u16 = 4222;
const GATEWAY_PORT: u16 = 9001;
const GATEWAY_ADMIN_PORT: u16 = 9101;
const CORE_PORT: u16 = 9201;
const CORE_ADMIN_PORT: u16 = 9301;

/// Starts everything and waits until it is ready. Says where everything is in `stack` and in its file.
pub(super) fn start(place: &Place, wanted: &Wanted, stack: &mut Stack) -> anyhow::Result<()> {
    cache::remove(&place.logs())?;
    let mut ports = Ports::default();
    let (database, nats) = start_servers(place, wanted, &mut ports)?;
    stack.cql = Cql { address: database.address.clone(), pid: database.pid().map(|pid| pid.as_raw_pid()) };
    stack.nats = Nats { url: nats.address.clone(), pid: nats.pid().map(|pid| pid.as_raw_pid()) };
    stack.write(&place.file())?;

    let mut common = vec![variable("CQL_ADDRESSES", &database.address), variable("NATS_URL", &nats.address)];
    migrate(place, wanted, &database, &common)?;
    let token = make_token(&place.token_file())?;
    common.push(variable("CORE_GATEWAY_TOKENS", &token));
    let mut processes = Vec::new();
    for number in 1..=wanted.cores {
        let (port, admin) = (ports.next(CORE_PORT), ports.next(CORE_ADMIN_PORT));
        let own = [variable("CORE_LISTEN", &local(port)), variable("CORE_ADMIN_LISTEN", &local(admin))];
        let name = format!("core-{number}");
        let process = start_one(place, &name, "core-service", [&common[..], &own].concat())?;
        stack.cores.push(service(&process, port, admin));
        stack.write(&place.file())?;
        processes.push((process, admin));
    }
    let cores: Vec<_> = stack.cores.iter().map(|core| core.url.as_str()).collect();
    let common = [
        variable("NATS_URL", &nats.address),
        variable("CORE_ADDRESSES", &cores.join(",")),
        variable("CORE_GATEWAY_TOKEN", &token),
    ];
    for number in 1..=wanted.gateways {
        let (port, admin) = (ports.next(GATEWAY_PORT), ports.next(GATEWAY_ADMIN_PORT));
        let own = [variable("GATEWAY_LISTEN", &local(port)), variable("GATEWAY_ADMIN_LISTEN", &local(admin))];
        let name = format!("gateway-{number}");
        let process = start_one(place, &name, "gateway", [&common[..], &own].concat())?;
        stack.gateways.push(service(&process, port, admin));
        stack.write(&place.file())?;
        processes.push((process, admin));
    }
    for (process, admin) in &mut processes {
        process.wait_until(PATIENCE, || is_ready(([127, 0, 0, 1], *admin).into()))?;
    }
    Ok(())
}

fn start_servers(place: &Place, wanted: &Wanted, ports: &mut Ports) -> anyhow::Result<(Server, Server)> {
    let wanted_server = |directory, port, name| servers::Wanted {
        directory,
        port,
        owner: Owner::Nobody { mark: place.mark(name) },
        starts_quickly: false,
    };
    let (cql, nats) = (place.data().join("cql"), place.data().join("nats"));
    let cql = wanted_server(&cql, ports.next(CQL_PORT), "cql");
    let nats = wanted_server(&nats, ports.next(NATS_PORT), "nats");
    say("starting a CQL database and NATS");
    std::thread::scope(|scope| {
        let database = scope.spawn(|| servers::database(&wanted.given, &cql));
        let nats = servers::nats(&wanted.given, &nats);
        let database = database.join().expect("starting does not panic");
        Ok((database?, nats?))
    })
}

fn migrate(
    place: &Place,
    wanted: &Wanted,
    database: &Server,
    environment: &[(String, OsString)],
) -> anyhow::Result<()> {
    say("making the tables");
    let log = place.logs().join("migrate.log");
    std::fs::create_dir_all(place.logs())?;
    let output = std::fs::File::create(&log).with_context(|| format!("cannot write {}", log.display()))?;
    let status = Command::new(binary("core-service")?)
        .arg("migrate")
        .envs(environment.iter().map(|(name, value)| (name, value)))
        .env("CQL_REPLICATION", &wanted.given.cql_replication)
        .env("CQL_KEYSPACE_OPTIONS", &database.keyspace_options)
        .stdin(std::process::Stdio::null())
        .stdout(output.try_clone()?)
        .stderr(output)
        .status()
        .context("cannot execute core-service")?;
    if !status.success() {
        bail!("core-service migrate failed ({status}):\n{}", tail(&log));
    }
    Ok(())
}

/// A secret that nobody knows, in a file that only its owner reads.
#[expect(clippy::disallowed_methods, reason = "the secret of this stack is made here")]
fn make_token(file: &Path) -> anyhow::Result<String> {
    let token = hex::encode(rand::random::<[u8; 32]>());
    cache::remove(file)?;
    let opened = OpenOptions::new().write(true).create_new(true).mode(0o600).open(file);
    let mut opened = opened.with_context(|| format!("cannot write {}", file.display()))?;
    writeln!(opened, "{token}")?;
    Ok(token)
}

fn start_one(
    place: &Place,
    name: &str,
    program: &str,
    environment: Vec<(String, OsString)>,
) -> anyhow::Result<Process> {
    say(format_args!("starting {name}"));
    let program = Program {
        name: name.to_owned(),
        program: binary(program)?,
        arguments: vec![],
        environment,
        directory: Some(place.directory.clone()),
        log: place.logs().join(format!("{name}.log")),
    };
    program.start(&Owner::Nobody { mark: place.mark(name) })
}

/// A program that was built together with this one.
fn binary(name: &str) -> anyhow::Result<std::path::PathBuf> {
    let path = std::env::current_exe()?.with_file_name(name);
    if !path.exists() {
        bail!("{} is not built. Run: cargo build --release -p {name}", path.display());
    }
    Ok(path)
}

fn service(process: &Process, port: u16, admin: u16) -> Service {
    let (url, admin) = (format!("http://{}", local(port)), format!("http://{}", local(admin)));
    Service { url, admin, pid: process.pid().as_raw_pid() }
}

fn variable(name: &str, value: &str) -> (String, OsString) {
    (name.to_owned(), value.into())
}

fn local(port: u16) -> String {
    format!("127.0.0.1:{port}")
}

/// Ports that are given away and may not be open yet.
#[derive(Default)]
struct Ports(Vec<u16>);

impl Ports {
    fn next(&mut self, from: u16) -> u16 {
        let port = ports::first_free(from, &self.0);
        self.0.push(port);
        port
    }
}
