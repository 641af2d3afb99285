//! What a change of a conversation leaves to be done elsewhere, so that every change is whole.
//!
//! A change is one conditional batch on the conversation's partition. What it entails in other partitions, and its event,
//! are written with it as the static `unfinished`; then they are done, in steps that can be repeated, and last
//! `unfinished` is set to null. A conversation is changed only where nothing is unfinished. Whoever reads one and finds
//! something finishes it first: the process that made the change may have died at any step.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use dashmap::DashMap;
use prost::Message as _;
use proto::ids::{ConnectionId, ConversationId, EventId, InvalidId, MessageId, UserId};
use tokio::sync::Mutex;

use super::conversations::Head;
use super::{ScyllaStore, activity, append, conversations, erasing};
use crate::domain::conversation::{Conversation, ConversationRecord, Member};
use crate::domain::event::{Event, Subject};
use crate::domain::message::{Fingerprint, Message, MessageContent, NewMessage};
use crate::domain::session::Attempt;
use crate::publish::Envelope;
use crate::publish::envelope::encode_event;
use crate::store::{StoreError, Written};

/// What is to be done, as it is kept.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Work {
    #[prost(bytes = "bytes", tag = "1")]
    event_id: Bytes,
    /// The event as it leaves.
    #[prost(bytes = "bytes", tag = "2")]
    event: Bytes,
    /// What is said with the change.
    #[prost(message, repeated, tag = "3")]
    said: Vec<Said>,
    /// In whose lists the conversation moves; nobody's for a channel.
    #[prost(bytes = "bytes", repeated, tag = "4")]
    active: Vec<Bytes>,
    /// In which hours.
    #[prost(int32, repeated, tag = "5")]
    hours: Vec<i32>,
    /// Who is in it no longer.
    #[prost(bytes = "bytes", repeated, tag = "6")]
    gone: Vec<Bytes>,
}

/// A message, as it is kept.
#[derive(Clone, PartialEq, prost::Message)]
struct Said {
    #[prost(bytes = "bytes", tag = "1")]
    id: Bytes,
    #[prost(bytes = "bytes", tag = "2")]
    from: Bytes,
    #[prost(string, tag = "3")]
    body: String,
    #[prost(string, optional, tag = "4")]
    attachments_json: Option<String>,
    #[prost(string, optional, tag = "5")]
    x_json: Option<String>,
    #[prost(bytes = "bytes", optional, tag = "6")]
    replied_message_id: Option<Bytes>,
    #[prost(string, optional, tag = "7")]
    forwarded_message_id: Option<String>,
    #[prost(uint32, optional, tag = "8")]
    encrypted_message_type: Option<u32>,
    #[prost(bytes = "bytes", tag = "9")]
    attempt_connection_id: Bytes,
    #[prost(uint64, tag = "10")]
    attempt_frame: u64,
    #[prost(bytes = "bytes", optional, tag = "11")]
    fingerprint: Option<Bytes>,
    #[prost(bytes = "bytes", repeated, tag = "12")]
    hidden_for: Vec<Bytes>,
}

impl Work {
    /// Nothing but an event.
    pub(super) fn telling(event: &Event) -> Self {
        Self { event_id: event.id.to_field(), event: encode_event(event.clone()).into(), ..Self::default() }
    }

    /// And what is said with the change.
    pub(super) fn saying(self, messages: &[NewMessage]) -> Self {
        Self { said: messages.iter().map(Said::from).collect(), ..self }
    }

    /// And the conversation moving in the lists of these users, in these hours.
    pub(super) fn moving(self, users: &[UserId], hours: impl IntoIterator<Item = i32>) -> Self {
        let hours: BTreeSet<_> = hours.into_iter().collect();
        Self { active: users.iter().map(|id| id.to_field()).collect(), hours: hours.into_iter().collect(), ..self }
    }

    /// And the conversation leaving the lists of these users.
    pub(super) fn leaving(self, users: &[UserId]) -> Self {
        Self { gone: users.iter().map(|id| id.to_field()).collect(), ..self }
    }

    /// The bytes that are kept.
    pub(super) fn encode(&self) -> Vec<u8> {
        self.encode_to_vec()
    }

    fn of(head: &Head) -> Result<Option<Self>, StoreError> {
        let Some(bytes) = &head.unfinished else { return Ok(None) };
        Self::decode(bytes.as_slice()).map(Some).map_err(|_| corrupt(head.conversation.id))
    }

