//! What is measured and traced of every call.

use std::panic::AssertUnwindSafe;
use std::time::Instant;

use axum::extract::Request;
use axum::middleware::Next;
use axum::response::Response;
use futures_util::FutureExt;
use proto::reason::{Failure, Reason};
use proto::trace::TRACEPARENT;
use tonic::Status;
use tracing::Instrument;

use crate::metrics;

/// Counts and times a call, and joins the caller's trace if it has a sampled one. A panic fails this one call.
pub async fn observe(request: Request, next: Next) -> Response {
    // `/chat.v1.Messaging/Send` is `Messaging/Send`.
    let path = request.uri().path();
    let method = path.rsplit_once('.').map_or(path, |(_, method)| method).to_owned();
    let traceparent = request.headers().get(TRACEPARENT).and_then(|value| value.to_str().ok());
    let span = proto::trace::server_span(traceparent, &method);
    let started_at = Instant::now();
    let answered = AssertUnwindSafe(next.run(request).instrument(span)).catch_unwind().await;
    let response = answered.unwrap_or_else(|_| {
        // The panic hook has told where.
        tracing::error!(method, "a call panicked and was answered with internal_error");
        Status::from(Failure::from(Reason::InternalError)).into_http()
    });
    // A failed unary call has its status in the headers, a good one in the trailers.
    let status = response.headers().get("grpc-status").and_then(|status| status.to_str().ok()).unwrap_or("0");
    metrics::call_answered(&method, status, started_at.elapsed());
    response
}
