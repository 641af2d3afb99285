//! The tables `messages` and `hidden`: what was said, and who never sees it.

use std::collections::BTreeSet;

use async_trait::async_trait;
use proto::ids::{ConversationId, MessageId, UserId};
use rusqlite::{Connection, params};

use super::SqliteStore;
use super::journal::Entry;
use super::row::{Columns, StatementError, Table, sql_limit};
use super::{previews, read_marks};
use crate::domain::event::Event;
use crate::domain::message::{
    Fingerprint, IdRange, Message, MessageContent, MessageMark, NewMessage, RecentMessage, SeenMessage,
};
use crate::domain::read_ranges::{ReadRanges, ReadRangesChange};
use crate::domain::session::Attempt;
use crate::store::{MessageStore, MessagesQuery, Order, Preview, PreviewOf, StoreError, Written};

pub(super) const MESSAGES: Table = Table { name: "messages", key: "id" };

const INSERT: &str = "
    INSERT INTO messages (
        conversation_id, id, from_user_id, attempt_connection_id, attempt_frame, fingerprint, encrypted_message_type,
        replied_message_id, forwarded_message_id, attachments_json, x_json, body
    ) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)";
const HIDE: &str = "INSERT OR IGNORE INTO hidden (user_id, conversation_id, message_id) VALUES (?1, ?2, ?3)";
const NEWEST_ID: &str = "SELECT id FROM messages WHERE conversation_id = ?1 ORDER BY id DESC LIMIT 1";
pub(super) const LIST_RECENT: &str = "
    SELECT id, from_user_id, attempt_connection_id, attempt_frame, fingerprint FROM messages
    WHERE conversation_id = ?1 AND id >= ?2 ORDER BY id DESC LIMIT ?3";

/// A user's view (`?2`) of the messages of a conversation (`?1`) with `?3 <= id < ?4`, in some order.
///
/// Read means: a range of another user than the author lies over it, and it is not hidden from that user.
macro_rules! select_seen {
    ($order:literal) => {
        concat!(
            "SELECT *, EXISTS (
                SELECT 1 FROM read_ranges
                WHERE read_ranges.conversation_id = messages.conversation_id
                    AND first_id <= messages.id AND last_id >= messages.id AND user_id <> messages.from_user_id
                    AND NOT EXISTS (
                        SELECT 1 FROM hidden
                        WHERE hidden.user_id = read_ranges.user_id
                            AND hidden.conversation_id = messages.conversation_id AND message_id = messages.id
                    )
            ) AS is_read
            FROM messages
            WHERE conversation_id = ?1 AND id >= ?3 AND id < ?4
                AND NOT EXISTS (
                    SELECT 1 FROM hidden WHERE user_id = ?2 AND conversation_id = ?1 AND message_id = messages.id
                )
            ORDER BY id ",
            $order,
            " LIMIT ?5"
        )
    };
}
pub(super) const SEEN_NEWEST_FIRST: &str = select_seen!("DESC");
const SEEN_OLDEST_FIRST: &str = select_seen!("ASC");

#[async_trait]
impl MessageStore for SqliteStore {
    fn append_message(&self, message: NewMessage, event: Event) -> Written {
        let entry = Entry::new(event);
        self.write("add a message", move |connection| {
            insert(connection, &message)?;
            entry.append(connection)
        })
    }

    async fn newest_message_id(&self, conversation_id: ConversationId) -> Result<Option<MessageId>, StoreError> {
        let work = move |connection: &Connection| {
            MESSAGES.lookup(connection, NEWEST_ID, [conversation_id.as_bytes()], |columns| columns.id("id"))
        };
        self.read("look up the newest message", work).await
    }

    async fn list_recent(
        &self,
        conversation_id: ConversationId,
        from: MessageId,
        limit: usize,
    ) -> Result<Vec<RecentMessage>, StoreError> {
        let work = move |connection: &Connection| {
            let parameters = params![conversation_id.as_bytes(), from.as_bytes(), sql_limit(limit)];
            let mut messages = MESSAGES.list(connection, LIST_RECENT, parameters, decode_recent)?;
            messages.reverse();
            Ok(messages)
        };
        self.read("list recent messages", work).await
    }

    async fn list_messages(&self, query: &MessagesQuery) -> Result<Vec<SeenMessage>, StoreError> {
        let query = *query;
        self.read("list messages", move |connection| list_seen(connection, query)).await
    }

