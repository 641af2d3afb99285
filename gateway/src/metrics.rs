//! What the gateway measures: one function per thing, named so that the call reads as a sentence.
//!
//! Handles are looked up once: a look-up costs more than counting. So the recorder has to be installed before the first
//! of these calls.

use std::sync::LazyLock;
use std::time::Duration;

use ::metrics::{Counter, Gauge, Histogram, counter, gauge, histogram};
use proto::reason::Reason;

use crate::packet::client::RequestName;

macro_rules! handles {
    ($($name:ident: $kind:ty = $metric:expr;)*) => {
        $(static $name: LazyLock<$kind> = LazyLock::new(|| $metric);)*
    };
}

handles! {
    CONNECTIONS: Gauge = gauge!("gateway_connections");
    BOUND: Gauge = gauge!("gateway_bound_connections");
    FRAMES: Counter = counter!("gateway_frames_received_total");
    EVENTS: Counter = counter!("gateway_events_read_total");
    PUSHED: Counter = counter!("gateway_events_delivered_total");
    NOTICES: Counter = counter!("gateway_notices_read_total");
    OVERFLOWS: Counter = counter!("gateway_send_queue_overflows_total");
    HISTORY_LOST: Counter = counter!("gateway_history_lost_total");
    SOURCE_FAILURES: Counter = counter!("gateway_event_source_failures_total");
    HEALTHY_CORES: Gauge = gauge!("gateway_healthy_cores");
    EVENTS_PENDING: Gauge = gauge!("gateway_events_pending");
    ACCEPT_FAILURES: Counter = counter!("gateway_accept_failures_total");
    REFUSALS: Counter = counter!("gateway_connections_refused_total");
    REQUEST_SECONDS: Histogram = histogram!("gateway_request_duration_seconds");
    SUCCESSES: Vec<Counter> = RequestName::ALL.iter().map(|name| requests(*name, "ok")).collect();
    RESENDS: Counter = counter!("gateway_resent_messages_total");
}

/// A socket was opened.
pub(crate) fn connection_opened() {
    CONNECTIONS.increment(1.0);
}

/// A socket ended, for this reason.
pub(crate) fn connection_closed(reason: &'static str) {
    CONNECTIONS.decrement(1.0);
    counter!("gateway_connections_closed_total", "reason" => reason).increment(1);
}

/// A socket was bound to a session.
pub(crate) fn connection_bound() {
    BOUND.increment(1.0);
}

/// A socket lost its session.
pub(crate) fn connection_unbound() {
    BOUND.decrement(1.0);
}

/// A frame came from a client, control frames included.
pub(crate) fn frame_received() {
    FRAMES.increment(1);
}

/// A request was answered after this time, with success or for this reason not.
pub(crate) fn request_answered(name: RequestName, failure: Option<Reason>, took: Duration) {
    match failure {
        None => SUCCESSES[name as usize].increment(1),
        // Rare enough to be looked up.
        Some(reason) => requests(name, reason.code()).increment(1),
    }
    REQUEST_SECONDS.record(took.as_secs_f64());
}

fn requests(name: RequestName, outcome: &'static str) -> Counter {
    counter!("gateway_requests_total", "request" => name.as_str(), "outcome" => outcome)
}

/// An event was read from the source.
pub(crate) fn event_read() {
    EVENTS.increment(1);
}

/// So many sockets got a packet.
pub(crate) fn packet_delivered(sockets: u64) {
    PUSHED.increment(sockets);
}

/// A notice was read from the source.
pub(crate) fn notice_read() {
    NOTICES.increment(1);
}

/// A socket's send queue was full.
pub(crate) fn send_queue_overflowed() {
    OVERFLOWS.increment(1);
}

/// Events may be missing: every socket is closed.
pub(crate) fn history_lost() {
    HISTORY_LOST.increment(1);
}

/// The event source failed and is asked again.
pub(crate) fn event_source_failed() {
    SOURCE_FAILURES.increment(1);
}

/// So many events of the stream are still to be read.
pub(crate) fn events_pending(count: u64) {
    EVENTS_PENDING.set(count as f64);
}

/// The stream is read with a new consumer, for this reason.
pub(crate) fn event_consumer_renewed(reason: &'static str) {
    counter!("gateway_event_consumers_renewed_total", "reason" => reason).increment(1);
}

/// A connection could not be accepted.
pub(crate) fn accept_failed() {
    ACCEPT_FAILURES.increment(1);
}

/// A connection was closed at once, since its address has too many.
pub(crate) fn connection_refused() {
    REFUSALS.increment(1);
}

/// A call to the core failed on its way, or got no answer in time.
pub(crate) fn core_call_failed(call: &'static str) {
    counter!("gateway_core_call_failures_total", "call" => call).increment(1);
}

/// A call to the core is made once more.
pub(crate) fn core_call_repeated(call: &'static str) {
    counter!("gateway_core_calls_repeated_total", "call" => call).increment(1);
}

/// So many core services answer.
pub(crate) fn healthy_cores(count: usize) {
    HEALTHY_CORES.set(count as f64);
}

/// A message came again on its socket, after a failure that left its fate open.
pub(crate) fn message_resent() {
    RESENDS.increment(1);
}
