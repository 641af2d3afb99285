//! Frames out: replies, acknowledgements, failures and events as JSON text.
//!
//! Every function here returns one whole frame. No frame has two keys that clients dispatch on; the extra ones beside
//! them (`ack`, `event`) are looked at by none.

mod objects;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use bytes::Bytes;
use proto::ids::Timestamp;
use proto::reason::Failure;
use proto::v1;
use serde::Serialize;

pub use self::objects::{
    ConversationObject, ListedConversationObject, MessageObject, OrganizationObject, ParticipantObject, UserObject,
};
use self::objects::{Id, IsoDate, conversation_type};
use super::error::ErrorObject;
use super::reply_to::{Form, ReplyTo, RequestId};

/// What a successful request gets beside its `id`.
#[derive(Serialize)]
#[serde(untagged)]
#[expect(missing_docs, reason = "the fields are the protocol's keys")]
pub enum Reply<'a> {
    /// To `ping`.
    Pong { pong: Empty },
    /// To what only takes effect.
    Success { success: bool },
    /// To `user_create`.
    User { user: UserObject<'a> },
    /// To `user_login`: the access token, and until when it holds in Unix milliseconds.
    LoggedIn { user: UserObject<'a>, token: &'a str, expired_at: i64 },
    /// To `user_search` and `get_users_by_ids`.
    Users { users: Vec<UserObject<'a>> },
    /// To `conversation_create`, and to `conversation_update` if the conversation is still there.
    Conversation { conversation: ConversationObject<'a> },
    /// To a `conversation_update` that left nobody in it.
    DeletedConversation { deleted: bool, conversation: ConversationObject<'a> },
    /// To `conversation_list`.
    Conversations { conversations: Vec<ListedConversationObject<'a>> },
    /// To `get_participants_by_cids`.
    Participants { users: Vec<ParticipantObject<'a>>, conversations: BTreeMap<String, Vec<Id<'a>>> },
    /// To `message_list`.
    Messages { messages: Vec<MessageObject<'a>> },
}

/// `{}`
#[derive(Serialize)]
pub struct Empty {}

impl<'a> Reply<'a> {
    /// The reply to `ping`.
    pub const PONG: Self = Self::Pong { pong: Empty {} };
    /// The reply to what only takes effect.
    pub const SUCCESS: Self = Self::Success { success: true };

    /// The reply to `user_login`.
    pub fn logged_in(user: &'a v1::User, token: &'a str, expires_at_ms: i64) -> Self {
        Self::LoggedIn { user: user.into(), token, expired_at: expires_at_ms }
    }

    /// The reply to `user_search` and `get_users_by_ids`.
    pub fn users(users: &'a [v1::User]) -> Self {
        Self::Users { users: users.iter().map(UserObject::from).collect() }
    }

    /// The reply to `conversation_update`.
    pub fn updated(conversation: &'a v1::Conversation, deleted: bool) -> Self {
        let conversation = conversation.into();
        if deleted { Self::DeletedConversation { deleted, conversation } } else { Self::Conversation { conversation } }
    }

    /// The reply to `conversation_list`.
    pub fn conversations(conversations: &'a [v1::ListedConversation]) -> Self {
        Self::Conversations { conversations: conversations.iter().filter_map(ListedConversationObject::of).collect() }
    }

    /// The reply to `message_list`.
    pub fn messages(messages: &'a [v1::ListedMessage]) -> Self {
        Self::Messages { messages: messages.iter().filter_map(MessageObject::listed).collect() }
    }

    /// The reply to `get_participants_by_cids`; with `ids_only` each user is nothing but an id.
    pub fn participants(response: &'a v1::ListParticipantsResponse, ids_only: bool) -> Self {
        let users = response.users.iter();
        let conversations = response.conversations.iter();
        Self::Participants {
            users: users.map(|user| ParticipantObject::new(user, ids_only)).collect(),
            conversations: conversations
                .map(|members| (hex::encode(&members.conversation_id), members.user_ids.iter().map(Id::from).collect()))
                .collect(),
        }
    }
}

impl<'a> From<&'a v1::User> for Reply<'a> {
    fn from(user: &'a v1::User) -> Self {
        Self::User { user: user.into() }
    }
}

impl<'a> From<&'a v1::Conversation> for Reply<'a> {
    fn from(conversation: &'a v1::Conversation) -> Self {
        Self::Conversation { conversation: conversation.into() }
    }
}

/// `response`: the success of a request.
pub fn response(reply_to: &ReplyTo, reply: &Reply<'_>) -> String {
    encode(&Addressed::Response(WithId { id: reply_to.request_id.as_ref(), content: reply }))
}

/// The failure of a request or packet, in the form it was sent in.
pub fn failure(reply_to: &ReplyTo, failure: &Failure) -> String {
    let content = &Failed { error: ErrorObject::from(failure) };
    let request_id = reply_to.request_id.as_ref();
    encode(&match reply_to.form {
        Form::Response => Addressed::Response(WithId { id: request_id, content }),
        // Never more than the id: a client would take a `typing` with a conversation for somebody typing there.
        Form::Message => Addressed::Message(WithId { id: reply_to.packet_id_or_request_id(), content }),
        Form::Typing => Addressed::Typing(WithId { id: reply_to.packet_id_or_request_id(), content }),
    })
}

/// `ask` and `ack`: the acceptance of a `message`, in whatever form it was sent.
pub fn ask_ack(reply_to: &ReplyTo, sent: &v1::SendMessageResponse) -> String {
    let server_mid = hex::encode(&sent.message_id);
    let accepted = Accepted {
        mid: reply_to.message_id().unwrap_or(&server_mid),
        server_mid: &server_mid,
        t: Timestamp::from_millis(sent.created_at_ms).rounded_seconds(),
        created_at: IsoDate(sent.created_at_ms),
    };
    encode(&AskAck { ask: &accepted, ack: &accepted })
}

/// The frame for one step of an event; none for what is no packet.
pub fn step(fact: &v1::step::Fact) -> Option<String> {
    match fact {
        v1::step::Fact::MessageSent(sent) => message(sent),
        v1::step::Fact::ConversationCreated(told) => {
            let conversation = ConversationObject::from(told.conversation.as_ref()?);
            let content = Content { conversation_created: Some(&conversation), ..Content::default() };
            Some(system_message(conversation.id(), &told.from_user_id, told.at_ms, &content))
        }
        v1::step::Fact::ConversationRestored(told) => {
            let conversation = ListedConversationObject::of(told.conversation.as_ref()?)?;
            let content = Content { conversation_created: Some(&conversation), ..Content::default() };
            Some(system_message(conversation.id(), &told.from_user_id, told.at_ms, &content))
        }
        v1::step::Fact::MemberAdded(told) => {
            let conversation = ListedConversationObject::of(told.conversation.as_ref()?)?;
            let content = Content {
                conversation_created: Some(&conversation),
                conversation_updated: Some(&conversation),
                conversation_kicked: None,
            };
            Some(system_message(conversation.id(), &told.from_user_id, told.at_ms, &content))
        }
        v1::step::Fact::ConversationUpdated(told) => {
            let conversation = ConversationObject::from(told.conversation.as_ref()?);
            let content = Content { conversation_updated: Some(&conversation), ..Content::default() };
            Some(system_message(conversation.id(), &told.from_user_id, told.at_ms, &content))
        }
        v1::step::Fact::MemberRemoved(told) => {
            let conversation = ConversationObject::from(told.conversation.as_ref()?);
            let content = Content { conversation_kicked: Some(&conversation), ..Content::default() };
            Some(system_message(conversation.id(), &told.from_user_id, told.at_ms, &content))
        }
        v1::step::Fact::MemberLeft(told) => {
            let conversation_deleted = ConversationObject::from(told.conversation.as_ref()?);
            Some(encode(&OwnEvent { event: ConversationDeleted { conversation_deleted } }))
        }
        v1::step::Fact::MessagesRead(read) => Some(message_read(read)),
        v1::step::Fact::OwnMessagesRead(read) => Some(own_message_read(read)),
        v1::step::Fact::SessionsRevoked(_) => None,
    }
}

/// The frame for a notice.
pub fn notice(fact: &v1::notice::Fact) -> String {
    match fact {
        v1::notice::Fact::Typing(notice) => typing(notice),
    }
}

/// `message`: a new one.
fn message(sent: &v1::MessageSent) -> Option<String> {
    let message = MessageObject::live(sent.message.as_ref()?, sent.conversation_type());
    Some(encode(&Message { message }))
}

/// `event` and `system_message`: what became of a conversation, in both forms.
fn system_message<C: Serialize>(id: Id<'_>, from: &Bytes, at_ms: i64, content: &Content<'_, C>) -> String {
    encode(&SystemMessage {
        event: content,
        system_message: SystemMessageContent {
            id,
            cid: id,
            from: Id::from(from),
            t: Timestamp::from_millis(at_ms).rounded_seconds(),
            x: content,
        },
    })
}

/// `message_read`: another user has read messages.
fn message_read(read: &v1::MessagesRead) -> String {
    encode(&MessageRead {
        message_read: ReadMarks {
            cid: Id::from(&read.conversation_id),
            ids: read.message_ids.iter().map(Id::from).collect(),
            from: Id::from(&read.from_user_id),
            unread_messages_count: None,
        },
    })
}

/// `event` alone: the user has read messages on another of his sockets.
fn own_message_read(read: &v1::OwnMessagesRead) -> String {
    encode(&OwnEvent {
        event: MessageRead {
            message_read: ReadMarks {
                cid: Id::from(&read.conversation_id),
                ids: read.message_ids.iter().map(Id::from).collect(),
                from: Id::from(&read.from_user_id),
                unread_messages_count: Some(read.unread_messages_count),
            },
        },
    })
}

/// `typing`: another user types. Old and new name of the state are both sent.
fn typing(notice: &v1::Typing) -> String {
    encode(&Typing {
        typing: TypingContent {
            cid: Id::from(&notice.conversation_id),
            c_type: conversation_type(notice.conversation_type()),
            from: Id::from(&notice.from_user_id),
            t: notice.at,
            id: notice.client_id.as_deref(),
            kind: notice.state.as_deref(),
            status: notice.state.as_deref(),
        },
    })
}

fn encode(packet: &impl Serialize) -> String {
    serde_json::to_string(packet).expect("packets have string keys only, and writing to memory does not fail")
}

/// A reply under the key that its request's form calls for.
#[derive(Serialize)]
#[serde(rename_all = "snake_case")]
enum Addressed<'a, T> {
    Response(WithId<'a, T>),
    Message(WithId<'a, T>),
    Typing(WithId<'a, T>),
}

#[derive(Serialize)]
struct WithId<'a, T> {
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<&'a RequestId>,
    #[serde(flatten)]
    content: &'a T,
}

#[derive(Serialize)]
struct Failed<'a> {
    error: ErrorObject<'a>,
}

#[derive(Serialize)]
struct AskAck<'a> {
    ask: &'a Accepted<'a>,
    ack: &'a Accepted<'a>,
}

#[derive(Serialize)]
struct Accepted<'a> {
    mid: &'a str,
    server_mid: &'a str,
    t: i64,
    created_at: IsoDate,
}

#[derive(Serialize)]
struct Message<'a> {
    message: MessageObject<'a>,
}

