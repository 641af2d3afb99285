//! The tables `conversations` and `conversations_by_user`.
//!
//! A conversation and its members are one partition: statics say what it is, a row says who is in it. It is changed by
//! conditional batches alone, `IF version = ?`. `conversations_by_user` is an index, written before a member is added and
//! removed after he is gone; readers check the truth. Its rows have the conversation's version for their time stamp, so
//! that what a slow process still writes about an older version has no effect, and an entry counts above a removal of the
//! same version.
//!
//! When a conversation was last updated is found, not kept: the later of its last change and its newest message.

use std::collections::HashSet;

use proto::ids::{ConversationId, Timestamp, UserId};
use tokio::try_join;

use super::database::statements;
use super::row::Row;
use super::{Inner, ScyllaStore};
use crate::domain::conversation::{Conversation, ConversationType, Member, Role};
use crate::domain::organization::OrganizationId;
use crate::domain::session::Attempt;
use crate::store::StoreError;

/// What is read of a conversation besides its members.
macro_rules! head_columns {
    () => {
        "conversation_id, kind, organization_id, owner_id, opponent_id, name, description, image_json, is_encrypted,
        changed_at, version, member_count, erased_at, unfinished"
    };
}

statements! {
    /// Statements about conversations.
    pub(super) struct Statements {
        /// look up a conversation
        lookup_conversation: concat!("SELECT ", head_columns!(), " FROM conversations WHERE conversation_id = ? LIMIT 1"),
        /// look up who changed a conversation
        lookup_conversation_attempts: concat!(
            "SELECT ", head_columns!(), ", attempts FROM conversations WHERE conversation_id = ? LIMIT 1"
        ),
        /// look up a conversation of a user
        lookup_conversation_of_member: concat!(
            "SELECT ", head_columns!(), ", joined_at FROM conversations WHERE conversation_id = ? AND user_id = ?"
        ),
        /// list the members of a conversation
        list_members: "SELECT conversation_id, user_id, role, joined_at, position, version
            FROM conversations WHERE conversation_id = ?",
        /// add a conversation
        create_conversation: "UPDATE conversations SET kind = ?, organization_id = ?, owner_id = ?, opponent_id = ?, name = ?,
            description = ?, image_json = ?, is_encrypted = ?, changed_at = ?, version = 1, member_count = ?, unfinished = ?
            WHERE conversation_id = ? IF version = null",
        /// change a conversation
        change_conversation: "UPDATE conversations SET owner_id = ?, name = ?, description = ?, image_json = ?, changed_at = ?,
            version = ?, member_count = ?, unfinished = ?
            WHERE conversation_id = ? IF version = ? AND unfinished = null",
        /// erase a conversation
        erase_conversation: "UPDATE conversations SET version = ?, member_count = 0, erased_at = ?, unfinished = ?
            WHERE conversation_id = ? IF version = ? AND unfinished = null",
        /// remember a change
        remember_change: "UPDATE conversations USING TTL ? SET attempts[?] = ? WHERE conversation_id = ?",
        /// add a member
        insert_member: "INSERT INTO conversations (conversation_id, user_id, role, joined_at, position)
            VALUES (?, ?, ?, ?, ?)",
        /// change a member's role
        set_member_role: "UPDATE conversations SET role = ? WHERE conversation_id = ? AND user_id = ?",
        /// remove a member
        remove_member: "DELETE FROM conversations WHERE conversation_id = ? AND user_id = ?",
        /// note a change as done
        clear_unfinished: "UPDATE conversations SET unfinished = null WHERE conversation_id = ? IF version = ?",
        /// forget an erased conversation
        forget_conversation: "UPDATE conversations SET kind = null, organization_id = null, owner_id = null, opponent_id = null,
            name = null, description = null, image_json = null, is_encrypted = null, changed_at = null, version = null,
            member_count = null, erased_at = null, attempts = null
            WHERE conversation_id = ? IF version = ? AND unfinished = null",
        /// list a conversation of a user
        enlist_conversation: "INSERT INTO conversations_by_user (user_id, conversation_id, kind) VALUES (?, ?, ?) USING TIMESTAMP ?",
        /// remove a conversation from a user's list
        unlist_conversation: "DELETE FROM conversations_by_user USING TIMESTAMP ? WHERE user_id = ? AND conversation_id = ?",
        /// list a user's conversations
        list_conversations_of_user: "SELECT conversation_id, kind FROM conversations_by_user WHERE user_id = ?",
    }
}

