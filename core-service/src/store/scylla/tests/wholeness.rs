//! What takes several steps takes effect as a whole, wherever it is cut: others see all of it or nothing, and a repeat of
//! the attempt ends as the first would have.

use std::sync::Arc;

use proto::ids::{ConversationId, MessageId, UserId};
use proto::v1;

use super::cuts::{Cut, CutPublisher, Cuts};
use super::{Recorder, ScyllaStore, open_store_telling};
use crate::domain::conversation::{Conversation, ConversationRecord, Member, Role};
use crate::domain::event::{Event, Fact, Step, Subject};
use crate::domain::message::IdRange;
use crate::domain::session::Attempt;
use crate::store::contract::{UnderTest, at, members_at};
use crate::store::{
    ConversationChange, ConversationStore, Erasure, HeadsQuery, MessageStore, MessagesQuery, Order, PastChange,
    REPEATED_MS, StoreError,
};

/// A process that is cut, and another one that is not.
struct Two {
    cut: ScyllaStore,
    cuts: Arc<Cuts>,
    other: ScyllaStore,
    recorder: Arc<Recorder>,
    /// Makes what is written, on the other process.
    test: UnderTest,
}

/// A cut after so many requests.
#[derive(Clone, Copy, Debug)]
struct Point {
    passing: usize,
    cut: Cut,
}

/// Lets a story happen with a cut after each number of requests, until it ends uncut; it says whether it was cut.
async fn at_every_point(story: impl AsyncFn(&Two, Point) -> bool) {
    let two = Two::open().await;
    for cut in Cut::ALL {
        let mut passing = 0;
        while story(&two, Point { passing, cut }).await {
            passing += 1;
        }
        assert!(passing >= 6, "it ended after {passing} requests");
    }
}

impl Two {
    async fn open() -> Self {
        let recorder = Arc::new(Recorder::default());
        let publisher = Arc::new(CutPublisher::new(Arc::clone(&recorder)));
        let cut = open_store_telling(Arc::clone(&publisher) as _, |_| ()).await;
        let cuts = Arc::clone(&cut.inner.database.cuts);
        publisher.join(Arc::clone(&cuts));
        let other = open_store_telling(Arc::new(CutPublisher::new(Arc::clone(&recorder))), |_| ()).await;
        let test = UnderTest::new(Arc::new(other.clone()), Box::new(Arc::clone(&recorder)), Box::new(()));
        Self { cut, cuts, other, recorder, test }
    }

    /// Makes a call on the first process, cut at this point: what it returned, if it did, and whether it was cut at all.
    async fn cut_at<T>(&self, point: Point, call: impl Future<Output = Result<T, StoreError>>) -> (Option<T>, bool) {
        self.cuts.plan(point.passing, point.cut);
        let outcome = self.cuts.until_death(call).await;
        let was_cut = self.cuts.clear();
        let outcome = match outcome {
            Some(Err(error)) if !was_cut => panic!("{error:?}"),
            Some(outcome) => outcome.ok(),
            None => None,
        };
        (outcome, was_cut)
    }

    /// Who repeats what was cut: the process itself, or another one.
    fn repeating(&self, point: Point) -> &ScyllaStore {
        if point.passing.is_multiple_of(2) { &self.other } else { &self.cut }
    }

    fn told(&self, id: ConversationId) -> Vec<v1::Event> {
        let subject = Some(v1::event::Subject::ConversationId(id.to_field()));
        self.recorder.events().into_iter().filter(|event| event.subject == subject).collect()
    }

    async fn heads(&self, user_id: UserId) -> Vec<ConversationId> {
        let query = HeadsQuery { user_id, updated_after: None, updated_before: None, ids: None, limit: 100 };
        let heads = self.other.list_heads(&query).await.unwrap();
        heads.into_iter().map(|head| head.conversation.id).collect()
    }

    async fn said(&self, conversation_id: ConversationId, viewer: UserId) -> Vec<MessageId> {
        let (range, order) = (IdRange::ALL, Order::OldestFirst);
        let query = MessagesQuery { conversation_id, viewer, range, order, limit: 100 };
        let messages = self.other.list_messages(&query).await.unwrap();
        messages.into_iter().map(|seen| seen.message.id).collect()
    }

    async fn record(&self, id: ConversationId) -> Option<ConversationRecord> {
        self.other.lookup_conversation(id).await.unwrap()
    }
}

/// A conversation that is to be made, as an attempt of one of its users composes it anew each time.
struct Wanted {
    users: Vec<UserId>,
    attempt: Attempt,
    template: Conversation,
}

