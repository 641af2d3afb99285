//! The trace context on its way through gRPC metadata and in messages, in W3C's `traceparent` form.
//!
//! Only a sampled trace travels. Whoever receives none makes no spans, since a span costs over a microsecond even
//! when it is thrown away.

use std::collections::HashMap;

use opentelemetry::propagation::TextMapPropagator;
use opentelemetry::trace::TraceContextExt;
use tonic::metadata::MetadataMap;
use tracing_opentelemetry::OpenTelemetrySpanExt;

/// The name under which a trace context travels.
pub const TRACEPARENT: &str = "traceparent";

/// Puts the current span's context into the metadata, if it is part of a sampled trace.
pub fn inject(metadata: &mut MetadataMap) {
    if let Some(value) = traceparent().and_then(|traceparent| traceparent.parse().ok()) {
        metadata.insert(TRACEPARENT, value);
    }
}

/// The span of a call below the trace that came with it, or none when it came with none.
pub fn server_span(traceparent: Option<&str>, method: &str) -> tracing::Span {
    below(traceparent, || tracing::info_span!("core", otel.name = method, otel.kind = "server"))
}

/// The span of an event's delivery below the trace that came with it, or none when it came with none.
pub fn event_span(traceparent: Option<&str>, name: &str) -> tracing::Span {
    below(traceparent, || tracing::info_span!("event", otel.name = name, otel.kind = "consumer"))
}

fn below(traceparent: Option<&str>, span: impl FnOnce() -> tracing::Span) -> tracing::Span {
    let Some(traceparent) = traceparent else { return tracing::Span::none() };
    let headers = HashMap::from([(TRACEPARENT.to_owned(), traceparent.to_owned())]);
    let span = span();
    // Fails only where no trace is exported; then there is nothing to join.
    let _ = span.set_parent(propagator().extract(&headers));
    span
}

/// The current span's context as the value of [`TRACEPARENT`], if it is part of a sampled trace.
pub fn traceparent() -> Option<String> {
    let context = tracing::Span::current().context();
    if !context.span().span_context().is_sampled() {
        return None;
    }
    let mut headers = HashMap::new();
    propagator().inject_context(&context, &mut headers);
    headers.remove(TRACEPARENT)
}

fn propagator() -> impl TextMapPropagator {
    opentelemetry_sdk::propagation::TraceContextPropagator::new()
}
