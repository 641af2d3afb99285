//! What a list of conversations shows of their messages: the newest one and how many are unread.

use proto::ids::{ConversationId, UserId};
use rusqlite::{Connection, params};

use super::messages::{MESSAGES, list_seen};
use super::read_marks;
use super::row::StatementError;
use crate::domain::message::IdRange;
use crate::store::{MAX_UNREAD, MessagesQuery, Order, Preview, PreviewOf};

/// How many messages of others, visible to a user (`?2`), a conversation (`?1`) has with `?3 <= id < ?4`, at most
/// `?5`. The index has all that this needs.
pub(super) const COUNT_UNREAD: &str = "
    SELECT count(*) AS unread, ?1 AS id FROM (
        SELECT 1 FROM messages
        WHERE conversation_id = ?1 AND id >= ?3 AND id < ?4 AND from_user_id <> ?2
            AND NOT EXISTS (
                SELECT 1 FROM hidden WHERE user_id = ?2 AND conversation_id = ?1 AND message_id = messages.id
            )
        LIMIT ?5
    )";

/// The preview of one conversation.
pub(super) fn lookup(connection: &Connection, viewer: UserId, of: PreviewOf) -> Result<Preview, StatementError> {
    let PreviewOf { conversation_id, unread_from } = of;
    let newest = MessagesQuery { conversation_id, viewer, range: IdRange::ALL, order: Order::NewestFirst, limit: 1 };
    let last_message = list_seen(connection, newest)?.pop();
    let mut unread_count = 0;
    if let Some(start) = unread_from {
        let ranges = read_marks::lookup_ranges(connection, conversation_id, viewer)?;
        for gap in ranges.gaps_above(start) {
            unread_count += count_unread(connection, conversation_id, viewer, gap, MAX_UNREAD - unread_count)?;
            if unread_count >= MAX_UNREAD {
                break;
            }
        }
    }
    Ok(Preview { last_message, unread_count })
}

fn count_unread(
    connection: &Connection,
    conversation_id: ConversationId,
    viewer: UserId,
    gap: IdRange,
    limit: u32,
) -> Result<u32, StatementError> {
    let parameters =
        params![conversation_id.as_bytes(), viewer.as_bytes(), gap.from.as_bytes(), gap.until.as_bytes(), limit];
    let counted = MESSAGES.lookup(connection, COUNT_UNREAD, parameters, |columns| columns.get("unread"))?;
    Ok(counted.unwrap_or(0))
}
