//! The ports for time and ids, so that tests own both.

use std::fmt;
use std::time::{SystemTime, UNIX_EPOCH};

use proto::ids::{IdGenerator, NewId, Timestamp};

use super::session::Attempt;

/// Tells the time.
pub trait Clock: Send + Sync + fmt::Debug {
    /// The time now.
    fn now(&self) -> Timestamp;
}

/// The machine's clock.
#[derive(Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "this is the room of the wall clock")]
    fn now(&self) -> Timestamp {
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Timestamp::from_millis(i64::try_from(since_epoch.as_millis()).unwrap_or(i64::MAX))
    }
}

/// Time and ids together, as every rule takes them.
#[derive(Debug)]
pub struct Stamps {
    clock: Box<dyn Clock>,
    ids: IdGenerator,
}

impl Stamps {
    /// Stamps from this clock and this generator.
    pub fn new(clock: impl Clock + 'static, ids: IdGenerator) -> Self {
        Self { clock: Box::new(clock), ids }
    }

    /// Stamps of this machine's clock, with ids of this process alone.
    #[expect(clippy::disallowed_methods, reason = "this is the room of random ids")]
    pub fn of_this_process() -> Self {
        Self::new(SystemClock, IdGenerator::new(rand::random(), rand::random()))
    }

    /// The time now.
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// A new id, made now.
    pub fn new_id(&self) -> NewId {
        self.ids.next(self.now())
    }

    /// An attempt of its own, for what no frame asked for.
    pub fn new_attempt(&self) -> Attempt {
        Attempt { connection_id: self.new_id().into(), frame: 0 }
    }

    /// A new id, made at a time that the caller has chosen.
    pub fn new_id_at(&self, at: Timestamp) -> NewId {
        self.ids.next(at)
    }
}
