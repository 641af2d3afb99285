//! The table `read_ranges`.

use proto::ids::{ConversationId, UserId};
use rusqlite::{Connection, params};

use super::messages::MESSAGES;
use super::row::{StatementError, Table, sql_limit};
use crate::domain::message::{IdRange, MessageMark};
use crate::domain::read_ranges::{ReadRange, ReadRanges, ReadRangesChange};
use crate::store::{MessagesQuery, Order};

const READ_RANGES: Table = Table { name: "read_ranges", key: "user_id" };

const LIST_RANGES: &str =
    "SELECT user_id, first_id, last_id FROM read_ranges WHERE conversation_id = ?1 AND user_id = ?2";
const REMOVE: &str = "DELETE FROM read_ranges WHERE conversation_id = ?1 AND user_id = ?2 AND first_id = ?3";
/// Nothing that is read becomes unread, even if a range with this beginning is there already.
const ADD: &str = "
    INSERT INTO read_ranges (conversation_id, user_id, first_id, last_id) VALUES (?1, ?2, ?3, ?4)
    ON CONFLICT DO UPDATE SET last_id = max(last_id, excluded.last_id)";

/// Of the messages of a conversation (`?1`) with `?3 <= id < ?4` whether they are hidden from a user (`?2`).
macro_rules! select_marks {
    ($order:literal) => {
        concat!(
            "SELECT id, from_user_id, EXISTS (
                SELECT 1 FROM hidden WHERE user_id = ?2 AND conversation_id = ?1 AND message_id = messages.id
            ) AS is_hidden
            FROM messages WHERE conversation_id = ?1 AND id >= ?3 AND id < ?4
            ORDER BY id ",
            $order,
            " LIMIT ?5"
        )
    };
}
const MARKS_NEWEST_FIRST: &str = select_marks!("DESC");
pub(super) const MARKS_OLDEST_FIRST: &str = select_marks!("ASC");

/// What a user has read.
pub(super) fn lookup_ranges(
    connection: &Connection,
    conversation_id: ConversationId,
    user_id: UserId,
) -> Result<ReadRanges, StatementError> {
    let parameters = [conversation_id.as_bytes(), user_id.as_bytes()];
    let ranges = READ_RANGES.list(connection, LIST_RANGES, parameters, |columns| {
        Ok(ReadRange { from: columns.id("first_id")?, to: columns.id("last_id")? })
    })?;
    Ok(ReadRanges::new(ranges))
}

/// A page of marks.
pub(super) fn list(connection: &Connection, query: MessagesQuery) -> Result<Vec<MessageMark>, StatementError> {
    let MessagesQuery { conversation_id, viewer, range: IdRange { from, until }, order, limit } = query;
    let statement = match order {
        Order::NewestFirst => MARKS_NEWEST_FIRST,
        Order::OldestFirst => MARKS_OLDEST_FIRST,
    };
    let parameters =
        params![conversation_id.as_bytes(), viewer.as_bytes(), from.as_bytes(), until.as_bytes(), sql_limit(limit)];
    MESSAGES.list(connection, statement, parameters, |columns| {
        Ok(MessageMark {
            id: columns.id("id")?,
            from: columns.id("from_user_id")?,
            is_hidden: columns.get("is_hidden")?,
        })
    })
}

/// Changes what a user has read.
pub(super) fn change(
    connection: &Connection,
    conversation_id: ConversationId,
    user_id: UserId,
    change: &ReadRangesChange,
) -> Result<(), StatementError> {
    for from in &change.removed {
        let parameters = [conversation_id.as_bytes(), user_id.as_bytes(), from.as_bytes()];
        connection.prepare_cached(REMOVE)?.execute(parameters)?;
    }
    for ReadRange { from, to } in &change.added {
        let parameters = [conversation_id.as_bytes(), user_id.as_bytes(), from.as_bytes(), to.as_bytes()];
        connection.prepare_cached(ADD)?.execute(parameters)?;
    }
    Ok(())
}
