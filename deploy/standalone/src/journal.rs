//! The store's journal as the gateway's source of events.
//!
//! Core writes events into the journal and the gateway reads them out of it; this is the one place that knows both.
//! In: committed events, numbered from 1 without a hole, and notices. Out: what [`EventSource`] promises. A position
//! here is the journal's.

use std::collections::VecDeque;

use bytes::Bytes;
use core_service::store::sqlite::{Journal, JournalError};
use futures_util::future::BoxFuture;
use futures_util::stream::{self, BoxStream};
use gateway::events::{EventSource, EventSourceError, Position};
use prost::Message;
use proto::v1::{Event, Notice};
use tokio::sync::{broadcast, watch};

/// Events read at once. The largest take half a megabyte each, so a batch stays small beside what sockets may queue.
const BATCH: usize = 64;

/// Events out of a journal, notices out of a channel.
pub struct JournalEvents {
    journal: Journal,
    notices: broadcast::Sender<Notice>,
}

impl JournalEvents {
    /// Gives the events of this journal and the notices sent here.
    pub fn new(journal: Journal, notices: broadcast::Sender<Notice>) -> Self {
        Self { journal, notices }
    }
}

impl EventSource for JournalEvents {
    fn newest(&self) -> BoxFuture<'_, Result<Position, EventSourceError>> {
        Box::pin(async { Ok(Position::new(self.journal.newest())) })
    }

    fn events_above(&self, position: Position) -> BoxStream<'static, Result<(Position, Event), EventSourceError>> {
        let reader = Reader {
            journal: self.journal.clone(),
            committed: self.journal.subscribe(),
            position: position.number(),
            batch: VecDeque::new(),
        };
        Box::pin(stream::try_unfold(reader, async |mut reader| Ok(Some((reader.next().await?, reader)))))
    }

    fn notices(&self) -> BoxStream<'static, Notice> {
        Box::pin(stream::unfold(self.notices.subscribe(), async |mut notices| {
            loop {
                match notices.recv().await {
                    Ok(notice) => return Some((notice, notices)),
                    // Too slow: what was missed is gone, as notices may be.
                    Err(broadcast::error::RecvError::Lagged(_)) => {}
                    Err(broadcast::error::RecvError::Closed) => return None,
                }
            }
        }))
    }
}

/// One reader's place in the journal.
struct Reader {
    journal: Journal,
    committed: watch::Receiver<u64>,
    /// The newest event given out.
    position: u64,
    /// Read and not yet given out.
    batch: VecDeque<(u64, Bytes)>,
}

impl Reader {
    /// The next event, as soon as it is committed.
    async fn next(&mut self) -> Result<(Position, Event), EventSourceError> {
        while self.batch.is_empty() {
            // Before the read, so that a commit during it wakes the wait below.
            self.committed.mark_unchanged();
            self.batch = self.journal.read_above(self.position, BATCH).await.map_err(source_error)?.into();
            if self.batch.is_empty() {
                self.committed.changed().await.map_err(failed)?;
            }
        }
        let (position, envelope) = self.batch.pop_front().expect("filled above");
        let event = Event::decode(envelope).map_err(|error| {
            // Reading it again would not help.
            tracing::error!(position, error = &error as &dyn std::error::Error, "an event in the journal is damaged");
            EventSourceError::HistoryLost
        })?;
        self.position = position;
        Ok((Position::new(position), event))
    }
}

fn source_error(error: JournalError) -> EventSourceError {
    match error {
        JournalError::HistoryLost { .. } => EventSourceError::HistoryLost,
        JournalError::Store(error) => failed(error),
    }
}

fn failed(error: impl std::error::Error + Send + Sync + 'static) -> EventSourceError {
    EventSourceError::Failed(Box::new(error))
}

#[cfg(test)]
mod tests {
    use core_service::domain::clock::Stamps;
    use core_service::domain::event::{Event as DomainEvent, Subject};
    use core_service::domain::session::Attempt;
    use core_service::store::SessionStore;
    use core_service::store::sqlite::SqliteStore;
    use futures_util::{FutureExt, StreamExt};
    use proto::ids::{ConnectionId, UserId};

    use super::*;

    struct Fixture {
        store: SqliteStore,
        stamps: Stamps,
        notices: broadcast::Sender<Notice>,
        events: JournalEvents,
        _directory: tempfile::TempDir,
    }

    impl Fixture {
        fn new() -> Self {
            let directory = tempfile::tempdir().unwrap();
            let stamps = Stamps::of_this_process();
            let store = SqliteStore::open(directory.path(), stamps.now()).unwrap();
            let (notices, _) = broadcast::channel(2);
            let events = JournalEvents::new(store.journal(), notices.clone());
            Self { store, stamps, notices, events, _directory: directory }
        }

        /// Commits an event and returns its id as gateways see it.
        async fn commit(&self) -> Bytes {
            let event = DomainEvent {
                id: self.stamps.new_id().into(),
                subject: Subject::User(UserId::from_bytes([1; 12])),
                attempt: Attempt { connection_id: ConnectionId::from_bytes([2; 12]), frame: 3 },
                steps: Vec::new(),
            };
            let id = event.id.to_field();
            self.store.revoke_sessions(&[], event).await.unwrap();
            id
        }
    }

    #[tokio::test]
    async fn events_come_in_order_from_above_the_position_and_go_on_as_they_are_committed() {
        let fixture = Fixture::new();
        assert_eq!(fixture.events.newest().await.unwrap(), Position::default());
        fixture.commit().await;
        let start = fixture.events.newest().await.unwrap();
        assert_eq!(start, Position::new(1));

        let mut above = fixture.events.events_above(start);
        assert!(above.next().now_or_never().is_none(), "nothing is above the newest position yet");
        // More than one batch, so that the reader has to come back for the rest.
        for number in 2..=2 + 2 * BATCH as u64 {
            let id = fixture.commit().await;
            let (position, event) = above.next().await.unwrap().unwrap();
            assert_eq!((position, event.id), (Position::new(number), id));
        }
        let again: Vec<_> = fixture.events.events_above(start).take(2 * BATCH + 1).collect().await;
        let positions: Vec<_> = again.into_iter().map(|event| event.unwrap().0.number()).collect();
        assert_eq!(positions, (2..=2 + 2 * BATCH as u64).collect::<Vec<_>>());
    }

    #[tokio::test]
    async fn a_position_the_journal_never_reached_is_history_lost() {
        let fixture = Fixture::new();
        fixture.commit().await;
        let mut above = fixture.events.events_above(Position::new(2));
        assert!(matches!(above.next().await, Some(Err(EventSourceError::HistoryLost))));
        assert!(above.next().await.is_none(), "the stream went on after an error");
    }

    #[tokio::test]
    async fn the_stream_ends_with_an_error_when_the_store_is_closed() {
        let fixture = Fixture::new();
        let mut above = fixture.events.events_above(Position::default());
        fixture.store.close().await;
        drop(fixture.store);
        assert!(matches!(above.next().await, Some(Err(EventSourceError::Failed(_)))));
    }

    #[tokio::test]
    async fn a_slow_reader_of_notices_misses_some_and_goes_on() {
        let fixture = Fixture::new();
        let mut notices = fixture.events.notices();
        for recipients in 1..=3 {
            let notice = Notice { recipient_ids: vec![Bytes::new(); recipients], fact: None };
            fixture.notices.send(notice).unwrap();
        }
        assert_eq!(notices.next().await.unwrap().recipient_ids.len(), 2);
        assert_eq!(notices.next().await.unwrap().recipient_ids.len(), 3);
    }
}
