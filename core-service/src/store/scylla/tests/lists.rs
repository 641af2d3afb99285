//! Lists of a user of many conversations: found by walking back through his activity, they are what looking at all of them
//! would give.

use std::cmp::Reverse;

use futures_util::{StreamExt, stream};
use proto::ids::{ConversationId, Timestamp, UserId};

use super::{ScyllaStore, open_store};
use crate::domain::clock::Stamps;
use crate::domain::conversation::{Conversation, ConversationType, Member};
use crate::domain::event::Subject;
use crate::store::contract::{UnderTest, members_at};
use crate::store::{ConversationChange, ConversationStore, HeadsQuery};

const HOUR_MS: i64 = 60 * 60 * 1000;
const DAY_MS: i64 = 24 * HOUR_MS;

/// A conversation as the list should show it.
#[derive(Clone, Copy)]
struct Expected {
    id: ConversationId,
    joined_at: Timestamp,
    updated_at: Timestamp,
}

struct Lists {
    store: ScyllaStore,
    test: UnderTest,
    user_id: UserId,
    now: Timestamp,
    all: Vec<Expected>,
}

impl Lists {
    async fn open() -> Self {
        let (store, recorder) = open_store().await;
        let test = UnderTest::new(std::sync::Arc::new(store.clone()), Box::new(recorder), Box::new(()));
        let user_id = test.users::<1>()[0];
        Self { store, test, user_id, now: Stamps::of_this_process().now(), all: Vec::new() }
    }

    /// Adds conversations that were updated, by their change or by a message, and joined so many milliseconds ago.
    async fn add(&mut self, kind: ConversationType, ages: impl IntoIterator<Item = (i64, i64, bool)>) {
        let this = &*self;
        let added = ages.into_iter().map(|ages| this.add_one(kind, ages)).collect::<Vec<_>>();
        let added: Vec<_> = stream::iter(added).buffer_unordered(16).collect().await;
        self.all.extend(added);
    }

    async fn add_one(&self, kind: ConversationType, (updated, joined, by_message): (i64, i64, bool)) -> Expected {
        let (updated_at, joined_at) = (self.now.plus_millis(-updated), self.now.plus_millis(-joined));
        let changed_at = if by_message { updated_at.plus_millis(-3 * DAY_MS) } else { updated_at };
        let group = Conversation { kind, ..self.test.group(self.user_id, changed_at) };
        let event = self.test.event(Subject::Conversation(group.id));
        let members = members_at(&[self.user_id], joined_at);
        self.store.create_conversation(&group, &members, self.test.attempt(), event).await.unwrap();
        if by_message {
            self.test.send(group.id, self.user_id, updated_at).await;
        }
        Expected { id: group.id, joined_at, updated_at }
    }

    fn query(&self, limit: usize) -> HeadsQuery {
        HeadsQuery { user_id: self.user_id, updated_after: None, updated_before: None, ids: None, limit }
    }

    fn expected(&self, query: &HeadsQuery) -> Vec<ConversationId> {
        let mut wanted = self.all.clone();
        wanted.retain(|it| {
            query.updated_after.is_none_or(|after| it.updated_at > after || it.joined_at > after)
                && query.updated_before.is_none_or(|before| it.updated_at < before)
        });
        wanted.sort_by_key(|it| Reverse((it.updated_at, it.id)));
        if let Some(oldest) = wanted.get(query.limit - 1).map(|it| it.updated_at) {
            wanted.retain(|it| it.updated_at >= oldest);
        }
        wanted.into_iter().map(|it| it.id).collect()
    }

