//! What opening a data directory accepts, refuses, and leaves alone.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use proto::ids::SessionId;
use rusqlite::Connection as Database;
use rusqlite::config::DbConfig;
use rusqlite_migration::M;
use tempfile::TempDir;

use super::super::journal::Retention;
use super::super::open::SCHEMA;
use super::super::{OpenError, SqliteStore};
use super::{AUTHOR, append, message_id, messages, open};
use crate::domain::organization::{Organization, OrganizationId};
use crate::domain::session::Connection;
use crate::domain::user::User;
use crate::store::contract::at;
use crate::store::{AccountStore, ConnectionStore};

fn user() -> User {
    User {
        id: AUTHOR,
        organization_id: OrganizationId::default(),
        login: "ann".to_owned(),
        email: None,
        phone: None,
        first_name: None,
        last_name: None,
        recent_activity: 17,
        updated_at: at(0),
    }
}

fn open_with(directory: &TempDir, schema: &[M<'_>]) -> Result<SqliteStore, OpenError> {
    SqliteStore::open_with(directory.path(), at(0), schema, Retention::DEFAULT)
}

fn schema_with(later: &'static str) -> Vec<M<'static>> {
    let mut schema = SCHEMA.to_vec();
    schema.push(M::up(later));
    schema
}

/// The bytes of all files but those that only coordinate processes.
fn contents(directory: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap());
    let files = entries.map(|entry| (entry.file_name().into_string().unwrap(), fs::read(entry.path()).unwrap()));
    files.filter(|(name, _)| !name.ends_with("-shm") && !name.ends_with(".lock")).collect()
}

#[tokio::test]
async fn everything_is_there_after_a_restart() {
    let directory = TempDir::new().unwrap();
    let store = open(&directory);
    store.create_user(&user(), "hash").await.unwrap();
    append(&store, 1, 10).await.unwrap();
    append(&store, 2, 10).await.unwrap();
    store.close().await;
    drop(store);

    let store = open(&directory);
    assert_eq!(store.lookup_user(AUTHOR).await.unwrap(), Some(user()));
    assert_eq!(messages(&store).await, [message_id(1), message_id(2)]);
    assert_eq!(store.journal().newest(), 2);
    append(&store, 3, 10).await.unwrap();
    let positions: Vec<_> = store.journal().read_above(0, 10).await.unwrap().into_iter().map(|(at, _)| at).collect();
    assert_eq!(positions, [1, 2, 3]);
}

#[tokio::test]
async fn everything_is_there_after_a_store_that_was_not_closed() {
    let directory = TempDir::new().unwrap();
    let store = open(&directory);
    append(&store, 1, 10).await.unwrap();
    // What a killed process leaves: the database and the log with the commit.
    let left = TempDir::new().unwrap();
    for (name, bytes) in contents(directory.path()) {
        fs::write(left.path().join(name), bytes).unwrap();
    }
    let store = open(&left);
    assert_eq!(messages(&store).await, [message_id(1)]);
}

#[tokio::test]
async fn whoever_was_online_when_the_process_ended_was_last_seen_when_it_starts_again() {
    let directory = TempDir::new().unwrap();
    let store = open(&directory);
    store.create_user(&user(), "hash").await.unwrap();
    let offline = User { id: proto::ids::UserId::from_bytes([9; 12]), login: "bob".to_owned(), ..user() };
    store.create_user(&offline, "hash").await.unwrap();
    let id = proto::ids::ConnectionId::from_bytes([4; 12]);
    let connection = Connection { id, session_id: SessionId::new(AUTHOR, [5; 12]), device_id: "phone".to_owned() };
    store.bind_connection(&connection).await.unwrap();
    store.close().await;

    let store = SqliteStore::open(directory.path(), at(9_000)).unwrap();
    let recent_activity = async |id| store.lookup_user(id).await.unwrap().unwrap().recent_activity;
    assert_eq!(recent_activity(AUTHOR).await, at(9_000).rounded_seconds());
    assert_eq!(recent_activity(offline.id).await, 17);
    // The old connection counts no more: a new one is the last one.
    let connection = Connection { id: proto::ids::ConnectionId::from_bytes([6; 12]), ..connection };
    store.bind_connection(&connection).await.unwrap();
    store.unbind_connection(AUTHOR, connection.id, at(10_000)).await.unwrap();
    assert_eq!(recent_activity(AUTHOR).await, at(10_000).rounded_seconds());
}

#[tokio::test]
async fn a_second_store_on_a_directory_is_refused_until_the_first_is_closed() {
    let directory = TempDir::new().unwrap();
    let first = open(&directory);
    let refused = SqliteStore::open(directory.path(), at(0)).unwrap_err();
    assert!(matches!(refused, OpenError::InUse { .. }), "{refused}");
    append(&first, 1, 10).await.unwrap();
    first.close().await;
    assert_eq!(messages(&open(&directory)).await, [message_id(1)]);
}

#[tokio::test]
async fn a_new_directory_and_its_files_are_for_their_owner_alone() {
    let parent = TempDir::new().unwrap();
    let path = parent.path().join("not/there/yet");
    let store = SqliteStore::open(&path, at(0)).unwrap();
    append(&store, 1, 1).await.unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&path), 0o700);
    for file in ["sama.db", "sama.db-wal", "sama.lock"] {
        assert_eq!(mode(&path.join(file)), 0o600, "{file}");
    }
    store.close().await;
}

