//! What core measures of its calls; the store measures itself.

use std::time::Duration;

use metrics::{Counter, Histogram, counter, histogram};
use tonic::Code;

/// The gRPC status of a method that does not exist.
const UNIMPLEMENTED: &str = "12";

/// A gRPC call was answered with this gRPC status code.
pub(crate) fn call_answered(method: &str, status: &str, took: Duration) {
    // A caller may name any method; those that do not exist share one label.
    let method = if status == UNIMPLEMENTED { "unknown" } else { method };
    calls(method, status).increment(1);
    seconds(method).record(took.as_secs_f64());
}

/// The metrics of one method at hand, for one that is called all the time.
#[derive(Clone)]
pub(crate) struct MethodMetrics {
    method: &'static str,
    succeeded: Counter,
    seconds: Histogram,
}

impl MethodMetrics {
    /// Those of this method.
    pub(crate) fn of(method: &'static str) -> Self {
        Self { method, succeeded: calls(method, "0"), seconds: seconds(method) }
    }

    /// A call was answered.
    pub(crate) fn answered(&self, code: Code, took: Duration) {
        match code {
            Code::Ok => self.succeeded.increment(1),
            failed => calls(self.method, &i32::from(failed).to_string()).increment(1),
        }
        self.seconds.record(took.as_secs_f64());
    }
}

fn calls(method: &str, status: &str) -> Counter {
    counter!("core_calls_total", "method" => method.to_owned(), "status" => status.to_owned())
}

fn seconds(method: &str) -> Histogram {
    histogram!("core_call_seconds", "method" => method.to_owned())
}
