//! Conversations: making and listing them, and who is in them.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use proto::ids::{ConversationId, MessageId, Timestamp, UserId};
use proto::reason::Reason;

use super::clock::Stamps;
use super::conversation::{Conversation, ConversationHead, ConversationRecord, ConversationType, Image, Member, Role};
use super::event::{Event, Fact, Step, Subject};
use super::failure::Failure;
use super::limits::{self, check_optional, has_length};
use super::recent::Conversations;
use super::session::Actor;
use super::user::User;
use crate::store::{HeadsQuery, Preview, PreviewOf, Store};

/// The use cases around conversations.
#[derive(Clone)]
pub struct Conversing {
    pub(super) store: Arc<dyn Store>,
    pub(super) stamps: Arc<Stamps>,
    pub(super) conversations: Arc<Conversations>,
    pub(super) member_limits: MemberLimits,
}

/// How many may be in a conversation.
#[derive(Clone, Copy, Debug)]
pub struct MemberLimits {
    /// In a group.
    pub group: usize,
    /// In a channel.
    pub channel: usize,
}

impl MemberLimits {
    /// How many may be in a conversation of this type.
    pub(super) fn of(self, kind: ConversationType) -> usize {
        match kind {
            ConversationType::Private => 2,
            ConversationType::Group => self.group,
            ConversationType::Channel => self.channel,
        }
    }
}

/// A conversation to make, unchecked.
#[derive(Clone, Debug, Default)]
pub struct CreateConversation {
    /// `u`, `g` or `c`.
    pub kind: Option<String>,
    /// 1 to 255 characters; required but in a `u`.
    pub name: Option<String>,
    /// At most 255 characters.
    pub description: Option<String>,
    /// At most 50; ids that name nobody are dropped.
    pub participants: Option<Vec<String>>,
    /// Only in a `u`: as if it stood in `participants`.
    pub opponent_id: Option<String>,
    /// Not in a `u`.
    pub image: Option<Image>,
    /// Only in a `u`.
    pub is_encrypted: bool,
}

/// Which conversations to list, unchecked.
#[derive(Clone, Debug, Default)]
pub struct ListConversations {
    /// None or 0: 30; at most 100.
    pub limit: Option<i64>,
    /// Only those updated, or joined, after it.
    pub updated_after: Option<Timestamp>,
    /// Only those updated before it.
    pub updated_before: Option<Timestamp>,
    /// Only these, at most 10.
    pub ids: Option<Vec<String>>,
}

/// A new conversation, or the one there was.
pub struct Created {
    /// The conversation and its members.
    pub record: ConversationRecord,
    /// When it, or its messages, last changed.
    pub updated_at: Timestamp,
}

/// A conversation in a user's list.
pub struct ListedConversation {
    /// The conversation.
    pub head: ConversationHead,
    /// What its messages show.
    pub preview: Preview,
}

/// Who is in which conversation.
pub struct Participants {
    /// In the order asked; members in join order.
    pub conversations: Vec<(ConversationId, Vec<UserId>)>,
    /// Everybody named, by id descending; without the object where there is none to show.
    pub users: Vec<(UserId, Option<User>)>,
}

impl Conversing {
    /// The use cases over this store.
    pub fn new(
        store: Arc<dyn Store>,
        stamps: Arc<Stamps>,
        conversations: Arc<Conversations>,
        member_limits: MemberLimits,
    ) -> Self {
        Self { store, stamps, conversations, member_limits }
    }

    /// Makes a conversation, owned by the actor. Of a `u` there is one per pair: the one that exists comes back.
    ///
    /// # Errors
    /// `conversation_type_missing`, `type_invalid`, `conversation_name_missing`, `validation_failed`,
    /// `participants_missing`, `too_many_in_group`, `user_invalid`, `opponent_not_found`, `too_many_in_private`,
    /// `participants_unresolved`, `participants_limit`
    pub async fn create(&self, actor: &Actor, command: CreateConversation) -> Result<Created, Failure> {
        let kind = command.check()?;
        let is_private = kind == ConversationType::Private;
        let mut named = command.participants.clone().unwrap_or_default();
        named.extend(command.opponent_id.clone().filter(|_| is_private));
        let others = self.existing_others(actor, &named).await?;
        match kind {
            ConversationType::Private => check_opponent(actor, &named, &others)?,
            ConversationType::Group if others.is_empty() => return Err(Reason::ParticipantsUnresolved.into()),
            ConversationType::Group | ConversationType::Channel => {
                check_member_count(others.len() + 1, self.member_limits.of(kind))?;
            }
        }

        loop {
            let (conversation, members) = self.compose(actor, kind, &command, &others);
            let event = self.created_event(actor, &conversation, &members);
            let existing = self.store.create_conversation(&conversation, &members, actor.attempt, event).await?;
            let Some(record) = existing else {
                let updated_at = conversation.changed_at;
                return Ok(Created { record: ConversationRecord { conversation, version: 1, members }, updated_at });
            };
            if record.missing_side().is_none() {
                return self.created(record).await;
            }
            if let Some(created) = self.restore(actor, record.conversation.id).await? {
                return Ok(created);
            }
        }
    }

