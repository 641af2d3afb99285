//! The way of messages into the store: a queue for each conversation that is being written to.
//!
//! A message is queued before [`append`] returns. One task at a time takes what waits in a conversation, writes it, hands
//! the events to the publisher in order, and goes on with what has come meanwhile. So messages of one conversation become
//! visible and leave in the order of the calls, and a burst shares a write: the rows of one bucket are one batch, since
//! they are one partition, and beside it each message's location is written. A write that fails fails its messages and
//! no other.
//!
//! In a conversation that is busy a message costs these two writes and no read. What is read at times is which bucket is
//! open (see `buckets`); what is written at times is that the bucket has grown, and in an hour's first message that its
//! members' conversation was active (see `activity`).

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use dashmap::DashMap;
use futures_util::future::BoxFuture;
use futures_util::{FutureExt, StreamExt, TryStreamExt, stream};
use proto::ids::{ConversationId, MessageId, UserId};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::time::Instant;
use tracing::{Instrument, Span};

use super::buckets::{self, NewestBucket};
use super::messages::values;
use super::{Inner, activity};
use crate::domain::conversation::ConversationType;
use crate::domain::event::{Event, Fact};
use crate::domain::message::NewMessage;
use crate::store::{StoreError, Written, span};

/// So much may wait to be written, in KiB, of all conversations together; more is refused.
const WAITING_KIB: usize = 64 * 1024;
/// A message that has waited longer is refused: who called has given up by the time it is written, and sends it again.
const LONGEST_WAIT: Duration = Duration::from_millis(800);
/// So many messages share a write.
const BATCH_LENGTH: usize = 250;
/// And so many bytes: servers warn above 128 KiB. A message that is longer goes alone.
const BATCH_BYTES: usize = 100 * 1024;
/// So many locations of a batch are written at once.
const LOCATIONS_AT_ONCE: usize = 64;
/// What is known of a conversation is forgotten when nothing was written to it for so long. It is kept over an hour, so
/// that the members' activity is noted once in an hour.
const IDLE: Duration = Duration::from_secs(3_700);
/// At so many known conversations the idle ones are looked for.
const MANY: usize = 4_096;

const ATTEMPTED: &str = "add a message";

/// The conversations that are being written to, or were lately.
pub(super) struct Appends {
    lanes: DashMap<ConversationId, Lane>,
    /// One permit for each KiB.
    room: Arc<Semaphore>,
    longest_wait: Duration,
    /// At so many lanes idle ones are looked for.
    crowded: AtomicUsize,
}

/// One conversation's queue.
#[derive(Default)]
struct Lane {
    waiting: VecDeque<Waiting>,
    /// Whether a task is at it.
    is_draining: bool,
    /// `None` while the task has it, and where nothing is known.
    known: Option<Known>,
}

/// What is remembered between two writes to a conversation.
struct Known {
    newest_bucket: Option<NewestBucket>,
    /// The hour, since the epoch, up to which the members' activity has been noted.
    noted_hour: Option<i32>,
    used_at: Instant,
}

enum Waiting {
    Message(Box<Queued>),
    /// Whoever wants to know that everything before has been handed to the publisher.
    Settled(oneshot::Sender<()>),
}

/// A message that waits to be written.
struct Queued {
    new: NewMessage,
    event: Event,
    queued_at: Instant,
    size: usize,
    /// The call that it is part of.
    caller: Span,
    /// Gets what tells that the event is safe.
    answer: oneshot::Sender<Result<Written, StoreError>>,
    _room: OwnedSemaphorePermit,
}

/// Why a message was not written.
#[derive(Debug, thiserror::Error)]
#[error("the task that writes to the conversation has ended")]
struct TaskEnded;

impl Appends {
    pub(super) fn new() -> Self {
        Self::with_longest_wait(LONGEST_WAIT)
    }

    pub(super) fn with_longest_wait(longest_wait: Duration) -> Self {
        let room = Arc::new(Semaphore::new(WAITING_KIB));
        Self { lanes: DashMap::new(), room, longest_wait, crowded: MANY.into() }
    }

