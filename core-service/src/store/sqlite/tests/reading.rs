//! Reading: what is slow keeps nobody else waiting, and no read is long.

use std::sync::mpsc;
use std::time::Duration;

use proto::ids::{MessageId, UserId};
use tempfile::TempDir;

use super::super::{SqliteStore, open as opening, views};
use super::{AUTHOR, CONVERSATION, append, message_id, messages, open};
use crate::domain::message::IdRange;
use crate::domain::read_ranges::{ReadRange, ReadRanges, ReadRangesChange};
use crate::store::{AccountStore, MAX_UNREAD_LOOKED_AT, MessageStore, MessagesQuery, Order, PreviewOf};

const VIEWER: UserId = UserId::from_bytes([5; 12]);

/// Appends messages of these numbers without events, `hidden` from the viewer or not.
async fn append_many(store: &SqliteStore, numbers: std::ops::RangeInclusive<i64>, from: UserId, hidden: bool) {
    let work = move |connection: &rusqlite::Connection| {
        let mut insert = connection.prepare(
            "INSERT INTO messages (conversation_id, id, from_user_id, attempt_connection_id, attempt_frame, body)
             VALUES (?1, ?2, ?3, x'03', 1, 'hi')",
        )?;
        let mut hide = connection.prepare("INSERT INTO hidden VALUES (?1, ?2, ?3)")?;
        for number in numbers {
            let id = message_id(number);
            insert.execute([CONVERSATION.as_bytes(), id.as_bytes(), from.as_bytes()])?;
            if hidden {
                hide.execute([VIEWER.as_bytes(), CONVERSATION.as_bytes(), id.as_bytes()])?;
            }
        }
        Ok(())
    };
    store.write("append many", work).await.unwrap();
}

fn seen_by(viewer: UserId, order: Order, limit: usize) -> MessagesQuery {
    MessagesQuery { conversation_id: CONVERSATION, viewer, range: IdRange::ALL, order, limit }
}

async fn listed(store: &SqliteStore, query: MessagesQuery) -> Vec<MessageId> {
    let seen = store.list_messages(&query).await.unwrap();
    seen.into_iter().map(|seen| seen.message.id).collect()
}

#[tokio::test]
async fn slow_lists_keep_no_lookup_and_no_event_waiting() {
    let directory = TempDir::new().unwrap();
    let store = open(&directory);
    append(&store, 1, 1).await.unwrap();
    let mut slow = tokio::task::JoinSet::new();
    let mut releases = Vec::new();
    // Twice as many as there are connections; those that got one have begun.
    for number in 0..2 * opening::LIST_READERS {
        let (release, released) = mpsc::channel::<()>();
        let (begun, beginning) = tokio::sync::oneshot::channel();
        let lists = store.lists.clone();
        slow.spawn(async move {
            let work = move |_: &rusqlite::Connection| {
                let _ = begun.send(());
                let _: Result<(), _> = released.recv();
                Ok(())
            };
            lists.read("list slowly", work).await
        });
        if number < opening::LIST_READERS {
            beginning.await.unwrap();
        }
        releases.push(release);
    }

    let others = async {
        assert_eq!(store.lookup_user(AUTHOR).await.unwrap(), None);
        assert_eq!(store.newest_message_id(CONVERSATION).await.unwrap(), Some(message_id(1)));
        assert_eq!(store.journal().read_above(0, 10).await.unwrap().len(), 1);
    };
    tokio::time::timeout(Duration::from_secs(30), others).await.expect("nothing waits for the lists");
    drop(releases);
    assert!(slow.join_all().await.into_iter().all(|read| read.is_ok()));
    assert_eq!(messages(&store).await, [message_id(1)]);
}

