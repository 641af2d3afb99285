//! The table `read_ranges`: what users have read.

use std::collections::HashSet;

use proto::ids::{ConversationId, MessageId, UserId};
use rusqlite::Connection;
use rusqlite::params;

use super::row::{Columns, StatementError, Table, sql_limit};
use crate::domain::read_ranges::{ReadRange, ReadRangesChange};

const READ_RANGES: Table = Table { name: "read_ranges", key: "user_id" };

pub(super) const LIST_RANGES: &str = "
    SELECT user_id, first_id, last_id FROM read_ranges
    WHERE conversation_id = ?1 AND user_id = ?2 ORDER BY first_id DESC LIMIT ?3";
/// The only range of a user that can lie over a message (`?3`), since his ranges do not overlap.
pub(super) const LOOKUP_RANGE: &str = "
    SELECT user_id, first_id, last_id FROM read_ranges
    WHERE conversation_id = ?1 AND user_id = ?2 AND first_id <= ?3 ORDER BY first_id DESC LIMIT 1";
/// Who has ranges is asked for user by user, which passes over the ranges of each.
pub(super) const NEXT_READER: &str = "
    SELECT user_id FROM read_ranges WHERE conversation_id = ?1 AND user_id > ?2 ORDER BY user_id LIMIT 1";
const IS_HIDDEN: &str = "
    SELECT user_id FROM hidden WHERE user_id = ?1 AND conversation_id = ?2 AND message_id = ?3";
const REMOVE: &str = "DELETE FROM read_ranges WHERE conversation_id = ?1 AND user_id = ?2 AND first_id = ?3";
/// Nothing that is read becomes unread, even if a range with this beginning is there already.
const ADD: &str = "
    INSERT INTO read_ranges (conversation_id, user_id, first_id, last_id) VALUES (?1, ?2, ?3, ?4)
    ON CONFLICT DO UPDATE SET last_id = max(last_id, excluded.last_id)";

/// What a user has read, newest first, at most so many ranges.
pub(super) fn list(
    connection: &Connection,
    conversation_id: ConversationId,
    user_id: UserId,
    limit: usize,
) -> Result<Vec<ReadRange>, StatementError> {
    let parameters = params![conversation_id.as_bytes(), user_id.as_bytes(), sql_limit(limit)];
    READ_RANGES.list(connection, LIST_RANGES, parameters, decode)
}

/// Which of these messages of one author somebody else has read: a range lies over it, and it is not hidden from the
/// range's user, who may have left since.
pub(super) fn read_by_others(
    connection: &Connection,
    conversation_id: ConversationId,
    author: UserId,
    ids: impl IntoIterator<Item = MessageId>,
) -> Result<HashSet<MessageId>, StatementError> {
    let mut unread: Vec<_> = ids.into_iter().collect();
    unread.sort_unstable_by(|a, b| b.cmp(a));
    let mut read = HashSet::new();
    let mut previous = None;
    while !unread.is_empty()
        && let Some(reader) = next_reader(connection, conversation_id, previous)?
    {
        if reader != author {
            read.extend(read_by(connection, conversation_id, reader, &unread)?);
            unread.retain(|id| !read.contains(id));
        }
        previous = Some(reader);
    }
    Ok(read)
}

fn next_reader(
    connection: &Connection,
    conversation_id: ConversationId,
    previous: Option<UserId>,
) -> Result<Option<UserId>, StatementError> {
    let previous = previous.as_ref().map_or(&[][..], |user_id| user_id.as_bytes());
    let parameters = params![conversation_id.as_bytes(), previous];
    READ_RANGES.lookup(connection, NEXT_READER, parameters, |columns| columns.id("user_id"))
}

/// Which of these messages, newest first, one user has read.
fn read_by(
    connection: &Connection,
    conversation_id: ConversationId,
    reader: UserId,
    newest_first: &[MessageId],
) -> Result<Vec<MessageId>, StatementError> {
    let mut read = Vec::new();
    let mut nearest: Option<ReadRange> = None;
    for &id in newest_first {
        // The range that began last before a newer message also did before this one, if it did at all.
        let range = match nearest {
            Some(range) if range.from <= id => range,
            _ => {
                let parameters = [conversation_id.as_bytes(), reader.as_bytes(), id.as_bytes()];
                let Some(range) = READ_RANGES.lookup(connection, LOOKUP_RANGE, parameters, decode)? else { break };
                range
            }
        };
        nearest = Some(range);
        if id <= range.to && !is_hidden(connection, conversation_id, reader, id)? {
            read.push(id);
        }
    }
    Ok(read)
}

fn is_hidden(
    connection: &Connection,
    conversation_id: ConversationId,
    user_id: UserId,
    id: MessageId,
) -> Result<bool, StatementError> {
    let parameters = [user_id.as_bytes(), conversation_id.as_bytes(), id.as_bytes()];
    Ok(connection.prepare_cached(IS_HIDDEN)?.exists(parameters)?)
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

fn decode(columns: &Columns<'_>) -> Result<ReadRange, StatementError> {
    Ok(ReadRange { from: columns.id("first_id")?, to: columns.id("last_id")? })
}
