//! The way to an open store: connecting, and what must be right before anything is asked: keyspace, schema, clock.

use std::error::Error;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use scylla::client::execution_profile::ExecutionProfile;
use scylla::client::session::Session;
use scylla::client::session_builder::SessionBuilder;
use scylla::errors::NewSessionError;
use scylla::policies::load_balancing::DefaultPolicy;
use scylla::policies::timestamp_generator::MonotonicTimestampGenerator;
use scylla::statement::{Consistency, SerialConsistency};

use super::config::CqlConfig;
use super::database::{DEADLINE, Database};
use super::metrics;
use super::migrate;
use crate::domain::clock::Stamps;

/// How long a connection may take to be made.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(2);

/// How long all nodes may take to agree about a change of the schema.
const AGREEMENT_TIMEOUT: Duration = Duration::from_secs(20);

/// Clocks further apart than this are reported.
const ODD_SKEW: Duration = Duration::from_millis(200);
/// Clocks further apart than this are refused, since ids made by them would be out of order.
const GREATEST_SKEW: Duration = Duration::from_secs(2);
/// The clock is asked so often; the quickest answer says it best.
const CLOCK_SAMPLES: usize = 5;

const LOOKUP_KEYSPACE: &str = "SELECT keyspace_name FROM system_schema.keyspaces WHERE keyspace_name = ?";
const DATABASE_TIME: &str = "SELECT toUnixTimestamp(now()) AS time FROM system.local";

/// Why the database cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// No node answers, or none lets us in. It may come later.
    #[error(
        "failed to reach the database at {addresses} (look at CQL_ADDRESSES, CQL_TLS_CA, and CQL_USERNAME and CQL_PASSWORD)"
    )]
    Unreachable {
        /// The addresses tried.
        addresses: String,
        /// Why.
        source: Box<dyn Error + Send + Sync>,
    },
    /// The file of authorities cannot be used.
    #[error("failed to read certificates from {} (CQL_TLS_CA)", path.display())]
    Certificates {
        /// The file.
        path: PathBuf,
        /// Why.
        source: Box<dyn Error + Send + Sync>,
    },
    /// No node is in the data center.
    #[error("the database has no data center {datacenter} (CQL_DATACENTER): its nodes are in {found}")]
    NoSuchDatacenter {
        /// The one set.
        datacenter: String,
        /// Those there are.
        found: String,
    },
    /// `migrate` has not run.
    #[error("the database has no keyspace {keyspace} (CQL_KEYSPACE): run `core-service migrate`")]
    NoKeyspace {
        /// The one set.
        keyspace: String,
    },
    /// `migrate` of this release has not run.
    #[error(
        "keyspace {keyspace} has schema version {found}, this release needs version {needed}: run \
         `core-service migrate` of this release"
    )]
    OlderSchema {
        /// Which keyspace.
        keyspace: String,
        /// Its schema version, 0 when it has none.
        found: u32,
        /// The oldest that this release can use.
        needed: u32,
    },
    /// A later release has changed the schema beyond what this one understands.
    #[error(
        "keyspace {keyspace} has schema version {found}, which needs a release that knows version {needed}; this one \
         knows versions up to {known}: start the release that migrated it, or a later one"
    )]
    NewerSchema {
        /// Which keyspace.
        keyspace: String,
        /// Its schema version.
        found: u32,
        /// The version that a release must know at least.
        needed: u32,
        /// The newest that this release knows.
        known: u32,
    },
    /// Ids would be out of order.
    #[error(
        "the clock of this machine and that of the database differ by {skew:.1?}, more than {GREATEST_SKEW:?}: set them \
         by a time server"
    )]
    ClockSkew {
        /// By how much.
        skew: Duration,
    },
    /// A statement was refused: the schema is not what its version says.
    #[error("failed to prepare the statement {name} of table {table}")]
    Statement {
        /// Which.
        name: &'static str,
        /// Of which table.
        table: &'static str,
        /// Why.
        source: Box<dyn Error + Send + Sync>,
    },
    /// The database failed on the way.
    #[error("failed to {attempted}")]
    Failed {
        /// What was attempted.
        attempted: &'static str,
        /// Why.
        source: Box<dyn Error + Send + Sync>,
    },
}

impl OpenError {
    /// Whether the same call may succeed later without anybody doing anything here: the database is away, not wrong.
    pub fn is_unreachable(&self) -> bool {
        matches!(self, Self::Unreachable { .. })
    }

    /// Makes an error of what a request failed with; `attempted` completes "failed to".
    pub(super) fn attempting<E: Error + Send + Sync + 'static>(attempted: &'static str) -> impl Fn(E) -> Self {
        move |source| Self::Failed { attempted, source: source.into() }
    }
}

