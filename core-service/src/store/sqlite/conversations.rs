//! The tables `conversations` and `members`.
//!
//! When a conversation was last updated is found, not kept: the later of its last change and its newest message, which
//! the messages' index has at its end. So a message writes nothing here.

use std::cmp::Reverse;
use std::collections::HashSet;

use async_trait::async_trait;
use proto::ids::{ConversationId, MessageId, Timestamp};
use rusqlite::{Connection, params};

use super::accounts::organization_id;
use super::journal::Entry;
use super::row::{Columns, StatementError, Table};
use super::{SqliteStore, changes};
use crate::domain::conversation::{Conversation, ConversationHead, ConversationRecord, ConversationType, Member, Role};
use crate::domain::event::Event;
use crate::domain::session::Attempt;
use crate::store::{ConversationChange, ConversationStore, Erasure, HeadsQuery, PastChange, StoreError};

const CONVERSATIONS: Table = Table { name: "conversations", key: "id" };
const MEMBERS: Table = Table { name: "members", key: "conversation_id" };

const INSERT: &str = "
    INSERT INTO conversations (
        id, kind, organization_id, owner_id, opponent_id, name, description, image_json, is_encrypted, changed_at,
        version, attempt_connection_id, attempt_frame
    ) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, 1, ?11, ?12)";
const INSERT_MEMBER: &str = "INSERT INTO members (conversation_id, user_id, role, joined_at) VALUES (?1, ?2, ?3, ?4)";
const LOOKUP: &str = "SELECT * FROM conversations WHERE id = ?1";
pub(super) const LOOKUP_BY_ATTEMPT: &str =
    "SELECT * FROM conversations WHERE attempt_connection_id = ?1 AND attempt_frame = ?2";
/// In the words of the index `conversations_by_pair`.
pub(super) const LOOKUP_BY_PAIR: &str = "
    SELECT * FROM conversations
    WHERE kind = 'u' AND organization_id = ?1 AND is_encrypted = ?4
        AND min(owner_id, opponent_id) = min(?2, ?3) AND max(owner_id, opponent_id) = max(?2, ?3)";
pub(super) const LIST_MEMBERS: &str = "SELECT * FROM members WHERE conversation_id = ?1 ORDER BY rowid";
const COUNT_MEMBERS: &str = "SELECT count(*) AS members, ?1 AS conversation_id FROM members WHERE conversation_id = ?1";
pub(super) const LIST_MEMBERSHIPS: &str = "
    SELECT id, changed_at, joined_at,
        (SELECT max(id) FROM messages WHERE messages.conversation_id = conversations.id) AS newest_message_id
    FROM members JOIN conversations ON conversations.id = members.conversation_id
    WHERE user_id = ?1";

#[async_trait]
impl ConversationStore for SqliteStore {
    async fn create_conversation(
        &self,
        conversation: &Conversation,
        members: &[Member],
        attempt: Attempt,
        event: Event,
    ) -> Result<Option<ConversationRecord>, StoreError> {
        let conversation = conversation.clone();
        let members = members.to_vec();
        let entry = Entry::new(event);
        let work = move |connection: &Connection| {
            let existing = match lookup_by_attempt(connection, attempt)? {
                Some(existing) => Some(existing),
                None => lookup_by_pair(connection, &conversation)?,
            };
            if let Some(existing) = existing {
                return with_members(connection, existing).map(Some);
            }
            insert(connection, &conversation, &members, attempt)?;
            entry.append(connection)?;
            Ok(None)
        };
        self.write("add a conversation", work).await
    }

    async fn change_conversation(&self, change: ConversationChange, event: Event) -> Result<bool, StoreError> {
        let made_at = event.id.timestamp();
        let entry = Entry::new(event);
        let work = move |connection: &Connection| {
            let is_made = changes::make(connection, &change, made_at)?;
            if is_made {
                entry.append(connection)?;
            }
            Ok(is_made)
        };
        self.write("change a conversation", work).await
    }

