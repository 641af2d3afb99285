//! The form in which events and notices leave core: the messages of `chat/v1/event.proto`.
//!
//! Whatever a packet shows is in it, since a gateway asks nobody.

use bytes::Bytes;
use prost::Message as _;
use proto::ids::UserId;
use proto::v1;

use crate::domain::event::{Event, Fact, Step, Subject, Typing};
use crate::domain::session::Attempt;
use crate::grpc::convert::{self, Shown};

/// The bytes of an event.
pub fn encode_event(event: Event) -> Vec<u8> {
    v1::Event::from(event).encode_to_vec()
}

impl From<Event> for v1::Event {
    fn from(Event { id, subject, attempt, steps }: Event) -> Self {
        Self {
            id: id.to_field(),
            attempt: Some(attempt.into()),
            steps: steps.into_iter().map(Into::into).collect(),
            subject: Some(match subject {
                Subject::Conversation(id) => v1::event::Subject::ConversationId(id.to_field()),
                Subject::User(id) => v1::event::Subject::UserId(id.to_field()),
            }),
        }
    }
}

impl From<Attempt> for v1::Attempt {
    fn from(Attempt { connection_id, frame }: Attempt) -> Self {
        Self { connection_id: connection_id.to_field(), frame }
    }
}

impl From<Step> for v1::Step {
    fn from(Step { recipients, fact }: Step) -> Self {
        Self { recipient_ids: to_fields(recipients), fact: Some(fact.into()) }
    }
}

impl From<Fact> for v1::step::Fact {
    fn from(fact: Fact) -> Self {
        match fact {
            Fact::MessageSent { message, conversation_type } => Self::MessageSent(v1::MessageSent {
                message: Some(message.into()),
                conversation_type: v1::ConversationType::from(conversation_type).into(),
            }),
            Fact::ConversationCreated { conversation, members } => {
                // Whoever made it owns it, until it changes hands.
                let from_user_id = conversation.owner_id.to_field();
                let at_ms = conversation.created_at().millis();
                let updated_at = conversation.changed_at;
                let shown = Shown { updated_at, member_count: members.len(), participants: members };
                let conversation = Some(convert::conversation(conversation, shown));
                Self::ConversationCreated(v1::ConversationCreated { conversation, from_user_id, at_ms })
            }
            Fact::MessagesRead { conversation_id, message_ids, from } => Self::MessagesRead(v1::MessagesRead {
                conversation_id: conversation_id.to_field(),
                message_ids: message_ids.into_iter().map(|id| id.to_field()).collect(),
                from_user_id: from.to_field(),
            }),
            Fact::OwnMessagesRead { conversation_id, message_ids, from, unread_messages_count } => {
                Self::OwnMessagesRead(v1::OwnMessagesRead {
                    conversation_id: conversation_id.to_field(),
                    message_ids: message_ids.into_iter().map(|id| id.to_field()).collect(),
                    from_user_id: from.to_field(),
                    unread_messages_count,
                })
            }
            Fact::SessionsRevoked { session_ids } => Self::SessionsRevoked(v1::SessionsRevoked {
                session_ids: session_ids.into_iter().map(|id| id.to_field()).collect(),
            }),
        }
    }
}

impl From<Typing> for v1::Notice {
    fn from(typing: Typing) -> Self {
        let Typing { recipients, conversation_id, conversation_type, from, at, client_id, state } = typing;
        Self {
            recipient_ids: to_fields(recipients),
            fact: Some(v1::notice::Fact::Typing(v1::Typing {
                conversation_id: conversation_id.to_field(),
                conversation_type: v1::ConversationType::from(conversation_type).into(),
                from_user_id: from.to_field(),
                at,
                client_id,
                state,
            })),
        }
    }
}

fn to_fields(ids: Vec<UserId>) -> Vec<Bytes> {
    ids.into_iter().map(UserId::to_field).collect()
}
