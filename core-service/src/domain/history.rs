//! Reading: pages of history, and what has been read of them.

use std::collections::HashSet;
use std::sync::Arc;

use proto::ids::{MessageId, Timestamp, UserId};
use proto::reason::Reason;

use super::clock::Stamps;
use super::conversation::{ConversationRecord, ConversationType, Member};
use super::event::{Event, Fact, Step, Subject};
use super::failure::Failure;
use super::limits;
use super::message::{IdRange, MessageMark, SeenMessage};
use super::messaging::find_conversation;
use super::read_ranges::{ReadRanges, ReadRangesChange};
use super::recent::Conversations;
use super::session::Actor;
use crate::store::{MessagesQuery, Order, PreviewOf, Store};

/// Messages around those being read that are looked at, so that ranges can be merged.
const NEIGHBOURS: usize = 50;

/// Who is told that messages were read.
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
pub enum ReadEvents {
    /// Every other member.
    All,
    /// The authors of the messages.
    Authors,
}

/// The use cases around reading.
#[derive(Clone)]
pub struct History {
    store: Arc<dyn Store>,
    stamps: Arc<Stamps>,
    conversations: Arc<Conversations>,
    read_events: ReadEvents,
}

/// A page of history, unchecked.
#[derive(Clone, Debug, Default)]
pub struct ListMessages {
    /// As the client wrote it.
    pub conversation_id: Option<String>,
    /// Only these, at most 100.
    pub ids: Option<Vec<String>>,
    /// None or 0: 30, or as many as there are ids; at most 100.
    pub limit: Option<i64>,
    /// Only messages changed after it; the page then is the oldest of them.
    pub after: Option<Timestamp>,
    /// Only messages made before it.
    pub before: Option<Timestamp>,
}

impl History {
    /// The use cases over this store.
    pub fn new(
        store: Arc<dyn Store>,
        stamps: Arc<Stamps>,
        conversations: Arc<Conversations>,
        read_events: ReadEvents,
    ) -> Self {
        Self { store, stamps, conversations, read_events }
    }

    /// A page of a conversation as the actor sees it, newest first.
    ///
    /// No page cuts a run of equal stamps: it exceeds the limit by that run, so that paging by time loses nothing.
    ///
    /// # Errors
    /// `cid_missing`, `validation_failed`, `conversation_not_found`, `access_denied`
    pub async fn list(&self, actor: &Actor, command: ListMessages) -> Result<Vec<SeenMessage>, Failure> {
        let id = command.conversation_id.ok_or_else(|| Failure::of_field(Reason::CidMissing, "cid"))?;
        let ids = command.ids.as_deref();
        if ids.is_some_and(|ids| ids.len() > limits::LISTED_MESSAGE_IDS) {
            return Err(Failure::validation("ids"));
        }
        let limit = limits::page_size(command.limit, ids.map_or(limits::DEFAULT_PAGE, <[_]>::len))?;
        let record = find_conversation(&self.conversations, actor, &id).await?;
        if record.member(actor.user_id).is_none() {
            return Err(Reason::AccessDenied.into());
        }

        let range = IdRange::between(command.after, command.before);
        let order = if command.after.is_some() { Order::OldestFirst } else { Order::NewestFirst };
        if let Some(ids) = ids {
            return self.list_by_ids(actor, &record, ids, range, order, limit).await;
        }
        let query =
            MessagesQuery { conversation_id: record.conversation.id, viewer: actor.user_id, range, order, limit };
        let mut page = self.store.list_messages(&query).await?;
        if page.len() == limit
            && let Some(last) = page.last()
        {
            let rest = rest_of_run(last.message.id, range, order);
            page.extend(self.store.list_messages(&MessagesQuery { range: rest, limit: usize::MAX, ..query }).await?);
        }
        if order == Order::OldestFirst {
            page.reverse();
        }
        Ok(page)
    }

