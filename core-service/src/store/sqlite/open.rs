//! The data directory and the database in it, before anything is asked of them: lock, schema, settings.

use std::fs::{self, DirBuilder, File, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use proto::ids::Timestamp;
use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags, OptionalExtension};
use rusqlite_migration::{M, Migrations};

use super::connections;
use super::journal::End;

const DATABASE_FILE: &str = "sama.db";
const LOCK_FILE: &str = "sama.lock";

/// How to come from each schema version to the next; version 0 is an empty database.
pub(super) const SCHEMA: &[M<'_>] = &[
    M::up(include_str!("schema/0001_first_message.sql")),
    M::up(include_str!("schema/0002_changed_conversations.sql")),
];

const NEWEST: &str = "SELECT position, end_offset FROM journal ORDER BY position DESC LIMIT 1";

/// Enough for the processors of one machine; each read is short.
const LOOKUP_READERS: usize = 2;
/// More than for lookups, since a list may wait for the disk.
pub(super) const LIST_READERS: usize = 4;

/// What the writing connection is set to. A commit is on the disk when it returns; the log is moved into the database
/// after each 16 MiB and not kept larger than 64 MiB.
const WRITER_SETTINGS: &str = "
    PRAGMA journal_mode = WAL;
    PRAGMA synchronous = FULL;
    PRAGMA wal_autocheckpoint = 4000;
    PRAGMA journal_size_limit = 67108864;
    PRAGMA cache_size = -65536;
    PRAGMA temp_store = MEMORY;";
const READER_SETTINGS: &str = "
    PRAGMA query_only = ON;
    PRAGMA cache_size = -16384;
    PRAGMA temp_store = MEMORY;";

/// Why a data directory cannot be used. Nothing in it was damaged.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// It cannot be made or written.
    #[error("failed to prepare the data directory {}", path.display())]
    Directory {
        /// The directory, or the file in it.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Two processes must not write one database.
    #[error("another process uses the data directory {}", path.display())]
    InUse {
        /// The directory.
        path: PathBuf,
    },
    /// A later release made it.
    #[error(
        "the database {} has schema version {found}, this release knows versions up to {supported}: start the release \
         that wrote it, or a later one",
        path.display()
    )]
    NewerSchema {
        /// The database.
        path: PathBuf,
        /// Its schema version.
        found: usize,
        /// The newest that this release knows.
        supported: usize,
    },
    /// Its schema was not brought up to date. It is as it was.
    #[error("failed to bring the database {} from schema version {from} up to date", path.display())]
    Migration {
        /// The database.
        path: PathBuf,
        /// Its schema version.
        from: usize,
        /// Why.
        source: rusqlite_migration::Error,
    },
    /// The database cannot be opened or read.
    #[error("failed to open the database {}", path.display())]
    Database {
        /// The database.
        path: PathBuf,
        /// Why.
        source: rusqlite::Error,
    },
    /// The thread that writes could not be started.
    #[error("failed to start the writing thread")]
    Thread(#[source] io::Error),
}

/// An open database.
pub(super) struct Opened {
    pub(super) lock: File,
    pub(super) writer: Connection,
    pub(super) readers: ReadConnections,
    /// The newest event.
    pub(super) newest: End,
}

/// The connections that only read, by what they are for.
pub(super) struct ReadConnections {
    pub(super) lookups: Vec<Connection>,
    pub(super) lists: Vec<Connection>,
    pub(super) journal: Vec<Connection>,
}

