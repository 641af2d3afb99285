//! Updates of a conversation: its fields, its members, its admins, and who is told what in which order. Acceptance cases
//! 72 to 80 of the protocol's part 2.

use e2e::packets::{integer, is_message, text};
use e2e::{Device, TestClient, TestStack};
use serde_json::{Value, json};

use crate::team::{Pair, Team};

/// Updates the conversation and returns it as the reply shows it.
async fn update(client: &mut TestClient, cid: &str, mut payload: Value) -> Value {
    payload["id"] = json!(cid);
    client.succeed("conversation_update", payload).await["conversation"].take()
}

/// What a packet is about, in a word or two.
fn kind(packet: &Value) -> String {
    if let Some(kind) = packet["message"]["x"]["type"].as_str() {
        return kind.to_owned();
    }
    let x = &packet["system_message"]["x"];
    assert_eq!(packet["event"], *x, "both forms say the same");
    assert_eq!(packet["system_message"]["cid"], packet["system_message"]["_id"]);
    x.as_object().map(|object| object.keys().cloned().collect::<Vec<_>>().join("+")).unwrap_or_default()
}

/// What came before the message of this body.
async fn kinds_until(client: &mut TestClient, body: &str) -> Vec<String> {
    client.everything_until_message(body).await.iter().map(kind).collect()
}

#[tokio::test]
async fn a_new_name_is_told_to_the_others_in_both_forms() {
    for device in Device::BOTH {
        let Team { mut ann, mut bob, mut carl, cid, .. } = Team::new().await;
        let mut second = ann.another_socket(device).await;
        let before = ann.listed_conversation(&cid).await;
        let renamed = update(&mut ann, &cid, json!({"name": "New name", "participants": {}})).await;
        assert_eq!(renamed["name"], "New name");
        assert_eq!(renamed["created_at"], before["created_at"]);
        assert!(text(&renamed, "updated_at") > text(&before, "updated_at"), "{renamed}");
        assert_eq!(renamed["participants"], json!([ann.id(), bob.id(), carl.id()]));
        for absent in ["last_message", "unread_messages_count"] {
            assert!(renamed.get(absent).is_none(), "{renamed}");
        }
        for socket in [&mut bob, &mut carl, &mut second] {
            let packet = socket.next().await;
            assert_eq!(packet["event"], json!({"conversation_updated": renamed}));
            assert_eq!(packet["system_message"]["x"], packet["event"]);
            assert_eq!(packet["system_message"]["cid"], cid.as_str());
            assert_eq!(packet["system_message"]["from"], ann.id());
        }
        bob.send_message(&cid, "later").await;
        ann.expect_nothing_until_message("later").await;
        assert_eq!(carl.listed_conversation(&cid).await["name"], "New name");
    }
}

#[tokio::test]
async fn only_its_owner_and_admins_update_a_group() {
    let team = Team::new().await;
    let (mut dora, Team { mut ann, mut bob, mut carl, cid, .. }) = (team.dora().await, team);
    for stranger in [&mut bob, &mut dora] {
        stranger.refused("conversation_update", json!({"id": cid, "name": "X"}), 403, "access_denied").await;
    }
    for unknown in ["abs", "65a000000000000000000001", "65a000000000000000000001f"] {
        let payload = json!({"id": unknown, "name": "X"});
        ann.refused("conversation_update", payload, 400, "conversation_unknown").await;
    }
    let cases = [
        (json!({"name": "X"}), "cid_missing"),
        (json!({"id": cid, "name": ""}), "conversation_name_missing"),
        (json!({"id": cid, "name": "n".repeat(256)}), "validation_failed"),
        (json!({"id": cid, "description": "d".repeat(256)}), "validation_failed"),
        (json!({"id": cid, "participants": [dora.id()]}), "validation_failed"),
        (json!({"id": cid, "participants": {"add": dora.id()}}), "validation_failed"),
        (json!({"id": cid, "admins": {"remove": vec![dora.id(); 201]}}), "validation_failed"),
    ];
    for (payload, code) in cases {
        ann.refused("conversation_update", payload, 422, code).await;
    }
    // Nothing that changes nothing is told.
    for nothing in [
        json!({"participants": {}}),
        json!({"name": "Team", "description": "", "image_object": null}),
        json!({"participants": {"add": [bob.id(), "abs", "65a000000000000000000001"], "remove": [dora.id()]}}),
        json!({"admins": {"remove": [carl.id()]}}),
    ] {
        let before = ann.listed_conversation(&cid).await;
        assert_eq!(update(&mut ann, &cid, nothing).await["updated_at"], before["updated_at"]);
    }
    ann.send_message(&cid, "later").await;
    for member in [&mut bob, &mut carl] {
        member.expect_nothing_until_message("later").await;
    }
}