    /// The conversation and its members as they are made.
    fn compose(
        &self,
        actor: &Actor,
        kind: ConversationType,
        command: &CreateConversation,
        others: &[UserId],
    ) -> (Conversation, Vec<Member>) {
        let is_private = kind == ConversationType::Private;
        let now = self.stamps.now();
        let conversation = Conversation {
            id: self.stamps.new_id_at(now).into(),
            kind,
            organization_id: actor.organization_id.clone(),
            owner_id: actor.user_id,
            opponent_id: others.first().copied().filter(|_| is_private),
            name: command.name.clone().filter(|name| !name.is_empty()),
            description: command.description.clone().filter(|description| !description.is_empty()),
            image: command.image.clone().filter(|_| !is_private),
            is_encrypted: command.is_encrypted && is_private,
            changed_at: now,
        };
        let owner_role = if is_private { Role::Plain } else { Role::Owner };
        let mut members = vec![Member { user_id: actor.user_id, role: owner_role, joined_at: now }];
        members.extend(others.iter().map(|&user_id| Member { user_id, role: Role::Plain, joined_at: now }));
        (conversation, members)
    }

    fn created_event(&self, actor: &Actor, conversation: &Conversation, members: &[Member]) -> Event {
        let members: Vec<_> = members.iter().map(|member| member.user_id).collect();
        Event {
            id: self.stamps.new_id().into(),
            subject: Subject::Conversation(conversation.id),
            attempt: actor.attempt,
            steps: vec![Step::new(
                members.clone(),
                Fact::ConversationCreated { conversation: conversation.clone(), members },
            )],
        }
    }

    /// Those of these users that exist in the actor's organization, without him, each once, in the order named.
    async fn existing_others(&self, actor: &Actor, named: &[String]) -> Result<Vec<UserId>, Failure> {
        let mut ids: Vec<_> = named.iter().filter_map(|id| UserId::parse(id).ok()).collect();
        let mut seen = HashSet::from([actor.user_id]);
        ids.retain(|&id| seen.insert(id));
        let users = self.store.list_users(&actor.organization_id, &ids).await?;
        let existing: HashSet<_> = users.iter().map(|user| user.id).collect();
        ids.retain(|id| existing.contains(id));
        Ok(ids)
    }

    /// The conversations the actor is in, most recently updated first.
    ///
    /// # Errors
    /// `validation_failed`
    pub async fn list(&self, actor: &Actor, command: ListConversations) -> Result<Vec<ListedConversation>, Failure> {
        let limit = limits::page_size(command.limit, limits::DEFAULT_PAGE)?;
        if command.ids.as_ref().is_some_and(|ids| ids.len() > limits::LISTED_CONVERSATION_IDS) {
            return Err(Failure::validation("ids"));
        }
        let parse = |ids: Vec<String>| ids.iter().filter_map(|id| ConversationId::parse(id).ok()).collect();
        let query = HeadsQuery {
            user_id: actor.user_id,
            updated_after: command.updated_after,
            updated_before: command.updated_before,
            ids: command.ids.map(parse),
            limit,
        };
        let heads = self.store.list_heads(&query).await?;
        let previews_of: Vec<_> = heads
            .iter()
            .map(|head| PreviewOf {
                conversation_id: head.conversation.id,
                // Nothing in a channel can be marked read, so nothing there counts as unread.
                unread_from: (head.conversation.kind != ConversationType::Channel)
                    .then(|| MessageId::first_of(head.joined_at)),
            })
            .collect();
        let previews = self.store.list_previews(actor.user_id, &previews_of).await?;
        let listed = heads.into_iter().zip(previews);
        Ok(listed.map(|(head, preview)| ListedConversation { head, preview }).collect())
    }

    /// Who is in these conversations, as far as the actor is.
    ///
    /// # Errors
    /// `cids_missing`, `validation_failed` (more than 200)
    pub async fn list_participants(&self, actor: &Actor, ids: Option<Vec<String>>) -> Result<Participants, Failure> {
        let ids = ids.ok_or_else(|| Failure::of_field(Reason::CidsMissing, "cids"))?;
        if ids.len() > limits::PARTICIPANTS_CIDS {
            return Err(Failure::validation("cids"));
        }
        let mut ids: Vec<_> = ids.iter().filter_map(|id| ConversationId::parse(id).ok()).collect();
        let mut seen = HashSet::new();
        ids.retain(|&id| seen.insert(id));
        let records = self.store.list_conversations(&ids).await?;
        let mut records: BTreeMap<_, _> = records
            .into_iter()
            .filter(|record| record.member(actor.user_id).is_some())
            .map(|record| (record.conversation.id, record))
            .collect();

        let mut conversations = Vec::new();
        let mut named = HashSet::new();
        for id in ids {
            let Some(record) = records.remove(&id) else {
                continue;
            };
            let shown = shown_members(&record, actor.user_id);
            named.extend(shown.iter().copied());
            // Both sides of a `u` are shown, also the one who has left it.
            named.extend(record.conversation.opponent_id.iter().flat_map(|&id| [id, record.conversation.owner_id]));
            conversations.push((id, shown));
        }
        let users = self.show_users(actor, named).await?;
        Ok(Participants { conversations, users })
    }

