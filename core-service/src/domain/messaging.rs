//! Sending a message, and telling that somebody types.
//!
//! A message is acknowledged when it and its event are safe, and not before. One attempt is one message, however
//! often it is repeated; so is a message that a client sends again on another connection under its own id.

use std::sync::Arc;

use proto::ids::{ConversationId, MessageId, Timestamp};
use proto::reason::Reason;

use super::clock::Stamps;
use super::conversation::{ConversationRecord, ConversationType, Member, Role};
use super::event::{Event, Fact, NoticePublisher, Step, Subject, Typing};
use super::failure::Failure;
use super::limits::{self, check_optional};
use super::message::{Message, MessageContent, NewMessage, RecentMessage};
use super::recent::{Conversations, LockedConversation, Remembered};
use super::send_message::{CheckedMessage, SendMessage};
use super::session::Actor;
use crate::store::Store;

/// The use cases around sending.
#[derive(Clone)]
pub struct Messaging {
    pub(super) store: Arc<dyn Store>,
    pub(super) stamps: Arc<Stamps>,
    conversations: Arc<Conversations>,
    notices: Arc<dyn NoticePublisher>,
}

/// Somebody types, unchecked.
#[derive(Clone, Debug, Default)]
pub struct SendTyping {
    /// As the client wrote it.
    pub conversation_id: Option<String>,
    /// Any short word.
    pub state: Option<String>,
    /// Echoed.
    pub client_id: Option<String>,
    /// Unix seconds.
    pub at: Option<i64>,
}

impl Messaging {
    /// The use cases over this store.
    pub fn new(
        store: Arc<dyn Store>,
        stamps: Arc<Stamps>,
        conversations: Arc<Conversations>,
        notices: Arc<dyn NoticePublisher>,
    ) -> Self {
        Self { store, stamps, conversations, notices }
    }

    /// Sends a message, or finds the one that this is a repeat of; the id of it.
    ///
    /// # Errors
    /// `message_id_invalid`, `cid_missing`, `message_body_too_long`, `too_many_attachments`, `attachment_invalid`,
    /// `validation_failed`, `reserved_extension`, `message_empty`, `conversation_not_found`, `access_denied`,
    /// `reply_target_invalid`. After a failure of the store the fate is open; a repeat completes it.
    pub async fn send(&self, actor: &Actor, command: SendMessage) -> Result<MessageId, Failure> {
        let checked = command.check()?;
        let place = self.conversations.place(checked.conversation_id.ok_or(Reason::ConversationNotFound)?);
        let mut afresh = actor.is_repeat;
        loop {
            let locked = self.conversations.lock(&place, afresh).await?;
            let Some(mut locked) = locked.filter(|locked| is_in_organization(&locked.record, actor)) else {
                return Err(Reason::ConversationNotFound.into());
            };
            let original = locked.find_original(actor.user_id, actor.attempt, checked.fingerprint);
            let (remembered, is_original) = match original {
                Some(original) => (original, false),
                None => {
                    let replied_message_id = self.check_rights(actor, &checked, &locked.record).await?;
                    let stamp = match locked.next_stamp() {
                        Ok(stamp) => stamp,
                        Err(wait) => {
                            drop(locked);
                            tokio::time::sleep(wait).await;
                            continue;
                        }
                    };
                    let new = self.compose(actor, &checked, replied_message_id, stamp, &locked.record);
                    if let Some(missing) = locked.record.missing_side().filter(|side| !new.hidden_for.contains(side)) {
                        let id = new.message.id;
                        if self.send_restoring(actor, new, missing, &mut locked).await? {
                            return Ok(id);
                        }
                        afresh = true;
                        continue;
                    }
                    (self.queue(new, &mut locked), true)
                }
            };
            let record = Arc::clone(&locked.record);
            drop(locked);
            let id = remembered.message.id;
            match remembered.written().await {
                Ok(()) => {
                    if remembered.is_from_store() {
                        let event_of = |new: &NewMessage| sent_event(new, &record);
                        self.store.tell_again(record.conversation.id, id, &event_of).await?;
                    }
                    return Ok(id);
                }
                Err(error) => {
                    place.forget(id).await;
                    if is_original {
                        return Err(error.into());
                    }
                    // The copy this one waited for failed, so this one goes its own way.
                }
            }
        }
    }

