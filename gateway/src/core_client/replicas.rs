//! The core's replicas in other processes: connections to them, which of them answer, and which one is whose.
//!
//! Every connection is asked every second whether the replica serves, by gRPC's own health service; that also makes the
//! connection, before the first call needs it. A replica counts as healthy while one of its connections is. What a call
//! finds broken is asked again at once.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::future::join_all;
use tokio::sync::{Notify, watch};
use tokio::time::{sleep, timeout};
use tonic::transport::{Channel, Endpoint};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use tracing::{info, warn};

use super::request::Key;
use super::sends::Sends;
use crate::config::{CoreAddress, GatewayToken, RemoteConfig};
use crate::metrics;

/// Connections to each replica: a server takes 200 calls at once on one.
pub(super) const CONNECTIONS: usize = 4;
/// How long making a connection may take.
const CONNECT_TIMEOUT: Duration = Duration::from_millis(800);
/// How often the other end of a connection has to show that it is there, and how long it has for that.
const KEEP_ALIVE: Duration = Duration::from_secs(1);
/// How often a healthy connection is asked.
const HEALTHY_INTERVAL: Duration = Duration::from_secs(1);
/// How often another one is.
const UNHEALTHY_INTERVAL: Duration = Duration::from_millis(100);
/// How often one is asked at most.
const SHORTEST_INTERVAL: Duration = Duration::from_millis(10);
/// How long a replica has to say that it serves.
const HEALTH_TIMEOUT: Duration = Duration::from_secs(1);

/// The replicas of the core.
#[derive(Debug)]
pub struct Replicas {
    replicas: Vec<Replica>,
    token: GatewayToken,
    deadline: Duration,
    /// Changes whenever a connection begins or ceases to be healthy.
    changed: watch::Sender<()>,
    /// Spreads the calls that concern nobody.
    turn: AtomicUsize,
}

#[derive(Debug)]
struct Replica {
    address: CoreAddress,
    connections: Vec<Connection>,
    turn: AtomicUsize,
    sends: Arc<Sends>,
}

#[derive(Debug)]
struct Connection {
    channel: Channel,
    is_healthy: AtomicBool,
    ask_now: Notify,
}

/// Where a call goes.
#[derive(Clone, Debug)]
pub(super) struct Route {
    /// Which replica it is.
    pub(super) replica: usize,
    pub(super) channel: Channel,
    pub(super) sends: Arc<Sends>,
}

impl Replicas {
    /// The replicas at these addresses. Nothing is connected until [`Replicas::watch`] runs.
    ///
    /// # Errors
    /// For an address that the transport does not take.
    pub fn new(config: &RemoteConfig) -> Result<Arc<Self>, tonic::transport::Error> {
        let replica = |address| Replica::new(address, &config.core_gateway_token);
        let replicas = config.core_addresses.iter().map(replica).collect::<Result<_, _>>()?;
        Ok(Arc::new(Self {
            replicas,
            token: config.core_gateway_token.clone(),
            deadline: config.core_deadline(),
            changed: watch::Sender::new(()),
            turn: AtomicUsize::new(0),
        }))
    }

    /// Keeps the connections, and asks on all of them whether the replicas serve. Runs for ever; may be dropped at any
    /// time. Without it no replica is healthy.
    pub async fn watch(self: Arc<Self>) -> Infallible {
        let connections = self.replicas.iter().flat_map(|replica| {
            let this = &self;
            replica.connections.iter().map(move |connection| this.watch_connection(replica, connection))
        });
        join_all(connections).await;
        std::future::pending().await
    }

    /// Whether any replica is healthy.
    pub fn is_any_healthy(&self) -> bool {
        self.replicas.iter().any(Replica::is_healthy)
    }

    #[cfg(test)]
    pub(super) fn healthy_connections(&self) -> usize {
        let connections = self.replicas.iter().flat_map(|replica| &replica.connections);
        connections.filter(|connection| connection.is_healthy.load(Ordering::Relaxed)).count()
    }

    pub(super) fn token(&self) -> &GatewayToken {
        &self.token
    }

    /// How long one replica has for a call that another can take over.
    pub(super) fn deadline(&self) -> Duration {
        self.deadline
    }

    /// The way to the best healthy replica for this key, other than the one to avoid where there is another. Waits until
    /// one is healthy.
    pub(super) async fn route(&self, key: Option<Key>, avoid: Option<usize>) -> Route {
        let mut changed = self.changed.subscribe();
        loop {
            changed.mark_unchanged();
            if let Some(route) = self.route_elsewhere(key, avoid).or_else(|| self.route_to(avoid?)) {
                return route;
            }
            changed.changed().await.expect("the sender is ours");
        }
    }

