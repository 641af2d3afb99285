//! Makes the keyspace and brings its schema up to date, from the versioned files in `schema/`.
//!
//! It may be started twice at once, and be killed anywhere: one at a time works, holding a lock that runs out by itself,
//! and every statement can be done again. All changes of the schema go through one node, the same from wherever they
//! come, since two nodes at once could make two different tables of one name.

use std::error::Error;
use std::sync::Arc;
use std::time::{Duration, Instant};

use scylla::client::session::Session;
use scylla::errors::ExecutionError;
use scylla::policies::load_balancing::{LoadBalancingPolicy, NodeIdentifier, SingleTargetLoadBalancingPolicy};
use scylla::policies::retry::FallthroughRetryPolicy;
use scylla::response::query_result::QueryRowsResult;
use scylla::serialize::row::SerializeRow;
use scylla::statement::Consistency;
use scylla::statement::unprepared::Statement;
use scylla::value::{CqlValue, Row};

use super::config::{CqlConfig, KeyspaceConfig};
use super::open::{OpenError, connect};
use crate::domain::clock::Stamps;

/// All versions of the schema, in order; version 0 is an empty keyspace.
pub(super) const SCHEMA: &[Version] = &[Version { number: 1, needs: 1, text: include_str!("schema/0001_first.cql") }];

/// A version of the schema, and how to come to it from the one before.
#[derive(Clone, Copy)]
pub(super) struct Version {
    /// Its number, one above that of the one before.
    pub(super) number: u32,
    /// The oldest version that a release must know to work with this one.
    pub(super) needs: u32,
    /// `CREATE TABLE IF NOT EXISTS` and `ALTER TABLE .. ADD` of one column, each ended by a semicolon.
    pub(super) text: &'static str,
}

/// The version that stands in the database.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub(super) struct Found {
    /// The newest that was applied.
    pub(super) version: u32,
    /// The oldest version that a release must know to work with it.
    pub(super) needs: u32,
}

/// How long a change of the schema may take until its node has answered.
const STATEMENT_DEADLINE: Duration = Duration::from_secs(20);
/// How long the lock holds without being renewed. It is renewed before each statement.
const LOCK_SECONDS: i32 = 60;
/// How often a lock that another holds is asked for again.
const LOCK_INTERVAL: Duration = Duration::from_millis(200);
/// How often it is said that another holds the lock.
const REPORT_INTERVAL: Duration = Duration::from_secs(5);

const CREATE_SETTINGS: &str = "CREATE TABLE IF NOT EXISTS settings (name text PRIMARY KEY, value text)";
/// The others name the keyspace themselves: the database warns of prepared statements that do not.
const TAKE_LOCK: &str = "INSERT INTO {}.settings (name, value) VALUES ('migration_lock', ?) IF NOT EXISTS USING TTL ?";
const RENEW_LOCK: &str = "UPDATE {}.settings USING TTL ? SET value = ? WHERE name = 'migration_lock' IF value = ?";
const RELEASE_LOCK: &str = "DELETE FROM {}.settings WHERE name = 'migration_lock' IF value = ?";
const INSERT_SETTING: &str = "INSERT INTO {}.settings (name, value) VALUES (?, ?) IF NOT EXISTS";
const UPDATE_SETTING: &str = "UPDATE {}.settings SET value = ? WHERE name = ? IF value = ?";
const LOOKUP_SETTING: &str = "SELECT value FROM {}.settings WHERE name = ?";
const LOOKUP_TABLE: &str = "SELECT table_name FROM system_schema.tables WHERE keyspace_name = ? AND table_name = ?";
const LOOKUP_COLUMN: &str = "
    SELECT column_name FROM system_schema.columns WHERE keyspace_name = ? AND table_name = ? AND column_name = ?";

const VERSION: &str = "schema_version";
const NEEDS: &str = "schema_needs";

/// Why the schema is not up to date. What was done stays, and the next run goes on from there.
#[derive(Debug, thiserror::Error)]
pub enum MigrateError {
    /// The database cannot be used.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The database refused a statement, or did not answer.
    #[error("failed to change the schema to version {version} by: {statement}")]
    Statement {
        /// To which version; 0 is the keyspace itself.
        version: u32,
        /// The statement.
        statement: String,
        /// Why.
        source: Box<dyn Error + Send + Sync>,
    },
    /// Another migration has taken the lock, because this one was too slow to renew it.
    #[error("another migration has taken over: run this one again when that has ended")]
    LockLost,
}

