//! What happened, for everybody concerned.

use proto::ids::{ConversationId, EventId, MessageId, SessionId, UserId};

use super::conversation::{Conversation, ConversationType};
use super::message::Message;
use super::session::Attempt;

/// Everything one request caused. It is stored with the data, and every gateway gets it once, in one order.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Event {
    /// A sent message's event has the message's id.
    pub id: EventId,
    /// What it is about; events about one subject stay in order.
    pub subject: Subject,
    /// The attempt that caused it; its connection gets none of the packets, since it has the reply.
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
    /// All their live sockets get it.
    pub recipients: Vec<UserId>,
    /// What they are told.
    pub fact: Fact,
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
