//! Bringing back the side of a `u` that has left it: by a creation, whoever asks for it, and by the other side's message.

use std::sync::Arc;

use proto::ids::{ConversationId, MessageId, Timestamp, UserId};

use super::changing::{Aftermath, Found};
use super::conversation::{ConversationRecord, Member, Role};
use super::conversing::{Conversing, Created};
use super::event::{Event, Fact, Step, Subject};
use super::failure::Failure;
use super::message::{NewMessage, SeenMessage};
use super::messaging::{Messaging, sent_step};
use super::recent::LockedConversation;
use super::session::Actor;
use crate::store::{ConversationChange, PastChange, Preview, PreviewOf};

impl Conversing {
    /// The `u` with both its sides in it, with all that was said in it; `None` where it has ended meanwhile.
    ///
    /// Who comes back learns of it, on his other sockets if he asked for it himself. His unread messages begin now.
    pub(super) async fn restore(&self, actor: &Actor, id: ConversationId) -> Result<Option<Created>, Failure> {
        let place = self.conversations.place(id);
        let mut afresh = actor.is_repeat;
        loop {
            let (mut locked, at) = match self.find_to_change(actor, &place, afresh).await? {
                Found::None | Found::Changed(PastChange::Erased(_)) => return Ok(None),
                Found::Changed(PastChange::Standing(record)) => return self.created(record).await.map(Some),
                Found::Now(locked, at) => (locked, at),
            };
            let before = Arc::clone(&locked.record);
            let Some(missing) = before.missing_side() else {
                drop(locked);
                return self.created(ConversationRecord::clone(&before)).await.map(Some);
            };
            let preview_of = PreviewOf { conversation_id: id, unread_from: Some(MessageId::first_of(at)) };
            let previews = self.store.list_previews(missing, &[preview_of]).await?;
            let preview = previews.into_iter().next().unwrap_or_default();

            let change = returning(actor, &before, missing, at);
            let record = change.applied_to(&before);
            let updated_at = self.updated_at(&record).await?;
            let after = Aftermath { record, from: actor.user_id, at, updated_at };
            let fact = Fact::ConversationRestored { changed: after.changed(), preview };
            let event = self.event(id, actor.attempt, at, vec![Step::new(vec![missing], fact)]);
            if locked.change(&*self.store, change, event).await? {
                return Ok(Some(Created { record: after.record, updated_at }));
            }
            afresh = true;
        }
    }

    /// The conversation there was.
    pub(super) async fn created(&self, record: ConversationRecord) -> Result<Created, Failure> {
        let updated_at = self.updated_at(&record).await?;
        Ok(Created { record, updated_at })
    }
}

impl Messaging {
    /// Sends a message in a `u` whose other side has left it: that side is in it again, and learns of it before the
    /// message. False where somebody else changed the conversation meanwhile, so that nothing was written.
    pub(super) async fn send_restoring(
        &self,
        actor: &Actor,
        new: NewMessage,
        missing: UserId,
        locked: &mut LockedConversation<'_>,
    ) -> Result<bool, Failure> {
        let at = new.message.created_at();
        let before = Arc::clone(&locked.record);
        let mut change = returning(actor, &before, missing, at);
        let record = change.applied_to(&before);
        let message_step = sent_step(&new, &record);
        let after = Aftermath { record, from: actor.user_id, at, updated_at: at };
        let last_message = Some(SeenMessage { message: new.message.clone(), is_read: false });
        let preview = Preview { last_message, unread_count: 1 };
        let fact = Fact::ConversationRestored { changed: after.changed(), preview };
        let event = Event {
            id: new.message.id.into(),
            subject: Subject::Conversation(before.conversation.id),
            attempt: actor.attempt,
            steps: vec![Step::new(vec![missing], fact), message_step],
        };
        change.messages.push(new);
        Ok(locked.change(&*self.store, change, event).await?)
    }
}

/// The change by which this user is in the conversation again, from this time on.
fn returning(actor: &Actor, before: &ConversationRecord, missing: UserId, at: Timestamp) -> ConversationChange {
    ConversationChange {
        conversation: before.conversation.clone(),
        expected_version: before.version,
        added: vec![Member { user_id: missing, role: Role::Plain, joined_at: at }],
        removed: Vec::new(),
        roles: Vec::new(),
        messages: Vec::new(),
        attempt: actor.attempt,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::conversing::CreateConversation;
    use crate::domain::testing::{TestCore, next_frame, text};

    async fn create(core: &TestCore, actor: &Actor, peer: &Actor) -> ConversationRecord {
        let command = CreateConversation {
            kind: Some("u".to_owned()),
            opponent_id: Some(peer.user_id.to_string()),
            ..CreateConversation::default()
        };
        core.conversing.create(actor, command).await.unwrap_or_else(|failure| panic!("{failure}")).record
    }

    async fn leave(core: &TestCore, actor: &Actor, id: ConversationId) {
        core.conversing.leave(&next_frame(actor), Some(id.to_string())).await.unwrap();
    }

    #[tokio::test]
    async fn messages_sent_at_once_to_who_has_left_bring_him_back_once() {
        let core = TestCore::start().await;
        let (ann, bob) = (core.user("ann").await, core.user("bob").await);
        let id = create(&core, &next_frame(&ann), &bob).await.conversation.id;
        leave(&core, &ann, id).await;
        let before = core.journal.newest();
        let frames: Vec<_> = (0..8).map(|_| next_frame(&bob)).collect();
        let sent = frames.iter().map(|frame| core.messaging.send(frame, text(id, None, "come back")));
        for sent in futures_util::future::join_all(sent).await {
            sent.unwrap();
        }
        assert_eq!(core.journal.newest(), before + 8);
        let record = core.store.lookup_conversation(id).await.unwrap().unwrap();
        assert_eq!((record.user_ids(), record.version), (vec![bob.user_id, ann.user_id], 3));
    }

    #[tokio::test]
    async fn a_repeated_message_that_brought_somebody_back_does_not_do_it_again() {
        let core = TestCore::start().await;
        let (ann, bob) = (core.user("ann").await, core.user("bob").await);
        let id = create(&core, &next_frame(&ann), &bob).await.conversation.id;
        leave(&core, &ann, id).await;
        let frame = next_frame(&bob);
        let sent = core.messaging.send(&frame, text(id, Some("m"), "come back")).await.unwrap();
        leave(&core, &ann, id).await;
        let told = core.journal.newest();
        let repeat = Actor { is_repeat: true, ..frame };
        assert_eq!(core.messaging.send(&repeat, text(id, Some("m"), "come back")).await.unwrap(), sent);
        assert_eq!(core.journal.newest(), told);
    }

    #[tokio::test]
    async fn a_repeated_creation_that_brought_somebody_back_does_not_do_it_again() {
        let core = TestCore::start().await;
        let (ann, bob) = (core.user("ann").await, core.user("bob").await);
        let id = create(&core, &next_frame(&ann), &bob).await.conversation.id;
        leave(&core, &ann, id).await;
        let frame = next_frame(&bob);
        assert_eq!(create(&core, &frame, &ann).await.members.len(), 2);
        leave(&core, &ann, id).await;
        let told = core.journal.newest();
        assert_eq!(create(&core, &Actor { is_repeat: true, ..frame }, &ann).await.conversation.id, id);
        assert_eq!(core.journal.newest(), told);
    }
}
