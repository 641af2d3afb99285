//! What the store measures of the database. The handles are kept, since looking one up costs more than using it.

use std::time::Instant;

use metrics::{Counter, Gauge, Histogram, counter, gauge, histogram};

/// The metrics of one statement.
pub(super) struct StatementMetrics {
    requests: Counter,
    failures: Counter,
    seconds: Histogram,
}

impl StatementMetrics {
    /// Handles at the recorder that is installed now.
    pub(super) fn new(statement: &'static str) -> Self {
        Self {
            requests: counter!("core_cql_requests_total", "statement" => statement),
            failures: counter!("core_cql_failures_total", "statement" => statement),
            seconds: histogram!("core_cql_request_seconds", "statement" => statement),
        }
    }

    /// A request that began at `started` has ended.
    pub(super) fn answered(&self, started: Instant, is_ok: bool) {
        self.requests.increment(1);
        if !is_ok {
            self.failures.increment(1);
        }
        self.seconds.record(started.elapsed());
    }
}

/// By how many seconds the database's clock is ahead of this machine's.
pub(super) fn clock_skew(seconds: f64) {
    let skew: Gauge = gauge!("core_cql_clock_skew_seconds");
    skew.set(seconds);
}
