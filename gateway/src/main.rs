//! The gateway as a process of its own: sockets here, the core in other processes, events out of NATS.

use std::io::Write;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use async_nats::Client;
use async_nats::connection::State;
use clap::error::ErrorKind;
use clap::{CommandFactory, Parser};
use gateway::config::{GatewayConfig, RemoteConfig};
use gateway::core_client::CoreClient;
use gateway::core_client::replicas::Replicas;
use gateway::events::stream::StreamEvents;
use gateway::readiness::Readiness;
use gateway::server::{Dependencies, Gateway};
use runtime::RuntimeConfig;
use runtime::admin::Admin;
use runtime::nats::NatsConfig;
use runtime::process::{self, Process};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

/// How often it is said what a gateway that is not ready waits for.
const SAY_EVERY: Duration = Duration::from_secs(5);
/// How often it is looked.
const LOOK_INTERVAL: Duration = Duration::from_millis(50);

/// The gateway of the SAMA chat server, on its own: clients connect here, by WebSocket and by HTTP.
///
/// It keeps nothing. It needs core services (CORE_ADDRESSES) and the NATS servers to which they publish (NATS_URL), in
/// any order: what is absent is waited for and named in the log. When it is ready it writes one line,
/// `gateway listening on http://ADDRESS (admin ADDRESS)`, to standard output; logs go to standard error.
///
/// SIGTERM and Ctrl-C stop it: sockets are closed with 1001. Exit codes: 0 stopped as asked, 1 could not start or failed,
/// 2 bad configuration.
#[derive(Parser)]
#[command(version, after_long_help = EXAMPLE, args_override_self = true)]
struct Arguments {
    #[command(flatten)]
    gateway: GatewayConfig,
    #[command(flatten)]
    core: RemoteConfig,
    #[command(flatten)]
    nats: NatsConfig,
    #[command(flatten)]
    runtime: RuntimeConfig,
}

const EXAMPLE: &str = "\
Example:
  CORE_GATEWAY_TOKEN=... gateway --core-addresses http://core-0:9100,http://core-1:9100 --nats-url nats://nats:4222";

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if let Err(error) = arguments.gateway.validate() {
        Arguments::command().error(ErrorKind::ValueValidation, error).exit();
    }
    if !arguments.nats.is_given() {
        let missing = "no NATS server is given (--nats-url, NATS_URL): events come from there";
        Arguments::command().error(ErrorKind::MissingRequiredArgument, missing).exit();
    }
    let runtime = arguments.runtime.clone();
    process::run("gateway", &runtime, async |process| Box::pin(start(arguments, process)).await)
}

async fn start(arguments: Arguments, process: Process) -> anyhow::Result<()> {
    let Arguments { gateway: config, core, nats, .. } = arguments;
    let Process { shutdown, metrics } = process;
    let admin_address = config.gateway_admin_listen;
    let client = nats.connect("gateway").await?;
    let replicas =
        Replicas::new(&core).context("cannot use the core's addresses (--core-addresses, CORE_ADDRESSES)")?;
    let dependencies = Dependencies {
        core: CoreClient::remote(Arc::clone(&replicas)),
        events: Arc::new(StreamEvents::new(client.clone(), nats.cell)),
    };
    let gateway = Gateway::bind(config, dependencies)
        .await
        .context("free the clients' address or choose another (--gateway-listen, GATEWAY_LISTEN)")?;
    let needs =
        Needs { soft: shutdown.soft(), nats: client, replicas: Arc::clone(&replicas), gateway: gateway.readiness() };
    let readiness = needs.clone();
    let admin = Admin::bind(admin_address, metrics, Arc::new(move || readiness.check()))
        .await
        .with_context(|| format!("could not listen on {admin_address}"))
        .context("free the admin address or choose another (--gateway-admin-listen, GATEWAY_ADMIN_LISTEN)")?;
    let (address, admin_address) = (gateway.local_address(), admin.local_address());
    admin.spawn(&shutdown);
    let hard = shutdown.hard();
    shutdown.spawn_attendant("the core's health", async move {
        hard.run_until_cancelled(replicas.watch()).await;
        Ok(())
    });
    let serve = gateway.run(shutdown.soft(), shutdown.hard());
    shutdown.spawn("gateway", async move { Ok(serve.await?) });
    // A stop that begins meanwhile is no failure to start.
    if shutdown.soft().run_until_cancelled(needs.wait()).await.is_some() {
        announce(address, admin_address);
    }
    Ok(())
}

/// What a gateway must have to serve.
#[derive(Clone)]
struct Needs {
    soft: CancellationToken,
    nats: Client,
    replicas: Arc<Replicas>,
    gateway: Readiness,
}

impl Needs {
    /// What is missing, in words for the operator.
    fn check(&self) -> Result<(), &'static str> {
        if self.soft.is_cancelled() {
            return Err("stopping");
        }
        // Once events are read, NATS may go away and come back: clients are served meanwhile, and get all of them then.
        let reads_events = self.gateway.is_ready();
        if !reads_events && self.nats.connection_state() != State::Connected {
            return Err("NATS is not connected (NATS_URL)");
        }
        if !self.replicas.is_any_healthy() {
            return Err("no core service answers (CORE_ADDRESSES)");
        }
        if !reads_events {
            return Err(
                "the stream of events is not there yet: a core service with the same NATS_URL and CELL makes it",
            );
        }
        Ok(())
    }

    /// Waits until nothing is missing, and says every few seconds what is.
    async fn wait(&self) {
        let mut said_at = Instant::now();
        while let Err(missing) = self.check() {
            if said_at.elapsed() >= SAY_EVERY {
                said_at = Instant::now();
                tracing::warn!(missing, "not ready yet");
            }
            sleep(LOOK_INTERVAL).await;
        }
    }
}

/// Says on standard output that clients are served. Scripts wait for this line.
fn announce(address: SocketAddr, admin_address: SocketAddr) {
    // Nobody reading it is no reason to stop.
    let _ = writeln!(std::io::stdout(), "gateway listening on http://{address} (admin {admin_address})");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_options_of_all_parts_go_together() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn no_secret_shows_in_the_help() {
        let options = Arguments::command();
        for name in ["core-gateway-token", "nats-password"] {
            let option = options.get_arguments().find(|option| *option.get_id() == name);
            assert!(option.is_some_and(|option| option.is_hide_env_values_set()), "{name}");
        }
    }
}