/// Makes the keyspace where there is none and brings its schema up to date. Returns the schema's version.
///
/// # Errors
/// [`MigrateError`]; run it again.
pub async fn migrate(
    config: &CqlConfig,
    keyspace_config: &KeyspaceConfig,
    stamps: &Stamps,
) -> Result<u32, MigrateError> {
    let session = connect(config).await?;
    Migration::new(&session, config, stamps, SCHEMA).run(keyspace_config).await
}

/// The newest version of a schema.
pub(super) fn newest(schema: &[Version]) -> u32 {
    schema.last().map_or(0, |version| version.number)
}

/// The schema version that stands in a keyspace.
pub(super) async fn lookup_version(session: &Session, keyspace: &str) -> Result<Found, OpenError> {
    let attempted = "look up the schema version";
    let failed = |error| OpenError::Failed { attempted, source: error };
    if rows(session, Statement::new(LOOKUP_TABLE), (keyspace, "settings")).await.map_err(failed)?.rows_num() == 0 {
        return Ok(Found::default());
    }
    let number = async |name| {
        let text = setting(session, keyspace, name).await.map_err(failed)?;
        text.map_or(Ok(0), |text| text.parse().map_err(|_| failed(format!("the setting {name} is no number").into())))
    };
    Ok(Found { version: number(VERSION).await?, needs: number(NEEDS).await? })
}

type Source = Box<dyn Error + Send + Sync>;

async fn rows(
    session: &Session,
    mut statement: Statement,
    values: impl SerializeRow,
) -> Result<QueryRowsResult, Source> {
    statement.set_is_idempotent(true);
    Ok(session.query_unpaged(statement, values).await?.into_rows_result()?)
}

async fn setting(session: &Session, keyspace: &str, name: &str) -> Result<Option<String>, Source> {
    let mut statement = Statement::new(LOOKUP_SETTING.replace("{}", keyspace));
    statement.set_consistency(Consistency::LocalSerial);
    let found = rows(session, statement, (name,)).await?;
    Ok(found.maybe_first_row::<(Option<String>,)>()?.and_then(|(value,)| value))
}

/// One run.
struct Migration<'a> {
    session: &'a Session,
    keyspace: &'a str,
    schema: &'a [Version],
    /// What this run holds the lock as.
    name: String,
    lock_seconds: i32,
    /// The node that changes the schema.
    node: Arc<dyn LoadBalancingPolicy>,
    #[cfg(test)]
    cut: tests::Cut,
}

impl<'a> Migration<'a> {
    fn new(session: &'a Session, config: &'a CqlConfig, stamps: &Stamps, schema: &'a [Version]) -> Self {
        let state = session.get_cluster_state();
        let nodes = state.get_nodes_info().iter().filter(|node| node.is_connected());
        let first = nodes.map(|node| node.host_id).min().unwrap_or_default();
        Self {
            session,
            keyspace: &config.cql_keyspace,
            schema,
            name: format!("{:?}", stamps.new_id()),
            lock_seconds: LOCK_SECONDS,
            node: SingleTargetLoadBalancingPolicy::new(NodeIdentifier::HostId(first), None),
            #[cfg(test)]
            cut: tests::Cut::default(),
        }
    }

    async fn run(&self, config: &KeyspaceConfig) -> Result<u32, MigrateError> {
        let KeyspaceConfig { cql_replication, cql_keyspace_options } = config;
        let keyspace = self.keyspace;
        let create = format!(
            "CREATE KEYSPACE IF NOT EXISTS {keyspace} WITH replication = {cql_replication} {cql_keyspace_options}"
        );
        self.change(0, create.trim_ascii_end()).await?;
        let used = self.session.use_keyspace(keyspace, false).await;
        used.map_err(OpenError::attempting("use the keyspace"))?;
        self.change(0, CREATE_SETTINGS).await?;
        self.take_lock().await?;
        let migrated = self.migrate_alone().await;
        if let Err(error) = self.conditional(RELEASE_LOCK, (&self.name,)).await {
            tracing::warn!(
                error = &*error as &dyn Error,
                "the lock of migrations is not released, it runs out by itself"
            );
        }
        migrated
    }

    async fn migrate_alone(&self) -> Result<u32, MigrateError> {
        let Found { version: found, needs } = lookup_version(self.session, self.keyspace).await?;
        let known = newest(self.schema);
        if needs > known {
            let keyspace = self.keyspace.to_owned();
            return Err(OpenError::NewerSchema { keyspace, found, needed: needs, known }.into());
        }
        for version in self.schema.iter().filter(|version| version.number > found) {
            for statement in statements_of(version.text) {
                self.keep_lock().await?;
                if self.is_done(&statement).await? {
                    continue;
                }
                self.change(version.number, &statement).await?;
            }
            self.keep_lock().await?;
            // In this order: a release that cannot work with the new version learns it before the version stands there.
            self.set(NEEDS, version.needs).await?;
            self.set(VERSION, version.number).await?;
            tracing::info!(version = version.number, keyspace = self.keyspace, "the schema is changed");
        }
        Ok(found.max(known))
    }

