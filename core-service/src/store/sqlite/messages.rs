//! The tables `messages` and `hidden`: what was said, and who never sees it. How they are read, other files say:
//! `marks` over the index alone, `views` with the messages, `previews` for lists of conversations.

use std::collections::BTreeSet;

use async_trait::async_trait;
use proto::ids::{ConversationId, MessageId, UserId};
use rusqlite::{Connection, params};

use super::SqliteStore;
use super::journal::Entry;
use super::marks::{self, MESSAGES};
use super::row::{Columns, StatementError, sql_limit};
use super::{previews, read_marks, views};
use crate::domain::event::Event;
use crate::domain::message::{Fingerprint, Message, MessageMark, NewMessage, RecentMessage, SeenMessage};
use crate::domain::read_ranges::{ReadRanges, ReadRangesChange};
use crate::domain::session::Attempt;
use crate::store::{EventOfMessage, MessageStore, MessagesQuery, Preview, PreviewOf, StoreError, Written};

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

#[async_trait]
impl MessageStore for SqliteStore {
    fn append_message(&self, message: NewMessage, event: Event) -> Written {
        let entry = Entry::new(event);
        self.write("add a message", move |connection| {
            insert(connection, &message)?;
            entry.append(connection)
        })
    }

    async fn tell_again(&self, _: ConversationId, _: MessageId, _: &EventOfMessage<'_>) -> Result<(), StoreError> {
        // The journal has it, since the table has the message.
        Ok(())
    }

    async fn newest_message_id(&self, conversation_id: ConversationId) -> Result<Option<MessageId>, StoreError> {
        let work = move |connection: &Connection| {
            MESSAGES.lookup(connection, NEWEST_ID, [conversation_id.as_bytes()], |columns| columns.id("id"))
        };
        self.lookups.read("look up the newest message", work).await
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
        self.lookups.read("list recent messages", work).await
    }

    async fn list_messages(&self, query: &MessagesQuery) -> Result<Vec<SeenMessage>, StoreError> {
        let mut page = Vec::new();
        let mut rest = Some(query.range);
        while page.len() < query.limit
            && let Some(range) = rest
        {
            let part = MessagesQuery { range, limit: query.limit - page.len(), ..*query };
            let (seen, left) =
                self.lists.read("list messages", move |connection| views::list(connection, part)).await?;
            page.extend(seen);
            rest = left;
        }
        Ok(page)
    }

    async fn lookup_messages(
        &self,
        conversation_id: ConversationId,
        viewer: UserId,
        ids: &[MessageId],
    ) -> Result<Vec<SeenMessage>, StoreError> {
        let ids: BTreeSet<_> = ids.iter().copied().collect();
        let work = move |connection: &Connection| views::lookup(connection, conversation_id, viewer, &ids);
        self.lists.read("look up messages", work).await
    }

    async fn lookup_marks(
        &self,
        conversation_id: ConversationId,
        viewer: UserId,
        ids: &[MessageId],
    ) -> Result<Vec<MessageMark>, StoreError> {
        let ids: BTreeSet<_> = ids.iter().copied().collect();
        let work = move |connection: &Connection| marks::lookup(connection, conversation_id, viewer, &ids);
        self.lookups.read("look up marks", work).await
    }

    async fn count_unread(
        &self,
        conversation_id: ConversationId,
        viewer: UserId,
        unread_from: MessageId,
        ranges: &ReadRanges,
    ) -> Result<u32, StoreError> {
        let ranges = ranges.clone();
        let work = move |connection: &Connection| {
            previews::count_unread(connection, conversation_id, viewer, unread_from, &ranges)
        };
        self.lists.read("count unread messages", work).await
    }

    async fn list_previews(&self, viewer: UserId, of: &[PreviewOf]) -> Result<Vec<Preview>, StoreError> {
        let mut previews = Vec::with_capacity(of.len());
        for &of in of {
            let work = move |connection: &Connection| previews::lookup(connection, viewer, of);
            let (mut preview, mut rest) = self.lists.read("list previews", work).await?;
            while preview.last_message.is_none()
                && let Some(range) = rest
            {
                let work = move |connection: &Connection| {
                    previews::last_message(connection, of.conversation_id, viewer, range)
                };
                (preview.last_message, rest) = self.lists.read("list previews", work).await?;
            }
            previews.push(preview);
        }
        Ok(previews)
    }

    async fn lookup_read_ranges(
        &self,
        conversation_id: ConversationId,
        user_id: UserId,
    ) -> Result<ReadRanges, StoreError> {
        let work = move |connection: &Connection| {
            Ok(ReadRanges::new(read_marks::list(connection, conversation_id, user_id, usize::MAX)?))
        };
        self.lookups.read("look up read marks", work).await
    }

    async fn list_marks(&self, query: &MessagesQuery) -> Result<Vec<MessageMark>, StoreError> {
        let query = *query;
        self.lists.read("list marks", move |connection| marks::list(connection, query)).await
    }

    async fn change_read_ranges(
        &self,
        conversation_id: ConversationId,
        user_id: UserId,
        change: &ReadRangesChange,
        event: Option<Event>,
    ) -> Result<(), StoreError> {
        let change = change.clone();
        let entry = event.map(Entry::new);
        let work = move |connection: &Connection| {
            read_marks::change(connection, conversation_id, user_id, &change)?;
            entry.map_or(Ok(()), |entry| entry.append(connection))
        };
        self.write("change read marks", work).await
    }
}

pub(super) fn insert(connection: &Connection, new: &NewMessage) -> Result<(), StatementError> {
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