/// A conversation without its members; it may be an erased one.
pub(super) struct Head {
    /// Of an erased one, what it was at last.
    pub(super) conversation: Conversation,
    pub(super) version: u64,
    pub(super) member_count: u32,
    pub(super) erased_at: Option<Timestamp>,
    /// What its last change has left to be done.
    pub(super) unfinished: Option<Vec<u8>>,
}

impl Head {
    pub(super) fn is_erased(&self) -> bool {
        self.erased_at.is_some()
    }

    /// `None` for what is left of a partition after its conversation was forgotten.
    pub(super) fn decode(row: &Row) -> Result<Option<Self>, StoreError> {
        if row.is_null("version") {
            return Ok(None);
        }
        let kind = ConversationType::from_letter(row.text("kind")?).ok_or_else(|| row.corrupt("kind"))?;
        let organization_id = OrganizationId::parse(row.text("organization_id")?);
        let conversation = Conversation {
            id: row.id("conversation_id")?,
            kind,
            organization_id: organization_id.ok_or_else(|| row.corrupt("organization_id"))?,
            owner_id: row.id("owner_id")?,
            opponent_id: row.optional_id("opponent_id")?,
            name: row.optional_text("name")?.map(str::to_owned),
            description: row.optional_text("description")?.map(str::to_owned),
            image: row.optional_json("image_json")?,
            is_encrypted: row.flag("is_encrypted")?,
            changed_at: row.time("changed_at")?,
        };
        let member_count = u32::try_from(row.small("member_count")?).map_err(|_| row.corrupt("member_count"))?;
        Ok(Some(Self {
            conversation,
            version: row.number("version")?,
            member_count,
            erased_at: row.optional_integer("erased_at")?.map(Timestamp::from_millis),
            unfinished: row.optional_blob("unfinished")?.map(<[u8]>::to_vec),
        }))
    }
}

/// A conversation without its members, as far as it is known to this core's database nodes.
pub(super) async fn lookup_head(store: &ScyllaStore, id: ConversationId) -> Result<Option<Head>, StoreError> {
    let Inner { database, conversations, .. } = &*store.inner;
    let row = database.read_one(&conversations.lookup_conversation, (id.as_bytes().as_slice(),)).await?;
    Ok(row.as_ref().map(Head::decode).transpose()?.flatten())
}

/// A conversation without its members, and whether this attempt changed it. `Look::Serial` sees every change that was
/// answered or can still be; it costs a round between the database's nodes, and those who race for a conversation get in
/// each other's way.
pub(super) async fn lookup_head_for(
    store: &ScyllaStore,
    id: ConversationId,
    attempt: Attempt,
    look: Look,
) -> Result<Option<(Head, bool)>, StoreError> {
    let Inner { database, conversations, .. } = &*store.inner;
    let (statement, values) = (&conversations.lookup_conversation_attempts, (id.as_bytes().as_slice(),));
    let row = match look {
        Look::Plain => database.read_one(statement, values).await?,
        Look::Serial => database.read_one_serial(statement, values).await?,
    };
    let Some(row) = row else { return Ok(None) };
    let key = attempt_key(attempt);
    let is_known = row.map("attempts")?.iter().any(|(known, _)| known.as_blob().is_some_and(|known| *known == key));
    Ok(Head::decode(&row)?.map(|head| (head, is_known)))
}

/// How a conversation is read.
#[derive(Clone, Copy)]
pub(super) enum Look {
    Plain,
    Serial,
}

/// An attempt as it is remembered.
pub(super) fn attempt_key(attempt: Attempt) -> Vec<u8> {
    let Attempt { connection_id, frame } = attempt;
    [connection_id.as_bytes().as_slice(), &frame.to_be_bytes()].concat()
}

/// A member and his place in the join order.
struct PlacedMember {
    member: Member,
    place: i64,
}