    /// The way to the best healthy replica for this key other than the one to avoid, if there is another.
    pub(super) fn route_elsewhere(&self, key: Option<Key>, avoid: Option<usize>) -> Option<Route> {
        let candidates = 0..self.replicas.len();
        let turn = self.turn.fetch_add(usize::from(key.is_none()), Ordering::Relaxed);
        let preference = |&index: &usize| match key {
            Some(key) => key.weight(self.replicas[index].address.as_str()),
            None => ((index + turn) % self.replicas.len()) as u64,
        };
        let best = candidates
            .filter(|&index| Some(index) != avoid && self.replicas[index].is_healthy())
            .max_by_key(preference)?;
        self.route_to(best)
    }

    fn route_to(&self, replica: usize) -> Option<Route> {
        let Replica { sends, .. } = &self.replicas[replica];
        Some(Route { replica, channel: self.replicas[replica].healthy_channel()?, sends: Arc::clone(sends) })
    }

    /// A call found the connection broken: nothing goes there until it is asked again, which it is at once.
    pub(super) fn found_broken(&self, replica: usize) {
        let replica = &self.replicas[replica];
        for connection in &replica.connections {
            self.set_healthy(replica, connection, false);
            connection.ask_now.notify_one();
        }
    }

    /// A call got no answer in time, for which there may be many reasons: the replica is asked at once.
    pub(super) fn found_slow(&self, replica: usize) {
        self.replicas[replica].connections.iter().for_each(|connection| connection.ask_now.notify_one());
    }

    async fn watch_connection(&self, replica: &Replica, connection: &Connection) {
        loop {
            let is_healthy = connection.serves().await;
            self.set_healthy(replica, connection, is_healthy);
            // Many calls may find the same thing at once.
            sleep(SHORTEST_INTERVAL).await;
            let pause = if is_healthy { HEALTHY_INTERVAL } else { UNHEALTHY_INTERVAL };
            tokio::select! {
                () = sleep(pause) => {}
                () = connection.ask_now.notified() => {}
            }
        }
    }

    fn set_healthy(&self, replica: &Replica, connection: &Connection, is_healthy: bool) {
        let before = replica.is_healthy();
        if connection.is_healthy.swap(is_healthy, Ordering::Relaxed) == is_healthy {
            return;
        }
        let address = replica.address.as_str();
        match (before, replica.is_healthy()) {
            (false, true) => info!(address, "a core service answers"),
            (true, false) => warn!(address, "a core service does not answer"),
            (true, true) | (false, false) => {}
        }
        metrics::healthy_cores(self.replicas.iter().filter(|replica| replica.is_healthy()).count());
        self.changed.send_replace(());
    }
}

impl Replica {
    fn new(address: &CoreAddress, token: &GatewayToken) -> Result<Self, tonic::transport::Error> {
        let endpoint = Endpoint::from_shared(address.as_str().to_owned())?
            .connect_timeout(CONNECT_TIMEOUT)
            .tcp_nodelay(true)
            .http2_keep_alive_interval(KEEP_ALIVE)
            .keep_alive_timeout(KEEP_ALIVE)
            .keep_alive_while_idle(true);
        let connection = || Connection {
            channel: endpoint.connect_lazy(),
            is_healthy: AtomicBool::new(false),
            ask_now: Notify::new(),
        };
        let connections = std::iter::repeat_with(connection).take(CONNECTIONS).collect();
        let sends = Sends::new(token.clone());
        Ok(Self { address: address.clone(), connections, turn: AtomicUsize::new(0), sends })
    }

    fn is_healthy(&self) -> bool {
        self.connections.iter().any(|connection| connection.is_healthy.load(Ordering::Relaxed))
    }

    /// One of its healthy connections, in turn.
    fn healthy_channel(&self) -> Option<Channel> {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        (0..self.connections.len())
            .map(|offset| &self.connections[turn.wrapping_add(offset) % self.connections.len()])
            .find(|connection| connection.is_healthy.load(Ordering::Relaxed))
            .map(|connection| connection.channel.clone())
    }
}

impl Connection {
    async fn serves(&self) -> bool {
        let mut health = HealthClient::new(self.channel.clone());
        match timeout(HEALTH_TIMEOUT, health.check(HealthCheckRequest::default())).await {
            Ok(Ok(answer)) => answer.into_inner().status() == ServingStatus::Serving,
            Ok(Err(_)) | Err(_) => false,
        }
    }
}
