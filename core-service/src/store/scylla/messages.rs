//! The table `messages`: what was said. How it is written, `append` says; how its partitions are chosen, `buckets`; how it
//! is read across them, `slices`.
//!
//! A row carries everything that a repeat of the call needs, who is never to see the message included. Two rows of one
//! attempt are one message, of which the lower id counts: a write that was given up may still come through after the
//! repeat of its call has written another. Who finds such a pair among the recent messages deletes the other row.

use std::collections::{HashMap, HashSet};

use proto::ids::{ConversationId, MessageId, UserId};
use scylla::value::MaybeUnset::{self, Set, Unset};

use super::database::statements;
use super::row::Row;
use super::{Inner, buckets, read_marks};
use crate::domain::message::{Fingerprint, Message, MessageContent, MessageMark, NewMessage, RecentMessage};
use crate::domain::session::Attempt;
use crate::store::StoreError;

/// The columns of a mark, or of a whole message, of a part of a bucket.
macro_rules! select {
    ($what:literal, $($end:literal)+) => {
        concat!("SELECT id, ", $what, " FROM messages WHERE conversation_id = ? AND bucket = ? AND ", $($end),+)
    };
}
macro_rules! select_mark {
    ($end:literal) => {
        select!("from_user_id, attempt_connection_id, attempt_frame, fingerprint, hidden_for, is_of_change", $end)
    };
}
macro_rules! select_message {
    ($end:literal) => {
        select!(
            "conversation_id, from_user_id, attempt_connection_id, attempt_frame, fingerprint, hidden_for,
            is_of_change, encrypted_message_type, replied_message_id, forwarded_message_id, attachments_json, x_json,
            body",
            $end
        )
    };
}

statements! {
    /// What is asked and written here.
    pub(super) struct Statements {
        /// add a message
        add_message: "
            INSERT INTO messages (
                conversation_id, bucket, id, from_user_id, attempt_connection_id, attempt_frame, fingerprint, hidden_for,
                is_of_change, encrypted_message_type, replied_message_id, forwarded_message_id, attachments_json, x_json,
                body
            ) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        /// note where a message is
        add_location: "INSERT INTO locations (message_id, conversation_id, bucket) VALUES (?, ?, ?)",
        /// delete the double of a message
        delete_double: "DELETE FROM messages WHERE conversation_id = ? AND bucket = ? AND id = ?",
        /// erase the messages of a conversation
        erase_bucket: "DELETE FROM messages WHERE conversation_id = ? AND bucket = ?",
        /// list marks
        marks_newest_first: select_mark!("id >= ? AND id < ? ORDER BY id DESC LIMIT ?"),
        /// list marks
        marks_oldest_first: select_mark!("id >= ? AND id < ? ORDER BY id ASC LIMIT ?"),
        /// look up marks
        marks_by_ids: select_mark!("id IN ?"),
        /// list messages
        messages_newest_first: select_message!("id >= ? AND id < ? ORDER BY id DESC LIMIT ?"),
        /// list messages
        messages_oldest_first: select_message!("id >= ? AND id < ? ORDER BY id ASC LIMIT ?"),
        /// look up messages
        messages_by_ids: select_message!("id IN ?"),
    }
}

/// Messages take up to half a megabyte each.
const PAGE: i32 = 20;

impl Statements {
    /// With pages that can be read within a request's deadline.
    pub(super) fn in_small_pages(mut self) -> Self {
        for statement in [&mut self.messages_newest_first, &mut self.messages_oldest_first, &mut self.messages_by_ids] {
            statement.in_pages_of(PAGE);
        }
        self
    }
}

/// A message's row without what was said.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct StoredMark {
    pub(super) recent: RecentMessage,
    /// Members who never see it.
    pub(super) hidden_for: Vec<UserId>,
    /// Whether it was said with a change of the conversation, whose event told of it.
    pub(super) is_of_change: bool,
    pub(super) bucket: MessageId,
}

/// A message's row.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct StoredMessage {
    pub(super) new: NewMessage,
    /// As in [`StoredMark`].
    pub(super) is_of_change: bool,
    pub(super) bucket: MessageId,
}

/// The values of a row, in the order of the statement `add_message`. What is not there is left unset, since a null would
/// have to be kept as the deletion of a value.
pub(super) type MessageValues<'a> = (
    &'a [u8],
    &'a [u8],
    &'a [u8],
    &'a [u8],
    &'a [u8],
    i64,
    MaybeUnset<&'a [u8]>,
    MaybeUnset<Vec<&'a [u8]>>,
    MaybeUnset<bool>,
    MaybeUnset<i32>,
    MaybeUnset<&'a [u8]>,
    MaybeUnset<&'a str>,
    MaybeUnset<String>,
    MaybeUnset<&'a str>,
    &'a str,
);

