//! How conversations change and end: the tables `conversations` and `members` after they were made, `changes`, `erased`.
//!
//! A change is one row of `changes` under its attempt, so that a repeat is known. An erased conversation is out of every
//! table that is asked at once, and its content with it unless that is much; then the rest goes in steps, and `erased`
//! says where there is one.

use proto::ids::{ConversationId, Timestamp, UserId};
use rusqlite::{Connection, params};

use super::conversations::{decode, image_json, insert_members, lookup_record, role_word};
use super::messages;
use super::row::{StatementError, Table};
use crate::domain::session::Attempt;
use crate::store::{ConversationChange, Erasure, PastChange, REPEATED_MS};

const CHANGES: Table = Table { name: "changes", key: "conversation_id" };
const ERASED: Table = Table { name: "erased", key: "id" };

/// One step of an erasure removes so many rows of each table.
pub(super) const STEP: usize = 1_000;

const UPDATE: &str = "
    UPDATE conversations
    SET owner_id = ?3, name = ?4, description = ?5, image_json = ?6, changed_at = ?7, version = version + 1
    WHERE id = ?1 AND version = ?2";
const REMOVE_MEMBER: &str = "DELETE FROM members WHERE user_id = ?1 AND conversation_id = ?2";
const SET_ROLE: &str = "UPDATE members SET role = ?3 WHERE user_id = ?1 AND conversation_id = ?2";
const REMEMBER: &str = "
    INSERT OR REPLACE INTO changes (attempt_connection_id, attempt_frame, conversation_id, made_at) VALUES (?1, ?2, ?3, ?4)";
/// Two go for each that comes, so that they do not pile up and no change waits for many.
const FORGET_CHANGES: &str = "
    DELETE FROM changes WHERE rowid IN (SELECT rowid FROM changes ORDER BY rowid LIMIT 2) AND made_at < ?1";
pub(super) const LOOKUP_CHANGE: &str = "
    SELECT conversation_id FROM changes
    WHERE attempt_connection_id = ?1 AND attempt_frame = ?2 AND conversation_id = ?3";
const KEEP_ERASED: &str = "
    INSERT INTO erased
    SELECT id, kind, organization_id, owner_id, opponent_id, name, description, image_json, is_encrypted, changed_at,
        version, ?3
    FROM conversations WHERE id = ?1 AND version = ?2";
const REMOVE: &str = "DELETE FROM conversations WHERE id = ?1";
const REMOVE_MEMBERS: &str = "DELETE FROM members WHERE conversation_id = ?1";
const LOOKUP_ERASED: &str = "SELECT * FROM erased WHERE id = ?1";
const LIST_ERASED: &str = "SELECT id FROM erased ORDER BY rowid";
const FORGET_ERASED: &str = "DELETE FROM erased WHERE id = ?1 AND erased_at < ?2";
pub(super) const REMOVE_CONTENT: [&str; 3] = [
    "DELETE FROM messages WHERE rowid IN (SELECT rowid FROM messages WHERE conversation_id = ?1 LIMIT ?2)",
    "DELETE FROM hidden WHERE (user_id, conversation_id, message_id) IN (
        SELECT user_id, conversation_id, message_id FROM hidden WHERE conversation_id = ?1 LIMIT ?2)",
    "DELETE FROM read_ranges WHERE (conversation_id, user_id, first_id) IN (
        SELECT conversation_id, user_id, first_id FROM read_ranges WHERE conversation_id = ?1 LIMIT ?2)",
];