#[tokio::test]
async fn who_is_added_sees_the_conversation_before_he_is_announced() {
    let team = Team::new().await;
    let (mut dora, Team { mut ann, mut bob, mut carl, cid, .. }) = (team.dora().await, team);
    ann.send_message(&cid, "before dora").await;
    for member in [&mut bob, &mut carl] {
        member.expect_message("before dora").await;
    }
    let mut second = ann.another_socket(Device::Same).await;
    let updated = update(&mut ann, &cid, json!({"participants": {"add": [dora.id()]}})).await;
    assert_eq!(updated["participants"], json!([ann.id(), bob.id(), carl.id(), dora.id()]));

    let told = dora.next().await;
    assert_eq!(kind(&told), "conversation_created+conversation_updated");
    let shown = &told["event"]["conversation_created"];
    assert_eq!(*shown, told["event"]["conversation_updated"]);
    assert_eq!(shown["unread_messages_count"], 1);
    assert_eq!(shown["participants"], updated["participants"]);
    let mut announced = dora.next().await;
    let message = announced["message"].take();
    assert_eq!((&message["x"]["type"], &message["from"]), (&json!("added_participant"), &json!(ann.id())));
    assert_eq!(message["x"]["user"]["_id"], dora.id());
    assert_eq!(message["x"]["user"]["native_id"], dora.id());
    assert_eq!(message["x"]["user"]["login"], "dora");
    assert_eq!((&message["c_type"], &message["cid"]), (&json!("g"), &json!(cid)));
    assert!(text(&message, "body").contains("dora"), "{message}");
    let last = &shown["last_message"];
    assert_eq!((&last["_id"], &last["body"]), (&message["_id"], &message["body"]));
    assert_eq!(updated["updated_at"], message["created_at"]);

    bob.send_message(&cid, "later").await;
    assert_eq!(kinds_until(&mut ann, "later").await, ["added_participant"], "after the reply");
    assert_eq!(kinds_until(&mut dora, "later").await, [""; 0]);
    for socket in [&mut carl, &mut second] {
        assert_eq!(kinds_until(socket, "later").await, ["added_participant", "conversation_updated"]);
    }
    // Real messages: they are listed, and count as unread from when the membership began.
    let listed = dora.list_messages(json!({"cid": cid})).await;
    let bodies: Vec<_> = listed.iter().map(|message| text(message, "body")).collect();
    assert_eq!(bodies, ["later", text(&message, "body"), "before dora"]);
    assert_eq!(listed[1]["x"], message["x"]);
    assert_eq!(dora.listed_conversation(&cid).await["unread_messages_count"], 2);
}

#[tokio::test]
async fn the_reply_comes_before_what_the_request_causes_on_its_socket() {
    let Team { mut ann, org, cid, .. } = Team::new().await;
    for number in 0..20 {
        let user = org.sign_up(&format!("user{number}")).await;
        ann.send(json!({"request": {"id": number, "conversation_update": {
            "id": cid, "participants": {"add": [user.id]}, "image_object": {"file_id": format!("f{number}")},
        }}}))
        .await;
        let reply = ann.next().await;
        assert_eq!(reply["response"]["id"], number, "{reply}");
        assert_eq!(kind(&ann.next().await), "added_participant");
        assert_eq!(kind(&ann.next().await), "update_image");
    }
}

