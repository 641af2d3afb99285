//! The events, in the database that holds what they tell: appended in the transaction of their data, read in order.

use bytes::Bytes;
use rusqlite::{Connection, params};
use tokio::sync::watch;

use super::readers::Readers;
use super::row::{StatementError, Table, sql_limit};
use crate::domain::event::Event;
use crate::publish::envelope;
use crate::store::StoreError;

const JOURNAL: Table = Table { name: "journal", key: "position" };

const APPEND: &str = "
    INSERT INTO journal (created_at, end_offset, envelope)
    VALUES (?1, length(?2) + coalesce((SELECT end_offset FROM journal ORDER BY position DESC LIMIT 1), 0), ?2)";
const NEWEST: &str = "SELECT position FROM journal ORDER BY position DESC LIMIT 1";
pub(super) const READ_ABOVE: &str =
    "SELECT position, envelope FROM journal WHERE position > ?1 ORDER BY position LIMIT ?2";
/// Only from the oldest end, so that no hole comes into being, and never the newest event.
const TRIM: &str = "
    WITH newest AS (SELECT created_at, end_offset FROM journal ORDER BY position DESC LIMIT 1),
         oldest AS (SELECT position, created_at, end_offset FROM journal ORDER BY position LIMIT ?3)
    DELETE FROM journal WHERE position <= (
        SELECT max(oldest.position) FROM oldest, newest
        WHERE oldest.created_at < newest.created_at - ?1 OR oldest.end_offset <= newest.end_offset - ?2)";

/// How much of the journal is kept, and how it is trimmed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Retention {
    /// Events this much older than the newest one go.
    pub(super) age_millis: i64,
    /// An event goes when so many bytes of envelopes follow it.
    pub(super) bytes: i64,
    /// At most so many rows go at once.
    pub(super) step: u64,
    /// One step follows on so many new events: fewer than go in a step, so that trimming catches up.
    pub(super) every: u64,
}

impl Retention {
    /// A day, and 1 GiB.
    pub(super) const DEFAULT: Self = Self { age_millis: 86_400_000, bytes: 1 << 30, step: 1_000, every: 500 };
}

/// An event in the form in which it is kept.
pub(super) struct Entry {
    created_at: i64,
    envelope: Vec<u8>,
}

impl Entry {
    /// Encodes the event.
    pub(super) fn new(event: Event) -> Self {
        Self { created_at: event.id.timestamp().millis(), envelope: envelope::encode_event(event) }
    }

    /// Appends it, inside the transaction of the data that it tells about.
    pub(super) fn append(&self, connection: &Connection) -> Result<(), StatementError> {
        connection.prepare_cached(APPEND)?.execute(params![self.created_at, self.envelope])?;
        Ok(())
    }
}

/// The position of the newest event, 0 before the first.
pub(super) fn newest_position(connection: &Connection) -> Result<u64, StatementError> {
    let newest = JOURNAL.lookup(connection, NEWEST, [], |columns| columns.number("position"))?;
    Ok(newest.unwrap_or(0))
}

/// Deletes a step's worth of the oldest events, as far as they are past the retention.
pub(super) fn trim(connection: &Connection, retention: Retention) -> Result<(), StatementError> {
    let Retention { age_millis, bytes, step, every: _ } = retention;
    connection.prepare_cached(TRIM)?.execute(params![age_millis, bytes, step.cast_signed()])?;
    Ok(())
}

/// The committed events, each at its position: 1, 2, 3 and so on.
#[derive(Clone)]
pub struct Journal {
    readers: Readers,
    newest: watch::Receiver<u64>,
}

/// Why events could not be read.
#[derive(Clone, Debug, thiserror::Error)]
pub enum JournalError {
    /// The next event was trimmed away, or the journal never reached the position.
    #[error("the events after position {position} are not in the journal")]
    HistoryLost {
        /// The position asked for.
        position: u64,
    },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Journal {
    pub(super) fn new(readers: Readers, newest: watch::Receiver<u64>) -> Self {
        Self { readers, newest }
    }

    /// The position of the newest committed event, 0 before the first. At least that of every event whose call has
    /// returned.
    pub fn newest(&self) -> u64 {
        *self.newest.borrow()
    }

    /// Tells of every change of [`Self::newest`]; several changes may become one.
    pub fn subscribe(&self) -> watch::Receiver<u64> {
        self.newest.clone()
    }

    /// The events above a position, as encoded [`proto::v1::Event`]s: without a hole, oldest first, at most `limit`.
    ///
    /// # Errors
    /// [`JournalError::HistoryLost`] when the event after the position is not there any more.
    pub async fn read_above(&self, position: u64, limit: usize) -> Result<Vec<(u64, Bytes)>, JournalError> {
        let work = move |connection: &Connection| {
            let parameters = params![position.cast_signed(), sql_limit(limit)];
            let events = JOURNAL.list(connection, READ_ABOVE, parameters, |columns| {
                Ok((columns.number("position")?, Bytes::from(columns.get::<Vec<u8>>("envelope")?)))
            })?;
            let follows_on = match events.first() {
                Some(&(first, _)) => first.checked_sub(1) == Some(position),
                // Not compared with `newest`, which is told a moment after the commit.
                None => position <= newest_position(connection)?,
            };
            Ok(follows_on.then_some(events))
        };
        let events = self.readers.read("read events", work).await?;
        events.ok_or(JournalError::HistoryLost { position })
    }
}
