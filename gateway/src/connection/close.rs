//! The one map from why a connection ends to what its client is told.

/// Why a connection ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum CloseReason {
    /// The gateway stops.
    GoingAway,
    /// Events may be missing; the client has to ask for what it missed.
    HistoryLost,
    /// A message is over the limit.
    TooLarge,
    /// Too many malformed frames.
    Abuse,
    /// A message was not complete in time.
    Incomplete,
    /// No session for too long.
    Unauthenticated,
    /// Not WebSocket.
    Protocol,
    /// The client does not read its events.
    Overflow,
    /// The device opened too many sockets after this one.
    TooManySockets,
    /// The client closed, or asked to.
    ClosedByClient,
    /// The connection broke.
    Lost,
    /// Nothing came from the client for too long, and nothing could be written.
    Silent,
    /// The gateway cannot wait any longer.
    Dropped,
}

impl CloseReason {
    /// The close code and a word for people, or nothing where no close frame is sent.
    pub(super) fn code(self) -> Option<(u16, &'static str)> {
        match self {
            Self::GoingAway => Some((1001, "server stops")),
            Self::Protocol => Some((1002, "protocol error")),
            Self::Abuse => Some((1008, "too many malformed frames")),
            Self::Incomplete => Some((1008, "message incomplete for too long")),
            Self::Unauthenticated => Some((1008, "not logged in for too long")),
            Self::TooLarge => Some((1009, "message too large")),
            Self::HistoryLost => Some((1012, "events may be missing")),
            Self::Overflow => Some((4008, "too slow")),
            Self::TooManySockets => Some((4409, "too many sockets of this device")),
            Self::ClosedByClient | Self::Lost | Self::Silent | Self::Dropped => None,
        }
    }

    /// A name for metrics and logs.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::GoingAway => "going_away",
            Self::HistoryLost => "history_lost",
            Self::TooLarge => "too_large",
            Self::Abuse => "abuse",
            Self::Incomplete => "incomplete",
            Self::Unauthenticated => "unauthenticated",
            Self::Protocol => "protocol",
            Self::Overflow => "overflow",
            Self::TooManySockets => "too_many_sockets",
            Self::ClosedByClient => "closed_by_client",
            Self::Lost => "lost",
            Self::Silent => "silent",
            Self::Dropped => "dropped",
        }
    }
}