#[tokio::test]
async fn who_is_removed_is_told_so_and_nothing_else() {
    let Team { mut ann, mut bob, mut carl, cid, .. } = Team::new().await;
    let sent = carl.send_message(&cid, "I was here").await;
    for member in [&mut ann, &mut bob] {
        member.expect_message("I was here").await;
    }
    let updated = update(&mut ann, &cid, json!({"participants": {"remove": [carl.id()]}})).await;
    assert_eq!(updated["participants"], json!([ann.id(), bob.id()]));

    let kicked = carl.next().await;
    assert_eq!(kind(&kicked), "conversation_kicked");
    let shown = &kicked["event"]["conversation_kicked"];
    for field in ["_id", "name", "type", "owner_id", "created_at", "updated_at", "organization_id"] {
        assert_eq!(shown[field], updated[field], "{field}");
    }
    assert!(shown.get("participants").is_none(), "{kicked}");
    assert_eq!(kicked["system_message"]["cid"], cid.as_str());
    let removed = ann.next().await["message"].take();
    assert_eq!(
        (&removed["x"]["type"], &removed["x"]["user"]["_id"]),
        (&json!("removed_participant"), &json!(carl.id()))
    );
    ann.send_message(&cid, "later").await;
    assert_eq!(kinds_until(&mut bob, "later").await, ["removed_participant", "conversation_updated"]);

    for (name, payload) in [
        ("message_list", json!({"cid": cid})),
        ("message_read", json!({"cid": cid, "ids": [sent.server_mid]})),
        ("conversation_update", json!({"id": cid, "name": "X"})),
    ] {
        carl.refused(name, payload, 403, "access_denied").await;
    }
    carl.message_refused(json!({"cid": cid, "body": "hi"}), 403, "access_denied").await;
    assert!(carl.list_conversations(json!({})).await.is_empty());
    assert!(carl.drain().is_empty());
}

#[tokio::test]
async fn an_owner_who_removes_himself_is_followed_by_another_member() {
    let Team { mut ann, mut bob, mut carl, cid, .. } = Team::new().await;
    update(&mut ann, &cid, json!({"admins": {"add": [carl.id()]}})).await;
    for member in [&mut bob, &mut carl] {
        assert_eq!(kind(&member.next().await), "conversation_updated");
    }
    // An admin cannot reach above himself, whatever else he asks for.
    for (list, ids) in [("participants", json!([bob.id(), ann.id()])), ("admins", json!([ann.id()]))] {
        let payload = json!({"id": cid, "name": "Mine", list: {"remove": ids}});
        carl.refused("conversation_update", payload, 403, "access_denied").await;
    }
    let unchanged = ann.listed_conversation(&cid).await;
    assert_eq!((&unchanged["owner_id"], &unchanged["name"]), (&json!(ann.id()), &json!("Team")));

    let mut second = ann.another_socket(Device::Other).await;
    let (herself, heir) = (ann.id().to_owned(), carl.id().to_owned());
    let updated = update(&mut ann, &cid, json!({"participants": {"remove": [herself]}})).await;
    assert_eq!(updated["owner_id"], heir, "the admin, though Bob was there as long");
    for socket in [&mut ann, &mut second] {
        assert_eq!(kind(&socket.next().await), "conversation_kicked");
    }
    for member in [&mut bob, &mut carl] {
        assert_eq!(kind(&member.next().await), "removed_participant");
        let told = member.next().await;
        assert_eq!(told["event"]["conversation_updated"]["owner_id"], heir);
    }
    // He does what owners do, and she no longer.
    update(&mut carl, &cid, json!({"participants": {"add": [ann.id()]}})).await;
    ann.expect("the created packet", |packet| packet["event"]["conversation_created"].is_object()).await;
    ann.refused("conversation_update", json!({"id": cid, "name": "X"}), 403, "access_denied").await;
}

