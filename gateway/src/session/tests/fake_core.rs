//! A core that says what a test wants to hear and remembers what it was asked.
//!
//! The access tokens `ann` and `bob` are valid, and so is the password `right`. A message that says `wait` is answered
//! when the test releases it.

use std::sync::{Arc, Mutex};

use bytes::Bytes;
use proto::ids::{SessionId, UserId};
use proto::reason::{Failure, Reason};
use proto::v1::conversations_server::{Conversations, ConversationsServer};
use proto::v1::identity_server::{Identity, IdentityServer};
use proto::v1::messaging_server::{Messaging, MessagingServer};
use proto::v1::presence_server::{Presence, PresenceServer};
use proto::v1::{self, caller};
use tokio::sync::Semaphore;
use tonic::{Request, Response, Status, Streaming};
use tower::ServiceExt;

use super::{ANN, BOB};
use crate::core_client::CoreService;

#[derive(Default)]
pub(crate) struct FakeCore {
    calls: Mutex<Vec<String>>,
    next_failure: Mutex<Option<Reason>>,
    next_bind_failure: Mutex<Option<Reason>>,
    released: Released,
}

struct Released(Semaphore);

impl Default for Released {
    fn default() -> Self {
        Self(Semaphore::new(0))
    }
}

type Answer<T> = Result<Response<T>, Status>;

impl FakeCore {
    pub(crate) fn service(self: &Arc<Self>) -> CoreService {
        let limit = proto::MAX_MESSAGE_BYTES;
        let routes = tonic::service::Routes::new(IdentityServer::from_arc(Arc::clone(self)))
            .add_service(ConversationsServer::from_arc(Arc::clone(self)))
            .add_service(MessagingServer::from_arc(Arc::clone(self)).max_encoding_message_size(limit))
            .add_service(PresenceServer::from_arc(Arc::clone(self)));
        let routes = routes.prepare();
        CoreService::new(tower::service_fn(move |request: http::Request<tonic::body::Body>| {
            let routes = routes.clone();
            async move { routes.oneshot(request).await.map_err(|never| match never {}) }
        }))
    }

    /// The one session of a user.
    pub(crate) fn session_of(user_id: UserId) -> SessionId {
        SessionId::new(user_id, [9; 12])
    }

    /// What was asked since the last look.
    pub(crate) fn calls(&self) -> Vec<String> {
        std::mem::take(&mut self.calls.lock().unwrap())
    }

    /// The next call fails, whichever it is.
    pub(crate) fn fail_next(&self, reason: Reason) {
        *self.next_failure.lock().unwrap() = Some(reason);
    }

    /// The next bind fails.
    pub(crate) fn fail_next_bind(&self, reason: Reason) {
        *self.next_bind_failure.lock().unwrap() = Some(reason);
    }

    /// Lets one waiting message go on.
    pub(crate) fn release(&self) {
        self.released.0.add_permits(1);
    }

    fn note(&self, call: String) -> Result<(), Status> {
        self.calls.lock().unwrap().push(call);
        match self.next_failure.lock().unwrap().take() {
            Some(reason) => Err(Failure::from(reason).into()),
            None => Ok(()),
        }
    }
}

fn name(user_id: UserId) -> &'static str {
    match user_id {
        ANN => "ann",
        BOB => "bob",
        _ => "nobody",
    }
}

/// Who calls, and under which attempt.
fn describe(caller: Option<v1::Caller>) -> String {
    let caller = caller.expect("every such request has a caller");
    let Some(caller::Actor::Session(session)) = caller.actor else { panic!("a gateway acts through sessions") };
    let user_id = SessionId::try_from(&session.session_id[..]).expect("a session id").user_id();
    match caller.attempt {
        Some(attempt) => format!("{} frame {}", name(user_id), attempt.frame),
        None => name(user_id).to_owned(),
    }
}

fn user(user_id: UserId) -> Option<v1::User> {
    let (id, login) = (user_id.to_field(), name(user_id).to_owned());
    Some(v1::User { id, login, recent_activity: 1_705_000_000, ..Default::default() })
}

fn unimplemented<T>() -> Answer<T> {
    Err(Status::unimplemented("no test asks this"))
}

#[tonic::async_trait]
impl Identity for FakeCore {
    async fn check_admin_key(&self, _: Request<v1::CheckAdminKeyRequest>) -> Answer<v1::CheckAdminKeyResponse> {
        unimplemented()
    }

    async fn create_organization(
        &self,
        _: Request<v1::CreateOrganizationRequest>,
    ) -> Answer<v1::CreateOrganizationResponse> {
        unimplemented()
    }

    async fn create_user(&self, _: Request<v1::CreateUserRequest>) -> Answer<v1::CreateUserResponse> {
        unimplemented()
    }

    async fn log_in(&self, request: Request<v1::LogInRequest>) -> Answer<v1::LogInResponse> {
        let request = request.into_inner();
        self.note(format!("log_in {}", request.login))?;
        if request.password != "right" {
            return Err(Failure::from(Reason::WrongCredentials).into());
        }
        Ok(Response::new(v1::LogInResponse {
            user: user(ANN),
            session_id: Self::session_of(ANN).to_field(),
            access_token: "ann".to_owned(),
            ..Default::default()
        }))
    }

    async fn renew_session(&self, _: Request<v1::RenewSessionRequest>) -> Answer<v1::RenewSessionResponse> {
        unimplemented()
    }

