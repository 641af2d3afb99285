//! The trace context on its way through gRPC metadata and NATS headers, in W3C's `traceparent` form.
//!
//! Only a sampled trace travels. Whoever receives none makes no spans, since a span costs over a microsecond even
//! when it is thrown away.

use std::collections::HashMap;

use opentelemetry::propagation::{Extractor, Injector, TextMapPropagator};
use opentelemetry::trace::TraceContextExt;
use tonic::metadata::{MetadataKey, MetadataMap, MetadataValue};
use tracing_opentelemetry::OpenTelemetrySpanExt;

/// The name under which a trace context travels.
pub const TRACEPARENT: &str = "traceparent";

/// Puts the current span's context into the metadata, if it is part of a sampled trace.
pub fn inject(metadata: &mut MetadataMap) {
    let context = tracing::Span::current().context();
    if context.span().span_context().is_sampled() {
        propagator().inject_context(&context, &mut MetadataCarrier(metadata));
    }
}

/// A span with this name below the metadata's trace, or none when there is no sampled trace.
pub fn server_span(metadata: &MetadataMap, method: &str) -> tracing::Span {
    if !metadata.contains_key(TRACEPARENT) {
        return tracing::Span::none();
    }
    let context = propagator().extract(&MetadataReader(metadata));
    let span = tracing::info_span!("core", otel.name = method, otel.kind = "server");
    // Fails only where no trace is exported; then there is nothing to join.
    let _ = span.set_parent(context);
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

/// A span with this name below the trace that an event came with, or none when it came with none.
pub fn event_span(traceparent: Option<&str>, name: &str) -> tracing::Span {
    let Some(traceparent) = traceparent else { return tracing::Span::none() };
    let headers = HashMap::from([(TRACEPARENT.to_owned(), traceparent.to_owned())]);
    let span = tracing::info_span!("event", otel.name = name, otel.kind = "consumer");
    // Fails only where no trace is exported; then there is nothing to join.
    let _ = span.set_parent(propagator().extract(&headers));
    span
}

fn propagator() -> impl TextMapPropagator {
    opentelemetry_sdk::propagation::TraceContextPropagator::new()
}

struct MetadataCarrier<'a>(&'a mut MetadataMap);

impl Injector for MetadataCarrier<'_> {
    fn set(&mut self, key: &str, value: String) {
        if let (Ok(key), Ok(value)) = (MetadataKey::from_bytes(key.as_bytes()), MetadataValue::try_from(value)) {
            self.0.insert(key, value);
        }
    }
}

struct MetadataReader<'a>(&'a MetadataMap);

impl Extractor for MetadataReader<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key)?.to_str().ok()
    }

    fn keys(&self) -> Vec<&str> {
        self.0
            .keys()
            .filter_map(|key| match key {
                tonic::metadata::KeyRef::Ascii(key) => Some(key.as_str()),
                tonic::metadata::KeyRef::Binary(_) => None,
            })
            .collect()
    }
}
