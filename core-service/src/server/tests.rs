//! Core served over TCP, called with tokens of gateways, of services, and with none.

use clap::Parser;
use proto::v1;
use proto::v1::identity_client::IdentityClient;
use tokio::task::JoinSet;
use tonic::transport::Endpoint;
use tonic::{Code, Request};

use super::*;
use crate::config::CoreServerConfig;
use crate::domain::event::Typing;
use crate::store::sqlite::SqliteStore;

#[derive(Parser)]
struct Cli {
    #[command(flatten)]
    core: CoreConfig,
    #[command(flatten)]
    server: CoreServerConfig,
}

#[derive(Debug)]
struct NobodyListens;

impl NoticePublisher for NobodyListens {
    fn publish_typing(&self, _: Typing) {}
}

#[tokio::test]
async fn a_gateways_token_allows_what_a_services_does_not_and_nothing_is_allowed_without() {
    let data = tempfile::tempdir().unwrap();
    let stamps = Arc::new(Stamps::of_this_process());
    let store = Arc::new(SqliteStore::open(data.path(), stamps.now()).unwrap());
    let cli = Cli::parse_from([
        "core",
        "--core-gateway-tokens=an older gateway token,a newer gateway token",
        "--core-service-tokens=reports:a token of the reports service",
    ]);
    let notices = Arc::new(NobodyListens);
    let core = Core::start(&cli.core, Dependencies { store, stamps, notices, signing_key: vec![7; 32] }).await.unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let mut serving = JoinSet::new();
    serving.spawn(async move {
        core.serve(listener, &Authenticate::from(&cli.server), CancellationToken::new()).await.unwrap();
    });

    let channel = Endpoint::from_shared(address).unwrap().connect().await.unwrap();
    // Only a gateway logs out; that the token it hands on is no session's is found out later.
    for (token, code) in [
        (Some("an older gateway token"), Code::InvalidArgument),
        (Some("a newer gateway token"), Code::InvalidArgument),
        (Some("a token of the reports service"), Code::PermissionDenied),
        (Some("a token of nobody's at all"), Code::Unauthenticated),
        (None, Code::Unauthenticated),
    ] {
        let mut request = Request::new(v1::LogOutRequest { credential: None });
        if let Some(token) = token {
            request.metadata_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
        }
        let status = IdentityClient::new(channel.clone()).log_out(request).await.unwrap_err();
        assert_eq!(status.code(), code, "{token:?}: {status}");
    }
}
