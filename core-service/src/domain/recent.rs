//! What core remembers of the conversations it is busy with: the members, and the recent past.
//!
//! The recent past is the messages of the last 15 minutes, at most 5,000, as far as telling a resend needs them. Each
//! conversation has one lock; stamping a message and queueing it to the store happen under it, so the messages one
//! process stores in a conversation are stored in the order of their stamps. A copy serves for two seconds, then it
//! is renewed from the store; owning a conversation only makes the copy warm, correctness does not rest on it.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use dashmap::DashMap;
use futures_util::FutureExt;
use futures_util::future::Shared;
use proto::ids::{ConversationId, MessageId, Timestamp, UserId};
use tokio::sync::{Mutex, MutexGuard};
use tokio::time::Instant;

use super::clock::Stamps;
use super::conversation::ConversationRecord;
use super::event::Event;
use super::message::{Fingerprint, RecentMessage};
use super::session::Attempt;
use crate::store::{ConversationChange, Erasure, Store, StoreError, Written};

/// A decision may rest on a copy of at most this age.
const COPY_AGE: Duration = Duration::from_secs(2);
/// A message may be resent for so long, in milliseconds.
const RESEND_MS: i64 = 15 * 60 * 1000;
/// Messages of one conversation remembered at most.
const REMEMBERED: usize = 5_000;
/// A conversation nobody asked for this long is forgotten.
const IDLE: Duration = Duration::from_secs(60);
/// Stamps run ahead of the clock by at most this, in milliseconds.
const AHEAD_MS: i64 = 1_000;

/// The conversations this process is busy with.
pub struct Conversations {
    store: Arc<dyn Store>,
    stamps: Arc<Stamps>,
    busy: DashMap<ConversationId, Arc<BusyConversation>>,
}

/// One conversation this process is busy with.
pub struct BusyConversation {
    /// Which.
    pub id: ConversationId,
    copy: Mutex<Copy>,
    /// Held while read marks are changed: of what two calls read at the same time, each message is announced once.
    pub reading: Mutex<()>,
}

/// What is known of a conversation.
struct Copy {
    record: Option<Arc<ConversationRecord>>,
    /// When `record` was read.
    record_at: Option<Instant>,
    recent: RecentPast,
    /// When `recent` was read.
    recent_at: Option<Instant>,
    used_at: Instant,
}

/// A conversation under its lock, with a recent past fresh enough to decide on.
pub struct LockedConversation<'a> {
    /// The conversation and its members.
    pub record: Arc<ConversationRecord>,
    copy: MutexGuard<'a, Copy>,
    stamps: &'a Stamps,
}

impl Conversations {
    /// None yet.
    pub fn new(store: Arc<dyn Store>, stamps: Arc<Stamps>) -> Self {
        Self { store, stamps, busy: DashMap::new() }
    }

    /// The conversation's place here; it may not exist.
    pub fn place(&self, id: ConversationId) -> Arc<BusyConversation> {
        let place = self.busy.entry(id).or_insert_with(|| {
            let copy = Copy {
                record: None,
                record_at: None,
                recent: RecentPast::default(),
                recent_at: None,
                used_at: Instant::now(),
            };
            Arc::new(BusyConversation { id, copy: Mutex::new(copy), reading: Mutex::new(()) })
        });
        Arc::clone(&place)
    }

    /// The conversation and its members; `None` when there is no such conversation.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn record(&self, id: ConversationId) -> Result<Option<Arc<ConversationRecord>>, StoreError> {
        let place = self.place(id);
        let mut copy = place.copy.lock().await;
        copy.renew_record(id, &*self.store).await
    }

    /// The conversation under its lock. `afresh` reads it anew, whatever the copy's age: another process may have
    /// seen the same attempt.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn lock<'a>(
        &'a self,
        place: &'a BusyConversation,
        afresh: bool,
    ) -> Result<Option<LockedConversation<'a>>, StoreError> {
        let mut copy = place.copy.lock().await;
        if afresh {
            copy.record_at = None;
            copy.recent_at = None;
        }
        copy.renew_recent(place.id, &*self.store, self.stamps.now()).await?;
        let record = copy.renew_record(place.id, &*self.store).await?;
        Ok(record.map(|record| LockedConversation { record, copy, stamps: &self.stamps }))
    }

    /// Forgets what nobody asked for lately. To be called every now and then.
    pub fn forget_idle(&self) {
        self.busy.retain(|_, place| {
            // Whoever holds a place keeps it, else two locks of one conversation could exist.
            Arc::strong_count(place) > 1
                || place.copy.try_lock().is_ok_and(|copy| copy.used_at.elapsed() < IDLE || copy.recent.is_waiting())
        });
    }
}