#[tokio::test]
async fn too_many_members_are_refused_and_nothing_of_the_request_is_done() {
    let Pair { mut ann, org, bob, .. } = Pair::new().await;
    let made =
        ann.succeed("conversation_create", json!({"type": "g", "name": "Team", "participants": [bob.id()]})).await;
    let cid = text(&made["conversation"], "_id").to_owned();
    let mut ids = Vec::new();
    for number in 0..49 {
        ids.push(org.sign_up(&format!("user{number}")).await.id);
    }
    let payload = json!({"id": cid, "name": "Too many", "participants": {"add": ids}});
    ann.refused("conversation_update", payload, 422, "participants_limit").await;
    assert_eq!(ann.listed_conversation(&cid).await["name"], "Team");
    let full = update(&mut ann, &cid, json!({"participants": {"add": ids[..48]}})).await;
    assert_eq!(full["participants"].as_array().map(Vec::len), Some(50));
    // Who is in it already takes no place, and who goes makes one.
    update(&mut ann, &cid, json!({"participants": {"add": ids[..48]}, "name": "Full"})).await;
    let swapped = update(&mut ann, &cid, json!({"participants": {"add": [ids[48]], "remove": [ids[0]]}})).await;
    assert_eq!(swapped["participants"].as_array().map(Vec::len), Some(50));

    let channel = ann.succeed("conversation_create", json!({"type": "c", "name": "News"})).await;
    let channel = text(&channel["conversation"], "_id").to_owned();
    ids.push(bob.id().to_owned());
    let grown = update(&mut ann, &channel, json!({"participants": {"add": ids}})).await;
    assert_eq!(grown["subscribers_count"], 51);
}

#[tokio::test]
async fn admins_come_and_go() {
    let team = Team::new().await;
    let (mut dora, Team { mut ann, mut bob, cid, .. }) = (team.dora().await, team);
    let updated = update(&mut ann, &cid, json!({"admins": {"add": [dora.id()]}})).await;
    assert!(updated["participants"].as_array().is_some_and(|ids| ids.contains(&json!(dora.id()))));
    assert_eq!(kind(&dora.next().await), "conversation_created+conversation_updated");
    assert_eq!(kind(&dora.next().await), "added_participant");
    update(&mut dora, &cid, json!({"name": "Dora was here"})).await;
    update(&mut ann, &cid, json!({"admins": {"remove": [dora.id()]}})).await;
    dora.refused("conversation_update", json!({"id": cid, "name": "X"}), 403, "access_denied").await;
    assert_eq!(dora.listed_conversation(&cid).await["name"], "Dora was here");

    update(&mut ann, &cid, json!({"admins": {"add": [bob.id()]}})).await;
    let himself = bob.id().to_owned();
    update(&mut bob, &cid, json!({"admins": {"remove": [himself]}})).await;
    bob.refused("conversation_update", json!({"id": cid, "name": "X"}), 403, "access_denied").await;
}

#[tokio::test]
async fn an_admin_of_a_channel_writes_in_it() {
    let Team { mut ann, mut bob, mut carl, .. } = Team::new().await;
    let channel = ann.create_channel(&mut [&mut bob, &mut carl]).await;
    bob.message_refused(json!({"cid": channel, "body": "no"}), 403, "access_denied").await;
    let updated = update(&mut ann, &channel, json!({"admins": {"add": [bob.id()]}})).await;
    assert_eq!(updated["subscribers_count"], 3);
    assert!(updated.get("participants").is_none(), "{updated}");
    bob.send_message(&channel, "yes").await;
    assert_eq!(kinds_until(&mut carl, "yes").await, ["conversation_updated"]);
}

#[tokio::test]
async fn either_side_updates_a_private_conversation_but_not_who_is_in_it() {
    let Pair { mut ann, mut bob, org, cid } = Pair::new().await;
    let mut carl = org.client("carl").await;
    carl.refused("conversation_update", json!({"id": cid, "name": "X"}), 403, "access_denied").await;
    let payload =
        json!({"description": "ours", "image_object": {"file_id": "f"}, "participants": {}, "admins": {"add": []}});
    let updated = update(&mut bob, &cid, payload).await;
    assert_eq!((&updated["description"], &updated["owner_id"]), (&json!("ours"), &json!(ann.id())));
    assert_eq!(ann.next().await["event"], json!({"conversation_updated": updated}));
    for list in ["participants", "admins"] {
        for change in ["add", "remove"] {
            let payload = json!({"id": cid, "name": "X", list: {change: [carl.id()]}});
            ann.refused("conversation_update", payload, 400, "conversation_type_unsuitable").await;
        }
    }
    bob.send_message(&cid, "later").await;
    ann.expect_nothing_until_message("later").await;
    assert!(ann.listed_conversation(&cid).await.get("name").is_none());
}

