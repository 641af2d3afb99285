//! Updating a conversation: its name, description and picture, who is in it, and who are its admins.
//!
//! A request takes effect as a whole or not at all, and is one event. What it says to the members is stored with it.

use std::collections::BTreeMap;
use std::sync::Arc;

use proto::ids::{ConversationId, Timestamp, UserId};
use proto::reason::Reason;

use super::changing::{Aftermath, Found, MessageIds};
use super::conversation::{Conversation, ConversationRecord, ConversationType, Image, Role};
use super::conversing::{Conversing, check_image, check_member_count};
use super::event::{ChangedConversation, Event, Fact, Step};
use super::failure::Failure;
use super::limits::{self, check_optional};
use super::membership::{MembersPlan, WantedMembers};
use super::message::{NewMessage, SeenMessage};
use super::service_message::{ConversationState, Person, ServiceMessage};
use super::session::Actor;
use super::user::User;
use crate::store::{ConversationChange, PastChange, Preview};

/// An update of a conversation, unchecked.
#[derive(Clone, Debug, Default)]
pub struct UpdateConversation {
    /// As the client wrote it.
    pub conversation_id: Option<String>,
    /// 1 to 255 characters; may be empty in a `u`, which then has none.
    pub name: Option<String>,
    /// At most 255 characters; empty: none.
    pub description: Option<String>,
    /// In place of the one there is.
    pub image: Option<Image>,
    /// Members; not in a `u`.
    pub participants: UsersChange,
    /// Admins; not in a `u`.
    pub admins: UsersChange,
}

/// Whom to add to a list and whom to take out of it, as the client wrote them.
#[derive(Clone, Debug, Default)]
pub struct UsersChange {
    /// At most 200.
    pub add: Vec<String>,
    /// At most 200.
    pub remove: Vec<String>,
}

/// What an update has left.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Updated {
    /// The conversation; as it was at last if it is no more.
    pub conversation: Conversation,
    /// Its members in join order.
    pub members: Vec<UserId>,
    /// When it, or its messages, last changed.
    pub updated_at: Timestamp,
    /// Whether nobody was left, so that the conversation is no more.
    pub is_erased: bool,
}

/// An update whose fields have been checked.
struct CheckedUpdate {
    /// `None`: it names nothing.
    id: Option<ConversationId>,
    name: Option<String>,
    description: Option<String>,
    image: Option<Image>,
    members: WantedMembers,
    /// Whether a list had an entry, be it one that names nobody.
    names_users: bool,
}

impl Conversing {
    /// Updates a conversation. What changes nothing succeeds without an event.
    ///
    /// # Errors
    /// `cid_missing`, `validation_failed`, `conversation_unknown`, `conversation_name_missing`, `access_denied`,
    /// `conversation_type_unsuitable`, `participants_limit`
    pub async fn update(&self, actor: &Actor, command: UpdateConversation) -> Result<Updated, Failure> {
        let checked = command.check()?;
        let place = self.conversations.place(checked.id.ok_or(Reason::ConversationUnknown)?);
        let people = self.list_people(actor, &checked.members).await?;
        let existing = people.keys().copied().collect();
        let mut afresh = actor.is_repeat;
        loop {
            let (mut locked, at) = match self.find_to_change(actor, &place, afresh).await? {
                Found::None => return Err(Reason::ConversationUnknown.into()),
                Found::Changed(PastChange::Standing(record)) => return self.unchanged(&record).await,
                Found::Changed(PastChange::Erased(conversation)) => return Ok(Updated::erased(conversation)),
                Found::Now(locked, at) => (locked, at),
            };
            let record = Arc::clone(&locked.record);
            checked.check_rights(actor, &record)?;
            let plan = checked.members.plan(&record, &existing, at);
            let mut conversation = checked.conversation(&record.conversation);
            conversation.owner_id = plan.owner_id.unwrap_or(conversation.owner_id);
            if plan.is_empty() && conversation == record.conversation {
                drop(locked);
                return self.unchanged(&record).await;
            }
            if !plan.added.is_empty() {
                check_member_count(plan.count, self.member_limits.of(record.conversation.kind))?;
            }
            let (is_written, updated) = if plan.count == 0 {
                let updated = Updated::erased(record.conversation.clone());
                let event = self.erased_event(actor, &updated, plan.removed, at);
                (locked.erase(&*self.store, actor.attempt, event).await?, updated)
            } else {
                conversation.changed_at = at;
                let (change, event, updated) = self.compose_update(actor, &record, conversation, plan, &people);
                (locked.change(&*self.store, change, event).await?, updated)
            };
            if is_written {
                return Ok(updated);
            }
            afresh = true;
        }
    }

