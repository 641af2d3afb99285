//! The table `buckets`: into which partitions a conversation's messages are divided.
//!
//! A bucket is named by the id it begins at. The first one begins below every message, whether it has a row or not; a
//! further one is opened, with its row written before any message, when the newest has as many messages as it may or is
//! old. A message belongs into the newest bucket that begins at or below its id. Another process that does not know yet
//! of a new bucket writes into the one before it for some seconds more; therefore whoever reads what follows a bucket's
//! beginning also looks into the bucket before it for a while of ids, see [`parts`].
//!
//! How many messages a bucket has is noted in its row now and then, so that a process that comes new to a conversation
//! counts no more than what has come since. The count only decides when to open the next one and may be somewhat off.

use std::time::Duration;

use proto::ids::{ConversationId, MessageId};
use tokio::time::Instant;

use super::Inner;
use super::database::statements;
use crate::domain::message::{IdRange, NewMessage};
use crate::store::StoreError;

/// Where the first bucket of every conversation begins.
pub(super) const FIRST: MessageId = IdRange::ALL.from;

/// A bucket takes no more messages this long after its beginning, in milliseconds: 90 days.
const LONGEST_MS: i64 = 90 * 24 * 60 * 60 * 1000;
/// So long, in milliseconds of ids, messages still come into a bucket after the next one has begun. What a process
/// remembers is [`REMEMBERED`] old at most, a write takes a second, stamps run ahead by a second and clocks differ by two:
/// far less than this.
const OVERLAP_MS: i64 = 60_000;
/// What is known of the newest bucket serves for so long before it is looked up again.
const REMEMBERED: Duration = Duration::from_secs(2);
/// The number of messages is noted each time so many have come.
const NOTED_EACH: u32 = 1_000;

statements! {
    /// What is asked and written here.
    pub(super) struct Statements {
        /// list the buckets of a conversation
        list_buckets: "SELECT conversation_id, first_id FROM buckets WHERE conversation_id = ?",
        /// look up the newest bucket of a conversation
        newest_bucket: "
            SELECT conversation_id, first_id, messages, counted_to FROM buckets WHERE conversation_id = ?
            ORDER BY first_id DESC LIMIT 1",
        /// open a bucket
        open_bucket: "INSERT INTO buckets (conversation_id, first_id) VALUES (?, ?)",
        /// note how many messages a bucket has
        note_bucket: "INSERT INTO buckets (conversation_id, first_id, messages, counted_to) VALUES (?, ?, ?, ?)",
        /// count the messages of a bucket
        count_bucket: "
            SELECT count(*) AS messages FROM messages WHERE conversation_id = ? AND bucket = ? AND id > ?",
        /// forget the buckets of a conversation
        forget_buckets: "DELETE FROM buckets WHERE conversation_id = ?",
    }
}

/// A stretch of ids, and the buckets that may hold messages of it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Part {
    pub(super) range: IdRange,
    pub(super) buckets: Vec<MessageId>,
}

/// The parts of a range, oldest first. `beginnings` are those of all buckets, ascending, [`FIRST`] included.
pub(super) fn parts(beginnings: &[MessageId], range: IdRange) -> Vec<Part> {
    let further = beginnings.iter().skip(1);
    let mut borders: Vec<_> = further.flat_map(|&begin| [begin, overlap_end(begin)]).collect();
    borders.retain(|&border| range.from < border && border < range.until);
    borders.sort_unstable();
    borders.dedup();
    borders.push(range.until);
    let mut parts = Vec::with_capacity(borders.len());
    let mut from = range.from;
    for until in borders {
        if from < until {
            parts.push(Part { range: IdRange { from, until }, buckets: holding(beginnings, from) });
        }
        from = until;
    }
    parts
}

/// The buckets in which a message of this id may lie.
pub(super) fn holding(beginnings: &[MessageId], id: MessageId) -> Vec<MessageId> {
    let begun = beginnings.partition_point(|&begin| begin <= id);
    let is_open = |&position: &usize| beginnings.get(position + 1).is_none_or(|&next| id < overlap_end(next));
    (0..begun).filter(is_open).map(|position| beginnings[position]).collect()
}

