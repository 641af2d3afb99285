//! What every binary does around its service: configuration shared by all, telemetry, the admin listener, and the way
//! from the first signal to the exit code.
//!
//! A `main` parses its arguments and calls [`process::run`]; the libraries it starts know nothing of this crate. They
//! take cancellation tokens and report through `tracing` and `metrics`.

pub mod admin;
pub mod nats;
pub mod process;
pub mod shutdown;
pub mod telemetry;

use std::time::Duration;

/// The system's allocator keeps the memory of every burst, and costs a fifth of a busy server's time.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Settings that every binary has, whatever service it runs.
#[derive(clap::Args, Debug, Clone)]
#[command(next_help_heading = "Running")]
pub struct RuntimeConfig {
    /// How many seconds a stop may take before what is left is dropped
    ///
    /// Counts from SIGTERM or Ctrl-C. A second signal ends the wait at once. Give the supervisor (systemd, Kubernetes)
    /// a few seconds more than this.
    #[arg(id = "shutdown-seconds", long, env = "SHUTDOWN_SECONDS", value_name = "SECONDS", default_value_t = 10)]
    #[arg(value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub shutdown_seconds: u64,

    /// What the process tells about itself.
    #[command(flatten)]
    pub telemetry: telemetry::TelemetryConfig,
}

impl RuntimeConfig {
    /// How long a stop may take before what is left is dropped.
    pub fn shutdown_grace(&self) -> Duration {
        Duration::from_secs(self.shutdown_seconds)
    }
}