    async fn erase_conversation(&self, erasure: Erasure, event: Event) -> Result<bool, StoreError> {
        let made_at = event.id.timestamp();
        let entry = Entry::new(event);
        let work = move |connection: &Connection| {
            let is_made = changes::erase(connection, erasure, made_at)?;
            if is_made {
                entry.append(connection)?;
            }
            Ok(is_made)
        };
        self.write("erase a conversation", work).await
    }

    async fn lookup_change(&self, id: ConversationId, attempt: Attempt) -> Result<Option<PastChange>, StoreError> {
        self.lookups.read("look up a change", move |connection| changes::lookup(connection, id, attempt)).await
    }

    async fn erase_content(&self, now: Timestamp) -> Result<(), StoreError> {
        let list = move |connection: &Connection| changes::list_erased(connection);
        for id in self.lists.read("list erased conversations", list).await? {
            while !self.write("erase content", move |connection| changes::erase_rest(connection, id, now)).await? {}
        }
        Ok(())
    }

    async fn lookup_conversation(&self, id: ConversationId) -> Result<Option<ConversationRecord>, StoreError> {
        self.lookups.read("look up a conversation", move |connection| lookup_record(connection, id)).await
    }

    async fn list_conversations(&self, ids: &[ConversationId]) -> Result<Vec<ConversationRecord>, StoreError> {
        let ids: HashSet<_> = ids.iter().copied().collect();
        let work = move |connection: &Connection| {
            let mut records = Vec::with_capacity(ids.len());
            for id in ids {
                records.extend(lookup_record(connection, id)?);
            }
            Ok(records)
        };
        self.lists.read("list conversations", work).await
    }

    async fn list_heads(&self, query: &HeadsQuery) -> Result<Vec<ConversationHead>, StoreError> {
        let query = query.clone();
        self.lists.read("list a user's conversations", move |connection| list_heads(connection, &query)).await
    }
}

fn insert(
    connection: &Connection,
    conversation: &Conversation,
    members: &[Member],
    attempt: Attempt,
) -> Result<(), StatementError> {
    connection.prepare_cached(INSERT)?.execute(params![
        conversation.id.as_bytes(),
        conversation.kind.letter(),
        conversation.organization_id.as_str(),
        conversation.owner_id.as_bytes(),
        conversation.opponent_id.as_ref().map(|id| id.as_bytes()),
        conversation.name,
        conversation.description,
        image_json(conversation),
        conversation.is_encrypted,
        conversation.changed_at.millis(),
        attempt.connection_id.as_bytes(),
        attempt.frame.cast_signed(),
    ])?;
    insert_members(connection, conversation.id, members)
}

