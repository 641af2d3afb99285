//! What is measured of events on their way out. The handles are kept, since looking one up costs more than using it.

use std::time::Duration;

use metrics::{Counter, Gauge, Histogram, counter, gauge, histogram};

/// The publisher's metrics.
pub(super) struct PublishMetrics {
    acknowledged: Counter,
    acknowledgement_seconds: Histogram,
    unacknowledged: Counter,
    found: Counter,
    kept: Counter,
    not_kept: Counter,
    refused: Counter,
    waiting_events: Gauge,
    waiting_bytes: Gauge,
    stream_open: Gauge,
    clock_skew_seconds: Gauge,
}

impl PublishMetrics {
    /// Handles at the recorder that is installed now.
    pub(super) fn new() -> Self {
        Self {
            acknowledged: counter!("core_events_published_total"),
            acknowledgement_seconds: histogram!("core_event_acknowledgement_seconds"),
            unacknowledged: counter!("core_events_unacknowledged_total"),
            found: counter!("core_events_found_in_stream_total"),
            kept: counter!("core_outbox_events_total"),
            not_kept: counter!("core_outbox_failures_total"),
            refused: counter!("core_events_refused_total"),
            waiting_events: gauge!("core_unpublished_events"),
            waiting_bytes: gauge!("core_unpublished_bytes"),
            stream_open: gauge!("core_stream_open"),
            clock_skew_seconds: gauge!("core_nats_clock_skew_seconds"),
        }
    }

    /// The stream has an event, so long after it was sent.
    pub(super) fn acknowledged(&self, took: Duration) {
        self.acknowledged.increment(1);
        self.acknowledgement_seconds.record(took.as_secs_f64());
    }

    /// An event was sent and not acknowledged.
    pub(super) fn unacknowledged(&self) {
        self.unacknowledged.increment(1);
    }

    /// An event was looked for in the stream, and is there.
    pub(super) fn found(&self) {
        self.found.increment(1);
    }

    /// The outbox has an event, or failed to take it.
    pub(super) fn kept(&self, is_kept: bool) {
        if is_kept { self.kept.increment(1) } else { self.not_kept.increment(1) }
    }

    /// An event was refused, since too much waits.
    pub(super) fn refused(&self) {
        self.refused.increment(1);
    }

    /// So much waits for the stream.
    pub(super) fn waiting(&self, events: usize, bytes: usize) {
        self.waiting_events.set(events as f64);
        self.waiting_bytes.set(bytes as f64);
    }

    /// Whether events go to the stream at the moment.
    pub(super) fn stream_open(&self, is_open: bool) {
        self.stream_open.set(if is_open { 1.0 } else { 0.0 });
    }

    /// How much the clock of NATS is ahead of ours.
    pub(super) fn clock_skew(&self, millis: i64) {
        self.clock_skew_seconds.set(millis as f64 / 1000.0);
    }
}
