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
use crate::store::{MessagesQuery, Order, Store};

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
        let query =
            MessagesQuery { conversation_id: record.conversation.id, viewer: actor.user_id, range, order, limit };
        let mut page = match ids {
            Some(ids) => self.select_by_ids(query, ids).await?,
            None => self.select(query).await?,
        };
        if order == Order::OldestFirst {
            page.reverse();
        }
        Ok(page)
    }

    /// The messages of a page, in the query's order.
    async fn select(&self, query: MessagesQuery) -> Result<Vec<SeenMessage>, Failure> {
        // One more tells whether the page would cut a run of equal stamps.
        let one_more = MessagesQuery { limit: query.limit + 1, ..query };
        let mut page = self.store.list_messages(&one_more).await?;
        if let Some(beyond) = page.get(query.limit).map(|seen| seen.message.id) {
            page.truncate(query.limit);
            if page.last().is_some_and(|last| last.message.created_at() == beyond.timestamp()) {
                let range = rest_of_run(beyond, query.range, query.order);
                page.extend(self.store.list_messages(&MessagesQuery { range, limit: usize::MAX, ..query }).await?);
            }
        }
        Ok(page)
    }

    /// The same of these messages alone.
    async fn select_by_ids(&self, query: MessagesQuery, ids: &[String]) -> Result<Vec<SeenMessage>, Failure> {
        let MessagesQuery { conversation_id, viewer, range, order, limit } = query;
        let ids: Vec<_> = ids.iter().filter_map(|id| MessageId::parse(id).ok()).collect();
        let mut page = self.store.lookup_messages(conversation_id, viewer, &ids).await?;
        page.retain(|seen| range.from <= seen.message.id && seen.message.id < range.until);
        if order == Order::OldestFirst {
            page.reverse();
        }
        if page.len() > limit {
            let stamp = limit.checked_sub(1).map(|last| page[last].message.created_at());
            let run = page[limit..].iter().take_while(|seen| Some(seen.message.created_at()) == stamp);
            let end = limit + run.count();
            page.truncate(end);
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
        if change == ReadRangesChange::default() {
            return Ok(());
        }
        let event = if newly_read.is_empty() {
            None
        } else {
            let unread_from = MessageId::first_of(member.joined_at);
            let ranges = ranges.after(&change);
            let left = self.store.count_unread(record.conversation.id, actor.user_id, unread_from, &ranges).await?;
            Some(self.read_event(actor, &record, &newly_read, left))
        };
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
        let mut newly_read = self.store.lookup_marks(conversation_id, actor.user_id, &ids).await?;
        newly_read.retain(|mark| mark.from != actor.user_id && !mark.is_hidden && !ranges.contains(mark.id));
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
    ///
    /// The change also covers his own messages, so that the next call need not look at them again.
    async fn read_all(
        &self,
        actor: &Actor,
        record: &ConversationRecord,
        ranges: &ReadRanges,
        member: &Member,
    ) -> Result<(Vec<MessageMark>, ReadRangesChange), Failure> {
        let start = MessageId::first_of(member.joined_at);
        let mut unread: Vec<MessageMark> = Vec::new();
        let mut newest = None;
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
                newest = newest.max(marks.first().map(|mark| mark.id));
                unread.extend(marks.iter().filter(|mark| mark.from != actor.user_id && !mark.is_hidden));
                match marks.last() {
                    Some(last) if marks.len() == query.limit => range.until = last.id,
                    _ => break,
                }
            }
        }
        unread.truncate(limits::READ_IDS);
        let change = newest.map(|newest| ranges.cover(start, newest)).unwrap_or_default();
        Ok((unread, change))
    }

    fn read_event(
        &self,
        actor: &Actor,
        record: &ConversationRecord,
        newly_read: &[MessageMark],
        unread_messages_count: u32,
    ) -> Event {
        let conversation_id = record.conversation.id;
        let message_ids: Vec<_> = newly_read.iter().map(|mark| mark.id).collect();
        let mut recipients = record.others(actor.user_id);
        if self.read_events == ReadEvents::Authors {
            let authors: HashSet<UserId> = newly_read.iter().map(|mark| mark.from).collect();
            recipients.retain(|user_id| authors.contains(user_id));
        }
        let from = actor.user_id;
        Event {
            id: self.stamps.new_id().into(),
            subject: Subject::Conversation(conversation_id),
            attempt: actor.attempt,
            steps: vec![
                Step::new(recipients, Fact::MessagesRead { conversation_id, message_ids: message_ids.clone(), from }),
                Step::new(
                    vec![from],
                    Fact::OwnMessagesRead { conversation_id, message_ids, from, unread_messages_count },
                ),
            ],
        }
    }
}

/// What is left of a run of equal stamps, from this message on.
fn rest_of_run(first: MessageId, range: IdRange, order: Order) -> IdRange {
    let stamp = first.timestamp();
    match order {
        Order::NewestFirst => IdRange { from: range.from.max(MessageId::first_of(stamp)), until: first.successor() },
        Order::OldestFirst => {
            let next_stamp = MessageId::first_of(stamp.plus_millis(1));
            IdRange { from: first, until: range.until.min(next_stamp) }
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

    #[tokio::test]
    async fn reading_all_of_ones_own_messages_is_remembered_and_told_nobody() {
        let core = TestCore::start().await;
        let (ann, bob) = (core.user("ann").await, core.user("bob").await);
        let group = core.group(&[&ann, &bob]).await;
        let own = core.messaging.send(&next_frame(&ann), text(group, None, "hi")).await.unwrap();
        let before = core.journal.newest();
        core.history.mark_read(&ann, Some(group.to_string()), None).await.unwrap();
        assert!(core.store.lookup_read_ranges(group, ann.user_id).await.unwrap().contains(own));
        assert_eq!(core.journal.newest(), before);
        let page = core.history.list(&ann, page_of(group)).await.unwrap();
        assert!(!page[0].is_read, "nobody else has read it");
    }
}