/// The database, once everything is right about its keyspace.
pub(super) async fn open(config: &CqlConfig, stamps: &Stamps) -> Result<Database, OpenError> {
    let session = connect(config).await?;
    check_keyspace(&session, &config.cql_keyspace).await?;
    check_schema(&session, &config.cql_keyspace, migrate::SCHEMA).await?;
    check_clock(&session, stamps).await?;
    Ok(Database::new(session, &config.cql_keyspace))
}

/// A session with the database, without a keyspace.
pub(super) async fn connect(config: &CqlConfig) -> Result<Session, OpenError> {
    let balancing = DefaultPolicy::builder().prefer_datacenter(config.cql_datacenter.clone()).token_aware(true).build();
    let profile = ExecutionProfile::builder()
        .consistency(Consistency::LocalQuorum)
        .serial_consistency(Some(SerialConsistency::LocalSerial))
        .request_timeout(Some(DEADLINE))
        .load_balancing_policy(balancing)
        .build();
    let mut builder = SessionBuilder::new()
        .known_nodes(&config.cql_addresses)
        .default_execution_profile_handle(profile.into_handle())
        .connection_timeout(CONNECTION_TIMEOUT)
        .pool_size(config.cql_pool.into())
        // What this process writes to a row in order stands in that order, whichever nodes take it.
        .timestamp_generator(Arc::new(MonotonicTimestampGenerator::new()))
        .schema_agreement_timeout(AGREEMENT_TIMEOUT)
        .keyspaces_to_fetch([&config.cql_keyspace])
        .fetch_full_schema_metadata(false);
    if let (Some(username), Some(password)) = (&config.cql_username, &config.cql_password) {
        builder = builder.user(username, password.expose());
    }
    if let Some(path) = &config.cql_tls_ca {
        let failed = |source| OpenError::Certificates { path: path.clone(), source };
        builder = builder.tls_context(Some(Arc::new(tls(path).map_err(failed)?)));
    }
    let unreachable = |error: NewSessionError| OpenError::Unreachable {
        addresses: config.cql_addresses.join(","),
        source: lowest(&error).to_string().into(),
    };
    let session = builder.build().await.map_err(unreachable)?;
    check_datacenter(&session, &config.cql_datacenter)?;
    Ok(session)
}

/// The driver's errors say each what is below them too, so the lowest one says it all.
fn lowest(error: &dyn Error) -> &dyn Error {
    error.source().map_or(error, lowest)
}

fn tls(authorities: &Path) -> Result<rustls::ClientConfig, Box<dyn Error + Send + Sync>> {
    let mut roots = rustls::RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(authorities)? {
        roots.add(certificate?)?;
    }
    if roots.is_empty() {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "the file holds no certificate").into());
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    Ok(config.with_root_certificates(roots).with_no_client_auth())
}

/// Without a node in it every request would fail without saying why.
fn check_datacenter(session: &Session, datacenter: &str) -> Result<(), OpenError> {
    let state = session.get_cluster_state();
    let mut found: Vec<_> = state.get_nodes_info().iter().filter_map(|node| node.datacenter.as_deref()).collect();
    found.sort_unstable();
    found.dedup();
    if found.contains(&datacenter) {
        return Ok(());
    }
    Err(OpenError::NoSuchDatacenter { datacenter: datacenter.to_owned(), found: found.join(", ") })
}

/// Refuses a database without the keyspace.
pub(super) async fn check_keyspace(session: &Session, keyspace: &str) -> Result<(), OpenError> {
    let attempted = "look up the keyspace";
    let found = session.query_unpaged(LOOKUP_KEYSPACE, (keyspace,)).await.map_err(OpenError::attempting(attempted))?;
    let found = found.into_rows_result().map_err(OpenError::attempting(attempted))?;
    if found.rows_num() == 0 {
        return Err(OpenError::NoKeyspace { keyspace: keyspace.to_owned() });
    }
    Ok(())
}

/// Refuses a schema that this release cannot work with.
pub(super) async fn check_schema(
    session: &Session,
    keyspace: &str,
    schema: &[migrate::Version],
) -> Result<(), OpenError> {
    let known = migrate::newest(schema);
    let migrate::Found { version: found, needs } = migrate::lookup_version(session, keyspace).await?;
    let keyspace = keyspace.to_owned();
    if found < known {
        return Err(OpenError::OlderSchema { keyspace, found, needed: known });
    }
    if needs > known {
        return Err(OpenError::NewerSchema { keyspace, found, needed: needs, known });
    }
    Ok(())
}

