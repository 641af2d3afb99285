//! Promises of [`ConversationStore`](crate::store::ConversationStore) about changes of conversations and their end.

use std::sync::Arc;

use futures_util::future::join_all;
use proto::ids::{ConversationId, MessageId, Timestamp, UserId};
use proto::v1;

use super::{UnderTest, append, at, members_at, race};
use crate::domain::conversation::{Conversation, ConversationRecord, Image, Member, Role};
use crate::domain::event::{Event, Subject};
use crate::domain::message::IdRange;
use crate::domain::read_ranges::{ReadRange, ReadRangesChange};
use crate::store::{ConversationChange, Erasure, HeadsQuery, MessagesQuery, Order, PastChange, PreviewOf, REPEATED_MS};

async fn record(test: &UnderTest, id: ConversationId) -> ConversationRecord {
    test.store.lookup_conversation(id).await.unwrap().unwrap()
}

/// A change that keeps everything as it is.
fn change_of(test: &UnderTest, record: &ConversationRecord) -> ConversationChange {
    ConversationChange {
        conversation: record.conversation.clone(),
        expected_version: record.version,
        added: Vec::new(),
        removed: Vec::new(),
        roles: Vec::new(),
        messages: Vec::new(),
        attempt: test.attempt(),
    }
}

fn renamed(test: &UnderTest, record: &ConversationRecord, name: &str) -> ConversationChange {
    let conversation = Conversation { name: Some(name.to_owned()), ..record.conversation.clone() };
    ConversationChange { conversation, ..change_of(test, record) }
}

fn erasure_of(test: &UnderTest, record: &ConversationRecord) -> Erasure {
    Erasure { id: record.conversation.id, expected_version: record.version, attempt: test.attempt() }
}

fn plain(user_id: UserId, joined_at: Timestamp) -> Member {
    Member { user_id, role: Role::Plain, joined_at }
}

fn event_at(test: &UnderTest, id: ConversationId, happened_at: Timestamp) -> Event {
    Event { id: test.id(happened_at), ..test.event(Subject::Conversation(id)) }
}

async fn make(test: &UnderTest, change: &ConversationChange) -> bool {
    let event = test.event(Subject::Conversation(change.conversation.id));
    test.store.change_conversation(change.clone(), event).await.unwrap()
}

async fn erase(test: &UnderTest, id: ConversationId) -> Erasure {
    let erasure = erasure_of(test, &record(test, id).await);
    assert!(test.store.erase_conversation(erasure, test.event(Subject::Conversation(id))).await.unwrap());
    erasure
}

async fn heads(test: &UnderTest, user_id: UserId) -> Vec<(ConversationId, Timestamp)> {
    let query = HeadsQuery { user_id, updated_after: None, updated_before: None, ids: None, limit: 100 };
    let heads = test.store.list_heads(&query).await.unwrap();
    heads.into_iter().map(|head| (head.conversation.id, head.joined_at)).collect()
}

async fn messages(test: &UnderTest, id: ConversationId, viewer: UserId) -> Vec<MessageId> {
    let query =
        MessagesQuery { conversation_id: id, viewer, range: IdRange::ALL, order: Order::OldestFirst, limit: 10_000 };
    test.store.list_messages(&query).await.unwrap().into_iter().map(|seen| seen.message.id).collect()
}