    /// The answer where nothing is changed.
    async fn unchanged(&self, record: &ConversationRecord) -> Result<Updated, Failure> {
        Ok(Updated {
            conversation: record.conversation.clone(),
            members: record.user_ids(),
            updated_at: self.updated_at(record).await?,
            is_erased: false,
        })
    }

    /// Those of the users an update names that exist, and the actor.
    async fn list_people(&self, actor: &Actor, named: &WantedMembers) -> Result<BTreeMap<UserId, User>, Failure> {
        let ids: Vec<_> = named.add.iter().chain(&named.add_admins).chain(&named.remove).copied().collect();
        let users = self.store.list_users(&actor.organization_id, &[&ids[..], &[actor.user_id]].concat()).await?;
        Ok(users.into_iter().map(|user| (user.id, user)).collect())
    }

    /// The change, the event that tells of it in the protocol's order, and what it leaves.
    fn compose_update(
        &self,
        actor: &Actor,
        before: &ConversationRecord,
        conversation: Conversation,
        plan: MembersPlan,
        people: &BTreeMap<UserId, User>,
    ) -> (ConversationChange, Event, Updated) {
        let at = conversation.changed_at;
        let MembersPlan { added, removed, roles, .. } = plan;
        let mut change = ConversationChange {
            conversation,
            expected_version: before.version,
            added,
            removed,
            roles,
            messages: Vec::new(),
            attempt: actor.attempt,
        };
        let record = change.applied_to(before);
        let is_private = record.conversation.kind == ConversationType::Private;
        let has_new_image = record.conversation.image != before.conversation.image && !is_private;
        let mut ids = MessageIds { stamps: &self.stamps, next_at: at };
        let person = |id| Person { id, user: people.get(&id) };
        let author = person(actor.user_id);
        let mut write = |said: ServiceMessage<'_>| said.write(ids.next(), &record.conversation, author, actor.attempt);
        let mut about_members: Vec<NewMessage> = Vec::new();
        about_members.extend(change.added.iter().map(|member| write(ServiceMessage::Added(person(member.user_id)))));
        about_members.extend(change.removed.iter().map(|&id| write(ServiceMessage::Removed(person(id)))));
        let about_image = has_new_image.then(|| {
            // It shows the conversation as it is with this very message, which is the last one.
            let updated_at = about_members.last().map_or(at, |last| last.message.created_at().plus_millis(1));
            let conversation = &record.conversation;
            write(ServiceMessage::ImageChanged(&ConversationState {
                conversation,
                member_count: record.members.len(),
                updated_at,
            }))
        });
        let last = about_image.as_ref().or(about_members.last());
        let updated_at = last.map_or(at, |last| last.message.created_at());
        let after = Aftermath { record, from: actor.user_id, at, updated_at };

        let mut steps = Vec::new();
        if !change.added.is_empty() {
            let is_channel = after.record.conversation.kind == ConversationType::Channel;
            let count = about_members.len() + usize::from(about_image.is_some());
            let preview = Preview {
                last_message: last.map(|last| SeenMessage { message: last.message.clone(), is_read: false }),
                unread_count: if is_channel { 0 } else { u32::try_from(count).unwrap_or(u32::MAX) },
            };
            let added = change.added.iter().map(|member| member.user_id).collect();
            steps.push(Step::new(added, Fact::MemberAdded { changed: after.changed(), preview }));
        }
        steps.extend(about_members.iter().map(|message| after.say(message)));
        if !change.removed.is_empty() {
            steps.push(Step::for_all(change.removed.clone(), Fact::MemberRemoved(after.changed())));
        }
        steps.extend(about_image.iter().map(|message| after.say(message)));
        let mut stayed = before.user_ids();
        stayed.retain(|user_id| !change.removed.contains(user_id));
        steps.push(Step::new(stayed, Fact::ConversationUpdated(after.changed())));
        let event = self.event(before.conversation.id, actor.attempt, at, steps);

        let updated = Updated {
            conversation: after.record.conversation.clone(),
            members: after.record.user_ids(),
            updated_at,
            is_erased: false,
        };
        change.messages = about_members;
        change.messages.extend(about_image);
        (change, event, updated)
    }