/// Adds members, last in join order.
pub(super) fn insert_members(
    connection: &Connection,
    id: ConversationId,
    members: &[Member],
) -> Result<(), StatementError> {
    let mut insert_member = connection.prepare_cached(INSERT_MEMBER)?;
    for member in members {
        let (role, joined_at) = (role_word(member.role), member.joined_at.millis());
        insert_member.execute(params![id.as_bytes(), member.user_id.as_bytes(), role, joined_at])?;
    }
    Ok(())
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

/// A conversation's row, without its members.
pub(super) struct Row {
    pub(super) conversation: Conversation,
    version: u64,
}

fn lookup_by_attempt(connection: &Connection, attempt: Attempt) -> Result<Option<Row>, StatementError> {
    let parameters = params![attempt.connection_id.as_bytes(), attempt.frame.cast_signed()];
    CONVERSATIONS.lookup(connection, LOOKUP_BY_ATTEMPT, parameters, decode)
}

fn lookup_by_pair(connection: &Connection, wanted: &Conversation) -> Result<Option<Row>, StatementError> {
    let (ConversationType::Private, Some(opponent_id)) = (wanted.kind, wanted.opponent_id) else { return Ok(None) };
    let organization_id = wanted.organization_id.as_str();
    let parameters = params![organization_id, wanted.owner_id.as_bytes(), opponent_id.as_bytes(), wanted.is_encrypted];
    CONVERSATIONS.lookup(connection, LOOKUP_BY_PAIR, parameters, decode)
}

pub(super) fn lookup_record(
    connection: &Connection,
    id: ConversationId,
) -> Result<Option<ConversationRecord>, StatementError> {
    let row = CONVERSATIONS.lookup(connection, LOOKUP, [id.as_bytes()], decode)?;
    row.map(|row| with_members(connection, row)).transpose()
}

fn with_members(connection: &Connection, row: Row) -> Result<ConversationRecord, StatementError> {
    let Row { conversation, version } = row;
    let members = MEMBERS.list(connection, LIST_MEMBERS, [conversation.id.as_bytes()], decode_member)?;
    Ok(ConversationRecord { conversation, version, members })
}

/// As much of a membership as decides whether and where its conversation is listed.
struct Membership {
    conversation_id: ConversationId,
    joined_at: Timestamp,
    updated_at: Timestamp,
}

fn list_heads(connection: &Connection, query: &HeadsQuery) -> Result<Vec<ConversationHead>, StatementError> {
    let user_id = query.user_id;
    let mut memberships = CONVERSATIONS.list(connection, LIST_MEMBERSHIPS, [user_id.as_bytes()], |columns| {
        let newest: Option<MessageId> = columns.optional_id("newest_message_id")?;
        let changed_at = columns.time("changed_at")?;
        Ok(Membership {
            conversation_id: columns.id("id")?,
            joined_at: columns.time("joined_at")?,
            updated_at: newest.map_or(changed_at, |newest| changed_at.max(newest.timestamp())),
        })
    })?;
    memberships.retain(|membership| is_wanted(membership, query));
    memberships.sort_unstable_by_key(|membership| Reverse((membership.updated_at, membership.conversation_id)));
    let Some(last) = query.limit.checked_sub(1) else { return Ok(Vec::new()) };
    if let Some(oldest) = memberships.get(last).map(|membership| membership.updated_at) {
        memberships.retain(|membership| membership.updated_at >= oldest);
    }

    let mut heads = Vec::with_capacity(memberships.len());
    for Membership { conversation_id, joined_at, updated_at } in memberships {
        let row = CONVERSATIONS.lookup(connection, LOOKUP, [conversation_id.as_bytes()], decode)?;
        let Some(Row { conversation, version: _ }) = row else { continue };
        let member_count = MEMBERS
            .lookup(connection, COUNT_MEMBERS, [conversation_id.as_bytes()], |columns| columns.get("members"))?
            .unwrap_or(0);
        heads.push(ConversationHead { conversation, member_count, joined_at, updated_at });
    }
    Ok(heads)
}

fn is_wanted(membership: &Membership, query: &HeadsQuery) -> bool {
    let Membership { conversation_id, joined_at, updated_at } = membership;
    query.updated_after.is_none_or(|after| *updated_at > after || *joined_at > after)
        && query.updated_before.is_none_or(|before| *updated_at < before)
        && query.ids.as_ref().is_none_or(|ids| ids.contains(conversation_id))
}

pub(super) fn decode(columns: &Columns<'_>) -> Result<Row, StatementError> {
    let kind: String = columns.get("kind")?;
    let conversation = Conversation {
        id: columns.id("id")?,
        kind: ConversationType::from_letter(&kind).ok_or_else(|| columns.corrupt("kind"))?,
        organization_id: organization_id(columns, "organization_id")?,
        owner_id: columns.id("owner_id")?,
        opponent_id: columns.optional_id("opponent_id")?,
        name: columns.get("name")?,
        description: columns.get("description")?,
        image: columns.optional_json("image_json")?,
        is_encrypted: columns.get("is_encrypted")?,
        changed_at: columns.time("changed_at")?,
    };
    Ok(Row { conversation, version: columns.number("version")? })
}

fn decode_member(columns: &Columns<'_>) -> Result<Member, StatementError> {
    let role = match columns.get::<String>("role")?.as_str() {
        "owner" => Role::Owner,
        "admin" => Role::Admin,
        "plain" => Role::Plain,
        _ => return Err(columns.corrupt("role")),
    };
    Ok(Member { user_id: columns.id("user_id")?, role, joined_at: columns.time("joined_at")? })
}