impl BusyConversation {
    /// After this message's write failed, its fate is looked up before the next decision.
    pub async fn forget(&self, id: MessageId) {
        let mut copy = self.copy.lock().await;
        copy.recent.remove(id);
        copy.recent_at = None;
    }
}

impl Copy {
    async fn renew_record(
        &mut self,
        id: ConversationId,
        store: &dyn Store,
    ) -> Result<Option<Arc<ConversationRecord>>, StoreError> {
        self.used_at = Instant::now();
        if !is_fresh(self.record_at) {
            let read_at = Instant::now();
            self.record = store.lookup_conversation(id).await?.map(Arc::new);
            // That there is none is never remembered: it may be made at any moment.
            self.record_at = self.record.is_some().then_some(read_at);
        }
        Ok(self.record.clone())
    }

    async fn renew_recent(&mut self, id: ConversationId, store: &dyn Store, now: Timestamp) -> Result<(), StoreError> {
        if !is_fresh(self.recent_at) {
            let read_at = Instant::now();
            let since = MessageId::first_of(now.plus_millis(-RESEND_MS));
            let from = self.recent.unread_from(since);
            let (newest, messages) =
                tokio::try_join!(store.newest_message_id(id), store.list_recent(id, from, REMEMBERED))?;
            self.recent.add_stored(newest, messages);
            self.recent_at = Some(read_at);
        }
        self.recent.forget_before(MessageId::first_of(now.plus_millis(-RESEND_MS)));
        Ok(())
    }
}

impl Copy {
    /// From here on nothing is known for certain until the change has ended. Returns when the recent past was read.
    fn begin_change(&mut self) -> Option<Instant> {
        self.record_at = None;
        self.recent_at.take()
    }

    /// The change was written and left this.
    fn end_change(&mut self, record: Option<Arc<ConversationRecord>>, recent_at: Option<Instant>) {
        self.record_at = record.is_some().then(Instant::now);
        self.record = record;
        self.recent_at = recent_at;
    }
}

fn is_fresh(read_at: Option<Instant>) -> bool {
    read_at.is_some_and(|read_at| read_at.elapsed() <= COPY_AGE)
}

impl LockedConversation<'_> {
    /// The message that this would be a second copy of, if there is one.
    pub fn find_original(
        &self,
        from: UserId,
        attempt: Attempt,
        fingerprint: Option<Fingerprint>,
    ) -> Option<Arc<Remembered>> {
        self.copy.recent.find_original(from, attempt, fingerprint)
    }

    /// A stamp for the next message: now, or a millisecond above the newest message.
    ///
    /// # Errors
    /// How long to wait when that would be too far ahead of the clock.
    pub fn next_stamp(&self) -> Result<Timestamp, Duration> {
        let now = self.stamps.now();
        let stamp = self.copy.recent.newest.map_or(now, |newest| now.max(newest.timestamp().plus_millis(1)));
        let ahead = stamp.millis() - now.millis() - AHEAD_MS;
        match u64::try_from(ahead) {
            Ok(ahead) if ahead > 0 => Err(Duration::from_millis(ahead)),
            _ => Ok(stamp),
        }
    }

    /// Writes a change of this conversation, if no other process changed it meanwhile; whether it was written. What is
    /// decided here next rests on the conversation as it is then. Its messages are stamped from [`Self::next_stamp`] on.
    ///
    /// # Errors
    /// Those of the store. The fate of the change is open then, and looked up before the next decision.
    pub async fn change(
        &mut self,
        store: &dyn Store,
        change: ConversationChange,
        event: Event,
    ) -> Result<bool, StoreError> {
        let record = Arc::new(change.applied_to(&self.record));
        let messages: Vec<_> = change.messages.iter().map(RecentMessage::from).collect();
        let recent_at = self.copy.begin_change();
        let is_written = store.change_conversation(change, event).await?;
        if is_written {
            for message in messages {
                self.copy.recent.add(Arc::new(Remembered { message, written: None }));
            }
            self.copy.end_change(Some(Arc::clone(&record)), recent_at);
            self.record = record;
        }
        Ok(is_written)
    }

    /// Erases this conversation, as [`Self::change`] changes it.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn erase(&mut self, store: &dyn Store, attempt: Attempt, event: Event) -> Result<bool, StoreError> {
        let erasure = Erasure { id: self.record.conversation.id, expected_version: self.record.version, attempt };
        let recent_at = self.copy.begin_change();
        let is_written = store.erase_conversation(erasure, event).await?;
        if is_written {
            self.copy.end_change(None, recent_at);
        }
        Ok(is_written)
    }

    /// Remembers a message that has just been queued to the store.
    pub fn remember(&mut self, message: RecentMessage, written: Written) -> Arc<Remembered> {
        let remembered = Arc::new(Remembered { message, written: Some(written.shared()) });
        self.copy.recent.add(Arc::clone(&remembered));
        remembered
    }
}

