//! What a list of conversations shows of their messages: the newest one and how many are unread.

use proto::ids::{ConversationId, MessageId, UserId};
use rusqlite::Connection;

use super::row::StatementError;
use super::{marks, read_marks, views};
use crate::domain::message::{IdRange, SeenMessage};
use crate::domain::read_ranges::ReadRanges;
use crate::store::{MAX_UNREAD, MAX_UNREAD_LOOKED_AT, MessagesQuery, Order, Preview, PreviewOf};

/// The preview of one conversation, and where to look on for its last message if it has none yet.
pub(super) fn lookup(
    connection: &Connection,
    viewer: UserId,
    of: PreviewOf,
) -> Result<(Preview, Option<IdRange>), StatementError> {
    let PreviewOf { conversation_id, unread_from } = of;
    let (last_message, rest) = last_message(connection, conversation_id, viewer, IdRange::ALL)?;
    let mut unread_count = 0;
    if let Some(start) = unread_from {
        let ranges = read_marks::list(connection, conversation_id, viewer, MAX_UNREAD_LOOKED_AT)?;
        // Of what lies below the ranges that were read nothing is known.
        let start = ranges.get(MAX_UNREAD_LOOKED_AT - 1).map_or(start, |oldest| start.max(oldest.from));
        unread_count = count_unread(connection, conversation_id, viewer, start, &ReadRanges::new(ranges))?;
    }
    Ok((Preview { last_message, unread_count }, rest))
}

/// The newest message that a user sees of a part of a conversation, and what is left to look at.
pub(super) fn last_message(
    connection: &Connection,
    conversation_id: ConversationId,
    viewer: UserId,
    range: IdRange,
) -> Result<(Option<SeenMessage>, Option<IdRange>), StatementError> {
    let newest = MessagesQuery { conversation_id, viewer, range, order: Order::NewestFirst, limit: 1 };
    let (mut seen, rest) = views::list(connection, newest)?;
    let mut last_message = seen.pop();
    if let Some(SeenMessage { message, is_read }) = &mut last_message {
        *is_read = !read_marks::read_by_others(connection, conversation_id, message.from, [message.id])?.is_empty();
    }
    Ok((last_message, rest))
}

/// Counts what is unread in the newest [`MAX_UNREAD_LOOKED_AT`] messages outside of the ranges.
pub(super) fn count_unread(
    connection: &Connection,
    conversation_id: ConversationId,
    viewer: UserId,
    unread_from: MessageId,
    ranges: &ReadRanges,
) -> Result<u32, StatementError> {
    let mut unread: u32 = 0;
    let mut look_at = MAX_UNREAD_LOOKED_AT;
    for range in ranges.gaps_above(unread_from) {
        let limit = (MAX_UNREAD - unread) as usize;
        let gap = MessagesQuery { conversation_id, viewer, range, order: Order::NewestFirst, limit };
        let picked = marks::pick(connection, gap, look_at, |mark| mark.from != viewer && !mark.is_hidden)?;
        unread += picked.marks.len() as u32;
        // An empty gap costs a look too.
        look_at = look_at.saturating_sub(picked.looked_at.max(1));
        if unread >= MAX_UNREAD || look_at == 0 {
            break;
        }
    }
    Ok(unread)
}
