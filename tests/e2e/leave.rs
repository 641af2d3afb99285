//! Leaving conversations, and how a private one comes back. Acceptance cases 85 to 90 and the rest of 92 of the
//! protocol's part 2.

use e2e::packets::{is_created, items, text, texts};
use e2e::{Device, TestClient};
use serde_json::{Value, json};

use crate::team::{Pair, Team};

async fn leave(client: &mut TestClient, cid: &str) {
    let response = client.succeed("conversation_delete", json!({"id": cid})).await;
    assert_eq!(response["success"], true);
}

async fn create(client: &mut TestClient, peer: &str) -> Value {
    let payload = json!({"type": "u", "participants": [peer]});
    client.succeed("conversation_create", payload).await["conversation"].take()
}

async fn bodies(client: &mut TestClient, cid: &str) -> Vec<String> {
    let listed = client.list_messages(json!({"cid": cid})).await;
    texts(&listed, "body").into_iter().map(str::to_owned).collect()
}

/// A private conversation with a message of each side, read by the other.
async fn talked() -> Pair {
    let mut pair = Pair::new().await;
    let Pair { ann, bob, cid, .. } = &mut pair;
    ann.send_message(cid, "one").await;
    bob.expect_message("one").await;
    bob.send_message(cid, "two").await;
    ann.expect_message("two").await;
    pair
}

#[tokio::test]
async fn leaving_is_refused_for_what_one_is_not_in() {
    let team = Team::new().await;
    let (mut dora, Team { mut ann, mut bob, cid, .. }) = (team.dora().await, team);
    for unknown in ["65a0000000000000000000011", "65a000000000000000000001", "abs", ""] {
        ann.refused("conversation_delete", json!({"id": unknown}), 400, "conversation_unknown").await;
    }
    ann.refused("conversation_delete", json!({}), 422, "cid_missing").await;
    dora.refused("conversation_delete", json!({"id": cid}), 404, "participant_not_found").await;
    leave(&mut bob, &cid).await;
    bob.refused("conversation_delete", json!({"id": cid}), 404, "participant_not_found").await;
    let mut stranger = TestClient::open(ann.stack()).await;
    stranger.refused("conversation_delete", json!({"id": cid}), 401, "not_authenticated").await;
}

#[tokio::test]
async fn who_leaves_a_group_is_missed_by_the_others_and_gone_for_himself() {
    for device in Device::BOTH {
        let Team { mut ann, mut bob, mut carl, cid, .. } = Team::new().await;
        let mut second = bob.another_socket(device).await;
        let ann_id = ann.id().to_owned();
        leave(&mut bob, &cid).await;
        for member in [&mut ann, &mut carl] {
            let message = member.next().await["message"].take();
            assert_eq!((&message["x"]["type"], &message["from"]), (&json!("left_participants"), &json!(bob.id())));
            assert_eq!(message["x"]["user"]["_id"], bob.id());
            let told = member.next().await;
            let shown = &told["system_message"]["x"]["conversation_updated"];
            assert_eq!(told["event"]["conversation_updated"], *shown);
            assert_eq!((&shown["_id"], &shown["owner_id"]), (&json!(cid), &json!(ann_id)));
            assert_eq!(shown["participants"].as_array().map(Vec::len), Some(2));
            assert_eq!(shown["updated_at"], message["created_at"]);
        }
        let told = second.next().await;
        assert_eq!(told.as_object().map(serde_json::Map::len), Some(1), "clients act on none of it: {told}");
        assert_eq!(told["event"]["conversation_deleted"]["_id"], cid.as_str());

        for (name, payload) in [
            ("message_list", json!({"cid": cid})),
            ("message_read", json!({"cid": cid})),
            ("conversation_update", json!({"id": cid, "name": "X"})),
        ] {
            bob.refused(name, payload, 403, "access_denied").await;
        }
        bob.message_refused(json!({"cid": cid, "body": "hi"}), 403, "access_denied").await;
        ann.send_message(&cid, "later").await;
        carl.expect_nothing_until_message("later").await;
        assert!(bob.list_conversations(json!({})).await.is_empty());
        assert!(bob.drain().is_empty() && second.drain().is_empty());
    }
}

#[tokio::test]
async fn the_owner_who_leaves_hands_over_and_the_last_one_takes_it_all_with_him() {
    let Team { mut ann, mut bob, mut carl, cid, .. } = Team::new().await;
    ann.send_message(&cid, "hello").await;
    ann.succeed("conversation_update", json!({"id": cid, "admins": {"add": [carl.id()]}})).await;
    leave(&mut ann, &cid).await;
    let heir = carl.id().to_owned();
    for member in [&mut bob, &mut carl] {
        member.expect("the new owner", |packet| packet["event"]["conversation_updated"]["owner_id"] == heir).await;
    }
    leave(&mut carl, &cid).await;
    assert_eq!(bob.listed_conversation(&cid).await["owner_id"], bob.id());
    let mut second = bob.another_socket(Device::Same).await;
    leave(&mut bob, &cid).await;
    assert_eq!(second.next().await["event"]["conversation_deleted"]["_id"], cid.as_str());
    bob.refused("message_list", json!({"cid": cid}), 404, "conversation_not_found").await;
    bob.refused("conversation_delete", json!({"id": cid}), 400, "conversation_unknown").await;
}

