//! The table `activity_by_user`: in which hours something happened in which of a user's conversations.
//!
//! It says where to look for the conversations at the head of a user's list. A `u` or `g` that was updated in an hour, or
//! that he joined in it, has a row of that hour for each member, for [`KEPT_DAYS`] days. A row may be left over: of a
//! message that was not stored after all, of a membership that ended. What is found is checked against the conversation.

use proto::ids::{ConversationId, Timestamp, UserId};

use super::Inner;
use super::database::statements;
use crate::store::StoreError;

const HOUR_MS: i64 = 60 * 60 * 1000;
/// A change may be unknown to other processes for so long, a write of theirs included, in milliseconds.
const UNKNOWN_MS: i64 = 5_000;
const DAY_HOURS: i32 = 24;
/// Rows of so many days, today included, are all there. The table keeps them for as long.
pub(super) const KEPT_DAYS: i32 = 35;

statements! {
    /// Statements about activity.
    pub(super) struct Statements {
        /// note a conversation's activity
        note: "INSERT INTO activity_by_user (user_id, day, hour, conversation_id) VALUES (?, ?, ?, ?)",
        /// list a user's active conversations
        list: "SELECT conversation_id, hour FROM activity_by_user WHERE user_id = ? AND day = ?",
    }
}

/// The hour of a time, counted from the epoch.
pub(super) fn hour_of(at: Timestamp) -> i32 {
    let hour = at.millis().div_euclid(HOUR_MS);
    i32::try_from(hour).unwrap_or(if hour < 0 { i32::MIN } else { i32::MAX })
}

/// The day of an hour, counted from the epoch.
pub(super) fn day_of(hour: i32) -> i32 {
    hour.div_euclid(DAY_HOURS)
}

/// When an hour begins.
pub(super) fn beginning_of(hour: i32) -> Timestamp {
    Timestamp::from_millis(i64::from(hour) * HOUR_MS)
}

/// The hours to note for one who joins at this time. For seconds more other processes may not know of him; what is
/// said then must not be missing in his list.
pub(super) fn hours_of_joining(joined_at: Timestamp) -> [i32; 2] {
    [joined_at, joined_at.plus_millis(UNKNOWN_MS)].map(hour_of)
}

/// Notes that something happened in a conversation in these hours, for each of these users.
pub(super) async fn note(inner: &Inner, id: ConversationId, users: &[UserId], hours: &[i32]) -> Result<(), StoreError> {
    let rows: Vec<_> = users.iter().flat_map(|&user_id| hours.iter().map(move |&hour| (user_id, hour))).collect();
    let noted = inner.database.for_each(rows, |(user_id, hour)| async move {
        let values = (user_id.as_bytes().as_slice(), day_of(hour), hour, id.as_bytes().as_slice());
        inner.database.write(&inner.activity.note, values).await
    });
    noted.await.map(drop)
}

/// A conversation and an hour in which something happened in it.
pub(super) struct Activity {
    pub(super) hour: i32,
    pub(super) conversation_id: ConversationId,
}

/// What happened on these days, latest hours first.
pub(super) async fn list(
    inner: &Inner,
    user_id: UserId,
    days: impl IntoIterator<Item = i32>,
) -> Result<Vec<Activity>, StoreError> {
    let days = inner.database.for_each(days, |day| async move {
        inner.database.read(&inner.activity.list, (user_id.as_bytes().as_slice(), day)).await
    });
    let mut activities = Vec::new();
    for row in days.await?.iter().flatten() {
        activities.push(Activity { hour: row.small("hour")?, conversation_id: row.id("conversation_id")? });
    }
    activities.sort_by_key(|activity| std::cmp::Reverse(activity.hour));
    Ok(activities)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_hour_holds_its_beginning_and_no_other() {
        let hour = hour_of(Timestamp::from_millis(1_700_000_000_000));
        let beginning = beginning_of(hour);
        assert_eq!((hour_of(beginning), hour_of(beginning.plus_millis(HOUR_MS - 1))), (hour, hour));
        assert_eq!((hour_of(beginning.plus_millis(-1)), hour_of(beginning.plus_millis(HOUR_MS))), (hour - 1, hour + 1));
        assert_eq!(day_of(hour_of(Timestamp::from_millis(86_399_999))), 0);
        assert_eq!(day_of(hour_of(Timestamp::from_millis(86_400_000))), 1);
    }
}
