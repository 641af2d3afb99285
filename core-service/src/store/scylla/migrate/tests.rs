//! Migration against a database: two at once, cut anywhere, and schemas of other releases.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use proto::ids::UserId;
use tokio::sync::Notify;

use super::*;
use crate::store::scylla::open::{check_keyspace, check_schema};
use crate::store::scylla::tests::{config, keyspace_config};

/// Stops a run for ever, as the death of its process does.
#[derive(Clone, Default)]
pub(super) struct Cut {
    /// Before which step; 0 is never.
    at: usize,
    done: Arc<AtomicUsize>,
    reached: Arc<Notify>,
}

impl Cut {
    fn at(step: usize) -> Self {
        Self { at: step, ..Self::default() }
    }

    pub(super) async fn step(&self) {
        if self.done.fetch_add(1, Ordering::Relaxed) + 1 == self.at {
            self.reached.notify_one();
            std::future::pending::<()>().await;
        }
    }
}

const FIRST: Version = Version {
    number: 1,
    needs: 1,
    text: "
        -- A comment; with a semicolon.
        CREATE TABLE IF NOT EXISTS one (id blob PRIMARY KEY, name text);
        CREATE TABLE IF NOT EXISTS two (id blob, number bigint, PRIMARY KEY (id, number))
            WITH CLUSTERING ORDER BY (number DESC);",
};
const SECOND: Version = Version {
    number: 2,
    needs: 1,
    text: "
        ALTER TABLE one ADD more bigint;
        CREATE TABLE IF NOT EXISTS three (id blob PRIMARY KEY);
        ALTER TABLE one ADD most map<blob, bigint>;",
};
const THIRD: Version = Version { number: 3, needs: 3, text: "ALTER TABLE two ADD name text;" };

const COLUMNS: &str = "SELECT table_name, column_name FROM system_schema.columns WHERE keyspace_name = ?";

/// An empty keyspace, its session, and what makes runs for it.
struct Place {
    config: CqlConfig,
    session: Session,
    stamps: Stamps,
}

impl Place {
    async fn new() -> Self {
        let stamps = Stamps::of_this_process();
        let config = config(&format!("migrated_{}", UserId::from(stamps.new_id())));
        let session = connect(&config).await.unwrap();
        Self { config, session, stamps }
    }

    fn run<'a>(&'a self, session: &'a Session, schema: &'a [Version], cut: Cut) -> Migration<'a> {
        Migration { cut, lock_seconds: 5, ..Migration::new(session, &self.config, &self.stamps, schema) }
    }

    async fn migrate(&self, schema: &[Version]) -> Result<u32, MigrateError> {
        self.run(&self.session, schema, Cut::default()).run(&keyspace_config()).await
    }

    async fn found(&self) -> Found {
        lookup_version(&self.session, &self.config.cql_keyspace).await.unwrap()
    }

    /// All columns but those of the settings.
    async fn columns(&self) -> Vec<(String, String)> {
        let rows = self.session.query_unpaged(COLUMNS, (&self.config.cql_keyspace,)).await.unwrap();
        let rows = rows.into_rows_result().unwrap();
        let mut columns: Vec<_> = rows.rows::<(String, String)>().unwrap().map(Result::unwrap).collect();
        columns.retain(|(table, _)| table != "settings");
        columns.sort();
        columns
    }

    async fn drop_keyspace(self) {
        let text = format!("DROP KEYSPACE IF EXISTS {}", self.config.cql_keyspace);
        let mut statement = Statement::new(text);
        statement.set_request_timeout(Some(STATEMENT_DEADLINE));
        self.session.query_unpaged(statement, ()).await.unwrap();
    }
}

fn columns_of(expected: &[&str]) -> Vec<(String, String)> {
    let split =
        |text: &&str| text.split_once('.').map(|(table, column)| (table.to_owned(), column.to_owned())).unwrap();
    expected.iter().map(split).collect()
}

fn columns_of_two() -> Vec<(String, String)> {
    columns_of(&["one.id", "one.more", "one.most", "one.name", "three.id", "two.id", "two.number"])
}

#[test]
fn every_statement_of_the_schema_can_be_done_again() {
    for version in SCHEMA {
        for statement in statements_of(version.text) {
            let creates = statement.starts_with("CREATE TABLE IF NOT EXISTS ");
            let adds = added_column(&statement).is_some() && !statement.contains(',');
            assert!(creates || adds, "{statement}");
        }
    }
    assert!((1..).zip(SCHEMA).all(|(number, version)| version.number == number && version.needs <= number));
}

