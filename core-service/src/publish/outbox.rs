//! The outbox: where events are safe that the stream has not taken yet.
//!
//! Events wait in memory, in `queues`, and leave from there in order. What does not leave in time is put into the
//! outbox too; from then on it survives the process. The outbox of a run is cut into buckets of ten seconds; a bucket is
//! removed as a whole once everything in it has left. What a dead process left behind is for whoever takes its run over
//! ([`super::StreamPublisher::take_over`]).

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use proto::ids::{EventId, RunId, Timestamp};
use tokio_util::sync::CancellationToken;

use super::in_order::Inner;
use crate::store::StoreError;

/// How much time a bucket holds, in milliseconds.
const BUCKET_MS: i64 = 10_000;
/// Writes to the outbox at once.
const MAX_WRITES: usize = 128;
/// How often it is looked whether a bucket is done with.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// An event in the outbox.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Kept {
    /// Rises in the order of publishing, over all buckets of a run.
    pub number: u64,
    /// The event's.
    pub event_id: EventId,
    /// The NATS subject it goes to.
    pub subject: String,
    /// The event as it leaves.
    pub envelope: Bytes,
}

/// Keeps the outbox of every run of every core.
#[async_trait]
pub trait OutboxStore: Send + Sync {
    /// Adds an event to a bucket. When this returns, it is safe and [`Self::list_buckets`] finds its bucket.
    async fn put(&self, run: RunId, bucket: i64, event: Kept) -> Result<(), StoreError>;

    /// The run's buckets that may hold anything, in their order.
    async fn list_buckets(&self, run: RunId) -> Result<Vec<i64>, StoreError>;

    /// A page of what a bucket holds above a number, in order; an empty one is the end.
    async fn list(&self, run: RunId, bucket: i64, above: Option<u64>) -> Result<Vec<Kept>, StoreError>;

    /// Removes a bucket with everything in it.
    async fn remove(&self, run: RunId, bucket: i64) -> Result<(), StoreError>;
}

/// The bucket of a time.
pub(super) fn bucket_of(at: Timestamp) -> i64 {
    at.millis().div_euclid(BUCKET_MS)
}

/// Puts into the outbox what is due; once the end is near, everything that waits, and then it returns. May be dropped
/// halfway, which leaves what was due without an answer.
pub(super) async fn keep(publisher: &Inner, ending: &CancellationToken) {
    let mut link = publisher.link.watch();
    let mut writes = FuturesUnordered::new();
    loop {
        let is_ending = ending.is_cancelled();
        let (due, next_due) = {
            let mut moment = publisher.moment();
            moment.is_open &= !is_ending;
            let mut queues = publisher.queues();
            (queues.take_due(&moment, MAX_WRITES - writes.len()), queues.next_due())
        };
        let has_taken_all = writes.len() + due.len() < MAX_WRITES;
        writes.extend(due.into_iter().map(|letter| {
            let kept = Kept {
                number: letter.number,
                event_id: letter.id,
                subject: publisher.link.stream.settings.cell.event(letter.about),
                envelope: letter.envelope.clone(),
            };
            async move { (publisher.outbox.put(publisher.run, letter.bucket, kept).await, letter) }
        }));
        if is_ending && writes.is_empty() {
            return;
        }
        let next_due = next_due.filter(|_| has_taken_all).map(tokio::time::Instant::from_std);
        tokio::select! {
            Some((outcome, letter)) = writes.next() => {
                publisher.metrics.kept(outcome.is_ok());
                publisher.queues().kept(&letter, outcome);
            }
            () = ending.cancelled(), if !is_ending => {}
            () = publisher.something_due.notified() => {}
            Ok(()) = link.changed() => {}
            () = tokio::time::sleep_until(next_due.unwrap_or_else(tokio::time::Instant::now)), if next_due.is_some() => {}
        }
    }
}

/// Removes the buckets that are done with. Runs for ever; may be dropped halfway.
pub(super) async fn tidy(publisher: &Inner) {
    let mut look = tokio::time::interval(LOOK_EVERY);
    loop {
        look.tick().await;
        remove_done(publisher, bucket_of(publisher.stamps.now())).await;
    }
}

/// Removes the buckets before this one in which nothing is left.
pub(super) async fn remove_done(publisher: &Inner, before: i64) {
    let done = publisher.queues().take_done_buckets(before);
    for bucket in done {
        if let Err(error) = publisher.outbox.remove(publisher.run, bucket).await {
            let error = &error as &dyn std::error::Error;
            tracing::warn!(
                error,
                bucket,
                "what has left stays in the outbox; whoever takes it over finds it in the stream"
            );
        }
    }
}
