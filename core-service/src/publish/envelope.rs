//! The form in which events and notices leave core: the messages of `chat/v1/event.proto`.
//!
//! Whatever a packet shows is in it, since a gateway asks nobody.

use bytes::Bytes;
use prost::Message as _;
use proto::ids::UserId;
use proto::v1;

use crate::convert::{self, Shown};
use crate::domain::event::{ChangedConversation, Event, Fact, Origin, Step, Subject, Typing};
use crate::domain::session::Attempt;

/// The bytes of an event.
pub fn encode_event(event: Event) -> Vec<u8> {
    v1::Event::from(event).encode_to_vec()
}

/// As part of the trace that is going on.
impl From<Event> for v1::Event {
    fn from(Event { id, subject, attempt, steps }: Event) -> Self {
        Self {
            id: id.to_field(),
            attempt: Some(attempt.into()),
            steps: encode_steps(steps),
            subject: Some(match subject {
                Subject::Conversation(id) => v1::event::Subject::ConversationId(id.to_field()),
                Subject::User(id) => v1::event::Subject::UserId(id.to_field()),
            }),
            traceparent: proto::trace::traceparent(),
        }
    }
}

impl From<Attempt> for v1::Attempt {
    fn from(Attempt { connection_id, frame }: Attempt) -> Self {
        Self { connection_id: connection_id.to_field(), frame }
    }
}

