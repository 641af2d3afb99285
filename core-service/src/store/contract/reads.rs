//! Promises of [`MessageStore`](crate::store::MessageStore) about what is read and what is not.

use futures_util::future::join_all;
use proto::ids::{ConversationId, MessageId, UserId};

use super::{UnderTest, append, at};
use crate::domain::event::Subject;
use crate::domain::message::{IdRange, MessageMark};
use crate::domain::read_ranges::{ReadRange, ReadRanges, ReadRangesChange};
use crate::store::{MAX_UNREAD, MessagesQuery, Order, Preview, PreviewOf};

async fn read(test: &UnderTest, conversation_id: ConversationId, reader: UserId, from: MessageId, to: MessageId) {
    let change = ReadRangesChange { removed: Vec::new(), added: vec![ReadRange { from, to }] };
    let event = test.event(Subject::Conversation(conversation_id));
    test.store.change_read_ranges(conversation_id, reader, &change, Some(event)).await.unwrap();
}

/// Whether each message that the viewer sees is read, oldest first.
async fn is_read(test: &UnderTest, conversation_id: ConversationId, viewer: UserId) -> Vec<bool> {
    let query = MessagesQuery { conversation_id, viewer, range: IdRange::ALL, order: Order::OldestFirst, limit: 100 };
    let seen = test.store.list_messages(&query).await.unwrap();
    let ids: Vec<_> = seen.iter().map(|seen| seen.message.id).collect();
    let mut looked_up = test.store.lookup_messages(conversation_id, viewer, &ids).await.unwrap();
    looked_up.reverse();
    assert_eq!(looked_up, seen, "both ways of asking say the same");
    seen.into_iter().map(|seen| seen.is_read).collect()
}

async fn preview(test: &UnderTest, viewer: UserId, of: ConversationId, unread_from: Option<MessageId>) -> Preview {
    let of = PreviewOf { conversation_id: of, unread_from };
    test.store.list_previews(viewer, &[of]).await.unwrap().pop().unwrap()
}

async fn unread(test: &UnderTest, viewer: UserId, of: ConversationId) -> u32 {
    preview(test, viewer, of, Some(IdRange::ALL.from)).await.unread_count
}

pub(crate) async fn a_message_is_read_by_others_than_its_author(test: UnderTest) {
    let [ann, bob] = test.users();
    let group = test.add_group(at(0), &[ann, bob]).await;
    let other = test.add_group(at(0), &[ann, bob]).await;
    let mut sent = Vec::new();
    for (millis, from) in [(1, ann), (2, bob), (3, ann), (4, ann)] {
        sent.push(test.send(group, from, at(millis)).await);
    }
    assert_eq!(is_read(&test, group, ann).await, [false; 4]);
    read(&test, other, bob, IdRange::ALL.from, IdRange::ALL.until).await;
    assert_eq!(is_read(&test, group, ann).await, [false; 4], "a range of another conversation");
    read(&test, group, ann, sent[0], sent[0]).await;
    assert_eq!(is_read(&test, group, ann).await, [false; 4], "the author's own range");
    read(&test, group, bob, sent[0], sent[2]).await;
    assert_eq!(is_read(&test, group, ann).await, [true, false, true, false]);
    // His own message lies in his range and is not read by it; of hers he is told nothing.
    assert_eq!(is_read(&test, group, bob).await, [false; 4]);
    read(&test, group, ann, sent[1], sent[3]).await;
    assert_eq!(is_read(&test, group, bob).await, [false, true, false, false]);
    assert_eq!(is_read(&test, group, ann).await, [true, false, true, false]);
}

pub(crate) async fn a_message_is_read_as_soon_as_a_range_of_any_reader_lies_over_it(test: UnderTest) {
    let [ann, bob, cid, dan] = test.users();
    let group = test.add_group(at(0), &[ann, bob, cid, dan]).await;
    let mut sent = Vec::new();
    for millis in 1..=8 {
        sent.push(test.send(group, ann, at(millis)).await);
    }
    for (reader, first, last) in [(bob, 1, 1), (bob, 5, 6), (ann, 0, 7), (dan, 3, 5)] {
        read(&test, group, reader, sent[first], sent[last]).await;
    }
    // Between two messages, over none.
    read(&test, group, cid, sent[0].successor(), sent[0].successor()).await;
    assert_eq!(is_read(&test, group, ann).await, [false, true, false, true, true, true, true, false]);
    // Whoever has ranges and is no member has left; what he read stays read.
    let [former] = test.users();
    read(&test, group, former, sent[7], sent[7]).await;
    assert_eq!(is_read(&test, group, ann).await, [false, true, false, true, true, true, true, true]);
}

pub(crate) async fn a_range_over_a_hidden_message_does_not_read_it(test: UnderTest) {
    let [ann, bob, cid] = test.users();
    let group = test.add_group(at(0), &[ann, bob, cid]).await;
    let mut hidden = test.message(group, ann, at(1));
    hidden.hidden_for = vec![bob];
    let id = hidden.message.id;
    append(&*test.store, hidden).await.unwrap();
    read(&test, group, bob, id, id).await;
    assert_eq!(is_read(&test, group, ann).await, [false]);
    read(&test, group, cid, id, id).await;
    assert_eq!(is_read(&test, group, ann).await, [true]);
}

