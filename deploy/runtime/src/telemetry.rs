//! Logs, metrics and traces of one process.
//!
//! Logs go to standard error, so that standard output stays free for what a script wants to read. Metrics are kept in
//! the process until somebody asks (see [`crate::admin`]). Traces leave over OTLP/gRPC, and only where an endpoint is
//! configured.
//!
//! Whether a packet is traced is decided where the packet comes in, before any span exists: a span costs over a
//! microsecond even when the sampler throws it away. So every span that reaches the exporter is meant to be kept, and
//! the sampler keeps them all. Only spans of our own crates are exported; the libraries' would be roots of nothing.

use std::io::IsTerminal;
use std::str::FromStr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle};
use opentelemetry::trace::TracerProvider as _;
use opentelemetry_otlp::{ExporterBuildError, SpanExporter, WithExportConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{Sampler, SdkTracerProvider};
use tracing_subscriber::filter::{EnvFilter, FilterExt, LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, Registry};

/// How long the last spans may take to reach the collector when the process ends.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(3);

/// Our own crates, by their module path: they never log a secret, and their spans are exported.
const OUR_CRATES: [&str; 5] = ["core_service", "gateway", "proto", "runtime", "standalone"];

/// Upper bounds in seconds for everything measured in time: from a lock's wait to a call's last deadline.
const SECONDS: [f64; 15] =
    [0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0];
/// Upper bounds in bytes, 64 B to 64 MiB.
const BYTES: [f64; 11] =
    [64.0, 256.0, 1024.0, 4096.0, 16384.0, 65536.0, 262_144.0, 1_048_576.0, 4_194_304.0, 16_777_216.0, 67_108_864.0];
/// Upper bounds for numbers of things: batch sizes, recipients.
const COUNTS: [f64; 13] = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0, 2048.0, 4096.0];

/// What the process logs and where its traces go.
#[derive(clap::Args, Debug, Clone)]
#[command(next_help_heading = "Logs and traces")]
pub struct TelemetryConfig {
    /// What to log: a level, or levels by module
    ///
    /// One of error, warn, info, debug, trace; or for instance `info,gateway=debug`. Message bodies, tokens and
    /// passwords are never logged, at no level.
    #[arg(id = "log", long, env = "RUST_LOG", value_name = "FILTER", default_value = "info")]
    #[arg(value_parser = check_filter)]
    pub log: String,

    /// How log lines look on standard error
    #[arg(id = "log-format", long, env = "LOG_FORMAT", value_name = "FORMAT", default_value = "human")]
    pub log_format: LogFormat,

    /// Where traces go: an OTLP/gRPC collector, for instance http://localhost:4317
    ///
    /// Without it no trace leaves the process; with it, GATEWAY_TRACE_RATIO says how many packets are traced. The
    /// connection is not encrypted: run the collector on this machine or in a network of your own.
    #[arg(id = "otlp-endpoint", long, env = "OTEL_EXPORTER_OTLP_ENDPOINT", value_name = "URL")]
    #[arg(value_parser = check_endpoint)]
    pub otlp_endpoint: Option<String>,
}

impl TelemetryConfig {
    /// The collector's address; `None` also when the variable is set but empty, as compose files leave it.
    pub fn endpoint(&self) -> Option<&str> {
        self.otlp_endpoint.as_deref().filter(|endpoint| !endpoint.is_empty())
    }
}

/// How log lines look.
#[derive(clap::ValueEnum, Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// Text for people, coloured on a terminal.
    Human,
    /// One JSON object a line, for log collectors.
    Json,
}