    async fn list_by_ids(
        &self,
        actor: &Actor,
        record: &ConversationRecord,
        ids: &[String],
        range: IdRange,
        order: Order,
        limit: usize,
    ) -> Result<Vec<SeenMessage>, Failure> {
        let ids: Vec<_> = ids.iter().filter_map(|id| MessageId::parse(id).ok()).collect();
        let mut page = self.store.lookup_messages(record.conversation.id, actor.user_id, &ids).await?;
        page.retain(|seen| range.from <= seen.message.id && seen.message.id < range.until);
        if order == Order::OldestFirst {
            page.reverse();
        }
        if let Some(last) = limit.checked_sub(1).and_then(|last| page.get(last)) {
            let stamp = last.message.created_at();
            let run_end = page.iter().rposition(|seen| seen.message.created_at() == stamp);
            page.truncate(run_end.map_or(limit, |end| end + 1));
        }
        if order == Order::OldestFirst {
            page.reverse();
        }
        Ok(page)
    }

    /// Marks messages as read by the actor: these, or without ids everything that is unread for him.
    ///
    /// # Errors
    /// `cid_missing`, `validation_failed`, `conversation_not_found`, `access_denied` (also in a channel)
    pub async fn mark_read(
        &self,
        actor: &Actor,
        conversation_id: Option<String>,
        ids: Option<Vec<String>>,
    ) -> Result<(), Failure> {
        let id = conversation_id.ok_or_else(|| Failure::of_field(Reason::CidMissing, "cid"))?;
        if ids.as_ref().is_some_and(|ids| ids.len() > limits::READ_IDS) {
            return Err(Failure::validation("ids"));
        }
        let record = find_conversation(&self.conversations, actor, &id).await?;
        let member = match record.member(actor.user_id) {
            Some(member) if record.conversation.kind != ConversationType::Channel => member,
            _ => return Err(Reason::AccessDenied.into()),
        };
        let place = self.conversations.place(record.conversation.id);
        let _reading = place.reading.lock().await;
        let ranges = self.store.lookup_read_ranges(record.conversation.id, actor.user_id).await?;
        let (newly_read, change) = match ids {
            Some(ids) => self.read_these(actor, &record, &ranges, &ids).await?,
            None => self.read_all(actor, &record, &ranges, member).await?,
        };
        if newly_read.is_empty() {
            return Ok(());
        }
        let event = self.read_event(actor, &record, member, &newly_read).await?;
        Ok(self.store.change_read_ranges(record.conversation.id, actor.user_id, &change, event).await?)
    }

    /// Those of these messages that the actor reads for the first time, newest first, and the change that says so.
    async fn read_these(
        &self,
        actor: &Actor,
        record: &ConversationRecord,
        ranges: &ReadRanges,
        ids: &[String],
    ) -> Result<(Vec<MessageMark>, ReadRangesChange), Failure> {
        let conversation_id = record.conversation.id;
        let ids: Vec<_> = ids.iter().filter_map(|id| MessageId::parse(id).ok()).collect();
        let visible = self.store.lookup_messages(conversation_id, actor.user_id, &ids).await?;
        let newly_read: Vec<_> = visible
            .iter()
            .map(|seen| MessageMark { id: seen.message.id, from: seen.message.from, is_hidden: false })
            .filter(|mark| mark.from != actor.user_id && !ranges.contains(mark.id))
            .collect();
        let Some(oldest) = newly_read.last() else {
            return Ok((newly_read, ReadRangesChange::default()));
        };

        let before = MessagesQuery {
            conversation_id,
            viewer: actor.user_id,
            range: IdRange { until: oldest.id, ..IdRange::ALL },
            order: Order::NewestFirst,
            limit: NEIGHBOURS,
        };
        let from_oldest = MessagesQuery {
            range: IdRange { from: oldest.id, ..IdRange::ALL },
            order: Order::OldestFirst,
            limit: 2 * newly_read.len() + NEIGHBOURS,
            ..before
        };
        let mut slice = self.store.list_marks(&before).await?;
        slice.reverse();
        slice.extend(self.store.list_marks(&from_oldest).await?);
        let slice_end = slice.last().map_or(oldest.id, |mark| mark.id);
        let (in_slice, beyond): (HashSet<_>, HashSet<_>) =
            newly_read.iter().map(|mark| mark.id).partition(|&id| id <= slice_end);
        let mut change = ranges.mark(&slice, actor.user_id, &in_slice);
        for id in beyond {
            change.added.extend(ranges.cover(id, id).added);
        }
        Ok((newly_read, change))
    }

