//! What every change of a conversation has in common: it is decided under the conversation's lock on what is known of it,
//! and holds only if no other process changed it meanwhile; then it is decided again.

use proto::ids::{ConversationId, MessageId, Timestamp, UserId};

use super::clock::Stamps;
use super::conversation::ConversationRecord;
use super::conversing::Conversing;
use super::event::{ChangedConversation, Event, Fact, Step, Subject};
use super::failure::Failure;
use super::message::NewMessage;
use super::messaging::is_in_organization;
use super::recent::{BusyConversation, LockedConversation};
use super::session::{Actor, Attempt};
use crate::store::PastChange;

/// A conversation that is to be changed.
pub(super) enum Found<'a> {
    /// There is none.
    None,
    /// This attempt has changed it already.
    Changed(PastChange),
    /// As it is now, and the stamp of a change that is made now: above everything in it.
    Now(LockedConversation<'a>, Timestamp),
}

impl Conversing {
    /// Looks for the conversation of this place, in the actor's organization. `afresh` reads it anew.
    pub(super) async fn find_to_change<'a>(
        &'a self,
        actor: &Actor,
        place: &'a BusyConversation,
        afresh: bool,
    ) -> Result<Found<'a>, Failure> {
        loop {
            let locked = self.conversations.lock(place, afresh).await?;
            if let Some(past) = self.store.lookup_change(place.id, actor.attempt).await? {
                return Ok(Found::Changed(past));
            }
            let Some(locked) = locked.filter(|locked| is_in_organization(&locked.record, actor)) else {
                return Ok(Found::None);
            };
            match locked.next_stamp() {
                Ok(stamp) => {
                    let at = stamp.max(locked.record.conversation.changed_at.plus_millis(1));
                    return Ok(Found::Now(locked, at));
                }
                Err(wait) => {
                    drop(locked);
                    tokio::time::sleep(wait).await;
                }
            }
        }
    }

    /// When a conversation, or its messages, last changed.
    pub(super) async fn updated_at(&self, record: &ConversationRecord) -> Result<Timestamp, Failure> {
        let changed_at = record.conversation.changed_at;
        let newest = self.store.newest_message_id(record.conversation.id).await?;
        Ok(newest.map_or(changed_at, |newest| changed_at.max(newest.timestamp())))
    }

    /// An event about a conversation.
    pub(super) fn event(&self, id: ConversationId, attempt: Attempt, at: Timestamp, steps: Vec<Step>) -> Event {
        Event { id: self.stamps.new_id_at(at).into(), subject: Subject::Conversation(id), attempt, steps }
    }
}

/// What a change leaves behind, for the packets that tell of it.
pub(super) struct Aftermath {
    pub(super) record: ConversationRecord,
    pub(super) from: UserId,
    pub(super) at: Timestamp,
    /// The time of the last service message, else that of the change.
    pub(super) updated_at: Timestamp,
}

impl Aftermath {
    pub(super) fn changed(&self) -> ChangedConversation {
        ChangedConversation {
            conversation: self.record.conversation.clone(),
            members: self.record.user_ids(),
            updated_at: self.updated_at,
            from: self.from,
            at: self.at,
        }
    }

    /// The step that tells these of a service message, on all their sockets.
    pub(super) fn say(&self, new: &NewMessage) -> Step {
        let conversation_type = self.record.conversation.kind;
        Step::for_all(self.record.user_ids(), Fact::MessageSent { message: new.message.clone(), conversation_type })
    }
}

/// The stamps of service messages: the first is the change's own, each next one a millisecond later.
pub(super) struct MessageIds<'a> {
    pub(super) stamps: &'a Stamps,
    pub(super) next_at: Timestamp,
}

impl MessageIds<'_> {
    pub(super) fn next(&mut self) -> MessageId {
        let at = self.next_at;
        self.next_at = at.plus_millis(1);
        self.stamps.new_id_at(at).into()
    }
}