/// Makes the change if the version is the expected one; whether it was.
pub(super) fn make(
    connection: &Connection,
    change: &ConversationChange,
    made_at: Timestamp,
) -> Result<bool, StatementError> {
    let ConversationChange { conversation, expected_version, added, removed, roles, messages, attempt } = change;
    let updated = connection.prepare_cached(UPDATE)?.execute(params![
        conversation.id.as_bytes(),
        expected_version.cast_signed(),
        conversation.owner_id.as_bytes(),
        conversation.name,
        conversation.description,
        image_json(conversation),
        conversation.changed_at.millis(),
    ])?;
    if updated == 0 {
        return Ok(false);
    }
    let of_member = |user_id: &UserId| [*user_id.as_bytes(), *conversation.id.as_bytes()];
    for user_id in removed {
        connection.prepare_cached(REMOVE_MEMBER)?.execute(of_member(user_id))?;
    }
    for (user_id, role) in roles {
        let [user, conversation] = of_member(user_id);
        connection.prepare_cached(SET_ROLE)?.execute(params![user, conversation, role_word(*role)])?;
    }
    insert_members(connection, conversation.id, added)?;
    for message in messages {
        messages::insert(connection, message)?;
    }
    remember(connection, conversation.id, *attempt, made_at)?;
    Ok(true)
}

/// Erases the conversation if the version is the expected one; whether it was.
pub(super) fn erase(connection: &Connection, erasure: Erasure, made_at: Timestamp) -> Result<bool, StatementError> {
    let Erasure { id, expected_version, attempt } = erasure;
    let parameters = params![id.as_bytes(), expected_version.cast_signed(), made_at.millis()];
    if connection.prepare_cached(KEEP_ERASED)?.execute(parameters)? == 0 {
        return Ok(false);
    }
    for statement in [REMOVE, REMOVE_MEMBERS] {
        connection.prepare_cached(statement)?.execute([id.as_bytes()])?;
    }
    erase_content(connection, id)?;
    remember(connection, id, attempt, made_at)?;
    Ok(true)
}

fn remember(
    connection: &Connection,
    id: ConversationId,
    attempt: Attempt,
    made_at: Timestamp,
) -> Result<(), StatementError> {
    let Attempt { connection_id, frame } = attempt;
    let parameters = params![connection_id.as_bytes(), frame.cast_signed(), id.as_bytes(), made_at.millis()];
    connection.prepare_cached(REMEMBER)?.execute(parameters)?;
    connection.prepare_cached(FORGET_CHANGES)?.execute([made_at.plus_millis(-REPEATED_MS).millis()])?;
    Ok(())
}

/// What this attempt has left of the conversation, if it changed it.
pub(super) fn lookup(
    connection: &Connection,
    id: ConversationId,
    attempt: Attempt,
) -> Result<Option<PastChange>, StatementError> {
    let parameters = params![attempt.connection_id.as_bytes(), attempt.frame.cast_signed(), id.as_bytes()];
    let known = CHANGES
        .lookup(connection, LOOKUP_CHANGE, parameters, |columns| columns.id::<ConversationId>("conversation_id"))?;
    if known.is_none() {
        return Ok(None);
    }
    if let Some(record) = lookup_record(connection, id)? {
        return Ok(Some(PastChange::Standing(record)));
    }
    let erased = ERASED.lookup(connection, LOOKUP_ERASED, [id.as_bytes()], decode)?;
    Ok(erased.map(|row| PastChange::Erased(row.conversation)))
}

/// The conversations that may have left something, or that a repeat may still ask for.
pub(super) fn list_erased(connection: &Connection) -> Result<Vec<ConversationId>, StatementError> {
    ERASED.list(connection, LIST_ERASED, [], |columns| columns.id("id"))
}

/// One step of removing what an erased conversation has left; whether nothing is left. The conversation itself is
/// forgotten with the last step after which no repeat can ask for it.
pub(super) fn erase_rest(connection: &Connection, id: ConversationId, now: Timestamp) -> Result<bool, StatementError> {
    let is_all = erase_content(connection, id)?;
    if is_all {
        let before = now.plus_millis(-REPEATED_MS).millis();
        connection.prepare_cached(FORGET_ERASED)?.execute(params![id.as_bytes(), before])?;
    }
    Ok(is_all)
}

/// One step of removing a conversation's content; whether nothing is left.
fn erase_content(connection: &Connection, id: ConversationId) -> Result<bool, StatementError> {
    let mut is_all = true;
    for statement in REMOVE_CONTENT {
        let removed = connection.prepare_cached(statement)?.execute(params![id.as_bytes(), STEP as i64])?;
        is_all &= removed < STEP;
    }
    Ok(is_all)
}