/// The bucket into which a message of this id belongs.
pub(super) fn bucket_of(beginnings: &[MessageId], id: MessageId) -> MessageId {
    let begun = beginnings.partition_point(|&begin| begin <= id);
    begun.checked_sub(1).map_or(FIRST, |newest| beginnings[newest])
}

fn overlap_end(next: MessageId) -> MessageId {
    MessageId::first_of(next.timestamp().plus_millis(OVERLAP_MS))
}

/// The beginnings of a conversation's buckets, ascending.
pub(super) async fn list(inner: &Inner, conversation_id: ConversationId) -> Result<Vec<MessageId>, StoreError> {
    let rows = inner.database.read(&inner.buckets.list_buckets, (conversation_id.as_bytes().as_slice(),)).await?;
    let mut beginnings = vec![FIRST];
    for row in rows {
        beginnings.push(row.id("first_id")?);
    }
    beginnings.sort_unstable();
    beginnings.dedup();
    Ok(beginnings)
}

/// Forgets a conversation's buckets. Their messages must be gone.
pub(super) async fn forget(inner: &Inner, conversation_id: ConversationId) -> Result<(), StoreError> {
    inner.database.write(&inner.buckets.forget_buckets, (conversation_id.as_bytes().as_slice(),)).await
}

/// What a process remembers of the newest bucket of a conversation it writes to.
#[derive(Clone, Debug)]
pub(super) struct NewestBucket {
    begin: MessageId,
    messages: u32,
    /// As many as the row says.
    noted: u32,
    looked_up_at: Instant,
}

impl NewestBucket {
    /// The newest bucket as it is now, or as what is remembered says if that is new enough.
    pub(super) async fn look_up(
        inner: &Inner,
        conversation_id: ConversationId,
        remembered: Option<Self>,
    ) -> Result<Self, StoreError> {
        if let Some(known) = &remembered
            && known.looked_up_at.elapsed() <= REMEMBERED
        {
            return Ok(known.clone());
        }
        let looked_up_at = Instant::now();
        let conversation = conversation_id.as_bytes().as_slice();
        let row = inner.database.read_one(&inner.buckets.newest_bucket, (conversation,)).await?;
        let (begin, noted, counted_to) = match &row {
            Some(row) => {
                (row.id("first_id")?, row.optional_small("messages")?.unwrap_or(0), row.optional_id("counted_to")?)
            }
            None => (FIRST, 0, None),
        };
        let noted = u32::try_from(noted).unwrap_or(0);
        if let Some(known) = remembered
            && known.begin == begin
            && known.messages >= noted
        {
            return Ok(Self { looked_up_at, noted: noted.max(known.noted), ..known });
        }
        let counted_to: MessageId = counted_to.unwrap_or(FIRST);
        let bucket = begin.as_bytes().as_slice();
        let values = (conversation, bucket, counted_to.as_bytes().as_slice());
        let counted = inner.database.read_one(&inner.buckets.count_bucket, values).await?;
        let since = counted.map(|row| row.integer("messages")).transpose()?.unwrap_or(0);
        let since = u32::try_from(since).unwrap_or(u32::MAX);
        Ok(Self { begin, messages: noted.saturating_add(since), noted, looked_up_at })
    }

    /// The bucket for a new message, which is opened where it is time for another.
    pub(super) async fn place(&mut self, inner: &Inner, message: &NewMessage) -> Result<MessageId, StoreError> {
        let (id, conversation_id) = (message.message.id, message.message.conversation_id);
        if id < self.begin {
            return Ok(bucket_of(&list(inner, conversation_id).await?, id));
        }
        let is_full = self.messages >= inner.bucket_messages || self.is_old_at(id, conversation_id);
        if is_full && id > self.begin {
            let values = (conversation_id.as_bytes().as_slice(), id.as_bytes().as_slice());
            inner.database.write(&inner.buckets.open_bucket, values).await?;
            *self = Self { begin: id, messages: 0, noted: 0, looked_up_at: self.looked_up_at };
        }
        self.messages = self.messages.saturating_add(1);
        Ok(self.begin)
    }