/// Compares this machine's clock with the database's.
pub(super) async fn check_clock(session: &Session, stamps: &Stamps) -> Result<(), OpenError> {
    let attempted = "ask the database for its time";
    let mut best: Option<(Duration, i64)> = None;
    for _ in 0..CLOCK_SAMPLES {
        let (asked, ours) = (Instant::now(), stamps.now().millis());
        let answer = session.query_unpaged(DATABASE_TIME, ()).await.map_err(OpenError::attempting(attempted))?;
        let took = asked.elapsed();
        let answer = answer.into_rows_result().map_err(OpenError::attempting(attempted))?;
        let (theirs,) = answer.first_row::<(i64,)>().map_err(OpenError::attempting(attempted))?;
        // The answer was given about halfway.
        let halfway = i64::try_from(took.as_millis() / 2).unwrap_or_default();
        if best.is_none_or(|(quickest, _)| took < quickest) {
            best = Some((took, theirs - ours - halfway));
        }
    }
    judge_skew(best.map_or(0, |(_, ahead)| ahead))
}

/// What a database whose clock is so many milliseconds ahead of ours means.
fn judge_skew(ahead_ms: i64) -> Result<(), OpenError> {
    let skew = Duration::from_millis(ahead_ms.unsigned_abs());
    metrics::clock_skew(ahead_ms as f64 / 1000.0);
    if skew > GREATEST_SKEW {
        return Err(OpenError::ClockSkew { skew });
    }
    if skew > ODD_SKEW {
        tracing::warn!(ahead_ms, "the clock of the database is not that of this machine: set both by a time server");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;
    use rcgen::CertifiedKey;
    use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
    use tokio::net::TcpListener;
    use tokio::task::JoinSet;
    use tokio_rustls::TlsAcceptor;

    use super::*;

    #[test]
    fn clocks_more_than_two_seconds_apart_are_refused() {
        for ahead in [0, 150, -150, 1_999, -2_000] {
            assert!(judge_skew(ahead).is_ok(), "{ahead}");
        }
        for ahead in [2_001, -2_001] {
            assert!(matches!(judge_skew(ahead), Err(OpenError::ClockSkew { .. })), "{ahead}");
        }
        let text = judge_skew(3_250).unwrap_err().to_string();
        assert!(text.contains("differ by 3.2") && text.contains("more than 2s"), "{text}");
    }

    #[tokio::test]
    async fn a_database_that_does_not_answer_is_named_with_its_setting_and_may_come_later() {
        // Nobody listens on a port of a listener that has gone.
        let gone = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let arguments = ["test", "--cql-addresses", &gone.to_string()];
        let error = connect(&Settings::parse_from(arguments).cql).await.unwrap_err();
        assert!(error.is_unreachable());
        let text = error.to_string();
        assert!(text.starts_with(&format!("failed to reach the database at {gone} (look at CQL_ADDRESSES")), "{text}");
    }

    #[tokio::test]
    async fn a_file_without_authorities_is_refused() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let arguments = ["test", "--cql-addresses", "127.0.0.1:1", "--cql-tls-ca", file.path().to_str().unwrap()];
        let error = connect(&Settings::parse_from(arguments).cql).await.unwrap_err();
        assert!(matches!(error, OpenError::Certificates { .. }), "{error}");
    }

    #[tokio::test]
    async fn a_node_is_known_by_the_ip_address_in_its_certificate_and_not_by_its_name() {
        let of_a_certificate_for = async |name: &str| {
            let CertifiedKey { cert, signing_key } = rcgen::generate_simple_self_signed([name.to_owned()]).unwrap();
            let file = tempfile::NamedTempFile::new().unwrap();
            std::fs::write(file.path(), cert.pem()).unwrap();
            let node = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = format!("localhost:{}", node.local_addr().unwrap().port());
            let acceptor = acceptor(cert.der().clone(), PrivatePkcs8KeyDer::from(signing_key.serialize_der()).into());
            let mut tasks = JoinSet::new();
            tasks.spawn(async move {
                while let Ok((stream, _)) = node.accept().await {
                    // Says no more, whether it was trusted or not.
                    let _ = acceptor.accept(stream).await;
                }
            });
            let arguments = ["test", "--cql-addresses", &address, "--cql-tls-ca", file.path().to_str().unwrap()];
            let error = connect(&Settings::parse_from(arguments).cql).await.unwrap_err();
            assert!(error.is_unreachable());
            error.source().unwrap().to_string()
        };
        let refused = of_a_certificate_for("localhost").await;
        assert!(refused.contains("certificate not valid for name \"127.0.0.1\""), "{refused}");
        let accepted = of_a_certificate_for("127.0.0.1").await;
        assert!(!accepted.contains("certificate"), "{accepted}");
    }

    fn acceptor(certificate: CertificateDer<'static>, key: PrivateKeyDer<'static>) -> TlsAcceptor {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config =
            rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let config = config.with_no_client_auth().with_single_cert(vec![certificate], key).unwrap();
        TlsAcceptor::from(Arc::new(config))
    }

    #[derive(clap::Parser)]
    struct Settings {
        #[command(flatten)]
        cql: CqlConfig,
    }
}
