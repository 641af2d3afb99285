//! A user's list of conversations.
//!
//! When a conversation was last updated is known only from itself. A user of few conversations has all of them looked at.
//! Of many, those are looked at in which something happened lately: the hours of his activity (see `activity`) are walked
//! back. Once the hours down to some border have been walked, every conversation that was updated since that border is
//! known, and as soon as these fill the list it is done. Channels have no activity and are always looked at; when the
//! days that are kept do not fill the list, all are.

use std::cmp::Reverse;
use std::collections::{HashMap, HashSet};

use proto::ids::{ConversationId, Timestamp, UserId};
use tokio::try_join;

use super::activity::{self, Activity, KEPT_DAYS, beginning_of, day_of, hour_of};
use super::conversations::Head;
use super::{ScyllaStore, slices, unfinished};
use crate::domain::conversation::{ConversationHead, ConversationType};
use crate::store::{HeadsQuery, StoreError};

/// So many times the list's length are looked at without a walk, which would find most of them.
const FEW: usize = 2;
/// So many are looked at between two looks whether the list is full.
const STEP: usize = 64;
/// Stamps of messages run ahead of this core's clock by less, in milliseconds.
const AHEAD_MS: i64 = 60_000;
/// The days of a walk are read in groups, since most lists are full after the first.
const GROUPS: [i32; 5] = [1, 2, 4, 8, KEPT_DAYS - 15];

/// The conversations that the query asks for, in its order.
pub(super) async fn list(store: &ScyllaStore, query: &HeadsQuery) -> Result<Vec<ConversationHead>, StoreError> {
    if query.limit == 0 {
        return Ok(Vec::new());
    }
    let mut search = Search { store, query, looked_at: HashMap::new() };
    match &query.ids {
        Some(ids) => search.look_at(ids.iter().copied()).await?,
        None => search.look_at_latest().await?,
    }
    Ok(search.into_list())
}

struct Search<'a> {
    store: &'a ScyllaStore,
    query: &'a HeadsQuery,
    /// Those that were looked at, and what was found where the user is in it.
    looked_at: HashMap<ConversationId, Option<ConversationHead>>,
}

