//! What the index of the table `messages` tells without the messages themselves: ids, authors, and what is hidden.
//!
//! The table `hidden` says who never sees which message.

use std::collections::BTreeSet;

use proto::ids::{ConversationId, MessageId, UserId};
use rusqlite::{Connection, params};

use super::row::{Columns, StatementError, Table, sql_limit};
use crate::domain::message::{IdRange, MessageMark};
use crate::store::{MessagesQuery, Order};

pub(super) const MESSAGES: Table = Table { name: "messages", key: "id" };

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
pub(super) const NEWEST_FIRST: &str = select_marks!("DESC");
pub(super) const OLDEST_FIRST: &str = select_marks!("ASC");

/// Some of the marks of a range, and how far it was looked at for them.
pub(super) struct Picked {
    pub(super) marks: Vec<MessageMark>,
    /// So many messages were looked at.
    pub(super) looked_at: usize,
    /// What of the range was not looked at, where that is known to be anything.
    pub(super) rest: Option<IdRange>,
}

/// The wanted marks among the first `look_at` of the query's range; stops where its limit is reached.
pub(super) fn pick(
    connection: &Connection,
    query: MessagesQuery,
    look_at: usize,
    wanted: impl FnMut(&MessageMark) -> bool,
) -> Result<Picked, StatementError> {
    let MessagesQuery { conversation_id, viewer, range: IdRange { from, until }, order, limit } = query;
    let statement = match order {
        Order::NewestFirst => NEWEST_FIRST,
        Order::OldestFirst => OLDEST_FIRST,
    };
    let parameters =
        params![conversation_id.as_bytes(), viewer.as_bytes(), from.as_bytes(), until.as_bytes(), sql_limit(look_at)];
    let mut looked_at = 0;
    let mut last = None;
    let decode = |columns: &Columns<'_>| {
        let mark = decode(columns)?;
        looked_at += 1;
        last = Some(mark.id);
        Ok(mark)
    };
    let marks = MESSAGES.list_while(connection, statement, parameters, limit, decode, wanted)?;
    let rest = last.filter(|_| looked_at == look_at).map(|last| match order {
        Order::NewestFirst => IdRange { from, until: last },
        Order::OldestFirst => IdRange { from: last.successor(), until },
    });
    Ok(Picked { marks, looked_at, rest })
}

/// A page of marks.
pub(super) fn list(connection: &Connection, query: MessagesQuery) -> Result<Vec<MessageMark>, StatementError> {
    Ok(pick(connection, query, query.limit, |_| true)?.marks)
}

/// The marks of those of these messages that are in the conversation, newest first.
pub(super) fn lookup(
    connection: &Connection,
    conversation_id: ConversationId,
    viewer: UserId,
    ids: &BTreeSet<MessageId>,
) -> Result<Vec<MessageMark>, StatementError> {
    let mut marks = Vec::with_capacity(ids.len());
    for &id in ids.iter().rev() {
        let range = IdRange { from: id, until: id.successor() };
        let query = MessagesQuery { conversation_id, viewer, range, order: Order::NewestFirst, limit: 1 };
        marks.extend(list(connection, query)?);
    }
    Ok(marks)
}

fn decode(columns: &Columns<'_>) -> Result<MessageMark, StatementError> {
    Ok(MessageMark { id: columns.id("id")?, from: columns.id("from_user_id")?, is_hidden: columns.get("is_hidden")? })
}
