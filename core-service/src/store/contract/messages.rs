//! Promises of [`MessageStore`](crate::store::MessageStore) about messages.

use futures_util::future::join_all;
use proto::ids::{ConversationId, EventId, MessageId, UserId};

use super::{UnderTest, append, at};
use crate::domain::message::{
    Attachment, Fingerprint, IdRange, MessageContent, NewMessage, RecentMessage, SeenMessage,
};
use crate::store::{MessagesQuery, Order};

fn all_of(conversation_id: ConversationId, viewer: UserId) -> MessagesQuery {
    MessagesQuery { conversation_id, viewer, range: IdRange::ALL, order: Order::NewestFirst, limit: 10_000 }
}

fn ids(messages: Vec<SeenMessage>) -> Vec<MessageId> {
    messages.into_iter().map(|seen| seen.message.id).collect()
}

async fn listed(test: &UnderTest, query: MessagesQuery) -> Vec<MessageId> {
    ids(test.store.list_messages(&query).await.unwrap())
}

pub(crate) async fn a_message_reads_as_it_was_written(test: UnderTest) {
    let [ann] = test.users();
    let group = test.add_group(at(0), &[ann]).await;
    let attachment = Attachment {
        file_id: Some("f".to_owned()),
        file_url: Some("https://example.org/\u{1f600}".to_owned()),
        file_size: Some(u64::MAX),
        file_width: Some(0),
        file_height: Some(u32::MAX),
        other_json: r#"{"a":1.50,"b":"\u0000"}"#.to_owned(),
        ..Attachment::default()
    };
    let full = NewMessage {
        message: crate::domain::message::Message {
            content: MessageContent {
                body: "quotes ' \" and \0 and \u{1f600}".to_owned(),
                attachments: vec![attachment, Attachment::default()],
                x_json: Some(r#"{"deep":{"er":[1e400]}}"#.to_owned()),
                replied_message_id: Some(test.id(at(1))),
                forwarded_message_id: Some("whatever".to_owned()),
                encrypted_message_type: Some(1),
            },
            ..test.message(group, ann, at(1)).message
        },
        ..test.message(group, ann, at(1))
    };
    let empty = NewMessage {
        message: crate::domain::message::Message {
            content: MessageContent::default(),
            ..test.message(group, ann, at(2)).message
        },
        ..test.message(group, ann, at(2))
    };
    for new in [&full, &empty] {
        append(&*test.store, new.clone()).await.unwrap();
    }
    let listed = test.store.list_messages(&all_of(group, ann)).await.unwrap();
    let listed: Vec<_> = listed.into_iter().map(|seen| seen.message).collect();
    assert_eq!(listed, [empty.message, full.message]);
}

pub(crate) async fn messages_are_listed_from_either_end_of_a_range(test: UnderTest) {
    let [ann, bob] = test.users();
    let group = test.add_group(at(0), &[ann, bob]).await;
    let other = test.add_group(at(0), &[ann, bob]).await;
    let mut sent = Vec::new();
    for millis in 1..=6 {
        sent.push(test.send(group, ann, at(millis)).await);
        test.send(other, bob, at(millis)).await;
    }
    let range = IdRange { from: sent[1], until: sent[5] };
    let query = MessagesQuery { range, ..all_of(group, bob) };
    let oldest_first = MessagesQuery { order: Order::OldestFirst, ..query };
    assert_eq!(listed(&test, query).await, [sent[4], sent[3], sent[2], sent[1]]);
    assert_eq!(listed(&test, MessagesQuery { limit: 2, ..query }).await, [sent[4], sent[3]]);
    assert_eq!(listed(&test, MessagesQuery { limit: 2, ..oldest_first }).await, [sent[1], sent[2]]);
    assert_eq!(listed(&test, oldest_first).await, sent[1..5]);
    let between = MessagesQuery { range: IdRange::between(Some(at(2)), Some(at(5))), ..query };
    assert_eq!(listed(&test, between).await, [sent[3], sent[2]]);
}

/// Messages that several processes stamped within one millisecond.
pub(crate) async fn messages_of_one_millisecond_are_all_kept_and_listed(test: UnderTest) {
    let [ann] = test.users();
    let group = test.add_group(at(0), &[ann]).await;
    let before = test.send(group, ann, at(1)).await;
    let id = |process| {
        let mut bytes = *MessageId::first_of(at(2)).as_bytes();
        bytes[6] = process;
        MessageId::from_bytes(bytes)
    };
    for process in [3, 1, 2] {
        let mut new = test.message(group, ann, at(2));
        new.message.id = id(process);
        append(&*test.store, new).await.unwrap();
    }
    let after = test.send(group, ann, at(3)).await;

    assert_eq!(listed(&test, all_of(group, ann)).await, [after, id(3), id(2), id(1), before]);
    let the_run = IdRange::between(Some(at(1)), Some(at(3)));
    assert_eq!(listed(&test, MessagesQuery { range: the_run, ..all_of(group, ann) }).await, [id(3), id(2), id(1)]);
    // What the rest of a run is found by: the same millisecond, below the last one on the page.
    let rest = IdRange { from: MessageId::first_of(at(2)), until: id(3) };
    assert_eq!(listed(&test, MessagesQuery { range: rest, ..all_of(group, ann) }).await, [id(2), id(1)]);
    let below = IdRange::between(None, Some(at(2)));
    assert_eq!(listed(&test, MessagesQuery { range: below, ..all_of(group, ann) }).await, [before]);
}

pub(crate) async fn a_hidden_message_is_seen_by_all_but_those_it_is_hidden_from(test: UnderTest) {
    let [ann, bob, cid] = test.users();
    let group = test.add_group(at(0), &[ann, bob, cid]).await;
    let visible = test.send(group, ann, at(1)).await;
    let mut new = test.message(group, ann, at(2));
    new.hidden_for = vec![cid, cid];
    let hidden = new.message.id;
    append(&*test.store, new).await.unwrap();

    for (viewer, expected) in [(ann, vec![hidden, visible]), (bob, vec![hidden, visible]), (cid, vec![visible])] {
        assert_eq!(listed(&test, all_of(group, viewer)).await, expected);
        let looked_up = test.store.lookup_messages(group, viewer, &[visible, hidden]).await.unwrap();
        assert_eq!(ids(looked_up), expected);
    }
    let limited = MessagesQuery { limit: 1, ..all_of(group, cid) };
    assert_eq!(listed(&test, limited).await, [visible], "a hidden message takes no place of the limit");
    assert_eq!(test.store.newest_message_id(group).await.unwrap(), Some(hidden));
}

pub(crate) async fn looked_up_messages_are_of_the_conversation_and_newest_first(test: UnderTest) {
    let [ann] = test.users();
    let group = test.add_group(at(0), &[ann]).await;
    let other = test.add_group(at(0), &[ann]).await;
    let first = test.send(group, ann, at(1)).await;
    let second = test.send(group, ann, at(2)).await;
    let foreign = test.send(other, ann, at(3)).await;
    let largest = MessageId::from_bytes([255; 12]);
    let asked = [first, foreign, second, test.id(at(1)), first, largest];
    assert_eq!(ids(test.store.lookup_messages(group, ann, &asked).await.unwrap()), [second, first]);
}

pub(crate) async fn recent_messages_are_the_newest_and_come_oldest_first(test: UnderTest) {
    let [ann, bob] = test.users();
    let group = test.add_group(at(0), &[ann, bob]).await;
    let mut recent = Vec::new();
    for millis in 1..=4_u8 {
        let mut new = test.message(group, if millis % 2 == 0 { ann } else { bob }, at(millis.into()));
        new.fingerprint = (millis > 2).then_some(Fingerprint([millis; 16]));
        new.attempt.frame = u64::MAX - u64::from(millis);
        new.hidden_for = vec![ann];
        recent.push(RecentMessage {
            id: new.message.id,
            from: new.message.from,
            attempt: new.attempt,
            fingerprint: new.fingerprint,
        });
        append(&*test.store, new).await.unwrap();
    }
    let list = async |from, limit| test.store.list_recent(group, from, limit).await.unwrap();
    assert_eq!(list(recent[1].id, 10).await, recent[1..]);
    assert_eq!(list(IdRange::ALL.from, 2).await, recent[2..]);
    assert!(list(recent[3].id.successor(), 10).await.is_empty());
}

pub(crate) async fn the_newest_message_is_found_or_none(test: UnderTest) {
    let [ann] = test.users();
    let group = test.add_group(at(0), &[ann]).await;
    assert_eq!(test.store.newest_message_id(group).await.unwrap(), None);
    test.send(group, ann, at(1)).await;
    let newest = test.send(group, ann, at(2)).await;
    assert_eq!(test.store.newest_message_id(group).await.unwrap(), Some(newest));
}

pub(crate) async fn events_and_messages_come_in_the_order_of_the_calls(test: UnderTest) {
    let [ann] = test.users();
    let mut groups = Vec::new();
    for _ in 0..10 {
        groups.push(test.add_group(at(0), &[ann]).await);
    }
    let before = test.events().await.len();
    let messages: Vec<_> = (0..200_i64)
        .map(|number| test.message(groups[usize::try_from(number * 7 % 10).unwrap()], ann, at(number + 1)))
        .collect();
    let writes = messages.iter().map(|new| append(&*test.store, new.clone())).rev();
    // Called from the last message on: the order of calls is what counts, not that of ids.
    let mut written: Vec<_> = writes.collect();
    written.rotate_left(77);
    assert!(join_all(written).await.into_iter().all(|written| written.is_ok()));

    let events = test.events().await.split_off(before);
    let first = events[0].0;
    let positions: Vec<_> = events.iter().map(|(position, _)| *position).collect();
    assert_eq!(positions, (first..first + 200).collect::<Vec<_>>());
    for group in groups {
        let called: Vec<_> = messages
            .iter()
            .rev()
            .filter(|new| new.message.conversation_id == group)
            .map(|new| new.message.id)
            .collect();
        let told: Vec<_> = events
            .iter()
            .filter(|(_, event)| event.subject == Some(proto::v1::event::Subject::ConversationId(group.to_field())))
            .map(|(_, event)| EventId::try_from(&event.id[..]).unwrap())
            .collect();
        assert_eq!(told, called.iter().map(|&id| EventId::from(id)).collect::<Vec<_>>());
        assert_eq!(listed(&test, all_of(group, ann)).await, called);
    }
}

pub(crate) async fn a_write_that_nobody_waits_for_stands(test: UnderTest) {
    let [ann] = test.users();
    let group = test.add_group(at(0), &[ann]).await;
    let unwaited = test.message(group, ann, at(1));
    let first = unwaited.message.id;
    drop(append(&*test.store, unwaited));
    let second = test.send(group, ann, at(2)).await;
    assert_eq!(listed(&test, all_of(group, ann)).await, [second, first]);
    assert_eq!(test.event_ids().await[1..], [first.into(), second.into()]);
}
