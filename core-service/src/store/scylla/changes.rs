//! How conversations change: one conditional batch, and what it entails elsewhere (see `unfinished`).

use std::collections::{BTreeSet, HashSet};

use proto::ids::{ConversationId, UserId};

use super::conversations::{self, Head, Look, attempt_key, enlist, image_json, lookup_head_for, places, role_word};
use super::creating::REMEMBERED_SECONDS;
use super::database::Applied;
use super::unfinished::{self, Changed, Work};
use super::{ScyllaStore, activity, append, slices};
use crate::domain::conversation::{ConversationType, Member};
use crate::domain::event::Event;
use crate::domain::session::Attempt;
use crate::store::{ConversationChange, PastChange, StoreError};

/// So often a change is tried: between two times somebody else's change was finished.
const ROUNDS: usize = 3;

/// Makes the change if the version is the expected one; whether it was.
pub(super) async fn make(store: &ScyllaStore, change: &ConversationChange, event: Event) -> Result<bool, StoreError> {
    let ConversationChange { conversation, expected_version, attempt, .. } = change;
    // What was said before leaves before.
    append::settle(&store.inner, conversation.id).await;
    for _ in 0..ROUNDS {
        let Some(head) = ready(store, conversation.id, *expected_version).await? else { return Ok(false) };
        let Some(work) = work_of(store, change, &event).await? else { return Ok(false) };
        let coming = change.added.iter().map(|member| member.user_id);
        enlist(store, conversation, coming, expected_version + 1).await?;
        let applied = write(store, change, &head, &work, &event).await?;
        if !is_applied(store, conversation.id, *expected_version, *attempt, applied).await? {
            continue;
        }
        let changed = Changed { conversation, version: expected_version + 1, is_erased: false };
        unfinished::carry_out(store, changed, &work, event).await?;
        return Ok(true);
    }
    Ok(false)
}

/// The conversation, with nothing unfinished, if it stands and its version is the expected one.
pub(super) async fn ready(
    store: &ScyllaStore,
    id: ConversationId,
    expected_version: u64,
) -> Result<Option<Head>, StoreError> {
    let head = conversations::lookup_head(store, id).await?;
    let Some(head) = head.filter(|head| head.version == expected_version && !head.is_erased()) else {
        return Ok(None);
    };
    unfinished::finish(store, &head).await?;
    Ok(Some(head))
}

/// Whether this attempt's change of this version was applied. Where it was not, and still can be, it may be tried again.
///
/// A database may say no to a change that it has applied, when another process brought it to its end meanwhile.
pub(super) async fn is_applied(
    store: &ScyllaStore,
    id: ConversationId,
    expected_version: u64,
    attempt: Attempt,
    applied: Applied,
) -> Result<bool, StoreError> {
    let (error, look) = match applied {
        Applied::Yes => return Ok(true),
        // What the answer rests on can be read.
        Applied::No => (None, Look::Plain),
        Applied::Unknown(error) => (Some(error), Look::Serial),
    };
    let found = lookup_head_for(store, id, attempt, look).await?;
    match (found, error) {
        (Some((_, true)), _) => Ok(true),
        // It may still come to be: nobody may decide that it did not.
        (Some((head, _)), Some(error)) if head.version == expected_version => Err(error),
        _ => Ok(false),
    }
}

/// What the change entails; `None` where the conversation is of another version by now.
async fn work_of(store: &ScyllaStore, change: &ConversationChange, event: &Event) -> Result<Option<Work>, StoreError> {
    let ConversationChange { conversation, expected_version, added, removed, messages, .. } = change;
    let coming: HashSet<_> = added.iter().map(|member| member.user_id).collect();
    let leaving: Vec<_> = removed.iter().copied().filter(|user_id| !coming.contains(user_id)).collect();
    let work = Work::telling(event).saying(messages).leaving(&leaving);
    if conversation.kind == ConversationType::Channel {
        return Ok(Some(work));
    }
    let id = conversation.id;
    let Some(before) = conversations::list_members_at(store, id, *expected_version).await? else { return Ok(None) };
    let staying = before.iter().map(|member| member.user_id).filter(|user_id| !removed.contains(user_id));
    let members: Vec<UserId> = staying.chain(coming).collect();
    let mut updated_at = conversation.changed_at;
    if !added.is_empty() {
        let newest = slices::newest_id(&store.inner, id).await?;
        updated_at = newest.map_or(updated_at, |newest| updated_at.max(newest.timestamp()));
    }
    let said = messages.iter().map(|new| new.message.created_at());
    let times = said.chain([conversation.changed_at, updated_at]);
    let mut hours: BTreeSet<_> = times.map(activity::hour_of).collect();
    hours.extend(added.iter().flat_map(|member| activity::hours_of_joining(member.joined_at)));
    Ok(Some(work.moving(&members, hours)))
}

async fn write(
    store: &ScyllaStore,
    change: &ConversationChange,
    head: &Head,
    work: &Work,
    event: &Event,
) -> Result<Applied, StoreError> {
    let ConversationChange { conversation, expected_version, added, removed, roles, attempt, .. } = change;
    let (database, statements) = (&store.inner.database, &store.inner.conversations);
    let version = expected_version + 1;
    let count = usize::try_from(head.member_count).unwrap_or(usize::MAX) + added.len();
    let count = count.saturating_sub(removed.len());
    let unfinished = work.encode();
    let image_json = image_json(conversation);
    let id = conversation.id.as_bytes().as_slice();
    let mut batch = vec![
        statements.change_conversation.with((
            conversation.owner_id.as_bytes().as_slice(),
            conversation.name.as_deref(),
            conversation.description.as_deref(),
            image_json.as_deref(),
            conversation.changed_at.millis(),
            version.cast_signed(),
            i32::try_from(count).unwrap_or(i32::MAX),
            unfinished.as_slice(),
            id,
            expected_version.cast_signed(),
        )),
        statements.remember_change.with((REMEMBERED_SECONDS, attempt_key(*attempt), event.id.timestamp().millis(), id)),
    ];
    // In one batch a removal would win over the entry of the same member, which replaces his row anyway.
    let is_added = |user_id: &UserId| added.iter().any(|member| member.user_id == *user_id);
    for user_id in removed.iter().filter(|user_id| !is_added(user_id)) {
        batch.push(statements.remove_member.with((id, user_id.as_bytes().as_slice())));
    }
    for (user_id, role) in roles {
        batch.push(statements.set_member_role.with((role_word(*role), id, user_id.as_bytes().as_slice())));
    }
    for (member, place) in added.iter().zip(places(version)) {
        let Member { user_id, role, joined_at } = member;
        let values = (id, user_id.as_bytes().as_slice(), role_word(*role), joined_at.millis(), place);
        batch.push(statements.insert_member.with(values));
    }
    database.compare_and_set_batch(&batch).await
}

/// What this attempt has left of the conversation, if it changed it.
pub(super) async fn lookup(
    store: &ScyllaStore,
    id: ConversationId,
    attempt: Attempt,
) -> Result<Option<PastChange>, StoreError> {
    loop {
        let Some((head, true)) = lookup_head_for(store, id, attempt, Look::Serial).await? else { return Ok(None) };
        unfinished::finish(store, &head).await?;
        if head.is_erased() {
            return Ok(Some(PastChange::Erased(head.conversation)));
        }
        // Else it has been erased since.
        if let Some(record) = unfinished::lookup_whole(store, id).await? {
            return Ok(Some(PastChange::Standing(record)));
        }
    }
}
