//! The largest changes there can be.

use std::sync::Arc;
use std::time::{Duration, Instant};

use proto::ids::UserId;

use super::{ScyllaStore, open_store};
use crate::domain::conversation::{Conversation, ConversationRecord, ConversationType, Member, Role};
use crate::domain::event::{Event, Fact, Step, Subject};
use crate::domain::limits;
use crate::domain::message::{IdRange, NewMessage};
use crate::store::contract::{UnderTest, at, members_at};
use crate::store::{ConversationChange, ConversationStore, MessageStore, MessagesQuery, Order};

async fn open() -> (ScyllaStore, UnderTest) {
    let (store, recorder) = open_store().await;
    let test = UnderTest::new(Arc::new(store.clone()), Box::new(recorder), Box::new(()));
    (store, test)
}

fn adding(test: &UnderTest, record: &ConversationRecord, added: &[UserId]) -> ConversationChange {
    let added = added.iter().map(|&user_id| Member { user_id, role: Role::Plain, joined_at: at(9) });
    ConversationChange {
        conversation: record.conversation.clone(),
        expected_version: record.version,
        added: added.collect(),
        removed: Vec::new(),
        roles: Vec::new(),
        messages: Vec::new(),
        attempt: test.attempt(),
    }
}

fn telling(test: &UnderTest, id: proto::ids::ConversationId, to: &[UserId], messages: &[NewMessage]) -> Event {
    let tell = |new: &NewMessage| {
        let fact = Fact::MessageSent { message: new.message.clone(), conversation_type: ConversationType::Group };
        Step::for_all(to.to_vec(), fact)
    };
    Event { steps: messages.iter().map(tell).collect(), ..test.event(Subject::Conversation(id)) }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs TEST_CQL_ADDRESS, the host:port of a CQL database for tests"]
async fn the_largest_message_can_bring_somebody_back() {
    let (store, test) = open().await;
    let [ann, bob] = test.users();
    let pair = test.pair(ann, bob);
    let event = test.event(Subject::Conversation(pair.id));
    store.create_conversation(&pair, &members_at(&[ann], at(0)), test.attempt(), event).await.unwrap();
    let before = store.lookup_conversation(pair.id).await.unwrap().unwrap();
    let mut largest = test.message(pair.id, ann, at(9));
    // Three bytes for a unit at most.
    largest.message.content.body = "\u{ffff}".repeat(limits::BODY_UTF16_UNITS);
    largest.message.content.x_json = Some(format!("{{\"x\":\"{}\"}}", "x".repeat(limits::X_BYTES - 8)));
    let attachment = crate::domain::message::Attachment {
        file_url: Some("u".repeat(limits::FILE_URL)),
        other_json: format!("{{\"x\":\"{}\"}}", "x".repeat(limits::ATTACHMENT_OTHER_BYTES - 8)),
        ..Default::default()
    };
    largest.message.content.attachments = vec![attachment; limits::ATTACHMENTS];
    // Told once in the list of who comes back, and once as a message.
    let event = telling(&test, pair.id, &[ann, bob], &[largest.clone(), largest.clone()]);
    let change = ConversationChange { messages: vec![largest.clone()], ..adding(&test, &before, &[bob]) };
    assert!(store.change_conversation(change, event).await.unwrap());
    let query = MessagesQuery {
        conversation_id: pair.id,
        viewer: bob,
        range: IdRange::ALL,
        order: Order::OldestFirst,
        limit: 10,
    };
    let seen = store.list_messages(&query).await.unwrap();
    assert_eq!(seen.into_iter().map(|seen| seen.message).collect::<Vec<_>>(), [largest.message]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs TEST_CQL_ADDRESS, the host:port of a CQL database for tests"]
async fn a_group_can_change_all_its_members_at_once() {
    let (store, test) = open().await;
    let ann = test.users::<1>()[0];
    let id = test.add_group(at(0), &[ann]).await;
    let first = test.users::<{ limits::CHANGED_MEMBERS }>();
    let before = store.lookup_conversation(id).await.unwrap().unwrap();
    let change = adding(&test, &before, &first);
    assert!(store.change_conversation(change.clone(), test.event(Subject::Conversation(id))).await.unwrap());
    let full = store.lookup_conversation(id).await.unwrap().unwrap();
    assert_eq!(full, change.applied_to(&before));

    let second = test.users::<{ limits::CHANGED_MEMBERS }>();
    let messages: Vec<_> = (0..400).map(|number| test.message(id, ann, at(9 + number))).collect();
    let event = telling(&test, id, &second, &messages);
    let change = ConversationChange { removed: first.to_vec(), messages, ..adding(&test, &full, &second) };
    let begun = Instant::now();
    assert!(store.change_conversation(change.clone(), event).await.unwrap());
    println!("200 members for 200 others, with 400 messages: {:?}", begun.elapsed());
    assert_eq!(store.lookup_conversation(id).await.unwrap(), Some(change.applied_to(&full)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs TEST_CQL_ADDRESS, the host:port of a CQL database for tests"]
async fn a_channel_of_ten_thousand_is_read_and_changed_in_time() {
    let (store, test) = open().await;
    let ann = test.users::<1>()[0];
    let channel = Conversation { kind: ConversationType::Channel, ..test.group(ann, at(0)) };
    let event = test.event(Subject::Conversation(channel.id));
    store.create_conversation(&channel, &members_at(&[ann], at(0)), test.attempt(), event).await.unwrap();
    let mut record = store.lookup_conversation(channel.id).await.unwrap().unwrap();
    let mut longest = Duration::ZERO;
    while record.members.len() < 10_000 {
        let change = adding(&test, &record, &test.users::<{ limits::CHANGED_MEMBERS }>());
        let begun = Instant::now();
        assert!(
            store.change_conversation(change.clone(), test.event(Subject::Conversation(channel.id))).await.unwrap()
        );
        longest = longest.max(begun.elapsed());
        record = change.applied_to(&record);
    }
    let begun = Instant::now();
    assert_eq!(store.lookup_conversation(channel.id).await.unwrap(), Some(record));
    let taken = begun.elapsed();
    println!("200 more subscribers: {longest:?} at most; reading 10,000: {taken:?}");
    assert!(longest < Duration::from_millis(1_800) && taken < Duration::from_millis(1_800));
}
