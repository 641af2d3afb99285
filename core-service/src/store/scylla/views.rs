//! Messages as one user sees them: without what is hidden from him, and with what is told of reading.

use std::collections::BTreeSet;

use proto::ids::{ConversationId, MessageId, UserId};

use super::Inner;
use super::marks::rest_of;
use super::messages::{StoredMark, StoredMessage, doubles};
use super::read_marks;
use super::slices::Reader;
use crate::domain::message::{IdRange, SeenMessage};
use crate::store::{MessagesQuery, Order, StoreError};

/// So many messages are looked at in one read where many are hidden.
const LOOK_AT: usize = 1_000;

/// A page of what a user sees.
pub(super) async fn list(inner: &Inner, query: MessagesQuery) -> Result<Vec<SeenMessage>, StoreError> {
    let reader = Reader::open(inner, query.conversation_id).await?;
    let visible = list_visible(&reader, query).await?;
    see(inner, query.conversation_id, query.viewer, visible).await
}

/// What a user sees of these messages, newest first.
pub(super) async fn lookup(
    inner: &Inner,
    conversation_id: ConversationId,
    viewer: UserId,
    ids: &[MessageId],
) -> Result<Vec<SeenMessage>, StoreError> {
    let ids: BTreeSet<_> = ids.iter().copied().collect();
    let reader = Reader::open(inner, conversation_id).await?;
    let mut visible: Vec<StoredMessage> = reader.lookup(&ids).await?;
    visible.retain(|stored| stored.is_visible_to(viewer));
    visible.reverse();
    see(inner, conversation_id, viewer, visible).await
}

/// The first messages of a range that a user sees. Most often that is the range's beginning. Only where something of it is
/// hidden, what follows is chosen by its marks.
pub(super) async fn list_visible(reader: &Reader<'_>, query: MessagesQuery) -> Result<Vec<StoredMessage>, StoreError> {
    let MessagesQuery { viewer, range, order, limit, .. } = query;
    let mut page: Vec<StoredMessage> = reader.slice(range, order, limit).await?;
    let last = page.last().map(|stored| stored.new.message.id).filter(|_| page.len() == limit);
    let doubles = doubles(page.iter().filter_map(StoredMessage::attempt));
    page.retain(|stored| stored.is_visible_to(viewer) && !doubles.contains(&stored.new.message.id));
    let Some(last) = last.filter(|_| page.len() < limit) else { return Ok(page) };

    let ids = pick_visible(reader, viewer, rest_of(range, order, last), order, limit - page.len()).await?;
    let mut more: Vec<StoredMessage> = reader.lookup(&ids).await?;
    if order == Order::NewestFirst {
        more.reverse();
    }
    page.append(&mut more);
    Ok(page)
}

/// The ids of the first messages of a range that a user sees.
async fn pick_visible(
    reader: &Reader<'_>,
    viewer: UserId,
    range: IdRange,
    order: Order,
    limit: usize,
) -> Result<BTreeSet<MessageId>, StoreError> {
    let mut picked = BTreeSet::new();
    let mut rest = Some(range);
    while picked.len() < limit
        && let Some(range) = rest
    {
        let marks: Vec<StoredMark> = reader.slice(range, order, LOOK_AT).await?;
        let last = marks.last().filter(|_| marks.len() == LOOK_AT);
        rest = last.map(|last| rest_of(range, order, last.recent.id));
        let visible = marks.iter().filter(|mark| !mark.hidden_for.contains(&viewer));
        picked.extend(visible.take(limit - picked.len()).map(|mark| mark.recent.id));
    }
    Ok(picked)
}

/// Says of the viewer's own messages whether they are read.
async fn see(
    inner: &Inner,
    conversation_id: ConversationId,
    viewer: UserId,
    messages: Vec<StoredMessage>,
) -> Result<Vec<SeenMessage>, StoreError> {
    let own: Vec<_> = messages.iter().map(|stored| &stored.new).filter(|new| new.message.from == viewer).collect();
    let read = read_marks::read_by_others(inner, conversation_id, &own).await?;
    let seen = messages.into_iter().map(|StoredMessage { new, .. }| {
        let is_read = read.contains(&new.message.id);
        SeenMessage { message: new.message, is_read }
    });
    Ok(seen.collect())
}
