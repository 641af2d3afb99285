//! The thread that writes: what fails alone, what fails together, and what goes on.

use std::sync::{Arc, mpsc};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::join_all;
use tempfile::TempDir;

use super::super::SqliteStore;
use super::{append, is_unavailable, message_id, messages, open};
use crate::domain::event::{Event, Subject};
use crate::store::contract::{UnderTest, at};
use crate::store::{ConversationChange, ConversationStore, MessageStore, REPEATED_MS, StoreError};

/// Keeps the thread busy until the sender is dropped, so that what comes after is done in one transaction.
fn hold(store: &SqliteStore) -> mpsc::Sender<()> {
    let (release, released) = mpsc::channel();
    let (begun, beginning) = mpsc::channel();
    drop(store.write("hold the thread", move |_| {
        begun.send(()).unwrap();
        let _: Result<(), _> = released.recv();
        Ok(())
    }));
    beginning.recv().unwrap();
    release
}

/// How much of the database's file may be used, in pages above the used ones; `None` for all of the disk.
async fn set_room(store: &SqliteStore, pages: Option<i64>) {
    let work = move |connection: &rusqlite::Connection| {
        let used: i64 = connection.query_row("PRAGMA page_count", [], |row| row.get(0))?;
        let most = pages.map_or(i64::from(u32::MAX) - 1, |pages| used + pages);
        Ok(connection.query_row(&format!("PRAGMA max_page_count = {most}"), [], |_| Ok(()))?)
    };
    store.write("set the size of the disk", work).await.unwrap();
}

/// What should come, does; a test fails rather than waits for ever.
async fn within_time<T>(expected: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(30), expected).await.expect("it should have come")
}

#[tokio::test]
async fn a_write_that_fails_takes_back_only_itself() {
    let directory = TempDir::new().unwrap();
    let store = open(&directory);
    let release = hold(&store);
    let first = append(&store, 1, 10);
    let failing = store.write("write and fail", |connection| {
        connection.execute("DELETE FROM messages", [])?;
        connection.execute("INSERT INTO messages (id) VALUES (1)", [])?;
        Ok(())
    });
    let last = append(&store, 2, 10);
    drop(release);

    let failed = failing.await;
    assert!(is_unavailable(&failed), "{failed:?}");
    assert_eq!(failed.unwrap_err().to_string(), "failed to write and fail");
    first.await.unwrap();
    last.await.unwrap();
    assert_eq!(messages(&store).await, [message_id(1), message_id(2)]);
    assert_eq!(store.journal().newest(), 2);
    assert!(store.failed().now_or_never().is_none());
}

#[tokio::test]
async fn a_full_disk_refuses_writes_and_still_reads() {
    let directory = TempDir::new().unwrap();
    let store = open(&directory);
    append(&store, 0, 10).await.unwrap();
    set_room(&store, Some(20)).await;

    let release = hold(&store);
    let written: Vec<_> = (1..=30).map(|number| append(&store, number, 8_000)).collect();
    drop(release);
    let mut kept = vec![message_id(0)];
    for (number, written) in (1..).zip(join_all(written).await) {
        match written {
            Ok(()) => kept.push(message_id(number)),
            Err(error) => assert!(matches!(error, StoreError::Unavailable { .. }), "{error}"),
        }
    }
    assert!(kept.len() < 31, "the disk was not full");
    assert_eq!(messages(&store).await, kept, "exactly what was acknowledged is there");
    assert_eq!(store.journal().newest(), u64::try_from(kept.len()).unwrap());
    assert!(is_unavailable(&append(&store, 40, 100_000).await));
    assert!(store.failed().now_or_never().is_none(), "the process goes on");

    set_room(&store, None).await;
    append(&store, 41, 100_000).await.unwrap();
    assert_eq!(store.newest_message_id(super::CONVERSATION).await.unwrap(), Some(message_id(41)));
    let positions: Vec<_> = store.journal().read_above(0, 100).await.unwrap().into_iter().map(|(at, _)| at).collect();
    assert_eq!(positions, (1..=store.journal().newest()).collect::<Vec<_>>(), "no hole where writes failed");
}

#[tokio::test]
async fn a_commit_that_fails_fails_all_and_ends_writing() {
    let directory = TempDir::new().unwrap();
    let store = open(&directory);
    append(&store, 1, 10).await.unwrap();
    let release = hold(&store);
    let before = append(&store, 2, 10);
    // The reference is checked at the commit, long after the command itself succeeded.
    let breaking = store.write("break the commit", |connection| {
        Ok(connection.execute_batch(
            "CREATE TABLE parents (id INTEGER PRIMARY KEY);
             CREATE TABLE children (parent INTEGER REFERENCES parents (id) DEFERRABLE INITIALLY DEFERRED);
             INSERT INTO children VALUES (1);",
        )?)
    });
    let after = append(&store, 3, 10);
    drop(release);

    for written in [before.await, breaking.await, after.await] {
        assert!(is_unavailable(&written), "{written:?}");
    }
    within_time(store.failed()).await;
    assert!(is_unavailable(&append(&store, 4, 10).await), "no more is written");
    assert_eq!(messages(&store).await, [message_id(1)]);
    assert_eq!(store.journal().newest(), 1, "nobody is told of what did not happen");
    store.close().await;

    let store = open(&directory);
    assert_eq!(messages(&store).await, [message_id(1)]);
}