#[tokio::test]
async fn who_comes_back_to_a_group_starts_with_nothing_unread() {
    let Team { mut ann, mut bob, cid, .. } = Team::new().await;
    for number in 0..5 {
        ann.send_message(&cid, &format!("m{number}")).await;
    }
    leave(&mut bob, &cid).await;
    let before = bob.succeed("conversation_list", json!({})).await;
    assert!(items(&before, "conversations").is_empty());
    let left_at = ann.send_message(&cid, "without bob").await.created_at;
    ann.succeed("conversation_update", json!({"id": cid, "participants": {"add": [bob.id()]}})).await;
    let listed = bob.listed_conversation(&cid).await;
    assert_eq!(listed["unread_messages_count"], 1, "the word that he was added");
    assert_eq!(bob.list_messages(json!({"cid": cid})).await.len(), 8, "and the whole history is there");
    let since = bob.list_conversations(json!({"updated_at": {"gt": left_at}})).await;
    assert_eq!(texts(&since, "_id"), [cid.as_str()]);
}

#[tokio::test]
async fn a_subscriber_leaves_a_channel_unnoticed_and_its_owner_does_not() {
    let Team { mut ann, mut bob, mut carl, .. } = Team::new().await;
    let channel = ann.create_channel(&mut [&mut bob, &mut carl]).await;
    leave(&mut bob, &channel).await;
    ann.send_message(&channel, "news").await;
    carl.expect_nothing_until_message("news").await;
    assert_eq!(carl.listed_conversation(&channel).await["subscribers_count"], 2);
    leave(&mut ann, &channel).await;
    let told = carl.next().await;
    let shown = &told["system_message"]["x"]["conversation_updated"];
    assert_eq!((&shown["owner_id"], &shown["subscribers_count"]), (&json!(carl.id()), &json!(1)));
    carl.send_message(&channel, "mine now").await;
}

#[tokio::test]
async fn the_other_side_of_a_private_conversation_notices_nothing() {
    let Pair { mut ann, mut bob, cid, .. } = talked().await;
    let mut second = ann.another_socket(Device::Other).await;
    let before = bob.listed_conversation(&cid).await;
    leave(&mut ann, &cid).await;
    assert_eq!(second.next().await["event"]["conversation_deleted"]["_id"], cid.as_str());
    assert_eq!(bob.listed_conversation(&cid).await, before);
    assert_eq!(bodies(&mut bob, &cid).await, ["two", "one"]);
    assert!(bob.drain().is_empty());
    assert!(ann.list_conversations(json!({})).await.is_empty());
    ann.message_refused(json!({"cid": cid, "body": "hi"}), 403, "access_denied").await;
    ann.refused("message_list", json!({"cid": cid}), 403, "access_denied").await;

    let response = bob.succeed("get_participants_by_cids", json!({"cids": [cid]})).await;
    assert_eq!(response["conversations"][&cid], json!([bob.id()]));
    let mut both = [ann.id(), bob.id()];
    both.sort_unstable_by(|a, b| b.cmp(a));
    assert_eq!(texts(items(&response, "users"), "_id"), both);
}

#[tokio::test]
async fn a_message_brings_the_other_side_back() {
    let Pair { mut ann, mut bob, cid, .. } = talked().await;
    let mut second = bob.another_socket(Device::Same).await;
    leave(&mut ann, &cid).await;
    let sent = bob.send_message(&cid, "come back").await;
    let created = ann.next().await;
    assert!(is_created(&created), "{created}");
    let shown = &created["event"]["conversation_created"];
    assert!(created["event"].get("conversation_updated").is_none(), "{created}");
    assert_eq!((&shown["_id"], &shown["unread_messages_count"]), (&json!(cid), &json!(1)));
    assert_eq!(shown["last_message"]["_id"], sent.server_mid);
    assert_eq!(shown["last_message"]["cid"], cid.as_str());
    assert_eq!((&shown["owner_id"], &shown["opponent_id"]), (&json!(ann.id()), &json!(bob.id())));
    assert_eq!(ann.next().await["message"]["_id"], sent.server_mid);
    second.expect_nothing_until_message("come back").await;
    assert_eq!(ann.listed_conversation(&cid).await["unread_messages_count"], 1);
    assert_eq!(bodies(&mut ann, &cid).await, ["come back", "two", "one"]);
    ann.send_message(&cid, "here I am").await;
    bob.expect_nothing_until_message("here I am").await;
}

