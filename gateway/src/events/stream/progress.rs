//! What to make of what a consumer sends: the decisions alone, without any I/O.
//!
//! In: what the stream holds when a consumer is about to be made, then each message and each heartbeat. Out: whether an
//! event is given out, whether a new consumer is needed, or whether the history is lost. Held throughout: events are
//! given out in the stream's order, and a sequence follows the one before without a hole.

use std::cmp::Ordering;
use std::collections::{HashSet, VecDeque};
use std::fmt;

use proto::ids::EventId;

use crate::events::Position;

/// How many of the newest events' ids are remembered, to leave out what the stream holds twice.
const REMEMBERED_IDS: usize = 100_000;
/// Consumers in a row that bring nothing, before the connection itself is in doubt.
const FRUITLESS_CONSUMERS: u32 = 2;

/// A message of the stream, as far as it is looked at here.
#[derive(Clone, Copy, Debug)]
pub(super) struct Arrival {
    /// Its place in the stream.
    pub(super) sequence: u64,
    /// How many messages the consumer has sent with it.
    pub(super) consumer_sequence: u64,
    /// The event it carries, if it says so.
    pub(super) event_id: Option<EventId>,
}

/// What to do about a message or a heartbeat.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Verdict {
    /// Give the event out: the position is its place now.
    Deliver,
    /// Go on listening.
    Pass,
    /// Make a new consumer.
    Renew(Renewal),
    /// Events above the position are gone.
    Lost(Loss),
}

/// Why a new consumer is made.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Renewal {
    /// A message is missing.
    Gap,
    /// A heartbeat counts other messages than those that arrived.
    Disagreement,
    /// Neither message nor heartbeat for too long.
    Silence,
    /// The connection was lost meanwhile.
    Reconnected,
    /// The server said something that a consumer of ours is not told.
    Odd,
}

/// Why the history is lost.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Loss {
    /// Another event is where the remembered one was.
    Rewritten,
    /// The stream ends before the position.
    Shorter,
    /// The next event was removed before it was read.
    Expired,
    /// The stream itself has a hole.
    Hole,
    /// The next event cannot be read.
    Damaged,
}

/// How far reading has come, and what the present consumer is known to have sent.
pub(super) struct Progress {
    position: Position,
    /// Messages of the present consumer that arrived.
    arrived: u64,
    /// The present consumer's first message has to be the event at the position.
    expects_remembered: bool,
    /// The present consumer has brought the event after the position at least once.
    has_advanced: bool,
    /// Consumers and attempts to make one since something was heard that was as it should be.
    fruitless: u32,
    recent: RecentIds,
}

impl Progress {
    /// Reading goes on above this position.
    pub(super) fn above(position: Position) -> Self {
        let recent = position.event_id().into_iter().fold(RecentIds::default(), RecentIds::with);
        Self { position, arrived: 0, expects_remembered: false, has_advanced: false, fruitless: 0, recent }
    }

    /// The last event given out, or passed over as a double.
    pub(super) fn position(&self) -> Position {
        self.position
    }

    /// Where a new consumer has to begin, given the first and the last sequence in the stream.
    ///
    /// It begins with the remembered event itself, where that is still there, so that a stream which was put back and
    /// written on is recognised.
    pub(super) fn begin(&mut self, first: u64, last: u64) -> Result<u64, Loss> {
        let at = self.position.number();
        if last < at {
            return Err(Loss::Shorter);
        }
        if first > at + 1 {
            return Err(Loss::Expired);
        }
        self.arrived = 0;
        self.has_advanced = false;
        self.expects_remembered = self.position.event_id().is_some() && first <= at;
        Ok(if self.expects_remembered { at } else { at + 1 })
    }

    /// A message of the present consumer.
    pub(super) fn hear_message(&mut self, arrival: Arrival) -> Verdict {
        let at = self.position.number();
        if arrival.consumer_sequence != self.arrived + 1 {
            return Verdict::Renew(Renewal::Gap);
        }
        self.arrived += 1;
        if self.expects_remembered {
            if (arrival.sequence, arrival.event_id) != (at, self.position.event_id()) {
                return Verdict::Lost(if arrival.sequence < at { Loss::Shorter } else { Loss::Rewritten });
            }
            self.expects_remembered = false;
            self.fruitless = 0;
            return Verdict::Pass;
        }
        if arrival.sequence != at + 1 {
            return match arrival.sequence.cmp(&(at + 1)) {
                // It was asked for what follows the position and has left nothing out: the stream itself is so.
                Ordering::Less if !self.has_advanced => Verdict::Lost(Loss::Shorter),
                Ordering::Greater if !self.has_advanced => Verdict::Lost(Loss::Hole),
                _ => Verdict::Renew(Renewal::Gap),
            };
        }
        self.has_advanced = true;
        self.fruitless = 0;
        self.position = Position::of_event(arrival.sequence, arrival.event_id);
        match arrival.event_id {
            Some(event_id) if !self.recent.insert(event_id) => Verdict::Pass,
            _ => Verdict::Deliver,
        }
    }

    /// A heartbeat, which tells how many messages the present consumer has sent.
    pub(super) fn hear_heartbeat(&mut self, sent: u64) -> Verdict {
        // The remembered event was there when the consumer was made: it would have come before the first heartbeat.
        if sent != self.arrived || self.expects_remembered {
            return Verdict::Renew(Renewal::Disagreement);
        }
        self.fruitless = 0;
        Verdict::Pass
    }

    /// A consumer is given up, or could not be made for want of an answer. Says whether the connection is to be made anew,
    /// since several in a row came to nothing.
    pub(super) fn give_up(&mut self) -> bool {
        self.fruitless += 1;
        // The first one worked before.
        if self.fruitless <= FRUITLESS_CONSUMERS {
            return false;
        }
        self.fruitless = 0;
        true
    }

    /// The connection is new: what came to nothing before says nothing about it.
    pub(super) fn connected_anew(&mut self) {
        self.fruitless = 0;
    }
}

/// The ids of the newest events.
#[derive(Default)]
struct RecentIds {
    order: VecDeque<EventId>,
    known: HashSet<EventId>,
}

impl RecentIds {
    fn with(mut self, event_id: EventId) -> Self {
        self.insert(event_id);
        self
    }

    /// Remembers an id; whether it was not known yet.
    fn insert(&mut self, event_id: EventId) -> bool {
        if !self.known.insert(event_id) {
            return false;
        }
        if self.order.len() == REMEMBERED_IDS
            && let Some(oldest) = self.order.pop_front()
        {
            self.known.remove(&oldest);
        }
        self.order.push_back(event_id);
        true
    }
}

impl Renewal {
    /// For the metric's label.
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Gap => "gap",
            Self::Disagreement => "disagreement",
            Self::Silence => "silence",
            Self::Reconnected => "reconnected",
            Self::Odd => "odd",
        }
    }
}

impl fmt::Display for Loss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Rewritten => "the stream was rewritten: another event is at the position",
            Self::Shorter => "the stream ends before the position",
            Self::Expired => "the next event was removed before it was read",
            Self::Hole => "the stream has a hole above the position",
            Self::Damaged => "the next event cannot be read",
        })
    }
}

#[cfg(test)]
mod tests;
