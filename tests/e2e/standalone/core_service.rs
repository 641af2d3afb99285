//! The core service on its own, used as an internal service would: over TCP, with a token, under its own name.

use std::sync::Arc;

use e2e::{Launch, Output, ServerProcess};
use proto::reason::Failure;
use proto::v1;
use proto::v1::conversations_client::ConversationsClient;
use proto::v1::identity_client::IdentityClient;
use proto::v1::messaging_client::MessagingClient;
use tonic::metadata::MetadataValue;
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Channel;
use tonic::{Code, Request, Status};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use tonic_reflection::pb::v1::ServerReflectionRequest;
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;

const TOKEN: &str = "a token of the reports service";

/// A running core service; its data goes with it.
struct Core {
    _process: ServerProcess,
    _data: tempfile::TempDir,
    channel: Channel,
    admin: String,
}

impl Core {
    async fn start() -> Self {
        let data = tempfile::tempdir().unwrap();
        let settings = [
            ("CORE_LISTEN", "127.0.0.1:0"),
            ("CORE_ADMIN_LISTEN", "127.0.0.1:0"),
            ("CORE_SERVICE_TOKENS", &format!("reports:{TOKEN},billing:a token of the billing service")),
            ("DATA_DIR", data.path().to_str().unwrap()),
        ];
        let launch = Launch {
            program: tokio::task::spawn_blocking(e2e::core_service).await.unwrap(),
            wrapper: vec![],
            arguments: vec![],
            environment: settings.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec(),
            ready: "core listening on http://",
        };
        let output = Arc::new(Output::default());
        let process = tokio::task::spawn_blocking(move || launch.start(&output)).await.unwrap().unwrap();
        let (address, admin) = process.ready.split_once("http://").unwrap().1.split_once(" (admin ").unwrap();
        let channel = Channel::from_shared(format!("http://{address}")).unwrap().connect().await.unwrap();
        let admin = admin.trim_end_matches(')').to_owned();
        Self { _process: process, _data: data, channel, admin }
    }

    fn with_token(&self, token: &str) -> InterceptedService<Channel, Token> {
        InterceptedService::new(self.channel.clone(), Token(token.to_owned()))
    }
}

/// Puts a service's token on every call.
#[derive(Clone)]
struct Token(String);

impl Interceptor for Token {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        let value = MetadataValue::try_from(format!("Bearer {}", self.0)).expect("tokens of the tests are ASCII");
        request.metadata_mut().insert("authorization", value);
        Ok(request)
    }
}

fn acting_as(user: &v1::User) -> Option<v1::Caller> {
    let acting = v1::ActingUser { user_id: user.id.clone() };
    Some(v1::Caller { actor: Some(v1::caller::Actor::ActingUser(acting)), attempt: None, hop: 0 })
}

async fn create_user(core: &Core, login: &str) -> v1::User {
    let request = v1::CreateUserRequest {
        login: Some(login.to_owned()),
        password: Some("a password".to_owned()),
        ..Default::default()
    };
    let response = IdentityClient::new(core.with_token(TOKEN)).create_user(request).await.unwrap();
    response.into_inner().user.unwrap()
}

#[tokio::test]
async fn a_service_creates_a_conversation_and_sends_in_a_users_name() {
    let core = Core::start().await;
    let (ann, bob) = (create_user(&core, "ann").await, create_user(&core, "bob").await);
    let bob_id = proto::ids::UserId::try_from(&bob.id[..]).unwrap().to_string();
    let create = v1::CreateConversationRequest {
        caller: acting_as(&ann),
        r#type: Some("u".to_owned()),
        participants: Some(v1::UserIds { ids: vec![bob_id] }),
        ..Default::default()
    };
    let created = ConversationsClient::new(core.with_token(TOKEN)).create(create).await.unwrap().into_inner();
    let conversation = created.conversation.unwrap();
    assert_eq!((conversation.owner_id, conversation.opponent_id), (ann.id.clone(), Some(bob.id.clone())));

    let conversation_id = proto::ids::ConversationId::try_from(&conversation.id[..]).unwrap().to_string();
    let mut messaging = MessagingClient::new(core.with_token(TOKEN));
    let send = v1::SendMessageRequest {
        caller: acting_as(&ann),
        conversation_id: Some(conversation_id.clone()),
        body: Some("your report is ready".to_owned()),
        ..Default::default()
    };
    let sent = messaging.send(send).await.unwrap().into_inner();
    let list = v1::ListMessagesRequest {
        caller: acting_as(&bob),
        conversation_id: Some(conversation_id.clone()),
        ..Default::default()
    };
    let listed = messaging.list(list).await.unwrap().into_inner().messages;
    let message = listed[0].message.as_ref().unwrap();
    assert_eq!((listed.len(), &message.id, message.body.as_str()), (1, &sent.message_id, "your report is ready"));
    assert_eq!((&message.from_user_id, message.created_at_ms), (&ann.id, sent.created_at_ms));

    // The user's rights are the service's bounds.
    let eve = create_user(&core, "eve").await;
    let send = v1::SendMessageRequest {
        caller: acting_as(&eve),
        conversation_id: Some(conversation_id),
        body: Some("let me in".to_owned()),
        ..Default::default()
    };
    let refused = messaging.send(send).await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied);
    assert_eq!(Failure::from(&refused).reason.code(), "access_denied");
}

