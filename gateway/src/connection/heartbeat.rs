//! When a connection pings, and when it counts as dead.
//!
//! A ping goes out every 20 s. A connection ends when for 60 s nothing came from the client and nothing could be
//! written to it: a large reply on a slow line delays the client's answer to a ping, but it makes progress.

use std::time::Duration;

use tokio::time::Instant;

const PING_INTERVAL: Duration = Duration::from_secs(20);
const SILENCE_LIMIT: Duration = Duration::from_secs(60);

/// The pulse of one connection.
#[derive(Debug)]
pub(super) struct Heartbeat {
    next_ping: Instant,
    last_sign: Instant,
}

/// What is due.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Beat {
    /// Nothing yet.
    Rest,
    /// A ping.
    Ping,
    /// The end: the client is gone.
    Dead,
}

impl Heartbeat {
    pub(super) fn new(now: Instant) -> Self {
        Self { next_ping: now + PING_INTERVAL, last_sign: now }
    }

    /// A frame came, or bytes could be written.
    pub(super) fn sign_of_life(&mut self, now: Instant) {
        self.last_sign = now;
    }

    /// When something is due next.
    pub(super) fn next(&self) -> Instant {
        self.next_ping.min(self.last_sign + SILENCE_LIMIT)
    }

    /// What is due now.
    pub(super) fn beat(&mut self, now: Instant) -> Beat {
        if now >= self.last_sign + SILENCE_LIMIT {
            Beat::Dead
        } else if now >= self.next_ping {
            self.next_ping = now + PING_INTERVAL;
            Beat::Ping
        } else {
            Beat::Rest
        }
    }
}
