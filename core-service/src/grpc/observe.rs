//! What is measured and traced of every call.

use std::time::Instant;

use axum::extract::Request;
use axum::middleware::Next;
use axum::response::Response;
use tonic::metadata::MetadataMap;
use tracing::Instrument;

use crate::metrics;

/// Counts and times a call, and joins the caller's trace if it has a sampled one.
pub async fn observe(request: Request, next: Next) -> Response {
    let path = request.uri().path();
    let method = path.rsplit_once('/').map_or(path, |(_, method)| method).to_owned();
    let span = if request.headers().contains_key("traceparent") {
        proto::trace::server_span(&MetadataMap::from_headers(request.headers().clone()), &method)
    } else {
        tracing::Span::none()
    };
    let started_at = Instant::now();
    let response = next.run(request).instrument(span).await;
    // A failed unary call has its status in the headers, a good one in the trailers.
    let status = response.headers().get("grpc-status").and_then(|status| status.to_str().ok()).unwrap_or("0");
    metrics::call_answered(&method, status, started_at.elapsed());
    response
}
