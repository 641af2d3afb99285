//! Whether the stream can be reached.
//!
//! The link is open while the client is connected and the stream was found to be as it must be. It closes at the first
//! doubt, so that events go to the outbox at once instead of each finding out by itself, and opens again when the stream
//! answers. While it is closed nothing is published: the client would send it later, when nobody knows of it any more.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use async_nats::connection::State;
use tokio::sync::{Notify, watch};

use super::metrics::PublishMetrics;
use super::nats::{EventStream, StreamError, is_notable};
use crate::domain::clock::Stamps;

/// How often the stream is looked at while there is no doubt.
const LOOK_EVERY: Duration = Duration::from_secs(10);
/// The wait before the stream is looked at again; it doubles while events are sent in vain.
const MIN_WAIT: Duration = Duration::from_millis(20);
/// The longest wait.
const MAX_WAIT: Duration = Duration::from_secs(1);
/// How often it is said that the stream cannot be used.
const SAY_EVERY: Duration = Duration::from_secs(5);
/// How often it is said that clocks differ.
const SAY_SKEW_EVERY: Duration = Duration::from_secs(60);

pub(super) struct Link {
    pub(super) stream: EventStream,
    stamps: Arc<Stamps>,
    metrics: Arc<PublishMetrics>,
    open: watch::Sender<bool>,
    doubts: Notify,
    /// Whether the stream took anything since it was last doubted.
    has_worked: AtomicBool,
}

impl Link {
    /// A closed link.
    pub(super) fn new(stream: EventStream, stamps: Arc<Stamps>, metrics: Arc<PublishMetrics>) -> Self {
        metrics.stream_open(false);
        let open = watch::Sender::new(false);
        Self { stream, stamps, metrics, open, doubts: Notify::new(), has_worked: AtomicBool::new(true) }
    }

    /// Whether events may be sent now.
    pub(super) fn is_open(&self) -> bool {
        if !*self.open.borrow() {
            return false;
        }
        let is_connected = self.stream.context.client().connection_state() == State::Connected;
        if !is_connected {
            self.close();
        }
        is_connected
    }

    /// Waits until events may be sent. May be dropped halfway.
    pub(super) async fn opened(&self) {
        while !self.is_open() {
            // Fails only when the sender is gone, and that is ours.
            let _ = self.open.subscribe().wait_for(|is_open| *is_open).await;
        }
    }

    /// Tells of every opening and closing.
    pub(super) fn watch(&self) -> watch::Receiver<bool> {
        self.open.subscribe()
    }

    /// The stream has taken an event.
    pub(super) fn has_worked(&self) {
        if !self.has_worked.load(Ordering::Relaxed) {
            self.has_worked.store(true, Ordering::Relaxed);
        }
    }

    /// An event was sent in vain.
    pub(super) fn doubt(&self, error: &(dyn std::error::Error + 'static)) {
        if self.close() {
            tracing::warn!(error, "the stream did not take an event; events go to the outbox until it answers");
        }
    }

    /// Whether it was open.
    fn close(&self) -> bool {
        let was_open = self.open.send_replace(false);
        if was_open {
            self.metrics.stream_open(false);
        }
        self.doubts.notify_one();
        was_open
    }

    /// Makes sure of the stream, and how it is with the clocks.
    pub(super) async fn ensure(&self) -> Result<i64, StreamError> {
        let skew_ms = self.stream.ensure(&self.stamps).await?;
        self.metrics.clock_skew(skew_ms);
        Ok(skew_ms)
    }

    /// The stream was made sure of.
    pub(super) fn open(&self) {
        if !self.open.send_replace(true) {
            self.metrics.stream_open(true);
        }
    }

    /// Opens the link whenever it can be. Runs for ever; may be dropped halfway.
    pub(super) async fn tend(&self) {
        let client = self.stream.context.client();
        let mut wait = MIN_WAIT;
        let mut said_at: Option<Instant> = None;
        let mut skew_said_at: Option<Instant> = None;
        loop {
            // Answered once what was written before has gone to a server, so also the wait for a connection.
            if client.flush().await.is_err() {
                tracing::error!("the NATS client has ended; no event leaves any more");
                return std::future::pending().await;
            }
            match self.ensure().await {
                Ok(skew_ms) => {
                    if is_due(skew_said_at, SAY_SKEW_EVERY) && is_notable(skew_ms) {
                        skew_said_at = Some(Instant::now());
                        tracing::warn!(skew_ms, "the clock of NATS and ours differ; set the clocks of both machines");
                    }
                    self.open();
                    said_at = None;
                    let _ = tokio::time::timeout(LOOK_EVERY, self.doubts.notified()).await;
                    if *self.open.borrow() {
                        continue;
                    }
                    if self.has_worked.swap(false, Ordering::Relaxed) {
                        wait = MIN_WAIT;
                    }
                }
                Err(error) => {
                    self.close();
                    if is_due(said_at, SAY_EVERY) {
                        said_at = Some(Instant::now());
                        let error = &error as &dyn std::error::Error;
                        tracing::warn!(error, "events cannot go to NATS and wait in the outbox");
                    }
                }
            }
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(MAX_WAIT);
        }
    }
}

fn is_due(said_at: Option<Instant>, every: Duration) -> bool {
    said_at.is_none_or(|at| at.elapsed() >= every)
}
