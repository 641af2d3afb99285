//! The events, in the database that holds what they tell: appended in the transaction of their data, read in order.
//!
//! The newest ones are kept in memory too, as the writer committed them: whoever follows closely reads no table.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

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
const NEWEST: &str = "SELECT position, end_offset FROM journal ORDER BY position DESC LIMIT 1";
pub(super) const READ_ABOVE: &str =
    "SELECT position, envelope FROM journal WHERE position > ?1 ORDER BY position LIMIT ?2";
/// Only from the oldest end, so that no hole comes into being, and never the newest event. The oldest one may go however
/// large it is, and with it what ends within `?4` bytes of its end.
const TRIM: &str = "
    WITH newest AS (SELECT created_at, end_offset FROM journal ORDER BY position DESC LIMIT 1),
         oldest AS (SELECT position, created_at, end_offset FROM journal ORDER BY position LIMIT ?3)
    DELETE FROM journal WHERE position <= (
        SELECT max(oldest.position) FROM oldest, newest
        WHERE (oldest.created_at < newest.created_at - ?1 OR oldest.end_offset <= newest.end_offset - ?2)
            AND oldest.end_offset <= (SELECT end_offset FROM oldest ORDER BY position LIMIT 1) + ?4)";

/// So many bytes of the newest envelopes stay in memory.
const TAIL_BYTES: usize = 1 << 20;

/// How much of the journal is kept, and how it is trimmed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Retention {
    /// Events this much older than the newest one go.
    pub(super) age_millis: i64,
    /// An event goes when so many bytes of envelopes follow it.
    pub(super) bytes: i64,
    /// At most so many rows go at once.
    pub(super) step: u64,
    /// At most about so many bytes of envelopes go at once, or twice as many as came since the last step where that is
    /// more: the writer's transaction holds them, and nothing else is written meanwhile.
    pub(super) step_bytes: i64,
    /// One step follows on so many new events, or on `step_bytes / 2` of them: less than goes in a step, so that
    /// trimming catches up.
    pub(super) every: u64,
}

impl Retention {
    /// A day, and 1 GiB.
    pub(super) const DEFAULT: Self =
        Self { age_millis: 86_400_000, bytes: 1 << 30, step: 1_000, step_bytes: 16 << 20, every: 500 };

    /// How many bytes may go in the step that is due, if one is, when the last one was at `trimmed_at`.
    pub(super) fn due(self, trimmed_at: End, newest: End) -> Option<i64> {
        let came = newest.offset - trimmed_at.offset;
        let is_due = newest.position - trimmed_at.position >= self.every || came >= self.step_bytes / 2;
        is_due.then(|| self.step_bytes.max(came.saturating_mul(2)))
    }
}

/// An end of the journal.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct End {
    /// The position of the newest event, 0 before the first.
    pub(super) position: u64,
    /// The bytes of all envelopes up to there, trimmed ones included.
    pub(super) offset: i64,
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

/// What a transaction appends.
pub(super) struct Appended {
    /// Where the journal ends with it.
    pub(super) end: End,
    /// Its events in order, unless they are too large to be kept in memory.
    events: Option<Vec<(u64, Bytes)>>,
}

/// What the open transaction has appended to a journal that ended at `before`.
pub(super) fn appended(connection: &Connection, before: End) -> Result<Appended, StatementError> {
    let end = newest(connection)?;
    let fits = usize::try_from(end.offset - before.offset).is_ok_and(|bytes| bytes <= TAIL_BYTES);
    let events = fits.then(|| list_above(connection, before.position, usize::MAX)).transpose()?;
    Ok(Appended { end, events })
}

fn list_above(connection: &Connection, position: u64, limit: usize) -> Result<Vec<(u64, Bytes)>, StatementError> {
    JOURNAL.list(connection, READ_ABOVE, params![position.cast_signed(), sql_limit(limit)], |columns| {
        Ok((columns.number("position")?, Bytes::from(columns.get::<Vec<u8>>("envelope")?)))
    })
}

