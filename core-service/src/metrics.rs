//! What core measures of its calls; the store measures itself.

use std::time::Duration;

use metrics::{counter, histogram};

/// A gRPC call was answered with this gRPC status code.
pub(crate) fn call_answered(method: &str, status: &str, took: Duration) {
    // Both are from closed sets: a method that does not exist never gets here with a status of its own.
    counter!("core_calls_total", "method" => method.to_owned(), "status" => status.to_owned()).increment(1);
    histogram!("core_call_seconds", "method" => method.to_owned()).record(took.as_secs_f64());
}
