//! Read marks. Acceptance cases 46 to 51 of the protocol's part 2.

use e2e::packets::assert_error;
use e2e::{Device, TestClient, TestStack};
use serde_json::{Value, json};

use crate::team::{Pair, Team};

fn is_read(packet: &Value) -> bool {
    packet["message_read"].is_object()
}

async fn statuses(client: &mut TestClient, cid: &str) -> Vec<(String, Value)> {
    let listed = client.list_messages(json!({"cid": cid, "limit": 100})).await;
    listed
        .into_iter()
        .map(|message| (message["body"].as_str().unwrap().to_owned(), message["status"].clone()))
        .collect()
}

async fn unread(client: &mut TestClient, cid: &str) -> Value {
    client.listed_conversation(cid).await["unread_messages_count"].take()
}

#[tokio::test]
async fn reading_is_told_to_all_others_and_in_its_own_way_to_ones_own_sockets() {
    for device in Device::BOTH {
        let Team { mut ann, mut bob, mut carl, cid, .. } = Team::new().await;
        let mut second = bob.another_socket(device).await;
        let (one, two) = (ann.send_message(&cid, "one").await, ann.send_message(&cid, "two").await);
        ann.send_message(&cid, "three").await;
        for socket in [&mut bob, &mut carl, &mut second] {
            socket.expect_message("three").await;
            socket.drain();
        }
        let ids = json!([one.server_mid, two.server_mid]);
        let response = bob.succeed("message_read", json!({"cid": cid, "ids": ids})).await;
        assert_eq!(response["success"], true);
        let read = json!({"message_read": {"cid": cid, "ids": [two.server_mid, one.server_mid], "from": bob.id()}});
        assert_eq!(ann.next().await, read);
        assert_eq!(carl.next().await, read);
        let mut own = second.next().await;
        assert_eq!(own["event"]["message_read"]["unread_messages_count"].take(), 1);
        own["event"]["message_read"].as_object_mut().unwrap().remove("unread_messages_count");
        assert_eq!(own, json!({"event": read}));
        ann.send_message(&cid, "later").await;
        bob.expect_nothing_until_message("later").await;
        second.expect_nothing_until_message("later").await;
    }
}

#[tokio::test]
async fn a_status_turns_to_read_for_the_author() {
    let Team { mut ann, mut bob, cid, .. } = Team::new().await;
    let one = ann.send_message(&cid, "one").await.server_mid;
    ann.send_message(&cid, "two").await;
    bob.succeed("message_read", json!({"cid": cid, "ids": [one]})).await;
    assert_eq!(statuses(&mut ann, &cid).await, [("two".into(), json!("sent")), ("one".into(), json!("read"))]);
    for client in [&mut ann, &mut bob] {
        assert_eq!(client.listed_conversation(&cid).await["last_message"]["status"], "sent");
    }
    bob.succeed("message_read", json!({"cid": cid})).await;
    for client in [&mut ann, &mut bob] {
        assert_eq!(client.listed_conversation(&cid).await["last_message"]["status"], "read");
    }
    assert_eq!(statuses(&mut ann, &cid).await[0], ("two".into(), json!("read")));
}

#[tokio::test]
async fn reading_without_ids_reads_all_that_is_unread() {
    let Pair { mut ann, mut bob, cid, .. } = Pair::new().await;
    let one = ann.send_message(&cid, "one").await.server_mid;
    let two = ann.send_message(&cid, "two").await.server_mid;
    let three = ann.send_message(&cid, "three").await.server_mid;
    bob.send_message(&cid, "bob's own").await;
    bob.succeed("message_read", json!({"cid": cid, "ids": [two]})).await;
    ann.expect("the first read", is_read).await;
    bob.succeed("message_read", json!({"cid": cid})).await;
    let read = ann.expect("the second read", is_read).await;
    assert_eq!(read["message_read"]["ids"], json!([three, one]));
    assert_eq!(unread(&mut bob, &cid).await, 0);
    // Nothing is left: a success, and nobody is told.
    bob.succeed("message_read", json!({"cid": cid})).await;
    bob.succeed("message_read", json!({"cid": cid, "ids": [one]})).await;
    bob.send_message(&cid, "later").await;
    ann.expect_message("bob's own").await;
    ann.expect_nothing_until_message("later").await;
}

