//! The journal: what its readers see, and how it stays small.

use futures_util::future::join_all;
use tempfile::TempDir;

use super::super::journal::{End, JournalError, Retention};
use super::super::{SqliteStore, open as opening};
use super::{append, open};
use crate::store::contract::at;

const DAY: i64 = 86_400_000;

fn open_with(directory: &TempDir, retention: Retention) -> SqliteStore {
    SqliteStore::open_with(directory.path(), at(0), opening::SCHEMA, retention).unwrap()
}

async fn positions(store: &SqliteStore, above: u64, limit: usize) -> Result<Vec<u64>, JournalError> {
    let events = store.journal().read_above(above, limit).await?;
    Ok(events.into_iter().map(|(position, _)| position).collect())
}

/// The lowest position that is kept.
async fn oldest(store: &SqliteStore) -> u64 {
    let query = "SELECT min(position) FROM journal";
    let work =
        move |connection: &rusqlite::Connection| Ok(connection.query_row(query, [], |row| row.get::<_, i64>(0))?);
    store.lookups.read("look", work).await.unwrap().cast_unsigned()
}

/// How many bytes each event has that these tests append. This one is the first.
async fn envelope_length(store: &SqliteStore) -> i64 {
    append(store, 1, 1).await.unwrap();
    let events = store.journal().read_above(0, 1).await.unwrap();
    i64::try_from(events[0].1.len()).unwrap()
}

#[tokio::test]
async fn events_are_read_from_any_position_on() {
    let directory = TempDir::new().unwrap();
    let store = open(&directory);
    assert!(positions(&store, 0, 10).await.unwrap().is_empty());
    for number in 1..=5 {
        append(&store, number, 1).await.unwrap();
    }
    assert_eq!(positions(&store, 0, 2).await.unwrap(), [1, 2]);
    assert_eq!(positions(&store, 2, 10).await.unwrap(), [3, 4, 5]);
    assert!(positions(&store, 5, 10).await.unwrap().is_empty());
    for never_reached in [6, u64::MAX] {
        let lost = positions(&store, never_reached, 10).await;
        assert!(matches!(lost, Err(JournalError::HistoryLost { .. })), "{lost:?}");
    }
}

#[tokio::test]
async fn who_follows_closely_reads_no_table_and_sees_the_same_as_it_holds() {
    let directory = TempDir::new().unwrap();
    let store = open(&directory);
    for number in 1..=5 {
        append(&store, number, 1).await.unwrap();
    }
    let followed = store.journal().read_above(0, 10).await.unwrap();
    store.close().await;
    let store = open(&directory);
    let journal = store.journal();
    assert_eq!(journal.read_above(0, 10).await.unwrap(), followed, "the events as they are in the table");

    for number in 6..=8 {
        append(&store, number, 1).await.unwrap();
    }
    let spoil = |connection: &rusqlite::Connection| Ok(connection.execute("UPDATE journal SET envelope = x'00'", [])?);
    store.write("spoil the table", spoil).await.unwrap();
    let is_spoiled = async |above: u64| {
        let events = journal.read_above(above, 2).await.unwrap();
        let expected: Vec<_> = (above + 1..=8).take(2).collect();
        assert_eq!(events.iter().map(|(position, _)| *position).collect::<Vec<_>>(), expected);
        events.iter().any(|(_, envelope)| envelope[..] == [0])
    };
    assert!(is_spoiled(4).await, "what was committed before the start is read from the table");
    for above in 5..=8 {
        assert!(!is_spoiled(above).await);
    }
}

#[tokio::test]
async fn large_events_stay_in_the_table_alone_and_none_is_missed() {
    let directory = TempDir::new().unwrap();
    let store = open(&directory);
    let append = "INSERT INTO journal (created_at, end_offset, envelope)
        SELECT 0, coalesce(max(end_offset), 0) + ?1, zeroblob(?1) FROM journal";
    for (position, bytes) in (1..).zip([10, 600_000, 600_000, 1_100_000, 10]) {
        let work = move |connection: &rusqlite::Connection| Ok(connection.execute(append, [bytes])?);
        store.write("append an event", work).await.unwrap();
        assert_eq!(positions(&store, position - 1, 10).await.unwrap(), [position]);
        assert_eq!(positions(&store, 0, 10).await.unwrap(), (1..=position).collect::<Vec<_>>());
    }
}

