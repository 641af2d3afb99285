//! Conversations and who is in them.

use proto::ids::{Timestamp, UserId};
use proto::v1;
use proto::v1::conversations_server::Conversations;
use tonic::{Request, Response, Status};

use super::actor::Actors;
use super::role::Role;
use super::to_its_end;
use crate::convert::{self, Shown};
use crate::domain::conversing::{Conversing, CreateConversation, Created, ListConversations, ListedConversation};
use crate::domain::updating::{UpdateConversation, Updated, UsersChange};

/// The `Conversations` service.
#[derive(Clone)]
pub struct ConversationsService {
    actors: Actors,
    conversing: Conversing,
}

impl ConversationsService {
    /// The service over these use cases.
    pub fn new(actors: Actors, conversing: Conversing) -> Self {
        Self { actors, conversing }
    }
}

#[tonic::async_trait]
impl Conversations for ConversationsService {
    async fn create(
        &self,
        request: Request<v1::CreateConversationRequest>,
    ) -> Result<Response<v1::CreateConversationResponse>, Status> {
        let role = Role::of(request.extensions())?;
        let request = request.into_inner();
        let actor = self.actors.resolve(&role, request.caller).await?;
        let command = CreateConversation {
            kind: request.r#type,
            name: request.name,
            description: request.description,
            participants: request.participants.map(|participants| participants.ids),
            opponent_id: request.opponent_id,
            image: request.image.map(Into::into),
            is_encrypted: request.is_encrypted,
        };
        let conversing = self.conversing.clone();
        let created = to_its_end(async move { conversing.create(&actor, command).await }).await?;
        let Created { record, updated_at } = created;
        let shown = Shown { updated_at, member_count: record.members.len(), participants: record.user_ids() };
        let conversation = convert::conversation(record.conversation, shown);
        Ok(Response::new(v1::CreateConversationResponse { conversation: Some(conversation) }))
    }

    async fn update(
        &self,
        request: Request<v1::UpdateConversationRequest>,
    ) -> Result<Response<v1::UpdateConversationResponse>, Status> {
        let role = Role::of(request.extensions())?;
        let request = request.into_inner();
        let actor = self.actors.resolve(&role, request.caller).await?;
        let command = UpdateConversation {
            conversation_id: request.conversation_id,
            name: request.name,
            description: request.description,
            image: request.image.map(Into::into),
            participants: request.participants.map(Into::into).unwrap_or_default(),
            admins: request.admins.map(Into::into).unwrap_or_default(),
        };
        let conversing = self.conversing.clone();
        let updated = to_its_end(async move { conversing.update(&actor, command).await }).await?;
        let Updated { conversation, members, updated_at, is_erased } = updated;
        let shown = Shown { updated_at, member_count: members.len(), participants: members };
        let conversation = Some(convert::conversation(conversation, shown));
        Ok(Response::new(v1::UpdateConversationResponse { conversation, deleted: is_erased }))
    }

    async fn leave(
        &self,
        request: Request<v1::LeaveConversationRequest>,
    ) -> Result<Response<v1::LeaveConversationResponse>, Status> {
        let role = Role::of(request.extensions())?;
        let v1::LeaveConversationRequest { caller, conversation_id } = request.into_inner();
        let actor = self.actors.resolve(&role, caller).await?;
        let conversing = self.conversing.clone();
        to_its_end(async move { conversing.leave(&actor, conversation_id).await }).await?;
        Ok(Response::new(v1::LeaveConversationResponse {}))
    }

    async fn list(
        &self,
        request: Request<v1::ListConversationsRequest>,
    ) -> Result<Response<v1::ListConversationsResponse>, Status> {
        let role = Role::of(request.extensions())?;
        let request = request.into_inner();
        let actor = self.actors.resolve(&role, request.caller).await?;
        let bounds = request.updated_at.unwrap_or_default();
        let command = ListConversations {
            limit: request.limit,
            updated_after: bounds.after_ms.map(Timestamp::from_millis),
            updated_before: bounds.before_ms.map(Timestamp::from_millis),
            ids: request.ids.map(|ids| ids.ids),
        };
        let listed = self.conversing.list(&actor, command).await?;
        Ok(Response::new(v1::ListConversationsResponse { conversations: listed.into_iter().map(Into::into).collect() }))
    }

    async fn list_participants(
        &self,
        request: Request<v1::ListParticipantsRequest>,
    ) -> Result<Response<v1::ListParticipantsResponse>, Status> {
        let role = Role::of(request.extensions())?;
        let request = request.into_inner();
        let actor = self.actors.resolve(&role, request.caller).await?;
        let ids = request.conversations.map(|conversations| conversations.ids);
        let participants = self.conversing.list_participants(&actor, ids).await?;
        let conversations = participants.conversations.into_iter().map(|(id, members)| v1::ConversationMembers {
            conversation_id: id.to_field(),
            user_ids: members.into_iter().map(UserId::to_field).collect(),
        });
        let users = participants
            .users
            .into_iter()
            .map(|(id, user)| v1::Participant { id: id.to_field(), user: user.map(Into::into) });
        Ok(Response::new(v1::ListParticipantsResponse {
            conversations: conversations.collect(),
            users: users.collect(),
        }))
    }
}

impl From<v1::UsersChange> for UsersChange {
    fn from(v1::UsersChange { add, remove }: v1::UsersChange) -> Self {
        Self { add, remove }
    }
}

impl From<ListedConversation> for v1::ListedConversation {
    fn from(ListedConversation { head, preview }: ListedConversation) -> Self {
        let shown = Shown {
            updated_at: head.updated_at,
            member_count: usize::try_from(head.member_count).unwrap_or(usize::MAX),
            participants: Vec::new(),
        };
        convert::listed(convert::conversation(head.conversation, shown), preview)
    }
}