/// The members in join order, and the version that they belong to; `None` where they are of two versions.
async fn read_members(store: &ScyllaStore, id: ConversationId) -> Result<Option<(u64, Vec<Member>)>, StoreError> {
    let Inner { database, conversations, .. } = &*store.inner;
    let rows = database.read(&conversations.list_members, (id.as_bytes().as_slice(),)).await?;
    let mut versions = HashSet::new();
    let mut members = Vec::with_capacity(rows.len());
    for row in &rows {
        versions.insert(if row.is_null("version") { 0 } else { row.number("version")? });
        // Of a partition without rows, the statics come alone.
        if row.is_null("user_id") {
            continue;
        }
        let role = role_of(row.text("role")?).ok_or_else(|| row.corrupt("role"))?;
        let member = Member { user_id: row.id("user_id")?, role, joined_at: row.time("joined_at")? };
        members.push(PlacedMember { member, place: row.integer("position")? });
    }
    members.sort_by_key(|member| member.place);
    let members = members.into_iter().map(|PlacedMember { member, place: _ }| member).collect();
    Ok(match versions.len() {
        0 => Some((0, members)),
        1 => versions.into_iter().next().map(|version| (version, members)),
        _ => None,
    })
}

/// The members in join order, if the conversation is of this version.
pub(super) async fn list_members_at(
    store: &ScyllaStore,
    id: ConversationId,
    version: u64,
) -> Result<Option<Vec<Member>>, StoreError> {
    let found = read_members(store, id).await?;
    Ok(found.filter(|(found, _)| *found == version).map(|(_, members)| members))
}

/// A conversation with its members, all of one version, whatever of it is unfinished; `None` also for an erased one that
/// left nothing to be done.
pub(super) async fn lookup(store: &ScyllaStore, id: ConversationId) -> Result<Option<(Head, Vec<Member>)>, StoreError> {
    loop {
        let (head, members) = try_join!(lookup_head(store, id), read_members(store, id))?;
        let Some(head) = head else { return Ok(None) };
        match members {
            Some((version, members)) if version == head.version => return Ok(Some((head, members))),
            // It changed in between; each time round somebody got a change done.
            _ => {}
        }
    }
}

/// Writes the conversation into the lists of users who come with this version.
pub(super) async fn enlist(
    store: &ScyllaStore,
    conversation: &Conversation,
    user_ids: impl IntoIterator<Item = UserId>,
    version: u64,
) -> Result<(), StoreError> {
    let Inner { database, conversations, .. } = &*store.inner;
    let written_at = version.cast_signed() * 2 + 1;
    let (id, kind) = (conversation.id.as_bytes().as_slice(), conversation.kind.letter());
    let enlisted = database.for_each(user_ids, |user_id| async move {
        let values = (user_id.as_bytes().as_slice(), id, kind, written_at);
        database.write(&conversations.enlist_conversation, values).await
    });
    enlisted.await.map(drop)
}

/// Removes the conversation from the lists of users who went with this version.
pub(super) async fn unlist(
    store: &ScyllaStore,
    id: ConversationId,
    user_ids: &[UserId],
    version: u64,
) -> Result<(), StoreError> {
    let Inner { database, conversations, .. } = &*store.inner;
    let written_at = version.cast_signed() * 2;
    let unlisted = database.for_each(user_ids.iter().copied(), |user_id| async move {
        let values = (written_at, user_id.as_bytes().as_slice(), id.as_bytes().as_slice());
        database.write(&conversations.unlist_conversation, values).await
    });
    unlisted.await.map(drop)
}

/// Places in the join order: those who come with a version stand behind those of all versions before.
pub(super) fn places(version: u64) -> impl Iterator<Item = i64> {
    (version.cast_signed() << 20)..
}

/// The picture as it is kept.
pub(super) fn image_json(conversation: &Conversation) -> Option<String> {
    conversation.image.as_ref().map(|image| serde_json::to_string(image).expect("three texts"))
}

/// The role as it is kept.
pub(super) fn role_word(role: Role) -> &'static str {
    match role {
        Role::Owner => "owner",
        Role::Admin => "admin",
        Role::Plain => "plain",
    }
}

fn role_of(word: &str) -> Option<Role> {
    [Role::Owner, Role::Admin, Role::Plain].into_iter().find(|&role| role_word(role) == word)
}