    /// Whether the actor may send this here; the message it replies to.
    async fn check_rights(
        &self,
        actor: &Actor,
        checked: &CheckedMessage,
        record: &ConversationRecord,
    ) -> Result<Option<MessageId>, Failure> {
        let member = record.member(actor.user_id).ok_or(Reason::AccessDenied)?;
        if !may_write(record.conversation.kind, member) {
            return Err(Reason::AccessDenied.into());
        }
        let Some(replied) = &checked.replied_message_id else {
            return Ok(None);
        };
        let invalid = || Failure::of_field(Reason::ReplyTargetInvalid, "replied_message_id");
        let replied = MessageId::parse(replied).map_err(|_| invalid())?;
        let visible = self.store.lookup_messages(record.conversation.id, actor.user_id, &[replied]).await?;
        if visible.is_empty() { Err(invalid()) } else { Ok(Some(replied)) }
    }

    /// The message, stamped.
    fn compose(
        &self,
        actor: &Actor,
        checked: &CheckedMessage,
        replied_message_id: Option<MessageId>,
        stamp: Timestamp,
        record: &ConversationRecord,
    ) -> NewMessage {
        // The side that has left a `u` may come back and then sees what was said meanwhile.
        let hidden_for = record.members.iter().map(|member| member.user_id).chain(record.missing_side());
        let hidden_for = hidden_for.filter(|user_id| checked.deleted_for.contains(user_id)).collect();
        let message = Message {
            id: self.stamps.new_id_at(stamp).into(),
            conversation_id: record.conversation.id,
            from: actor.user_id,
            content: MessageContent { replied_message_id, ..checked.content.clone() },
        };
        NewMessage { message, attempt: actor.attempt, fingerprint: checked.fingerprint, hidden_for }
    }

    /// Queues the message with its event to the store, under the conversation's lock.
    fn queue(&self, new: NewMessage, locked: &mut LockedConversation<'_>) -> Arc<Remembered> {
        let event = sent_event(&new, &locked.record);
        let recent = RecentMessage::from(&new);
        let written = self.store.append_message(new, event);
        locked.remember(recent, written)
    }

    /// Tells the other members that the actor types. Nothing is stored.
    ///
    /// # Errors
    /// `cid_missing`, `validation_failed`, `conversation_not_found`, `access_denied`
    pub async fn send_typing(&self, actor: &Actor, command: SendTyping) -> Result<(), Failure> {
        let id = command.conversation_id.ok_or_else(|| Failure::of_field(Reason::CidMissing, "cid"))?;
        let validation = Reason::ValidationFailed;
        check_optional(command.state.as_deref(), &(0..=limits::TYPING_STATE), validation, "type")?;
        check_optional(command.client_id.as_deref(), &(0..=limits::TEXT), validation, "id")?;
        let record = find_conversation(&self.conversations, actor, &id).await?;
        let is_member = record.member(actor.user_id).is_some();
        if !is_member || record.conversation.kind == ConversationType::Channel {
            return Err(Reason::AccessDenied.into());
        }
        self.notices.publish_typing(Typing {
            recipients: record.others(actor.user_id),
            conversation_id: record.conversation.id,
            conversation_type: record.conversation.kind,
            from: actor.user_id,
            at: command.at.unwrap_or_else(|| self.stamps.now().millis() / 1000),
            client_id: command.client_id,
            state: command.state,
        });
        Ok(())
    }
}

/// The conversation of this id in the actor's organization; he need not be in it.
///
/// # Errors
/// `conversation_not_found`
pub(super) async fn find_conversation(
    conversations: &Conversations,
    actor: &Actor,
    id: &str,
) -> Result<Arc<ConversationRecord>, Failure> {
    let Ok(id) = ConversationId::parse(id) else {
        return Err(Reason::ConversationNotFound.into());
    };
    let record = conversations.record(id).await?;
    record.filter(|record| is_in_organization(record, actor)).ok_or_else(|| Reason::ConversationNotFound.into())
}