    /// The newest of what is unread for the actor, newest first, and the change after which nothing is.
    async fn read_all(
        &self,
        actor: &Actor,
        record: &ConversationRecord,
        ranges: &ReadRanges,
        member: &Member,
    ) -> Result<(Vec<MessageMark>, ReadRangesChange), Failure> {
        let start = MessageId::first_of(member.joined_at);
        let mut unread: Vec<MessageMark> = Vec::new();
        for gap in ranges.gaps_above(start) {
            let mut range = gap;
            while unread.len() < limits::READ_IDS {
                let query = MessagesQuery {
                    conversation_id: record.conversation.id,
                    viewer: actor.user_id,
                    range,
                    order: Order::NewestFirst,
                    limit: limits::READ_IDS,
                };
                let marks = self.store.list_marks(&query).await?;
                unread.extend(marks.iter().filter(|mark| mark.from != actor.user_id && !mark.is_hidden));
                match marks.last() {
                    Some(last) if marks.len() == query.limit => range.until = last.id,
                    _ => break,
                }
            }
        }
        unread.truncate(limits::READ_IDS);
        let change = unread.first().map(|newest| ranges.cover(start, newest.id)).unwrap_or_default();
        Ok((unread, change))
    }

    async fn read_event(
        &self,
        actor: &Actor,
        record: &ConversationRecord,
        member: &Member,
        newly_read: &[MessageMark],
    ) -> Result<Event, Failure> {
        let conversation_id = record.conversation.id;
        let message_ids: Vec<_> = newly_read.iter().map(|mark| mark.id).collect();
        let unread_from = MessageId::first_of(member.joined_at);
        let preview = PreviewOf { conversation_id, unread_from: Some(unread_from) };
        let previews = self.store.list_previews(actor.user_id, &[preview]).await?;
        let unread_before = previews.first().map_or(0, |preview| preview.unread_count);
        let counted = newly_read.iter().filter(|mark| mark.id >= unread_from).count();
        let unread_messages_count = unread_before.saturating_sub(u32::try_from(counted).unwrap_or(u32::MAX));

        let mut recipients = record.others(actor.user_id);
        if self.read_events == ReadEvents::Authors {
            let authors: HashSet<UserId> = newly_read.iter().map(|mark| mark.from).collect();
            recipients.retain(|user_id| authors.contains(user_id));
        }
        let from = actor.user_id;
        Ok(Event {
            id: self.stamps.new_id().into(),
            subject: Subject::Conversation(conversation_id),
            attempt: actor.attempt,
            steps: vec![
                Step {
                    recipients,
                    fact: Fact::MessagesRead { conversation_id, message_ids: message_ids.clone(), from },
                },
                Step {
                    recipients: vec![from],
                    fact: Fact::OwnMessagesRead { conversation_id, message_ids, from, unread_messages_count },
                },
            ],
        })
    }
}

/// What else has the stamp of a page's last message.
fn rest_of_run(last: MessageId, range: IdRange, order: Order) -> IdRange {
    let stamp = last.timestamp();
    match order {
        Order::NewestFirst => IdRange { from: range.from.max(MessageId::first_of(stamp)), until: last },
        Order::OldestFirst => {
            let next_stamp = MessageId::first_of(stamp.plus_millis(1));
            IdRange { from: last.successor(), until: range.until.min(next_stamp) }
        }
    }
}

#[cfg(test)]
mod tests {
    use proto::ids::ConversationId;

    use super::*;
    use crate::domain::message::{Message, MessageContent, NewMessage};
    use crate::domain::testing::{START, TestCore, next_frame, text};

    fn page_of(group: ConversationId) -> ListMessages {
        ListMessages { conversation_id: Some(group.to_string()), ..ListMessages::default() }
    }

