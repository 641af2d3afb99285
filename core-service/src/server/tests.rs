//! Core served over TCP, called with tokens of gateways, of services, and with none.

use std::collections::HashMap;

use clap::Parser;
use proto::reason::{self, Reason};
use proto::v1;
use proto::v1::identity_client::IdentityClient;
use proto::v1::messaging_client::MessagingClient;
use proto::v1::send_stream_response::Outcome;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status};

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

/// A core that is served until its token is cancelled.
struct Served {
    address: String,
    stop: CancellationToken,
    serving: JoinSet<anyhow::Result<()>>,
    _data: tempfile::TempDir,
}

impl Served {
    async fn start() -> Self {
        let data = tempfile::tempdir().unwrap();
        let stamps = Arc::new(Stamps::of_this_process());
        let store = Arc::new(SqliteStore::open(data.path(), stamps.now()).unwrap());
        let cli = Cli::parse_from([
            "core",
            "--core-gateway-tokens=an older gateway token,a newer gateway token",
            "--core-service-tokens=reports:a token of the reports service",
        ]);
        let dependencies = Dependencies { store, stamps, notices: Arc::new(NobodyListens), signing_key: vec![7; 32] };
        let core = Core::start(&cli.core, dependencies).await.unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let stop = CancellationToken::new();
        let mut serving = JoinSet::new();
        let until = stop.clone();
        serving.spawn(async move { core.serve(listener, &Authenticate::from(&cli.server), until).await });
        Self { address, stop, serving, _data: data }
    }

    async fn connect(&self) -> Channel {
        Endpoint::from_shared(self.address.clone()).unwrap().connect().await.unwrap()
    }
}

fn authorized<T>(message: T, token: &str) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
    request
}

#[tokio::test]
async fn sends_in_a_stream_are_answered_under_their_numbers_and_the_stream_ends_with_the_server() {
    let mut served = Served::start().await;
    let (sends, outgoing) = mpsc::channel(10);
    let stream = authorized(ReceiverStream::new(outgoing), "a newer gateway token");
    let mut client = MessagingClient::new(served.connect().await);
    let mut answers = client.send_stream(stream).await.unwrap().into_inner();

    let session = v1::BoundSession { session_id: vec![1; 24].into() };
    let caller = v1::Caller { actor: Some(v1::caller::Actor::Session(session)), ..Default::default() };
    let of_nobody = v1::SendMessageRequest { caller: Some(caller), ..Default::default() };
    for (number, request) in [(7, Some(of_nobody)), (5, None)] {
        sends.send(v1::SendStreamRequest { number, request, traceparent: None }).await.unwrap();
    }
    let mut failures = HashMap::new();
    for _ in 0..2 {
        let answer = answers.message().await.unwrap().expect("each is answered");
        let Some(Outcome::Failed(status)) = answer.outcome else { panic!("{answer:?}") };
        failures.insert(answer.number, Status::from(status));
    }
    let reason = reason::Failure::from(&failures[&7]).reason;
    assert_eq!(reason, Reason::NotAuthenticated, "a failure says all that a call's status says");
    assert_eq!(failures[&5].code(), Code::InvalidArgument);

    served.stop.cancel();
    assert!(answers.message().await.unwrap().is_none(), "the stream ends in good order");
    served.serving.join_next().await.unwrap().unwrap().unwrap();
}

#[tokio::test]
async fn a_stream_needs_a_token_too() {
    let served = Served::start().await;
    let stream = authorized(tokio_stream::empty(), "a token of nobody's at all");
    let refused = MessagingClient::new(served.connect().await).send_stream(stream).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unauthenticated);
}

#[tokio::test]
async fn a_gateways_token_allows_what_a_services_does_not_and_nothing_is_allowed_without() {
    let served = Served::start().await;
    let channel = served.connect().await;
    // Only a gateway logs out; that the token it hands on is no session's is found out later.
    for (token, code) in [
        (Some("an older gateway token"), Code::InvalidArgument),
        (Some("a newer gateway token"), Code::InvalidArgument),
        (Some("a token of the reports service"), Code::PermissionDenied),
        (Some("a token of nobody's at all"), Code::Unauthenticated),
        (None, Code::Unauthenticated),
    ] {
        let request = v1::LogOutRequest { credential: None };
        let request = match token {
            Some(token) => authorized(request, token),
            None => Request::new(request),
        };
        let status = IdentityClient::new(channel.clone()).log_out(request).await.unwrap_err();
        assert_eq!(status.code(), code, "{token:?}: {status}");
    }
}