/// Where the journal ends.
fn newest(connection: &Connection) -> Result<End, StatementError> {
    let newest = JOURNAL.lookup(connection, NEWEST, [], |columns| {
        Ok(End { position: columns.number("position")?, offset: columns.get("end_offset")? })
    })?;
    Ok(newest.unwrap_or_default())
}

/// Deletes a step's worth of the oldest events, `step_bytes` at most, as far as they are past the retention.
pub(super) fn trim(connection: &Connection, retention: Retention, step_bytes: i64) -> Result<(), StatementError> {
    let Retention { age_millis, bytes, step, .. } = retention;
    connection.prepare_cached(TRIM)?.execute(params![age_millis, bytes, step.cast_signed(), step_bytes])?;
    Ok(())
}

/// The newest events without a hole, as far as they are in memory.
#[derive(Default)]
struct Tail {
    events: VecDeque<(u64, Bytes)>,
    bytes: usize,
}

impl Tail {
    fn push(&mut self, events: Vec<(u64, Bytes)>) {
        for (position, envelope) in events {
            self.bytes += envelope.len();
            self.events.push_back((position, envelope));
            while self.bytes > TAIL_BYTES
                && let Some((_, oldest)) = self.events.pop_front()
            {
                self.bytes -= oldest.len();
            }
        }
    }

    /// What [`Journal::read_above`] gives, if it is here.
    fn above(&self, position: u64, limit: usize) -> Option<Vec<(u64, Bytes)>> {
        let &(first, _) = self.events.front()?;
        let skipped = usize::try_from(position.checked_add(1)?.checked_sub(first)?).ok()?;
        (skipped <= self.events.len()).then(|| self.events.range(skipped..).take(limit).cloned().collect())
    }
}

/// The writer's end of the journal: through it readers learn what was committed.
pub(super) struct JournalWriter {
    tail: Arc<Mutex<Tail>>,
    newest: watch::Sender<u64>,
}

impl JournalWriter {
    /// The ends of a journal whose newest event is at this position: one for the writer and one for readers.
    pub(super) fn new(newest: u64, readers: Readers) -> (Self, Journal) {
        let tail = Arc::default();
        let (newest, told) = watch::channel(newest);
        (Self { tail: Arc::clone(&tail), newest }, Journal { readers, tail, newest: told })
    }

    /// Tells what is committed now.
    pub(super) fn committed(&self, appended: Appended) {
        let Appended { end, events } = appended;
        // The tail before the position: who is woken by that looks into the tail.
        match events {
            Some(events) => lock(&self.tail).push(events),
            None => self.forget(),
        }
        self.newest.send_if_modified(|position| std::mem::replace(position, end.position) != end.position);
    }

    /// Keeps none of the events so far in memory. To be called before some are trimmed.
    pub(super) fn forget(&self) {
        *lock(&self.tail) = Tail::default();
    }
}

fn lock(tail: &Mutex<Tail>) -> MutexGuard<'_, Tail> {
    // Nothing panics while it is held; if something did, the tail is whole all the same.
    tail.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The committed events, each at its position: 1, 2, 3 and so on.
#[derive(Clone)]
pub struct Journal {
    readers: Readers,
    tail: Arc<Mutex<Tail>>,
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
        if let Some(events) = lock(&self.tail).above(position, limit) {
            return Ok(events);
        }
        let work = move |connection: &Connection| {
            let events = list_above(connection, position, limit)?;
            let follows_on = match events.first() {
                Some(&(first, _)) => first.checked_sub(1) == Some(position),
                // Not compared with `newest`, which is told a moment after the commit.
                None => position <= newest(connection)?.position,
            };
            Ok(follows_on.then_some(events))
        };
        let events = self.readers.read("read events", work).await?;
        events.ok_or(JournalError::HistoryLost { position })
    }
}
