//! The listener and the gateway's life: bind, accept, stop.
//!
//! Each accepted connection holds a permit and runs in a tracked task: first HTTP, then, after an upgrade, a WebSocket
//! (`handshake`). Stopping is asked for twice: softly, and the gateway stops accepting and lets every connection finish;
//! hard, and what is left is dropped.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use proto::ids::{ConnectionId, IdGenerator, Timestamp};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{info, warn};

use crate::address::is_trusted;
use crate::config::{GatewayConfig, GatewayConfigError};
use crate::connection::room::MessageRoom;
use crate::core_client::CoreClient;
use crate::delivery::Delivery;
use crate::events::EventSource;
use crate::handshake::{self, Front};
use crate::http::{HttpState, router};
use crate::limits::{Limits, Place};
use crate::metrics;
use crate::readiness::Readiness;
use crate::registry::Registry;
use crate::session::Services;

/// What large inbound messages of all sockets may fill together, in bytes.
const MESSAGE_ROOM: usize = 256 * 1024 * 1024;
/// What large replies of all sockets may fill together, in bytes.
const REPLY_ROOM: usize = 512 * 1024 * 1024;
/// How long to wait when a connection could not be accepted, which mostly is for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// How long connections may take to end once they are told to drop everything.
const DROP_PATIENCE: Duration = Duration::from_secs(1);

/// What a gateway needs from outside.
pub struct Dependencies {
    /// The core.
    pub core: CoreClient,
    /// Where events come from.
    pub events: Arc<dyn EventSource>,
}

