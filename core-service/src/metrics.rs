//! What core measures of its calls; the store measures itself.

use std::time::Duration;

use metrics::{counter, histogram};

/// The gRPC status of a method that does not exist.
const UNIMPLEMENTED: &str = "12";

/// A gRPC call was answered with this gRPC status code.
pub(crate) fn call_answered(method: &str, status: &str, took: Duration) {
    // A caller may name any method; those that do not exist share one label.
    let method = if status == UNIMPLEMENTED { "unknown" } else { method };
    counter!("core_calls_total", "method" => method.to_owned(), "status" => status.to_owned()).increment(1);
    histogram!("core_call_seconds", "method" => method.to_owned()).record(took.as_secs_f64());
}
