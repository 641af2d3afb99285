//! Messages, read marks and typing.

use proto::ids::{Timestamp, UserId};
use proto::v1;
use proto::v1::messaging_server::Messaging as MessagingContract;
use tonic::{Request, Response, Status};

use super::actor::Actors;
use super::role::Role;
use super::to_its_end;
use crate::domain::history::{History, ListMessages};
use crate::domain::message::SeenMessage;
use crate::domain::messaging::{Messaging, SendTyping};
use crate::domain::send_message::SendMessage;

/// The `Messaging` service.
#[derive(Clone)]
pub struct MessagingService {
    actors: Actors,
    messaging: Messaging,
    history: History,
}

impl MessagingService {
    /// The service over these use cases.
    pub fn new(actors: Actors, messaging: Messaging, history: History) -> Self {
        Self { actors, messaging, history }
    }
}

#[tonic::async_trait]
impl MessagingContract for MessagingService {
    async fn send(
        &self,
        request: Request<v1::SendMessageRequest>,
    ) -> Result<Response<v1::SendMessageResponse>, Status> {
        let role = Role::of(request.extensions())?;
        let request = request.into_inner();
        let actor = self.actors.resolve(&role, request.caller).await?;
        let command = SendMessage {
            client_id: request.client_id,
            conversation_id: request.conversation_id,
            body: request.body,
            attachments: request.attachments.into_iter().map(Into::into).collect(),
            x_json: request.x_json,
            replied_message_id: request.replied_message_id,
            forwarded_message_id: request.forwarded_message_id,
            deleted_for: request.deleted_for,
            encrypted_message_type: request.encrypted_message_type,
        };
        let messaging = self.messaging.clone();
        let id = to_its_end(async move { messaging.send(&actor, command).await }).await?;
        Ok(Response::new(v1::SendMessageResponse { message_id: id.to_field(), created_at_ms: id.timestamp().millis() }))
    }

    async fn list(
        &self,
        request: Request<v1::ListMessagesRequest>,
    ) -> Result<Response<v1::ListMessagesResponse>, Status> {
        let role = Role::of(request.extensions())?;
        let request = request.into_inner();
        let actor = self.actors.resolve(&role, request.caller).await?;
        let bounds = request.updated_at.unwrap_or_default();
        let command = ListMessages {
            conversation_id: request.conversation_id,
            ids: request.ids.map(|ids| ids.ids),
            limit: request.limit,
            after: bounds.after_ms.map(Timestamp::from_millis),
            before: bounds.before_ms.map(Timestamp::from_millis),
        };
        let page = self.history.list(&actor, command).await?;
        let messages = page.into_iter().map(|seen| listed(seen, actor.user_id)).collect();
        Ok(Response::new(v1::ListMessagesResponse { messages }))
    }

    async fn mark_read(&self, request: Request<v1::MarkReadRequest>) -> Result<Response<v1::MarkReadResponse>, Status> {
        let role = Role::of(request.extensions())?;
        let request = request.into_inner();
        let actor = self.actors.resolve(&role, request.caller).await?;
        let history = self.history.clone();
        let ids = request.ids.map(|ids| ids.ids);
        to_its_end(async move { history.mark_read(&actor, request.conversation_id, ids).await }).await?;
        Ok(Response::new(v1::MarkReadResponse {}))
    }

    async fn send_typing(
        &self,
        request: Request<v1::SendTypingRequest>,
    ) -> Result<Response<v1::SendTypingResponse>, Status> {
        let role = Role::of(request.extensions())?;
        let v1::SendTypingRequest { caller, conversation_id, state, client_id, at } = request.into_inner();
        let actor = self.actors.resolve(&role, caller).await?;
        self.messaging.send_typing(&actor, SendTyping { conversation_id, state, client_id, at }).await?;
        Ok(Response::new(v1::SendTypingResponse {}))
    }
}

/// The message with its status, which only its author is shown.
fn listed(seen: SeenMessage, viewer: UserId) -> v1::ListedMessage {
    let read = (seen.message.from == viewer).then_some(seen.is_read);
    v1::ListedMessage { message: Some(seen.message.into()), read }
}
