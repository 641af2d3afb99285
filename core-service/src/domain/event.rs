//! What happened, for everybody concerned.

use proto::ids::{ConversationId, EventId, MessageId, SessionId, Timestamp, UserId};

use super::conversation::{Conversation, ConversationType};
use super::message::Message;
use super::session::Attempt;
use crate::store::Preview;

/// Everything one request caused. It is stored with the data, and every gateway gets it once, in one order.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Event {
    /// A sent message's event has the message's id.
    pub id: EventId,
    /// What it is about; events about one subject stay in order.
    pub subject: Subject,
    /// The attempt that caused it.
    pub attempt: Attempt,
    /// In the order in which each recipient gets them.
    pub steps: Vec<Step>,
}

/// What an event is about.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Subject {
    /// A conversation.
    Conversation(ConversationId),
    /// A user.
    User(UserId),
}

/// One fact and who is told.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Step {
    /// All their live sockets get it, but see `origin`.
    pub recipients: Vec<UserId>,
    /// Whether the connection that caused the event is among these sockets.
    pub origin: Origin,
    /// What they are told.
    pub fact: Fact,
}

/// What the connection that caused an event gets of a step.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Origin {
    /// Nothing: it has the reply.
    LeftOut,
    /// The same as every socket of its user, after the reply.
    Included,
}

impl Step {
    /// A step for these users, except the connection that caused the event.
    pub fn new(recipients: Vec<UserId>, fact: Fact) -> Self {
        Self { recipients, origin: Origin::LeftOut, fact }
    }

    /// A step for every socket of these users.
    pub fn for_all(recipients: Vec<UserId>, fact: Fact) -> Self {
        Self { recipients, origin: Origin::Included, fact }
    }
}

/// A conversation as one of its changes left it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ChangedConversation {
    /// The conversation.
    pub conversation: Conversation,
    /// Its members in join order.
    pub members: Vec<UserId>,
    /// When it, or its messages, last changed.
    pub updated_at: Timestamp,
    /// Who changed it.
    pub from: UserId,
    /// When.
    pub at: Timestamp,
}

/// A fact.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Fact {
    /// A message was sent.
    MessageSent {
        /// The message.
        message: Message,
        /// Its conversation's.
        conversation_type: ConversationType,
    },
    /// A conversation was made.
    ConversationCreated {
        /// The conversation.
        conversation: Conversation,
        /// Its members in join order.
        members: Vec<UserId>,
    },
    /// A conversation, or who is in it, changed.
    ConversationUpdated(ChangedConversation),
    /// Users were added to a conversation.
    MemberAdded {
        /// The conversation.
        changed: ChangedConversation,
        /// What their lists show of its messages.
        preview: Preview,
    },
    /// A side of a `u` that had left is in it again.
    ConversationRestored {
        /// The conversation.
        changed: ChangedConversation,
        /// What that side's list shows of its messages.
        preview: Preview,
    },
    /// Users were removed from a conversation.
    MemberRemoved(ChangedConversation),
    /// The recipient has left a conversation.
    MemberLeft(ChangedConversation),
    /// Somebody read messages, newest first.
    MessagesRead {
        /// Where.
        conversation_id: ConversationId,
        /// Newest first, at most 1,000.
        message_ids: Vec<MessageId>,
        /// The reader.
        from: UserId,
    },
    /// The same, for the reader's other sockets.
    OwnMessagesRead {
        /// Where.
        conversation_id: ConversationId,
        /// Newest first, at most 1,000.
        message_ids: Vec<MessageId>,
        /// The reader.
        from: UserId,
        /// How many are left, at most 1,000.
        unread_messages_count: u32,
    },
    /// Sessions ended; their sockets are bound no longer.
    SessionsRevoked {
        /// The sessions.
        session_ids: Vec<SessionId>,
    },
}

/// Something told at most once and kept nowhere: somebody types.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Typing {
    /// All their live sockets get it.
    pub recipients: Vec<UserId>,
    /// Where.
    pub conversation_id: ConversationId,
    /// The conversation's.
    pub conversation_type: ConversationType,
    /// Who types.
    pub from: UserId,
    /// Unix seconds, the client's own where it gave them.
    pub at: i64,
    /// Echoed.
    pub client_id: Option<String>,
    /// `start`, `stop` or any short word, echoed.
    pub state: Option<String>,
}

/// Where notices go.
pub trait NoticePublisher: Send + Sync + std::fmt::Debug {
    /// Hands it on without waiting; whoever is not listening misses it.
    fn publish_typing(&self, typing: Typing);
}