impl Wanted {
    fn group(test: &UnderTest) -> Self {
        let users = test.users::<3>().to_vec();
        Self { attempt: test.attempt(), template: test.group(users[0], at(0)), users }
    }

    fn pair(test: &UnderTest, is_encrypted: bool) -> Self {
        let users = test.users::<2>().to_vec();
        let template = Conversation { is_encrypted, ..test.pair(users[0], users[1]) };
        Self { attempt: test.attempt(), template, users }
    }

    /// The same for another attempt, of the pair's other side.
    fn of_other_side(&self, test: &UnderTest) -> Self {
        let (owner_id, opponent_id) = (self.users[1], Some(self.users[0]));
        let template = Conversation { owner_id, opponent_id, ..self.template.clone() };
        Self { attempt: test.attempt(), template, users: vec![owner_id, self.users[0]] }
    }

    /// The conversation that there is in the end, whether this call made it or not.
    async fn make(
        &self,
        store: &ScyllaStore,
        id: ConversationId,
        test: &UnderTest,
    ) -> Result<ConversationId, StoreError> {
        let conversation = Conversation { id, ..self.template.clone() };
        let members = self.users.clone();
        let fact = Fact::ConversationCreated { conversation: conversation.clone(), members };
        let steps = vec![Step::new(self.users.clone(), fact)];
        let event = Event { steps, ..test.event(Subject::Conversation(id)) };
        let existing = store.create_conversation(&conversation, &self.members(), self.attempt, event).await?;
        Ok(existing.map_or(id, |record| record.conversation.id))
    }

    fn members(&self) -> Vec<Member> {
        members_at(&self.users, at(0))
    }

    /// It is there as a whole, in everybody's list, and told once.
    async fn assert_made(&self, two: &Two, id: ConversationId, point: Point) {
        let record = two.record(id).await.unwrap();
        assert_eq!(record.user_ids().len(), self.users.len(), "{point:?}");
        assert!(self.users.iter().all(|&user_id| record.member(user_id).is_some()), "{point:?}");
        for &user_id in &self.users {
            assert_eq!(two.heads(user_id).await, [id], "{point:?}");
        }
        let told = two.told(id);
        assert_eq!(told.len(), 1, "{point:?}");
        let Some(v1::step::Fact::ConversationCreated(created)) = &told[0].steps[0].fact else { panic!("another fact") };
        assert_eq!(created.conversation.as_ref().unwrap().id, id.to_field());
    }
}

/// What happens between a cut and the repeat.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Meanwhile {
    Nothing,
    /// Somebody looks.
    Look,
    /// Somebody else does the same, or something else with the same conversation.
    Rival,
}

