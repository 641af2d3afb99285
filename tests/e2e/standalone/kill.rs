//! A loop of deaths under load: everything acknowledged is there once, in the order in which one process gave it out.

use std::sync::Arc;

use e2e::history::HistoryLog;
use e2e::packets::is_message;
use e2e::{Chatter, Organization, StackHandle, TestClient, TestStack, eventually};

use crate::team::Team;

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
