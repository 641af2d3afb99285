//! Spans of our crates leave over OTLP, under the service's name, and the last of them at the flush. Spans of others
//! stay.

use std::time::Duration;

use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{TraceService, TraceServiceServer};
use opentelemetry_proto::tonic::collector::trace::v1::{ExportTraceServiceRequest, ExportTraceServiceResponse};
use runtime::telemetry::{LogFormat, Telemetry, TelemetryConfig};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status};

struct Collector(mpsc::UnboundedSender<ExportTraceServiceRequest>);

#[tonic::async_trait]
impl TraceService for Collector {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        let _ = self.0.send(request.into_inner());
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn our_spans_are_exported_when_the_process_ends() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let (sender, mut exports) = mpsc::unbounded_channel();
    let mut tasks = JoinSet::new();
    tasks.spawn(
        tonic::transport::Server::builder()
            .add_service(TraceServiceServer::new(Collector(sender)))
            .serve_with_incoming(TcpListenerStream::new(listener)),
    );
    let config = TelemetryConfig { log: "info".to_owned(), log_format: LogFormat::Json, otlp_endpoint: Some(endpoint) };
    let telemetry = Telemetry::start("test-service", &config).unwrap();

    tracing::info_span!(target: "gateway::connection", "frame").in_scope(|| {
        tracing::info_span!(target: "core_service::store", "commit").in_scope(|| {});
        tracing::info_span!(target: "some_library", "internals").in_scope(|| {});
    });
    tokio::task::spawn_blocking(|| telemetry.flush()).await.unwrap();

    let export = tokio::time::timeout(Duration::from_secs(10), exports.recv()).await.unwrap().unwrap();
    let resource = export.resource_spans[0].resource.as_ref().unwrap();
    assert!(resource.attributes.iter().any(|attribute| format!("{attribute:?}").contains("test-service")));
    let spans: Vec<_> = export.resource_spans.iter().flat_map(|r| &r.scope_spans).flat_map(|s| &s.spans).collect();
    let names: Vec<_> = spans.iter().map(|span| span.name.as_str()).collect();
    assert_eq!(names, ["commit", "frame"]);
    assert_eq!(spans[0].parent_span_id, spans[1].span_id, "the store's span is the frame's child");
}