    fn envelope(&self, id: ConversationId) -> Result<Envelope, InvalidId> {
        let subject = Subject::Conversation(id);
        Ok(Envelope { id: EventId::try_from(&self.event_id[..])?, subject, bytes: self.event.clone() })
    }

    fn messages(&self, id: ConversationId) -> Option<Vec<NewMessage>> {
        self.said.iter().map(|said| said.decode(id)).collect()
    }
}

/// The state after a change whose work is to be done.
#[derive(Clone, Copy)]
pub(super) struct Changed<'a> {
    pub(super) conversation: &'a Conversation,
    pub(super) version: u64,
    pub(super) is_erased: bool,
}

/// Does what this process's own change entails. Somebody else may be doing it too, where the answer to the change was lost.
pub(super) async fn carry_out(
    store: &ScyllaStore,
    changed: Changed<'_>,
    work: &Work,
    event: Event,
) -> Result<(), StoreError> {
    once(store, changed, work, || store.inner.publisher.publish(event)).await
}

/// Does what is unfinished of somebody's change, if anything is.
pub(super) async fn finish(store: &ScyllaStore, head: &Head) -> Result<(), StoreError> {
    let Some(work) = Work::of(head)? else { return Ok(()) };
    let id = head.conversation.id;
    let envelope = work.envelope(id).map_err(|_| corrupt(id))?;
    let changed = Changed { conversation: &head.conversation, version: head.version, is_erased: head.is_erased() };
    once(store, changed, &work, || store.inner.publisher.publish_envelope(envelope)).await
}

/// The conversation after what is unfinished of it was done; `None` for an erased one.
pub(super) async fn finished(
    store: &ScyllaStore,
    (head, members): (Head, Vec<Member>),
) -> Result<Option<ConversationRecord>, StoreError> {
    finish(store, &head).await?;
    let Head { conversation, version, erased_at, .. } = head;
    Ok(erased_at.is_none().then_some(ConversationRecord { conversation, version, members }))
}

/// A conversation with its members, with nothing unfinished.
pub(super) async fn lookup_whole(
    store: &ScyllaStore,
    id: ConversationId,
) -> Result<Option<ConversationRecord>, StoreError> {
    match conversations::lookup(store, id).await? {
        Some(found) => finished(store, found).await,
        None => Ok(None),
    }
}

/// Does it, unless another call of this process does: then it waits for that.
async fn once(
    store: &ScyllaStore,
    changed: Changed<'_>,
    work: &Work,
    tell: impl FnOnce() -> Written,
) -> Result<(), StoreError> {
    let place = store.inner.works.enter(changed.conversation.id, changed.version);
    let mut is_done = place.is_done.lock().await;
    if !*is_done {
        do_all(store, changed, work, tell).await?;
        *is_done = true;
    }
    Ok(())
}

async fn do_all(
    store: &ScyllaStore,
    changed: Changed<'_>,
    work: &Work,
    tell: impl FnOnce() -> Written,
) -> Result<(), StoreError> {
    let Changed { conversation, version, is_erased } = changed;
    let id = conversation.id;
    let messages = work.messages(id).ok_or_else(|| corrupt(id))?;
    let users = |fields: &[Bytes]| fields.iter().map(|id| UserId::try_from(&id[..])).collect::<Result<Vec<_>, _>>();
    let active = users(&work.active).map_err(|_| corrupt(id))?;
    let gone = users(&work.gone).map_err(|_| corrupt(id))?;
    let say = async { if messages.is_empty() { Ok(()) } else { append::write_rows(&store.inner, &messages).await } };
    let erase = async { if is_erased { erasing::release(store, conversation).await } else { Ok(()) } };
    futures_util::try_join!(
        say,
        activity::note(&store.inner, id, &active, &work.hours),
        conversations::unlist(store, id, &gone, version),
        erase,
    )?;
    tell().await?;
    // Where this fails, the next one to read the conversation does it all again.
    let values = (id.as_bytes().as_slice(), version.cast_signed());
    let cleared = store.inner.database.compare_and_set(&store.inner.conversations.clear_unfinished, values).await;
    if let Err(error) = cleared {
        tracing::debug!(error = &error as &dyn std::error::Error, conversation.id = %id, "did not note a change as done");
    }
    Ok(())
}

/// The changes whose work this process is doing at the moment.
#[derive(Default)]
pub(super) struct Works(DashMap<(ConversationId, u64), Arc<Mutex<bool>>>);

impl Works {
    fn enter(&self, id: ConversationId, version: u64) -> Place<'_> {
        let is_done = Arc::clone(&self.0.entry((id, version)).or_default());
        Place { works: self, key: (id, version), is_done }
    }
}

