//! Updates under races and repeats.

use futures_util::future::join_all;
use prost::Message as _;
use proto::ids::MessageId;
use proto::v1;

use super::*;
use crate::domain::message::IdRange;
use crate::domain::testing::{TestCore, next_frame, reason, text};
use crate::store::{MessagesQuery, Order};

fn of(id: ConversationId) -> UpdateConversation {
    UpdateConversation { conversation_id: Some(id.to_string()), ..UpdateConversation::default() }
}

fn add(id: ConversationId, users: &[&Actor]) -> UpdateConversation {
    let add = users.iter().map(|user| user.user_id.to_string()).collect();
    UpdateConversation { participants: UsersChange { add, remove: Vec::new() }, ..of(id) }
}

fn remove(id: ConversationId, users: &[&Actor]) -> UpdateConversation {
    let remove = users.iter().map(|user| user.user_id.to_string()).collect();
    UpdateConversation { participants: UsersChange { add: Vec::new(), remove }, ..of(id) }
}

async fn messages(core: &TestCore, id: ConversationId, viewer: &Actor) -> Vec<MessageId> {
    let query = MessagesQuery {
        conversation_id: id,
        viewer: viewer.user_id,
        range: IdRange::ALL,
        order: Order::OldestFirst,
        limit: 1_000,
    };
    core.store.list_messages(&query).await.unwrap().into_iter().map(|seen| seen.message.id).collect()
}

/// The steps of the newest event: who is told what, and whether the acting connection is.
async fn last_steps(core: &TestCore) -> Vec<v1::Step> {
    let events = core.journal.read_above(core.journal.newest() - 1, 1).await.unwrap();
    v1::Event::decode(events[0].1.clone()).unwrap().steps
}

#[tokio::test]
async fn updates_of_two_processes_both_take_effect() {
    let core = TestCore::start().await;
    let (ann, bob) = (core.user("ann").await, core.user("bob").await);
    let (carl, dora) = (core.user("carl").await, core.user("dora").await);
    let group = core.group(&[&ann, &bob]).await;
    let other = core.other_process();
    let name = |name: &str| UpdateConversation { name: Some(name.to_owned()), ..of(group) };
    // Both now know the conversation as it is.
    other.update(&next_frame(&ann), name("Team")).await.unwrap();
    core.conversing.update(&next_frame(&ann), name("Team")).await.unwrap();

    core.conversing.update(&next_frame(&ann), add(group, &[&carl])).await.unwrap();
    let updated = other.update(&next_frame(&ann), add(group, &[&dora])).await.unwrap();
    let everybody = [&ann, &bob, &carl, &dora].map(|actor| actor.user_id);
    assert_eq!(updated.members, everybody);
    assert_eq!(core.store.lookup_conversation(group).await.unwrap().unwrap().user_ids(), everybody);
    let stamps = messages(&core, group, &ann).await;
    assert!(stamps.windows(2).all(|pair| pair[0].timestamp() < pair[1].timestamp()), "{stamps:?}");
}

#[tokio::test]
async fn who_was_removed_by_another_process_does_not_update_on_what_this_one_remembers() {
    let core = TestCore::start().await;
    let (ann, bob) = (core.user("ann").await, core.user("bob").await);
    let group = core.group(&[&ann, &bob]).await;
    let admins = UsersChange { add: vec![bob.user_id.to_string()], remove: Vec::new() };
    core.conversing.update(&next_frame(&ann), UpdateConversation { admins, ..of(group) }).await.unwrap();
    core.other_process().update(&next_frame(&ann), remove(group, &[&bob])).await.unwrap();
    let update = UpdateConversation { name: Some("Bob's".to_owned()), ..of(group) };
    let refused = core.conversing.update(&next_frame(&bob), update).await.unwrap_err();
    assert_eq!(reason(refused), Reason::AccessDenied);
}

#[tokio::test]
async fn updates_and_messages_at_once_have_rising_stamps_and_lose_nothing() {
    let core = TestCore::start().await;
    let (ann, bob) = (core.user("ann").await, core.user("bob").await);
    let group = core.group(&[&ann, &bob]).await;
    let mut others = Vec::new();
    for number in 0..10 {
        others.push(core.user(&format!("user{number}")).await);
    }
    let frames: Vec<_> = others.iter().map(|_| (next_frame(&ann), next_frame(&bob))).collect();
    let updates =
        frames.iter().zip(&others).map(|((frame, _), other)| core.conversing.update(frame, add(group, &[other])));
    let sent = frames.iter().map(|(_, frame)| core.messaging.send(frame, text(group, None, "hi")));
    let (updates, sent) = tokio::join!(join_all(updates), join_all(sent));
    assert!(updates.iter().all(Result::is_ok) && sent.iter().all(Result::is_ok));
    let stored = messages(&core, group, &ann).await;
    assert_eq!(stored.len(), 20);
    assert!(stored.windows(2).all(|pair| pair[0].timestamp() < pair[1].timestamp()), "{stored:?}");
    assert_eq!(core.store.lookup_conversation(group).await.unwrap().unwrap().members.len(), 12);
}

