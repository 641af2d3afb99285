//! Tests of messages in several buckets, of several processes, and of what a message costs.

use std::collections::{BTreeMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::future::join_all;
use metrics::{Counter, Gauge, Histogram, Key, KeyName, Metadata, Recorder, SharedString, Unit};
use proto::ids::{ConnectionId, IdGenerator, NewId, Timestamp};
use tokio::time::Instant;

use super::super::append::Appends;
use super::super::buckets;
use super::super::tests::{Recorder as Told, open_store, open_store_with};
use super::*;
use crate::domain::conversation::ConversationType;
use crate::domain::event::{Fact, Step, Subject};
use crate::domain::message::{Fingerprint, Message, MessageContent};
use crate::domain::read_ranges::ReadRange;
use crate::domain::session::Attempt;
use crate::store::{MAX_UNREAD, PreviewOf};

const ANN: UserId = UserId::from_bytes([1; 12]);
const BOB: UserId = UserId::from_bytes([2; 12]);
const CID: UserId = UserId::from_bytes([3; 12]);

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_millis(1_700_000_000_000 + 1_000 * seconds)
}

/// Ids and attempts that nobody has used.
struct Ids(IdGenerator, AtomicU64);

impl Ids {
    #[expect(clippy::disallowed_methods, reason = "tests share a database, and do not meet in it")]
    fn new() -> Self {
        Self(IdGenerator::new(rand::random(), rand::random()), AtomicU64::new(0))
    }

    fn next<T: From<NewId>>(&self, seconds: i64) -> T {
        self.0.next(at(seconds)).into()
    }

    /// A message of Ann's.
    fn message(&self, conversation_id: ConversationId, seconds: i64) -> NewMessage {
        let frame = self.1.fetch_add(1, Ordering::Relaxed);
        let content = MessageContent { body: format!("said at {seconds}"), ..MessageContent::default() };
        NewMessage {
            message: Message { id: self.next(seconds), conversation_id, from: ANN, content },
            attempt: Attempt { connection_id: ConnectionId::from_bytes([7; 12]), frame },
            fingerprint: Some(Fingerprint([8; 16])),
            hidden_for: Vec::new(),
        }
    }
}

/// The event of a message that all three are told of.
fn event_of(new: &NewMessage) -> Event {
    let message = new.message.clone();
    let fact = Fact::MessageSent { message, conversation_type: ConversationType::Group };
    let subject = Subject::Conversation(new.message.conversation_id);
    let steps = vec![Step::new(vec![ANN, BOB, CID], fact)];
    Event { id: new.message.id.into(), subject, attempt: new.attempt, steps }
}

async fn append(store: &ScyllaStore, new: &NewMessage) -> Result<(), StoreError> {
    store.append_message(new.clone(), event_of(new)).await
}

/// Sends so many messages, a second apart, and gives their ids. As clients do, sends again what failed.
async fn send_many(
    store: &ScyllaStore,
    ids: &Ids,
    to: ConversationId,
    seconds: std::ops::Range<i64>,
) -> Vec<MessageId> {
    let messages: Vec<_> = seconds.map(|second| ids.message(to, second)).collect();
    for burst in messages.chunks(500) {
        let mut left: Vec<_> = burst.iter().collect();
        for _ in 0..10 {
            if left.is_empty() {
                break;
            }
            let written = join_all(left.iter().map(|new| append(store, new))).await;
            left = left.into_iter().zip(written).filter(|(_, written)| written.is_err()).map(|(new, _)| new).collect();
        }
        assert!(left.is_empty(), "{} messages failed ten times", left.len());
    }
    messages.iter().map(|new| new.message.id).collect()
}

fn query(conversation_id: ConversationId, order: Order, limit: usize) -> MessagesQuery {
    MessagesQuery { conversation_id, viewer: BOB, range: IdRange::ALL, order, limit }
}

/// Everything, read page by page.
async fn paged(store: &ScyllaStore, mut query: MessagesQuery) -> Vec<MessageId> {
    let mut all = Vec::new();
    loop {
        let page = store.list_messages(&query).await.unwrap();
        all.extend(page.iter().map(|seen| seen.message.id));
        match page.last() {
            Some(last) if page.len() == query.limit => {
                query.range = marks::rest_of(query.range, query.order, last.message.id);
            }
            _ => return all,
        }
    }
}

