//! The table `read_ranges`: what users have read.
//!
//! Nothing that is read becomes unread, in whatever order writes arrive: the time of a range's write is not when it was
//! written but how far it reaches ([`reach`]). So of two writes of one row the one that reaches further stands, and a
//! removal, which says how far the range that takes the row's place reaches, removes nothing that reaches further.

use std::collections::HashSet;

use proto::ids::{ConversationId, MessageId, UserId};

use super::Inner;
use super::database::statements;
use crate::domain::message::{IdRange, NewMessage};
use crate::domain::read_ranges::{ReadRange, ReadRanges, ReadRangesChange};
use crate::store::StoreError;

/// So many ranges, of all readers, are read at once.
const AT_ONCE: usize = 500;
/// So many removals and additions are one write.
const BATCH_LENGTH: usize = 500;

statements! {
    /// What is asked and written here.
    pub(super) struct Statements {
        /// list what a user has read
        list_read_ranges: "
            SELECT user_id, first_id, last_id FROM read_ranges WHERE conversation_id = ? AND user_id = ? LIMIT ?",
        /// list what users have read
        list_readers: "
            SELECT user_id, first_id, last_id FROM read_ranges WHERE conversation_id = ? AND user_id > ? LIMIT ?",
        /// list what a user has read
        list_read_below: "
            SELECT user_id, first_id, last_id FROM read_ranges
            WHERE conversation_id = ? AND user_id = ? AND first_id < ? LIMIT ?",
        /// change read marks
        add_read_range: "
            INSERT INTO read_ranges (conversation_id, user_id, first_id, last_id) VALUES (?, ?, ?, ?)
            USING TIMESTAMP ?",
        /// change read marks
        remove_read_range: "
            DELETE FROM read_ranges USING TIMESTAMP ? WHERE conversation_id = ? AND user_id = ? AND first_id = ?",
        /// erase read marks
        erase_read_ranges: "DELETE FROM read_ranges WHERE conversation_id = ?",
    }
}

/// What a user has read, newest first, at most so many ranges.
pub(super) async fn list(
    inner: &Inner,
    conversation_id: ConversationId,
    user_id: UserId,
    limit: usize,
) -> Result<Vec<ReadRange>, StoreError> {
    let limit = i32::try_from(limit).unwrap_or(i32::MAX);
    let values = (conversation_id.as_bytes().as_slice(), user_id.as_bytes().as_slice(), limit);
    let rows = inner.database.read(&inner.read_marks.list_read_ranges, values).await?;
    rows.iter().map(|row| Ok(decode(row)?.1)).collect()
}

/// Which of these messages of one author somebody else has read: a range lies over it, and it is not hidden from the
/// range's user, who may have left since.
pub(super) async fn read_by_others(
    inner: &Inner,
    conversation_id: ConversationId,
    messages: &[&NewMessage],
) -> Result<HashSet<MessageId>, StoreError> {
    let mut unread = messages.to_vec();
    let mut read = HashSet::new();
    // Nobody has this id.
    let mut after = UserId::from_bytes([0; 12]);
    while let Some(oldest) = unread.iter().map(|new| new.message.id).min() {
        let values = (conversation_id.as_bytes().as_slice(), after.as_bytes().as_slice(), at_once());
        let rows = inner.database.read(&inner.read_marks.list_readers, values).await?;
        let found = rows.iter().map(decode).collect::<Result<Vec<_>, _>>()?;
        let has_more = found.len() == AT_ONCE;
        for of_reader in found.chunk_by(|(a, _), (b, _)| a == b) {
            let reader = of_reader[0].0;
            let mut ranges: Vec<_> = of_reader.iter().map(|(_, range)| *range).collect();
            if has_more && found.last().is_some_and(|(last, _)| *last == reader) {
                complete(inner, conversation_id, reader, &mut ranges, oldest).await?;
            }
            let ranges = ReadRanges::new(ranges);
            unread.retain(|new| {
                let message = &new.message;
                let is_read =
                    message.from != reader && ranges.contains(message.id) && !new.hidden_for.contains(&reader);
                if is_read {
                    read.insert(message.id);
                }
                !is_read
            });
        }
        match found.last() {
            Some((last, _)) if has_more => after = *last,
            _ => break,
        }
    }
    Ok(read)
}

