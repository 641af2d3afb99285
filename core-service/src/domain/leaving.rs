//! Leaving a conversation. With the last one out it ends, and all that was said in it.

use std::collections::HashSet;
use std::sync::Arc;

use proto::ids::{ConversationId, Timestamp};
use proto::reason::Reason;

use super::changing::{Aftermath, Found, MessageIds};
use super::conversation::{ConversationRecord, ConversationType};
use super::conversing::Conversing;
use super::event::{ChangedConversation, Event, Fact, Step};
use super::failure::Failure;
use super::membership::{MembersPlan, WantedMembers};
use super::service_message::{Person, ServiceMessage};
use super::session::Actor;
use super::user::User;
use crate::store::ConversationChange;

impl Conversing {
    /// Takes the actor out of a conversation.
    ///
    /// The other side of a `u` notices nothing. In a group the others are told; in a channel only if the owner left.
    ///
    /// # Errors
    /// `cid_missing`, `conversation_unknown`, `participant_not_found`
    pub async fn leave(&self, actor: &Actor, id: Option<String>) -> Result<(), Failure> {
        let id = id.ok_or_else(|| Failure::of_field(Reason::CidMissing, "id"))?;
        let id = ConversationId::parse(&id).map_err(|_| Reason::ConversationUnknown)?;
        let place = self.conversations.place(id);
        let user = self.store.lookup_user(actor.user_id).await?;
        let mut afresh = actor.is_repeat;
        loop {
            let (mut locked, at) = match self.find_to_change(actor, &place, afresh).await? {
                Found::None => return Err(Reason::ConversationUnknown.into()),
                Found::Changed(_) => return Ok(()),
                Found::Now(locked, at) => (locked, at),
            };
            let record = Arc::clone(&locked.record);
            if record.member(actor.user_id).is_none() {
                return Err(Reason::ParticipantNotFound.into());
            }
            let plan = WantedMembers::without(actor.user_id).plan(&record, &HashSet::new(), at);
            let is_written = if plan.count == 0 {
                let event = self.emptied_event(actor, &record, at);
                locked.erase(&*self.store, actor.attempt, event).await?
            } else {
                let (change, event) = self.compose_leave(actor, user.as_ref(), &record, plan, at);
                locked.change(&*self.store, change, event).await?
            };
            if is_written {
                return Ok(());
            }
            afresh = true;
        }
    }

    fn compose_leave(
        &self,
        actor: &Actor,
        user: Option<&User>,
        before: &ConversationRecord,
        plan: MembersPlan,
        at: Timestamp,
    ) -> (ConversationChange, Event) {
        let kind = before.conversation.kind;
        let mut conversation = before.conversation.clone();
        if kind != ConversationType::Private {
            conversation.changed_at = at;
        }
        conversation.owner_id = plan.owner_id.unwrap_or(conversation.owner_id);
        let mut change = ConversationChange {
            conversation,
            expected_version: before.version,
            added: plan.added,
            removed: plan.removed,
            roles: plan.roles,
            messages: Vec::new(),
            attempt: actor.attempt,
        };
        if kind == ConversationType::Group {
            let author = Person { id: actor.user_id, user };
            let id = MessageIds { stamps: &self.stamps, next_at: at }.next();
            change.messages.push(ServiceMessage::Left.write(id, &change.conversation, author, actor.attempt));
        }
        let record = change.applied_to(before);
        let updated_at = record.conversation.changed_at;
        let after = Aftermath { record, from: actor.user_id, at, updated_at };
        let mut steps: Vec<_> = change.messages.iter().map(|message| after.say(message)).collect();
        let is_told = match kind {
            ConversationType::Private => false,
            ConversationType::Group => true,
            ConversationType::Channel => plan.owner_id.is_some(),
        };
        if is_told {
            steps.push(Step::new(after.record.user_ids(), Fact::ConversationUpdated(after.changed())));
        }
        steps.push(Step::new(vec![actor.user_id], Fact::MemberLeft(after.changed())));
        (change, self.event(before.conversation.id, actor.attempt, at, steps))
    }

    /// The last one's other sockets learn that it is over.
    fn emptied_event(&self, actor: &Actor, record: &ConversationRecord, at: Timestamp) -> Event {
        let changed = ChangedConversation {
            conversation: record.conversation.clone(),
            members: Vec::new(),
            updated_at: record.conversation.changed_at,
            from: actor.user_id,
            at,
        };
        let steps = vec![Step::new(vec![actor.user_id], Fact::MemberLeft(changed))];
        self.event(record.conversation.id, actor.attempt, at, steps)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::testing::{TestCore, next_frame, reason};

    #[tokio::test]
    async fn a_repeat_of_leaving_succeeds_as_the_first_did() {
        let core = TestCore::start().await;
        let (ann, bob) = (core.user("ann").await, core.user("bob").await);
        let group = core.group(&[&ann, &bob]).await;
        for member in [&ann, &bob] {
            let frame = next_frame(member);
            core.conversing.leave(&frame, Some(group.to_string())).await.unwrap();
            let told = core.journal.newest();
            let repeat = Actor { is_repeat: true, ..frame };
            core.conversing.leave(&repeat, Some(group.to_string())).await.unwrap();
            assert_eq!(core.journal.newest(), told);
        }
        let again = core.conversing.leave(&next_frame(&bob), Some(group.to_string())).await.unwrap_err();
        assert_eq!(reason(again), Reason::ConversationUnknown);
    }

    #[tokio::test]
    async fn members_who_leave_at_once_leave_one_owner_or_nothing() {
        let core = TestCore::start().await;
        let mut members = Vec::new();
        for number in 0..6 {
            members.push(core.user(&format!("user{number}")).await);
        }
        let group = core.group(&members.iter().collect::<Vec<_>>()).await;
        let frames: Vec<_> = members.iter().map(next_frame).collect();
        let leave = |frame| core.conversing.leave(frame, Some(group.to_string()));
        for left in futures_util::future::join_all(frames[..5].iter().map(leave)).await {
            left.unwrap();
        }
        let record = core.store.lookup_conversation(group).await.unwrap().unwrap();
        assert_eq!(record.conversation.owner_id, members[5].user_id);
        assert_eq!(record.members.len(), 1);
        leave(&frames[5]).await.unwrap();
        assert_eq!(core.store.lookup_conversation(group).await.unwrap(), None);
    }
}