async fn unread(store: &ScyllaStore, of: ConversationId, read: &[(MessageId, MessageId)]) -> u32 {
    let ranges = ReadRanges::new(read.iter().map(|&(from, to)| ReadRange { from, to }).collect());
    store.count_unread(of, BOB, IdRange::ALL.from, &ranges).await.unwrap()
}

/// Everything about a conversation of these messages is as it should be, whatever its buckets are.
async fn check_all(store: &ScyllaStore, of: ConversationId, sent: &[MessageId], page: usize) {
    let newest_first: Vec<_> = sent.iter().rev().copied().collect();
    assert_eq!(store.newest_message_id(of).await.unwrap(), sent.last().copied());
    assert_eq!(paged(store, query(of, Order::OldestFirst, page)).await, sent);
    assert_eq!(paged(store, query(of, Order::NewestFirst, page)).await, newest_first);
    let middle = sent.len() / 2;
    let range = IdRange { from: sent[middle - 300], until: sent[middle + 300] };
    let slice = paged(store, MessagesQuery { range, ..query(of, Order::OldestFirst, 70) }).await;
    assert_eq!(slice, sent[middle - 300..middle + 300]);

    let marks = store.list_marks(&query(of, Order::OldestFirst, 700)).await.unwrap();
    assert_eq!(marks.iter().map(|mark| mark.id).collect::<Vec<_>>(), sent[..700]);
    let recent = store.list_recent(of, sent[middle], 800).await.unwrap();
    assert_eq!(recent.iter().map(|recent| recent.id).collect::<Vec<_>>(), sent[sent.len() - 800..]);
    let asked: Vec<_> = sent.iter().step_by(sent.len() / 250).copied().collect();
    let looked_up = store.lookup_messages(of, BOB, &asked).await.unwrap();
    assert_eq!(looked_up.iter().rev().map(|seen| seen.message.id).collect::<Vec<_>>(), asked);

    let last = sent.len() - 1;
    assert_eq!(unread(store, of, &[]).await, MAX_UNREAD);
    assert_eq!(unread(store, of, &[(sent[0], sent[last])]).await, 0);
    assert_eq!(unread(store, of, &[(sent[700], sent[last])]).await, 700);
    let holes =
        [(sent[0], sent[99]), (sent[101], sent[149]), (sent[150], sent[middle]), (sent[middle + 7], sent[last])];
    assert_eq!(unread(store, of, &holes).await, 7);
    let every_other: Vec<_> = sent.iter().skip(1).step_by(2).map(|&id| (id, id)).collect();
    assert_eq!(unread(store, of, &every_other).await, MAX_UNREAD);
    let mut few = every_other.clone();
    few.push((sent[100], sent[last]));
    assert_eq!(unread(store, of, &few).await, 50);

    let of = PreviewOf { conversation_id: of, unread_from: Some(sent[last - 4]) };
    let preview = store.list_previews(BOB, &[of]).await.unwrap().remove(0);
    assert_eq!((preview.last_message.unwrap().message.id, preview.unread_count), (sent[last], 5));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs TEST_CQL_ADDRESS, the host:port of a CQL database for tests"]
async fn a_conversation_of_many_buckets_reads_as_one() {
    let (store, _) = open_store_with(|config| config.core_bucket_messages = 500).await;
    let ids = Ids::new();
    let conversation: ConversationId = ids.next(0);
    let mut sent = send_many(&store, &ids, conversation, 1..3_251).await;
    // A process that comes new to the conversation goes on in the bucket that there is.
    let (another, _) = open_store_with(|config| config.core_bucket_messages = 500).await;
    sent.extend(send_many(&another, &ids, conversation, 3_251..5_001).await);
    let begins: Vec<_> = sent.iter().step_by(500).copied().collect();
    assert_eq!(buckets::list(&store.inner, conversation).await.unwrap()[1..], begins[1..]);
    check_all(&store, conversation, &sent, 97).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "the long form: writes 100,000 messages to TEST_CQL_ADDRESS, which takes minutes"]
async fn a_conversation_of_a_hundred_thousand_messages_reads_as_one() {
    let (store, _) = open_store().await;
    let ids = Ids::new();
    let conversation: ConversationId = ids.next(0);
    let sent = send_many(&store, &ids, conversation, 1..100_001).await;
    // What failed and was sent again counts twice.
    let buckets = buckets::list(&store.inner, conversation).await.unwrap().len();
    assert!((5..=6).contains(&buckets), "{buckets}");
    check_all(&store, conversation, &sent, 997).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs TEST_CQL_ADDRESS, the host:port of a CQL database for tests"]
async fn a_conversation_goes_on_in_a_new_bucket_after_ninety_days() {
    const DAY: i64 = 24 * 60 * 60;
    let (store, _) = open_store().await;
    let ids = Ids::new();
    let conversation: ConversationId = ids.next(0);
    let mut sent = Vec::new();
    for seconds in [1, 90 * DAY - 1, 90 * DAY, 100 * DAY, 180 * DAY, 181 * DAY] {
        sent.push(send_many(&store, &ids, conversation, seconds..seconds + 1).await[0]);
    }
    let beginnings = buckets::list(&store.inner, conversation).await.unwrap();
    assert_eq!(beginnings, [buckets::FIRST, sent[2], sent[4]]);
    assert_eq!(paged(&store, query(conversation, Order::OldestFirst, 2)).await, sent);
    sent.reverse();
    assert_eq!(paged(&store, query(conversation, Order::NewestFirst, 2)).await, sent);
}

/// Each of the two believes for a while to know which bucket is the newest.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs TEST_CQL_ADDRESS, the host:port of a CQL database for tests"]
async fn what_two_processes_write_side_by_side_is_all_there_and_in_order() {
    let (one, _) = open_store_with(|config| config.core_bucket_messages = 7).await;
    let (other, _) = open_store_with(|config| config.core_bucket_messages = 5).await;
    let ids = Ids::new();
    let conversation: ConversationId = ids.next(0);
    let mut sent = Vec::new();
    for second in 1..101 {
        let store = if second % 3 == 0 { &other } else { &one };
        sent.extend(send_many(store, &ids, conversation, second..second + 1).await);
    }
    assert_eq!(paged(&one, query(conversation, Order::OldestFirst, 9)).await, sent);
    let looked_up = other.lookup_messages(conversation, BOB, &sent).await.unwrap();
    sent.reverse();
    assert_eq!(looked_up.iter().map(|seen| seen.message.id).collect::<Vec<_>>(), sent);
    assert_eq!(paged(&other, query(conversation, Order::NewestFirst, 9)).await, sent);
    assert_eq!(one.newest_message_id(conversation).await.unwrap(), Some(sent[0]));
}

/// Counts the requests of each statement.
#[derive(Default)]
struct Requests(Mutex<BTreeMap<String, Arc<AtomicU64>>>);

impl Requests {
    /// Those since this was asked last.
    fn take(&self) -> BTreeMap<String, u64> {
        let counters = self.0.lock().unwrap();
        let counts = counters.iter().map(|(name, count)| (name.clone(), count.swap(0, Ordering::Relaxed)));
        counts.filter(|(_, count)| *count > 0).collect()
    }
}

impl Recorder for Requests {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        if key.name() != "core_cql_requests_total" {
            return Counter::noop();
        }
        let statement = key.labels().map(|label| label.value().to_owned()).collect();
        Counter::from_arc(Arc::clone(self.0.lock().unwrap().entry(statement).or_default()))
    }

    fn register_gauge(&self, _: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::noop()
    }

    fn register_histogram(&self, _: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::noop()
    }
}

#[tokio::test]
#[ignore = "needs TEST_CQL_ADDRESS, the host:port of a CQL database for tests"]
async fn in_a_busy_conversation_a_message_is_two_writes_and_no_read() {
    let requests = Requests::default();
    let _counted = metrics::set_default_local_recorder(&requests);
    let (store, _) = open_store().await;
    let ids = Ids::new();
    let conversation: ConversationId = ids.next(0);
    requests.take();
    send_many(&store, &ids, conversation, 1..2).await;
    let first = requests.take();
    assert_eq!((first["add_message"], first["add_location"]), (1, 1));
    assert_eq!((first["newest_bucket"], first["count_bucket"]), (1, 1));
    assert_eq!(first.len(), 5, "and what the hour's first message notes of its members: {first:?}");

    // A machine that is busy with other tests may not be done within the two seconds; then it is tried again.
    let mut rounds = 1..50;
    let busy = loop {
        let second = rounds.next().expect("one of many rounds is quick");
        pass(Duration::from_millis(2_001)).await;
        let looked_up_at = Instant::now();
        send_many(&store, &ids, conversation, 2 * second..2 * second + 1).await;
        let later = requests.take();
        assert_eq!(later["newest_bucket"], 1, "another process may have opened a bucket meanwhile");
        assert_eq!(later.values().sum::<u64>(), 3, "{later:?}");
        pass(Duration::from_millis(1_000)).await;
        send_many(&store, &ids, conversation, 2 * second + 1..2 * second + 2).await;
        let busy = requests.take();
        if looked_up_at.elapsed() < Duration::from_secs(2) {
            break busy;
        }
    };
    let expected = [("add_location", 1), ("add_message", 1)].map(|(name, count)| (name.to_owned(), count));
    assert_eq!(busy, BTreeMap::from(expected));

    let burst = send_many(&store, &ids, conversation, 106..206).await;
    let of_burst = requests.take();
    assert_eq!(of_burst["add_location"], burst.len() as u64);
    assert!(of_burst["add_message"] <= 3, "{of_burst:?}");
}

/// Lets time pass.
async fn pass(time: Duration) {
    tokio::time::pause();
    tokio::time::advance(time).await;
    tokio::time::resume();
}

fn told(events: &Told) -> Vec<Vec<u8>> {
    events.events().into_iter().map(|event| event.id.to_vec()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs TEST_CQL_ADDRESS, the host:port of a CQL database for tests"]
async fn the_event_of_a_stored_message_is_told_again_as_it_was() {
    let (store, before) = open_store().await;
    let ids = Ids::new();
    let conversation: ConversationId = ids.next(0);
    let mut new = ids.message(conversation, 1);
    new.hidden_for = vec![BOB, CID];
    append(&store, &new).await.unwrap();
    let of_change = ids.message(conversation, 2);
    for _ in 0..2 {
        append::write_rows(&store.inner, std::slice::from_ref(&of_change)).await.unwrap();
    }
    let (another, after) = open_store().await;
    let unknown: MessageId = ids.next(3);
    for id in [new.message.id, of_change.message.id, unknown] {
        let event_of = |stored: &NewMessage| {
            assert_eq!(*stored, new);
            event_of(stored)
        };
        another.tell_again(conversation, id, &event_of).await.unwrap();
    }
    assert_eq!(told(&after), [new.message.id.as_bytes().to_vec()]);
    assert_eq!(after.events(), before.events());
    assert_eq!(paged(&store, query(conversation, Order::OldestFirst, 10)).await, [of_change.message.id]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs TEST_CQL_ADDRESS, the host:port of a CQL database for tests"]
async fn of_two_rows_of_one_attempt_the_lower_is_the_message() {
    let (store, _) = open_store().await;
    let ids = Ids::new();
    let conversation: ConversationId = ids.next(0);
    let first = ids.message(conversation, 1);
    let second = ids.message(conversation, 2);
    let double = NewMessage { attempt: first.attempt, ..ids.message(conversation, 3) };
    for new in [&first, &second, &double] {
        append(&store, new).await.unwrap();
    }
    let [first, second] = [first.message.id, second.message.id];
    assert_eq!(paged(&store, query(conversation, Order::OldestFirst, 10)).await, [first, second]);
    assert_eq!(paged(&store, query(conversation, Order::NewestFirst, 10)).await, [second, first]);
    assert_eq!(store.newest_message_id(conversation).await.unwrap(), Some(double.message.id));
    let recent = store.list_recent(conversation, IdRange::ALL.from, 10).await.unwrap();
    assert_eq!(recent.iter().map(|recent| recent.id).collect::<Vec<_>>(), [first, second]);
    assert_eq!(store.newest_message_id(conversation).await.unwrap(), Some(second), "the other row is deleted");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs TEST_CQL_ADDRESS, the host:port of a CQL database for tests"]
async fn a_message_that_waited_too_long_is_refused_and_not_written() {
    let (mut store, events) = open_store().await;
    let inner = Arc::get_mut(&mut store.inner).expect("nobody else has it yet");
    inner.appends = Appends::with_longest_wait(Duration::ZERO);
    let ids = Ids::new();
    let conversation: ConversationId = ids.next(0);
    let refused = append(&store, &ids.message(conversation, 1)).await;
    assert!(matches!(refused, Err(StoreError::Overloaded)), "{refused:?}");
    assert_eq!(store.newest_message_id(conversation).await.unwrap(), None);
    assert!(events.events().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs TEST_CQL_ADDRESS, the host:port of a CQL database for tests"]
async fn an_event_of_reading_leaves_after_the_messages_that_were_sent_before() {
    let (store, events) = open_store().await;
    let ids = Ids::new();
    let conversation: ConversationId = ids.next(0);
    let messages: Vec<_> = (1..301).map(|second| ids.message(conversation, second)).collect();
    for new in &messages {
        drop(store.append_message(new.clone(), event_of(new)));
    }
    let reading = Event { id: ids.next(301), steps: Vec::new(), ..event_of(&messages[0]) };
    let range = ReadRange { from: messages[0].message.id, to: messages[9].message.id };
    let change = ReadRangesChange { removed: Vec::new(), added: vec![range] };
    store.change_read_ranges(conversation, BOB, &change, Some(reading.clone())).await.unwrap();
    let sent = messages.iter().map(|new| new.message.id.as_bytes().to_vec());
    assert_eq!(told(&events), sent.chain([reading.id.as_bytes().to_vec()]).collect::<Vec<_>>());
}

/// The ranges of a reader with many holes are read in pieces, and the readers after him are not forgotten.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs TEST_CQL_ADDRESS, the host:port of a CQL database for tests"]
async fn what_readers_with_many_holes_have_read_is_found() {
    let (store, _) = open_store().await;
    let ids = Ids::new();
    let conversation: ConversationId = ids.next(0);
    let sent = send_many(&store, &ids, conversation, 1..1_401).await;
    let dan = UserId::from_bytes([4; 12]);
    for (reader, first) in [(BOB, 4), (CID, 5), (dan, 6)] {
        let of_reader = sent.iter().skip(first).step_by(2).map(|&id| ReadRange { from: id, to: id });
        let change = ReadRangesChange { removed: Vec::new(), added: of_reader.collect() };
        store.change_read_ranges(conversation, reader, &change, None).await.unwrap();
    }
    let range = ReadRange { from: sent[1], to: sent[1] };
    let change = ReadRangesChange { removed: Vec::new(), added: vec![range] };
    store.change_read_ranges(conversation, dan, &change, None).await.unwrap();

    let seen = MessagesQuery { viewer: ANN, ..query(conversation, Order::OldestFirst, 10) };
    let read: Vec<_> = store.list_messages(&seen).await.unwrap().into_iter().map(|seen| seen.is_read).collect();
    assert_eq!(read, [false, true, false, false, true, true, true, true, true, true]);
}

/// Two processes that change one user's marks from the same state.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs TEST_CQL_ADDRESS, the host:port of a CQL database for tests"]
async fn nothing_that_is_read_becomes_unread_in_a_race() {
    let (store, _) = open_store().await;
    let ids = Ids::new();
    let conversation: ConversationId = ids.next(0);
    let sent: Vec<MessageId> = (0..10).map(|second| ids.next(second)).collect();
    let range = |from: usize, to: usize| ReadRange { from: sent[from], to: sent[to] };
    let change = async |removed: &[usize], added: ReadRange| {
        let removed = removed.iter().map(|&from| sent[from]).collect();
        let change = ReadRangesChange { removed, added: vec![added] };
        store.change_read_ranges(conversation, BOB, &change, None).await.unwrap();
    };
    change(&[], range(5, 6)).await;
    let both = [(&[5][..], range(5, 9)), (&[5][..], range(1, 7))];
    for order in [[0, 1], [1, 0]] {
        for position in order {
            let (removed, added) = both[position];
            change(removed, added).await;
        }
        let ranges = store.lookup_read_ranges(conversation, BOB).await.unwrap();
        assert_eq!(ranges, ReadRanges::new(vec![range(1, 9)]));
    }
}

#[test]
fn of_rows_of_one_attempt_all_but_the_lowest_are_doubles() {
    let id = |seconds| MessageId::first_of(at(seconds));
    let mark = |seconds, frame, is_of_change| {
        let attempt = Attempt { connection_id: ConnectionId::from_bytes([1; 12]), frame };
        let recent = RecentMessage { id: id(seconds), from: ANN, attempt, fingerprint: None };
        StoredMark { recent, hidden_for: Vec::new(), is_of_change, bucket: buckets::FIRST }
    };
    let marks = [mark(9, 1, false), mark(8, 2, false), mark(7, 1, false), mark(6, 3, true), mark(5, 3, true)];
    assert_eq!(doubles(marks.iter().filter_map(StoredMark::attempt)), HashSet::from([id(9)]));
}
