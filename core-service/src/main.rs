//! The core service on its own: gRPC for gateways and internal services, over the embedded store.
//!
//! Without a gateway in its process there is nobody to tell of typing; events wait in the journal.

use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context;
use clap::error::ErrorKind;
use clap::{CommandFactory, Parser};
use core_service::config::{CoreConfig, CoreServerConfig};
use core_service::domain::clock::Stamps;
use core_service::domain::event::{NoticePublisher, Typing};
use core_service::grpc::role::Authenticate;
use core_service::server::{Core, Dependencies};
use core_service::signing_key::signing_key;
use core_service::store::sqlite::SqliteStore;
use runtime::admin::Admin;
use runtime::process::{self, Process};
use tokio::net::TcpListener;

/// Core of the SAMA chat server, on its own: gRPC for gateways and internal services, over the embedded store.
///
/// Every call needs the token of a gateway or a service (`authorization: Bearer TOKEN`); health and reflection are open.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    #[command(flatten)]
    core: CoreConfig,
    #[command(flatten)]
    server: CoreServerConfig,
    #[command(flatten)]
    runtime: runtime::RuntimeConfig,
}

fn main() -> ExitCode {
    let Arguments { core, server, runtime } = Arguments::parse();
    if let Err(error) = server.validate() {
        Arguments::command().error(ErrorKind::ValueValidation, error).exit();
    }
    process::run("core-service", &runtime, async |process| start(core, server, process).await)
}

async fn start(config: CoreConfig, server: CoreServerConfig, process: Process) -> anyhow::Result<()> {
    let Process { shutdown, metrics } = process;
    let stamps = Arc::new(Stamps::of_this_process());
    let store = Arc::new(SqliteStore::open(&config.data_dir, stamps.now())?);
    let signing_key = signing_key(&config)?;
    let dependencies =
        Dependencies { store: Arc::clone(&store) as _, stamps, notices: Arc::new(NobodyListens), signing_key };
    let core = Core::start(&config, dependencies).await?;

    let address = server.core_listen;
    let listener = TcpListener::bind(address)
        .await
        .with_context(|| format!("cannot listen on {address} (--core-listen, CORE_LISTEN)"))?;
    let address = listener.local_addr()?;
    let admin_address = server.core_admin_listen;
    let admin = Admin::bind(admin_address, metrics, Arc::new(|| Ok(())))
        .await
        .with_context(|| format!("cannot listen on {admin_address} (--core-admin-listen, CORE_ADMIN_LISTEN)"))?;
    let admin_address = admin.local_address();

    let (soft, hard) = (shutdown.soft(), shutdown.hard());
    let authenticate = Authenticate::from(&server);
    admin.spawn(&shutdown);
    shutdown.spawn("core", async move {
        let tidy = core.keep_tidy(soft.clone());
        let served = tokio::select! {
            served = core.serve(listener, &authenticate, soft.clone()) => served,
            () = store.failed() => Err(anyhow::anyhow!("the database failed at a commit")),
            () = hard.cancelled() => Ok(()),
            () = async { tidy.await; std::future::pending().await } => Ok(()),
        };
        store.close().await;
        served
    });
    announce(&format!("core listening on http://{address} (admin {admin_address})"));
    Ok(())
}

#[expect(clippy::print_stdout, reason = "whoever starts the process reads the addresses from this line")]
fn announce(line: &str) {
    println!("{line}");
}

/// Takes notices where there is no gateway.
#[derive(Debug)]
struct NobodyListens;

impl NoticePublisher for NobodyListens {
    fn publish_typing(&self, _: Typing) {}
}
