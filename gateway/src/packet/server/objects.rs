//! The objects that replies and events are made of: users, conversations, messages.
//!
//! They borrow from the contract's messages, since a page of history can be large. Absent values are left out.

use std::fmt;

use bytes::Bytes;
use proto::ids::Timestamp;
use proto::v1;
use serde::{Serialize, Serializer};
use serde_json::value::RawValue;
use serde_json::{Map, Value};

/// 12 bytes, written as 24 hexadecimal digits.
#[derive(Clone, Copy)]
pub struct Id<'a>(&'a [u8]);

impl<'a> From<&'a Bytes> for Id<'a> {
    fn from(bytes: &'a Bytes) -> Self {
        Self(bytes)
    }
}

impl Serialize for Id<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&hex::encode(self.0))
    }
}

/// Unix milliseconds, written as an ISO 8601 date in UTC with three decimals.
#[derive(Clone, Copy)]
pub(super) struct IsoDate(pub(super) i64);

impl fmt::Display for IsoDate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let at = jiff::Timestamp::from_millisecond(self.0).unwrap_or(jiff::Timestamp::MAX);
        write!(f, "{at:.3}")
    }
}

impl Serialize for IsoDate {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// The protocol's letter for a type; none for one that this version does not know.
pub(super) fn conversation_type(conversation_type: v1::ConversationType) -> Option<&'static str> {
    match conversation_type {
        v1::ConversationType::Private => Some("u"),
        v1::ConversationType::Group => Some("g"),
        v1::ConversationType::Channel => Some("c"),
        v1::ConversationType::Unspecified => None,
    }
}

/// A user as everybody in the organization sees him.
#[derive(Serialize)]
pub struct UserObject<'a> {
    #[serde(rename = "_id")]
    id: Id<'a>,
    /// Always the same as `_id`; the web client builds its lists of members from it.
    native_id: Id<'a>,
    login: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    email: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    phone: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    first_name: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_name: Option<&'a str>,
    recent_activity: i64,
    created_at: IsoDate,
    updated_at: IsoDate,
}

impl<'a> From<&'a v1::User> for UserObject<'a> {
    fn from(user: &'a v1::User) -> Self {
        let id = Id::from(&user.id);
        Self {
            id,
            native_id: id,
            login: &user.login,
            email: user.email.as_deref(),
            phone: user.phone.as_deref(),
            first_name: user.first_name.as_deref(),
            last_name: user.last_name.as_deref(),
            recent_activity: user.recent_activity,
            created_at: IsoDate(user.created_at_ms),
            updated_at: IsoDate(user.updated_at_ms),
        }
    }
}

/// A user in a list of participants.
#[derive(Serialize)]
#[serde(untagged)]
pub enum ParticipantObject<'a> {
    /// All of him.
    Full(UserObject<'a>),
    /// One of whom only the id is shown.
    Stub {
        /// His id.
        #[serde(rename = "_id")]
        id: Id<'a>,
        /// The same.
        native_id: Id<'a>,
    },
    /// One of whom only the id was asked for.
    Id {
        /// His id.
        #[serde(rename = "_id")]
        id: Id<'a>,
    },
}

impl<'a> ParticipantObject<'a> {
    pub(super) fn new(participant: &'a v1::Participant, id_only: bool) -> Self {
        let id = Id::from(&participant.id);
        match &participant.user {
            _ if id_only => Self::Id { id },
            Some(user) => Self::Full(user.into()),
            None => Self::Stub { id, native_id: id },
        }
    }
}

/// A conversation.
#[derive(Serialize)]
pub struct ConversationObject<'a> {
    #[serde(rename = "_id")]
    id: Id<'a>,
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    conversation_type: Option<&'static str>,
    organization_id: &'a str,
    owner_id: Id<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    opponent_id: Option<Id<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    image_object: Option<ImageObject<'a>>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    is_encrypted: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    subscribers_count: Option<u32>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    participants: Vec<Id<'a>>,
    created_at: IsoDate,
    updated_at: IsoDate,
}

impl<'a> ConversationObject<'a> {
    pub(super) fn id(&self) -> Id<'a> {
        self.id
    }
}

impl<'a> From<&'a v1::Conversation> for ConversationObject<'a> {
    fn from(conversation: &'a v1::Conversation) -> Self {
        Self {
            id: Id::from(&conversation.id),
            conversation_type: conversation_type(conversation.r#type()),
            organization_id: &conversation.organization_id,
            owner_id: Id::from(&conversation.owner_id),
            opponent_id: conversation.opponent_id.as_ref().map(Id::from),
            name: conversation.name.as_deref(),
            description: conversation.description.as_deref(),
            image_object: conversation.image.as_ref().map(ImageObject::from),
            is_encrypted: conversation.is_encrypted,
            subscribers_count: conversation.subscribers_count,
            participants: conversation.participant_ids.iter().map(Id::from).collect(),
            created_at: IsoDate(conversation.created_at_ms),
            updated_at: IsoDate(conversation.updated_at_ms),
        }
    }
}

#[derive(Serialize)]
struct ImageObject<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    file_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    file_name: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    file_blur_hash: Option<&'a str>,
}