#[derive(Serialize)]
struct SystemMessage<'a, C> {
    event: &'a Content<'a, C>,
    system_message: SystemMessageContent<'a, C>,
}

#[derive(Serialize)]
struct SystemMessageContent<'a, C> {
    #[serde(rename = "_id")]
    id: Id<'a>,
    cid: Id<'a>,
    from: Id<'a>,
    t: i64,
    x: &'a Content<'a, C>,
}

/// What became of it.
#[derive(Serialize)]
struct Content<'a, C> {
    #[serde(skip_serializing_if = "Option::is_none")]
    conversation_created: Option<&'a C>,
    #[serde(skip_serializing_if = "Option::is_none")]
    conversation_updated: Option<&'a C>,
    #[serde(skip_serializing_if = "Option::is_none")]
    conversation_kicked: Option<&'a C>,
}

impl<C> Default for Content<'_, C> {
    fn default() -> Self {
        Self { conversation_created: None, conversation_updated: None, conversation_kicked: None }
    }
}

/// For the acting user's other sockets.
#[derive(Serialize)]
struct OwnEvent<E> {
    event: E,
}

#[derive(Serialize)]
struct ConversationDeleted<'a> {
    conversation_deleted: ConversationObject<'a>,
}

#[derive(Serialize)]
struct MessageRead<'a> {
    message_read: ReadMarks<'a>,
}

#[derive(Serialize)]
struct ReadMarks<'a> {
    cid: Id<'a>,
    ids: Vec<Id<'a>>,
    from: Id<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    unread_messages_count: Option<u32>,
}

#[derive(Serialize)]
struct Typing<'a> {
    typing: TypingContent<'a>,
}

#[derive(Serialize)]
struct TypingContent<'a> {
    cid: Id<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    c_type: Option<&'static str>,
    from: Id<'a>,
    t: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<&'a str>,
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    kind: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<&'a str>,
}