impl Search<'_> {
    async fn look_at_latest(&mut self) -> Result<(), StoreError> {
        let listed = self.list_ids().await?;
        let all: HashSet<_> = listed.iter().map(|(id, _)| *id).collect();
        if all.len() > self.query.limit.saturating_mul(FEW) {
            let channels = listed.iter().filter(|(_, is_channel)| *is_channel);
            self.look_at(channels.map(|(id, _)| *id)).await?;
            if self.walk(&all).await? {
                return Ok(());
            }
        }
        self.look_at(all).await
    }

    /// The conversations in the user's index, and whether each is a channel.
    async fn list_ids(&self) -> Result<Vec<(ConversationId, bool)>, StoreError> {
        let inner = &*self.store.inner;
        let values = (self.query.user_id.as_bytes().as_slice(),);
        let rows = inner.database.read(&inner.conversations.list_conversations_of_user, values).await?;
        let is_channel = |kind: &str| kind == ConversationType::Channel.letter();
        rows.iter().map(|row| Ok((row.id("conversation_id")?, is_channel(row.text("kind")?)))).collect()
    }

    /// Walks back through the user's activity, from the latest hour that can matter on; whether that was enough.
    async fn walk(&mut self, all: &HashSet<ConversationId>) -> Result<bool, StoreError> {
        let newest_possible = self.store.inner.stamps.now().plus_millis(AHEAD_MS);
        let today = day_of(hour_of(newest_possible));
        let from = match self.query {
            // What he joined after `updated_after` is asked for as well, and he may have joined at any time up to now.
            HeadsQuery { updated_after: Some(_), .. } | HeadsQuery { updated_before: None, .. } => newest_possible,
            HeadsQuery { updated_before: Some(before), .. } => before.plus_millis(-1),
        };
        let mut day = day_of(hour_of(from.min(newest_possible)));
        // Of the day before this one, rows begin to fade.
        let last_day = today - (KEPT_DAYS - 1);
        for group in GROUPS {
            let first_left_out = (day - group).max(last_day - 1);
            if first_left_out >= day {
                return Ok(false);
            }
            let days = (first_left_out + 1)..=day;
            let activities = activity::list(&self.store.inner, self.query.user_id, days).await?;
            if self.look_at_active(all, &activities).await? || self.covers(beginning_of((first_left_out + 1) * 24)) {
                return Ok(true);
            }
            day = first_left_out;
        }
        Ok(false)
    }

    /// Looks at the conversations of these hours, latest first; whether the list is full before they end.
    async fn look_at_active(
        &mut self,
        all: &HashSet<ConversationId>,
        activities: &[Activity],
    ) -> Result<bool, StoreError> {
        let mut candidates = HashSet::new();
        let mut hours = activities.chunk_by(|a, b| a.hour == b.hour).peekable();
        while let Some(hour) = hours.next() {
            let ids = hour.iter().map(|activity| activity.conversation_id);
            candidates.extend(ids.filter(|id| all.contains(id) && !self.looked_at.contains_key(id)));
            if candidates.len() >= STEP || hours.peek().is_none() {
                self.look_at(candidates.drain()).await?;
                let border = beginning_of(hour[0].hour);
                if self.count_since(border) >= self.query.limit || self.covers(border) {
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }

    /// Whether nothing below this border is asked for.
    fn covers(&self, border: Timestamp) -> bool {
        self.query.updated_after.is_some_and(|after| after.plus_millis(1) >= border)
    }

    /// How many conversations are wanted of those updated since then.
    fn count_since(&self, border: Timestamp) -> usize {
        self.wanted().filter(|head| head.updated_at >= border).count()
    }

    fn wanted(&self) -> impl Iterator<Item = &ConversationHead> {
        self.looked_at.values().flatten().filter(|head| is_wanted(head, self.query))
    }

    /// Looks at these conversations, each once.
    async fn look_at(&mut self, ids: impl IntoIterator<Item = ConversationId>) -> Result<(), StoreError> {
        let mut new: HashSet<_> = ids.into_iter().collect();
        new.retain(|id| !self.looked_at.contains_key(id));
        let (store, user_id) = (self.store, self.query.user_id);
        let read = |id| async move { Ok((id, read(store, id, user_id).await?)) };
        for (id, found) in store.inner.database.for_each(new, read).await? {
            let head = match found {
                Some((head, listed)) => {
                    unfinished::finish(store, &head).await?;
                    Some(listed)
                }
                None => None,
            };
            self.looked_at.insert(id, head);
        }
        Ok(())
    }

    fn into_list(self) -> Vec<ConversationHead> {
        let mut heads: Vec<_> = self.wanted().cloned().collect();
        heads.sort_unstable_by_key(|head| Reverse((head.updated_at, head.conversation.id)));
        if let Some(oldest) = self.query.limit.checked_sub(1).and_then(|last| heads.get(last)) {
            let oldest = oldest.updated_at;
            heads.retain(|head| head.updated_at >= oldest);
        }
        heads
    }
}

/// The conversation as it stands in the user's list, if he is in it.
async fn read(
    store: &ScyllaStore,
    id: ConversationId,
    user_id: UserId,
) -> Result<Option<(Head, ConversationHead)>, StoreError> {
    let inner = &*store.inner;
    let values = (id.as_bytes().as_slice(), user_id.as_bytes().as_slice());
    let (row, newest) = try_join!(
        inner.database.read_one(&inner.conversations.lookup_conversation_of_member, values),
        slices::newest_id(inner, id)
    )?;
    let Some(row) = row.filter(|row| !row.is_null("joined_at")) else { return Ok(None) };
    let joined_at = row.time("joined_at")?;
    let Some(head) = Head::decode(&row)? else { return Ok(None) };
    let conversation = head.conversation.clone();
    let changed_at = conversation.changed_at;
    let updated_at = newest.map_or(changed_at, |newest| changed_at.max(newest.timestamp()));
    let listed = ConversationHead { conversation, member_count: head.member_count, joined_at, updated_at };
    Ok(Some((head, listed)))
}

fn is_wanted(head: &ConversationHead, query: &HeadsQuery) -> bool {
    query.updated_after.is_none_or(|after| head.updated_at > after || head.joined_at > after)
        && query.updated_before.is_none_or(|before| head.updated_at < before)
}