    /// How many requests the list took, and how long, after it was checked.
    async fn check(&self, query: &HeadsQuery) -> (usize, std::time::Duration) {
        let cuts = &self.store.inner.database.cuts;
        let (before, begun) = (cuts.requests(), std::time::Instant::now());
        let heads = self.store.list_heads(query).await.unwrap();
        let taken = (cuts.requests() - before, begun.elapsed());
        let listed: Vec<_> = heads.into_iter().map(|head| head.conversation.id).collect();
        assert_eq!(listed, self.expected(query), "{query:?}");
        taken
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs TEST_CQL_ADDRESS, the host:port of a CQL database for tests"]
async fn a_walk_lists_what_looking_at_all_would() {
    let mut lists = Lists::open().await;
    // Two each day and a half, down to ones that no activity is kept of; some lately joined.
    let ages = (0..60).map(|number| {
        let updated = number * (DAY_MS * 3 / 4) + 7 * number;
        let joined = if number % 7 == 3 { HOUR_MS * number } else { updated + DAY_MS };
        (updated, joined, number % 3 == 1)
    });
    lists.add(ConversationType::Group, ages).await;
    // Several at the very same time.
    lists.add(ConversationType::Group, [(2 * DAY_MS, 9 * DAY_MS, false); 5]).await;
    lists.add(ConversationType::Channel, [(HOUR_MS, DAY_MS, true), (3 * DAY_MS, 4 * DAY_MS, false)]).await;
    for limit in [1, 2, 4, 10, 25, 31] {
        let all = lists.query(limit);
        lists.check(&all).await;
        for days in [-1, 0, 1, 2, 5, 34, 35, 36, 40, 44] {
            let at = Some(lists.now.plus_millis(-days * DAY_MS));
            lists.check(&HeadsQuery { updated_before: at, ..all.clone() }).await;
            lists.check(&HeadsQuery { updated_after: at, ..all.clone() }).await;
            let until = at.map(|at| at.plus_millis(3 * DAY_MS));
            lists.check(&HeadsQuery { updated_after: at, updated_before: until, ..all.clone() }).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs TEST_CQL_ADDRESS, the host:port of a CQL database for tests"]
async fn a_user_of_many_conversations_has_his_list_in_time() {
    let mut lists = Lists::open().await;
    lists.add(ConversationType::Group, (0..450).map(|number| (number * HOUR_MS / 5, 50 * DAY_MS, false))).await;
    lists.add(ConversationType::Channel, (0..50).map(|number| (number * HOUR_MS, 50 * DAY_MS, false))).await;
    for limit in [30, 100] {
        let (requests, taken) = lists.check(&lists.query(limit)).await;
        println!("a list of {limit}: {requests} requests, {taken:?}");
        // Three for each that is looked at: the channels, and of the others a step beyond the limit.
        assert!(requests <= 3 * (50 + limit + 64) + 20, "{requests}");
    }
    // Nothing lately: all are looked at.
    let long_ago = Some(lists.now.plus_millis(-40 * DAY_MS));
    let (requests, taken) = lists.check(&HeadsQuery { updated_before: long_ago, ..lists.query(30) }).await;
    println!("an empty list: {requests} requests, {taken:?}");
    assert!(taken < std::time::Duration::from_millis(1_800), "{taken:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs TEST_CQL_ADDRESS, the host:port of a CQL database for tests"]
async fn who_comes_back_finds_the_conversation_where_its_last_message_puts_it() {
    let mut lists = Lists::open().await;
    lists.add(ConversationType::Group, (0..20).map(|number| (number * DAY_MS, 50 * DAY_MS, false))).await;
    // A pair whose other side left before the last message.
    let test = &lists.test;
    let other = test.users::<1>()[0];
    let made_at = lists.now.plus_millis(-30 * DAY_MS);
    let pair = Conversation { id: test.id(made_at), changed_at: made_at, ..test.pair(other, lists.user_id) };
    let event = test.event(Subject::Conversation(pair.id));
    let members = members_at(&[other], made_at);
    lists.store.create_conversation(&pair, &members, test.attempt(), event).await.unwrap();
    let said_at = lists.now.plus_millis(-5 * DAY_MS - 1);
    test.send(pair.id, other, said_at).await;
    let joined_at = lists.now;
    let back = ConversationChange {
        conversation: pair.clone(),
        expected_version: 1,
        added: vec![Member { joined_at, ..members_at(&[lists.user_id], joined_at).remove(0) }],
        removed: Vec::new(),
        roles: Vec::new(),
        messages: Vec::new(),
        attempt: test.attempt(),
    };
    assert!(lists.store.change_conversation(back, test.event(Subject::Conversation(pair.id))).await.unwrap());
    lists.all.push(Expected { id: pair.id, joined_at, updated_at: said_at });
    for limit in [1, 6, 7, 10] {
        lists.check(&lists.query(limit)).await;
    }
    let lately = Some(lists.now.plus_millis(-HOUR_MS));
    lists.check(&HeadsQuery { updated_after: lately, ..lists.query(3) }).await;
}
