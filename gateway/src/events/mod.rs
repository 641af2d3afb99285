//! Where events come from: [`stream`] in the distributed form; standalone brings a source of its own.
//!
//! A source numbers what it has: every event has a [`Position`], and reading goes on above one in order. The source
//! either gives every event above a position or says that it cannot ([`EventSourceError::HistoryLost`]); nothing is
//! left out silently. Notices are told at most once and have no position.

#[cfg(test)]
pub(crate) mod script;
pub mod stream;

use futures_util::future::BoxFuture;
use futures_util::stream::BoxStream;
use proto::ids::EventId;
use proto::v1::{Event, Notice};

/// The place of an event in its source: a number, higher for later events. A source that may be rewritten also notes
/// which event it was.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Position {
    number: u64,
    event_id: Option<EventId>,
}

impl Position {
    /// The position with this number.
    pub const fn new(number: u64) -> Self {
        Self { number, event_id: None }
    }

    /// The position with this number, where this event is.
    pub const fn of_event(number: u64, event_id: Option<EventId>) -> Self {
        Self { number, event_id }
    }

    /// Its number.
    pub const fn number(self) -> u64 {
        self.number
    }

    /// The event there, if it is noted.
    pub const fn event_id(self) -> Option<EventId> {
        self.event_id
    }
}

/// Why a source cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum EventSourceError {
    /// Some event above the position is gone for ever; reading can only go on from the newest.
    #[error("events above the position are no longer there")]
    HistoryLost,
    /// The source failed; reading on from the same position may succeed later.
    #[error("could not read events")]
    Failed(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// Gives events in order, and notices.
pub trait EventSource: Send + Sync + 'static {
    /// The position of the newest event, or the one below all when there is none.
    fn newest(&self) -> BoxFuture<'_, Result<Position, EventSourceError>>;

    /// Every event above `position`, in order, waiting for more at the end. The stream ends only after an error, and
    /// may be dropped at any time.
    fn events_above(&self, position: Position) -> BoxStream<'static, Result<(Position, Event), EventSourceError>>;

    /// The notices from now on. Those that a slow reader misses are gone.
    fn notices(&self) -> BoxStream<'static, Notice>;
}
