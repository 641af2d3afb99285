//! Promises of [`ConversationStore`](crate::store::ConversationStore) about single conversations.

use std::collections::HashSet;
use std::sync::Arc;

use super::{UnderTest, at, members_at, race};
use crate::domain::conversation::{Conversation, ConversationType, Image, Member, Role};
use crate::domain::event::Subject;

pub(crate) async fn a_conversation_reads_as_it_was_written(test: UnderTest) {
    let [ann, bob, cid] = test.users();
    let group = Conversation {
        organization_id: test.other_organization("acme"),
        description: Some("a description".to_owned()),
        image: Some(Image { file_id: Some("f".to_owned()), file_name: None, file_blur_hash: Some("h".to_owned()) }),
        changed_at: at(7),
        ..test.group(ann, at(5))
    };
    let channel = Conversation { kind: ConversationType::Channel, name: None, ..test.group(bob, at(6)) };
    let pair = Conversation { is_encrypted: true, ..test.pair(cid, ann) };
    // Their join order is neither that of ids nor of time.
    let members = [(cid, Role::Plain, 9), (ann, Role::Owner, 8), (bob, Role::Admin, 7)];
    let members = members.map(|(user_id, role, joined)| Member { user_id, role, joined_at: at(joined) });
    for conversation in [group, channel, pair] {
        let event = test.event(Subject::Conversation(conversation.id));
        let added = test.store.create_conversation(&conversation, &members, test.attempt(), event).await.unwrap();
        assert_eq!(added, None);
        let record = test.store.lookup_conversation(conversation.id).await.unwrap().unwrap();
        assert_eq!(record.conversation, conversation);
        assert_eq!(record.members, members);
        assert_eq!(record.version, 1);
    }
    assert_eq!(test.store.lookup_conversation(test.id(at(0))).await.unwrap(), None);
}

pub(crate) async fn a_created_conversation_is_told_once(test: UnderTest) {
    let [ann, bob] = test.users();
    let pair = test.pair(ann, bob);
    let event = test.event(Subject::Conversation(pair.id));
    test.store
        .create_conversation(&pair, &members_at(&[ann, bob], at(0)), test.attempt(), event.clone())
        .await
        .unwrap();
    let again = test.pair(bob, ann);
    let untold = test.event(Subject::Conversation(again.id));
    test.store.create_conversation(&again, &members_at(&[bob, ann], at(0)), test.attempt(), untold).await.unwrap();
    assert_eq!(test.event_ids().await, [event.id]);
}

pub(crate) async fn racing_creations_of_a_pair_make_one_conversation(test: UnderTest) {
    let [ann, bob] = test.users();
    let test = Arc::new(test);
    let outcomes = race(20, |number| {
        let test = Arc::clone(&test);
        let users = if number % 2 == 0 { [ann, bob] } else { [bob, ann] };
        async move {
            let pair = test.pair(users[0], users[1]);
            let event = test.event(Subject::Conversation(pair.id));
            let members = members_at(&users, at(0));
            let existing = test.store.create_conversation(&pair, &members, test.attempt(), event).await?;
            Ok::<_, crate::store::StoreError>((existing.is_none(), existing.map_or(pair.id, |it| it.conversation.id)))
        }
    })
    .await;
    let outcomes: Vec<_> = outcomes.into_iter().map(Result::unwrap).collect();
    assert_eq!(outcomes.iter().filter(|(is_new, _)| *is_new).count(), 1);
    assert_eq!(outcomes.iter().map(|(_, id)| id).collect::<HashSet<_>>().len(), 1);
    assert_eq!(test.events().await.len(), 1);
}

pub(crate) async fn a_pair_has_one_plain_and_one_encrypted_conversation(test: UnderTest) {
    let [ann, bob] = test.users();
    let plain = test.pair(ann, bob);
    let encrypted = Conversation { is_encrypted: true, ..test.pair(bob, ann) };
    let elsewhere = Conversation { organization_id: test.other_organization("acme"), ..test.pair(bob, ann) };
    for first in [&plain, &encrypted, &elsewhere] {
        let event = test.event(Subject::Conversation(first.id));
        let members = members_at(&[first.owner_id, first.opponent_id.unwrap()], at(0));
        assert_eq!(test.store.create_conversation(first, &members, test.attempt(), event).await.unwrap(), None);
    }
    let again = Conversation { is_encrypted: true, ..test.pair(ann, bob) };
    let event = test.event(Subject::Conversation(again.id));
    let members = members_at(&[ann, bob], at(1));
    let existing = test.store.create_conversation(&again, &members, test.attempt(), event).await.unwrap().unwrap();
    assert_eq!(existing.conversation, encrypted);
    assert_eq!(existing.members, members_at(&[bob, ann], at(0)));
    assert_eq!(test.store.lookup_conversation(again.id).await.unwrap(), None);
}

pub(crate) async fn one_attempt_makes_one_conversation(test: UnderTest) {
    let [ann, bob] = test.users();
    let attempt = test.attempt();
    let members = members_at(&[ann, bob], at(0));
    let first = test.group(ann, at(0));
    let event = test.event(Subject::Conversation(first.id));
    assert_eq!(test.store.create_conversation(&first, &members, attempt, event.clone()).await.unwrap(), None);

    let repeat = test.group(ann, at(1));
    let untold = test.event(Subject::Conversation(repeat.id));
    let existing = test.store.create_conversation(&repeat, &members, attempt, untold).await.unwrap().unwrap();
    assert_eq!(existing.conversation, first);
    assert_eq!(existing.members, members);

    let other = test.group(ann, at(2));
    let told = test.event(Subject::Conversation(other.id));
    assert_eq!(test.store.create_conversation(&other, &members, test.attempt(), told.clone()).await.unwrap(), None);
    assert_eq!(test.event_ids().await, [event.id, told.id]);
}

pub(crate) async fn listed_conversations_are_those_that_exist(test: UnderTest) {
    let [ann, bob] = test.users();
    let first = test.add_group(at(0), &[ann]).await;
    let second = test.add_group(at(1), &[bob, ann]).await;
    test.add_group(at(2), &[bob]).await;
    let mut listed = test.store.list_conversations(&[second, test.id(at(0)), first]).await.unwrap();
    listed.sort_unstable_by_key(|record| record.conversation.id);
    let listed: Vec<_> = listed.into_iter().map(|record| (record.conversation.id, record.members)).collect();
    assert_eq!(listed, [(first, members_at(&[ann], at(0))), (second, members_at(&[bob, ann], at(1)))]);
}
