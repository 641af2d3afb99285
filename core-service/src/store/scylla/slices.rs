//! Reading messages across buckets: a stretch of a conversation from either end, or messages by their ids.
//!
//! What is read is a row with everything ([`StoredMessage`]) or, where many are looked at, without what was said
//! ([`StoredMark`]).

use std::collections::{BTreeMap, BTreeSet};

use futures_util::future::try_join_all;
use proto::ids::{ConversationId, MessageId};

use super::Inner;
use super::buckets::{self, FIRST, Part};
use super::database::Statement;
use super::messages::{Statements, StoredMark, StoredMessage};
use super::row::Row;
use crate::domain::message::IdRange;
use crate::store::{Order, StoreError};

/// A statement takes no more ids than these: the most that servers are set up to take.
const IDS_AT_ONCE: usize = 100;

/// A kind of row that is read from the table `messages`.
pub(super) trait Stored: Sized + Send {
    /// Of a part of a bucket, from the given end.
    fn of_range(statements: &Statements, order: Order) -> &Statement;

    /// Of a bucket by ids.
    fn by_ids(statements: &Statements) -> &Statement;

    fn decode(row: &Row, bucket: MessageId) -> Result<Self, StoreError>;

    fn id(&self) -> MessageId;
}

impl Stored for StoredMark {
    fn of_range(statements: &Statements, order: Order) -> &Statement {
        match order {
            Order::NewestFirst => &statements.marks_newest_first,
            Order::OldestFirst => &statements.marks_oldest_first,
        }
    }

    fn by_ids(statements: &Statements) -> &Statement {
        &statements.marks_by_ids
    }

    fn decode(row: &Row, bucket: MessageId) -> Result<Self, StoreError> {
        Self::decode(row, bucket)
    }

    fn id(&self) -> MessageId {
        self.recent.id
    }
}

impl Stored for StoredMessage {
    fn of_range(statements: &Statements, order: Order) -> &Statement {
        match order {
            Order::NewestFirst => &statements.messages_newest_first,
            Order::OldestFirst => &statements.messages_oldest_first,
        }
    }

    fn by_ids(statements: &Statements) -> &Statement {
        &statements.messages_by_ids
    }

    fn decode(row: &Row, bucket: MessageId) -> Result<Self, StoreError> {
        Self::decode(row, bucket)
    }

    fn id(&self) -> MessageId {
        self.new.message.id
    }
}

/// Reads a conversation's messages. It knows the buckets that there were when it was opened, so it serves one request.
pub(super) struct Reader<'a> {
    inner: &'a Inner,
    conversation_id: ConversationId,
    beginnings: Vec<MessageId>,
}

impl<'a> Reader<'a> {
    pub(super) async fn open(inner: &'a Inner, conversation_id: ConversationId) -> Result<Self, StoreError> {
        let beginnings = buckets::list(inner, conversation_id).await?;
        Ok(Self { inner, conversation_id, beginnings })
    }

    /// The first so many of a range, from the given end. Fewer than the limit only where there are no more.
    pub(super) async fn slice<T: Stored>(
        &self,
        range: IdRange,
        order: Order,
        limit: usize,
    ) -> Result<Vec<T>, StoreError> {
        let mut parts = buckets::parts(&self.beginnings, range);
        if order == Order::NewestFirst {
            parts.reverse();
        }
        let mut found = Vec::new();
        for Part { range, buckets } in parts {
            if found.len() >= limit {
                break;
            }
            let reads = buckets.into_iter().map(|bucket| self.read(bucket, range, order, limit - found.len()));
            let mut part = merge(try_join_all(reads).await?);
            if order == Order::NewestFirst {
                part.reverse();
            }
            part.truncate(limit - found.len());
            found.append(&mut part);
        }
        Ok(found)
    }

    async fn read<T: Stored>(
        &self,
        bucket: MessageId,
        IdRange { from, until }: IdRange,
        order: Order,
        limit: usize,
    ) -> Result<Vec<T>, StoreError> {
        let statement = T::of_range(&self.inner.messages, order);
        let limit = i32::try_from(limit).unwrap_or(i32::MAX);
        let values = (
            self.conversation_id.as_bytes().as_slice(),
            bucket.as_bytes().as_slice(),
            from.as_bytes().as_slice(),
            until.as_bytes().as_slice(),
            limit,
        );
        let rows = self.inner.database.read(statement, values).await?;
        rows.iter().map(|row| T::decode(row, bucket)).collect()
    }

    /// Those of these messages that there are, oldest first.
    pub(super) async fn lookup<T: Stored>(&self, ids: &BTreeSet<MessageId>) -> Result<Vec<T>, StoreError> {
        let mut by_bucket: BTreeMap<MessageId, Vec<&[u8]>> = BTreeMap::new();
        for id in ids {
            for bucket in buckets::holding(&self.beginnings, *id) {
                by_bucket.entry(bucket).or_default().push(id.as_bytes());
            }
        }
        let mut reads = Vec::new();
        for (bucket, ids) in by_bucket {
            let at_once = ids.chunks(IDS_AT_ONCE).map(<[_]>::to_vec);
            reads.extend(at_once.map(|ids| self.read_by_ids(bucket, ids)));
        }
        Ok(merge(try_join_all(reads).await?))
    }

    async fn read_by_ids<T: Stored>(&self, bucket: MessageId, ids: Vec<&[u8]>) -> Result<Vec<T>, StoreError> {
        let values = (self.conversation_id.as_bytes().as_slice(), bucket.as_bytes().as_slice(), ids);
        let rows = self.inner.database.read(T::by_ids(&self.inner.messages), values).await?;
        rows.iter().map(|row| T::decode(row, bucket)).collect()
    }
}

/// The newest message's id. A conversation is seldom longer than its first bucket, so that is asked at once.
pub(super) async fn newest_id(inner: &Inner, conversation_id: ConversationId) -> Result<Option<MessageId>, StoreError> {
    let first_alone = Reader { inner, conversation_id, beginnings: vec![FIRST] };
    let (reader, of_first) = futures_util::try_join!(
        Reader::open(inner, conversation_id),
        first_alone.slice::<StoredMark>(IdRange::ALL, Order::NewestFirst, 1)
    )?;
    let newest = match reader.beginnings.len() {
        1 => of_first,
        _ => reader.slice(IdRange::ALL, Order::NewestFirst, 1).await?,
    };
    Ok(newest.first().map(Stored::id))
}

/// The rows of several buckets, oldest first, each once.
fn merge<T: Stored>(mut lists: Vec<Vec<T>>) -> Vec<T> {
    let mut merged = match lists.len() {
        1 => lists.remove(0),
        _ => lists.into_iter().flatten().collect(),
    };
    merged.sort_by_key(Stored::id);
    merged.dedup_by_key(|row| row.id());
    merged
}