/// Why a gateway does not start, or stops before it is asked to.
#[derive(Debug, thiserror::Error)]
pub enum GatewayError {
    /// The settings do not go together.
    #[error(transparent)]
    Config(#[from] GatewayConfigError),
    /// The listener could not be opened.
    #[error("could not listen on {address}")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The task that delivers events ended.
    #[error("delivery of events stopped")]
    DeliveryStopped(#[source] tokio::task::JoinError),
}

/// A gateway that listens.
pub struct Gateway {
    listener: TcpListener,
    local_address: SocketAddr,
    config: Arc<GatewayConfig>,
    dependencies: Dependencies,
    readiness: Readiness,
}

impl Gateway {
    /// Checks the settings and opens the listener. Port 0 takes any free port.
    ///
    /// # Errors
    /// [`GatewayError`] for bad settings, or an address that cannot be listened on.
    pub async fn bind(config: GatewayConfig, dependencies: Dependencies) -> Result<Self, GatewayError> {
        config.validate()?;
        let address = config.listen()?;
        let failed = |source| GatewayError::Listen { address, source };
        let listener = TcpListener::bind(address).await.map_err(failed)?;
        let local_address = listener.local_addr().map_err(failed)?;
        Ok(Self { listener, local_address, config: Arc::new(config), dependencies, readiness: Readiness::default() })
    }

    /// Where clients connect.
    pub fn local_address(&self) -> SocketAddr {
        self.local_address
    }

    /// For the readiness probe of whoever runs the gateway.
    pub fn readiness(&self) -> Readiness {
        self.readiness.clone()
    }

    /// Serves as soon as its place in the events is known; connections wait until then. Serves until `soft` is cancelled and every connection has finished, or `hard` is cancelled.
    ///
    /// # Errors
    /// [`GatewayError::DeliveryStopped`] when events are no longer delivered; the sockets are closed then.
    pub async fn run(self, soft: CancellationToken, hard: CancellationToken) -> Result<(), GatewayError> {
        let tracker = TaskTracker::new();
        let registry = Arc::new(Registry::new());
        let limits = Arc::new(Limits::new(self.config.user_create_per_minute));
        let delivery = Delivery {
            source: self.dependencies.events,
            registry: Arc::clone(&registry),
            readiness: self.readiness.clone(),
            tracker: tracker.clone(),
        };
        let front = Arc::new(Front {
            router: router(HttpState {
                core: self.dependencies.core.clone(),
                config: Arc::clone(&self.config),
                limits: Arc::clone(&limits),
            }),
            services: Arc::new(Services {
                core: self.dependencies.core,
                registry: Arc::clone(&registry),
                limits,
                reply_room: Arc::new(Semaphore::new(REPLY_ROOM)),
                trace_ratio: self.config.gateway_trace_ratio,
            }),
            connection_ids: ConnectionIds::new(),
            message_room: Arc::new(MessageRoom::new(MESSAGE_ROOM)),
            trusted_proxies: self.config.trusted_proxies.0.clone(),
            stopping: soft.clone(),
            tracker: tracker.clone(),
        });
        let mut accepting = Acceptor {
            listener: self.listener,
            permits: Arc::new(Semaphore::new(self.config.gateway_max_connections as usize)),
        };
        // Ends with this function, whatever ends it.
        let mut delivering = JoinSet::new();
        delivering.spawn(delivery.run());

        info!(address = %self.local_address, "gateway listens");
        let started = self.readiness.clone();
        // A socket that is bound before the position is known would miss events in between.
        let accept = async {
            started.started().await;
            accepting.run(&front).await
        };
        let outcome = tokio::select! {
            () = soft.cancelled() => Ok(()),
            () = hard.cancelled() => Ok(()),
            never = accept => match never {},
            Some(Err(error)) = delivering.join_next() => Err(GatewayError::DeliveryStopped(error)),
        };
        self.readiness.set_stopping();
        soft.cancel();
        drop(accepting);
        let drain = Duration::from_secs(self.config.gateway_drain_seconds);
        info!(connections = registry.count(), drain_seconds = drain.as_secs(), "gateway stops");

        // Delivery goes on meanwhile: who is closed last gets events as before.
        let finish = async {
            registry.go_away(drain).await;
            tracker.close();
            tracker.wait().await;
        };
        tokio::select! {
            () = finish => {}
            () = hard.cancelled() => {
                registry.drop_all();
                tracker.close();
                if tokio::time::timeout(DROP_PATIENCE, tracker.wait()).await.is_err() {
                    warn!(tasks = tracker.len(), "connections were still open at the end");
                }
            }
        }
        info!("gateway stopped");
        outcome
    }
}

/// Takes connections from the listener, as long as there are permits.
struct Acceptor {
    listener: TcpListener,
    permits: Arc<Semaphore>,
}

impl Acceptor {
    /// May be dropped at any time.
    async fn run(&mut self, front: &Arc<Front>) -> std::convert::Infallible {
        loop {
            let (stream, peer, permit) = self.accept().await;
            begin(front, stream, peer, permit);
        }
    }

    async fn accept(&mut self) -> (TcpStream, SocketAddr, OwnedSemaphorePermit) {
        let permit = Arc::clone(&self.permits).acquire_owned().await.expect("the semaphore is never closed");
        loop {
            match self.listener.accept().await {
                Ok((stream, peer)) => return (stream, peer, permit),
                // The client gave up before it was accepted.
                Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
                Err(error) => {
                    metrics::accept_failed();
                    warn!(%error, "could not accept a connection");
                    // The backlog is still there, and an immediate try would fail the same way.
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }
}

/// Serves a connection, unless its address has too many that are no WebSockets: then it is closed.
fn begin(front: &Arc<Front>, stream: TcpStream, peer: SocketAddr, permit: OwnedSemaphorePermit) {
    let place = if is_trusted(peer.ip(), &front.trusted_proxies) {
        Some(Place::UNLIMITED)
    } else {
        front.services.limits.admit_http(peer.ip())
    };
    let Some(place) = place else {
        metrics::connection_refused();
        return;
    };
    // Small frames must not wait for others to fill a segment with.
    if let Err(error) = stream.set_nodelay(true) {
        warn!(%error, "could not set TCP_NODELAY");
    }
    front.tracker.spawn(handshake::serve(Arc::clone(front), stream, peer, permit, place));
}

/// Names connections. No two processes and no two connections share an id.
pub(crate) struct ConnectionIds(IdGenerator);

impl ConnectionIds {
    #[expect(clippy::disallowed_methods, reason = "tells this process's ids from those of every other")]
    fn new() -> Self {
        Self(IdGenerator::new(rand::random(), rand::random()))
    }

    /// The id of a new connection.
    #[expect(clippy::disallowed_methods, reason = "ids begin with the time, but nothing is decided by it")]
    pub(crate) fn next(&self) -> ConnectionId {
        self.0.next(Timestamp::from_millis(jiff::Timestamp::now().as_millisecond())).into()
    }
}

#[cfg(test)]
mod tests;
