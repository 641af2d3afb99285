//! What the embedded store measures. The handles are kept, since looking one up costs more than using it.

use std::time::Instant;

use metrics::{Gauge, Histogram, gauge, histogram};

/// The store's metrics.
#[derive(Clone)]
pub(super) struct StoreMetrics {
    writes_per_commit: Histogram,
    commit_seconds: Histogram,
    write_queue_length: Gauge,
    read_seconds: Histogram,
}

impl StoreMetrics {
    /// Handles at the recorder that is installed now.
    pub(super) fn new() -> Self {
        Self {
            writes_per_commit: histogram!("core_store_writes_per_commit"),
            commit_seconds: histogram!("core_store_commit_seconds"),
            write_queue_length: gauge!("core_store_write_queue_length"),
            read_seconds: histogram!("core_store_read_seconds"),
        }
    }

    /// A commit of so many writes that began at `started`.
    pub(super) fn committed(&self, writes: usize, started: Instant) {
        self.writes_per_commit.record(writes as f64);
        self.commit_seconds.record(started.elapsed());
    }

    /// So many writes wait.
    pub(super) fn waiting(&self, writes: usize) {
        self.write_queue_length.set(writes as f64);
    }

    /// A read that began, before it waited for its connection, at `started`.
    pub(super) fn read(&self, started: Instant) {
        self.read_seconds.record(started.elapsed());
    }
}
