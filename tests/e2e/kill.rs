//! What a server that dies leaves behind: every acknowledged message, once. Acceptance case 25 of the protocol's
//! part 2.

use e2e::packets::texts;
use e2e::{Closed, TestClient, TestStack};
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
