//! One trace from a frame to the store and back, at an OTLP collector.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use e2e::TestStack;
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{TraceService, TraceServiceServer};
use opentelemetry_proto::tonic::collector::trace::v1::{ExportTraceServiceRequest, ExportTraceServiceResponse};
use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status};

use crate::team::Pair;

/// Keeps every span it is sent.
#[derive(Clone, Default)]
struct Collector {
    spans: Arc<Mutex<Vec<Span>>>,
}

#[tonic::async_trait]
impl TraceService for Collector {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        let spans = request.into_inner().resource_spans.into_iter();
        let spans = spans.flat_map(|resource| resource.scope_spans).flat_map(|scope| scope.spans);
        self.spans.lock().unwrap().extend(spans);
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

impl Collector {
    /// Listens until the test ends.
    #[expect(clippy::disallowed_methods, reason = "the test's runtime ends it")]
    fn listen(&self) -> SocketAddr {
        let incoming = TcpIncoming::bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = incoming.local_addr().unwrap();
        let service = TraceServiceServer::new(self.clone());
        tokio::spawn(tonic::transport::Server::builder().add_service(service).serve_with_incoming(incoming));
        address
    }

    fn spans(&self) -> Vec<Span> {
        self.spans.lock().unwrap().clone()
    }
}

fn parent<'a>(spans: &'a [Span], child: &Span) -> Option<&'a Span> {
    spans.iter().find(|span| span.trace_id == child.trace_id && span.span_id == child.parent_span_id)
}

#[tokio::test]
async fn a_packet_is_one_trace_from_the_gateway_to_the_store_and_to_delivery() {
    let collector = Collector::default();
    let endpoint = format!("http://{}", collector.listen());
    let stack = TestStack::builder()
        .environment("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint)
        .environment("GATEWAY_TRACE_RATIO", "1")
        .start()
        .await;
    let Pair { mut ann, mut bob, cid, .. } = Pair::of(stack.new_organization().await).await;
    ann.send_message(&cid, "traced").await;
    bob.expect_message("traced").await;
    // Stopping sends what is still held back.
    assert_eq!(stack.terminate().await.0.code(), Some(0));

    let spans = collector.spans();
    let sends: Vec<_> = spans.iter().filter(|span| span.name == "Messaging/Send").collect();
    let [core] = sends[..] else { panic!("one send in core, not {sends:?}") };
    assert_eq!(core.kind(), SpanKind::Server);
    let mut root = core;
    while let Some(above) = parent(&spans, root) {
        root = above;
    }
    assert!(root.parent_span_id.is_empty() && root.name == "message", "{root:?}");
    let stores: Vec<_> = spans
        .iter()
        .filter(|span| span.name == "store" && parent(&spans, span).is_some_and(|above| above == core))
        .collect();
    assert!(!stores.is_empty(), "no span of the store below {core:?} in {spans:#?}");
    let deliveries = spans.iter().filter(|span| span.name == "deliver" && span.trace_id == root.trace_id);
    assert_eq!(deliveries.count(), 1, "{spans:#?}");
    for span in stores {
        assert!(span.start_time_unix_nano >= root.start_time_unix_nano, "{span:?}");
        assert!(span.end_time_unix_nano <= root.end_time_unix_nano, "{span:?}");
    }
    for span in &spans {
        assert!(span.parent_span_id.is_empty() || parent(&spans, span).is_some(), "an orphan: {span:?}");
        assert!(!format!("{span:?}").contains("traced"), "a body in {span:?}");
    }
}

#[tokio::test]
async fn nothing_is_traced_at_ratio_zero() {
    let collector = Collector::default();
    let endpoint = format!("http://{}", collector.listen());
    let stack = TestStack::builder()
        .environment("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint)
        .environment("GATEWAY_TRACE_RATIO", "0")
        .start()
        .await;
    let Pair { mut ann, cid, .. } = Pair::of(stack.new_organization().await).await;
    ann.send_message(&cid, "untraced").await;
    stack.terminate().await;
    assert_eq!(collector.spans(), []);
}
