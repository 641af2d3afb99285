//! What a list of conversations shows of their messages: the newest one and how many are unread.

use proto::ids::{MessageId, UserId};

use super::marks::rest_of;
use super::messages::StoredMark;
use super::slices::Reader;
use super::{Inner, read_marks, views};
use crate::domain::message::{IdRange, SeenMessage};
use crate::domain::read_ranges::ReadRanges;
use crate::store::{MAX_UNREAD, MAX_UNREAD_LOOKED_AT, MessagesQuery, Order, Preview, PreviewOf, StoreError};

/// So many messages are looked at in one read.
const LOOK_AT: usize = 1_000;
/// So many gaps between what was read are looked into one by one. Whoever has more of them has read single messages here
/// and there; then it takes fewer reads to pass over those as well.
const SINGLE_GAPS: usize = 4;

/// The previews of these conversations, in order.
pub(super) async fn list(inner: &Inner, viewer: UserId, of: &[PreviewOf]) -> Result<Vec<Preview>, StoreError> {
    inner.database.for_each(of.iter().copied(), |of| lookup(inner, viewer, of)).await
}

async fn lookup(inner: &Inner, viewer: UserId, of: PreviewOf) -> Result<Preview, StoreError> {
    let reader = Reader::open(inner, of.conversation_id).await?;
    let (last_message, unread_count) =
        futures_util::try_join!(last_message(inner, &reader, viewer, of), lookup_unread(inner, &reader, viewer, of))?;
    Ok(Preview { last_message, unread_count })
}

/// The newest message that a user sees.
async fn last_message(
    inner: &Inner,
    reader: &Reader<'_>,
    viewer: UserId,
    of: PreviewOf,
) -> Result<Option<SeenMessage>, StoreError> {
    let PreviewOf { conversation_id, .. } = of;
    let newest = MessagesQuery { conversation_id, viewer, range: IdRange::ALL, order: Order::NewestFirst, limit: 1 };
    let Some(last) = views::list_visible(reader, newest).await?.pop() else { return Ok(None) };
    let is_read = !read_marks::read_by_others(inner, conversation_id, &[&last.new]).await?.is_empty();
    Ok(Some(SeenMessage { message: last.new.message, is_read }))
}

async fn lookup_unread(inner: &Inner, reader: &Reader<'_>, viewer: UserId, of: PreviewOf) -> Result<u32, StoreError> {
    let Some(start) = of.unread_from else { return Ok(0) };
    let ranges = read_marks::list(inner, of.conversation_id, viewer, MAX_UNREAD_LOOKED_AT).await?;
    // Of what lies below the ranges that were read nothing is known.
    let start = ranges.get(MAX_UNREAD_LOOKED_AT - 1).map_or(start, |oldest| start.max(oldest.from));
    count_unread(reader, viewer, start, &ReadRanges::new(ranges)).await
}

/// Counts what is unread in the newest [`MAX_UNREAD_LOOKED_AT`] messages outside of the ranges.
pub(super) async fn count_unread(
    reader: &Reader<'_>,
    viewer: UserId,
    unread_from: MessageId,
    ranges: &ReadRanges,
) -> Result<u32, StoreError> {
    let mut unread = 0;
    let mut look_at = MAX_UNREAD_LOOKED_AT;
    // All that lies at or above this has been looked at.
    let mut until = IdRange::ALL.until;
    for (number, gap) in ranges.gaps_above(unread_from).into_iter().enumerate() {
        let mut rest = Some(IdRange { until: gap.until.min(until), ..gap });
        while let Some(range) = rest.filter(|range| range.from < range.until) {
            let beyond = if number < SINGLE_GAPS { range.from } else { unread_from };
            let slice = IdRange { from: beyond, ..range };
            let marks: Vec<StoredMark> = reader.slice(slice, Order::NewestFirst, LOOK_AT).await?;
            let before = look_at;
            for mark in marks.iter().filter(|mark| !ranges.contains(mark.recent.id)) {
                if look_at == 0 || unread == MAX_UNREAD {
                    return Ok(unread);
                }
                look_at -= 1;
                unread += u32::from(mark.recent.from != viewer && !mark.hidden_for.contains(&viewer));
            }
            // Where nothing is found, that costs a look too.
            look_at -= usize::from(look_at == before && look_at > 0);
            until = marks.last().filter(|_| marks.len() == LOOK_AT).map_or(beyond, |last| last.recent.id);
            rest = Some(rest_of(range, Order::NewestFirst, until));
        }
        if look_at == 0 {
            break;
        }
    }
    Ok(unread)
}
