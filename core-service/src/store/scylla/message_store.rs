//! The port to messages and read marks, over their tables.

use std::collections::BTreeSet;

use async_trait::async_trait;
use proto::ids::{ConversationId, MessageId, UserId};

use super::messages::{StoredMark, StoredMessage, doubles};
use super::slices::{self, Reader};
use super::{Inner, ScyllaStore, append, marks, previews, read_marks, views};
use crate::domain::event::Event;
use crate::domain::message::{IdRange, MessageMark, NewMessage, RecentMessage, SeenMessage};
use crate::domain::read_ranges::{ReadRanges, ReadRangesChange};
use crate::store::{EventOfMessage, MessageStore, MessagesQuery, Order, Preview, PreviewOf, StoreError, Written};

#[async_trait]
impl MessageStore for ScyllaStore {
    fn append_message(&self, message: NewMessage, event: Event) -> Written {
        append::append(&self.inner, message, event)
    }

    async fn tell_again(
        &self,
        conversation_id: ConversationId,
        id: MessageId,
        event_of: &EventOfMessage<'_>,
    ) -> Result<(), StoreError> {
        let reader = Reader::open(&self.inner, conversation_id).await?;
        let stored = reader.lookup::<StoredMessage>(&BTreeSet::from([id])).await?;
        let Some(StoredMessage { new, is_of_change: false, bucket }) = stored.into_iter().next() else {
            return Ok(());
        };
        // Whoever wrote the row may not have come to this.
        append::write_location(&self.inner, bucket, &new).await?;
        let event = event_of(&new);
        self.inner.publisher.publish(event).await
    }

    async fn newest_message_id(&self, conversation_id: ConversationId) -> Result<Option<MessageId>, StoreError> {
        slices::newest_id(&self.inner, conversation_id).await
    }

    async fn list_recent(
        &self,
        conversation_id: ConversationId,
        from: MessageId,
        limit: usize,
    ) -> Result<Vec<RecentMessage>, StoreError> {
        let range = IdRange { from, ..IdRange::ALL };
        let reader = Reader::open(&self.inner, conversation_id).await?;
        let mut marks: Vec<StoredMark> = reader.slice(range, Order::NewestFirst, limit).await?;
        let doubles = doubles(marks.iter().filter_map(StoredMark::attempt));
        for double in marks.iter().filter(|mark| doubles.contains(&mark.recent.id)) {
            delete_double(&self.inner, conversation_id, double).await;
        }
        marks.reverse();
        let recent = marks.into_iter().map(|mark| mark.recent);
        Ok(recent.filter(|recent| !doubles.contains(&recent.id)).collect())
    }

    async fn list_messages(&self, query: &MessagesQuery) -> Result<Vec<SeenMessage>, StoreError> {
        views::list(&self.inner, *query).await
    }

    async fn lookup_messages(
        &self,
        conversation_id: ConversationId,
        viewer: UserId,
        ids: &[MessageId],
    ) -> Result<Vec<SeenMessage>, StoreError> {
        views::lookup(&self.inner, conversation_id, viewer, ids).await
    }

    async fn lookup_marks(
        &self,
        conversation_id: ConversationId,
        viewer: UserId,
        ids: &[MessageId],
    ) -> Result<Vec<MessageMark>, StoreError> {
        marks::lookup(&self.inner, conversation_id, viewer, ids).await
    }

    async fn count_unread(
        &self,
        conversation_id: ConversationId,
        viewer: UserId,
        unread_from: MessageId,
        ranges: &ReadRanges,
    ) -> Result<u32, StoreError> {
        let reader = Reader::open(&self.inner, conversation_id).await?;
        previews::count_unread(&reader, viewer, unread_from, ranges).await
    }

    async fn list_previews(&self, viewer: UserId, of: &[PreviewOf]) -> Result<Vec<Preview>, StoreError> {
        previews::list(&self.inner, viewer, of).await
    }

    async fn lookup_read_ranges(
        &self,
        conversation_id: ConversationId,
        user_id: UserId,
    ) -> Result<ReadRanges, StoreError> {
        Ok(ReadRanges::new(read_marks::list(&self.inner, conversation_id, user_id, usize::MAX).await?))
    }

    async fn list_marks(&self, query: &MessagesQuery) -> Result<Vec<MessageMark>, StoreError> {
        marks::list(&self.inner, *query).await
    }

    async fn change_read_ranges(
        &self,
        conversation_id: ConversationId,
        user_id: UserId,
        change: &ReadRangesChange,
        event: Option<Event>,
    ) -> Result<(), StoreError> {
        read_marks::change(&self.inner, conversation_id, user_id, change).await?;
        let Some(event) = event else { return Ok(()) };
        // What was sent before leaves before.
        append::settle(&self.inner, conversation_id).await;
        self.inner.publisher.publish(event).await
    }
}

/// Where it fails, the next one who finds the double tries again.
async fn delete_double(inner: &Inner, conversation_id: ConversationId, double: &StoredMark) {
    let id = double.recent.id;
    let (conversation, bucket) = (conversation_id.as_bytes().as_slice(), double.bucket.as_bytes().as_slice());
    let values = (conversation, bucket, id.as_bytes().as_slice());
    match inner.database.write(&inner.messages.delete_double, values).await {
        Ok(()) => {
            tracing::info!(conversation.id = %conversation_id, message.id = %id, "deleted the double of a message")
        }
        Err(error) => {
            let error = &error as &dyn std::error::Error;
            tracing::warn!(error, conversation.id = %conversation_id, message.id = %id, "a message's double is left");
        }
    }
}

#[cfg(test)]
mod tests;