#[tokio::test]
async fn a_description_is_cleared_and_a_new_picture_is_said_in_the_group() {
    let Team { mut ann, mut bob, mut carl, cid, .. } = Team::new().await;
    let described = update(&mut ann, &cid, json!({"description": "the team"})).await;
    assert_eq!(described["description"], "the team");
    let cleared = update(&mut ann, &cid, json!({"description": ""})).await;
    assert!(cleared.get("description").is_none(), "{cleared}");
    let pictured = update(&mut ann, &cid, json!({"image_object": {"file_id": "gone", "file_name": null}})).await;
    assert_eq!(pictured["image_object"], json!({"file_id": "gone"}));
    assert!(pictured.get("image_url").is_none(), "{pictured}");
    let message = ann.next().await["message"].take();
    assert_eq!(message["x"]["type"], "update_image");
    assert_eq!(message["x"]["conversation"]["image_object"], json!({"file_id": "gone"}));
    for field in ["_id", "name", "updated_at", "created_at"] {
        assert_eq!(message["x"]["conversation"][field], pictured[field], "{field}");
    }
    let body = text(&message, "body").to_owned();
    for member in [&mut bob, &mut carl] {
        assert_eq!(kinds_until(member, &body).await, ["conversation_updated"; 2]);
        assert_eq!(kind(&member.next().await), "conversation_updated");
    }
    assert_eq!(bob.listed_conversation(&cid).await["last_message"]["body"], body);
}

#[tokio::test]
async fn an_emptied_group_is_gone_and_everybody_is_told() {
    let Team { mut ann, mut bob, mut carl, cid, .. } = Team::new().await;
    ann.send_message(&cid, "last words").await;
    for member in [&mut bob, &mut carl] {
        member.expect_message("last words").await;
    }
    let everybody = json!([ann.id(), bob.id(), carl.id()]);
    let response = ann.succeed("conversation_update", json!({"id": cid, "participants": {"remove": everybody}})).await;
    assert_eq!(response["deleted"], true);
    assert_eq!((&response["conversation"]["_id"], &response["conversation"]["name"]), (&json!(cid), &json!("Team")));
    for member in [&mut ann, &mut bob, &mut carl] {
        assert_eq!(kind(&member.next().await), "conversation_kicked");
        member.refused("message_list", json!({"cid": cid}), 404, "conversation_not_found").await;
    }
    ann.refused("conversation_update", json!({"id": cid, "name": "X"}), 400, "conversation_unknown").await;
}

#[tokio::test]
async fn messages_and_updates_of_many_come_in_one_order_with_rising_stamps() {
    let stack = TestStack::organization().await;
    let Team { mut ann, mut bob, mut carl, cid, .. } = Team::of(stack).await;
    let mut second = ann.another_socket(Device::Other).await;
    let pictures = async {
        for number in 0..15 {
            update(&mut ann, &cid, json!({"image_object": {"file_id": format!("f{number}")}})).await;
        }
    };
    let messages = async { bob.send_messages(&cid, (0..100).map(|number| format!("m{number}"))).await };
    tokio::join!(pictures, messages);
    ann.send_message(&cid, "the end").await;
    let of = |packets: Vec<Value>| -> Vec<String> {
        let messages = packets.iter().filter(|packet| packet["message"].is_object());
        messages.map(|packet| text(&packet["message"], "_id").to_owned()).collect()
    };
    let seen = of(carl.everything_until("the end", |packet| is_message(packet, "the end")).await);
    assert_eq!(seen.len(), 115);
    assert!(seen.is_sorted(), "in the order of their stamps: {seen:?}");
    assert_eq!(of(second.everything_until_message("the end").await), seen);
    let listed = carl.list_messages(json!({"cid": cid, "limit": 100})).await;
    let stamps: Vec<_> = listed.iter().map(|message| text(message, "created_at")).collect();
    assert!(stamps.windows(2).all(|pair| pair[0] > pair[1]), "{stamps:?}");
    assert!(listed.iter().all(|message| integer(message, "t") > 0));
}
