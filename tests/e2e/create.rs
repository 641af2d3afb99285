//! New conversations. Acceptance cases 64 to 67, 69 and 71 of the protocol's part 2.

use e2e::packets::{is_created, is_id, is_stamp, text};
use e2e::{Device, TestClient, TestStack};
use serde_json::{Value, json};

use crate::team::{Pair, Team};

/// One more user who exists nowhere.
const UNKNOWN: &str = "65a000000000000000000001";

async fn create(client: &mut TestClient, payload: Value) -> Value {
    client.succeed("conversation_create", payload).await["conversation"].take()
}

#[tokio::test]
async fn a_private_conversation_is_answered_to_its_maker_and_told_in_both_forms() {
    for device in Device::BOTH {
        let org = TestStack::organization().await;
        let (mut ann, mut bob) = tokio::join!(org.client("ann"), org.client("bob"));
        let mut second = ann.another_socket(device).await;
        let made = create(&mut ann, json!({"type": "u", "participants": [bob.id()]})).await;
        let stamp = text(&made, "created_at");
        assert!(is_stamp(stamp) && is_id(text(&made, "_id")), "{made}");
        let wanted = json!({
            "_id": made["_id"], "type": "u", "owner_id": ann.id(), "opponent_id": bob.id(), "organization_id": org.id,
            "created_at": stamp, "updated_at": stamp, "participants": [ann.id(), bob.id()],
        });
        assert_eq!(made, wanted);
        for socket in [&mut bob, &mut second] {
            let packet = socket.next().await;
            let system = &packet["system_message"];
            assert_eq!(packet["event"], json!({"conversation_created": made}));
            assert_eq!(system["x"], packet["event"]);
            assert_eq!(
                (&system["_id"], &system["cid"], &system["from"]),
                (&made["_id"], &made["_id"], &json!(ann.id()))
            );
            assert!(system["t"].is_i64());
        }
        let cid = text(&made, "_id").to_owned();
        bob.send_message(&cid, "later").await;
        ann.expect_nothing_until_message("later").await;
        second.expect_nothing_until_message("later").await;
    }
}

#[tokio::test]
async fn there_is_one_private_conversation_of_two_users() {
    let Pair { mut ann, mut bob, cid, .. } = Pair::new().await;
    for participants in [
        json!({"type": "u", "participants": [bob.id()]}),
        json!({"type": "u", "opponent_id": bob.id()}),
        json!({"type": "u", "participants": [ann.id(), bob.id(), bob.id()]}),
        json!({"type": "u", "participants": [ann.id(), bob.id(), UNKNOWN, "abs"], "opponent_id": bob.id()}),
    ] {
        assert_eq!(create(&mut ann, participants.clone()).await["_id"], cid.as_str(), "{participants}");
    }
    let again = create(&mut bob, json!({"type": "u", "participants": [ann.id()]})).await;
    assert_eq!(
        (&again["_id"], &again["owner_id"], &again["opponent_id"]),
        (&json!(cid), &json!(ann.id()), &json!(bob.id()))
    );
    ann.send_message(&cid, "to bob").await;
    bob.expect_nothing_until_message("to bob").await;
    bob.send_message(&cid, "to ann").await;
    ann.expect_nothing_until_message("to ann").await;
}

#[tokio::test]
async fn an_opponent_alone_makes_a_private_conversation() {
    let org = TestStack::organization().await;
    let (mut ann, mut bob) = tokio::join!(org.client("ann"), org.client("bob"));
    let made =
        create(&mut ann, json!({"type": "u", "opponent_id": bob.id(), "name": "Us", "owner_id": bob.id()})).await;
    assert_eq!((&made["opponent_id"], &made["owner_id"]), (&json!(bob.id()), &json!(ann.id())));
    assert_eq!(made["name"], "Us");
    bob.expect("the created packet", is_created).await;
}

#[tokio::test]
async fn an_encrypted_private_conversation_is_another_one() {
    let Pair { mut ann, mut bob, cid, .. } = Pair::new().await;
    let encrypted = json!({"type": "u", "participants": [bob.id()], "is_encrypted": true});
    let made = create(&mut ann, encrypted.clone()).await;
    assert_ne!(made["_id"], cid.as_str());
    assert_eq!(made["is_encrypted"], true);
    bob.expect("the created packet", is_created).await;
    assert_eq!(create(&mut ann, encrypted).await["_id"], made["_id"]);
}

#[tokio::test]
async fn simultaneous_creations_make_one_conversation() {
    for _ in 0..5 {
        let org = TestStack::organization().await;
        let (mut ann, mut bob) = tokio::join!(org.client("ann"), org.client("bob"));
        let mut second = ann.another_socket(Device::Same).await;
        let by_ann = json!({"type": "u", "participants": [bob.id()]});
        let by_bob = json!({"type": "u", "participants": [ann.id()]});
        let (one, two, three) =
            tokio::join!(create(&mut ann, by_ann.clone()), create(&mut second, by_ann), create(&mut bob, by_bob));
        assert!(one["_id"] == two["_id"] && two["_id"] == three["_id"], "{one} {two} {three}");
        assert_eq!(ann.list_conversations(json!({})).await.len(), 1);
    }
}