pub(crate) async fn a_change_takes_effect_as_a_whole_and_is_told(test: UnderTest) {
    let [ann, bob, cid, dan] = test.users();
    let group = test.add_group(at(0), &[ann, bob, cid]).await;
    let other = test.add_group(at(0), &[bob, ann]).await;
    let untouched = record(&test, other).await;
    let before = record(&test, group).await;
    let change = ConversationChange {
        conversation: Conversation {
            owner_id: bob,
            name: Some("another name".to_owned()),
            description: Some("a description".to_owned()),
            image: Some(Image { file_id: Some("f".to_owned()), ..Image::default() }),
            changed_at: at(9),
            ..before.conversation.clone()
        },
        added: vec![plain(dan, at(9))],
        removed: vec![ann],
        roles: vec![(bob, Role::Owner), (cid, Role::Admin)],
        messages: vec![test.message(group, ann, at(9)), test.message(group, ann, at(10))],
        ..change_of(&test, &before)
    };
    let event = test.event(Subject::Conversation(group));
    assert!(test.store.change_conversation(change.clone(), event.clone()).await.unwrap());

    let after = record(&test, group).await;
    assert_eq!(after, change.applied_to(&before));
    assert_eq!((after.version, &after.conversation), (before.version + 1, &change.conversation));
    let member = |user_id, role, joined| Member { user_id, role, joined_at: at(joined) };
    let expected = [member(bob, Role::Owner, 0), member(cid, Role::Admin, 0), member(dan, Role::Plain, 9)];
    assert_eq!(after.members, expected);
    let said: Vec<_> = change.messages.iter().map(|new| new.message.id).collect();
    assert_eq!(messages(&test, group, dan).await, said);
    assert_eq!(heads(&test, ann).await, [(other, at(0))]);
    assert_eq!(test.events().await.last().map(|(_, told)| told.clone()), Some(v1::Event::from(event)));
    assert_eq!(record(&test, other).await, untouched);

    let cleared = ConversationChange {
        conversation: Conversation { description: None, image: None, ..after.conversation.clone() },
        ..change_of(&test, &after)
    };
    assert!(make(&test, &cleared).await);
    assert_eq!(record(&test, group).await, cleared.applied_to(&after));
}

pub(crate) async fn a_change_decided_on_another_version_writes_nothing(test: UnderTest) {
    let [ann, bob] = test.users();
    let group = test.add_group(at(0), &[ann, bob]).await;
    let before = record(&test, group).await;
    assert!(make(&test, &renamed(&test, &before, "first")).await);
    let (after, told) = (record(&test, group).await, test.event_ids().await);

    let stale = ConversationChange {
        added: vec![plain(test.id(at(0)), at(1))],
        removed: vec![bob],
        roles: vec![(ann, Role::Plain)],
        messages: vec![test.message(group, ann, at(1))],
        ..renamed(&test, &before, "second")
    };
    let unknown = ConversationChange {
        conversation: Conversation { id: test.id(at(0)), ..before.conversation.clone() },
        ..stale.clone()
    };
    for change in [stale, unknown] {
        assert!(!make(&test, &change).await);
        assert_eq!(test.store.lookup_change(change.conversation.id, change.attempt).await.unwrap(), None);
    }
    assert_eq!((record(&test, group).await, test.event_ids().await), (after, told));
    assert!(messages(&test, group, ann).await.is_empty());
}

pub(crate) async fn of_racing_changes_of_one_version_one_is_made(test: UnderTest) {
    let [ann] = test.users();
    let group = test.add_group(at(0), &[ann]).await;
    let before = record(&test, group).await;
    let test = Arc::new(test);
    let outcomes = race(20, |number| {
        let (test, before) = (Arc::clone(&test), before.clone());
        async move {
            let user_id = test.id(at(0));
            let change = ConversationChange {
                added: vec![plain(user_id, at(1))],
                ..renamed(&test, &before, &number.to_string())
            };
            Ok::<_, ()>((make(&test, &change).await, user_id))
        }
    })
    .await;
    let made: Vec<_> = outcomes.into_iter().map(Result::unwrap).filter(|(is_made, _)| *is_made).collect();
    let [(_, added)] = made[..] else { panic!("{} were made", made.len()) };
    let after = record(&test, group).await;
    assert_eq!(after.user_ids(), [ann, added]);
    assert_eq!(after.version, before.version + 1);
    assert_eq!(test.events().await.len(), 2);
}