/// The event of a message that was sent by itself.
fn sent_event(new: &NewMessage, record: &ConversationRecord) -> Event {
    Event {
        id: new.message.id.into(),
        subject: Subject::Conversation(new.message.conversation_id),
        attempt: new.attempt,
        steps: vec![sent_step(new, record)],
    }
}

/// Tells the members of a message, except those it is kept from.
pub(super) fn sent_step(new: &NewMessage, record: &ConversationRecord) -> Step {
    let mut recipients = record.user_ids();
    recipients.retain(|user_id| !new.hidden_for.contains(user_id));
    let fact = Fact::MessageSent { message: new.message.clone(), conversation_type: record.conversation.kind };
    Step::new(recipients, fact)
}

pub(super) fn is_in_organization(record: &ConversationRecord, actor: &Actor) -> bool {
    record.conversation.organization_id == actor.organization_id
}

fn may_write(kind: ConversationType, member: &Member) -> bool {
    kind != ConversationType::Channel || member.role != Role::Plain
}

#[cfg(test)]
mod tests {
    use futures_util::future::join_all;

    use super::*;
    use crate::domain::testing::{TestCore, next_frame, text};

    fn on_another_connection(core: &TestCore, actor: &Actor) -> Actor {
        let attempt = crate::domain::session::Attempt { connection_id: core.new_connection(), frame: 1 };
        Actor { attempt, ..actor.clone() }
    }

    fn reason(failure: Failure) -> Reason {
        match failure {
            Failure::Refused(refused) => refused.reason,
            other => panic!("{other}"),
        }
    }

    #[tokio::test]
    async fn a_resend_on_another_connection_is_the_same_message_for_fifteen_minutes() {
        let core = TestCore::start().await;
        let (ann, bob) = (core.user("ann").await, core.user("bob").await);
        let group = core.group(&[&ann, &bob]).await;
        let send = async |actor: Actor, command| core.messaging.send(&actor, command).await.unwrap();
        let first = send(next_frame(&ann), text(group, Some("m1"), "hi")).await;
        let elsewhere = on_another_connection(&core, &ann);
        assert_eq!(send(elsewhere, text(group, Some("m1"), "hi")).await, first);

        let other_body = send(on_another_connection(&core, &ann), text(group, Some("m1"), "hi!")).await;
        assert_ne!(other_body, first);
        let other_user = send(on_another_connection(&core, &bob), text(group, Some("m1"), "hi")).await;
        assert_ne!(other_user, first);

        core.clock.advance(15 * 60 * 1000 - 1_000);
        assert_eq!(send(on_another_connection(&core, &ann), text(group, Some("m1"), "hi")).await, first);
        core.clock.advance(2_000);
        assert_ne!(send(on_another_connection(&core, &ann), text(group, Some("m1"), "hi")).await, first);
    }

    #[tokio::test]
    async fn on_one_connection_a_repeated_id_is_another_message_and_a_repeated_attempt_is_not() {
        let core = TestCore::start().await;
        let (ann, bob) = (core.user("ann").await, core.user("bob").await);
        let group = core.group(&[&ann, &bob]).await;
        let frame = next_frame(&ann);
        let first = core.messaging.send(&frame, text(group, Some("m1"), "hi")).await.unwrap();
        let again = core.messaging.send(&next_frame(&ann), text(group, Some("m1"), "hi")).await.unwrap();
        assert_ne!(again, first);
        let repeat = Actor { is_repeat: true, ..frame };
        assert_eq!(core.messaging.send(&repeat, text(group, Some("m1"), "hi")).await.unwrap(), first);

        let nameless = next_frame(&ann);
        let first = core.messaging.send(&nameless, text(group, None, "hi")).await.unwrap();
        assert_eq!(core.messaging.send(&nameless, text(group, None, "hi")).await.unwrap(), first);
        let elsewhere = on_another_connection(&core, &ann);
        assert_ne!(core.messaging.send(&elsewhere, text(group, None, "hi")).await.unwrap(), first);
    }

