//! Messages.

use proto::ids::{ConversationId, MessageId, Timestamp, UserId};

use super::session::Attempt;

/// A file or link that comes with a message. Nothing in it is required.
#[derive(Clone, PartialEq, Eq, Debug, Default, serde::Serialize, serde::Deserialize)]
#[serde(default)]
pub struct Attachment {
    /// Opaque, at most 255 characters, as the next three.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file_id: Option<String>,
    #[expect(missing_docs, reason = "see file_id")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file_name: Option<String>,
    #[expect(missing_docs, reason = "see file_id")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file_blur_hash: Option<String>,
    #[expect(missing_docs, reason = "see file_id")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file_content_type: Option<String>,
    /// At most 2,048 characters.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file_url: Option<String>,
    /// Bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file_size: Option<u64>,
    /// Pixels.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file_width: Option<u32>,
    /// Pixels.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file_height: Option<u32>,
    /// Keys the protocol does not know, as the text of a JSON object with sorted keys; empty when there are none.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub other_json: String,
}

/// What a message says.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct MessageContent {
    /// Empty when there is none.
    pub body: String,
    /// At most 10.
    pub attachments: Vec<Attachment>,
    /// The client's free object, as JSON text with sorted keys.
    pub x_json: Option<String>,
    /// A message of the same conversation.
    pub replied_message_id: Option<MessageId>,
    /// Echoed; the original may be gone, or known to the client alone.
    pub forwarded_message_id: Option<String>,
    /// 0 or 1, echoed.
    pub encrypted_message_type: Option<u8>,
}

/// A stored message.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Message {
    /// Unique; says when it was made, and so where it stands in its conversation.
    pub id: MessageId,
    /// Where it lives.
    pub conversation_id: ConversationId,
    /// Its author.
    pub from: UserId,
    /// What it says.
    pub content: MessageContent,
}

impl Message {
    /// When it was made; until edits exist also when it last changed.
    pub fn created_at(&self) -> Timestamp {
        self.id.timestamp()
    }
}

/// A digest of a message's client id and everything the client put into it: equal for a resend and its original.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Fingerprint(pub [u8; 16]);

/// A message on its way into the store.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NewMessage {
    /// The message.
    pub message: Message,
    /// The frame that sent it.
    pub attempt: Attempt,
    /// Only where the client chose an id: without one, a second message is never a resend.
    pub fingerprint: Option<Fingerprint>,
    /// Members who never see it.
    pub hidden_for: Vec<UserId>,
}

/// What is remembered of a recent message, to tell a resend.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RecentMessage {
    /// The message.
    pub id: MessageId,
    /// Its author.
    pub from: UserId,
    /// The frame that sent it.
    pub attempt: Attempt,
    /// As in [`NewMessage::fingerprint`].
    pub fingerprint: Option<Fingerprint>,
}

impl From<&NewMessage> for RecentMessage {
    fn from(new: &NewMessage) -> Self {
        let NewMessage { message, attempt, fingerprint, hidden_for: _ } = new;
        Self { id: message.id, from: message.from, attempt: *attempt, fingerprint: *fingerprint }
    }
}

/// A message as one user sees it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SeenMessage {
    /// The message.
    pub message: Message,
    /// Whether a user other than its author, from whom it is not hidden, has read it. Told of the viewer's own messages
    /// and of the last one in a preview; of any other it is false.
    pub is_read: bool,
}

/// As much of a message as read marks need.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MessageMark {
    /// The message.
    pub id: MessageId,
    /// Its author.
    pub from: UserId,
    /// Whether it is hidden from the user who asked.
    pub is_hidden: bool,
}

/// A part of a conversation: the messages with `from <= id < until`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct IdRange {
    /// The smallest id in it.
    pub from: MessageId,
    /// The smallest id above it.
    pub until: MessageId,
}

impl IdRange {
    /// Every message.
    pub const ALL: Self = Self { from: MessageId::from_bytes([0; 12]), until: MessageId::from_bytes([0xff; 12]) };

    /// The messages made after the millisecond `after` and before the millisecond `before`, where given.
    pub fn between(after: Option<Timestamp>, before: Option<Timestamp>) -> Self {
        Self {
            from: after.map_or(Self::ALL.from, |after| MessageId::first_of(after.plus_millis(1))),
            until: before.map_or(Self::ALL.until, MessageId::first_of),
        }
    }
}
