//! The core service as a process of its own: gRPC for gateways and internal services.
//!
//! Told of a CQL database and of NATS it is a core of the distributed form. Told of neither it works over the embedded
//! store, for internal services: without a gateway in its process there is nobody to tell of typing, and events wait in
//! the journal. `core-service migrate` prepares the database.

use std::io::Write;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use clap::error::ErrorKind;
use clap::{Args, CommandFactory, Parser, Subcommand};
use core_service::config::{CoreConfig, CoreServerConfig, PublishConfig};
use core_service::distributed::{Distributed, DistributedParts};
use core_service::domain::clock::Stamps;
use core_service::domain::event::{NoticePublisher, Typing};
use core_service::grpc::role::Authenticate;
use core_service::publish::notices::NatsNotices;
use core_service::server::{Core, Dependencies};
use core_service::signing_key::signing_key;
use core_service::store::Store;
use core_service::store::scylla::{self, CqlConfig, KeyspaceConfig, MigrateError};
use core_service::store::sqlite::SqliteStore;
use runtime::RuntimeConfig;
use runtime::admin::Admin;
use runtime::nats::NatsConfig;
use runtime::process::{self, Process};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// How often a database that `migrate` waits for is asked for again.
const RETRY_INTERVAL: Duration = Duration::from_secs(3);
/// How often it is looked whether the database still answers.
const CHECK_INTERVAL: Duration = Duration::from_secs(2);

/// Core of the SAMA chat server, on its own: gRPC for gateways and internal services.
///
/// With CQL_ADDRESSES and NATS_URL it serves gateways, one of as many cores as are started over the same database; without
/// both it works over the embedded store. Every call needs a token (`authorization: Bearer TOKEN`); health and reflection
/// are open. When it is ready it writes one line, `core listening on http://ADDRESS (admin ADDRESS)`, to standard output.
///
/// A database or NATS that is absent is waited for and named in the log. Exit codes: 0 stopped as asked, 1 could not start
/// or failed, 2 bad configuration.
#[derive(Parser)]
#[command(version, subcommand_negates_reqs = true, args_conflicts_with_subcommands = true, args_override_self = true)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    serve: ServeArguments,
}

#[derive(Args)]
struct ServeArguments {
    #[command(flatten)]
    core: CoreConfig,
    #[command(flatten)]
    server: CoreServerConfig,
    #[command(flatten)]
    cql: CqlConfig,
    #[command(flatten)]
    nats: NatsConfig,
    #[command(flatten)]
    publish: PublishConfig,
    #[command(flatten)]
    runtime: RuntimeConfig,
}

#[derive(Subcommand)]
enum Command {
    /// Makes the keyspace of the CQL database, brings its schema up to date, and ends
    ///
    /// May be started twice at once, and again after it was killed. Waits for a database that is not there yet.
    Migrate(MigrateArguments),
}

#[derive(Args)]
struct MigrateArguments {
    #[command(flatten)]
    cql: CqlConfig,
    #[command(flatten)]
    keyspace: KeyspaceConfig,
    #[command(flatten)]
    runtime: RuntimeConfig,
}

fn main() -> ExitCode {
    let Arguments { command, serve } = Arguments::parse();
    if let Some(Command::Migrate(MigrateArguments { cql, keyspace, runtime })) = command {
        return process::run("core-service migrate", &runtime, async |process| migrate(cql, keyspace, process).await);
    }
    let refuse = |error: String| -> ! { Arguments::command().error(ErrorKind::ValueValidation, error).exit() };
    if let Err(error) = serve.server.validate() {
        refuse(error.to_string());
    }
    if serve.cql.cql_addresses.is_empty() == serve.nats.is_given() {
        refuse("a CQL database (CQL_ADDRESSES) and NATS (NATS_URL) are given both or not at all".to_owned());
    }
    let runtime = serve.runtime.clone();
    process::run("core-service", &runtime, async |process| Box::pin(start(serve, process)).await)
}

async fn migrate(cql: CqlConfig, keyspace: KeyspaceConfig, process: Process) -> anyhow::Result<()> {
    anyhow::ensure!(!cql.cql_addresses.is_empty(), "no database is named (--cql-addresses, CQL_ADDRESSES)");
    let stamps = Stamps::of_this_process();
    let version = loop {
        match scylla::migrate(&cql, &keyspace, &stamps).await {
            Ok(version) => break version,
            Err(MigrateError::Open(error)) if error.is_unreachable() => {
                tracing::warn!(error = format!("{:#}", anyhow::Error::new(error)), "waiting for the database");
                tokio::time::sleep(RETRY_INTERVAL).await;
            }
            Err(error) => return Err(error.into()),
        }
    };
    announce(&format!("keyspace {} has schema version {version}", cql.cql_keyspace));
    process.shutdown.soft().cancel();
    Ok(())
}