#[tokio::test]
async fn a_full_queue_refuses_and_what_is_in_it_is_written() {
    let directory = TempDir::new().unwrap();
    let store = open(&directory);
    let release = hold(&store);
    let queued: Vec<_> = (1..=8_192).map(|number| append(&store, number, 1)).collect();
    let refused = append(&store, 9_000, 1).await;
    assert!(matches!(refused, Err(StoreError::Overloaded)), "{refused:?}");
    drop(release);
    assert!(join_all(queued).await.into_iter().all(|written| written.is_ok()));
    append(&store, 9_001, 1).await.unwrap();
    assert_eq!(messages(&store).await.len(), 8_193);
}

#[tokio::test]
async fn closing_finishes_what_waits_and_takes_no_more() {
    let directory = TempDir::new().unwrap();
    let store = open(&directory);
    let release = hold(&store);
    let queued: Vec<_> = (1..=1_000).map(|number| append(&store, number, 1)).collect();
    drop(release);
    store.close().await;
    assert!(join_all(queued).await.into_iter().all(|written| written.is_ok()));
    assert!(is_unavailable(&append(&store, 1_001, 1).await));
    assert!(store.failed().now_or_never().is_none(), "an orderly end is no failure");
    store.close().await;

    let log = std::fs::metadata(directory.path().join("sama.db-wal"));
    assert!(log.is_err() || log.unwrap().len() == 0, "the log was moved into the database");
    assert_eq!(messages(&open(&directory)).await.len(), 1_000);
}

#[tokio::test]
async fn a_panic_in_a_write_is_a_failure_of_the_store() {
    let directory = TempDir::new().unwrap();
    let store = open(&directory);
    let panicking = store.write("panic", |_| -> Result<(), _> { panic!("as a test") });
    assert!(is_unavailable(&panicking.await));
    within_time(store.failed()).await;
    assert!(is_unavailable(&append(&store, 1, 1).await));
}

#[tokio::test]
async fn a_read_sees_one_state_however_long_it_takes() {
    let directory = TempDir::new().unwrap();
    let store = open(&directory);
    append(&store, 1, 10).await.unwrap();
    let (begun, beginning) = tokio::sync::oneshot::channel();
    let (resume, resumed) = mpsc::channel::<()>();
    let reading = store.lookups.read("count twice", move |connection| {
        let count = || connection.query_row("SELECT count(*) FROM messages", [], |row| row.get::<_, i64>(0));
        let before = count()?;
        begun.send(()).unwrap();
        resumed.recv().unwrap();
        Ok((before, count()?))
    });
    let writing = async {
        beginning.await.unwrap();
        append(&store, 2, 10).await.unwrap();
        resume.send(()).unwrap();
    };
    let (counts, ()) = tokio::join!(reading, writing);
    assert_eq!(counts.unwrap(), (1, 1));
}

#[tokio::test]
async fn a_row_that_does_not_decode_is_named() {
    let directory = TempDir::new().unwrap();
    let store = open(&directory);
    append(&store, 1, 10).await.unwrap();
    let spoil =
        |connection: &rusqlite::Connection| Ok(connection.execute("UPDATE messages SET attachments_json = '[{'", [])?);
    store.write("spoil", spoil).await.unwrap();
    let error = store.lookup_messages(super::CONVERSATION, super::AUTHOR, &[message_id(1)]).await.unwrap_err();
    let expected = format!("column attachments_json of table messages, row {}, does not decode", message_id(1));
    assert_eq!(error.to_string(), expected);

    let shorten = |connection: &rusqlite::Connection| Ok(connection.execute("UPDATE messages SET id = x'01'", [])?);
    store.write("shorten", shorten).await.unwrap();
    let error = store.newest_message_id(super::CONVERSATION).await.unwrap_err();
    assert_eq!(error.to_string(), "column id of table messages, row 01, does not decode");
}

/// Two go for each that comes.
#[tokio::test]
async fn changes_are_forgotten_by_those_that_come_later() {
    let directory = TempDir::new().unwrap();
    let store = Arc::new(open(&directory));
    let test = UnderTest::new(Arc::clone(&store) as _, Box::new(store.journal()), Box::new(()));
    let ann = test.users::<1>()[0];
    let group = test.add_group(at(0), &[ann]).await;
    let change_at = async |millis: i64| {
        let before = store.lookup_conversation(group).await.unwrap().unwrap();
        let change = ConversationChange {
            conversation: before.conversation,
            expected_version: before.version,
            added: Vec::new(),
            removed: Vec::new(),
            roles: Vec::new(),
            messages: Vec::new(),
            attempt: test.attempt(),
        };
        let event = Event { id: test.id(at(millis)), ..test.event(Subject::Conversation(group)) };
        assert!(store.change_conversation(change.clone(), event).await.unwrap());
        change.attempt
    };
    let first = change_at(0).await;
    for millis in 0..5 {
        change_at(REPEATED_MS - 5 + millis).await;
    }
    assert!(store.lookup_change(group, first).await.unwrap().is_some());
    change_at(REPEATED_MS + 1).await;
    assert_eq!(store.lookup_change(group, first).await.unwrap(), None);
}
