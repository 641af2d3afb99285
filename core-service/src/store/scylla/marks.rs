//! What is told of messages without what they say: ids, authors, and what is hidden.

use std::collections::BTreeSet;

use proto::ids::{ConversationId, MessageId, UserId};

use super::Inner;
use super::messages::StoredMark;
use super::slices::Reader;
use crate::domain::message::{IdRange, MessageMark};
use crate::store::{MessagesQuery, Order, StoreError};

/// A page of marks.
pub(super) async fn list(inner: &Inner, query: MessagesQuery) -> Result<Vec<MessageMark>, StoreError> {
    let MessagesQuery { conversation_id, viewer, range, order, limit } = query;
    let reader = Reader::open(inner, conversation_id).await?;
    let marks: Vec<StoredMark> = reader.slice(range, order, limit).await?;
    Ok(marks.iter().map(|mark| mark.seen_by(viewer)).collect())
}

/// The marks of those of these messages that are in the conversation, newest first.
pub(super) async fn lookup(
    inner: &Inner,
    conversation_id: ConversationId,
    viewer: UserId,
    ids: &[MessageId],
) -> Result<Vec<MessageMark>, StoreError> {
    let ids: BTreeSet<_> = ids.iter().copied().collect();
    let reader = Reader::open(inner, conversation_id).await?;
    let marks: Vec<StoredMark> = reader.lookup(&ids).await?;
    Ok(marks.iter().rev().map(|mark| mark.seen_by(viewer)).collect())
}

/// What is left of a range after its messages down, or up, to this one.
pub(super) fn rest_of(range: IdRange, order: Order, last: MessageId) -> IdRange {
    match order {
        Order::NewestFirst => IdRange { until: last, ..range },
        Order::OldestFirst => IdRange { from: last.successor(), ..range },
    }
}