    #[tokio::test]
    async fn copies_that_race_on_two_connections_are_one_message_and_one_event() {
        let core = TestCore::start().await;
        let (ann, bob) = (core.user("ann").await, core.user("bob").await);
        let group = core.group(&[&ann, &bob]).await;
        let before = core.journal.newest();
        let actors: Vec<_> = (0..8).map(|_| on_another_connection(&core, &ann)).collect();
        let sent = join_all(actors.iter().map(|actor| core.messaging.send(actor, text(group, Some("m1"), "hi")))).await;
        let ids: std::collections::HashSet<_> = sent.into_iter().map(Result::unwrap).collect();
        assert_eq!(ids.len(), 1);
        assert_eq!(core.journal.newest(), before + 1);
    }

    #[tokio::test]
    async fn a_resend_is_known_after_a_restart_of_core() {
        let core = TestCore::start().await;
        let (ann, bob) = (core.user("ann").await, core.user("bob").await);
        let group = core.group(&[&ann, &bob]).await;
        let first = core.messaging.send(&next_frame(&ann), text(group, Some("m1"), "hi")).await.unwrap();
        let cold = Arc::new(Conversations::new(Arc::clone(&core.store), Arc::clone(&core.stamps)));
        let notices = Arc::clone(&core.notices);
        let restarted = Messaging::new(Arc::clone(&core.store), Arc::clone(&core.stamps), cold, notices);
        let elsewhere = on_another_connection(&core, &ann);
        assert_eq!(restarted.send(&elsewhere, text(group, Some("m1"), "hi")).await.unwrap(), first);
    }

    #[tokio::test]
    async fn stamps_rise_by_a_millisecond_while_the_clock_stands_or_goes_back() {
        let core = TestCore::start().await;
        let (ann, bob) = (core.user("ann").await, core.user("bob").await);
        let group = core.group(&[&ann, &bob]).await;
        let mut stamps = Vec::new();
        for clock_change in [0, 0, -400, 0, 399] {
            core.clock.advance(clock_change);
            let id = core.messaging.send(&next_frame(&ann), text(group, None, "hi")).await.unwrap();
            stamps.push(id.timestamp().millis());
        }
        assert!(stamps.windows(2).all(|pair| pair[1] == pair[0] + 1), "{stamps:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn stamps_run_at_most_a_second_ahead_of_the_clock() {
        let core = TestCore::start().await;
        let (ann, bob) = (core.user("ann").await, core.user("bob").await);
        let group = core.group(&[&ann, &bob]).await;
        core.messaging.send(&next_frame(&ann), text(group, None, "hi")).await.unwrap();
        core.clock.advance(-1_500);
        let frame = next_frame(&ann);
        let waiting = core.messaging.send(&frame, text(group, None, "hi"));
        let moved_on = async {
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
            core.clock.advance(600);
        };
        let (sent, ()) = tokio::join!(waiting, moved_on);
        let ahead = sent.unwrap().timestamp().millis() - core.stamps.now().millis();
        assert!((0..=1_000).contains(&ahead), "{ahead} ms ahead");
    }

    #[tokio::test]
    async fn only_members_write_and_in_a_channel_only_its_owner() {
        let core = TestCore::start().await;
        let (ann, bob, eve) = (core.user("ann").await, core.user("bob").await, core.user("eve").await);
        let group = core.group(&[&ann, &bob]).await;
        let refused = core.messaging.send(&next_frame(&eve), text(group, None, "hi")).await.unwrap_err();
        assert_eq!(reason(refused), Reason::AccessDenied);
        let command = crate::domain::conversing::CreateConversation {
            kind: Some("c".to_owned()),
            name: Some("News".to_owned()),
            participants: Some(vec![bob.user_id.to_string()]),
            ..Default::default()
        };
        let channel = core.conversing.create(&next_frame(&ann), command).await;
        let channel = channel.unwrap_or_else(|failure| panic!("{failure}")).record.conversation.id;
        core.messaging.send(&next_frame(&ann), text(channel, None, "hi")).await.unwrap();
        let refused = core.messaging.send(&next_frame(&bob), text(channel, None, "hi")).await.unwrap_err();
        assert_eq!(reason(refused), Reason::AccessDenied);
        let typing = SendTyping { conversation_id: Some(channel.to_string()), ..SendTyping::default() };
        assert_eq!(reason(core.messaging.send_typing(&ann, typing).await.unwrap_err()), Reason::AccessDenied);
        assert!(core.notices.0.lock().unwrap().is_empty());
    }
}