impl<'a> From<&'a v1::Image> for ImageObject<'a> {
    fn from(image: &'a v1::Image) -> Self {
        Self {
            file_id: image.file_id.as_deref(),
            file_name: image.file_name.as_deref(),
            file_blur_hash: image.file_blur_hash.as_deref(),
        }
    }
}

/// A conversation in the caller's list.
#[derive(Serialize)]
pub struct ListedConversationObject<'a> {
    #[serde(flatten)]
    conversation: ConversationObject<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_message: Option<MessageObject<'a>>,
    unread_messages_count: u32,
}

impl<'a> ListedConversationObject<'a> {
    pub(super) fn id(&self) -> Id<'a> {
        self.conversation.id
    }

    pub(super) fn of(listed: &'a v1::ListedConversation) -> Option<Self> {
        let last_message = listed.last_message.as_ref();
        Some(Self {
            conversation: listed.conversation.as_ref()?.into(),
            last_message: last_message.map(|message| MessageObject::last(message, listed.last_message_read)),
            unread_messages_count: listed.unread_messages_count,
        })
    }
}

/// A message, in one of the three places it appears in.
#[derive(Serialize)]
pub struct MessageObject<'a> {
    #[serde(rename = "_id")]
    id: Id<'a>,
    cid: Id<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    c_type: Option<&'static str>,
    from: Id<'a>,
    t: i64,
    /// A string even when there is none: clients ask for its length.
    body: &'a str,
    /// Left out when there are none: the web client fails on an empty list.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    attachments: Vec<AttachmentObject<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    x: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    replied_message_id: Option<Id<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    forwarded_message_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    encrypted_message_type: Option<u32>,
    created_at: IsoDate,
    updated_at: IsoDate,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reactions: Option<Reactions>,
}

impl<'a> MessageObject<'a> {
    /// As a `message` event.
    pub(super) fn live(message: &'a v1::Message, of: v1::ConversationType) -> Self {
        Self { c_type: conversation_type(of), ..Self::whole(message) }
    }

    /// As an item of `message_list`; `status` only on the caller's own.
    pub(super) fn listed(listed: &'a v1::ListedMessage) -> Option<Self> {
        let message = Self::whole(listed.message.as_ref()?);
        Some(Self { status: listed.read.map(status), reactions: Some(Reactions {}), ..message })
    }

    /// As `last_message` of a conversation, which shows less.
    fn last(message: &'a v1::Message, read: bool) -> Self {
        Self {
            x: None,
            replied_message_id: None,
            forwarded_message_id: None,
            encrypted_message_type: None,
            status: Some(status(read)),
            reactions: Some(Reactions {}),
            ..Self::whole(message)
        }
    }

    /// What a message says of itself, wherever it appears.
    fn whole(message: &'a v1::Message) -> Self {
        Self {
            id: Id::from(&message.id),
            cid: Id::from(&message.conversation_id),
            c_type: None,
            from: Id::from(&message.from_user_id),
            t: Timestamp::from_millis(message.created_at_ms).rounded_seconds(),
            body: &message.body,
            attachments: message.attachments.iter().map(AttachmentObject::from).collect(),
            x: serde_json::from_str(&message.x_json).ok(),
            replied_message_id: message.replied_message_id.as_ref().map(Id::from),
            forwarded_message_id: message.forwarded_message_id.as_deref(),
            encrypted_message_type: message.encrypted_message_type,
            created_at: IsoDate(message.created_at_ms),
            updated_at: IsoDate(message.updated_at_ms),
            status: None,
            reactions: None,
        }
    }
}

fn status(read: bool) -> &'static str {
    if read { "read" } else { "sent" }
}

/// Who reacted how: nobody, for reactions cannot be sent yet.
#[derive(Serialize)]
struct Reactions {}

#[derive(Serialize)]
struct AttachmentObject<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    file_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    file_name: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    file_blur_hash: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    file_content_type: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    file_url: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    file_size: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    file_width: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    file_height: Option<u32>,
    /// The keys that only the client knows.
    #[serde(flatten)]
    other: Map<String, Value>,
}

impl<'a> From<&'a v1::Attachment> for AttachmentObject<'a> {
    fn from(attachment: &'a v1::Attachment) -> Self {
        Self {
            file_id: attachment.file_id.as_deref(),
            file_name: attachment.file_name.as_deref(),
            file_blur_hash: attachment.file_blur_hash.as_deref(),
            file_content_type: attachment.file_content_type.as_deref(),
            file_url: attachment.file_url.as_deref(),
            file_size: attachment.file_size,
            file_width: attachment.file_width,
            file_height: attachment.file_height,
            other: serde_json::from_str(&attachment.other_json).unwrap_or_default(),
        }
    }
}

/// An organization, as the admin API shows it.
#[derive(Serialize)]
pub struct OrganizationObject<'a> {
    #[serde(rename = "_id")]
    id: &'a str,
    name: &'a str,
    created_at: IsoDate,
    updated_at: IsoDate,
}

impl<'a> From<&'a v1::CreateOrganizationResponse> for OrganizationObject<'a> {
    fn from(organization: &'a v1::CreateOrganizationResponse) -> Self {
        // Nothing changes an organization.
        let created_at = IsoDate(organization.created_at_ms);
        Self { id: &organization.id, name: &organization.name, created_at, updated_at: created_at }
    }
}
