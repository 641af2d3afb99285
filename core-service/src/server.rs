//! Core put together: the use cases over their ports, served in the same process or over TCP.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use proto::MAX_MESSAGE_BYTES;
use proto::v1::conversations_server::ConversationsServer;
use proto::v1::identity_server::IdentityServer;
use proto::v1::messaging_server::MessagingServer;
use proto::v1::presence_server::PresenceServer;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::server::TcpIncoming;

use crate::config::CoreConfig;
use crate::domain::accounts::Accounts;
use crate::domain::clock::Stamps;
use crate::domain::conversing::{Conversing, MemberLimits};
use crate::domain::event::NoticePublisher;
use crate::domain::failure::Failure;
use crate::domain::history::History;
use crate::domain::login::Logins;
use crate::domain::messaging::Messaging;
use crate::domain::organization::OrganizationId;
use crate::domain::password::Passwords;
use crate::domain::presence::Presence;
use crate::domain::recent::Conversations;
use crate::domain::tokens::Tokens;
use crate::grpc::actor::Actors;
use crate::grpc::role::Authenticate;
use crate::grpc::{ConversationsService, IdentityService, MessagingService, PresenceService, observe};
use crate::store::Store;

/// How often conversations nobody asks for any more are forgotten.
const TIDY_INTERVAL: Duration = Duration::from_secs(30);

/// The ports core works through.
pub struct Dependencies {
    /// Where everything is kept.
    pub store: Arc<dyn Store>,
    /// Time and ids.
    pub stamps: Arc<Stamps>,
    /// Where notices go.
    pub notices: Arc<dyn NoticePublisher>,
    /// Signs tokens; at least [`crate::domain::tokens::MIN_KEY_BYTES`].
    pub signing_key: Vec<u8>,
}

/// Core, ready to be served.
pub struct Core {
    identity: IdentityService,
    conversations: ConversationsService,
    messaging: MessagingService,
    presence: PresenceService,
    busy: Arc<Conversations>,
    store: Arc<dyn Store>,
    stamps: Arc<Stamps>,
    /// Ends the streams of sends.
    stopping: CancellationToken,
}

impl Core {
    /// Core over these ports. Makes the organizations that exist from the start.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn start(config: &CoreConfig, dependencies: Dependencies) -> Result<Self, Failure> {
        let Dependencies { store, stamps, notices, signing_key } = dependencies;
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let passwords = Arc::new(Passwords::new(cores)?);
        let tokens = Tokens::new(&signing_key, config.jwt_access_token_expires_in, config.jwt_refresh_token_expires_in);
        let busy = Arc::new(Conversations::new(Arc::clone(&store), Arc::clone(&stamps)));

        let accounts = Accounts::new(
            Arc::clone(&store),
            Arc::clone(&stamps),
            Arc::clone(&passwords),
            config.http_admin_api_key.expose(),
            usize::from(config.search_preload_count),
        );
        let organizations = config.core_organizations.iter().cloned().chain([OrganizationId::default()]);
        accounts.ensure_organizations(organizations).await?;

        let logins = Logins::new(Arc::clone(&store), Arc::clone(&stamps), passwords, Arc::new(tokens));
        let actors = Actors::new(logins.clone(), Arc::clone(&store), Arc::clone(&stamps));
        let member_limits = MemberLimits {
            group: usize::try_from(config.core_max_group_members).unwrap_or(usize::MAX),
            channel: usize::try_from(config.core_max_channel_members).unwrap_or(usize::MAX),
        };
        let conversing = Conversing::new(Arc::clone(&store), Arc::clone(&stamps), Arc::clone(&busy), member_limits);
        let messaging = Messaging::new(Arc::clone(&store), Arc::clone(&stamps), Arc::clone(&busy), notices);
        let history = History::new(Arc::clone(&store), Arc::clone(&stamps), Arc::clone(&busy), config.core_read_events);
        let stopping = CancellationToken::new();
        Ok(Self {
            identity: IdentityService::new(actors.clone(), accounts, logins),
            conversations: ConversationsService::new(actors.clone(), conversing),
            messaging: MessagingService::new(actors.clone(), messaging, history, stopping.clone()),
            presence: PresenceService::new(actors, Presence::new(Arc::clone(&store), Arc::clone(&stamps))),
            busy,
            store,
            stamps,
            stopping,
        })
    }

    /// The services for the gateway in the same process: its generated client calls them without a socket.
    pub fn in_process(&self) -> Routes {
        observed(self.routes(&Authenticate::InProcess))
    }

    fn routes(&self, authenticate: &Authenticate) -> Routes {
        macro_rules! service {
            ($server:ident, $service:expr) => {
                InterceptedService::new(
                    $server::new($service.clone())
                        .max_decoding_message_size(MAX_MESSAGE_BYTES)
                        .max_encoding_message_size(MAX_MESSAGE_BYTES),
                    authenticate.clone(),
                )
            };
        }
        Routes::new(service!(IdentityServer, self.identity))
            .add_service(service!(ConversationsServer, self.conversations))
            .add_service(service!(MessagingServer, self.messaging))
            .add_service(service!(PresenceServer, self.presence))
    }

    /// Forgets, every now and then, what nobody asks for any more, and removes what erased conversations have left. Runs
    /// until the token is cancelled.
    pub fn keep_tidy(&self, stop: CancellationToken) -> impl Future<Output = ()> + Send + 'static {
        let busy = Arc::clone(&self.busy);
        let (store, stamps) = (Arc::clone(&self.store), Arc::clone(&self.stamps));
        async move {
            let mut interval = tokio::time::interval(TIDY_INTERVAL);
            while stop.run_until_cancelled(interval.tick()).await.is_some() {
                busy.forget_idle();
                if let Some(Err(error)) = stop.run_until_cancelled(store.erase_content(stamps.now())).await {
                    let error = &error as &dyn std::error::Error;
                    tracing::warn!(
                        error,
                        "the content of erased conversations is not all gone yet, trying again later"
                    );
                }
            }
        }
    }

    /// Serves gRPC, with health and reflection beside the services, until the token is cancelled; then the calls
    /// under way are finished. The caller puts an end to peers that never finish.
    ///
    /// # Errors
    /// When the listener fails.
    pub async fn serve(
        &self,
        listener: TcpListener,
        authenticate: &Authenticate,
        stop: CancellationToken,
    ) -> anyhow::Result<()> {
        let (health, health_service) = tonic_health::server::health_reporter();
        health.set_serving::<IdentityServer<IdentityService>>().await;
        health.set_serving::<ConversationsServer<ConversationsService>>().await;
        health.set_serving::<MessagingServer<MessagingService>>().await;
        health.set_serving::<PresenceServer<PresenceService>>().await;
        let reflection = || {
            tonic_reflection::server::Builder::configure()
                .register_encoded_file_descriptor_set(proto::FILE_DESCRIPTOR_SET)
                .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        };
        let routes = self
            .routes(authenticate)
            .add_service(health_service)
            .add_service(reflection().build_v1()?)
            .add_service(reflection().build_v1alpha()?);
        // An answer is several small writes, of which the last must not wait for the first to be confirmed.
        let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
        tonic::transport::Server::builder()
            .add_routes(observed(routes))
            .serve_with_incoming_shutdown(incoming, async {
                stop.cancelled().await;
                self.stopping.cancel();
            })
            .await?;
        Ok(())
    }
}

fn observed(routes: Routes) -> Routes {
    routes.into_axum_router().layer(axum::middleware::from_fn(observe::observe)).into()
}

#[cfg(test)]
mod tests;