    /// Queues a message, or whoever waits for those before him; whether a task must be started for it.
    fn queue(&self, conversation_id: ConversationId, waiting: Waiting) -> bool {
        let mut lane = self.lanes.entry(conversation_id).or_default();
        lane.waiting.push_back(waiting);
        !std::mem::replace(&mut lane.is_draining, true)
    }

    /// What is written next; `None` when nothing waits, and then the task must end.
    fn next(&self, conversation_id: ConversationId, known: &mut Option<Known>) -> Option<Vec<Queued>> {
        let mut lane = self.lanes.get_mut(&conversation_id)?;
        let mut batch: Vec<Queued> = Vec::new();
        let mut bytes = 0;
        while let Some(waiting) = lane.waiting.pop_front() {
            match waiting {
                Waiting::Settled(answer) if batch.is_empty() => {
                    // Nobody may wait any more.
                    let _ = answer.send(());
                }
                Waiting::Message(queued)
                    if batch.is_empty() || (batch.len() < BATCH_LENGTH && bytes + queued.size <= BATCH_BYTES) =>
                {
                    bytes += queued.size;
                    batch.push(*queued);
                }
                Waiting::Settled(_) | Waiting::Message(_) => {
                    lane.waiting.push_front(waiting);
                    break;
                }
            }
        }
        if batch.is_empty() {
            lane.is_draining = false;
            lane.known = known.take();
            // A burst leaves no room behind.
            lane.waiting = VecDeque::new();
            return None;
        }
        Some(batch)
    }

    /// Forgets idle conversations when there are many.
    fn forget_idle(&self) {
        if self.lanes.len() < self.crowded.load(Ordering::Relaxed) {
            return;
        }
        self.lanes.retain(|_, lane| {
            lane.is_draining || lane.known.as_ref().is_some_and(|known| known.used_at.elapsed() < IDLE)
        });
        self.crowded.store(MANY.max(2 * self.lanes.len()), Ordering::Relaxed);
    }
}

/// Queues a message with its event, before it returns.
pub(super) fn append(inner: &Arc<Inner>, new: NewMessage, event: Event) -> Written {
    let conversation_id = new.message.conversation_id;
    let size = size_of(&new);
    // The event has it once more.
    let kib = u32::try_from(2 * size / 1024 + 1).unwrap_or(u32::MAX);
    let Ok(room) = Arc::clone(&inner.appends.room).try_acquire_many_owned(kib) else {
        return std::future::ready(Err(StoreError::Overloaded)).boxed();
    };
    let (answer, answered) = oneshot::channel();
    let queued = Queued { new, event, queued_at: Instant::now(), size, caller: Span::current(), answer, _room: room };
    if inner.appends.queue(conversation_id, Waiting::Message(Box::new(queued))) {
        inner.appends.forget_idle();
        inner.tasks.spawn(drain(Arc::clone(inner), conversation_id));
    }
    let written = async move {
        let ended = |_| StoreError::Unavailable { attempted: ATTEMPTED, source: Arc::new(TaskEnded) };
        answered.await.map_err(ended)??.await
    };
    written.instrument(span(ATTEMPTED)).boxed()
}

/// Waits until the messages that have been queued to a conversation are written, or have failed, and their events have
/// been handed to the publisher. Whoever publishes something else about the conversation does this first, so that it
/// leaves after them.
pub(super) async fn settle(inner: &Inner, conversation_id: ConversationId) {
    let (answer, answered) = oneshot::channel();
    match inner.appends.lanes.get_mut(&conversation_id) {
        Some(mut lane) if lane.is_draining => lane.waiting.push_back(Waiting::Settled(answer)),
        _ => return,
    }
    // Where the task has ended nothing waits any more.
    let _ = answered.await;
}

