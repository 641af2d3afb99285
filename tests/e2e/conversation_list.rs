//! The list of conversations. Acceptance cases 81 to 83 of the protocol's part 2.

use e2e::packets::texts;
use e2e::{TestClient, TestStack};
use serde_json::{Value, json};

use crate::team::Team;

async fn ids(client: &mut TestClient, payload: Value) -> Vec<String> {
    let listed = client.list_conversations(payload).await;
    texts(&listed, "_id").into_iter().map(str::to_owned).collect()
}

/// This many groups of a client and a user who is not online, oldest first.
async fn groups(client: &mut TestClient, other: &str, count: usize) -> Vec<String> {
    let mut made = Vec::new();
    for number in 0..count {
        let payload = json!({"type": "g", "name": format!("Group {number}"), "participants": [other]});
        let response = client.succeed("conversation_create", payload).await;
        made.push(response["conversation"]["_id"].as_str().unwrap().to_owned());
    }
    made
}

#[tokio::test]
async fn the_latest_activity_comes_first() {
    let Team { mut ann, mut bob, cid, .. } = Team::new().await;
    let private = ann.create_private(&mut bob).await;
    let channel = ann.create_channel(&mut [&mut bob]).await;
    assert_eq!(ids(&mut ann, json!({})).await, [channel.clone(), private.clone(), cid.clone()]);
    let ack = bob.send_message(&cid, "awake").await;
    for client in [&mut ann, &mut bob] {
        assert_eq!(ids(client, json!({})).await, [cid.clone(), channel.clone(), private.clone()]);
    }
    let listed = ann.list_conversations(json!({})).await;
    let wanted = json!({
        "_id": ack.server_mid, "cid": cid, "from": bob.id(), "t": ack.t, "body": "awake", "status": "sent",
        "reactions": {}, "created_at": ack.created_at, "updated_at": ack.created_at,
    });
    assert_eq!(listed[0]["last_message"], wanted);
    assert_eq!(listed[0]["updated_at"], ack.created_at.as_str());
    assert_eq!(listed[0]["unread_messages_count"], 1);
    for quiet in &listed[1..] {
        assert_eq!(quiet["unread_messages_count"], 0);
        assert!(quiet.get("last_message").is_none(), "{quiet}");
        assert!(quiet.get("participants").is_none(), "{quiet}");
    }
    assert_eq!(listed[1]["subscribers_count"], 2);
}

#[tokio::test]
async fn the_last_message_is_the_newest_that_the_caller_may_see() {
    let Team { mut ann, mut bob, mut carl, cid, .. } = Team::new().await;
    ann.send_message(&cid, "for all").await;
    ann.send_message_with(json!({"cid": cid, "body": "not for bob", "deleted_for": [bob.id()]})).await;
    assert_eq!(bob.listed_conversation(&cid).await["last_message"]["body"], "for all");
    assert_eq!(carl.listed_conversation(&cid).await["last_message"]["body"], "not for bob");
}

#[tokio::test]
async fn pages_go_on_without_a_gap_or_a_repeat() {
    let org = TestStack::organization().await;
    let (mut ann, bob) = tokio::join!(org.client("ann"), org.sign_up("bob"));
    let made = groups(&mut ann, &bob.id, 105).await;
    let newest_first: Vec<_> = made.iter().rev().cloned().collect();
    let mut seen = Vec::new();
    let mut bounds = json!({});
    loop {
        let page = ann.list_conversations(json!({"limit": 30, "updated_at": bounds})).await;
        let Some(oldest) = page.last() else { break };
        bounds = json!({"lt": oldest["updated_at"]});
        seen.extend(texts(&page, "_id").into_iter().map(str::to_owned));
    }
    assert_eq!(seen, newest_first);
    assert_eq!(ids(&mut ann, json!({})).await, newest_first[..30]);
    assert_eq!(ids(&mut ann, json!({"limit": 500})).await, newest_first[..100]);
    for bad in [json!({"limit": -1}), json!({"limit": "x"}), json!({"updated_at": {"gt": "abc"}})] {
        ann.refused("conversation_list", bad, 422, "validation_failed").await;
    }
}

#[tokio::test]
async fn gt_finds_an_old_conversation_that_woke_up() {
    let org = TestStack::organization().await;
    let (mut ann, bob) = tokio::join!(org.client("ann"), org.sign_up("bob"));
    let made = groups(&mut ann, &bob.id, 3).await;
    let seen = ann.listed_conversation(&made[2]).await;
    ann.send_message(&made[0], "awake").await;
    assert_eq!(ids(&mut ann, json!({"updated_at": {"gt": seen["updated_at"]}})).await, [made[0].as_str()]);
    let lt = json!({"updated_at": {"lt": seen["updated_at"]}});
    assert_eq!(ids(&mut ann, lt).await, [made[1].as_str()]);
}

#[tokio::test]
async fn ids_choose_ones_own_conversations() {
    let team = Team::new().await;
    let (mut dora, Team { mut ann, mut bob, cid, .. }) = (team.dora().await, team);
    let foreign = bob.create_private(&mut dora).await;
    assert_eq!(ids(&mut ann, json!({"ids": [foreign, "abs", cid]})).await, [cid.as_str()]);
    assert_eq!(ids(&mut ann, json!({"ids": [cid.to_uppercase()]})).await, [cid.as_str()]);
    ann.refused("conversation_list", json!({"ids": vec![cid; 11]}), 422, "validation_failed").await;
}

#[tokio::test]
async fn a_new_user_has_none() {
    let mut ann = TestStack::organization().await.client("ann").await;
    assert_eq!(ann.succeed("conversation_list", json!({})).await["conversations"], json!([]));
    assert_eq!(ann.succeed("conversation_list", Value::Null).await["conversations"], json!([]));
}
