//! The frame around a service: tokio, telemetry and signals before it; waiting, flushing and the exit code after it.
//!
//! Exit codes: 0 stopped as asked, 1 could not start or died. (2, a bad configuration, is clap's and comes before.)

use std::future::Future;
use std::process::ExitCode;
use std::time::Duration;

use crate::RuntimeConfig;
use crate::shutdown::{Shutdown, Signals};
use crate::telemetry::{LogFormat, Metrics, Telemetry};

/// How long blocking work, for instance a password hash, may keep the process after everything else has ended.
const BLOCKING_WORK_TIMEOUT: Duration = Duration::from_secs(1);

/// What the frame gives to the service it runs.
pub struct Process {
    /// The stop: its tokens, and the tasks that live until it.
    pub shutdown: Shutdown,
    /// The process's metrics, for the admin listener.
    pub metrics: Metrics,
}

/// Runs a service until it is told to stop, and returns the exit code for `main`.
///
/// `start` opens what the service needs, spawns its tasks on the given [`Shutdown`] and returns; an error from it is
/// written to standard error as one line. A signal during the start drops it halfway.
pub fn run<Start, Starting>(service: &'static str, config: &RuntimeConfig, start: Start) -> ExitCode
where
    Start: FnOnce(Process) -> Starting,
    Starting: Future<Output = anyhow::Result<()>>,
{
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return refuse(config, &anyhow::Error::new(error).context("cannot start worker threads")),
    };
    let entered = runtime.enter();
    let telemetry = match Telemetry::start(service, &config.telemetry) {
        Ok(telemetry) => telemetry,
        Err(error) => return refuse(config, &error.into()),
    };
    raise_open_files_limit();
    let code = runtime.block_on(Box::pin(start_and_stop(config, telemetry.metrics(), start)));
    telemetry.flush();
    drop(entered);
    runtime.shutdown_timeout(BLOCKING_WORK_TIMEOUT);
    code
}

async fn start_and_stop<Start, Starting>(config: &RuntimeConfig, metrics: Metrics, start: Start) -> ExitCode
where
    Start: FnOnce(Process) -> Starting,
    Starting: Future<Output = anyhow::Result<()>>,
{
    let mut signals = match Signals::catch() {
        Ok(signals) => signals,
        Err(error) => return refuse(config, &anyhow::Error::new(error).context("cannot catch signals")),
    };
    let shutdown = Shutdown::new();
    let process = Process { shutdown: shutdown.clone(), metrics };
    let start_failed = tokio::select! {
        started = start(process) => started.err(),
        () = signals.next() => {
            tracing::info!("told to stop while starting");
            shutdown.soft().cancel();
            None
        }
    };
    if let Some(error) = &start_failed {
        refuse(config, error);
        shutdown.soft().cancel();
    }
    let stopped = shutdown.finish(async || signals.next().await, config.shutdown_grace()).await;
    match stopped {
        Ok(()) if start_failed.is_none() => {
            tracing::info!("stopped");
            ExitCode::SUCCESS
        }
        Ok(()) => ExitCode::FAILURE,
        Err(error) => {
            tracing::error!(error = %error, "stopped with a failure");
            ExitCode::FAILURE
        }
    }
}

/// Takes as many open files as the system allows: each socket is one, and the usual soft limit is 1,024.
fn raise_open_files_limit() {
    match rlimit::increase_nofile_limit(rlimit::INFINITY) {
        Ok(limit) => tracing::info!(limit, "sockets and files that can be open at once"),
        Err(error) => tracing::warn!(error = %error, "the limit of open files stays as it was"),
    }
}

/// Says on standard error, in one line, why the service does not run.
fn refuse(config: &RuntimeConfig, error: &anyhow::Error) -> ExitCode {
    match config.telemetry.log_format {
        LogFormat::Human => eprintln!("error: {error:#}"),
        LogFormat::Json => tracing::error!(error = format!("{error:#}"), "cannot start"),
    }
    ExitCode::FAILURE
}
