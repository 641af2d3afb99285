//! The port to conversations, over their tables and what changes them.

use std::collections::HashSet;

use async_trait::async_trait;
use proto::ids::{ConversationId, Timestamp};

use super::{ScyllaStore, changes, conversations, creating, erasing, heads, unfinished};
use crate::domain::conversation::{Conversation, ConversationHead, ConversationRecord, Member};
use crate::domain::event::Event;
use crate::domain::session::Attempt;
use crate::store::{ConversationChange, ConversationStore, Erasure, HeadsQuery, PastChange, StoreError};

#[async_trait]
impl ConversationStore for ScyllaStore {
    async fn create_conversation(
        &self,
        conversation: &Conversation,
        members: &[Member],
        attempt: Attempt,
        event: Event,
    ) -> Result<Option<ConversationRecord>, StoreError> {
        creating::create(self, conversation, members, attempt, event).await
    }

    async fn lookup_conversation(&self, id: ConversationId) -> Result<Option<ConversationRecord>, StoreError> {
        unfinished::lookup_whole(self, id).await
    }

    async fn change_conversation(&self, change: ConversationChange, event: Event) -> Result<bool, StoreError> {
        changes::make(self, &change, event).await
    }

    async fn erase_conversation(&self, erasure: Erasure, event: Event) -> Result<bool, StoreError> {
        erasing::erase(self, erasure, event).await
    }

    async fn lookup_change(&self, id: ConversationId, attempt: Attempt) -> Result<Option<PastChange>, StoreError> {
        changes::lookup(self, id, attempt).await
    }

    async fn erase_content(&self, now: Timestamp) -> Result<(), StoreError> {
        erasing::erase_content(self, now).await
    }

    async fn list_conversations(&self, ids: &[ConversationId]) -> Result<Vec<ConversationRecord>, StoreError> {
        let ids: HashSet<_> = ids.iter().copied().collect();
        let found = self.inner.database.for_each(ids, |id| conversations::lookup(self, id)).await?;
        let mut records = Vec::with_capacity(found.len());
        for found in found.into_iter().flatten() {
            records.extend(unfinished::finished(self, found).await?);
        }
        Ok(records)
    }

    async fn list_heads(&self, query: &HeadsQuery) -> Result<Vec<ConversationHead>, StoreError> {
        heads::list(self, query).await
    }
}
