//! Domain to proto and back, for calls and for events.

use proto::ids::{Timestamp, UserId};
use proto::v1;

use crate::domain::conversation::{Conversation, ConversationType, Image};
use crate::domain::message::{Attachment, Message};
use crate::domain::user::User;
use crate::store::Preview;

impl From<User> for v1::User {
    fn from(user: User) -> Self {
        Self {
            id: user.id.to_field(),
            login: user.login,
            email: user.email,
            phone: user.phone,
            first_name: user.first_name,
            last_name: user.last_name,
            recent_activity: user.recent_activity,
            created_at_ms: user.id.timestamp().millis(),
            updated_at_ms: user.updated_at.millis(),
        }
    }
}

impl From<ConversationType> for v1::ConversationType {
    fn from(kind: ConversationType) -> Self {
        match kind {
            ConversationType::Private => Self::Private,
            ConversationType::Group => Self::Group,
            ConversationType::Channel => Self::Channel,
        }
    }
}

impl From<Image> for v1::Image {
    fn from(Image { file_id, file_name, file_blur_hash }: Image) -> Self {
        Self { file_id, file_name, file_blur_hash }
    }
}

impl From<v1::Image> for Image {
    fn from(v1::Image { file_id, file_name, file_blur_hash }: v1::Image) -> Self {
        Self { file_id, file_name, file_blur_hash }
    }
}

/// What a packet shows of a conversation besides the conversation itself.
pub struct Shown {
    /// When it or its messages last changed.
    pub updated_at: Timestamp,
    /// How many are in it; shown of a channel.
    pub member_count: usize,
    /// The members in join order, where the packet shows them; never shown of a channel.
    pub participants: Vec<UserId>,
}

/// The conversation as a packet shows it.
pub fn conversation(conversation: Conversation, shown: Shown) -> v1::Conversation {
    let is_channel = conversation.kind == ConversationType::Channel;
    let created_at_ms = conversation.created_at().millis();
    let participants = if is_channel { Vec::new() } else { shown.participants };
    v1::Conversation {
        id: conversation.id.to_field(),
        r#type: v1::ConversationType::from(conversation.kind).into(),
        organization_id: conversation.organization_id.to_string(),
        owner_id: conversation.owner_id.to_field(),
        opponent_id: conversation.opponent_id.map(UserId::to_field),
        name: conversation.name,
        description: conversation.description,
        image: conversation.image.map(Into::into),
        is_encrypted: conversation.is_encrypted,
        created_at_ms,
        updated_at_ms: shown.updated_at.millis(),
        subscribers_count: is_channel.then(|| u32::try_from(shown.member_count).unwrap_or(u32::MAX)),
        participant_ids: participants.into_iter().map(UserId::to_field).collect(),
    }
}

/// The conversation as a list shows it.
pub fn listed(conversation: v1::Conversation, preview: Preview) -> v1::ListedConversation {
    let last_message_read = preview.last_message.as_ref().is_some_and(|last| last.is_read);
    v1::ListedConversation {
        conversation: Some(conversation),
        last_message: preview.last_message.map(|last| last.message.into()),
        last_message_read,
        unread_messages_count: preview.unread_count,
    }
}

impl From<Attachment> for v1::Attachment {
    fn from(attachment: Attachment) -> Self {
        let Attachment {
            file_id,
            file_name,
            file_blur_hash,
            file_content_type,
            file_url,
            file_size,
            file_width,
            file_height,
            other_json,
        } = attachment;
        Self {
            file_id,
            file_name,
            file_blur_hash,
            file_content_type,
            file_url,
            file_size,
            file_width,
            file_height,
            other_json,
        }
    }
}

impl From<v1::Attachment> for Attachment {
    fn from(attachment: v1::Attachment) -> Self {
        let v1::Attachment {
            file_id,
            file_name,
            file_blur_hash,
            file_content_type,
            file_url,
            file_size,
            file_width,
            file_height,
            other_json,
        } = attachment;
        Self {
            file_id,
            file_name,
            file_blur_hash,
            file_content_type,
            file_url,
            file_size,
            file_width,
            file_height,
            other_json,
        }
    }
}

impl From<Message> for v1::Message {
    fn from(message: Message) -> Self {
        let created_at_ms = message.created_at().millis();
        let content = message.content;
        Self {
            id: message.id.to_field(),
            conversation_id: message.conversation_id.to_field(),
            from_user_id: message.from.to_field(),
            body: content.body,
            attachments: content.attachments.into_iter().map(Into::into).collect(),
            x_json: content.x_json.unwrap_or_default(),
            replied_message_id: content.replied_message_id.map(proto::ids::MessageId::to_field),
            forwarded_message_id: content.forwarded_message_id,
            encrypted_message_type: content.encrypted_message_type.map(u32::from),
            created_at_ms,
            // Nothing changes a message yet.
            updated_at_ms: created_at_ms,
        }
    }
}
