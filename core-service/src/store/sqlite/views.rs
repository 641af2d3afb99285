//! Messages as one user sees them: without what is hidden from him, and with what is told of reading.

use std::collections::BTreeSet;

use proto::ids::{ConversationId, MessageId, UserId};
use rusqlite::Connection;

use super::marks::{self, MESSAGES};
use super::read_marks;
use super::row::{Columns, StatementError};
use crate::domain::message::{IdRange, Message, MessageContent, MessageMark, SeenMessage};
use crate::store::MessagesQuery;

pub(super) const LOOKUP: &str = "SELECT * FROM messages WHERE conversation_id = ?1 AND id = ?2";

/// One read looks at no more messages than these, however many of them are hidden: for more there is another read.
pub(super) const PART: usize = 5_000;

/// What a user sees of the first [`PART`] of a range, and what of it is left to look at.
pub(super) fn list(
    connection: &Connection,
    query: MessagesQuery,
) -> Result<(Vec<SeenMessage>, Option<IdRange>), StatementError> {
    let picked = marks::pick(connection, query, PART, |mark| !mark.is_hidden)?;
    Ok((see(connection, query.conversation_id, query.viewer, picked.marks)?, picked.rest))
}

/// What a user sees of these messages, newest first.
pub(super) fn lookup(
    connection: &Connection,
    conversation_id: ConversationId,
    viewer: UserId,
    ids: &BTreeSet<MessageId>,
) -> Result<Vec<SeenMessage>, StatementError> {
    let mut marks = marks::lookup(connection, conversation_id, viewer, ids)?;
    marks.retain(|mark| !mark.is_hidden);
    see(connection, conversation_id, viewer, marks)
}

fn see(
    connection: &Connection,
    conversation_id: ConversationId,
    viewer: UserId,
    marks: Vec<MessageMark>,
) -> Result<Vec<SeenMessage>, StatementError> {
    let own = marks.iter().filter(|mark| mark.from == viewer).map(|mark| mark.id);
    let read = read_marks::read_by_others(connection, conversation_id, viewer, own)?;
    let mut seen = Vec::with_capacity(marks.len());
    for MessageMark { id, .. } in marks {
        let message = MESSAGES.lookup(connection, LOOKUP, [conversation_id.as_bytes(), id.as_bytes()], decode)?;
        seen.extend(message.map(|message| SeenMessage { message, is_read: read.contains(&id) }));
    }
    Ok(seen)
}

fn decode(columns: &Columns<'_>) -> Result<Message, StatementError> {
    Ok(Message {
        id: columns.id("id")?,
        conversation_id: columns.id("conversation_id")?,
        from: columns.id("from_user_id")?,
        content: MessageContent {
            body: columns.get("body")?,
            attachments: columns.optional_json("attachments_json")?.unwrap_or_default(),
            x_json: columns.get("x_json")?,
            replied_message_id: columns.optional_id("replied_message_id")?,
            forwarded_message_id: columns.get("forwarded_message_id")?,
            encrypted_message_type: columns.get("encrypted_message_type")?,
        },
    })
}