/// Writes what waits in a conversation until nothing does.
fn drain(inner: Arc<Inner>, conversation_id: ConversationId) -> BoxFuture<'static, ()> {
    async move {
        let mut guard = DrainGuard { inner: &inner, conversation_id, is_done: false };
        let lane = inner.appends.lanes.get_mut(&conversation_id);
        let mut known = lane.and_then(|mut lane| lane.known.take());
        while let Some(batch) = inner.appends.next(conversation_id, &mut known) {
            let known = known.get_or_insert_with(Known::new);
            known.used_at = Instant::now();
            write(&inner, conversation_id, known, batch).await;
        }
        guard.is_done = true;
    }
    .boxed()
}

/// Where a task is dropped halfway, or panics, those that wait learn of it, and the next message finds no stuck queue.
struct DrainGuard<'a> {
    inner: &'a Inner,
    conversation_id: ConversationId,
    is_done: bool,
}

impl Drop for DrainGuard<'_> {
    fn drop(&mut self) {
        if !self.is_done {
            self.inner.appends.lanes.remove(&self.conversation_id);
        }
    }
}

impl Known {
    fn new() -> Self {
        Self { newest_bucket: None, noted_hour: None, used_at: Instant::now() }
    }

    /// The bucket of each of these messages, once what must be written before them is.
    async fn prepare(
        &mut self,
        inner: &Inner,
        conversation_id: ConversationId,
        batch: &[Queued],
    ) -> Result<Vec<MessageId>, StoreError> {
        let mut newest = NewestBucket::look_up(inner, conversation_id, self.newest_bucket.take()).await?;
        let mut places = Vec::with_capacity(batch.len());
        for queued in batch {
            places.push(newest.place(inner, &queued.new).await?);
        }
        if let Some(last) = batch.iter().map(|queued| queued.new.message.id).max() {
            newest.note_if_due(inner, conversation_id, last).await;
        }
        self.newest_bucket = Some(newest);
        for queued in batch {
            self.note_activity(inner, queued).await?;
        }
        Ok(places)
    }

    /// In an hour's first message notes that the conversation of these members was active. Lists of conversations rest on
    /// it, so it is done before the message can be seen.
    async fn note_activity(&mut self, inner: &Inner, queued: &Queued) -> Result<(), StoreError> {
        let message = &queued.new.message;
        let hour = activity::hour_of(message.id.timestamp());
        if self.noted_hour.is_some_and(|noted| hour <= noted) {
            return Ok(());
        }
        let members = active_members(queued);
        if !members.is_empty() {
            activity::note(inner, message.conversation_id, &members, &[hour]).await?;
        }
        self.noted_hour = Some(hour);
        Ok(())
    }
}

/// Everybody whose list the message moves: who is told of it, who sent it, and from whom it is hidden. Nobody in a channel,
/// which lists always look at.
fn active_members(queued: &Queued) -> Vec<UserId> {
    let mut members = Vec::new();
    for step in &queued.event.steps {
        match &step.fact {
            Fact::MessageSent { conversation_type: ConversationType::Channel, .. } => return Vec::new(),
            Fact::MessageSent { .. } => members.extend_from_slice(&step.recipients),
            _ => {}
        }
    }
    members.push(queued.new.message.from);
    members.extend_from_slice(&queued.new.hidden_for);
    members.sort_unstable();
    members.dedup();
    members
}

async fn write(inner: &Inner, conversation_id: ConversationId, known: &mut Known, batch: Vec<Queued>) {
    let batch = refuse_late(inner, batch);
    if batch.is_empty() {
        return;
    }
    let places = match known.prepare(inner, conversation_id, &batch).await {
        Ok(places) => places,
        Err(error) => return answer_all(batch, &error),
    };
    let mut batch = batch.into_iter().zip(places).peekable();
    while let Some((first, bucket)) = batch.next() {
        let mut run = vec![first];
        while let Some((queued, _)) = batch.next_if(|(_, place)| *place == bucket) {
            run.push(queued);
        }
        let run = refuse_late(inner, run);
        let messages: Vec<_> = run.iter().map(|queued| &queued.new).collect();
        match write_run(inner, bucket, &messages, false).await {
            Ok(()) => run.into_iter().for_each(|queued| publish(inner, queued)),
            Err(error) => answer_all(run, &error),
        }
    }
}