#[tokio::test]
async fn a_message_that_is_kept_from_the_other_side_does_not_bring_it_back() {
    let Pair { mut ann, mut bob, cid, .. } = talked().await;
    leave(&mut ann, &cid).await;
    bob.send_message_with(json!({"id": "m", "cid": cid, "body": "to myself", "deleted_for": [ann.id()]})).await;
    assert!(ann.list_conversations(json!({})).await.is_empty());
    bob.send_message(&cid, "to ann").await;
    let created = ann.next().await;
    assert_eq!(created["event"]["conversation_created"]["unread_messages_count"], 1);
    assert_eq!(bodies(&mut ann, &cid).await, ["to ann", "two", "one"]);
}

#[tokio::test]
async fn who_creates_it_again_has_it_back_and_the_other_side_notices_nothing() {
    let Pair { mut ann, mut bob, cid, .. } = talked().await;
    let mut second = ann.another_socket(Device::Same).await;
    leave(&mut ann, &cid).await;
    second.next().await;
    bob.send_message_with(json!({"id": "m", "cid": cid, "body": "to myself", "deleted_for": [ann.id()]})).await;
    let before = bob.listed_conversation(&cid).await;
    let bob_id = bob.id().to_owned();
    let created = create(&mut ann, &bob_id).await;
    assert_eq!((&created["_id"], &created["owner_id"]), (&json!(cid), &json!(ann.id())));
    for absent in ["last_message", "unread_messages_count"] {
        assert!(created.get(absent).is_none(), "{created}");
    }
    let told = second.next().await;
    let shown = &told["event"]["conversation_created"];
    assert_eq!((&shown["last_message"]["body"], &shown["unread_messages_count"]), (&json!("two"), &json!(0)));
    assert_eq!(bodies(&mut ann, &cid).await, ["two", "one"]);
    assert_eq!(ann.listed_conversation(&cid).await["unread_messages_count"], 0);
    assert_eq!(bob.listed_conversation(&cid).await, before);
    // Nobody is missing, so nobody is told.
    create(&mut ann, &bob_id).await;
    ann.send_message(&cid, "later").await;
    bob.expect_nothing_until_message("later").await;
    second.expect_nothing_until_message("later").await;
}

#[tokio::test]
async fn a_creation_by_the_other_side_brings_one_back_too() {
    let Pair { mut ann, mut bob, cid, .. } = talked().await;
    let mut second = bob.another_socket(Device::Same).await;
    leave(&mut ann, &cid).await;
    let ann_id = ann.id().to_owned();
    assert_eq!(create(&mut bob, &ann_id).await["_id"], cid.as_str());
    let told = ann.next().await;
    assert!(is_created(&told), "{told}");
    let shown = &told["event"]["conversation_created"];
    assert_eq!((&shown["last_message"]["body"], &shown["unread_messages_count"]), (&json!("two"), &json!(0)));
    assert_eq!(told["system_message"]["from"], bob.id());
    ann.send_message(&cid, "later").await;
    bob.expect_nothing_until_message("later").await;
    second.expect_nothing_until_message("later").await;
}

#[tokio::test]
async fn when_both_have_left_a_new_one_is_empty() {
    let Pair { mut ann, mut bob, cid, .. } = talked().await;
    leave(&mut ann, &cid).await;
    leave(&mut bob, &cid).await;
    ann.refused("message_list", json!({"cid": cid}), 404, "conversation_not_found").await;
    let bob_id = bob.id().to_owned();
    let created = create(&mut ann, &bob_id).await;
    assert_ne!(created["_id"], cid.as_str());
    let told = bob.next().await;
    assert_eq!(told["event"]["conversation_created"], created);
    let cid = text(&created, "_id").to_owned();
    assert!(bodies(&mut bob, &cid).await.is_empty());
}

#[tokio::test]
async fn both_leaving_and_coming_back_at_once_end_in_one_state() {
    for _ in 0..5 {
        let Pair { mut ann, mut bob, cid, .. } = Pair::new().await;
        leave(&mut ann, &cid).await;
        let (ann_id, bob_id) = (ann.id().to_owned(), bob.id().to_owned());
        let mut second = bob.another_socket(Device::Same).await;
        let (_, by_ann, _) = tokio::join!(
            second.succeed("conversation_delete", json!({"id": cid})),
            create(&mut ann, &bob_id),
            bob.request("message_list", json!({"cid": cid})),
        );
        let by_bob = create(&mut bob, &ann_id).await;
        assert_eq!(by_ann["_id"], by_bob["_id"], "there is one of the two");
        let cid = text(&by_bob, "_id").to_owned();
        for client in [&mut ann, &mut bob] {
            assert_eq!(texts(&client.list_conversations(json!({})).await, "_id"), [cid.as_str()]);
        }
    }
}