/// Why telemetry could not start.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// The log filter does not parse. The command line has checked it, so this names a caller's mistake.
    #[error("the log filter does not parse")]
    Filter(#[from] tracing_subscriber::filter::ParseError),
    /// The trace exporter could not be built.
    #[error("the trace exporter could not be set up")]
    Exporter(#[from] ExporterBuildError),
    /// The process already logs elsewhere.
    #[error("logging is already set up in this process")]
    AlreadyLogging(#[from] tracing_subscriber::util::TryInitError),
    /// The process already keeps its metrics elsewhere.
    #[error("metrics could not be set up")]
    Metrics(#[from] BuildError),
}

/// The running telemetry of a process. Call [`Telemetry::flush`] last, however the process ends.
pub struct Telemetry {
    metrics: Metrics,
    tracer_provider: Option<SdkTracerProvider>,
}

impl Telemetry {
    /// Sets up logs, metrics and traces for the whole process, under this service name. Must be called within a tokio
    /// runtime, which carries the connection to the collector, and once.
    pub fn start(service: &'static str, config: &TelemetryConfig) -> Result<Self, TelemetryError> {
        // Whatever the operator asks for: below this level, libraries log the packets and headers they carry.
        let without_secrets = Targets::new()
            .with_default(LevelFilter::INFO)
            // Its client mentions every attempt to connect, several a second; [`crate::nats`] says it with measure.
            .with_targets([("async_nats", LevelFilter::WARN), ("async_nats::connector", LevelFilter::OFF)])
            .with_targets(OUR_CRATES.map(|target| (target, LevelFilter::TRACE)));
        let filter = EnvFilter::try_new(&config.log)?.and(without_secrets);
        let log = match config.log_format {
            LogFormat::Human => tracing_subscriber::fmt::layer()
                .with_writer(std::io::stderr)
                .with_ansi(std::io::stderr().is_terminal())
                .with_filter(filter)
                .boxed(),
            LogFormat::Json => tracing_subscriber::fmt::layer()
                .json()
                .flatten_event(true)
                .with_writer(std::io::stderr)
                .with_filter(filter)
                .boxed(),
        };
        let tracer_provider = config.endpoint().map(|endpoint| tracer_provider(service, endpoint)).transpose()?;
        let traces = tracer_provider.as_ref().map(|provider| {
            let ours = Targets::new().with_targets(OUR_CRATES.map(|target| (target, LevelFilter::INFO)));
            tracing_opentelemetry::layer()
                .with_tracer(provider.tracer(service))
                // Where a span was written and on which thread tells little, and would double its size.
                .with_location(false)
                .with_threads(false)
                .with_tracked_inactivity(false)
                .with_target(false)
                .with_filter(ours)
        });
        let metrics = Metrics::install()?;
        Registry::default().with(log).with(traces).try_init()?;
        Ok(Self { metrics, tracer_provider })
    }

    /// The process's metrics, for the admin listener.
    pub fn metrics(&self) -> Metrics {
        self.metrics.clone()
    }

    /// Sends the spans that still wait. Blocks for up to three seconds, so call it from a thread that may; the tokio
    /// runtime must still be running.
    pub fn flush(self) {
        let Some(provider) = self.tracer_provider else { return };
        if let Err(error) = provider.shutdown_with_timeout(FLUSH_TIMEOUT) {
            tracing::warn!(error = %error, "the last traces did not reach the collector");
        }
    }
}

fn tracer_provider(service: &'static str, endpoint: &str) -> Result<SdkTracerProvider, TelemetryError> {
    let exporter = SpanExporter::builder().with_tonic().with_endpoint(endpoint).build()?;
    Ok(SdkTracerProvider::builder()
        .with_resource(Resource::builder().with_service_name(service).build())
        .with_sampler(Sampler::ParentBased(Box::new(Sampler::AlwaysOn)))
        .with_batch_exporter(exporter)
        .build())
}

/// The metrics of this process, as Prometheus reads them.
#[derive(Clone)]
pub struct Metrics(PrometheusHandle);

impl Metrics {
    /// Keeps everything that `metrics` macros report from now on. The recorder is the process's only one: a second
    /// call gives the same, so that several stacks can live in one test process. Fails when another crate's recorder
    /// is already in place.
    pub fn install() -> Result<Self, BuildError> {
        static INSTALLED: Mutex<Option<Metrics>> = Mutex::new(None);
        let mut installed = INSTALLED.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(metrics) = &*installed {
            return Ok(metrics.clone());
        }
        let handle = PrometheusBuilder::new()
            .set_buckets(&COUNTS)?
            .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), &SECONDS)?
            .set_buckets_for_metric(Matcher::Suffix("_bytes".to_owned()), &BYTES)?
            .install_recorder()?;
        let metrics = Self(handle);
        *installed = Some(metrics.clone());
        Ok(metrics)
    }

    /// The current values in the Prometheus text format.
    pub fn render(&self) -> String {
        self.0.render()
    }

    /// Folds what histograms have collected into their buckets. To be called every few seconds: between two calls
    /// each observation takes memory.
    pub fn run_upkeep(&self) {
        self.0.run_upkeep();
    }
}

fn check_filter(text: &str) -> Result<String, String> {
    match EnvFilter::from_str(text) {
        Ok(_) => Ok(text.to_owned()),
        Err(error) => Err(format!("{error}; RUST_LOG takes a level such as `info`, or `info,gateway=debug`")),
    }
}

fn check_endpoint(text: &str) -> Result<String, String> {
    if text.is_empty() {
        return Ok(String::new());
    }
    let usable =
        text.parse::<http::Uri>().is_ok_and(|uri| uri.scheme_str() == Some("http") && uri.authority().is_some());
    if usable {
        Ok(text.to_owned())
    } else {
        Err("OTEL_EXPORTER_OTLP_ENDPOINT takes http://host:port; https is not supported".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(clap::Parser)]
    struct Cli {
        #[command(flatten)]
        telemetry: TelemetryConfig,
    }

    fn parse(arguments: &[&str]) -> Result<TelemetryConfig, clap::Error> {
        use clap::Parser;
        Cli::try_parse_from(std::iter::once("test").chain(arguments.iter().copied())).map(|cli| cli.telemetry)
    }

    #[test]
    fn a_bad_filter_is_refused_on_the_command_line() {
        assert!(parse(&["--log", "info,gateway=debug"]).is_ok());
        let refused = parse(&["--log", "gateway=loud"]).unwrap_err();
        assert_eq!(refused.kind(), clap::error::ErrorKind::ValueValidation);
    }

    #[test]
    fn an_empty_endpoint_means_no_traces() {
        assert_eq!(parse(&["--otlp-endpoint", ""]).unwrap().endpoint(), None);
        assert_eq!(parse(&["--otlp-endpoint", "http://c:4317"]).unwrap().endpoint(), Some("http://c:4317"));
    }

    #[test]
    fn an_endpoint_that_could_never_be_reached_is_refused() {
        for endpoint in ["https://collector:4317", "collector:4317", "http://", "nonsense"] {
            assert!(parse(&["--otlp-endpoint", endpoint]).is_err(), "{endpoint} was accepted");
        }
    }

    #[test]
    fn durations_sizes_and_counts_get_buckets_of_their_kind() {
        let metrics = Metrics::install().unwrap();
        metrics::histogram!("test_wait_seconds").record(0.002);
        metrics::histogram!("test_frame_bytes").record(2000.0);
        metrics::histogram!("test_batch").record(3.0);
        let text = Metrics::install().unwrap().render();
        assert!(text.contains(r#"test_wait_seconds_bucket{le="0.0025"} 1"#), "{text}");
        assert!(text.contains(r#"test_frame_bytes_bucket{le="4096"} 1"#), "{text}");
        assert!(text.contains(r#"test_batch_bucket{le="4"} 1"#), "{text}");
        metrics.run_upkeep();
    }
}
