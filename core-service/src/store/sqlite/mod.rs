//! The embedded store: one SQLite database in a data directory, for one process.
//!
//! Writes go through one thread (`writer`) that groups them into commits, reads go over connections of their own
//! (`readers`), and every event stands in the database too, in the transaction of its data (`journal`). The other
//! files hold the statements, each with the tables they are about.

mod accounts;
mod changes;
mod connections;
mod conversations;
mod journal;
mod marks;
mod messages;
mod metrics;
mod open;
mod previews;
mod read_marks;
mod readers;
mod row;
mod sessions;
#[cfg(test)]
mod tests;
mod views;
mod writer;

use std::path::Path;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use proto::ids::Timestamp;
use rusqlite::Connection;
use rusqlite_migration::M;
use tracing::Instrument;

pub use self::journal::{Journal, JournalError};
use self::journal::{JournalWriter, Retention};
use self::metrics::StoreMetrics;
pub use self::open::OpenError;
use self::readers::Readers;
use self::row::StatementError;
use self::writer::{Writer, WriterParts};
use super::{StoreError, span};

/// The store of a process that needs no other.
pub struct SqliteStore {
    writer: Writer,
    /// For what takes microseconds.
    lookups: Readers,
    /// For what takes as long as its result, or what is searched for it, is large.
    lists: Readers,
    journal: Journal,
}

impl std::fmt::Debug for SqliteStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SqliteStore").finish_non_exhaustive()
    }
}

impl SqliteStore {
    /// Opens the store in a directory, makes both where they are missing, and brings an older schema up to date.
    ///
    /// Connections that were bound when the last process ended are forgotten: their users were last seen `now`.
    /// It blocks: call it before the process serves anybody.
    ///
    /// # Errors
    /// [`OpenError`], which says what to do. The data is as it was.
    pub fn open(directory: &Path, now: Timestamp) -> Result<Self, OpenError> {
        Self::open_with(directory, now, open::SCHEMA, Retention::DEFAULT)
    }

    fn open_with(directory: &Path, now: Timestamp, schema: &[M<'_>], retention: Retention) -> Result<Self, OpenError> {
        let open::Opened { lock, writer, readers, newest } = open::open(directory, now, schema)?;
        let metrics = StoreMetrics::new();
        let group = |connections| Readers::new(connections, metrics.clone());
        let (lookups, lists) = (group(readers.lookups), group(readers.lists));
        let (journal_writer, journal) = JournalWriter::new(newest.position, group(readers.journal));
        let parts = WriterParts { connection: writer, lock, newest, journal: journal_writer, retention, metrics };
        let writer = Writer::spawn(parts).map_err(OpenError::Thread)?;
        Ok(Self { writer, lookups, lists, journal })
    }

    /// The events of everything written here.
    pub fn journal(&self) -> Journal {
        self.journal.clone()
    }

    /// Resolves when the database failed at a commit, so that nobody knows what the disk holds: then the process
    /// should stop with a failing exit code. All writes are refused from then on.
    pub fn failed(&self) -> impl Future<Output = ()> + Send + 'static + use<> {
        self.writer.failed()
    }

    /// Takes no more writes, finishes those that wait, and closes the database.
    pub async fn close(&self) {
        self.writer.close().await;
    }

    /// Queues a write before it returns; `attempted` completes "failed to".
    fn write<T: Send + 'static>(
        &self,
        attempted: &'static str,
        work: impl FnOnce(&Connection) -> Result<T, StatementError> + Send + 'static,
    ) -> BoxFuture<'static, Result<T, StoreError>> {
        self.writer.write(attempted, work).instrument(span(attempted)).boxed()
    }
}