pub(crate) async fn who_comes_back_is_last_in_join_order_and_has_joined_anew(test: UnderTest) {
    let [ann, bob, cid] = test.users();
    let group = test.add_group(at(0), &[ann, bob, cid]).await;
    let before = record(&test, group).await;
    assert!(make(&test, &ConversationChange { removed: vec![bob], ..change_of(&test, &before) }).await);
    assert!(heads(&test, bob).await.is_empty());
    let without = record(&test, group).await;
    let back = ConversationChange { added: vec![plain(bob, at(7))], ..change_of(&test, &without) };
    assert!(make(&test, &back).await);
    assert_eq!(record(&test, group).await.user_ids(), [ann, cid, bob]);
    assert_eq!(heads(&test, bob).await, [(group, at(7))]);

    // Out and in again with one change is the same.
    let now = record(&test, group).await;
    let at_once = ConversationChange { removed: vec![cid], added: vec![plain(cid, at(8))], ..change_of(&test, &now) };
    assert!(make(&test, &at_once).await);
    assert_eq!(record(&test, group).await, at_once.applied_to(&now));
    assert_eq!(heads(&test, cid).await, [(group, at(8))]);
}

pub(crate) async fn what_is_said_with_a_change_is_listed_and_unread(test: UnderTest) {
    let [ann, bob, cid] = test.users();
    let group = test.add_group(at(0), &[ann, bob, cid]).await;
    test.send(group, ann, at(1)).await;
    let before = record(&test, group).await;
    let mut hidden = test.message(group, ann, at(3));
    hidden.hidden_for = vec![cid];
    let said = test.message(group, ann, at(2));
    let change = ConversationChange { messages: vec![said.clone(), hidden.clone()], ..change_of(&test, &before) };
    assert!(make(&test, &change).await);

    let newest = hidden.message.id;
    assert_eq!(test.store.newest_message_id(group).await.unwrap(), Some(newest));
    let recent = test.store.list_recent(group, said.message.id, 10).await.unwrap();
    assert_eq!(recent.iter().map(|message| message.id).collect::<Vec<_>>(), [said.message.id, newest]);
    let of = PreviewOf { conversation_id: group, unread_from: Some(MessageId::first_of(at(0))) };
    for (viewer, last, unread) in [(bob, newest, 3), (cid, said.message.id, 2), (ann, newest, 0)] {
        let preview = test.store.list_previews(viewer, &[of]).await.unwrap().remove(0);
        assert_eq!((preview.last_message.unwrap().message.id, preview.unread_count), (last, unread));
    }
}

pub(crate) async fn an_attempt_that_changed_a_conversation_is_known_for_a_while(test: UnderTest) {
    let [ann] = test.users();
    let group = test.add_group(at(0), &[ann]).await;
    let other = test.add_group(at(0), &[ann]).await;
    let first = renamed(&test, &record(&test, group).await, "first");
    assert_eq!(test.store.lookup_change(group, first.attempt).await.unwrap(), None);
    assert!(make(&test, &first).await);
    assert!(make(&test, &renamed(&test, &record(&test, group).await, "second")).await);
    let now = record(&test, group).await;
    let known = test.store.lookup_change(group, first.attempt).await.unwrap();
    assert_eq!(known, Some(PastChange::Standing(now.clone())), "as it is now");
    assert_eq!(test.store.lookup_change(other, first.attempt).await.unwrap(), None);

    // For this long at least, whatever happens meanwhile.
    for millis in 0..5 {
        let change = renamed(&test, &record(&test, other).await, &millis.to_string());
        let event = event_at(&test, other, at(REPEATED_MS - 5 + millis));
        assert!(test.store.change_conversation(change, event).await.unwrap());
    }
    assert!(test.store.lookup_change(group, first.attempt).await.unwrap().is_some());
}

