//! Whether the gateway wants traffic: what its owner's readiness probe answers.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

const STARTING: u8 = 0;
const READY: u8 = 1;
const STOPPING: u8 = 2;

/// A view of one gateway's readiness. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Readiness(Arc<AtomicU8>);

impl Readiness {
    /// Whether it is ready: its place in the events is known, and it is not stopping.
    pub fn is_ready(&self) -> bool {
        self.0.load(Ordering::Relaxed) == READY
    }

    /// The start is over. A gateway that is stopping stays so.
    pub(crate) fn set_ready(&self) {
        let _ = self.0.compare_exchange(STARTING, READY, Ordering::Relaxed, Ordering::Relaxed);
    }

    /// The stop has begun.
    pub(crate) fn set_stopping(&self) {
        self.0.store(STOPPING, Ordering::Relaxed);
    }
}