/// Opens the database of a directory, both made where they are missing. Connections noted there have ended: their
/// users were last seen `now`.
pub(super) fn open(directory: &Path, now: Timestamp, schema: &[M<'_>]) -> Result<Opened, OpenError> {
    let lock = lock(directory)?;
    let path = directory.join(DATABASE_FILE);
    let failed = |source| OpenError::Database { path: path.clone(), source };
    // The files that the database makes next to it get the same permissions.
    own_file(&path).map_err(|source| OpenError::Directory { path: path.clone(), source })?;
    refuse_newer(&path, schema)?;

    let mut writer = connect(&path, OpenFlags::SQLITE_OPEN_READ_WRITE)
        .and_then(|connection| connection.execute_batch(WRITER_SETTINGS).map(|()| connection))
        .map_err(failed)?;
    migrate(&mut writer, &path, schema)?;
    connections::forget_all(&mut writer, now).map_err(failed)?;
    let newest = writer
        .query_row(NEWEST, [], |row| Ok(End { position: row.get::<_, i64>(0)?.cast_unsigned(), offset: row.get(1)? }))
        .optional()
        .map_err(failed)?
        .unwrap_or_default();

    let readers = |count| {
        let connections = (0..count).map(|_| {
            let connection = connect(&path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
            connection.execute_batch(READER_SETTINGS).map(|()| connection)
        });
        connections.collect::<Result<_, _>>().map_err(failed)
    };
    let readers =
        ReadConnections { lookups: readers(LOOKUP_READERS)?, lists: readers(LIST_READERS)?, journal: readers(1)? };
    Ok(Opened { lock, writer, readers, newest })
}

fn lock(directory: &Path) -> Result<File, OpenError> {
    let failed = |path: &Path, source| OpenError::Directory { path: path.to_owned(), source };
    DirBuilder::new().recursive(true).mode(0o700).create(directory).map_err(|source| failed(directory, source))?;
    let path = directory.join(LOCK_FILE);
    let file = own_file(&path).map_err(|source| failed(&path, source))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(OpenError::InUse { path: directory.to_owned() }),
        Err(TryLockError::Error(source)) => Err(failed(&path, source)),
    }
}

/// Opens a file, made where it is missing, that nobody but this user may read.
fn own_file(path: &Path) -> io::Result<File> {
    File::options().write(true).create(true).truncate(false).mode(0o600).open(path)
}

/// Looks at the version without changing a byte: a connection that only reads does not even move what the log holds
/// into the database.
fn refuse_newer(path: &Path, schema: &[M<'_>]) -> Result<(), OpenError> {
    let failed = |source| OpenError::Database { path: path.to_owned(), source };
    let connection = connect(path, OpenFlags::SQLITE_OPEN_READ_ONLY).map_err(failed)?;
    let found = version(&connection).map_err(failed)?;
    if found > schema.len() {
        return Err(OpenError::NewerSchema { path: path.to_owned(), found, supported: schema.len() });
    }
    Ok(())
}

/// Brings the schema up to date in one transaction. One that holds data is copied first, so that the release that
/// wrote it can be started again.
fn migrate(connection: &mut Connection, path: &Path, schema: &[M<'_>]) -> Result<(), OpenError> {
    let failed = |source| OpenError::Database { path: path.to_owned(), source };
    let from = version(connection).map_err(failed)?;
    if from > 0 && from < schema.len() {
        copy(connection, path, &path.with_file_name(format!("{DATABASE_FILE}.v{from}")))?;
    }
    Migrations::from_slice(schema).to_latest(connection).map_err(|source| OpenError::Migration {
        path: path.to_owned(),
        from,
        source,
    })
}

/// Makes a whole copy under its final name, or none.
fn copy(connection: &Connection, path: &Path, target: &Path) -> Result<(), OpenError> {
    let unfinished = target.with_added_extension("unfinished");
    let failed = |source| OpenError::Directory { path: unfinished.clone(), source };
    match fs::remove_file(&unfinished) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
        Ok(()) | Err(_) => {}
    }
    own_file(&unfinished).map_err(failed)?;
    let name = unfinished.to_string_lossy();
    connection
        .execute("VACUUM INTO ?1", [&name])
        .map_err(|source| OpenError::Database { path: path.to_owned(), source })?;
    // The database does not flush such a copy itself.
    File::open(&unfinished).and_then(|file| file.sync_all()).map_err(failed)?;
    fs::rename(&unfinished, target).map_err(failed)
}

fn version(connection: &Connection) -> rusqlite::Result<usize> {
    let version: i64 = connection.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    // Never negative where this program wrote it; a database of something else then counts as newer.
    Ok(usize::try_from(version).unwrap_or(usize::MAX))
}

fn connect(path: &Path, flags: OpenFlags) -> rusqlite::Result<Connection> {
    let connection = Connection::open_with_flags(path, flags | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    // Without it, a statement with a bound limit is planned again whenever it runs with another one.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    connection.set_prepared_statement_cache_capacity(128);
    Ok(connection)
}
