//! Connections that only read, next to the one that writes.
//!
//! They stand in groups, so that slow reads of one kind keep nobody waiting who needs another: the journal's, through
//! which every event leaves; those for short lookups, on which each request depends; those for lists.

use std::sync::Arc;
use std::time::Instant;

use deadpool::unmanaged::Pool;
use rusqlite::Connection;
use tracing::Instrument;

use super::metrics::StoreMetrics;
use super::row::StatementError;
use crate::store::StoreError;

/// A group of connections, each used by one read at a time.
#[derive(Clone)]
pub(super) struct Readers {
    pool: Pool<Connection>,
    metrics: StoreMetrics,
}

impl Readers {
    pub(super) fn new(connections: Vec<Connection>, metrics: StoreMetrics) -> Self {
        Self { pool: Pool::from(connections), metrics }
    }

    /// Does `work` on one state of the database, away from the async threads; `attempted` completes "failed to".
    ///
    /// The read transaction lasts as long as `work`, and while it lasts the write-ahead log cannot be used from its
    /// beginning again: so one page at most.
    pub(super) async fn read<T: Send + 'static>(
        &self,
        attempted: &'static str,
        work: impl FnOnce(&Connection) -> Result<T, StatementError> + Send + 'static,
    ) -> Result<T, StoreError> {
        self.read_now(attempted, work).instrument(super::span(attempted)).await
    }

    async fn read_now<T: Send + 'static>(
        &self,
        attempted: &'static str,
        work: impl FnOnce(&Connection) -> Result<T, StatementError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let started = Instant::now();
        let mut connection =
            self.pool.get().await.map_err(|error| StoreError::Unavailable { attempted, source: Arc::new(error) })?;
        let done = tokio::task::spawn_blocking(move || work(&*connection.transaction()?)).await;
        self.metrics.read(started);
        done.map_err(|error| StoreError::Unavailable { attempted, source: Arc::new(error) })?
            .map_err(|error| error.attempting(attempted))
    }
}
