//! How conversations end: the table `erasing`, and the content that goes with them.
//!
//! An erasure is a change after which the conversation has no members and `erased_at` says when it ended; what it was at
//! last is kept for a while, for repeats. Its content is deleted at once, partition by partition. A process that does not
//! know yet may still write into it for some seconds, so `erasing` keeps, from before the erasure on, what must be deleted
//! once more by [`erase_content`].

use proto::ids::{ConversationId, Timestamp};

use super::changes::{is_applied, ready};
use super::conversations::{self, Head, attempt_key};
use super::creating::{REMEMBERED_SECONDS, pair_claim};
use super::database::{Applied, statements};
use super::row::Row;
use super::unfinished::{self, Changed, Work};
use super::{Inner, ScyllaStore, append, buckets, messages};
use crate::domain::clock::Stamps;
use crate::domain::conversation::{Conversation, Member};
use crate::domain::event::Event;
use crate::store::{Erasure, REPEATED_MS, StoreError};

/// The table `erasing` has so many partitions.
const SHARDS: u8 = 16;
/// An erasure that was not applied by then, in milliseconds, never is.
const GIVEN_UP_MS: i64 = 60 * 60 * 1000;
/// So often an erasure is tried: between two times somebody else's change was finished.
const ROUNDS: usize = 3;

statements! {
    /// Statements about erased conversations.
    pub(super) struct Statements {
        /// note an erasure
        note_erasure: "INSERT INTO erasing (shard, conversation_id, version, erased_at) VALUES (?, ?, ?, ?)",
        /// list erasures
        list_erasures: "SELECT conversation_id, version, erased_at FROM erasing WHERE shard = ?",
        /// forget an erasure
        forget_erasure: "DELETE FROM erasing WHERE shard = ? AND conversation_id = ? AND version = ?",
    }
}

/// Erases the conversation if the version is the expected one; whether it was.
pub(super) async fn erase(store: &ScyllaStore, erasure: Erasure, event: Event) -> Result<bool, StoreError> {
    let Erasure { id, expected_version, attempt } = erasure;
    // What was said before leaves before.
    append::settle(&store.inner, id).await;
    for _ in 0..ROUNDS {
        let Some(head) = ready(store, id, expected_version).await? else { return Ok(false) };
        let members = conversations::list_members_at(store, id, expected_version).await?;
        let Some(members) = members else { return Ok(false) };
        let user_ids: Vec<_> = members.iter().map(|member| member.user_id).collect();
        let work = Work::telling(&event).leaving(&user_ids);
        let applied = write(store, erasure, &members, &work, &event).await?;
        if is_applied(store, id, expected_version, attempt, applied).await? {
            let conversation = &head.conversation;
            let changed = Changed { conversation, version: expected_version + 1, is_erased: true };
            unfinished::carry_out(store, changed, &work, event).await?;
            return Ok(true);
        }
    }
    Ok(false)
}

async fn write(
    store: &ScyllaStore,
    erasure: Erasure,
    members: &[Member],
    work: &Work,
    event: &Event,
) -> Result<Applied, StoreError> {
    let Inner { database, conversations: statements, erasing, .. } = &*store.inner;
    let Erasure { id, expected_version, attempt } = erasure;
    let erased_at = event.id.timestamp().millis();
    let (version, conversation) = (expected_version.cast_signed() + 1, id.as_bytes().as_slice());
    database.write(&erasing.note_erasure, (shard_of(&store.inner, id), conversation, version, erased_at)).await?;

    let unfinished = work.encode();
    let condition = expected_version.cast_signed();
    let mut batch = vec![
        statements.erase_conversation.with((version, erased_at, unfinished.as_slice(), conversation, condition)),
        statements.remember_change.with((REMEMBERED_SECONDS, attempt_key(attempt), erased_at, conversation)),
    ];
    for member in members {
        batch.push(statements.remove_member.with((conversation, member.user_id.as_bytes().as_slice())));
    }
    database.compare_and_set_batch(&batch).await
}

/// Where the erasure of a conversation is noted.
fn shard_of(inner: &Inner, id: ConversationId) -> i32 {
    // The last byte counts, so it is spread evenly.
    inner.first_erasing_shard + i32::from(id.as_bytes()[11] % SHARDS)
}

/// The number of the table's first partition. Tests share the table, and each deletes only what its own store has erased.
pub(super) fn first_shard(stamps: &Stamps) -> i32 {
    if !cfg!(test) {
        return 0;
    }
    let id = ConversationId::from(stamps.new_id());
    // What tells this process from others.
    id.as_bytes()[6..9].iter().fold(0, |first, byte| (first << 8) | i32::from(*byte)) * i32::from(SHARDS)
}

/// What an erasure entails: the pair is free to make another conversation, and the content is gone.
pub(super) async fn release(store: &ScyllaStore, conversation: &Conversation) -> Result<(), StoreError> {
    let id = conversation.id;
    if let Some(claim) = pair_claim(conversation) {
        store.release_claim(&claim, id.as_bytes()).await?;
    }
    messages::erase(&store.inner, id).await
}

/// Deletes once more what erased conversations have left, and forgets those that were erased long enough before `now`.
pub(super) async fn erase_content(store: &ScyllaStore, now: Timestamp) -> Result<(), StoreError> {
    let Inner { database, erasing, .. } = &*store.inner;
    let mut outcome = Ok(());
    let first = store.inner.first_erasing_shard;
    for shard in first..first + i32::from(SHARDS) {
        for row in database.read(&erasing.list_erasures, (shard,)).await? {
            // One that fails does not keep the others from their end.
            if let Err(error) = erase_rest(store, &row, now).await {
                outcome = Err(error);
            }
        }
    }
    outcome
}

async fn erase_rest(store: &ScyllaStore, row: &Row, now: Timestamp) -> Result<(), StoreError> {
    let Inner { database, conversations: statements, erasing, .. } = &*store.inner;
    let (id, version): (ConversationId, _) = (row.id("conversation_id")?, row.number("version")?);
    let noted_at = row.time("erased_at")?;
    let conversation = id.as_bytes().as_slice();
    let is_over = match conversations::lookup_head(store, id).await? {
        // It was forgotten; only this row was left.
        None => true,
        Some(head) if head.is_erased() => {
            unfinished::finish(store, &head).await?;
            messages::erase(&store.inner, id).await?;
            let is_over = is_forgettable(&head, now);
            if is_over {
                buckets::forget(&store.inner, id).await?;
                let values = (conversation, head.version.cast_signed());
                if let Applied::Unknown(error) =
                    database.compare_and_set(&statements.forget_conversation, values).await?
                {
                    return Err(error);
                }
            }
            is_over
        }
        // It has changed instead.
        Some(head) if head.version >= version => true,
        Some(_) => noted_at < now.plus_millis(-GIVEN_UP_MS),
    };
    if is_over {
        database
            .write(&erasing.forget_erasure, (shard_of(&store.inner, id), conversation, version.cast_signed()))
            .await?;
    }
    Ok(())
}

fn is_forgettable(head: &Head, now: Timestamp) -> bool {
    head.erased_at.is_some_and(|erased_at| erased_at < now.plus_millis(-REPEATED_MS))
}