async fn create(two: &Two, wanted: Wanted, meanwhile: Meanwhile, point: Point) -> bool {
    let first: ConversationId = two.test.id(at(0));
    let (outcome, was_cut) = two.cut_at(point, wanted.make(&two.cut, first, &two.test)).await;
    let mut rival = None;
    match meanwhile {
        Meanwhile::Nothing => {}
        Meanwhile::Look => {
            if two.record(first).await.is_some() {
                wanted.assert_made(two, first, point).await;
            } else {
                assert!(two.heads(wanted.users[1]).await.is_empty() && two.told(first).is_empty(), "{point:?}");
            }
        }
        Meanwhile::Rival => {
            let id = two.test.id(at(0));
            rival = Some(wanted.of_other_side(&two.test).make(&two.other, id, &two.test).await.unwrap());
        }
    }
    let again = two.test.id(at(0));
    let made = wanted.make(two.repeating(point), again, &two.test).await.unwrap();
    assert!(outcome.is_none_or(|id| id == made) && rival.is_none_or(|id| id == made), "{point:?}");
    wanted.assert_made(two, made, point).await;
    for id in [first, again].into_iter().filter(|id| *id != made) {
        assert_eq!(two.record(id).await, None, "{point:?}");
        assert!(two.told(id).is_empty(), "{point:?}");
    }
    let last = two.test.id(at(0));
    assert_eq!(wanted.make(&two.other, last, &two.test).await.unwrap(), made, "{point:?}");
    wanted.assert_made(two, made, point).await;
    was_cut
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs TEST_CQL_ADDRESS, the host:port of a CQL database for tests"]
async fn a_group_is_made_as_a_whole() {
    for meanwhile in [Meanwhile::Nothing, Meanwhile::Look] {
        at_every_point(async |two, point| create(two, Wanted::group(&two.test), meanwhile, point).await).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs TEST_CQL_ADDRESS, the host:port of a CQL database for tests"]
async fn a_pair_is_made_as_a_whole() {
    for (meanwhile, is_encrypted) in [(Meanwhile::Nothing, false), (Meanwhile::Look, true), (Meanwhile::Rival, false)] {
        let story = async |two: &Two, point| create(two, Wanted::pair(&two.test, is_encrypted), meanwhile, point).await;
        at_every_point(story).await;
    }
}

/// Makes a change as the rules do: looks whether its attempt has made it already, else decides anew.
async fn change_again(store: &ScyllaStore, change: &ConversationChange, event: Event) -> ConversationRecord {
    let id = change.conversation.id;
    if let Some(past) = store.lookup_change(id, change.attempt).await.unwrap() {
        let PastChange::Standing(record) = past else { panic!("it was erased") };
        return record;
    }
    let before = store.lookup_conversation(id).await.unwrap().unwrap();
    let change = ConversationChange { expected_version: before.version, ..change.clone() };
    assert!(store.change_conversation(change.clone(), event).await.unwrap());
    change.applied_to(&before)
}

async fn change(two: &Two, meanwhile: Meanwhile, point: Point) -> bool {
    let test = &two.test;
    let [ann, bob, cid, dan] = test.users();
    let id = test.add_group(at(0), &[ann, bob, cid]).await;
    let before = two.record(id).await.unwrap();
    let change = ConversationChange {
        conversation: Conversation {
            name: Some("another name".to_owned()),
            changed_at: at(9),
            ..before.conversation.clone()
        },
        expected_version: before.version,
        added: vec![Member { user_id: dan, role: Role::Plain, joined_at: at(9) }],
        removed: vec![bob],
        roles: vec![(cid, Role::Admin)],
        messages: vec![test.message(id, ann, at(9)), test.message(id, ann, at(10))],
        attempt: test.attempt(),
    };
    let event = test.event(Subject::Conversation(id));
    let after = change.applied_to(&before);
    let said: Vec<_> = change.messages.iter().map(|new| new.message.id).collect();
    let call = two.cut.change_conversation(change.clone(), event.clone());
    let (outcome, was_cut) = two.cut_at(point, call).await;
    assert_ne!(outcome, Some(false), "{point:?}");

    let is_told = || two.told(id).iter().any(|told| told.id == event.id.to_field());
    let mut expected_version = after.version;
    let mut is_renamed = false;
    match meanwhile {
        Meanwhile::Nothing => {}
        Meanwhile::Look => {
            let record = two.record(id).await.unwrap();
            let is_made = record == after;
            assert!(is_made || record == before, "{point:?}: {record:?}");
            assert_eq!(is_told(), is_made, "{point:?}");
            assert_eq!(two.said(id, ann).await, if is_made { &said[..] } else { &[] }, "{point:?}");
            assert_eq!(two.heads(dan).await.is_empty(), !is_made, "{point:?}");
            assert_eq!(two.heads(bob).await.is_empty(), is_made, "{point:?}");
        }
        Meanwhile::Rival => {
            let record = two.record(id).await.unwrap();
            let renamed = ConversationChange {
                conversation: Conversation { description: Some("new".to_owned()), ..record.conversation.clone() },
                expected_version: record.version,
                added: Vec::new(),
                removed: Vec::new(),
                roles: Vec::new(),
                messages: Vec::new(),
                attempt: test.attempt(),
            };
            let renaming = test.event(Subject::Conversation(id));
            assert!(two.other.change_conversation(renamed, renaming).await.unwrap(), "{point:?}");
            is_renamed = true;
            expected_version += 1;
        }
    }
    let record = change_again(two.repeating(point), &change, event.clone()).await;
    assert_eq!(two.record(id).await.as_ref(), Some(&record), "{point:?}");
    assert_eq!((record.version, &record.members), (expected_version, &after.members), "{point:?}");
    assert_eq!(record.conversation.name, after.conversation.name, "{point:?}");
    assert_eq!(two.said(id, dan).await, said, "{point:?}");
    let heads = [two.heads(ann).await, two.heads(cid).await, two.heads(dan).await];
    assert_eq!((heads, two.heads(bob).await), ([vec![id], vec![id], vec![id]], vec![]), "{point:?}");
    // Its creation, the change, and the other one.
    assert_eq!((is_told(), two.told(id).len()), (true, 2 + usize::from(is_renamed)), "{point:?}");
    was_cut
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs TEST_CQL_ADDRESS, the host:port of a CQL database for tests"]
async fn members_are_changed_as_a_whole() {
    for meanwhile in [Meanwhile::Nothing, Meanwhile::Look, Meanwhile::Rival] {
        at_every_point(async |two, point| change(two, meanwhile, point).await).await;
    }
}

async fn erase_again(store: &ScyllaStore, erasure: Erasure, event: Event) {
    match store.lookup_change(erasure.id, erasure.attempt).await.unwrap() {
        Some(PastChange::Erased(_)) => {}
        Some(PastChange::Standing(record)) => panic!("it stands: {record:?}"),
        None => assert!(store.erase_conversation(erasure, event).await.unwrap()),
    }
}

async fn erase(two: &Two, meanwhile: Meanwhile, point: Point) -> bool {
    let wanted = Wanted::pair(&two.test, false);
    let (ann, bob) = (wanted.users[0], wanted.users[1]);
    let id = wanted.make(&two.other, two.test.id(at(0)), &two.test).await.unwrap();
    two.test.send(id, ann, at(1)).await;
    let before = two.record(id).await.unwrap();
    let erasure = Erasure { id, expected_version: before.version, attempt: two.test.attempt() };
    let event = two.test.event(Subject::Conversation(id));
    let call = two.cut.erase_conversation(erasure, event.clone());
    let (outcome, was_cut) = two.cut_at(point, call).await;
    assert_ne!(outcome, Some(false), "{point:?}");

    let is_told = || two.told(id).iter().any(|told| told.id == event.id.to_field());
    let mut made_anew = None;
    match meanwhile {
        Meanwhile::Nothing => {}
        Meanwhile::Look => {
            let record = two.record(id).await;
            let is_erased = record.is_none();
            assert!(is_erased || record == Some(before), "{point:?}");
            assert_eq!(is_told(), is_erased, "{point:?}");
            assert_eq!(two.heads(bob).await.is_empty(), is_erased, "{point:?}");
            assert_eq!(two.said(id, bob).await.is_empty(), is_erased, "{point:?}");
        }
        Meanwhile::Rival => {
            let again = wanted.of_other_side(&two.test);
            let found = again.make(&two.other, two.test.id(at(0)), &two.test).await.unwrap();
            made_anew = (found != id).then_some(found);
            if made_anew.is_some() {
                again.assert_made(two, found, point).await;
            }
        }
    }
    erase_again(two.repeating(point), erasure, event.clone()).await;
    assert_eq!(two.record(id).await, None, "{point:?}");
    assert!(two.said(id, bob).await.is_empty(), "{point:?}");
    assert_eq!(two.heads(ann).await, Vec::from_iter(made_anew), "{point:?}");
    // Its creation, a message and its end.
    assert_eq!((is_told(), two.told(id).len()), (true, 3), "{point:?}");
    let again = Wanted { attempt: two.test.attempt(), ..wanted };
    let found = again.make(&two.other, two.test.id(at(0)), &two.test).await.unwrap();
    assert!(found != id && made_anew.is_none_or(|id| id == found), "{point:?}");
    again.assert_made(two, found, point).await;
    was_cut
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs TEST_CQL_ADDRESS, the host:port of a CQL database for tests"]
async fn a_conversation_is_erased_as_a_whole() {
    for meanwhile in [Meanwhile::Nothing, Meanwhile::Look, Meanwhile::Rival] {
        at_every_point(async |two, point| erase(two, meanwhile, point).await).await;
    }
}

/// What was erased long ago is forgotten, also when that is cut and done again.
async fn sweep(two: &Two, point: Point) -> bool {
    let wanted = Wanted::pair(&two.test, false);
    let id = wanted.make(&two.other, two.test.id(at(0)), &two.test).await.unwrap();
    two.test.send(id, wanted.users[0], at(1)).await;
    let expected_version = two.record(id).await.unwrap().version;
    let erasure = Erasure { id, expected_version, attempt: two.test.attempt() };
    let event = two.test.event(Subject::Conversation(id));
    assert!(two.cut.erase_conversation(erasure, event).await.unwrap());
    // Another process did not know yet.
    two.test.send(id, wanted.users[1], at(2)).await;

    let later = at(REPEATED_MS + 1);
    let (_, was_cut) = two.cut_at(point, two.cut.erase_content(later)).await;
    two.cut.erase_content(later).await.unwrap();
    assert_eq!(two.other.lookup_change(id, erasure.attempt).await.unwrap(), None, "{point:?}");
    assert_eq!(two.other.newest_message_id(id).await.unwrap(), None, "{point:?}");
    let before = two.cuts.requests();
    two.cut.erase_content(later).await.unwrap();
    assert_eq!(two.cuts.requests() - before, 16, "nothing is noted any more: {point:?}");
    was_cut
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs TEST_CQL_ADDRESS, the host:port of a CQL database for tests"]
async fn erased_conversations_are_forgotten_as_a_whole() {
    at_every_point(sweep).await;
}