pub(crate) async fn unread_are_messages_of_others_in_the_membership_that_are_visible_and_not_read(test: UnderTest) {
    let [ann, bob] = test.users();
    let group = test.add_group(at(0), &[ann, bob]).await;
    let mut sent = Vec::new();
    for (millis, from) in [(1, ann), (2, ann), (3, bob), (4, ann), (5, ann)] {
        sent.push(test.send(group, from, at(millis)).await);
    }
    let mut hidden = test.message(group, ann, at(6));
    hidden.hidden_for = vec![bob];
    append(&*test.store, hidden).await.unwrap();

    assert_eq!(unread(&test, bob, group).await, 4);
    assert_eq!(unread(&test, ann, group).await, 1);
    assert_eq!(preview(&test, bob, group, Some(sent[1])).await.unread_count, 3, "without what came before he joined");
    assert_eq!(preview(&test, bob, group, None).await.unread_count, 0, "where nothing is ever unread");

    read(&test, group, bob, sent[3], sent[3]).await;
    assert_eq!(unread(&test, bob, group).await, 3);
    read(&test, group, bob, sent[0], sent[1]).await;
    assert_eq!(unread(&test, bob, group).await, 1);
    assert_eq!(preview(&test, bob, group, Some(sent[1])).await.unread_count, 1);
    assert_eq!(unread(&test, ann, group).await, 1, "what one has read the other has not");
}

pub(crate) async fn unread_messages_are_counted_up_to_a_limit(test: UnderTest) {
    let [ann, bob] = test.users();
    let group = test.add_group(at(0), &[ann, bob]).await;
    let messages: Vec<_> = (1..=i64::from(MAX_UNREAD) + 4).map(|millis| test.message(group, ann, at(millis))).collect();
    let written = join_all(messages.iter().map(|new| append(&*test.store, new.clone()))).await;
    assert!(written.into_iter().all(|written| written.is_ok()));

    assert_eq!(unread(&test, bob, group).await, MAX_UNREAD);
    let id = |number: usize| messages[number].message.id;
    // Two gaps with two messages more than the limit, then three gaps with one less.
    read(&test, group, bob, id(5), id(6)).await;
    assert_eq!(unread(&test, bob, group).await, MAX_UNREAD);
    read(&test, group, bob, id(9), id(11)).await;
    assert_eq!(unread(&test, bob, group).await, MAX_UNREAD - 1);
}

pub(crate) async fn unread_messages_are_counted_for_ranges_that_are_not_stored(test: UnderTest) {
    let [ann, bob] = test.users();
    let group = test.add_group(at(0), &[ann, bob]).await;
    let mut sent = Vec::new();
    for millis in 1..=5 {
        sent.push(test.send(group, ann, at(millis)).await);
    }
    read(&test, group, bob, sent[0], sent[4]).await;
    let count = async |unread_from, ranges: &[(usize, usize)]| {
        let ranges = ranges.iter().map(|&(first, last)| ReadRange { from: sent[first], to: sent[last] });
        let ranges = ReadRanges::new(ranges.collect());
        test.store.count_unread(group, bob, unread_from, &ranges).await.unwrap()
    };
    assert_eq!(count(IdRange::ALL.from, &[]).await, 5);
    assert_eq!(count(sent[1], &[]).await, 4);
    assert_eq!(count(sent[1], &[(0, 1), (3, 3)]).await, 2);
    assert_eq!(count(sent[1], &[(0, 4)]).await, 0);
}

pub(crate) async fn previews_come_in_the_order_asked(test: UnderTest) {
    let [ann, bob] = test.users();
    let silent = test.add_group(at(0), &[ann, bob]).await;
    let hidden_end = test.add_group(at(0), &[ann, bob]).await;
    let plain = test.add_group(at(0), &[ann, bob]).await;
    let visible = test.send(hidden_end, ann, at(1)).await;
    let mut hidden = test.message(hidden_end, ann, at(2));
    hidden.hidden_for = vec![bob];
    append(&*test.store, hidden).await.unwrap();
    let last = test.send(plain, bob, at(3)).await;
    read(&test, plain, ann, last, last).await;

    let of = [plain, silent, hidden_end, plain]
        .map(|conversation_id| PreviewOf { conversation_id, unread_from: Some(IdRange::ALL.from) });
    let previews = test.store.list_previews(bob, &of).await.unwrap();
    let shown: Vec<_> = previews
        .iter()
        .map(|preview| {
            let last = preview.last_message.as_ref().map(|seen| (seen.message.id, seen.is_read));
            (last, preview.unread_count)
        })
        .collect();
    assert_eq!(shown, [(Some((last, true)), 0), (None, 0), (Some((visible, false)), 1), (Some((last, true)), 0)]);
}

