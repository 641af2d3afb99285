//! Promises of [`ConversationStore`](crate::store::ConversationStore) about a user's list of conversations.

use proto::ids::{ConversationId, Timestamp, UserId};

use super::{UnderTest, at, members_at};
use crate::domain::conversation::Conversation;
use crate::domain::event::Subject;
use crate::store::HeadsQuery;

fn all_of(user_id: UserId) -> HeadsQuery {
    HeadsQuery { user_id, updated_after: None, updated_before: None, ids: None, limit: 100 }
}

async fn listed(test: &UnderTest, query: &HeadsQuery) -> Vec<ConversationId> {
    let heads = test.store.list_heads(query).await.unwrap();
    heads.into_iter().map(|head| head.conversation.id).collect()
}

/// Adds a group of one member that was made at 0, changed at one time and joined at another.
async fn add_changed(test: &UnderTest, user_id: UserId, changed_at: Timestamp, joined_at: Timestamp) -> ConversationId {
    let group = Conversation { changed_at, ..test.group(user_id, at(0)) };
    let event = test.event(Subject::Conversation(group.id));
    let members = members_at(&[user_id], joined_at);
    test.store.create_conversation(&group, &members, test.attempt(), event).await.unwrap();
    group.id
}

pub(crate) async fn the_most_recently_updated_comes_first(test: UnderTest) {
    let [ann, bob] = test.users();
    let middle = test.add_group(at(20), &[ann, bob]).await;
    let oldest = test.add_group(at(10), &[bob, ann]).await;
    let newest = test.add_group(at(30), &[ann]).await;
    let tied = test.add_group(at(20), &[ann]).await;
    assert!(tied > middle);
    assert_eq!(listed(&test, &all_of(ann)).await, [newest, tied, middle, oldest]);
    assert_eq!(listed(&test, &all_of(bob)).await, [middle, oldest]);
    assert!(listed(&test, &all_of(test.id(at(0)))).await.is_empty());
}

pub(crate) async fn a_message_updates_its_conversation(test: UnderTest) {
    let [ann, bob] = test.users();
    let first = test.add_group(at(10), &[ann, bob]).await;
    let second = test.add_group(at(20), &[ann, bob]).await;
    let mut hidden = test.message(first, bob, at(31));
    hidden.hidden_for = vec![ann];
    test.send(first, bob, at(30)).await;
    super::append(&*test.store, hidden).await.unwrap();
    let changed_later = add_changed(&test, ann, at(25), at(0)).await;
    test.send(changed_later, ann, at(24)).await;

    let heads = test.store.list_heads(&all_of(ann)).await.unwrap();
    let heads: Vec<_> = heads.into_iter().map(|head| (head.conversation.id, head.updated_at)).collect();
    assert_eq!(heads, [(first, at(31)), (changed_later, at(25)), (second, at(20))]);
}

pub(crate) async fn a_list_is_not_cut_inside_a_run_of_equal_times(test: UnderTest) {
    let [ann] = test.users();
    let mut ids = Vec::new();
    for millis in [50, 40, 40, 40, 30] {
        ids.push(test.add_group(at(millis), &[ann]).await);
    }
    let [newest, a, b, c, oldest] = ids[..] else { unreachable!("five were added") };
    let limited = |limit| HeadsQuery { limit, ..all_of(ann) };
    assert_eq!(listed(&test, &limited(1)).await, [newest]);
    for within in [2, 3, 4] {
        assert_eq!(listed(&test, &limited(within)).await, [newest, c, b, a]);
    }
    assert_eq!(listed(&test, &limited(5)).await, [newest, c, b, a, oldest]);
    // The next page begins below the run.
    let below = HeadsQuery { updated_before: Some(at(40)), limit: 2, ..all_of(ann) };
    assert_eq!(listed(&test, &below).await, [oldest]);
}

pub(crate) async fn heads_are_chosen_by_time_membership_and_id(test: UnderTest) {
    let [ann, bob] = test.users();
    let early = add_changed(&test, ann, at(10), at(10)).await;
    let rejoined = add_changed(&test, ann, at(20), at(35)).await;
    let late = add_changed(&test, ann, at(30), at(10)).await;
    let foreign = test.add_group(at(30), &[bob]).await;

    let after = |millis| HeadsQuery { updated_after: Some(at(millis)), ..all_of(ann) };
    assert_eq!(listed(&test, &after(29)).await, [late, rejoined]);
    assert_eq!(listed(&test, &after(30)).await, [rejoined], "the bound itself is outside");
    assert!(listed(&test, &after(35)).await.is_empty());

    let before = |millis| HeadsQuery { updated_before: Some(at(millis)), ..all_of(ann) };
    assert_eq!(listed(&test, &before(30)).await, [rejoined, early]);
    assert_eq!(listed(&test, &HeadsQuery { updated_after: Some(at(10)), ..before(30) }).await, [rejoined]);

    let chosen = HeadsQuery { ids: Some(vec![early, foreign, late]), ..all_of(ann) };
    assert_eq!(listed(&test, &chosen).await, [late, early]);
    assert!(listed(&test, &HeadsQuery { ids: Some(Vec::new()), ..all_of(ann) }).await.is_empty());
}

pub(crate) async fn a_head_says_how_many_are_in_it_and_since_when_the_user_is(test: UnderTest) {
    let [ann, bob, cid] = test.users();
    let group = test.group(ann, at(0));
    let mut members = members_at(&[ann, bob, cid], at(0));
    members[1].joined_at = at(7);
    let event = test.event(Subject::Conversation(group.id));
    test.store.create_conversation(&group, &members, test.attempt(), event).await.unwrap();
    let head = test.store.list_heads(&all_of(bob)).await.unwrap().pop().unwrap();
    assert_eq!(head.conversation, group);
    assert_eq!((head.member_count, head.joined_at), (3, at(7)));
}