/// A call that does a work, or waits for it.
struct Place<'a> {
    works: &'a Works,
    key: (ConversationId, u64),
    is_done: Arc<Mutex<bool>>,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        // The map's and this one's: nobody else is here.
        self.works.0.remove_if(&self.key, |_, is_done| Arc::strong_count(is_done) <= 2);
    }
}

fn corrupt(id: ConversationId) -> StoreError {
    StoreError::Corrupt { table: "conversations", column: "unfinished", key: id.to_string() }
}

impl From<&NewMessage> for Said {
    fn from(new: &NewMessage) -> Self {
        let NewMessage { message, attempt, fingerprint, hidden_for } = new;
        let MessageContent {
            body,
            attachments,
            x_json,
            replied_message_id,
            forwarded_message_id,
            encrypted_message_type,
        } = &message.content;
        let has_attachments = !attachments.is_empty();
        Self {
            id: message.id.to_field(),
            from: message.from.to_field(),
            body: body.clone(),
            attachments_json: has_attachments
                .then(|| serde_json::to_string(attachments).expect("attachments are texts and numbers")),
            x_json: x_json.clone(),
            replied_message_id: replied_message_id.map(MessageId::to_field),
            forwarded_message_id: forwarded_message_id.clone(),
            encrypted_message_type: encrypted_message_type.map(u32::from),
            attempt_connection_id: attempt.connection_id.to_field(),
            attempt_frame: attempt.frame,
            fingerprint: fingerprint.map(|Fingerprint(digest)| Bytes::copy_from_slice(&digest)),
            hidden_for: hidden_for.iter().map(|id| id.to_field()).collect(),
        }
    }
}

impl Said {
    fn decode(&self, conversation_id: ConversationId) -> Option<NewMessage> {
        let attachments = self.attachments_json.as_deref().map(serde_json::from_str);
        let replied_message_id = self.replied_message_id.as_deref().map(MessageId::try_from);
        let fingerprint = self.fingerprint.as_deref().map(<[u8; 16]>::try_from);
        let hidden_for = self.hidden_for.iter().map(|id| UserId::try_from(&id[..]));
        let content = MessageContent {
            body: self.body.clone(),
            attachments: attachments.transpose().ok()?.unwrap_or_default(),
            x_json: self.x_json.clone(),
            replied_message_id: replied_message_id.transpose().ok()?,
            forwarded_message_id: self.forwarded_message_id.clone(),
            encrypted_message_type: self.encrypted_message_type.map(u8::try_from).transpose().ok()?,
        };
        Some(NewMessage {
            message: Message {
                id: MessageId::try_from(&self.id[..]).ok()?,
                conversation_id,
                from: UserId::try_from(&self.from[..]).ok()?,
                content,
            },
            attempt: Attempt {
                connection_id: ConnectionId::try_from(&self.attempt_connection_id[..]).ok()?,
                frame: self.attempt_frame,
            },
            fingerprint: fingerprint.transpose().ok()?.map(Fingerprint),
            hidden_for: hidden_for.collect::<Result<_, _>>().ok()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::message::Attachment;

    #[test]
    fn what_is_said_with_a_change_is_kept_whole() {
        let conversation_id = ConversationId::from_bytes([1; 12]);
        let id = |byte| MessageId::from_bytes([byte; 12]);
        let full = NewMessage {
            message: Message {
                id: id(2),
                conversation_id,
                from: UserId::from_bytes([3; 12]),
                content: MessageContent {
                    body: "hello".to_owned(),
                    attachments: vec![Attachment { file_size: Some(7), ..Attachment::default() }],
                    x_json: Some("{}".to_owned()),
                    replied_message_id: Some(id(4)),
                    forwarded_message_id: Some("any".to_owned()),
                    encrypted_message_type: Some(1),
                },
            },
            attempt: Attempt { connection_id: ConnectionId::from_bytes([5; 12]), frame: u64::MAX },
            fingerprint: Some(Fingerprint([6; 16])),
            hidden_for: vec![UserId::from_bytes([7; 12]), UserId::from_bytes([8; 12])],
        };
        let plain = NewMessage {
            message: Message { content: MessageContent::default(), ..full.message.clone() },
            fingerprint: None,
            hidden_for: Vec::new(),
            ..full.clone()
        };
        let kept = Work::default().saying(&[full.clone(), plain.clone()]).encode();
        let read = Work::decode(kept.as_slice()).unwrap();
        assert_eq!(read.messages(conversation_id), Some(vec![full, plain]));
    }
}