    async fn lookup_messages(
        &self,
        conversation_id: ConversationId,
        viewer: UserId,
        ids: &[MessageId],
    ) -> Result<Vec<SeenMessage>, StoreError> {
        let ids: BTreeSet<_> = ids.iter().copied().collect();
        let work = move |connection: &Connection| {
            let mut messages = Vec::with_capacity(ids.len());
            for id in ids.into_iter().rev() {
                let range = IdRange { from: id, until: id.successor() };
                messages.extend(list_seen(
                    connection,
                    MessagesQuery { conversation_id, viewer, range, order: Order::NewestFirst, limit: 1 },
                )?);
            }
            Ok(messages)
        };
        self.read("look up messages", work).await
    }

    async fn list_previews(&self, viewer: UserId, of: &[PreviewOf]) -> Result<Vec<Preview>, StoreError> {
        let of = of.to_vec();
        let work =
            move |connection: &Connection| of.into_iter().map(|of| previews::lookup(connection, viewer, of)).collect();
        self.read("list previews", work).await
    }

    async fn lookup_read_ranges(
        &self,
        conversation_id: ConversationId,
        user_id: UserId,
    ) -> Result<ReadRanges, StoreError> {
        let work = move |connection: &Connection| read_marks::lookup_ranges(connection, conversation_id, user_id);
        self.read("look up read marks", work).await
    }

    async fn list_marks(&self, query: &MessagesQuery) -> Result<Vec<MessageMark>, StoreError> {
        let query = *query;
        self.read("list read marks", move |connection| read_marks::list(connection, query)).await
    }

    async fn change_read_ranges(
        &self,
        conversation_id: ConversationId,
        user_id: UserId,
        change: &ReadRangesChange,
        event: Event,
    ) -> Result<(), StoreError> {
        let change = change.clone();
        let entry = Entry::new(event);
        let work = move |connection: &Connection| {
            read_marks::change(connection, conversation_id, user_id, &change)?;
            entry.append(connection)
        };
        self.write("change read marks", work).await
    }
}

fn insert(connection: &Connection, new: &NewMessage) -> Result<(), StatementError> {
    let NewMessage { message, attempt, fingerprint, hidden_for } = new;
    let Message { id, conversation_id, from, content } = message;
    let attachments_json = (!content.attachments.is_empty())
        .then(|| serde_json::to_string(&content.attachments).expect("texts and numbers"));
    connection.prepare_cached(INSERT)?.execute(params![
        conversation_id.as_bytes(),
        id.as_bytes(),
        from.as_bytes(),
        attempt.connection_id.as_bytes(),
        attempt.frame.cast_signed(),
        fingerprint.map(|fingerprint| fingerprint.0),
        content.encrypted_message_type,
        content.replied_message_id.as_ref().map(|id| id.as_bytes()),
        content.forwarded_message_id,
        attachments_json,
        content.x_json,
        content.body,
    ])?;
    for user_id in hidden_for {
        let parameters = [user_id.as_bytes(), conversation_id.as_bytes(), id.as_bytes()];
        connection.prepare_cached(HIDE)?.execute(parameters)?;
    }
    Ok(())
}

/// A page of a user's view.
pub(super) fn list_seen(connection: &Connection, query: MessagesQuery) -> Result<Vec<SeenMessage>, StatementError> {
    let MessagesQuery { conversation_id, viewer, range: IdRange { from, until }, order, limit } = query;
    let statement = match order {
        Order::NewestFirst => SEEN_NEWEST_FIRST,
        Order::OldestFirst => SEEN_OLDEST_FIRST,
    };
    let parameters =
        params![conversation_id.as_bytes(), viewer.as_bytes(), from.as_bytes(), until.as_bytes(), sql_limit(limit)];
    MESSAGES.list(connection, statement, parameters, |columns| {
        Ok(SeenMessage { message: decode(columns)?, is_read: columns.get("is_read")? })
    })
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

fn decode_recent(columns: &Columns<'_>) -> Result<RecentMessage, StatementError> {
    Ok(RecentMessage {
        id: columns.id("id")?,
        from: columns.id("from_user_id")?,
        attempt: Attempt {
            connection_id: columns.id("attempt_connection_id")?,
            frame: columns.number("attempt_frame")?,
        },
        fingerprint: columns.get::<Option<[u8; 16]>>("fingerprint")?.map(Fingerprint),
    })
}