    async fn verify_access(&self, request: Request<v1::VerifyAccessRequest>) -> Answer<v1::VerifyAccessResponse> {
        let request = request.into_inner();
        self.note(format!("verify_access {}", request.access_token))?;
        let user_id = match request.access_token.as_str() {
            "ann" => ANN,
            "bob" => BOB,
            _ => return Err(Failure::from(Reason::SessionTokenExpired).into()),
        };
        Ok(Response::new(v1::VerifyAccessResponse {
            user: user(user_id),
            session_id: Self::session_of(user_id).to_field(),
            device_id: request.device_id.unwrap_or_default(),
            ..Default::default()
        }))
    }

    async fn log_out(&self, request: Request<v1::LogOutRequest>) -> Answer<v1::LogOutResponse> {
        let Some(v1::log_out_request::Credential::Caller(caller)) = request.into_inner().credential else {
            panic!("a socket logs out through its session");
        };
        self.note(format!("log_out {}", describe(Some(caller))))?;
        Ok(Response::new(v1::LogOutResponse {}))
    }

    async fn search_users(&self, _: Request<v1::SearchUsersRequest>) -> Answer<v1::SearchUsersResponse> {
        unimplemented()
    }

    async fn get_users(&self, _: Request<v1::GetUsersRequest>) -> Answer<v1::GetUsersResponse> {
        unimplemented()
    }
}

#[tonic::async_trait]
impl Conversations for FakeCore {
    async fn create(&self, _: Request<v1::CreateConversationRequest>) -> Answer<v1::CreateConversationResponse> {
        unimplemented()
    }

    async fn update(&self, request: Request<v1::UpdateConversationRequest>) -> Answer<v1::UpdateConversationResponse> {
        self.note(format!("update {}", describe(request.into_inner().caller)))?;
        let conversation = Some(v1::Conversation::default());
        Ok(Response::new(v1::UpdateConversationResponse { conversation, deleted: false }))
    }

    async fn leave(&self, request: Request<v1::LeaveConversationRequest>) -> Answer<v1::LeaveConversationResponse> {
        self.note(format!("leave {}", describe(request.into_inner().caller)))?;
        Ok(Response::new(v1::LeaveConversationResponse {}))
    }

    async fn list(&self, _: Request<v1::ListConversationsRequest>) -> Answer<v1::ListConversationsResponse> {
        unimplemented()
    }

    async fn list_participants(&self, _: Request<v1::ListParticipantsRequest>) -> Answer<v1::ListParticipantsResponse> {
        unimplemented()
    }
}

#[tonic::async_trait]
impl Messaging for FakeCore {
    async fn send(&self, request: Request<v1::SendMessageRequest>) -> Answer<v1::SendMessageResponse> {
        let request = request.into_inner();
        self.note(format!("send {}", describe(request.caller)))?;
        if request.body.as_deref() == Some("wait") {
            self.released.0.acquire().await.expect("never closed").forget();
        }
        Ok(Response::new(v1::SendMessageResponse { message_id: Bytes::from_static(&[3; 12]), created_at_ms: 1_000 }))
    }

    type SendStreamStream = futures_util::stream::Empty<Result<v1::SendStreamResponse, Status>>;

    async fn send_stream(&self, _: Request<Streaming<v1::SendStreamRequest>>) -> Answer<Self::SendStreamStream> {
        unimplemented()
    }

    /// As many messages of 100 kB as asked for.
    async fn list(&self, request: Request<v1::ListMessagesRequest>) -> Answer<v1::ListMessagesResponse> {
        let request = request.into_inner();
        self.note(format!("list {}", describe(request.caller)))?;
        let message = v1::Message {
            id: Bytes::from_static(&[3; 12]),
            conversation_id: Bytes::from_static(&[4; 12]),
            from_user_id: ANN.to_field(),
            body: "b".repeat(100_000),
            ..Default::default()
        };
        let message = v1::ListedMessage { message: Some(message), read: None };
        let count = usize::try_from(request.limit.unwrap_or(0)).unwrap();
        Ok(Response::new(v1::ListMessagesResponse { messages: vec![message; count] }))
    }

    async fn mark_read(&self, _: Request<v1::MarkReadRequest>) -> Answer<v1::MarkReadResponse> {
        unimplemented()
    }

    async fn send_typing(&self, request: Request<v1::SendTypingRequest>) -> Answer<v1::SendTypingResponse> {
        self.note(format!("typing {}", describe(request.into_inner().caller)))?;
        Ok(Response::new(v1::SendTypingResponse {}))
    }
}

#[tonic::async_trait]
impl Presence for FakeCore {
    async fn bind(&self, request: Request<v1::BindRequest>) -> Answer<v1::BindResponse> {
        self.note(format!("bind {}", describe(request.into_inner().caller)))?;
        match self.next_bind_failure.lock().unwrap().take() {
            Some(reason) => Err(Failure::from(reason).into()),
            None => Ok(Response::new(v1::BindResponse {})),
        }
    }

    async fn unbind(&self, request: Request<v1::UnbindRequest>) -> Answer<v1::UnbindResponse> {
        let user_id = UserId::try_from(&request.into_inner().user_id[..]).expect("a user id");
        self.note(format!("unbind {}", name(user_id)))?;
        Ok(Response::new(v1::UnbindResponse {}))
    }

    async fn set_inactive(&self, _: Request<v1::SetInactiveRequest>) -> Answer<v1::SetInactiveResponse> {
        unimplemented()
    }
}