/// A remembered message, stored or on its way.
pub struct Remembered {
    /// What is known of it.
    pub message: RecentMessage,
    /// `None`: it was read from the store.
    written: Option<Shared<Written>>,
}

impl Remembered {
    /// Whether it is known from the store alone: whether its event has left was not seen here.
    pub fn is_from_store(&self) -> bool {
        self.written.is_none()
    }

    /// Waits until the message and its event are safe.
    ///
    /// # Errors
    /// When the write failed.
    pub async fn written(&self) -> Result<(), StoreError> {
        match &self.written {
            Some(written) => written.clone().await,
            None => Ok(()),
        }
    }
}

/// The messages a resend is looked for in.
#[derive(Default)]
struct RecentPast {
    /// The newest message of the conversation, however old.
    newest: Option<MessageId>,
    messages: BTreeMap<MessageId, Arc<Remembered>>,
    by_attempt: HashMap<Attempt, MessageId>,
    by_fingerprint: HashMap<(UserId, Fingerprint), Vec<MessageId>>,
    /// The lowest id whose fate is open since its write failed.
    doubtful_from: Option<MessageId>,
}

impl RecentPast {
    /// From where on the store may hold what is not here.
    fn unread_from(&self, since: MessageId) -> MessageId {
        let known_to = self.messages.last_key_value().map(|(id, _)| id.successor());
        let from = known_to.map_or(since, |known_to| known_to.max(since));
        self.doubtful_from.map_or(from, |doubtful| doubtful.min(from))
    }

    fn add_stored(&mut self, newest: Option<MessageId>, stored: Vec<RecentMessage>) {
        for message in stored {
            if !self.messages.contains_key(&message.id) {
                self.add(Arc::new(Remembered { message, written: None }));
            }
        }
        self.newest = self.newest.max(newest);
        self.doubtful_from = None;
    }

    fn add(&mut self, remembered: Arc<Remembered>) {
        let RecentMessage { id, from, attempt, fingerprint } = remembered.message;
        self.newest = self.newest.max(Some(id));
        // Of two rows of one attempt the lower id counts.
        self.by_attempt.entry(attempt).and_modify(|known| *known = id.min(*known)).or_insert(id);
        if let Some(fingerprint) = fingerprint {
            self.by_fingerprint.entry((from, fingerprint)).or_default().push(id);
        }
        self.messages.insert(id, remembered);
        while self.messages.len() > REMEMBERED {
            self.remove_first();
        }
    }

    fn find_original(
        &self,
        from: UserId,
        attempt: Attempt,
        fingerprint: Option<Fingerprint>,
    ) -> Option<Arc<Remembered>> {
        let same_attempt = self.by_attempt.get(&attempt);
        let resent = || {
            let ids = self.by_fingerprint.get(&(from, fingerprint?))?;
            let is_elsewhere =
                |id: &&MessageId| self.messages[*id].message.attempt.connection_id != attempt.connection_id;
            ids.iter().filter(is_elsewhere).max()
        };
        let id = same_attempt.or_else(resent)?;
        self.messages.get(id).filter(|original| original.message.from == from).cloned()
    }

    fn forget_before(&mut self, since: MessageId) {
        while self.messages.first_key_value().is_some_and(|(&id, _)| id < since) {
            self.remove_first();
        }
    }

    fn remove_first(&mut self) {
        if let Some((&id, _)) = self.messages.first_key_value() {
            self.drop_message(id);
        }
    }

    /// Takes out a message whose write failed.
    fn remove(&mut self, id: MessageId) {
        self.drop_message(id);
        self.doubtful_from = Some(self.doubtful_from.map_or(id, |doubtful| doubtful.min(id)));
    }

    fn drop_message(&mut self, id: MessageId) {
        let Some(remembered) = self.messages.remove(&id) else {
            return;
        };
        let RecentMessage { from, attempt, fingerprint, .. } = remembered.message;
        if self.by_attempt.get(&attempt) == Some(&id) {
            self.by_attempt.remove(&attempt);
        }
        if let Some(key) = fingerprint.map(|fingerprint| (from, fingerprint))
            && let Some(ids) = self.by_fingerprint.get_mut(&key)
        {
            ids.retain(|&other| other != id);
            if ids.is_empty() {
                self.by_fingerprint.remove(&key);
            }
        }
    }

    /// Whether a write is still on its way.
    fn is_waiting(&self) -> bool {
        self.messages.values().any(|message| message.written.as_ref().is_some_and(|written| written.peek().is_none()))
    }
}