#[tokio::test]
#[ignore = "needs TEST_CQL_ADDRESS, the host:port of a CQL database for tests"]
async fn a_schema_is_made_and_brought_up_to_date() {
    let place = Place::new().await;
    assert_eq!(place.migrate(&[FIRST]).await.unwrap(), 1);
    assert_eq!(place.found().await, Found { version: 1, needs: 1 });
    assert_eq!(place.migrate(&[FIRST, SECOND]).await.unwrap(), 2);
    assert_eq!(place.found().await, Found { version: 2, needs: 1 });
    assert_eq!(place.columns().await, columns_of_two());
    assert_eq!(place.migrate(&[FIRST, SECOND]).await.unwrap(), 2, "again, with nothing to do");
    place.drop_keyspace().await;
}

#[tokio::test]
#[ignore = "needs TEST_CQL_ADDRESS, the host:port of a CQL database for tests"]
async fn two_migrations_at_once_make_one_schema() {
    let place = Place::new().await;
    let other = connect(&place.config).await.unwrap();
    let schema = [FIRST, SECOND];
    let (one, two) = (place.run(&place.session, &schema, Cut::default()), place.run(&other, &schema, Cut::default()));
    let config = keyspace_config();
    let (one_done, two_done) = tokio::join!(one.run(&config), two.run(&config));
    assert_eq!((one_done.unwrap(), two_done.unwrap()), (2, 2));
    assert_eq!(place.columns().await, columns_of_two());
    place.drop_keyspace().await;
}

#[tokio::test]
#[ignore = "needs TEST_CQL_ADDRESS, the host:port of a CQL database for tests"]
async fn a_migration_cut_anywhere_is_completed_by_the_next() {
    let place = Place::new().await;
    let schema = [FIRST, SECOND];
    for step in 1.. {
        let cut = Cut::at(step);
        let run = place.run(&place.session, &schema, cut.clone());
        let config = keyspace_config();
        let is_done = tokio::select! {
            done = run.run(&config) => { assert_eq!(done.unwrap(), 2); true }
            () = cut.reached.notified() => false,
        };
        if is_done {
            assert!(step > 1);
            break;
        }
        // The next cut is one step further, on what this one has left; its lock runs out.
    }
    assert_eq!(place.found().await, Found { version: 2, needs: 1 });
    assert_eq!(place.columns().await, columns_of_two());
    place.drop_keyspace().await;
}

#[tokio::test]
#[ignore = "needs TEST_CQL_ADDRESS, the host:port of a CQL database for tests"]
async fn a_schema_of_another_release_is_refused_unless_it_says_that_it_fits() {
    let place = Place::new().await;
    let keyspace = &place.config.cql_keyspace;
    let error = check_keyspace(&place.session, keyspace).await.unwrap_err();
    assert!(error.to_string().ends_with("run `core-service migrate`"), "{error}");

    place.migrate(&[FIRST]).await.unwrap();
    let error = check_schema(&place.session, keyspace, &[FIRST, SECOND]).await.unwrap_err();
    assert!(matches!(error, OpenError::OlderSchema { found: 1, needed: 2, .. }), "{error}");

    place.migrate(&[FIRST, SECOND]).await.unwrap();
    check_schema(&place.session, keyspace, &[FIRST, SECOND]).await.unwrap();
    check_schema(&place.session, keyspace, &[FIRST]).await.unwrap();
    assert_eq!(place.migrate(&[FIRST]).await.unwrap(), 2, "the older release has nothing to do");

    place.migrate(&[FIRST, SECOND, THIRD]).await.unwrap();
    let error = check_schema(&place.session, keyspace, &[FIRST, SECOND]).await.unwrap_err();
    assert!(matches!(error, OpenError::NewerSchema { found: 3, needed: 3, known: 2, .. }), "{error}");
    let error = place.migrate(&[FIRST, SECOND]).await.unwrap_err();
    assert!(matches!(error, MigrateError::Open(OpenError::NewerSchema { .. })), "{error}");
    assert_eq!(place.found().await, Found { version: 3, needs: 3 });
    place.drop_keyspace().await;
}