pub(crate) async fn the_last_message_of_a_preview_is_read_or_not_whoever_wrote_it(test: UnderTest) {
    let [ann, bob] = test.users();
    let group = test.add_group(at(0), &[ann, bob]).await;
    let last = test.send(group, ann, at(1)).await;
    let is_read = async |viewer| preview(&test, viewer, group, None).await.last_message.unwrap().is_read;
    assert_eq!((is_read(ann).await, is_read(bob).await), (false, false));
    read(&test, group, bob, last, last).await;
    assert_eq!((is_read(ann).await, is_read(bob).await), (true, true));
}

pub(crate) async fn read_ranges_change_for_one_user_in_one_conversation(test: UnderTest) {
    let [ann, bob] = test.users();
    let group = test.add_group(at(0), &[ann, bob]).await;
    let other = test.add_group(at(0), &[ann, bob]).await;
    let range = |from, to| ReadRange { from: MessageId::first_of(at(from)), to: MessageId::first_of(at(to)) };
    let change = async |conversation_id, user_id, removed: &[ReadRange], added: &[ReadRange]| {
        let removed = removed.iter().map(|range| range.from).collect();
        let change = ReadRangesChange { removed, added: added.to_vec() };
        let event = test.event(Subject::Conversation(conversation_id));
        test.store.change_read_ranges(conversation_id, user_id, &change, Some(event.clone())).await.unwrap();
        assert_eq!(test.event_ids().await.last(), Some(&event.id));
    };
    change(group, ann, &[], &[range(5, 6), range(1, 2)]).await;
    change(group, bob, &[], &[range(1, 3)]).await;
    change(other, ann, &[], &[range(1, 4)]).await;
    change(group, ann, &[range(1, 2), range(5, 6)], &[range(1, 6), range(8, 8)]).await;

    let ranges =
        async |conversation_id, user_id| test.store.lookup_read_ranges(conversation_id, user_id).await.unwrap();
    assert_eq!(ranges(group, ann).await, ReadRanges::new(vec![range(1, 6), range(8, 8)]));
    assert_eq!(ranges(group, bob).await, ReadRanges::new(vec![range(1, 3)]));
    assert_eq!(ranges(other, ann).await, ReadRanges::new(vec![range(1, 4)]));
    assert_eq!(ranges(other, bob).await, ReadRanges::default());
}

pub(crate) async fn read_ranges_change_without_an_event_where_nobody_needs_to_know(test: UnderTest) {
    let [ann] = test.users();
    let group = test.add_group(at(0), &[ann]).await;
    let before = test.event_ids().await;
    let range = ReadRange { from: MessageId::first_of(at(1)), to: MessageId::first_of(at(2)) };
    let change = ReadRangesChange { removed: Vec::new(), added: vec![range] };
    test.store.change_read_ranges(group, ann, &change, None).await.unwrap();
    assert_eq!(test.store.lookup_read_ranges(group, ann).await.unwrap(), ReadRanges::new(vec![range]));
    assert_eq!(test.event_ids().await, before);
}

pub(crate) async fn what_is_read_stays_read_when_a_range_comes_again(test: UnderTest) {
    let [ann] = test.users();
    let group = test.add_group(at(0), &[ann]).await;
    let id = |millis| MessageId::first_of(at(millis));
    read(&test, group, ann, id(1), id(9)).await;
    read(&test, group, ann, id(1), id(5)).await;
    let ranges = test.store.lookup_read_ranges(group, ann).await.unwrap();
    assert_eq!(ranges, ReadRanges::new(vec![ReadRange { from: id(1), to: id(9) }]));
}

pub(crate) async fn marks_come_from_either_end_and_say_what_is_hidden(test: UnderTest) {
    let [ann, bob] = test.users();
    let group = test.add_group(at(0), &[ann, bob]).await;
    let mut marks = Vec::new();
    for (millis, from, is_hidden) in [(1, ann, false), (2, ann, true), (3, bob, false), (4, ann, false)] {
        let mut new = test.message(group, from, at(millis));
        new.hidden_for = if is_hidden { vec![bob] } else { vec![ann] };
        marks.push(MessageMark { id: new.message.id, from, is_hidden });
        append(&*test.store, new).await.unwrap();
    }
    let list = async |order, limit| {
        let range = IdRange { from: marks[0].id, until: marks[3].id };
        let query = MessagesQuery { conversation_id: group, viewer: bob, range, order, limit };
        test.store.list_marks(&query).await.unwrap()
    };
    assert_eq!(list(Order::OldestFirst, 10).await, marks[..3]);
    assert_eq!(list(Order::OldestFirst, 2).await, marks[..2]);
    assert_eq!(list(Order::NewestFirst, 2).await, [marks[2], marks[1]]);

    let asked = [marks[1].id, test.id(at(1)), marks[3].id, marks[1].id, MessageId::from_bytes([255; 12])];
    assert_eq!(test.store.lookup_marks(group, bob, &asked).await.unwrap(), [marks[3], marks[1]]);
    let elsewhere = test.add_group(at(0), &[ann, bob]).await;
    assert!(test.store.lookup_marks(elsewhere, bob, &asked).await.unwrap().is_empty());
}