#[tokio::test]
async fn a_member_who_was_just_added_gets_the_next_message_and_a_removed_one_does_not() {
    let core = TestCore::start().await;
    let (ann, bob, carl) = (core.user("ann").await, core.user("bob").await, core.user("carl").await);
    let group = core.group(&[&ann, &bob]).await;
    core.messaging.send(&next_frame(&ann), text(group, None, "before")).await.unwrap();
    core.conversing.update(&next_frame(&ann), add(group, &[&carl])).await.unwrap();
    core.messaging.send(&next_frame(&carl), text(group, None, "here")).await.unwrap();
    core.conversing.update(&next_frame(&ann), remove(group, &[&bob])).await.unwrap();
    core.messaging.send(&next_frame(&ann), text(group, None, "after")).await.unwrap();
    let recipients = [ann.user_id.to_field(), carl.user_id.to_field()];
    assert_eq!(last_steps(&core).await[0].recipient_ids, recipients);
    let refused = core.messaging.send(&next_frame(&bob), text(group, None, "hi")).await.unwrap_err();
    assert_eq!(reason(refused), Reason::AccessDenied);
}

#[tokio::test]
async fn one_request_is_one_event_in_the_order_of_the_protocol() {
    let core = TestCore::start().await;
    let (ann, bob) = (core.user("ann").await, core.user("bob").await);
    let (carl, dora) = (core.user("carl").await, core.user("dora").await);
    let group = core.group(&[&ann, &bob, &carl]).await;
    let before = core.journal.newest();
    let update = UpdateConversation {
        name: Some("Another".to_owned()),
        image: Some(Image { file_id: Some("f".to_owned()), ..Image::default() }),
        participants: UsersChange { remove: vec![carl.user_id.to_string()], ..add(group, &[&dora]).participants },
        ..of(group)
    };
    let updated = core.conversing.update(&next_frame(&ann), update).await.unwrap();
    assert_eq!(core.journal.newest(), before + 1);
    let stored = messages(&core, group, &ann).await;
    assert_eq!(stored.len(), 3);
    assert_eq!(Some(updated.updated_at), stored.last().map(|last| last.timestamp()));

    let mut told = Vec::new();
    let mut recipients = Vec::new();
    for step in last_steps(&core).await {
        if !step.same_recipients {
            recipients.clone_from(&step.recipient_ids);
        }
        let kind = match step.fact.unwrap() {
            v1::step::Fact::MemberAdded(told) => {
                let listed = told.conversation.unwrap();
                assert_eq!(listed.unread_messages_count, 3);
                assert_eq!(listed.last_message.unwrap().id, stored[2].to_field());
                "created and updated"
            }
            v1::step::Fact::MessageSent(sent) => {
                let message = sent.message.unwrap();
                assert!(stored.iter().any(|id| message.id == id.to_field()));
                if message.x_json.contains("added_participant") {
                    "added"
                } else if message.x_json.contains("removed_participant") {
                    "removed"
                } else {
                    "picture"
                }
            }
            v1::step::Fact::MemberRemoved(_) => "kicked",
            v1::step::Fact::ConversationUpdated(_) => "updated",
            _ => "another",
        };
        told.push((kind, recipients.clone(), step.to_origin));
    }
    let users = |actors: &[&Actor]| actors.iter().map(|actor| actor.user_id.to_field()).collect::<Vec<_>>();
    let everybody = users(&[&ann, &bob, &dora]);
    assert_eq!(
        told,
        [
            ("created and updated", users(&[&dora]), false),
            ("added", everybody.clone(), true),
            ("removed", everybody.clone(), true),
            ("kicked", users(&[&carl]), true),
            ("picture", everybody, true),
            ("updated", users(&[&ann, &bob]), false),
        ]
    );
}

#[tokio::test]
async fn a_repeat_answers_as_the_first_and_does_nothing() {
    let core = TestCore::start().await;
    let (ann, bob, carl) = (core.user("ann").await, core.user("bob").await, core.user("carl").await);
    let group = core.group(&[&ann, &bob]).await;
    // The last one takes her own right away with her, and the very last one the conversation.
    let steps = [
        (&ann, add(group, &[&carl])),
        (&ann, UpdateConversation { name: Some("New".to_owned()), ..of(group) }),
        (&ann, remove(group, &[&ann])),
        (&bob, remove(group, &[&carl, &bob])),
    ];
    for (actor, update) in steps {
        let frame = next_frame(actor);
        let first = core.conversing.update(&frame, update.clone()).await.unwrap();
        let told = core.journal.newest();
        let repeat = Actor { is_repeat: true, ..frame };
        assert_eq!(core.conversing.update(&repeat, update.clone()).await.unwrap(), first);
        assert_eq!(core.other_process().update(&repeat, update).await.unwrap(), first);
        assert_eq!(core.journal.newest(), told);
    }
    let after = core.conversing.update(&next_frame(&bob), of(group)).await.unwrap_err();
    assert_eq!(reason(after), Reason::ConversationUnknown);
}

#[tokio::test]
async fn nothing_in_a_channel_counts_as_unread_for_who_is_added() {
    let core = TestCore::start().await;
    let (ann, bob) = (core.user("ann").await, core.user("bob").await);
    let command = crate::domain::conversing::CreateConversation {
        kind: Some("c".to_owned()),
        name: Some("News".to_owned()),
        ..Default::default()
    };
    let created = core.conversing.create(&next_frame(&ann), command).await;
    let channel = created.unwrap_or_else(|failure| panic!("{failure}")).record.conversation.id;
    core.conversing.update(&next_frame(&ann), add(channel, &[&bob])).await.unwrap();
    let steps = last_steps(&core).await;
    let Some(v1::step::Fact::MemberAdded(told)) = &steps[0].fact else { panic!("{steps:?}") };
    let listed = told.conversation.as_ref().unwrap();
    assert_eq!(listed.unread_messages_count, 0);
    let conversation = listed.conversation.as_ref().unwrap();
    assert_eq!((conversation.subscribers_count, conversation.participant_ids.len()), (Some(2), 0));
}
