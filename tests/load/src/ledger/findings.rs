//! What the account says: messages, promises broken, and the sum.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A message: the socket it was sent on, and how many that one had sent before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct MessageName {
    /// The sending socket.
    pub from: usize,
    /// Counted from 0.
    pub number: u64,
}

/// A promise broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Finding {
    /// Acknowledged, and never delivered to a socket that was there all the time.
    Lost {
        /// The socket that lacks it.
        socket: usize,
        /// The message.
        message: MessageName,
    },
    /// Delivered again.
    Doubled {
        /// The socket that got it again.
        socket: usize,
        /// The message.
        message: MessageName,
    },
    /// Delivered after a later one of the same sender.
    SenderOrder {
        /// The socket that got it too late.
        socket: usize,
        /// The message.
        message: MessageName,
        /// The later one.
        after: MessageName,
    },
    /// Two messages that came in one order at some socket, and in the other at another.
    Disputed {
        /// One of them.
        one: MessageName,
        /// The other.
        other: MessageName,
    },
    /// Delivered to a socket that should not have it: of another conversation, or the one it was sent on.
    Misdelivered {
        /// The socket that got it.
        socket: usize,
        /// The message.
        message: MessageName,
    },
    /// Delivered, but nobody sent it.
    NeverSent {
        /// The socket that got it.
        socket: usize,
        /// The message.
        message: MessageName,
    },
    /// Acknowledged again, or acknowledged and refused, or never sent.
    AcknowledgedWrongly {
        /// The message.
        message: MessageName,
    },
}

/// How often each promise was broken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Broken {
    /// [`Finding::Lost`]
    pub lost: u64,
    /// [`Finding::Doubled`]
    pub doubled: u64,
    /// [`Finding::SenderOrder`]
    pub sender_order: u64,
    /// [`Finding::Disputed`]
    pub disputed: u64,
    /// [`Finding::Misdelivered`]
    pub misdelivered: u64,
    /// [`Finding::NeverSent`]
    pub never_sent: u64,
    /// [`Finding::AcknowledgedWrongly`]
    pub acknowledged_wrongly: u64,
}

/// The account, closed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verdict {
    /// Messages sent.
    pub sent: u64,
    /// Messages acknowledged.
    pub acknowledged: u64,
    /// Messages refused.
    pub refused: u64,
    /// Messages neither acknowledged nor refused.
    pub unanswered: u64,
    /// Deliveries there had to be.
    pub deliveries_expected: u64,
    /// Those there were, doubles not counted; what was not acknowledged is among them.
    pub deliveries: u64,
    /// What was wrong.
    pub broken: Broken,
    /// The first of what was wrong, sorted.
    pub findings: Vec<Finding>,
}

impl Verdict {
    /// Whether no promise was broken.
    pub fn is_clean(&self) -> bool {
        self.broken == Broken::default()
    }
}

impl Broken {
    pub(super) fn count(&mut self, finding: &Finding, times: u64) {
        let counter = match finding {
            Finding::Lost { .. } => &mut self.lost,
            Finding::Doubled { .. } => &mut self.doubled,
            Finding::SenderOrder { .. } => &mut self.sender_order,
            Finding::Disputed { .. } => &mut self.disputed,
            Finding::Misdelivered { .. } => &mut self.misdelivered,
            Finding::NeverSent { .. } => &mut self.never_sent,
            Finding::AcknowledgedWrongly { .. } => &mut self.acknowledged_wrongly,
        };
        *counter += times;
    }

    pub(super) fn add(&mut self, other: &Self) {
        let Self { lost, doubled, sender_order, disputed, misdelivered, never_sent, acknowledged_wrongly } = *other;
        self.lost += lost;
        self.doubled += doubled;
        self.sender_order += sender_order;
        self.disputed += disputed;
        self.misdelivered += misdelivered;
        self.never_sent += never_sent;
        self.acknowledged_wrongly += acknowledged_wrongly;
    }
}

impl fmt::Display for MessageName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "message {} of socket {}", self.number, self.from)
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Lost { socket, message } => write!(f, "{message} never came to socket {socket}"),
            Self::Doubled { socket, message } => write!(f, "{message} came again to socket {socket}"),
            Self::SenderOrder { socket, message, after } => {
                write!(f, "{message} came to socket {socket} after {after}")
            }
            Self::Disputed { one, other } => write!(f, "sockets disagree which is first, {one} or {other}"),
            Self::Misdelivered { socket, message } => {
                write!(f, "{message} came to socket {socket}, which it is not for")
            }
            Self::NeverSent { socket, message } => write!(f, "{message} came to socket {socket}, but nobody sent it"),
            Self::AcknowledgedWrongly { message } => write!(f, "{message} was answered twice, or never sent"),
        }
    }
}