    async fn show_users(&self, actor: &Actor, named: HashSet<UserId>) -> Result<Vec<(UserId, Option<User>)>, Failure> {
        let mut named: Vec<_> = named.into_iter().collect();
        named.sort_unstable_by(|a, b| b.cmp(a));
        let with_object = &named[..named.len().min(limits::SHOWN_USERS)];
        let users = self.store.list_users(&actor.organization_id, with_object).await?;
        let mut users: BTreeMap<_, _> = users.into_iter().map(|user| (user.id, user)).collect();
        Ok(named.into_iter().map(|id| (id, users.remove(&id))).collect())
    }
}

/// The members that are shown: all, of a channel its owner, its admins and the viewer.
fn shown_members(record: &ConversationRecord, viewer: UserId) -> Vec<UserId> {
    let members = record.members.iter();
    if record.conversation.kind != ConversationType::Channel {
        return members.map(|member| member.user_id).collect();
    }
    members
        .filter(|member| member.role != Role::Plain || member.user_id == viewer)
        .map(|member| member.user_id)
        .take(limits::SHOWN_CHANNEL_MEMBERS)
        .collect()
}

fn check_opponent(actor: &Actor, named: &[String], others: &[UserId]) -> Result<(), Failure> {
    match others {
        [_] => Ok(()),
        [] => {
            let is_caller = |id: &String| UserId::parse(id).is_ok_and(|id| id == actor.user_id);
            let reason = if named.iter().all(is_caller) { Reason::UserInvalid } else { Reason::OpponentNotFound };
            Err(reason.into())
        }
        _ => Err(Reason::TooManyInPrivate.into()),
    }
}

pub(super) fn check_image(image: Option<&Image>) -> Result<(), Failure> {
    for text in image.into_iter().flat_map(|image| [&image.file_id, &image.file_name, &image.file_blur_hash]) {
        check_optional(text.as_deref(), &(0..=limits::TEXT), Reason::ValidationFailed, "image_object")?;
    }
    Ok(())
}

pub(super) fn check_member_count(count: usize, limit: usize) -> Result<(), Failure> {
    if count > limit { Err(Reason::ParticipantsLimit.into()) } else { Ok(()) }
}

impl CreateConversation {
    /// Checks the fields in the order of the protocol's table; the type.
    fn check(&self) -> Result<ConversationType, Failure> {
        let Some(kind) = &self.kind else {
            return Err(Failure::of_field(Reason::ConversationTypeMissing, "type"));
        };
        let kind = ConversationType::from_letter(kind).ok_or_else(|| Failure::of_field(Reason::TypeInvalid, "type"))?;
        let is_private = kind == ConversationType::Private;
        match self.name.as_deref().filter(|name| !name.is_empty()) {
            Some(name) if !has_length(name, &limits::NAME) => return Err(Failure::validation("name")),
            None if !is_private => return Err(Failure::of_field(Reason::ConversationNameMissing, "name")),
            _ => {}
        }
        let validation = Reason::ValidationFailed;
        check_optional(self.description.as_deref(), &(0..=limits::TEXT), validation, "description")?;
        let participants = self.participants.as_deref().unwrap_or_default();
        let has_opponent = is_private && self.opponent_id.is_some();
        if participants.is_empty() && kind != ConversationType::Channel && !has_opponent {
            return Err(Failure::of_field(Reason::ParticipantsMissing, "participants"));
        }
        if participants.len() > limits::PARTICIPANTS {
            return Err(Failure::of_field(Reason::TooManyInGroup, "participants"));
        }
        check_image(self.image.as_ref().filter(|_| !is_private))?;
        Ok(kind)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::testing::{TestCore, next_frame, text};

    #[tokio::test]
    async fn an_existing_private_chat_comes_back_as_it_is_now() {
        let core = TestCore::start().await;
        let (ann, bob) = (core.user("ann").await, core.user("bob").await);
        let command = |peer: &Actor| CreateConversation {
            kind: Some("u".to_owned()),
            opponent_id: Some(peer.user_id.to_string()),
            ..CreateConversation::default()
        };
        let create = async |actor: &Actor, peer: &Actor| {
            let created = core.conversing.create(&next_frame(actor), command(peer)).await;
            created.unwrap_or_else(|failure| panic!("{failure}"))
        };
        let made = create(&ann, &bob).await;
        core.clock.advance(5_000);
        let id = made.record.conversation.id;
        let message = core.messaging.send(&next_frame(&ann), text(id, None, "hi")).await.unwrap();
        let found = create(&bob, &ann).await;
        assert_eq!(found.record, made.record);
        assert_eq!(found.updated_at, message.timestamp());
    }
}