#[tokio::test]
async fn what_cannot_be_read_leaves_no_mark() {
    let team = Team::new().await;
    let (mut dora, Team { mut ann, mut bob, mut carl, cid, .. }) = (team.dora().await, team);
    let private = ann.create_private(&mut carl).await;
    let elsewhere = ann.send_message(&private, "elsewhere").await.server_mid;
    let own = bob.send_message(&cid, "own").await.server_mid;
    let hidden = json!({"cid": cid, "body": "hidden", "deleted_for": [bob.id()]});
    let hidden = ann.send_message_with(hidden).await.server_mid;
    let ids = json!([own, elsewhere, hidden, "abs", "65a000000000000000000001"]);
    bob.succeed("message_read", json!({"cid": cid, "ids": ids})).await;
    bob.succeed("message_read", json!({"cid": cid, "ids": []})).await;
    bob.send_message(&cid, "later").await;
    ann.expect_message("own").await;
    ann.expect_nothing_until_message("later").await;
    assert_eq!(unread(&mut carl, &private).await, 1);
    assert_eq!(statuses(&mut bob, &cid).await, [("later".into(), json!("sent")), ("own".into(), json!("sent"))]);
    dora.refused("message_read", json!({"cid": cid}), 403, "access_denied").await;
    bob.refused("message_read", json!({"cid": "abs"}), 404, "conversation_not_found").await;
    bob.refused("message_read", json!({}), 422, "cid_missing").await;
    bob.refused("message_read", json!({"cid": cid, "ids": vec![own; 1001]}), 422, "validation_failed").await;
}

#[tokio::test]
async fn nothing_in_a_channel_can_be_marked() {
    let Team { mut ann, mut bob, .. } = Team::new().await;
    let channel = ann.create_channel(&mut [&mut bob]).await;
    ann.send_message(&channel, "news").await;
    bob.expect_message("news").await;
    bob.send(json!({"message_read": {"cid": channel, "ids": ["abs"]}, "id": "123"})).await;
    let packet = bob.next().await;
    assert_error(&packet["response"], 403, "access_denied");
    assert_eq!(packet["response"]["id"], "123");
    assert_eq!(unread(&mut bob, &channel).await, 0);
}

#[tokio::test]
async fn unread_messages_are_counted_one_by_one() {
    let Team { mut ann, mut bob, mut carl, cid, .. } = Team::new().await;
    let acks = ann.send_messages(&cid, (1..=6).map(|number| number.to_string())).await;
    let ids: Vec<_> = acks.iter().map(|ack| ack.server_mid.as_str()).collect();
    bob.succeed("message_read", json!({"cid": cid, "ids": [ids[1], ids[3], ids[5]]})).await;
    assert_eq!(unread(&mut bob, &cid).await, 3);
    assert_eq!(unread(&mut carl, &cid).await, 6);
    assert_eq!(unread(&mut ann, &cid).await, 0);
    bob.succeed("message_read", json!({"cid": cid, "ids": [ids[1]]})).await;
    assert_eq!(unread(&mut bob, &cid).await, 3);
    bob.succeed("message_read", json!({"cid": cid, "ids": [ids[0]]})).await;
    assert_eq!(unread(&mut bob, &cid).await, 2);
    assert!(unread(&mut bob, &cid).await.is_u64());
}

#[tokio::test]
async fn many_unread_messages_are_read_at_once() {
    let Pair { mut ann, mut bob, cid, .. } = Pair::new().await;
    let acks = ann.send_messages(&cid, (0..250).map(|number| number.to_string())).await;
    assert_eq!(unread(&mut bob, &cid).await, 250);
    bob.succeed("message_read", json!({"cid": cid})).await;
    assert_eq!(unread(&mut bob, &cid).await, 0);
    let read = ann.expect("the read", is_read).await;
    let newest_first: Vec<_> = acks.iter().rev().map(|ack| ack.server_mid.as_str()).collect();
    assert_eq!(read["message_read"]["ids"], json!(newest_first));
    for page in newest_first.chunks(100) {
        let listed = ann.list_messages(json!({"cid": cid, "ids": page})).await;
        assert_eq!(listed.len(), page.len());
        assert!(listed.iter().all(|message| message["status"] == "read"));
    }
}

#[tokio::test]
async fn a_server_may_be_set_to_tell_the_authors_alone() {
    let stack = TestStack::builder().environment("CORE_READ_EVENTS", "authors").start().await;
    let Team { mut ann, mut bob, mut carl, cid, .. } = Team::of(stack.new_organization().await).await;
    ann.send_message(&cid, "one").await;
    bob.expect_message("one").await;
    bob.succeed("message_read", json!({"cid": cid})).await;
    bob.send_message(&cid, "later").await;
    carl.expect_message("one").await;
    carl.expect_nothing_until_message("later").await;
    assert!(is_read(&ann.next().await));
}
