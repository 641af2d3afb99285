//! `conversation_create`, `conversation_update`, `conversation_delete`, `conversation_list`, `get_participants_by_cids`.

use proto::reason::Reason;
use proto::v1;

use super::{Answer, Session, decode};
use crate::core_client::CoreClient;
use crate::packet::client::{
    ConversationCreatePacket, ConversationDeletePacket, ConversationListPacket, ConversationUpdatePacket, Envelope,
    GetParticipantsByCidsPacket,
};
use crate::packet::server::{self, Reply};

impl Session {
    pub(super) async fn create_conversation(&self, core: &CoreClient, envelope: &Envelope<'_>) -> Answer {
        let packet: ConversationCreatePacket = decode(envelope)?;
        let request = v1::CreateConversationRequest {
            caller: Some(self.attempting_caller()?),
            r#type: Some(packet.conversation_type),
            name: packet.name,
            description: packet.description,
            participants: packet.participants.map(|ids| v1::UserIds { ids }),
            opponent_id: packet.opponent_id,
            image: packet.image,
            is_encrypted: packet.is_encrypted,
        };
        let conversation = core.create_conversation(request).await?.conversation.ok_or(Reason::InternalError)?;
        Ok(Some(server::response(&envelope.reply_to, &Reply::from(&conversation))))
    }

    /// Unlike other requests it causes events for its own socket too, which come after the reply.
    pub(super) async fn update_conversation(&self, core: &CoreClient, envelope: &Envelope<'_>) -> Answer {
        let packet: ConversationUpdatePacket = decode(envelope)?;
        let request = v1::UpdateConversationRequest {
            caller: Some(self.attempting_caller()?),
            conversation_id: Some(packet.id),
            name: packet.name,
            description: packet.description,
            image: packet.image,
            participants: packet.participants,
            admins: packet.admins,
        };
        self.queue.await_reply();
        let updated = core.update_conversation(request).await?;
        let conversation = updated.conversation.as_ref().ok_or(Reason::InternalError)?;
        Ok(Some(server::response(&envelope.reply_to, &Reply::updated(conversation, updated.deleted))))
    }

    pub(super) async fn leave_conversation(&self, core: &CoreClient, envelope: &Envelope<'_>) -> Answer {
        let packet: ConversationDeletePacket = decode(envelope)?;
        let request =
            v1::LeaveConversationRequest { caller: Some(self.attempting_caller()?), conversation_id: Some(packet.id) };
        core.leave_conversation(request).await?;
        Ok(Some(server::response(&envelope.reply_to, &Reply::SUCCESS)))
    }

    pub(super) async fn list_conversations(&self, core: &CoreClient, envelope: &Envelope<'_>) -> Answer {
        let packet: ConversationListPacket = decode(envelope)?;
        let request = v1::ListConversationsRequest {
            caller: Some(self.caller()?),
            limit: packet.limit,
            updated_at: packet.updated_at,
            ids: packet.ids.map(|ids| v1::ConversationIds { ids }),
        };
        let listed = core.list_conversations(request).await?;
        Ok(Some(server::response(&envelope.reply_to, &Reply::conversations(&listed.conversations))))
    }

    pub(super) async fn list_participants(&self, core: &CoreClient, envelope: &Envelope<'_>) -> Answer {
        let packet: GetParticipantsByCidsPacket = decode(envelope)?;
        let request = v1::ListParticipantsRequest {
            caller: Some(self.caller()?),
            conversations: packet.cids.map(|ids| v1::ConversationIds { ids }),
        };
        let listed = core.list_participants(request).await?;
        Ok(Some(server::response(&envelope.reply_to, &Reply::participants(&listed, packet.ids_only))))
    }
}
