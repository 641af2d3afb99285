//! Events on their way out of core. Standalone keeps them in the store's journal; [`envelope`] is their form. In the
//! distributed form the store hands each event to a [`Publisher`] once its data is safe: the [`StreamPublisher`], which
//! takes it into a stream of NATS, and into an outbox while it cannot.

pub mod envelope;
mod in_order;
mod link;
mod metrics;
pub mod nats;
pub mod notices;
pub mod outbox;
mod queues;
mod split;
#[cfg(test)]
mod tests;

pub use in_order::{PublisherParts, StreamPublisher};

use bytes::Bytes;
use proto::ids::EventId;

use crate::domain::event::{Event, Subject};
use crate::store::Written;

/// Takes events out of core.
pub trait Publisher: Send + Sync {
    /// Queues an event before it returns; events of one subject leave in the order of these calls. Resolves when the
    /// event is safe: in the stream, or kept until the stream can be reached. Dropping what it returns undoes nothing.
    /// One that has left before under the same id is told nobody twice.
    fn publish(&self, event: Event) -> Written;

    /// The same for an event that is at hand only in the form in which it leaves, perhaps that of a newer version.
    fn publish_envelope(&self, envelope: Envelope) -> Written;
}

/// An event in the form in which it leaves.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Envelope {
    /// The event's.
    pub id: EventId,
    /// What it is about.
    pub subject: Subject,
    /// As [`envelope::encode_event`] makes them.
    pub bytes: Bytes,
}
