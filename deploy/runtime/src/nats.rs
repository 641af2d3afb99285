//! The connection to NATS: its settings, and what the process says about it.
//!
//! The client connects in the background and comes back by itself after every loss, so a server that is absent, at the
//! start or later, is a line in the log every few seconds and no failure. `nats_connected` is 1 while it is connected.

use std::path::PathBuf;
use std::str::FromStr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use std::{fmt, io};

use async_nats::{Client, ClientError, ConnectOptions, Event, Server, ServerAddr, ServerError};
use metrics::{Gauge, gauge};
use proto::subject::Cell;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

/// How often the server must show that it is there; after three silent ones the connection counts as lost. So short that a
/// link which swallowed everything is connected anew before TCP gets to repeat what it lost: it waits twice as long each
/// time.
const PING_INTERVAL: Duration = Duration::from_secs(1);
/// How long a request waits for its answer.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(2);
/// How long one attempt to connect may take.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(1);
/// The wait before the first attempt to connect again; it doubles with each further one.
const MIN_RECONNECT_DELAY: Duration = Duration::from_millis(10);
/// The longest wait before an attempt.
const MAX_RECONNECT_DELAY: Duration = Duration::from_millis(200);
/// Messages that a subscription may hold: more than a consumer's flow control ever lets through at once.
const SUBSCRIPTION_CAPACITY: usize = 262_144;
/// How often a server that cannot be reached is mentioned.
const SAY_EVERY: Duration = Duration::from_secs(5);

/// Where NATS is and who we are there.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "NATS")]
pub struct NatsConfig {
    /// NATS servers of one cluster, separated by commas: `nats://host:port`, or `tls://host:port` for TLS
    #[arg(id = "nats-url", long, env = "NATS_URL", value_delimiter = ',', value_name = "URLS", value_parser = server)]
    pub nats_url: Vec<ServerAddr>,

    /// User at NATS
    #[arg(id = "nats-username", long, env = "NATS_USERNAME", value_name = "NAME", requires = "nats-password")]
    pub nats_username: Option<String>,

    /// The user's password at NATS
    #[arg(id = "nats-password", long, env = "NATS_PASSWORD", hide_env_values = true, value_name = "PASSWORD")]
    #[arg(requires = "nats-username")]
    pub nats_password: Option<Password>,

    /// File with NATS credentials (a JWT and a key), instead of user and password
    #[arg(id = "nats-credentials", long, env = "NATS_CREDENTIALS", value_name = "FILE")]
    #[arg(conflicts_with = "nats-username")]
    pub nats_credentials: Option<PathBuf>,

    /// File with the certificates (PEM) that the NATS servers' own are checked with; turns TLS on
    ///
    /// Without it a `tls://` server is checked with this machine's certificates.
    #[arg(id = "nats-tls-ca", long, env = "NATS_TLS_CA", value_name = "FILE")]
    pub nats_tls_ca: Option<PathBuf>,

    /// Cell: the first part of all NATS subjects, the same for all processes that belong together
    #[arg(id = "cell", long, env = "CELL", default_value = "sama", value_name = "NAME")]
    pub cell: Cell,
}

/// A password that no log and no help shows.
#[derive(Clone)]
pub struct Password(String);

impl FromStr for Password {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("set")
    }
}