/// Adds what is missing of a reader's ranges, newest first, down to the one that may lie over this message.
async fn complete(
    inner: &Inner,
    conversation_id: ConversationId,
    reader: UserId,
    ranges: &mut Vec<ReadRange>,
    oldest: MessageId,
) -> Result<(), StoreError> {
    while let Some(lowest) = ranges.last().map(|range| range.from).filter(|&lowest| lowest > oldest) {
        let (conversation, user) = (conversation_id.as_bytes().as_slice(), reader.as_bytes().as_slice());
        let values = (conversation, user, lowest.as_bytes().as_slice(), at_once());
        let rows = inner.database.read(&inner.read_marks.list_read_below, values).await?;
        if rows.is_empty() {
            break;
        }
        for row in &rows {
            ranges.push(decode(row)?.1);
        }
    }
    Ok(())
}

fn at_once() -> i32 {
    i32::try_from(AT_ONCE).expect("a small number")
}

/// Changes what a user has read.
pub(super) async fn change(
    inner: &Inner,
    conversation_id: ConversationId,
    user_id: UserId,
    change: &ReadRangesChange,
) -> Result<(), StoreError> {
    let statements = &inner.read_marks;
    let (conversation, user) = (conversation_id.as_bytes().as_slice(), user_id.as_bytes().as_slice());
    let added = change.added.iter().map(|ReadRange { from, to }| {
        let values = (conversation, user, from.as_bytes().as_slice(), to.as_bytes().as_slice(), reach(*to));
        statements.add_read_range.with(values)
    });
    // What takes the place of a range that goes. Where that is the same row written anew, nothing goes.
    let taken_by = |from: MessageId| change.added.iter().find(|range| range.from <= from && from <= range.to);
    let removed = change.removed.iter().filter_map(|from| {
        let taken_by = taken_by(*from);
        let to = taken_by.map_or(IdRange::ALL.until, |range| range.to);
        let is_written_anew = taken_by.is_some_and(|range| range.from == *from);
        let values = (reach(to), conversation, user, from.as_bytes().as_slice());
        (!is_written_anew).then(|| statements.remove_read_range.with(values))
    });
    // Additions first: what is cut in between has lost nothing.
    let writes: Vec<_> = added.chain(removed).collect();
    for writes in writes.chunks(BATCH_LENGTH) {
        inner.database.write_batch(writes).await?;
    }
    Ok(())
}

/// How far a range reaches, as the time of its write: seconds and fraction of its last id. It lies before every real time
/// in microseconds, so that erasing, which is written with the real time, erases everything.
fn reach(to: MessageId) -> i64 {
    to.as_bytes()[..6].iter().fold(0, |reach, byte| (reach << 8) | i64::from(*byte))
}

/// Erases what has been read in a conversation. Nothing can be written there ever after.
pub(super) async fn erase(inner: &Inner, conversation_id: ConversationId) -> Result<(), StoreError> {
    inner.database.write(&inner.read_marks.erase_read_ranges, (conversation_id.as_bytes().as_slice(),)).await
}

fn decode(row: &super::row::Row) -> Result<(UserId, ReadRange), StoreError> {
    Ok((row.id("user_id")?, ReadRange { from: row.id("first_id")?, to: row.id("last_id")? }))
}

#[cfg(test)]
mod tests {
    use proto::ids::Timestamp;

    use super::*;

    #[test]
    fn what_ends_later_reaches_further_and_nothing_reaches_the_present() {
        let first_of = |millis| MessageId::first_of(Timestamp::from_millis(millis));
        assert!(reach(first_of(1_700_000_000_001)) > reach(first_of(1_700_000_000_000)));
        assert!(reach(IdRange::ALL.until) < 1_700_000_000_000_000);
        assert_eq!(reach(IdRange::ALL.from), 0);
    }
}