    fn is_old_at(&self, id: MessageId, conversation_id: ConversationId) -> bool {
        let begun_at = if self.begin == FIRST { conversation_id.timestamp() } else { self.begin.timestamp() };
        id.timestamp() >= begun_at.plus_millis(LONGEST_MS)
    }

    /// Notes now and then how many messages the bucket has, up to and with the newest.
    pub(super) async fn note_if_due(&mut self, inner: &Inner, conversation_id: ConversationId, newest: MessageId) {
        if self.messages.saturating_sub(self.noted) < NOTED_EACH {
            return;
        }
        let messages = i32::try_from(self.messages).unwrap_or(i32::MAX);
        let (conversation, bucket) = (conversation_id.as_bytes().as_slice(), self.begin.as_bytes().as_slice());
        let values = (conversation, bucket, messages, newest.as_bytes().as_slice());
        match inner.database.write(&inner.buckets.note_bucket, values).await {
            Ok(()) => self.noted = self.messages,
            // It is due again with the next message.
            Err(error) => tracing::debug!(error = &error as &dyn std::error::Error, "did not note a bucket's length"),
        }
    }
}

#[cfg(test)]
mod tests {
    use proto::ids::Timestamp;

    use super::*;

    fn id(millis: i64) -> MessageId {
        MessageId::first_of(Timestamp::from_millis(1_700_000_000_000 + millis))
    }

    fn listed(
        beginnings: &[MessageId],
        from: MessageId,
        until: MessageId,
    ) -> Vec<(MessageId, MessageId, Vec<MessageId>)> {
        let parts = parts(beginnings, IdRange { from, until });
        parts.into_iter().map(|Part { range, buckets }| (range.from, range.until, buckets)).collect()
    }

    #[test]
    fn a_conversation_of_one_bucket_is_one_part() {
        let IdRange { from, until } = IdRange::ALL;
        assert_eq!(listed(&[FIRST], from, until), [(from, until, vec![FIRST])]);
        assert_eq!(listed(&[FIRST], id(1), id(2)), [(id(1), id(2), vec![FIRST])]);
        assert!(listed(&[FIRST], id(2), id(2)).is_empty());
    }

    #[test]
    fn what_follows_a_beginning_may_lie_in_the_bucket_before() {
        let (begin, end) = (id(1_000_000), id(1_000_000 + OVERLAP_MS));
        let buckets = [FIRST, begin];
        let expected =
            [(id(0), begin, vec![FIRST]), (begin, end, vec![FIRST, begin]), (end, id(9_000_000), vec![begin])];
        assert_eq!(listed(&buckets, id(0), id(9_000_000)), expected);
        assert_eq!(listed(&buckets, end, id(9_000_000)), expected[2..]);
        assert_eq!(listed(&buckets, begin, end), expected[1..2]);
        assert_eq!(holding(&buckets, begin), [FIRST, begin]);
        assert_eq!(holding(&buckets, end), [begin]);
    }

    #[test]
    fn buckets_opened_side_by_side_are_all_looked_into() {
        let (first, second) = (id(1_000_000), id(1_000_500));
        let buckets = [FIRST, first, second];
        assert_eq!(holding(&buckets, id(1_000_499)), [FIRST, first]);
        assert_eq!(holding(&buckets, id(1_000_501)), [FIRST, first, second]);
        assert_eq!(holding(&buckets, id(1_000_000 + OVERLAP_MS)), [first, second]);
        assert_eq!(holding(&buckets, id(1_000_500 + OVERLAP_MS)), [second]);
    }

    #[test]
    fn a_message_belongs_into_the_newest_bucket_that_begins_at_or_below_it() {
        let buckets = [FIRST, id(10), id(20)];
        let expected = [(9, FIRST), (10, id(10)), (19, id(10)), (20, id(20)), (99, id(20))];
        for (millis, bucket) in expected {
            assert_eq!(bucket_of(&buckets, id(millis)), bucket);
        }
    }
}