/// Why there can be no connection to NATS, now or later.
#[derive(Debug, thiserror::Error)]
pub enum NatsError {
    /// No server is named.
    #[error("no NATS server is given (--nats-url, NATS_URL)")]
    NoServer,
    /// A server's address names a user or a password.
    #[error("NATS_URL takes no user and no password; set NATS_USERNAME and NATS_PASSWORD")]
    PasswordInUrl,
    /// The credentials cannot be used.
    #[error("cannot use the NATS credentials in {path} (--nats-credentials, NATS_CREDENTIALS)")]
    Credentials {
        /// Their file.
        path: PathBuf,
        /// What is wrong with it.
        source: io::Error,
    },
    /// The certificates cannot be used.
    #[error("cannot use the certificates in {path} (--nats-tls-ca, NATS_TLS_CA): {reason}")]
    Certificates {
        /// Their file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The client refused the settings.
    #[error("cannot set up the connection to NATS")]
    Client(#[from] async_nats::ConnectError),
}

impl NatsConfig {
    /// Whether a server is named at all.
    pub fn is_given(&self) -> bool {
        !self.nats_url.is_empty()
    }

    /// A client that is connecting, under this name, and stays at it for as long as somebody holds it.
    ///
    /// # Errors
    /// When the settings cannot work. A server that cannot be reached is none: that is only told in the log.
    pub async fn connect(&self, service: &str) -> Result<Client, NatsError> {
        if !self.is_given() {
            return Err(NatsError::NoServer);
        }
        // Not refused where it is parsed, since that would repeat it on the terminal.
        if self.nats_url.iter().any(|server| server.username().is_some() || server.password().is_some()) {
            return Err(NatsError::PasswordInUrl);
        }
        let log = Arc::new(ConnectionLog::new(&self.nats_url));
        let log_of_attempts = Arc::clone(&log);
        let mut options = ConnectOptions::new()
            .name(service)
            .retry_on_initial_connect()
            .ping_interval(PING_INTERVAL)
            .request_timeout(Some(REQUEST_TIMEOUT))
            .connection_timeout(CONNECTION_TIMEOUT)
            .reconnect_delay_callback(reconnect_delay)
            .subscription_capacity(SUBSCRIPTION_CAPACITY)
            // Chooses no server; it alone is told what was wrong with each.
            .reconnect_to_server_callback(move |servers, _| {
                log_of_attempts.note_attempt(&servers);
                std::future::ready(None)
            })
            .event_callback(move |event| {
                log.note(&event);
                std::future::ready(())
            });
        if let (Some(username), Some(password)) = (&self.nats_username, &self.nats_password) {
            options = options.user_and_password(username.clone(), password.0.clone());
        }
        if let Some(path) = &self.nats_credentials {
            let unusable = |source| NatsError::Credentials { path: path.clone(), source };
            options = options.credentials_file(path).await.map_err(unusable)?;
        }
        if let Some(path) = &self.nats_tls_ca {
            check_certificates(path)?;
            options = options.require_tls(true).add_root_certificates(path.clone());
        }
        Ok(options.connect(self.nats_url.as_slice()).await?)
    }
}

fn server(text: &str) -> Result<ServerAddr, String> {
    let server: ServerAddr = text.trim().parse().map_err(|error: io::Error| error.to_string())?;
    if server.is_websocket() || server.host().is_empty() {
        return Err("NATS_URL takes nats://host:port or tls://host:port".to_owned());
    }
    Ok(server)
}

/// The client reads the file when it connects, and says little about it then.
fn check_certificates(path: &PathBuf) -> Result<(), NatsError> {
    let unusable = |reason: String| NatsError::Certificates { path: path.clone(), reason };
    let certificates: Vec<_> = CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect::<Result<_, _>>)
        .map_err(|error| unusable(error.to_string()))?;
    if certificates.is_empty() { Err(unusable("it holds no certificate".to_owned())) } else { Ok(()) }
}

fn reconnect_delay(attempt: usize) -> Duration {
    let doublings = u32::try_from(attempt.saturating_sub(1)).unwrap_or(u32::MAX).min(16);
    (MIN_RECONNECT_DELAY * 2_u32.pow(doublings)).min(MAX_RECONNECT_DELAY)
}

/// Says what becomes of the connection, without saying the same several times a second.
struct ConnectionLog {
    servers: String,
    connected: Gauge,
    state: Mutex<ConnectionState>,
}

struct ConnectionState {
    was_connected: bool,
    down_since: Instant,
    said_at: Option<Instant>,
    /// What kind of thing the last attempt failed with, if there was one since the connection was lost.
    failure: Option<String>,
}

impl ConnectionLog {
    fn new(servers: &[ServerAddr]) -> Self {
        let connected = gauge!("nats_connected");
        connected.set(0.0);
        let state = ConnectionState { was_connected: false, down_since: Instant::now(), said_at: None, failure: None };
        let servers: Vec<_> = servers.iter().map(|server| format!("{}:{}", server.host(), server.port())).collect();
        Self { servers: servers.join(", "), connected, state: Mutex::new(state) }
    }

    /// Before each attempt: says now and then what the last ones failed with.
    fn note_attempt(&self, servers: &[Server]) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        // What is known of one server may be old, as long as another one takes us.
        let Some(failure) = state.failure.clone() else { return };
        if state.said_at.is_some_and(|at| at.elapsed() < SAY_EVERY) {
            return;
        }
        let failure_of = |server: &Server| {
            Some(format!("{}:{}: {}", server.addr.host(), server.addr.port(), server.last_error.as_ref()?))
        };
        let failures: Vec<_> = servers.iter().filter_map(failure_of).collect();
        // A name that is not found is no server's failure.
        let error = if failures.is_empty() { failure } else { failures.join("; ") };
        state.said_at = Some(Instant::now());
        tracing::warn!(
            servers = self.servers,
            error,
            seconds = state.down_since.elapsed().as_secs_f64(),
            "cannot connect to NATS, trying on (look at NATS_URL, NATS_TLS_CA, and NATS_USERNAME and NATS_PASSWORD or \
             NATS_CREDENTIALS)"
        );
    }

