//! Core and gateway, put together and run as one.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;

use anyhow::Context;
use core_service::config::CoreConfig;
use core_service::domain::clock::Stamps;
use core_service::domain::event::{NoticePublisher, Typing};
use core_service::server::{Core, Dependencies};
use core_service::signing_key::signing_key;
use core_service::store::sqlite::SqliteStore;
use gateway::config::GatewayConfig;
use gateway::core_client::{CoreClient, CoreService};
use gateway::readiness::Readiness;
use gateway::server::Gateway;
use proto::v1::Notice;
use tokio::sync::broadcast;
use tokio_util::sync::CancellationToken;
use tower::util::MapErr;

use crate::journal::JournalEvents;

/// Notices that wait for the gateway; a slower one misses the oldest.
const NOTICES: usize = 4096;

/// Core and gateway of one process: bound, not yet serving.
pub struct Stack {
    store: Arc<SqliteStore>,
    core: Core,
    gateway: Gateway,
}

impl Stack {
    /// Opens the store and the gateway's port. Port 0 takes a free one; [`Stack::address`] tells which.
    ///
    /// # Errors
    /// When the data directory cannot be used or the port cannot be opened; says what to do.
    pub async fn bind(core_config: &CoreConfig, gateway_config: GatewayConfig) -> anyhow::Result<Self> {
        let stamps = Arc::new(Stamps::of_this_process());
        let store = SqliteStore::open(&core_config.data_dir, stamps.now())
            .context("cannot use the data directory (--data-dir, DATA_DIR)")?;
        let store = Arc::new(store);
        let signing_key = signing_key(core_config)?;
        let (notices, _) = broadcast::channel(NOTICES);
        let events = JournalEvents::new(store.journal(), notices.clone());
        let dependencies = Dependencies {
            store: Arc::clone(&store) as _,
            stamps,
            notices: Arc::new(LocalNotices(notices)),
            signing_key,
        };
        let core = Core::start(core_config, dependencies).await.context("cannot start core")?;
        let service = MapErr::new(core.in_process(), |never: Infallible| match never {});
        let client = CoreClient::new(CoreService::new(service));
        let dependencies = gateway::server::Dependencies { core: client, events: Arc::new(events) };
        let gateway = Gateway::bind(gateway_config, dependencies)
            .await
            .context("free the clients' address or choose another (--gateway-listen, GATEWAY_LISTEN)")?;
        Ok(Self { store, core, gateway })
    }

    /// Where clients connect.
    pub fn address(&self) -> SocketAddr {
        self.gateway.local_address()
    }

    /// Whether clients are served: not yet, or no longer.
    pub fn readiness(&self) -> Readiness {
        self.gateway.readiness()
    }

    /// Serves until the soft token is cancelled and the work in hand is done, or until the hard one is.
    ///
    /// # Errors
    /// When the database or the gateway failed. A failed database stops the gateway as the soft token does.
    pub async fn run(self, soft: CancellationToken, hard: CancellationToken) -> anyhow::Result<()> {
        let Self { store, core, gateway } = self;
        let core_stop = CancellationToken::new();
        let tidy = core.keep_tidy(core_stop.clone());
        let serve = async {
            let mut gateway = pin!(gateway.run(soft.clone(), hard));
            let served = tokio::select! {
                served = &mut gateway => served.map_err(Into::into),
                () = store.failed() => {
                    soft.cancel();
                    gateway.await?;
                    anyhow::bail!("the database failed at a commit")
                }
            };
            core_stop.cancel();
            served
        };
        let (served, ()) = tokio::join!(serve, tidy);
        store.close().await;
        served
    }
}

/// Hands notices to the gateway of the same process.
#[derive(Debug)]
struct LocalNotices(broadcast::Sender<Notice>);

impl NoticePublisher for LocalNotices {
    fn publish_typing(&self, typing: Typing) {
        // Fails when nobody listens; then nobody misses it.
        let _ = self.0.send(typing.into());
    }
}