/// Several steps for the same users name them once.
fn encode_steps(steps: Vec<Step>) -> Vec<v1::Step> {
    let mut encoded = Vec::with_capacity(steps.len());
    let mut named = None;
    for Step { recipients, origin, fact } in steps {
        let same_recipients = named.as_ref() == Some(&recipients);
        let recipient_ids = if same_recipients { Vec::new() } else { to_fields(&recipients) };
        let to_origin = origin == Origin::Included;
        encoded.push(v1::Step { recipient_ids, same_recipients, to_origin, fact: Some(fact.into()) });
        named = Some(recipients);
    }
    encoded
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
            Fact::ConversationUpdated(changed) => {
                let (from_user_id, at_ms) = (changed.from.to_field(), changed.at.millis());
                let conversation = Some(changed_conversation(changed));
                Self::ConversationUpdated(v1::ConversationUpdated { conversation, from_user_id, at_ms })
            }
            Fact::MemberAdded { changed, preview } => {
                let (from_user_id, at_ms) = (changed.from.to_field(), changed.at.millis());
                let conversation = Some(convert::listed(changed_conversation(changed), preview));
                Self::MemberAdded(v1::MemberAdded { conversation, from_user_id, at_ms })
            }
            Fact::ConversationRestored { changed, preview } => {
                let (from_user_id, at_ms) = (changed.from.to_field(), changed.at.millis());
                let conversation = Some(convert::listed(changed_conversation(changed), preview));
                Self::ConversationRestored(v1::ConversationRestored { conversation, from_user_id, at_ms })
            }
            Fact::MemberRemoved(changed) => {
                let (from_user_id, at_ms) = (changed.from.to_field(), changed.at.millis());
                let conversation = Some(without_participants(changed_conversation(changed)));
                Self::MemberRemoved(v1::MemberRemoved { conversation, from_user_id, at_ms })
            }
            Fact::MemberLeft(changed) => {
                let conversation = Some(without_participants(changed_conversation(changed)));
                Self::MemberLeft(v1::MemberLeft { conversation })
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

fn changed_conversation(changed: ChangedConversation) -> v1::Conversation {
    let ChangedConversation { conversation, members, updated_at, from: _, at: _ } = changed;
    convert::conversation(conversation, Shown { updated_at, member_count: members.len(), participants: members })
}

/// For those who are in it no longer.
fn without_participants(conversation: v1::Conversation) -> v1::Conversation {
    v1::Conversation { participant_ids: Vec::new(), ..conversation }
}

impl From<Typing> for v1::Notice {
    fn from(typing: Typing) -> Self {
        let Typing { recipients, conversation_id, conversation_type, from, at, client_id, state } = typing;
        Self {
            recipient_ids: to_fields(&recipients),
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

fn to_fields(ids: &[UserId]) -> Vec<Bytes> {
    ids.iter().map(|id| id.to_field()).collect()
}

#[cfg(test)]
mod tests {
    use proto::ids::{ConnectionId, ConversationId, EventId, IdGenerator, MessageId, SessionId, Timestamp};

    use super::*;
    use crate::domain::conversation::{Conversation, ConversationType};
    use crate::domain::message::{Message, MessageContent};
    use crate::domain::organization::OrganizationId;

    const ANN: UserId = UserId::from_bytes([1; 12]);
    const BOB: UserId = UserId::from_bytes([2; 12]);
    const CONVERSATION: ConversationId = ConversationId::from_bytes([3; 12]);
    const MADE_AT: Timestamp = Timestamp::from_millis(1_700_000_000_123);

    fn step(fact: Fact) -> Step {
        Step::new(vec![BOB, ANN], fact)
    }

    fn fact_of(fact: Fact) -> v1::step::Fact {
        encode_steps(vec![step(fact)]).remove(0).fact.unwrap()
    }

    fn conversation(kind: ConversationType) -> Conversation {
        Conversation {
            id: IdGenerator::new([0; 3], 0).next(MADE_AT).into(),
            kind,
            organization_id: OrganizationId::default(),
            owner_id: ANN,
            opponent_id: None,
            name: Some("name".to_owned()),
            description: None,
            image: None,
            is_encrypted: false,
            changed_at: MADE_AT.plus_millis(1),
        }
    }

    #[test]
    fn an_event_keeps_its_frame_and_the_order_of_steps_and_recipients() {
        let event = Event {
            id: EventId::from_bytes([9; 12]),
            subject: Subject::User(BOB),
            attempt: Attempt { connection_id: ConnectionId::from_bytes([8; 12]), frame: u64::MAX },
            steps: vec![
                step(Fact::SessionsRevoked { session_ids: vec![SessionId::new(BOB, [7; 12])] }),
                step(Fact::MessagesRead { conversation_id: CONVERSATION, message_ids: Vec::new(), from: ANN }),
            ],
        };
        let decoded = v1::Event::decode(&encode_event(event)[..]).unwrap();
        assert_eq!(decoded.id, [9; 12].as_slice());
        assert_eq!(decoded.subject, Some(v1::event::Subject::UserId(BOB.to_field())));
        let attempt = v1::Attempt { connection_id: Bytes::from_static(&[8; 12]), frame: u64::MAX };
        assert_eq!(decoded.attempt, Some(attempt));
        let [revoked, read] = &decoded.steps[..] else { panic!("two steps") };
        assert_eq!(revoked.recipient_ids, [BOB.to_field(), ANN.to_field()]);
        assert!(!revoked.same_recipients && read.same_recipients && read.recipient_ids.is_empty());
        let session_ids = vec![SessionId::new(BOB, [7; 12]).to_field()];
        assert_eq!(revoked.fact, Some(v1::step::Fact::SessionsRevoked(v1::SessionsRevoked { session_ids })));
        assert!(matches!(read.fact, Some(v1::step::Fact::MessagesRead(_))));
    }

    #[test]
    fn a_sent_message_carries_what_its_packet_shows() {
        let id = IdGenerator::new([0; 3], 0).next(MADE_AT).into();
        let content = MessageContent { body: "hello".to_owned(), ..MessageContent::default() };
        let message = Message { id, conversation_id: CONVERSATION, from: ANN, content };
        let sent = Fact::MessageSent { message: message.clone(), conversation_type: ConversationType::Channel };
        let v1::step::Fact::MessageSent(sent) = fact_of(sent) else { panic!("another fact") };
        assert_eq!(sent.conversation_type(), v1::ConversationType::Channel);
        assert_eq!(sent.message.as_ref().unwrap().created_at_ms, MADE_AT.millis());
        assert_eq!(sent.message, Some(message.into()));
    }

    #[test]
    fn a_made_conversation_shows_members_except_of_a_channel() {
        let created = |kind| {
            let conversation = conversation(kind);
            let created = fact_of(Fact::ConversationCreated { conversation, members: vec![ANN, BOB] });
            let v1::step::Fact::ConversationCreated(created) = created else { panic!("another fact") };
            assert_eq!((created.from_user_id, created.at_ms), (ANN.to_field(), MADE_AT.millis()));
            let conversation = created.conversation.unwrap();
            assert_eq!(conversation.updated_at_ms, MADE_AT.millis() + 1);
            conversation
        };
        let group = created(ConversationType::Group);
        assert_eq!(group.participant_ids, [ANN.to_field(), BOB.to_field()]);
        assert_eq!(group.subscribers_count, None);
        let channel = created(ConversationType::Channel);
        assert!(channel.participant_ids.is_empty());
        assert_eq!(channel.subscribers_count, Some(2));
    }

    #[test]
    fn read_messages_stay_newest_first_and_only_the_reader_learns_the_rest() {
        let message_ids = vec![MessageId::from_bytes([6; 12]), MessageId::from_bytes([5; 12])];
        let fields: Vec<_> = message_ids.iter().map(|id| id.to_field()).collect();
        let own =
            Fact::OwnMessagesRead { conversation_id: CONVERSATION, message_ids, from: BOB, unread_messages_count: 17 };
        let expected = v1::OwnMessagesRead {
            conversation_id: CONVERSATION.to_field(),
            message_ids: fields,
            from_user_id: BOB.to_field(),
            unread_messages_count: 17,
        };
        assert_eq!(fact_of(own), v1::step::Fact::OwnMessagesRead(expected));
    }

    #[test]
    fn typing_carries_what_the_client_wrote() {
        let typing = Typing {
            recipients: vec![BOB],
            conversation_id: CONVERSATION,
            conversation_type: ConversationType::Private,
            from: ANN,
            at: 1_700_000_001,
            client_id: Some("c1".to_owned()),
            state: None,
        };
        let notice = v1::Notice::from(typing);
        assert_eq!(notice.recipient_ids, [BOB.to_field()]);
        let expected = v1::Typing {
            conversation_id: CONVERSATION.to_field(),
            conversation_type: v1::ConversationType::Private.into(),
            from_user_id: ANN.to_field(),
            at: 1_700_000_001,
            client_id: Some("c1".to_owned()),
            state: None,
        };
        assert_eq!(notice.fact, Some(v1::notice::Fact::Typing(expected)));
    }
}