#[tokio::test]
async fn the_newest_position_is_told_before_the_call_returns() {
    let directory = TempDir::new().unwrap();
    let store = open(&directory);
    let mut subscription = store.journal().subscribe();
    assert_eq!(*subscription.borrow_and_update(), 0);
    for number in 1..=20 {
        append(&store, number, 1).await.unwrap();
        assert!(subscription.has_changed().unwrap());
        assert_eq!(*subscription.borrow_and_update(), number.cast_unsigned());
        assert_eq!(store.journal().newest(), number.cast_unsigned());
    }
    store.write("write nothing", |_| Ok(())).await.unwrap();
    assert!(!subscription.has_changed().unwrap(), "nothing new, so nobody is woken");
}

#[tokio::test]
async fn events_a_day_older_than_the_newest_go() {
    let directory = TempDir::new().unwrap();
    let store = open_with(&directory, Retention { every: 10, ..Retention::DEFAULT });
    for number in 1..=9 {
        append(&store, number, 1).await.unwrap();
    }
    append(&store, DAY + 4, 1).await.unwrap();
    // Ten events have come, so this write trims too; the fourth is a day old exactly and stays.
    append(&store, DAY + 4, 1).await.unwrap();
    assert_eq!(oldest(&store).await, 4);
    let lost = positions(&store, 2, 10).await;
    assert!(matches!(lost, Err(JournalError::HistoryLost { position: 2 })), "{lost:?}");
    assert_eq!(positions(&store, 3, 100).await.unwrap(), (4..=11).collect::<Vec<_>>());
}

#[tokio::test]
async fn events_beyond_the_size_go_and_the_newest_stays() {
    let directory = TempDir::new().unwrap();
    let store = open(&directory);
    let length = envelope_length(&store).await;
    store.close().await;

    // All events are of one length, and each write trims what came before it.
    for (bytes, last, kept) in [(3 * length, 30, 3), (2 * length + 1, 35, 3), (2 * length, 40, 2), (1, 50, 1)] {
        let store = open_with(&directory, Retention { bytes, every: 1, ..Retention::DEFAULT });
        for number in store.journal().newest() + 1..=last {
            append(&store, number.cast_signed(), 1).await.unwrap();
        }
        assert_eq!(oldest(&store).await, last - kept + 1);
        store.close().await;
    }

    let store = open(&directory);
    assert_eq!(store.journal().newest(), 50);
    append(&store, 51, 1).await.unwrap();
    assert_eq!(positions(&store, 49, 10).await.unwrap(), [50, 51], "positions go on");
}

#[tokio::test]
async fn trimming_goes_in_steps_and_catches_up() {
    let directory = TempDir::new().unwrap();
    let retention = Retention { step: 30, every: 10, ..Retention::DEFAULT };
    let store = open_with(&directory, retention);
    let written: Vec<_> = (1..=100).map(|number| append(&store, number, 1)).collect();
    assert!(join_all(written).await.into_iter().all(|written| written.is_ok()));
    assert_eq!(oldest(&store).await, 1);
    append(&store, 2 * DAY, 1).await.unwrap();

    let mut seen = vec![1];
    for number in 1..=100 {
        append(&store, 2 * DAY + number, 1).await.unwrap();
        let oldest = oldest(&store).await;
        if seen.last() != Some(&oldest) {
            seen.push(oldest);
        }
    }
    assert_eq!(seen, [1, 31, 61, 91, 101]);
}

#[tokio::test]
async fn a_step_goes_on_many_bytes_and_stops_at_about_as_many() {
    let directory = TempDir::new().unwrap();
    let store = open(&directory);
    let length = envelope_length(&store).await;
    store.close().await;
    // Steps of ten envelopes; by count alone none would be due, and each would take everything.
    let retention = Retention { step_bytes: 10 * length, ..Retention::DEFAULT };
    let store = open_with(&directory, retention);
    for number in 2..=40 {
        append(&store, number, 1).await.unwrap();
    }
    assert_eq!(oldest(&store).await, 1);
    append(&store, 2 * DAY, 1).await.unwrap();

    let mut seen = vec![1];
    for number in 1..=30 {
        append(&store, 2 * DAY + number, 1).await.unwrap();
        let oldest = oldest(&store).await;
        if seen.last() != Some(&oldest) {
            seen.push(oldest);
        }
    }
    // The oldest and ten more.
    assert_eq!(seen, [1, 12, 23, 34, 41]);
}

#[test]
fn as_much_is_trimmed_as_comes() {
    let retention = Retention { step_bytes: 100, every: 10, ..Retention::DEFAULT };
    let trimmed_at = End { position: 1_000, offset: 1_000 };
    let due =
        |events: u64, bytes: i64| retention.due(trimmed_at, End { position: 1_000 + events, offset: 1_000 + bytes });
    assert_eq!(due(9, 49), None);
    assert_eq!(due(10, 10), Some(100));
    assert_eq!(due(1, 50), Some(100));
    assert_eq!(due(9, 5_000), Some(10_000), "one commit may bring any number of bytes");
}