#[tokio::test]
async fn visible_messages_are_found_behind_any_number_of_hidden_ones() {
    let directory = TempDir::new().unwrap();
    let store = open(&directory);
    append_many(&store, 1..=2, AUTHOR, false).await;
    append_many(&store, 3..=12_000, AUTHOR, true).await;
    append_many(&store, 12_001..=12_002, AUTHOR, false).await;
    let all = [1, 2, 12_001, 12_002].map(message_id);
    let reversed: Vec<_> = all.into_iter().rev().collect();
    assert_eq!(listed(&store, seen_by(VIEWER, Order::OldestFirst, 10)).await, all);
    assert_eq!(listed(&store, seen_by(VIEWER, Order::OldestFirst, 3)).await, all[..3]);
    assert_eq!(listed(&store, seen_by(VIEWER, Order::NewestFirst, 10)).await, reversed);
    assert_eq!(listed(&store, seen_by(VIEWER, Order::NewestFirst, 3)).await, reversed[..3]);
    assert_eq!(listed(&store, seen_by(AUTHOR, Order::NewestFirst, usize::MAX)).await.len(), 12_002);

    // One read stops after so many, found or not.
    let query = MessagesQuery {
        range: IdRange { from: message_id(1), until: message_id(12_001) },
        ..seen_by(VIEWER, Order::NewestFirst, 10)
    };
    let part = store.lists.read("list a part", move |connection| views::list(connection, query)).await;
    let (seen, rest) = part.unwrap();
    assert!(seen.is_empty());
    let next = message_id(12_001 - i64::try_from(views::PART).unwrap());
    assert_eq!(rest, Some(IdRange { from: message_id(1), until: next }));
}

#[tokio::test]
async fn a_preview_shows_the_message_behind_any_number_of_hidden_ones() {
    let directory = TempDir::new().unwrap();
    let store = open(&directory);
    append_many(&store, 1..=1, AUTHOR, false).await;
    append_many(&store, 2..=12_000, AUTHOR, true).await;
    let of = PreviewOf { conversation_id: CONVERSATION, unread_from: Some(IdRange::ALL.from) };
    let preview = store.list_previews(VIEWER, &[of]).await.unwrap().remove(0);
    assert_eq!(preview.last_message.unwrap().message.id, message_id(1));
}

#[tokio::test]
async fn unread_messages_are_counted_as_far_as_the_newest_ones_reach() {
    let directory = TempDir::new().unwrap();
    let store = open(&directory);
    let looked_at = i64::try_from(MAX_UNREAD_LOOKED_AT).unwrap();
    append_many(&store, 1..=2, AUTHOR, false).await;
    append_many(&store, 3..=looked_at + 1, VIEWER, false).await;
    let of = PreviewOf { conversation_id: CONVERSATION, unread_from: Some(IdRange::ALL.from) };
    // Of the two messages at the beginning the second is the last one looked at.
    assert_eq!(store.list_previews(VIEWER, &[of]).await.unwrap()[0].unread_count, 1);
    let ranges = ReadRanges::new(vec![ReadRange { from: message_id(100), to: message_id(100) }]);
    // What is read is not looked at.
    let unread = store.count_unread(CONVERSATION, VIEWER, IdRange::ALL.from, &ranges).await.unwrap();
    assert_eq!(unread, 2);
}

#[tokio::test]
async fn unread_messages_are_counted_between_any_number_of_ranges() {
    let directory = TempDir::new().unwrap();
    let store = open(&directory);
    let of = PreviewOf { conversation_id: CONVERSATION, unread_from: Some(IdRange::ALL.from) };
    let unread = async || store.list_previews(VIEWER, &[of]).await.unwrap()[0].unread_count;
    append_many(&store, 1..=1, AUTHOR, false).await;
    let ranges = MAX_UNREAD_LOOKED_AT + 10;
    let apart = std::iter::successors(Some(message_id(10)), |id| Some(id.successor().successor()));
    read_each(&store, apart.take(ranges)).await;
    assert_eq!(unread().await, 0, "the empty gaps between the ranges have been looked at, and no more");
    append_many(&store, 20..=22, AUTHOR, false).await;
    assert_eq!(unread().await, 3);
}

#[tokio::test]
async fn no_message_below_the_newest_ranges_is_taken_for_unread() {
    let directory = TempDir::new().unwrap();
    let store = open(&directory);
    append_many(&store, 1..=1, AUTHOR, false).await;
    // No gap between any two, and the message lies in the oldest.
    let touching = std::iter::successors(Some(message_id(1)), |id| Some(id.successor()));
    read_each(&store, touching.take(MAX_UNREAD_LOOKED_AT + 10)).await;
    let of = PreviewOf { conversation_id: CONVERSATION, unread_from: Some(IdRange::ALL.from) };
    assert_eq!(store.list_previews(VIEWER, &[of]).await.unwrap()[0].unread_count, 0);
}

/// Marks these messages as read by the viewer, each in a range of its own.
async fn read_each(store: &SqliteStore, ids: impl Iterator<Item = MessageId>) {
    let added = ids.map(|id| ReadRange { from: id, to: id }).collect();
    let change = ReadRangesChange { removed: Vec::new(), added };
    store.change_read_ranges(CONVERSATION, VIEWER, &change, None).await.unwrap();
}