    /// Those who were removed last learn it.
    fn erased_event(&self, actor: &Actor, updated: &Updated, removed: Vec<UserId>, at: Timestamp) -> Event {
        let changed = ChangedConversation {
            conversation: updated.conversation.clone(),
            members: Vec::new(),
            updated_at: updated.updated_at,
            from: actor.user_id,
            at,
        };
        let steps = vec![Step::for_all(removed, Fact::MemberRemoved(changed))];
        self.event(updated.conversation.id, actor.attempt, at, steps)
    }
}

impl Updated {
    fn erased(conversation: Conversation) -> Self {
        let updated_at = conversation.changed_at;
        Self { conversation, members: Vec::new(), updated_at, is_erased: true }
    }
}

impl UpdateConversation {
    /// Checks the fields in the order of the protocol's table.
    fn check(self) -> Result<CheckedUpdate, Failure> {
        let Some(id) = &self.conversation_id else {
            return Err(Failure::of_field(Reason::CidMissing, "id"));
        };
        let id = ConversationId::parse(id).ok();
        let validation = Reason::ValidationFailed;
        check_optional(self.name.as_deref(), &(0..=limits::TEXT), validation, "name")?;
        check_optional(self.description.as_deref(), &(0..=limits::TEXT), validation, "description")?;
        check_image(self.image.as_ref())?;
        for (change, field) in [(&self.participants, "participants"), (&self.admins, "admins")] {
            if change.add.len() > limits::CHANGED_MEMBERS || change.remove.len() > limits::CHANGED_MEMBERS {
                return Err(Failure::validation(field));
            }
        }
        let names_users = !self.participants.is_empty() || !self.admins.is_empty();
        let members = WantedMembers {
            add: parse(&self.participants.add),
            remove: parse(&self.participants.remove).into_iter().collect(),
            add_admins: parse(&self.admins.add),
            remove_admins: parse(&self.admins.remove).into_iter().collect(),
        };
        Ok(CheckedUpdate {
            id,
            name: self.name,
            description: self.description,
            image: self.image,
            members,
            names_users,
        })
    }
}

impl UsersChange {
    fn is_empty(&self) -> bool {
        self.add.is_empty() && self.remove.is_empty()
    }
}

fn parse(ids: &[String]) -> Vec<UserId> {
    ids.iter().filter_map(|id| UserId::parse(id).ok()).collect()
}

impl CheckedUpdate {
    /// Whether the actor may make this update of this conversation.
    fn check_rights(&self, actor: &Actor, record: &ConversationRecord) -> Result<(), Failure> {
        let is_private = record.conversation.kind == ConversationType::Private;
        if !is_private && self.name.as_deref() == Some("") {
            return Err(Failure::of_field(Reason::ConversationNameMissing, "name"));
        }
        let member = record.member(actor.user_id).ok_or(Reason::AccessDenied)?;
        if is_private {
            return if self.names_users { Err(Reason::ConversationTypeUnsuitable.into()) } else { Ok(()) };
        }
        let owner_id = record.conversation.owner_id;
        let touches_owner = self.members.remove.contains(&owner_id) || self.members.remove_admins.contains(&owner_id);
        match member.role {
            Role::Owner => Ok(()),
            Role::Admin if !touches_owner => Ok(()),
            Role::Admin | Role::Plain => Err(Reason::AccessDenied.into()),
        }
    }

    /// The conversation with the new fields.
    fn conversation(&self, before: &Conversation) -> Conversation {
        let mut conversation = before.clone();
        if let Some(name) = &self.name {
            conversation.name = Some(name.clone()).filter(|name| !name.is_empty());
        }
        if let Some(description) = &self.description {
            conversation.description = Some(description.clone()).filter(|description| !description.is_empty());
        }
        if let Some(image) = &self.image {
            conversation.image = Some(image.clone());
        }
        conversation
    }
}

#[cfg(test)]
mod tests;
