//! The publisher of the distributed form: every event once into the stream, those of one subject in order.
//!
//! Each subject has a queue ([`super::queues`]) and, while something waits in it, a task that sends its events one after
//! another: the next leaves when the stream has the one before, since a repeated one would else overtake it. Different
//! subjects leave side by side, [`MAX_IN_FLIGHT`] events at most. What does not leave in time goes into the outbox too
//! ([`super::outbox`]) and counts as safe then; it leaves later, from its place in its queue.
//!
//! An event may be sent any number of times: the stream drops a double of the last two minutes by its id. An event that
//! is older than that, by its id's time, is looked for in the stream before it is sent.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use async_nats::Client;
use async_nats::jetstream::context::PublishErrorKind;
use async_nats::jetstream::message::PublishMessage;
use async_nats::jetstream::{Context, ContextBuilder};
use futures_util::FutureExt;
use proto::ids::{EventId, RunId, Timestamp};
use proto::subject::About;
use tokio::sync::{Notify, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::link::Link;
use super::metrics::PublishMetrics;
use super::nats::{EventStream, StreamError, StreamSettings, check_skew};
use super::outbox::{self, Kept, OutboxStore, bucket_of};
use super::queues::{Full, Letter, Moment, Queues};
use super::split::{self, Part, TooLarge};
use super::{Envelope, Publisher};
use crate::domain::clock::Stamps;
use crate::domain::event::{Event, Subject};
use crate::store::{StoreError, Written};

/// Events that were sent and are not acknowledged yet, at most.
const MAX_IN_FLIGHT: usize = 256;
/// How long the stream may take to acknowledge an event.
const ACKNOWLEDGE_WITHIN: Duration = Duration::from_millis(500);
/// Subjects whose events are looked for at once, at most.
const MAX_LOOKS: usize = 8;
/// How long a start waits for NATS before it goes on without.
const START_WITHIN: Duration = Duration::from_secs(5);

/// What the publisher works with.
pub struct PublisherParts {
    /// A client that is connected to NATS, or will be.
    pub client: Client,
    /// How the stream must be.
    pub stream: StreamSettings,
    /// Where events are safe while the stream cannot be reached.
    pub outbox: Arc<dyn OutboxStore>,
    /// This run of the process, under which the outbox keeps its events.
    pub run: RunId,
    /// The time.
    pub stamps: Arc<Stamps>,
    /// Events that may wait, in bytes.
    pub max_unpublished_bytes: usize,
}

/// Takes events into the stream, in order. Clones share it.
#[derive(Clone)]
pub struct StreamPublisher {
    pub(super) inner: Arc<Inner>,
    /// The link and the outbox.
    pub(super) tasks: TaskTracker,
    /// They are to finish what is in hand.
    ending: CancellationToken,
    /// Everything is to end, wherever it is.
    pub(super) stop: CancellationToken,
}

pub(super) struct Inner {
    pub(super) link: Link,
    pub(super) outbox: Arc<dyn OutboxStore>,
    pub(super) run: RunId,
    pub(super) stamps: Arc<Stamps>,
    pub(super) metrics: Arc<PublishMetrics>,
    pub(super) something_due: Notify,
    queues: Mutex<Queues>,
    /// For publishing alone: its deadline is that of an acknowledgement.
    context: Context,
    in_flight: Semaphore,
    looks: Semaphore,
    workers: TaskTracker,
    /// When the stream last took an event.
    taken_at: Mutex<Instant>,
}

impl StreamPublisher {
    /// Makes sure of the stream and starts. Without NATS it starts after a few seconds too: events go to the outbox
    /// then, until NATS is there.
    ///
    /// # Errors
    /// When NATS is there and waiting would not help: a stream that cannot be used, or clocks that differ too much.
    pub async fn start(parts: PublisherParts) -> Result<Self, StreamError> {
        let PublisherParts { client, stream, outbox, run, stamps, max_unpublished_bytes } = parts;
        let metrics = Arc::new(PublishMetrics::new());
        let context = ContextBuilder::new().timeout(ACKNOWLEDGE_WITHIN).build(client.clone());
        let stream = EventStream { settings: stream, context: async_nats::jetstream::new(client) };
        let inner = Arc::new(Inner {
            link: Link::new(stream, Arc::clone(&stamps), Arc::clone(&metrics)),
            outbox,
            run,
            stamps,
            metrics,
            something_due: Notify::new(),
            queues: Mutex::new(Queues::new(max_unpublished_bytes)),
            context,
            in_flight: Semaphore::new(MAX_IN_FLIGHT),
            looks: Semaphore::new(MAX_LOOKS),
            workers: TaskTracker::new(),
            taken_at: Mutex::new(Instant::now()),
        });
        match tokio::time::timeout(START_WITHIN, inner.first_look()).await {
            Ok(looked) => looked?,
            Err(_) => tracing::warn!("starting without NATS: events wait in the outbox until it is there"),
        }
        let (ending, stop) = (CancellationToken::new(), CancellationToken::new());
        let publisher = Self { inner, tasks: TaskTracker::new(), ending, stop };
        publisher.spawn(async |inner, ending| {
            ending.run_until_cancelled(inner.link.tend()).await;
        });
        publisher.spawn(async |inner, ending| outbox::keep(&inner, &ending).await);
        publisher.spawn(async |inner, ending| {
            ending.run_until_cancelled(outbox::tidy(&inner)).await;
        });
        Ok(publisher)
    }

    fn spawn<Task>(&self, task: impl FnOnce(Arc<Inner>, CancellationToken) -> Task)
    where
        Task: Future<Output = ()> + Send + 'static,
    {
        let task = task(Arc::clone(&self.inner), self.ending.clone());
        self.tasks.spawn(self.stop.clone().run_until_cancelled_owned(task));
    }

    /// Whether events go to the stream at the moment.
    pub fn is_open(&self) -> bool {
        self.inner.link.is_open()
    }

    /// Publishes what another run left in the outbox, and removes it there. To be called by whoever has claimed that run,
    /// as often as it fails.
    ///
    /// # Errors
    /// Those of the outbox; or too much waits already.
    pub async fn take_over(&self, run: RunId) -> Result<(), StoreError> {
        let Inner { outbox, link, .. } = &*self.inner;
        for bucket in outbox.list_buckets(run).await? {
            let mut above = None;
            loop {
                let page = outbox.list(run, bucket, above).await?;
                let Some(last) = page.last() else { break };
                above = Some(last.number);
                let mut safe = Vec::with_capacity(page.len());
                for Kept { number, event_id, subject, envelope } in page {
                    let about = link.stream.settings.cell.parse_event(&subject).ok_or_else(|| StoreError::Corrupt {
                        table: "outbox",
                        column: "subject",
                        key: format!("run {run}, bucket {bucket}, number {number}"),
                    })?;
                    safe.push(self.publish_parts(about, vec![Part { id: event_id, bytes: envelope }]));
                }
                futures_util::future::try_join_all(safe).await?;
            }
            outbox.remove(run, bucket).await?;
        }
        Ok(())
    }

    /// Ends the publishing: lets what waits leave if it can, and puts the rest into the outbox; each within this time.
    pub async fn finish(&self, within: Duration) {
        let Inner { workers, link, .. } = &*self.inner;
        workers.close();
        if link.is_open() && tokio::time::timeout(within, workers.wait()).await.is_err() {
            tracing::warn!("events are left in the outbox for another core");
        }
        self.ending.cancel();
        self.tasks.close();
        let rest = async {
            self.tasks.wait().await;
            outbox::remove_done(&self.inner, i64::MAX).await;
        };
        if tokio::time::timeout(within, rest).await.is_err() {
            tracing::warn!("the outbox did not answer in time; events may be left in it, or out of it");
        }
        self.stop.cancel();
        self.inner.queues().end();
    }

    fn publish_split(&self, about: About, parts: Result<Vec<Part>, TooLarge>) -> Written {
        match parts {
            Ok(parts) => self.publish_parts(about, parts),
            Err(error) => failed(StoreError::Unavailable { attempted: "publish an event", source: Arc::new(error) }),
        }
    }

    fn publish_parts(&self, about: About, parts: Vec<Part>) -> Written {
        let inner = &self.inner;
        let moment = inner.moment();
        let queued = {
            let mut queues = inner.queues();
            let queued = queues.push(about, parts, &moment);
            let (events, bytes) = queues.waiting();
            inner.metrics.waiting(events, bytes);
            queued
        };
        let queued = match queued {
            Ok(queued) => queued,
            Err(Full) => {
                inner.metrics.refused();
                return failed(StoreError::Overloaded);
            }
        };
        if queued.wakes_keeper {
            inner.something_due.notify_one();
        }
        if queued.needs_worker {
            let work = Arc::clone(inner).send_all(about);
            inner.workers.spawn(self.stop.clone().run_until_cancelled_owned(work));
        }
        async move {
            for safe in queued.safe {
                safe.await.unwrap_or_else(|ended| {
                    Err(StoreError::Unavailable {
                        attempted: "publish an event before the end",
                        source: Arc::new(ended),
                    })
                })?;
            }
            Ok(())
        }
        .boxed()
    }
}

fn failed(error: StoreError) -> Written {
    std::future::ready(Err(error)).boxed()
}

impl Publisher for StreamPublisher {
    fn publish(&self, event: Event) -> Written {
        self.publish_split(about(event.subject), split::parts(event))
    }

    fn publish_envelope(&self, envelope: Envelope) -> Written {
        let Envelope { id, subject, bytes } = envelope;
        self.publish_split(about(subject), split::parts_of_envelope(id, bytes))
    }
}

pub(super) fn about(subject: Subject) -> About {
    match subject {
        Subject::Conversation(id) => About::Conversation(id),
        Subject::User(id) => About::User(id),
    }
}

impl Inner {
    pub(super) fn queues(&self) -> MutexGuard<'_, Queues> {
        self.queues.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn moment(&self) -> Moment {
        Moment { now: Instant::now(), bucket: bucket_of(self.stamps.now()), is_open: self.link.is_open() }
    }

    /// Makes sure of the stream for the first time, trying on until that succeeds or cannot.
    async fn first_look(&self) -> Result<(), StreamError> {
        loop {
            if let Err(error) = self.link.stream.context.client().flush().await {
                return Err(StreamError::Request { attempted: "reach NATS", source: error.into() });
            }
            match self.link.ensure().await {
                Ok(skew_ms) => {
                    check_skew(skew_ms)?;
                    self.link.open();
                    return Ok(());
                }
                Err(error) if error.is_final() => return Err(error),
                Err(error) => tracing::warn!(error = &error as &dyn std::error::Error, "the stream is not ready yet"),
            }
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    }

    /// Sends what waits in a queue, one event after another, until nothing does.
    async fn send_all(self: Arc<Self>, about: About) {
        let mut seen = Seen::default();
        loop {
            let Some(letter) = self.queues().front(about) else { return };
            self.send(&letter, &mut seen).await;
            let (events, bytes) = {
                let mut queues = self.queues();
                queues.left(about);
                queues.waiting()
            };
            self.metrics.waiting(events, bytes);
        }
    }

    /// Returns when the stream has the event, however long that takes.
    async fn send(&self, letter: &Letter, seen: &mut Seen) {
        loop {
            self.link.opened().await;
            if self.link.stream.settings.is_old(letter.id, self.stamps.now()) {
                match self.look(letter, seen).await {
                    Ok(false) => {}
                    Ok(true) => {
                        self.metrics.found();
                        return;
                    }
                    Err(error) => {
                        self.sent_in_vain(letter, &error);
                        continue;
                    }
                }
            } else {
                *seen = Seen::default();
            }
            let _permit = self.in_flight.acquire().await.expect("it is never closed");
            if !self.link.is_open() {
                continue;
            }
            let sent_at = Instant::now();
            match self.publish(letter).await {
                Ok(()) => {
                    self.metrics.acknowledged(sent_at.elapsed());
                    *self.taken_at.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
                    self.link.has_worked();
                    return;
                }
                Err(error) => {
                    self.metrics.unacknowledged();
                    let taken_at = *self.taken_at.lock().unwrap_or_else(PoisonError::into_inner);
                    if error.kind() == PublishErrorKind::TimedOut && taken_at > sent_at {
                        // The stream took others in the meantime, so the next attempt may do better.
                        self.queues().stuck(letter.about);
                        self.something_due.notify_one();
                    } else {
                        self.sent_in_vain(letter, &error);
                    }
                }
            }
        }
    }

    fn sent_in_vain(&self, letter: &Letter, error: &(dyn std::error::Error + 'static)) {
        self.queues().stuck(letter.about);
        self.link.doubt(error);
        self.something_due.notify_one();
    }

    async fn publish(&self, letter: &Letter) -> Result<(), async_nats::jetstream::context::PublishError> {
        let message = PublishMessage::build().payload(letter.envelope.clone()).message_id(letter.id.to_string());
        let subject = self.link.stream.settings.cell.event(letter.about);
        self.context.send_publish(subject, message).await?.await?;
        Ok(())
    }

    /// Whether the stream has an event already.
    async fn look(&self, letter: &Letter, seen: &mut Seen) -> Result<bool, StreamError> {
        let settings = &self.link.stream.settings;
        if !seen.covers(letter, settings) {
            let _permit = self.looks.acquire().await.expect("it is never closed");
            let since = letter.id.timestamp().plus_millis(-(settings.margin().as_millis() as i64));
            let looked_at = Instant::now();
            let ids = self.link.stream.ids_since(letter.about, since).await?;
            *seen = Seen { looked_at: Some(looked_at), since, ids };
        }
        Ok(seen.ids.contains(&letter.id))
    }
}

/// What a subject's task knows of the stream.
#[derive(Default)]
struct Seen {
    looked_at: Option<Instant>,
    /// It holds everything from this time on.
    since: Timestamp,
    ids: HashSet<EventId>,
}

impl Seen {
    /// Whether it tells if the stream has an event. What others have sent since, the stream still drops by itself.
    fn covers(&self, letter: &Letter, settings: &StreamSettings) -> bool {
        let is_fresh = |at: Instant| at.elapsed() < settings.duplicate_window - settings.margin();
        self.looked_at.is_some_and(is_fresh) && self.since <= letter.id.timestamp()
    }
}