#[tokio::test]
async fn nobody_calls_without_a_good_token() {
    let core = Core::start().await;
    let request = v1::CreateUserRequest {
        login: Some("eve".to_owned()),
        password: Some("a password".to_owned()),
        ..Default::default()
    };
    for token in ["", "wrong", "a token of the reports servicE", "reports"] {
        let refused = IdentityClient::new(core.with_token(token)).create_user(request.clone()).await.unwrap_err();
        assert_eq!(refused.code(), Code::Unauthenticated, "{token:?}");
    }
    let refused = IdentityClient::new(core.channel.clone()).create_user(request.clone()).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unauthenticated);
    // Nothing was done, and the other service may.
    let other = core.with_token("a token of the billing service");
    IdentityClient::new(other).create_user(request).await.unwrap();
}

#[tokio::test]
async fn a_service_may_not_act_through_a_users_session() {
    let core = Core::start().await;
    create_user(&core, "ann").await;
    let mut identity = IdentityClient::new(core.with_token(TOKEN));
    let login = v1::LogInRequest {
        login: "ann".to_owned(),
        password: "a password".to_owned(),
        device_id: Some("d".to_owned()),
        ..Default::default()
    };
    let Ok(session) = identity.log_in(login).await else {
        // Logging users in is the gateways' business; then there is no session to borrow.
        return;
    };
    let bound = v1::BoundSession { session_id: session.into_inner().session_id };
    let caller = v1::Caller { actor: Some(v1::caller::Actor::Session(bound)), attempt: None, hop: 0 };
    let list = v1::ListConversationsRequest { caller: Some(caller), ..Default::default() };
    let refused = ConversationsClient::new(core.with_token(TOKEN)).list(list).await.unwrap_err();
    assert!(matches!(refused.code(), Code::PermissionDenied | Code::Unauthenticated), "{refused:?}");
}

#[tokio::test]
async fn health_and_reflection_answer() {
    let core = Core::start().await;
    let mut health = HealthClient::new(core.channel.clone());
    for service in ["", "chat.v1.Messaging"] {
        let request = HealthCheckRequest { service: service.to_owned() };
        let status = health.check(request).await.unwrap().into_inner().status();
        assert_eq!(status, ServingStatus::Serving, "{service:?}");
    }
    let request = ServerReflectionRequest {
        host: String::new(),
        message_request: Some(MessageRequest::ListServices(String::new())),
    };
    let mut reflection = ServerReflectionClient::new(core.channel.clone());
    let requests = futures_util::stream::iter([request]);
    let answer = reflection.server_reflection_info(requests).await.unwrap().into_inner().message().await.unwrap();
    let Some(MessageResponse::ListServicesResponse(list)) = answer.unwrap().message_response else {
        panic!("no list of services");
    };
    let names: Vec<_> = list.service.iter().map(|service| service.name.as_str()).collect();
    for name in ["chat.v1.Identity", "chat.v1.Conversations", "chat.v1.Messaging", "chat.v1.Presence"] {
        assert!(names.contains(&name), "{names:?}");
    }
    for path in ["live", "ready", "metrics"] {
        let answer = reqwest::get(format!("http://{}/{path}", core.admin)).await.unwrap();
        assert_eq!(answer.status(), 200, "{path}");
    }
}