/// Those that have not waited too long; the others are refused.
fn refuse_late(inner: &Inner, queued: Vec<Queued>) -> Vec<Queued> {
    let longest_wait = inner.appends.longest_wait;
    let (timely, late): (Vec<_>, Vec<_>) =
        queued.into_iter().partition(|queued| queued.queued_at.elapsed() <= longest_wait);
    answer_all(late, &StoreError::Overloaded);
    timely
}

fn publish(inner: &Inner, Queued { event, caller, answer, .. }: Queued) {
    let written = caller.in_scope(|| inner.publisher.publish(event));
    // Nobody may wait any more; the event leaves all the same.
    let _ = answer.send(Ok(written));
}

fn answer_all(batch: Vec<Queued>, error: &StoreError) {
    for Queued { answer, .. } in batch {
        // As above.
        let _ = answer.send(Err(error.clone()));
    }
}

/// Writes messages that were said with a change of their conversation, all of one conversation. Doing it again changes
/// nothing; their event is not published here.
pub(super) async fn write_rows(inner: &Inner, messages: &[NewMessage]) -> Result<(), StoreError> {
    let Some(first) = messages.first() else { return Ok(()) };
    let beginnings = buckets::list(inner, first.message.conversation_id).await?;
    let place = |new: &NewMessage| buckets::bucket_of(&beginnings, new.message.id);
    let mut rest = messages.iter().peekable();
    while let Some(first) = rest.next() {
        let bucket = place(first);
        let mut bytes = size_of(first);
        let mut run = vec![first];
        while let Some(new) = rest.next_if(|new| place(new) == bucket && bytes + size_of(new) <= BATCH_BYTES) {
            bytes += size_of(new);
            run.push(new);
        }
        write_run(inner, bucket, &run, true).await?;
    }
    Ok(())
}

/// Writes messages of one bucket: their rows at once, and beside them where each is.
async fn write_run(
    inner: &Inner,
    bucket: MessageId,
    messages: &[&NewMessage],
    is_of_change: bool,
) -> Result<(), StoreError> {
    let add = &inner.messages.add_message;
    let rows = async {
        match messages {
            [new] => inner.database.write(add, values(&bucket, new, is_of_change)).await,
            // Empty where all came too late.
            _ => {
                let rows = messages.iter().map(|new| add.with(values(&bucket, new, is_of_change)));
                inner.database.write_batch(&rows.collect::<Vec<_>>()).await
            }
        }
    };
    let locations: Vec<_> = messages.iter().map(|new| write_location(inner, bucket, new)).collect();
    let locations = stream::iter(locations).buffer_unordered(LOCATIONS_AT_ONCE).try_collect::<()>();
    // Both run to their end, so that what is known of a failed write is as much as can be.
    let (rows, locations) = futures_util::join!(rows, locations);
    rows.and(locations)
}

/// Notes where a message is.
pub(super) async fn write_location(inner: &Inner, bucket: MessageId, new: &NewMessage) -> Result<(), StoreError> {
    let message = &new.message;
    let conversation = message.conversation_id.as_bytes().as_slice();
    let values = (message.id.as_bytes().as_slice(), conversation, bucket.as_bytes().as_slice());
    inner.database.write(&inner.messages.add_location, values).await
}

/// About as many bytes as a message takes.
fn size_of(new: &NewMessage) -> usize {
    let content = &new.message.content;
    let attachments = content.attachments.iter().map(|attachment| {
        let texts = [
            &attachment.file_id,
            &attachment.file_name,
            &attachment.file_blur_hash,
            &attachment.file_content_type,
            &attachment.file_url,
        ];
        texts.into_iter().flatten().map(String::len).sum::<usize>() + attachment.other_json.len() + 200
    });
    let texts = [&content.x_json, &content.forwarded_message_id].into_iter().flatten().map(String::len);
    200 + content.body.len() + texts.sum::<usize>() + attachments.sum::<usize>() + 16 * new.hidden_for.len()
}
