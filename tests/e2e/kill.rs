//! What a process that dies leaves behind: every acknowledged message, once. Acceptance case 25 of the protocol's
//! part 2, and a loop of deaths under load.

use std::sync::Arc;

use e2e::history::HistoryLog;
use e2e::packets::{is_message, texts};
use e2e::{Chatter, Closed, Organization, StackHandle, TestClient, TestStack, eventually};
use serde_json::json;

use crate::team::{Pair, Team};

#[tokio::test]
async fn a_message_survives_the_death_of_the_server_right_after_its_acknowledgement() {
    let stack = TestStack::builder().start().await;
    let Pair { mut ann, mut bob, cid, .. } = Pair::of(stack.new_organization().await).await;
    let (ann_session, bob_session) = (ann.session().clone(), bob.session().clone());
    let message = json!({"id": "m", "cid": cid, "body": "safe"});
    let ack = ann.send_message_with(message.clone()).await;
    stack.kill().await;
    assert_eq!((ann.closed().await, bob.closed().await), (Closed::Lost, Closed::Lost));
    stack.restart().await;

    let mut bob = bob_session.connect(&stack).await;
    let listed = bob.list_messages(json!({"cid": cid})).await;
    assert_eq!(texts(&listed, "_id"), [ack.server_mid.as_str()]);
    assert_eq!(bob.listed_conversation(&cid).await["unread_messages_count"], 1);
    // A client that did not see the acknowledgement sends it again: the same message, told to nobody twice.
    let mut ann = ann_session.connect(&stack).await;
    assert_eq!(ann.send_message_with(message).await, ack);
    ann.send_message(&cid, "later").await;
    bob.expect_nothing_until_message("later").await;
}

#[tokio::test]
async fn everything_acknowledged_of_every_kind_survives() {
    let stack = TestStack::builder().start().await;
    let Team { org, mut ann, mut bob, cid, .. } = Team::of(stack.new_organization().await).await;
    let read = ann.send_message(&cid, "read").await.server_mid;
    ann.send_message(&cid, "unread").await;
    bob.succeed("message_read", json!({"cid": cid, "ids": [read]})).await;
    let private = ann.create_private(&mut bob).await;
    let dora = org.sign_up("dora").await;
    let (ann_session, bob_session) = (ann.session().clone(), bob.session().clone());
    let out = bob.another_socket(e2e::Device::Other).await.session().clone();
    out.connect(&stack).await.succeed("user_logout", json!({})).await;
    stack.kill().await;
    stack.restart().await;

    let mut bob = bob_session.connect(&stack).await;
    let mut ann = ann_session.connect(&stack).await;
    assert_eq!(bob.listed_conversation(&cid).await["unread_messages_count"], 1);
    let listed = ann.list_messages(json!({"cid": cid})).await;
    assert_eq!(texts(&listed, "status"), ["sent", "read"]);
    assert_eq!(texts(&ann.list_conversations(json!({})).await, "_id"), [private.as_str(), cid.as_str()]);
    dora.log_in(&stack, "d").await;
    TestClient::open(&stack).await.connect_refused(&out.token, &out.device).await;
}

#[tokio::test]
async fn every_acknowledged_message_is_there_once_after_3_kills_under_load() {
    kill_under_load(3).await;
}

#[tokio::test]
#[ignore = "long: run by tests/run --long"]
async fn every_acknowledged_message_is_there_once_after_100_kills_under_load() {
    kill_under_load(100).await;
}

async fn kill_under_load(kills: usize) {
    let stack = TestStack::builder().start().await;
    let Team { org, mut ann, bob, carl, cid } = Team::of(stack.new_organization().await).await;
    let history = Arc::new(HistoryLog::default());
    let mut chatters = Vec::new();
    // A user with two devices among them: what one sends, the other must get.
    let second = bob.user().log_in(&stack, "another device").await;
    for session in [bob.session().clone(), second, carl.session().clone()] {
        chatters.push(Chatter::spawn(stack.clone(), session, &cid, Arc::clone(&history)));
    }
    let go_on = async |messages: usize| {
        let wanted = history.acknowledgements() + messages;
        eventually("the chat to go on", async || (history.acknowledgements() >= wanted).then_some(())).await;
    };
    for kill in 0..kills {
        // Another moment each time, right behind an acknowledgement.
        go_on(100 + kill * 37 % 90).await;
        stack.kill().await;
        stack.restart().await;
    }
    go_on(300).await;
    for chatter in &mut chatters {
        chatter.settle().await;
    }
    ann = ann_again(&stack, ann).await;
    ann.send_message(&cid, Chatter::end_body()).await;
    for chatter in chatters {
        chatter.end().await;
    }
    history.read_all(&mut ann, &cid).await;
    let violations = history.check_one_instance();
    assert!(violations.is_empty(), "{violations:#?}");
    assert!(history.acknowledgements() > kills * 100);
    assert_journal_is_quiet(&org, &mut ann, &cid).await;
}

/// Ann on a new socket: hers died with the first server.
async fn ann_again(stack: &StackHandle, ann: TestClient) -> TestClient {
    let session = ann.session().clone();
    drop(ann);
    session.connect(stack).await
}

/// Nothing of what was sent before comes to somebody who logs in now.
async fn assert_journal_is_quiet(org: &Organization, ann: &mut TestClient, cid: &str) {
    let mut late = ann.session().connect(org.stack()).await;
    ann.send_message(cid, "a last word").await;
    let before = late.everything_until("the last word", |packet| is_message(packet, "a last word")).await;
    assert!(before.is_empty(), "{before:?}");
}