    fn note(&self, event: &Event) {
        let servers = &self.servers;
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        match event {
            Event::Connected => {
                self.connected.set(1.0);
                if state.was_connected {
                    let seconds = state.down_since.elapsed().as_secs_f64();
                    tracing::info!(servers, seconds, "connected to NATS again");
                } else {
                    tracing::info!(servers, "connected to NATS");
                }
                state.was_connected = true;
                state.failure = None;
            }
            Event::Disconnected => {
                self.connected.set(0.0);
                state.down_since = Instant::now();
                state.said_at = Some(Instant::now());
                tracing::warn!(servers, "lost the connection to NATS, connecting again");
            }
            Event::ClientError(ClientError::Other(error)) => state.failure = Some(error.clone()),
            Event::ClientError(error) => state.failure = Some(error.to_string()),
            Event::ServerError(ServerError::AuthorizationViolation) => {
                tracing::error!(servers, "NATS refuses us (NATS_USERNAME and NATS_PASSWORD, or NATS_CREDENTIALS)");
            }
            Event::ServerError(error) => tracing::warn!(servers, error = %error, "NATS says that something is wrong"),
            Event::SlowConsumer(_) => {
                tracing::warn!(servers, "messages of NATS were dropped, since they came too fast")
            }
            Event::LameDuckMode => tracing::info!(servers, "the NATS server is about to stop"),
            Event::Draining | Event::Closed => {
                self.connected.set(0.0);
                tracing::info!(servers, "the connection to NATS is closed");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser, Debug)]
    struct Cli {
        #[command(flatten)]
        nats: NatsConfig,
    }

    fn parse(arguments: &[&str]) -> Result<NatsConfig, clap::Error> {
        Cli::try_parse_from(std::iter::once("test").chain(arguments.iter().copied())).map(|cli| cli.nats)
    }

    #[test]
    fn servers_are_separated_by_commas_and_have_a_default_port() {
        let config = parse(&["--nats-url", "nats://a:4000,b, tls://c:4443"]).unwrap();
        let addresses: Vec<_> = config.nats_url.iter().map(|server| (server.host(), server.port())).collect();
        assert_eq!(addresses, [("a", 4000), ("b", 4222), ("c", 4443)]);
        assert!(config.nats_url[2].tls_required());
        assert_eq!(config.cell.to_string(), "sama");
    }

    #[test]
    fn without_a_server_nothing_is_given() {
        assert!(!parse(&[]).unwrap().is_given());
    }

    #[test]
    fn what_cannot_work_is_refused() {
        for arguments in [
            &["--nats-url", "http://a"][..],
            &["--nats-url", "ws://a:80"],
            &["--nats-url", "a", "--cell", "a.b"],
            &["--nats-url", "a", "--nats-username", "ann"],
            &["--nats-url", "a", "--nats-password", "secret"],
            &["--nats-url", "a", "--nats-username", "n", "--nats-password", "p", "--nats-credentials", "/f"],
        ] {
            let refused = parse(arguments).expect_err("refused");
            assert!(!refused.to_string().contains("secret"), "{refused}");
        }
    }

    #[test]
    fn no_secret_shows_in_debug() {
        let config = parse(&["--nats-url", "a", "--nats-username", "ann", "--nats-password", "s3cret"]).unwrap();
        assert!(!format!("{config:?}").contains("s3cret"));
    }

    #[tokio::test]
    async fn a_password_in_an_address_is_refused_without_being_repeated() {
        let config = parse(&["--nats-url", "nats://user:s3cret@a:4222"]).unwrap();
        let refused = config.connect("test").await.unwrap_err();
        assert!(matches!(refused, NatsError::PasswordInUrl) && !refused.to_string().contains("s3cret"));
    }

    #[test]
    fn attempts_are_10_to_200_milliseconds_apart() {
        let delays: Vec<_> = (0..8).map(|attempt| reconnect_delay(attempt).as_millis()).collect();
        assert_eq!(delays, [10, 10, 20, 40, 80, 160, 200, 200]);
        assert_eq!(reconnect_delay(usize::MAX), MAX_RECONNECT_DELAY);
    }

    #[tokio::test]
    async fn a_file_that_cannot_be_used_is_named_before_anything_starts() {
        let mut config = parse(&["--nats-url", "127.0.0.1:1", "--nats-tls-ca", "/nonexistent/ca.pem"]).unwrap();
        let refused = config.connect("test").await.unwrap_err();
        assert!(refused.to_string().contains("/nonexistent/ca.pem"), "{refused}");
        config.nats_tls_ca = Some(PathBuf::from("/dev/null"));
        assert!(matches!(config.connect("test").await, Err(NatsError::Certificates { .. })));
        config.nats_tls_ca = None;
        config.nats_credentials = Some(PathBuf::from("/nonexistent/user.creds"));
        assert!(matches!(config.connect("test").await, Err(NatsError::Credentials { .. })));
    }

    #[tokio::test]
    async fn a_server_that_is_absent_at_the_start_is_no_failure() {
        let config = parse(&["--nats-url", "127.0.0.1:1"]).unwrap();
        let client = config.connect("test").await.unwrap();
        assert_ne!(client.connection_state(), async_nats::connection::State::Connected);
    }
}