pub(crate) async fn an_erased_conversation_is_gone_with_all_its_content(test: UnderTest) {
    let [ann, bob] = test.users();
    let group = test.add_group(at(0), &[ann, bob]).await;
    let kept = test.add_group(at(0), &[ann, bob]).await;
    for id in [group, kept] {
        let mut hidden = test.message(id, ann, at(2));
        hidden.hidden_for = vec![bob];
        test.send(id, ann, at(1)).await;
        append(&*test.store, hidden).await.unwrap();
        let range = ReadRange { from: MessageId::first_of(at(0)), to: MessageId::first_of(at(2)) };
        let change = ReadRangesChange { removed: Vec::new(), added: vec![range] };
        test.store.change_read_ranges(id, bob, &change, None).await.unwrap();
    }
    let last = record(&test, group).await.conversation;
    let erasure = erasure_of(&test, &record(&test, group).await);
    let event = test.event(Subject::Conversation(group));
    assert!(test.store.erase_conversation(erasure, event.clone()).await.unwrap());

    assert_eq!(test.store.lookup_conversation(group).await.unwrap(), None);
    assert!(test.store.list_conversations(&[group]).await.unwrap().is_empty());
    assert_eq!(test.store.newest_message_id(group).await.unwrap(), None);
    let ranges = async |id| test.store.lookup_read_ranges(id, bob).await.unwrap();
    assert_eq!(ranges(group).await, Default::default());
    for user_id in [ann, bob] {
        assert_eq!(heads(&test, user_id).await, [(kept, at(0))]);
        assert!(messages(&test, group, user_id).await.is_empty());
    }
    assert_eq!(test.event_ids().await.last(), Some(&event.id));
    assert_eq!((messages(&test, kept, ann).await.len(), messages(&test, kept, bob).await.len()), (2, 1));
    assert_ne!(ranges(kept).await, Default::default());

    let known = async || test.store.lookup_change(group, erasure.attempt).await.unwrap();
    assert_eq!(known().await, Some(PastChange::Erased(last.clone())));
    test.store.erase_content(at(REPEATED_MS - 1)).await.unwrap();
    assert_eq!(known().await, Some(PastChange::Erased(last)));
    test.store.erase_content(at(REPEATED_MS + 1)).await.unwrap();
    assert_eq!(known().await, None);
    assert_eq!(messages(&test, kept, ann).await.len(), 2);
}

pub(crate) async fn an_erasure_decided_on_another_version_writes_nothing(test: UnderTest) {
    let [ann] = test.users();
    let group = test.add_group(at(0), &[ann]).await;
    let stale = erasure_of(&test, &record(&test, group).await);
    assert!(make(&test, &renamed(&test, &record(&test, group).await, "another")).await);
    test.send(group, ann, at(1)).await;
    let (now, told) = (record(&test, group).await, test.event_ids().await);
    for erasure in [stale, Erasure { id: test.id(at(0)), ..stale }] {
        let event = test.event(Subject::Conversation(erasure.id));
        assert!(!test.store.erase_conversation(erasure, event).await.unwrap());
        assert_eq!(test.store.lookup_change(erasure.id, erasure.attempt).await.unwrap(), None);
    }
    test.store.erase_content(at(2 * REPEATED_MS)).await.unwrap();
    assert_eq!((record(&test, group).await, test.event_ids().await), (now, told));
    assert_eq!(messages(&test, group, ann).await.len(), 1);
}

pub(crate) async fn much_content_of_an_erased_conversation_goes_in_steps(test: UnderTest) {
    let [ann, bob] = test.users();
    let group = test.add_group(at(0), &[ann, bob]).await;
    let sent = (1..=2_500).map(|millis| {
        let mut new = test.message(group, ann, at(millis));
        new.hidden_for = vec![bob];
        append(&*test.store, new)
    });
    assert!(join_all(sent.collect::<Vec<_>>()).await.into_iter().all(|written| written.is_ok()));
    erase(&test, group).await;
    assert_eq!(test.store.lookup_conversation(group).await.unwrap(), None);
    test.store.erase_content(at(3_000)).await.unwrap();
    assert_eq!(test.store.newest_message_id(group).await.unwrap(), None);
    assert!(messages(&test, group, bob).await.is_empty());
}

pub(crate) async fn an_erased_pair_can_be_made_anew(test: UnderTest) {
    let [ann, bob] = test.users();
    let mut made = Vec::new();
    for _ in 0..2 {
        let pair = test.pair(ann, bob);
        let event = test.event(Subject::Conversation(pair.id));
        let members = members_at(&[ann, bob], at(0));
        assert_eq!(test.store.create_conversation(&pair, &members, test.attempt(), event).await.unwrap(), None);
        erase(&test, pair.id).await;
        made.push(pair.id);
    }
    assert_ne!(made[0], made[1]);
}