#[tokio::test]
async fn a_private_conversation_has_exactly_one_other_user() {
    let org = TestStack::organization().await;
    let mut ann = org.client("ann").await;
    let (bob, carl, dora) = tokio::join!(org.sign_up("bob"), org.sign_up("carl"), org.sign_up("dora"));
    let foreigner = org.stack().new_organization().await.sign_up("eve").await.id;
    let me = ann.id().to_owned();
    let cases = [
        (json!({"participants": [me, bob.id, carl.id, dora.id]}), "too_many_in_private"),
        (json!({"participants": [bob.id], "opponent_id": carl.id}), "too_many_in_private"),
        (json!({"participants": [me]}), "user_invalid"),
        (json!({"opponent_id": me}), "user_invalid"),
        (json!({"participants": [UNKNOWN]}), "opponent_not_found"),
        (json!({"participants": ["abs"]}), "opponent_not_found"),
        (json!({"participants": [foreigner]}), "opponent_not_found"),
        (json!({"participants": []}), "participants_missing"),
        (json!({}), "participants_missing"),
    ];
    for (mut payload, code) in cases {
        payload["type"] = json!("u");
        ann.refused("conversation_create", payload, 422, code).await;
    }
    assert!(ann.list_conversations(json!({})).await.is_empty());
    create(&mut ann, json!({"type": "u", "participants": [me, bob.id, UNKNOWN]})).await;
}

#[tokio::test]
async fn a_group_has_its_maker_and_those_who_exist() {
    let org = TestStack::organization().await;
    let (mut ann, mut bob, mut carl) = tokio::join!(org.client("ann"), org.client("bob"), org.client("carl"));
    let payload = json!({
        "type": "g", "name": "Team", "description": "", "participants": [bob.id(), UNKNOWN, carl.id(), "abs", bob.id()],
        "image_object": {"file_id": "f", "file_name": null, "file_blur_hash": "b"}, "opponent_id": UNKNOWN,
    });
    let made = create(&mut ann, payload).await;
    assert_eq!(made["participants"], json!([ann.id(), bob.id(), carl.id()]));
    assert_eq!((&made["name"], &made["type"], &made["owner_id"]), (&json!("Team"), &json!("g"), &json!(ann.id())));
    assert_eq!(made["image_object"], json!({"file_id": "f", "file_blur_hash": "b"}));
    for absent in ["opponent_id", "subscribers_count", "last_message", "unread_messages_count", "is_encrypted"] {
        assert!(made.get(absent).is_none(), "{made}");
    }
    for member in [&mut bob, &mut carl] {
        assert_eq!(member.next().await["system_message"]["x"]["conversation_created"], made);
    }
}

#[tokio::test]
async fn a_group_is_refused_for_what_is_missing() {
    let org = TestStack::organization().await;
    let (mut ann, bob) = tokio::join!(org.client("ann"), org.sign_up("bob"));
    let me = ann.id().to_owned();
    let cases = [
        (json!({"name": "Team", "participants": [bob.id]}), "conversation_type_missing"),
        (json!({"type": "k", "name": "Team", "participants": [bob.id]}), "type_invalid"),
        (json!({"type": "g", "participants": [bob.id]}), "conversation_name_missing"),
        (json!({"type": "g", "name": "", "participants": [bob.id]}), "conversation_name_missing"),
        (json!({"type": "g", "name": "Team"}), "participants_missing"),
        (json!({"type": "g", "name": "Team", "participants": []}), "participants_missing"),
        (json!({"type": "g", "name": "Team", "participants": [me]}), "participants_unresolved"),
        (json!({"type": "g", "name": "Team", "participants": [UNKNOWN, "abs"]}), "participants_unresolved"),
        (json!({"type": "g", "name": "Team", "participants": vec![bob.id.clone(); 52]}), "too_many_in_group"),
        (json!({"type": "g", "name": "n".repeat(256), "participants": [bob.id]}), "validation_failed"),
        (json!({"type": "g", "name": "Team", "participants": bob.id}), "validation_failed"),
        (json!({"type": "c"}), "conversation_name_missing"),
    ];
    for (payload, code) in cases {
        ann.refused("conversation_create", payload, 422, code).await;
    }
    assert!(ann.list_conversations(json!({})).await.is_empty());
    create(&mut ann, json!({"type": "g", "name": "n".repeat(255), "participants": vec![bob.id; 50]})).await;
}

#[tokio::test]
async fn a_channel_may_be_alone_and_counts_its_subscribers() {
    let Team { mut ann, mut bob, .. } = Team::new().await;
    let alone = create(&mut ann, json!({"type": "c", "name": "News"})).await;
    assert_eq!(alone["subscribers_count"], 1);
    assert!(alone.get("participants").is_none(), "{alone}");
    let two = create(&mut ann, json!({"type": "c", "name": "News", "participants": [bob.id()]})).await;
    assert_eq!(two["subscribers_count"], 2);
    let told = bob.next().await;
    assert_eq!(told["event"]["conversation_created"], two);
    let cid = text(&two, "_id").to_owned();
    bob.message_refused(json!({"cid": cid, "body": "me too"}), 403, "access_denied").await;
    ann.send_message(&cid, "news").await;
    assert_eq!(bob.expect_message("news").await["c_type"], "c");
}