/// The row of a message in this bucket.
pub(super) fn values<'a>(bucket: &'a MessageId, new: &'a NewMessage, is_of_change: bool) -> MessageValues<'a> {
    let NewMessage { message, attempt, fingerprint, hidden_for } = new;
    let Message { id, conversation_id, from, content } = message;
    let attachments_json = || serde_json::to_string(&content.attachments).expect("texts and numbers");
    (
        conversation_id.as_bytes(),
        bucket.as_bytes(),
        id.as_bytes(),
        from.as_bytes(),
        attempt.connection_id.as_bytes(),
        attempt.frame.cast_signed(),
        set(fingerprint.as_ref().map(|fingerprint| fingerprint.0.as_slice())),
        set_if(!hidden_for.is_empty(), || hidden_for.iter().map(|id| id.as_bytes().as_slice()).collect()),
        set_if(is_of_change, || true),
        set(content.encrypted_message_type.map(i32::from)),
        set(content.replied_message_id.as_ref().map(|id| id.as_bytes().as_slice())),
        set(content.forwarded_message_id.as_deref()),
        set_if(!content.attachments.is_empty(), attachments_json),
        set(content.x_json.as_deref()),
        &content.body,
    )
}

fn set<T>(value: Option<T>) -> MaybeUnset<T> {
    value.map_or(Unset, Set)
}

fn set_if<T>(is_set: bool, value: impl FnOnce() -> T) -> MaybeUnset<T> {
    if is_set { Set(value()) } else { Unset }
}

impl StoredMark {
    pub(super) fn decode(row: &Row, bucket: MessageId) -> Result<Self, StoreError> {
        let recent = RecentMessage {
            id: row.id("id")?,
            from: row.id("from_user_id")?,
            attempt: Attempt { connection_id: row.id("attempt_connection_id")?, frame: row.number("attempt_frame")? },
            fingerprint: decode_fingerprint(row)?,
        };
        Ok(Self { recent, hidden_for: row.ids("hidden_for")?, is_of_change: row.flag("is_of_change")?, bucket })
    }

    /// The attempt that sent it; `None` where it was said with a change, whose attempt may have said more.
    pub(super) fn attempt(&self) -> Option<(Attempt, MessageId)> {
        (!self.is_of_change).then_some((self.recent.attempt, self.recent.id))
    }

    /// The mark as this user sees it.
    pub(super) fn seen_by(&self, viewer: UserId) -> MessageMark {
        let is_hidden = self.hidden_for.contains(&viewer);
        MessageMark { id: self.recent.id, from: self.recent.from, is_hidden }
    }
}

impl StoredMessage {
    pub(super) fn decode(row: &Row, bucket: MessageId) -> Result<Self, StoreError> {
        let StoredMark { recent, hidden_for, is_of_change, bucket } = StoredMark::decode(row, bucket)?;
        let RecentMessage { id, from, attempt, fingerprint } = recent;
        let owned = |column| Ok(row.optional_text(column)?.map(str::to_owned));
        let kind = row.optional_small("encrypted_message_type")?;
        let kind = kind.map(|kind| u8::try_from(kind).map_err(|_| row.corrupt("encrypted_message_type")));
        let content = MessageContent {
            body: row.text("body")?.to_owned(),
            attachments: row.optional_json("attachments_json")?.unwrap_or_default(),
            x_json: owned("x_json")?,
            replied_message_id: row.optional_id("replied_message_id")?,
            forwarded_message_id: owned("forwarded_message_id")?,
            encrypted_message_type: kind.transpose()?,
        };
        let message = Message { id, conversation_id: row.id("conversation_id")?, from, content };
        Ok(Self { new: NewMessage { message, attempt, fingerprint, hidden_for }, is_of_change, bucket })
    }

    /// As [`StoredMark::attempt`].
    pub(super) fn attempt(&self) -> Option<(Attempt, MessageId)> {
        (!self.is_of_change).then_some((self.new.attempt, self.new.message.id))
    }

    pub(super) fn is_visible_to(&self, viewer: UserId) -> bool {
        !self.new.hidden_for.contains(&viewer)
    }
}

fn decode_fingerprint(row: &Row) -> Result<Option<Fingerprint>, StoreError> {
    let bytes = row.optional_blob("fingerprint")?;
    let digest = bytes.map(|bytes| bytes.try_into().map_err(|_| row.corrupt("fingerprint"))).transpose()?;
    Ok(digest.map(Fingerprint))
}

/// Those of these messages, each with its attempt, that are doubles of another one among them.
pub(super) fn doubles(sent: impl Iterator<Item = (Attempt, MessageId)> + Clone) -> HashSet<MessageId> {
    let mut first_of: HashMap<Attempt, MessageId> = HashMap::new();
    for (attempt, id) in sent.clone() {
        let first = first_of.entry(attempt).or_insert(id);
        *first = id.min(*first);
    }
    sent.filter(|(attempt, id)| first_of[attempt] != *id).map(|(_, id)| id).collect()
}

/// Erases what was said in a conversation and what was read of it. Of messages that are on their way at that moment some
/// may come after it, so it is done once more when nobody can write there any longer, and only then [`buckets::forget`].
pub(super) async fn erase(inner: &Inner, conversation_id: ConversationId) -> Result<(), StoreError> {
    for bucket in buckets::list(inner, conversation_id).await? {
        let values = (conversation_id.as_bytes().as_slice(), bucket.as_bytes().as_slice());
        inner.database.write(&inner.messages.erase_bucket, values).await?;
    }
    read_marks::erase(inner, conversation_id).await
}
