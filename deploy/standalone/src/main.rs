//! The server in one process: what `cargo run` starts.

use std::io::Write;
use std::net::SocketAddr;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context;
use clap::error::ErrorKind;
use clap::{CommandFactory, Parser};
use core_service::config::CoreConfig;
use gateway::config::GatewayConfig;
use runtime::RuntimeConfig;
use runtime::admin::Admin;
use runtime::process::{self, Process};
use standalone::Stack;

/// A chat server that speaks the SAMA protocol, in one process.
///
/// It needs nothing but a directory to write to. Clients connect to the gateway's address, by WebSocket and by HTTP;
/// operators to the admin address, for metrics, liveness and readiness. When it is ready it writes one line,
/// `listening on http://ADDRESS (admin ADDRESS)`, to standard output; logs go to standard error.
///
/// Every setting is a flag and an environment variable; the flag wins. SIGTERM and Ctrl-C stop it: sockets are closed
/// with 1001 and everything acknowledged is on disk. Exit codes: 0 stopped as asked, 1 could not start or failed, 2 bad
/// configuration.
#[derive(Parser)]
#[command(version, after_long_help = EXAMPLES, args_override_self = true)]
struct Arguments {
    #[command(flatten)]
    gateway: GatewayConfig,
    #[command(flatten)]
    core: CoreConfig,
    #[command(flatten)]
    runtime: RuntimeConfig,
}

const EXAMPLES: &str = "\
Examples:
  standalone
      for clients on this machine, with the data in ./sama-data
  standalone --gateway-listen 0.0.0.0:9001 --data-dir /var/lib/sama
      for clients on the network; let a proxy do TLS and name it in --trusted-proxies
  HTTP_ADMIN_API_KEY=... LOG_FORMAT=json standalone
      with the HTTP admin API open to who has the key, and logs for a collector";

fn main() -> ExitCode {
    let Arguments { gateway, core, runtime } = Arguments::parse();
    if let Err(error) = gateway.validate() {
        Arguments::command().error(ErrorKind::ValueValidation, error).exit();
    }
    process::run("standalone", &runtime, async |process| start(gateway, core, process).await)
}

async fn start(gateway: GatewayConfig, core: CoreConfig, process: Process) -> anyhow::Result<()> {
    let Process { shutdown, metrics } = process;
    let admin_address = gateway.gateway_admin_listen;
    let data_directory = std::path::absolute(&core.data_dir)?;
    let stack = Stack::bind(&core, gateway).await?;
    let gateway = stack.readiness();
    let (soft, ready) = (shutdown.soft(), gateway.clone());
    let readiness = move || match (soft.is_cancelled(), ready.is_ready()) {
        (true, _) => Err("stopping"),
        (false, false) => Err("starting"),
        (false, true) => Ok(()),
    };
    let admin = Admin::bind(admin_address, metrics, Arc::new(readiness))
        .await
        .with_context(|| format!("could not listen on {admin_address}"))
        .context("free the admin address or choose another (--gateway-admin-listen, GATEWAY_ADMIN_LISTEN)")?;
    let (address, admin_address) = (stack.address(), admin.local_address());
    admin.spawn(&shutdown);
    shutdown.spawn("stack", stack.run(shutdown.soft(), shutdown.hard()));
    gateway.started().await;
    announce(address, admin_address, &data_directory);
    Ok(())
}

/// Says on standard output that clients are served. Scripts wait for the last line.
fn announce(address: SocketAddr, admin_address: SocketAddr, data_directory: &Path) {
    // Nobody reading it is no reason to stop.
    let _ = writeln!(
        std::io::stdout(),
        "the data is in {}\nclients connect to ws://{address}\nlistening on http://{address} (admin {admin_address})",
        data_directory.display()
    );
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
        let secrets = ["http-admin-api-key", "jwt-access-secret"];
        for name in secrets.map(|name| name.replace('-', "_")) {
            let option = options.get_arguments().find(|option| *option.get_id() == name);
            assert!(option.is_some_and(|option| option.is_hide_env_values_set()), "{name}");
        }
    }
}
