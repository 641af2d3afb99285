//! Events on their way out of core. Standalone keeps them in the store's journal; [`envelope`] is their form. In the
//! distributed form the store hands each event to a [`Publisher`] once its data is safe.

pub mod envelope;

use crate::domain::event::Event;
use crate::store::Written;

/// Takes events out of core.
pub trait Publisher: Send + Sync {
    /// Queues an event before it returns; events of one subject leave in the order of these calls. Resolves when the
    /// event is safe: in the stream, or kept until the stream can be reached. Dropping what it returns undoes nothing.
    fn publish(&self, event: Event) -> Written;

    /// The same for an event that may have left before under the same id: nobody gets it twice.
    fn publish_again(&self, event: Event) -> Written;
}