    /// Changes the schema, and waits until all nodes agree about it.
    async fn change(&self, version: u32, text: &str) -> Result<(), MigrateError> {
        self.step().await;
        let mut statement = Statement::new(text);
        statement.set_request_timeout(Some(STATEMENT_DEADLINE));
        statement.set_load_balancing_policy(Some(Arc::clone(&self.node)));
        let changed = self.session.query_unpaged(statement, ()).await;
        let failed = |source: ExecutionError| MigrateError::Statement {
            version,
            statement: text.to_owned(),
            source: source.into(),
        };
        changed.map(|_| ()).map_err(failed)
    }

    /// Whether a column is there already; tables and keyspaces know that themselves.
    async fn is_done(&self, statement: &str) -> Result<bool, MigrateError> {
        let Some((table, column)) = added_column(statement) else { return Ok(false) };
        let found = rows(self.session, Statement::new(LOOKUP_COLUMN), (self.keyspace, table, column)).await;
        let found = found.map_err(|source| OpenError::Failed { attempted: "look up a column", source })?;
        Ok(found.rows_num() > 0)
    }

    async fn take_lock(&self) -> Result<(), MigrateError> {
        let mut reported: Option<Instant> = None;
        loop {
            self.step().await;
            if self.lock_step(TAKE_LOCK, (&self.name, self.lock_seconds)).await? {
                return Ok(());
            }
            if reported.is_none_or(|reported| reported.elapsed() >= REPORT_INTERVAL) {
                tracing::info!("another migration is under way, or was killed less than a minute ago: waiting for it");
                reported = Some(Instant::now());
            }
            tokio::time::sleep(LOCK_INTERVAL).await;
        }
    }

    async fn keep_lock(&self) -> Result<(), MigrateError> {
        self.step().await;
        if self.lock_step(RENEW_LOCK, (self.lock_seconds, &self.name, &self.name)).await? {
            Ok(())
        } else {
            Err(MigrateError::LockLost)
        }
    }

    async fn lock_step(&self, text: &str, values: impl SerializeRow) -> Result<bool, MigrateError> {
        let outcome = self.conditional(text, values).await;
        Ok(outcome.map_err(|source| OpenError::Failed { attempted: "lock the schema", source })?)
    }

    /// Notes a number. Only the holder of the lock does so, so that what stands there does not change meanwhile.
    async fn set(&self, name: &str, number: u32) -> Result<(), MigrateError> {
        self.step().await;
        let failed = |source| OpenError::Failed { attempted: "note the schema version", source };
        let value = number.to_string();
        let written = match setting(self.session, self.keyspace, name).await.map_err(failed)? {
            None => self.conditional(INSERT_SETTING, (name, &value)).await,
            Some(old) if old == value => Ok(true),
            Some(old) => self.conditional(UPDATE_SETTING, (&value, name, &old)).await,
        };
        if written.map_err(failed)? { Ok(()) } else { Err(MigrateError::LockLost) }
    }

    /// Whether a conditional statement was applied.
    async fn conditional(&self, text: &str, values: impl SerializeRow) -> Result<bool, Source> {
        let mut statement = Statement::new(text.replace("{}", self.keyspace));
        statement.set_retry_policy(Some(Arc::new(FallthroughRetryPolicy)));
        let answer = self.session.query_unpaged(statement, values).await?.into_rows_result()?;
        let first = answer.first_row::<Row>()?.columns.into_iter().next().flatten();
        Ok(first == Some(CqlValue::Boolean(true)))
    }

    /// Where a test may cut the run.
    #[cfg_attr(not(test), expect(clippy::unused_async, reason = "waits in tests alone"))]
    async fn step(&self) {
        #[cfg(test)]
        self.cut.step().await;
    }
}

/// The statements of a file, without its comments.
fn statements_of(text: &str) -> Vec<String> {
    let lines = text.lines().filter(|line| !line.trim_ascii_start().starts_with("--"));
    let text = lines.collect::<Vec<_>>().join("\n");
    text.split(';').map(|statement| statement.trim_ascii().to_owned()).filter(|text| !text.is_empty()).collect()
}

/// The table and column that a statement adds, if it adds a column.
fn added_column(statement: &str) -> Option<(&str, &str)> {
    let words: Vec<_> = statement.split_ascii_whitespace().collect();
    match words[..] {
        ["ALTER", "TABLE", table, "ADD", column, ..] => Some((table, column)),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