#[tokio::test]
async fn a_newer_schema_is_refused_and_nothing_touched() {
    let directory = TempDir::new().unwrap();
    open(&directory).close().await;
    let path = directory.path().join("sama.db");
    {
        // The newer version stands in the log, as after a crash.
        let database = Database::open(&path).unwrap();
        database.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true).unwrap();
        database.pragma_update(None, "user_version", 99).unwrap();
    }
    let before = contents(directory.path());
    assert!(!before["sama.db-wal"].is_empty());

    let refused = SqliteStore::open(directory.path(), at(0)).unwrap_err();
    assert!(
        matches!(refused, OpenError::NewerSchema { found: 99, supported, .. } if supported == SCHEMA.len()),
        "{refused}"
    );
    assert_eq!(contents(directory.path()), before);
}

#[tokio::test]
async fn a_file_that_is_no_database_is_refused_and_not_touched() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("sama.db");
    fs::write(&path, "a letter to a friend, which is longer than the header of a database file. ".repeat(20)).unwrap();
    let before = contents(directory.path());
    let refused = SqliteStore::open(directory.path(), at(0)).unwrap_err();
    assert!(matches!(refused, OpenError::Database { .. }), "{refused}");
    assert_eq!(contents(directory.path()), before);
}

#[tokio::test]
async fn a_directory_that_cannot_be_made_is_named() {
    let directory = TempDir::new().unwrap();
    let file = directory.path().join("file");
    fs::write(&file, "").unwrap();
    let refused = SqliteStore::open(&file.join("below"), at(0)).unwrap_err();
    assert!(refused.to_string().contains("file/below"), "{refused}");
}

#[tokio::test]
async fn an_older_schema_is_copied_before_it_is_brought_up_to_date() {
    let directory = TempDir::new().unwrap();
    let store = open(&directory);
    store.create_user(&user(), "hash").await.unwrap();
    store.close().await;
    // What an earlier try left is no obstacle.
    let version = SCHEMA.len();
    let copy_path = directory.path().join(format!("sama.db.v{version}"));
    let unfinished = directory.path().join(format!("sama.db.v{version}.unfinished"));
    fs::write(&unfinished, "half a copy").unwrap();

    let store = open_with(&directory, &schema_with("CREATE TABLE later (id BLOB) STRICT; DELETE FROM users;")).unwrap();
    assert_eq!(store.lookup_user(AUTHOR).await.unwrap(), None);
    store.close().await;

    let copy = Database::open(&copy_path).unwrap();
    let count = |query| copy.query_row(query, [], |row| row.get::<_, i64>(0)).unwrap();
    assert_eq!(count("SELECT count(*) FROM users"), 1);
    assert_eq!(count("PRAGMA user_version"), i64::try_from(version).unwrap());
    let mode = fs::metadata(&copy_path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    assert_eq!(count("SELECT count(*) FROM sqlite_schema WHERE name = 'later'"), 0);
    assert!(!unfinished.exists());
}

#[tokio::test]
async fn a_migration_that_fails_leaves_the_database_as_it_was() {
    let directory = TempDir::new().unwrap();
    let store = open(&directory);
    let acme = Organization { id: OrganizationId::default(), name: "Acme".to_owned(), created_at: at(0) };
    store.create_organization(&acme).await.unwrap();
    store.close().await;

    let refused = open_with(&directory, &schema_with("DELETE FROM organizations; nonsense;")).unwrap_err();
    assert!(matches!(refused, OpenError::Migration { from, .. } if from == SCHEMA.len()), "{refused}");
    assert_eq!(open(&directory).lookup_organization(&acme.id).await.unwrap(), Some(acme));
}

#[tokio::test]
async fn a_first_start_makes_no_copy() {
    let directory = TempDir::new().unwrap();
    open(&directory).close().await;
    open(&directory).close().await;
    let files: Vec<_> = contents(directory.path()).into_keys().filter(|name| name.starts_with("sama.db.")).collect();
    assert!(files.is_empty(), "{files:?}");
}