    /// Stores a message as another instance may have: with a stamp that others have too.
    async fn store_at(core: &TestCore, from: &Actor, group: ConversationId, at: Timestamp) -> MessageId {
        let id: MessageId = core.stamps.new_id_at(at).into();
        let content = MessageContent { body: "hi".to_owned(), ..MessageContent::default() };
        let message = Message { id, conversation_id: group, from: from.user_id, content };
        let attempt = next_frame(from).attempt;
        let event = Event { id: id.into(), subject: Subject::Conversation(group), attempt, steps: Vec::new() };
        let new = NewMessage { message, attempt, fingerprint: None, hidden_for: Vec::new() };
        core.store.append_message(new, event).await.unwrap();
        id
    }

    fn ids(page: &[SeenMessage]) -> Vec<MessageId> {
        page.iter().map(|seen| seen.message.id).collect()
    }

    #[tokio::test]
    async fn no_page_cuts_a_run_of_equal_stamps() {
        let core = TestCore::start().await;
        let (ann, bob) = (core.user("ann").await, core.user("bob").await);
        let group = core.group(&[&ann, &bob]).await;
        let mut stored = Vec::new();
        for millis in [1, 2, 2, 2, 3] {
            stored.push(store_at(&core, &ann, group, START.plus_millis(millis)).await);
        }
        let newest_first: Vec<_> = stored.iter().rev().copied().collect();

        let page = core.history.list(&bob, ListMessages { limit: Some(2), ..page_of(group) }).await.unwrap();
        assert_eq!(ids(&page), newest_first[..4]);
        let before = page.last().map(|seen| seen.message.created_at());
        let next = ListMessages { limit: Some(2), before, ..page_of(group) };
        assert_eq!(ids(&core.history.list(&bob, next).await.unwrap()), newest_first[4..]);

        let forward = ListMessages { limit: Some(2), after: Some(START), ..page_of(group) };
        let page = core.history.list(&bob, forward).await.unwrap();
        assert_eq!(ids(&page), newest_first[1..]);
        let after = page.first().map(|seen| seen.message.created_at());
        let next = ListMessages { limit: Some(2), after, ..page_of(group) };
        assert_eq!(ids(&core.history.list(&bob, next).await.unwrap()), newest_first[..1]);
    }

    #[tokio::test]
    async fn of_two_calls_at_once_each_message_is_announced_once() {
        let core = TestCore::start().await;
        let (ann, bob) = (core.user("ann").await, core.user("bob").await);
        let group = core.group(&[&ann, &bob]).await;
        for _ in 0..20 {
            core.messaging.send(&next_frame(&ann), text(group, None, "hi")).await.unwrap();
        }
        let before = core.journal.newest();
        let reads = (0..8).map(|_| core.history.mark_read(&bob, Some(group.to_string()), None));
        for read in futures_util::future::join_all(reads).await {
            read.unwrap();
        }
        assert_eq!(core.journal.newest(), before + 1);
        let page = core.history.list(&ann, page_of(group)).await.unwrap();
        assert!(page.iter().all(|seen| seen.is_read));
    }

    #[tokio::test]
    async fn reading_some_of_many_messages_marks_exactly_those() {
        let core = TestCore::start().await;
        let (ann, bob) = (core.user("ann").await, core.user("bob").await);
        let group = core.group(&[&ann, &bob]).await;
        let mut sent = Vec::new();
        for _ in 0..300 {
            sent.push(core.messaging.send(&next_frame(&ann), text(group, None, "hi")).await.unwrap());
        }
        // Far apart, so that the slice looked at does not reach from the first to the last.
        let read = [sent[299], sent[150], sent[151], sent[0]];
        let wanted = read.iter().map(ToString::to_string).chain(["no id".to_owned()]).collect();
        core.history.mark_read(&bob, Some(group.to_string()), Some(wanted)).await.unwrap();
        let ranges = core.store.lookup_read_ranges(group, bob.user_id).await.unwrap();
        for id in &sent {
            assert_eq!(ranges.contains(*id), read.contains(id));
        }
        core.history.mark_read(&bob, Some(group.to_string()), None).await.unwrap();
        let ranges = core.store.lookup_read_ranges(group, bob.user_id).await.unwrap();
        assert!(sent.iter().all(|id| ranges.contains(*id)));
    }
}