async fn start(arguments: ServeArguments, process: Process) -> anyhow::Result<()> {
    let Process { shutdown, metrics } = process;
    let ready = watch::Sender::new(Err("starting: the log says what is waited for"));
    let admin_address = arguments.server.core_admin_listen;
    let (soft, state) = (shutdown.soft(), ready.subscribe());
    let readiness = move || if soft.is_cancelled() { Err("stopping") } else { *state.borrow() };
    let admin = Admin::bind(admin_address, metrics, Arc::new(readiness))
        .await
        .with_context(|| format!("cannot listen on {admin_address} (--core-admin-listen, CORE_ADMIN_LISTEN)"))?;
    let admin_address = admin.local_address();
    admin.spawn(&shutdown);

    let stamps = Arc::new(Stamps::of_this_process());
    let (backend, dependencies) = Backend::open(&arguments, stamps).await?;
    let core = Core::start(&arguments.core, dependencies).await?;
    let (listener, address) = listen(arguments.server.core_listen).await?;
    let authenticate = Authenticate::from(&arguments.server);
    let (soft, hard) = (shutdown.soft(), shutdown.hard());
    ready.send_modify(|state| *state = Ok(()));
    shutdown.spawn("core", async move {
        let tidy = core.keep_tidy(soft.clone());
        let served = tokio::select! {
            served = core.serve(listener, &authenticate, soft.clone()) => served,
            failed = backend.watch(&ready) => failed,
            () = hard.cancelled() => Ok(()),
            () = async { tidy.await; std::future::pending().await } => Ok(()),
        };
        backend.close(&hard).await;
        served
    });
    announce(&format!("core listening on http://{address} (admin {admin_address})"));
    Ok(())
}

async fn listen(address: SocketAddr) -> anyhow::Result<(TcpListener, SocketAddr)> {
    let listener = TcpListener::bind(address)
        .await
        .with_context(|| format!("cannot listen on {address} (--core-listen, CORE_LISTEN)"))?;
    let address = listener.local_addr()?;
    Ok((listener, address))
}

/// What is below core.
enum Backend {
    Embedded(Arc<SqliteStore>),
    Distributed(Distributed),
}

impl Backend {
    /// Opens the form that the settings name, waiting for what is absent.
    async fn open(arguments: &ServeArguments, stamps: Arc<Stamps>) -> anyhow::Result<(Self, Dependencies)> {
        let ServeArguments { core, cql, nats, publish, .. } = arguments;
        if !nats.is_given() {
            let store = Arc::new(SqliteStore::open(&core.data_dir, stamps.now())?);
            let signing_key = signing_key(core)?;
            let notices = Arc::new(NobodyListens);
            let dependencies = Dependencies { store: Arc::clone(&store) as _, stamps, notices, signing_key };
            return Ok((Self::Embedded(store), dependencies));
        }
        let client = nats.connect("core-service").await?;
        let notices = Arc::new(NatsNotices::new(client.clone(), nats.cell.clone()));
        let cell = nats.cell.clone();
        let parts = DistributedParts { cql, publish, nats: client, cell, stamps: Arc::clone(&stamps) };
        let distributed = Distributed::open(parts).await?;
        let signing_key = match &core.jwt_access_secret {
            Some(key) => key.expose().as_bytes().to_vec(),
            None => distributed.signing_key().await?,
        };
        let store: Arc<dyn Store> = Arc::new(distributed.store.clone());
        Ok((Self::Distributed(distributed), Dependencies { store, stamps, notices, signing_key }))
    }

    /// Says in `ready` whether the database answers; ends when that is over for good. May be dropped at any time.
    async fn watch(&self, ready: &watch::Sender<Result<(), &'static str>>) -> anyhow::Result<()> {
        let distributed = match self {
            Self::Embedded(store) => {
                store.failed().await;
                anyhow::bail!("the database failed at a commit");
            }
            Self::Distributed(distributed) => distributed,
        };
        loop {
            tokio::time::sleep(CHECK_INTERVAL).await;
            let state = distributed.store.check().await;
            let was_ready = ready.borrow().is_ok();
            match (&state, was_ready) {
                (Err(error), true) => {
                    let error = error as &dyn std::error::Error;
                    tracing::error!(error, "the database does not answer: requests are refused until it does");
                }
                (Ok(()), false) => tracing::info!("the database answers again"),
                _ => {}
            }
            let state = state.map_err(|_| "the database does not answer (CQL_ADDRESSES)");
            ready.send_modify(|ready| *ready = state);
        }
    }

    /// Ends it, unless the token is cancelled before.
    async fn close(&self, hard: &CancellationToken) {
        let close = async {
            match self {
                Self::Embedded(store) => store.close().await,
                Self::Distributed(distributed) => distributed.close().await,
            }
        };
        hard.run_until_cancelled(close).await;
    }
}

/// Says on standard output what scripts wait for.
fn announce(line: &str) {
    // Nobody reading it is no reason to stop.
    let _ = writeln!(std::io::stdout(), "{line}");
}

/// Takes notices where there is no gateway.
#[derive(Debug)]
struct NobodyListens;

impl NoticePublisher for NobodyListens {
    fn publish_typing(&self, _: Typing) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn migrate_needs_none_of_what_serving_does() {
        let arguments = ["core-service", "migrate", "--cql-addresses", "a:1,b:2", "--cql-keyspace", "k"];
        let Arguments { command, .. } = Arguments::try_parse_from(arguments).unwrap();
        let Some(Command::Migrate(MigrateArguments { cql, .. })) = command else { panic!("serving") };
        assert_eq!((cql.cql_addresses.len(), cql.cql_keyspace.as_str()), (2, "k"));
    }

    #[test]
    fn no_secret_shows_in_the_help() {
        let options = Arguments::command();
        for name in ["core_gateway_tokens", "core_service_tokens", "nats-password", "http_admin_api_key"] {
            let option = options.get_arguments().find(|option| *option.get_id() == name);
            assert!(option.is_some_and(|option| option.is_hide_env_values_set()), "{name}");
        }
    }
}
