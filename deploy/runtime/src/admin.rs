//! The admin listener: what an operator's tools ask a process. Not for clients; it belongs on a private address.
//!
//! `GET /metrics` for Prometheus, `GET /live` (the process answers at all) and `GET /ready` (it takes work; 503 with
//! the reason in the body when it does not). It is served to the very end of a stop, so that a probe can tell
//! "stopping" from "gone".

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::routing::get;
use http::{StatusCode, header};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::shutdown::Shutdown;
use crate::telemetry::Metrics;

/// How often histograms are folded into their buckets.
const UPKEEP_INTERVAL: Duration = Duration::from_secs(5);

/// Says whether the process takes work, and if not, why, in a few words for the operator.
pub type Readiness = Arc<dyn Fn() -> Result<(), &'static str> + Send + Sync>;

/// The admin listener of one process, bound and not yet served.
pub struct Admin {
    listener: TcpListener,
    local_address: SocketAddr,
    metrics: Metrics,
    readiness: Readiness,
}

impl Admin {
    /// Opens the port. Port 0 takes a free one; [`Admin::local_address`] tells which.
    pub async fn bind(address: SocketAddr, metrics: Metrics, readiness: Readiness) -> std::io::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        let local_address = listener.local_addr()?;
        Ok(Self { listener, local_address, metrics, readiness })
    }

    /// The address it listens on.
    pub fn local_address(&self) -> SocketAddr {
        self.local_address
    }

    /// Serves to the very end of this stop.
    pub fn spawn(self, shutdown: &Shutdown) {
        let stop = shutdown.hard();
        shutdown.spawn_attendant("admin", async move { Ok(self.run(stop).await?) });
    }

    /// Answers until the token is cancelled. An answer under way is cut off then.
    pub async fn run(self, stop: CancellationToken) -> std::io::Result<()> {
        let metrics = self.metrics.clone();
        let router = Router::new()
            .route("/metrics", get(render_metrics))
            .with_state(self.metrics)
            .route("/live", get(async || "alive\n"))
            .route("/ready", get(answer_ready).with_state(self.readiness));
        tokio::select! {
            served = axum::serve(self.listener, router).into_future() => served,
            () = keep_metrics_small(metrics) => Ok(()),
            () = stop.cancelled() => Ok(()),
        }
    }
}

async fn render_metrics(State(metrics): State<Metrics>) -> ([(header::HeaderName, &'static str); 1], String) {
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], metrics.render())
}

async fn answer_ready(State(readiness): State<Readiness>) -> (StatusCode, String) {
    match readiness() {
        Ok(()) => (StatusCode::OK, "ready\n".to_owned()),
        Err(reason) => (StatusCode::SERVICE_UNAVAILABLE, format!("{reason}\n")),
    }
}

async fn keep_metrics_small(metrics: Metrics) {
    let mut interval = tokio::time::interval(UPKEEP_INTERVAL);
    loop {
        interval.tick().await;
        metrics.run_upkeep();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpStream;
    use tokio::task::JoinSet;

    use super::*;

    async fn ask(address: SocketAddr, path: &str) -> String {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nHost: admin\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    #[tokio::test]
    async fn says_alive_ready_and_what_was_measured_until_it_is_stopped() {
        let up = Arc::new(AtomicBool::new(false));
        let readiness: Readiness = {
            let up = up.clone();
            Arc::new(move || if up.load(Ordering::Relaxed) { Ok(()) } else { Err("starting") })
        };
        let metrics = Metrics::install().unwrap();
        metrics::counter!("test_admin_total").increment(3);
        let admin = Admin::bind("127.0.0.1:0".parse().unwrap(), metrics, readiness).await.unwrap();
        let address = admin.local_address();
        let stop = CancellationToken::new();
        let mut tasks = JoinSet::new();
        tasks.spawn(admin.run(stop.clone()));

        assert!(ask(address, "/live").await.starts_with("HTTP/1.1 200"));
        let not_ready = ask(address, "/ready").await;
        assert!(not_ready.starts_with("HTTP/1.1 503") && not_ready.ends_with("starting\n"), "{not_ready}");
        up.store(true, Ordering::Relaxed);
        assert!(ask(address, "/ready").await.starts_with("HTTP/1.1 200"));
        assert!(ask(address, "/metrics").await.contains("test_admin_total 3"));
        assert!(ask(address, "/elsewhere").await.starts_with("HTTP/1.1 404"));

        stop.cancel();
        tasks.join_next().await.unwrap().unwrap().unwrap();
        assert!(TcpStream::connect(address).await.is_err(), "the port is still open");
    }
}
