//! Sending a message: its acknowledgement, the event, what is refused. Acceptance cases 1 to 12, 14 to 17, 19 to 21 of
//! the protocol's part 2.

use e2e::packets::{is_message, text, texts};
use e2e::{Ack, Device};
use proto::ids::{MessageId, Timestamp};
use serde_json::json;

use crate::team::{Pair, Team};

#[tokio::test]
async fn a_message_is_acknowledged_with_both_keys_and_reaches_the_others() {
    let Team { mut ann, mut bob, mut carl, cid, .. } = Team::new().await;
    let ack = ann.send_message_with(json!({"id": "m1", "body": "hi", "cid": cid, "x": {"p": 1}})).await;
    assert_eq!(ack.mid, "m1");
    for member in [&mut bob, &mut carl] {
        let message = member.expect_message("hi").await;
        let wanted = json!({
            "_id": ack.server_mid, "t": ack.t, "from": ann.id(), "body": "hi", "cid": cid, "c_type": "g",
            "x": {"p": 1}, "created_at": ack.created_at, "updated_at": ack.created_at,
        });
        assert_eq!(message, wanted);
    }
    bob.send_message(&cid, "later").await;
    ann.expect_nothing_until_message("later").await;
}

#[tokio::test]
async fn a_text_cut_inside_an_emoji_is_sent_with_a_mark_in_its_place() {
    let Pair { mut ann, mut bob, cid, .. } = Pair::new().await;
    let packet = format!(r#"{{"id":"m1","cid":"{cid}","body":"cut \ud83d","x":{{"p":"\ude00"}}}}"#);
    ann.send_text(&format!(r#"{{"message":{packet}}}"#)).await;
    assert_eq!(ann.next().await["ask"]["mid"], "m1");
    assert_eq!(bob.expect_message("cut \u{fffd}").await["x"], json!({"p": "\u{fffd}"}));
}

#[tokio::test]
async fn t_is_created_at_rounded_to_the_second_and_the_id_holds_the_millisecond() {
    let Pair { mut ann, cid, .. } = Pair::new().await;
    for number in 0..20 {
        let ack = ann.send_message(&cid, &number.to_string()).await;
        let stamp = MessageId::parse(&ack.server_mid).expect("an id").timestamp();
        assert_eq!(ack.t, stamp.rounded_seconds());
        assert!(ack.created_at.ends_with(&format!(".{:03}Z", stamp.millis() % 1000)), "{ack:?}");
        assert!(stamp > Timestamp::from_millis(1_700_000_000_000));
    }
}

#[tokio::test]
async fn other_sockets_of_the_sender_get_the_message_once_and_no_acknowledgement() {
    for device in Device::BOTH {
        let Team { mut ann, mut bob, cid, .. } = Team::new().await;
        let mut second = ann.another_socket(device).await;
        let ack = ann.send_message(&cid, "from the first").await;
        assert_eq!(second.expect_message("from the first").await["_id"], ack.server_mid.as_str());
        second.send_message(&cid, "from the second").await;
        ann.expect_nothing_until_message("from the second").await;
        bob.send_message(&cid, "later").await;
        ann.expect_nothing_until_message("later").await;
        second.expect_nothing_until_message("later").await;
    }
}

#[tokio::test]
async fn the_acknowledgement_comes_before_anything_else_of_the_request() {
    let Pair { mut ann, mut bob, cid, .. } = Pair::new().await;
    for number in 0..20 {
        let id = format!("m{number}");
        ann.send(json!({"message": {"id": id, "cid": cid, "body": id}})).await;
        let first = ann.next().await;
        assert_eq!(first["ask"]["mid"], id.as_str(), "{first}");
        bob.expect_message(&id).await;
        bob.send_message(&cid, "answer").await;
        ann.expect_nothing_until_message("answer").await;
    }
}

#[tokio::test]
async fn a_message_wrapped_in_a_request_is_acknowledged_the_same_way() {
    let Team { mut ann, mut bob, cid, .. } = Team::new().await;
    ann.send(json!({"request": {"message": {"id": "u-1", "cid": cid, "body": "wrapped"}, "id": "u-1"}})).await;
    assert_eq!(Ack::read(&ann.next().await).mid, "u-1");
    bob.expect_message("wrapped").await;
    // The id stands first here, and is the acknowledgement's when the message has none.
    ann.send_text(format!(r#"{{"request":{{"id":"r","message":{{"cid":"{cid}","body":"id first"}}}}}}"#)).await;
    assert_eq!(Ack::read(&ann.next().await).mid, "r");
    bob.expect_message("id first").await;
}

#[tokio::test]
async fn ids_of_clients_come_back_exactly() {
    let Team { mut ann, cid, .. } = Team::new().await;
    for id in ["62180e68f4794709f802а3vb", "\u{1F468}\u{200D}\u{1F469}", " ", "\"\\\u{0}", &"i".repeat(255)] {
        let ack = ann.send_message_with(json!({"id": id, "cid": cid, "body": "hi"})).await;
        assert_eq!(ack.mid, id);
    }
    let ack = ann.send_message_with(json!({"cid": cid, "body": "no id anywhere"})).await;
    assert_eq!(ack.mid, ack.server_mid);
    ann.send(json!({"message": {"cid": cid, "body": "a top-level id"}, "id": 77})).await;
    assert_eq!(Ack::read(&ann.next().await).mid, "77");
}

#[tokio::test]
async fn an_id_that_is_no_text_or_too_long_is_refused() {
    let Team { mut ann, cid, .. } = Team::new().await;
    let refused = ann.message_refused(json!({"id": 12312, "cid": cid, "body": "hi"}), 422, "message_id_invalid").await;
    assert_eq!(refused["id"], 12312);
    for id in [String::new(), "i".repeat(256)] {
        ann.message_refused(json!({"id": id, "cid": cid, "body": "hi"}), 422, "message_id_invalid").await;
    }
}

#[tokio::test]
async fn a_conversation_that_is_not_named_not_there_or_not_ones_own_is_refused() {
    let team = Team::new().await;
    let (mut dora, Team { org, mut ann, cid, .. }) = (team.dora().await, team);
    ann.message_refused(json!({"body": "hi"}), 422, "cid_missing").await;
    for unknown in ["abs", "65a000000000000000000001", "6218 0e68"] {
        ann.message_refused(json!({"cid": unknown, "body": "hi"}), 404, "conversation_not_found").await;
    }
    dora.message_refused(json!({"cid": cid, "body": "hi"}), 403, "access_denied").await;
    let mut foreigner = org.stack().new_organization().await.client("ann").await;
    foreigner.message_refused(json!({"cid": cid, "body": "hi"}), 404, "conversation_not_found").await;
}

#[tokio::test]
async fn a_message_needs_a_body_or_an_attachment() {
    let Team { mut ann, mut bob, cid, .. } = Team::new().await;
    for empty in [json!({"cid": cid}), json!({"cid": cid, "body": ""}), json!({"cid": cid, "attachments": []})] {
        ann.message_refused(empty, 422, "message_empty").await;
    }
    let attachment = json!({"file_id": "f", "file_name": "n", "file_blur_hash": null});
    ann.send_message_with(json!({"cid": cid, "body": "", "attachments": [attachment]})).await;
    // As the mobile app sends it: no body at all.
    ann.send_message_with(json!({"cid": cid, "attachments": [attachment]})).await;
    for _ in 0..2 {
        let message = bob.expect_message("").await;
        assert_eq!(message["attachments"], json!([{"file_id": "f", "file_name": "n"}]));
    }
    ann.send_message_with(json!({"cid": cid, "body": "none", "attachments": []})).await;
    assert!(bob.expect_message("none").await.get("attachments").is_none());
}

#[tokio::test]
async fn attachments_are_counted_and_keep_what_the_protocol_does_not_know() {
    let Team { mut ann, mut bob, cid, .. } = Team::new().await;
    let eleven = vec![json!({"file_id": "f"}); 11];
    ann.message_refused(json!({"cid": cid, "attachments": eleven}), 422, "too_many_attachments").await;
    for bad in [json!("f"), json!({"file_width": "wide"}), json!({"file_id": "f".repeat(256)}), json!({"file_id": 1})] {
        ann.message_refused(json!({"cid": cid, "attachments": [bad]}), 422, "attachment_invalid").await;
    }
    let attachment = json!({
        "file_id": "photo_1.jpg", "file_name": "n", "file_blur_hash": "LEHV6nWB2yk8", "file_content_type": "image/jpeg",
        "file_width": 370, "file_height": 754, "file_size": 104_857_601, "shade": {"of": ["grey", 1.50]},
    });
    ann.send_message_with(json!({"cid": cid, "body": "photo", "attachments": [attachment]})).await;
    let message = bob.expect_message("photo").await;
    assert_eq!(message["attachments"], json!([attachment]));
    assert!(message["attachments"][0]["file_width"].is_i64());
}

#[tokio::test]
async fn a_body_may_have_65536_utf_16_units() {
    let Team { mut ann, mut bob, cid, .. } = Team::new().await;
    // A pair of units each.
    for longest in ["a".repeat(65_536), "\u{1F600}".repeat(32_768)] {
        ann.send_message(&cid, &longest).await;
        bob.expect_message(&longest).await;
        let longer = longest + "a";
        ann.message_refused(json!({"cid": cid, "body": longer}), 422, "message_body_too_long").await;
    }
}

#[tokio::test]
async fn x_is_an_object_of_at_most_64_kib_and_unknown_fields_are_ignored() {
    let Team { mut ann, mut bob, cid, .. } = Team::new().await;
    for bad in [json!("str"), json!([1]), json!(1), json!({"long": "l".repeat(65_536)})] {
        let refused = ann.message_refused(json!({"cid": cid, "body": "hi", "x": bad}), 422, "validation_failed").await;
        assert_eq!(refused["error"]["field"], "x");
    }
    let x = json!({"deep": {"list": [1, 2.50, -0, 1e3, null, true, "\u{1F600}"]}, "long": "l".repeat(60_000)});
    ann.send_message_with(json!({"cid": cid, "body": "free", "x": x, "unknown": [{}]})).await;
    let message = bob.expect_message("free").await;
    assert_eq!(message["x"], x);
    assert!(message.get("unknown").is_none());
}

#[tokio::test]
async fn service_markers_in_x_are_the_servers_own() {
    let Team { mut ann, cid, .. } = Team::new().await;
    for reserved in ["added_participant", "removed_participant", "left_participants", "update_image"] {
        let message = json!({"cid": cid, "body": "hi", "x": {"type": reserved, "user": {}}});
        ann.message_refused(message, 422, "reserved_extension").await;
    }
    ann.send_message_with(json!({"cid": cid, "body": "hi", "x": {"type": "sticker"}})).await;
}

#[tokio::test]
async fn a_reply_names_a_visible_message_of_the_same_conversation() {
    let Team { mut ann, mut bob, mut carl, cid, .. } = Team::new().await;
    let elsewhere = bob.create_private(&mut carl).await;
    let first = bob.send_message(&cid, "first").await.server_mid;
    ann.send_message_with(json!({"cid": cid, "body": "reply", "replied_message_id": first})).await;
    assert_eq!(carl.expect_message("reply").await["replied_message_id"], first.as_str());
    let foreign = bob.send_message(&elsewhere, "elsewhere").await.server_mid;
    let hidden =
        bob.send_message_with(json!({"cid": cid, "body": "hidden", "deleted_for": [ann.id()]})).await.server_mid;
    for bad in ["123".to_owned(), foreign, hidden.clone()] {
        let message = json!({"cid": cid, "body": "reply", "replied_message_id": bad});
        ann.message_refused(message, 422, "reply_target_invalid").await;
    }
    carl.send_message_with(json!({"cid": cid, "body": "he may", "replied_message_id": hidden})).await;
}

#[tokio::test]
async fn a_forwarded_id_is_echoed_and_not_looked_up() {
    let Team { mut ann, mut bob, cid, .. } = Team::new().await;
    let message = json!({"cid": cid, "body": "again", "forwarded_message_id": "local-17", "encrypted_message_type": 1});
    let ack = ann.send_message_with(message).await;
    let live = bob.expect_message("again").await;
    let listed = bob.list_messages(json!({"cid": cid, "ids": [ack.server_mid]})).await;
    for shown in [&live, &listed[0]] {
        assert_eq!(shown["forwarded_message_id"], "local-17");
        assert_eq!(shown["encrypted_message_type"], 1);
    }
}

#[tokio::test]
async fn a_message_deleted_for_a_member_does_not_exist_for_him() {
    let Team { mut ann, mut bob, mut carl, cid, .. } = Team::new().await;
    let unknown = "65a000000000000000000001";
    ann.send_message_with(json!({"cid": cid, "body": "secret", "deleted_for": [carl.id(), unknown, "abs"]})).await;
    let message = bob.expect_message("secret").await;
    assert!(message.get("deleted_for").is_none());
    bob.send_message(&cid, "later").await;
    carl.expect_nothing_until_message("later").await;
    assert_eq!(texts(&carl.list_messages(json!({"cid": cid})).await, "body"), ["later"]);
    assert_eq!(carl.listed_conversation(&cid).await["unread_messages_count"], 1);
    assert_eq!(bob.listed_conversation(&cid).await["unread_messages_count"], 1);
}

#[tokio::test]
async fn a_socket_that_is_not_logged_in_sends_nothing() {
    let Pair { org, mut bob, cid, .. } = Pair::new().await;
    let mut stranger = org.stranger().await;
    let refused =
        stranger.message_refused(json!({"id": "m", "cid": cid, "body": "hi"}), 401, "not_authenticated").await;
    assert_eq!(refused["id"], "m");
    bob.send_message(&cid, "alone").await;
    assert_eq!(texts(&bob.list_messages(json!({"cid": cid})).await, "body"), ["alone"]);
}

#[tokio::test]
async fn concurrent_messages_have_one_order_for_everybody() {
    let Team { mut ann, mut bob, mut carl, cid, .. } = Team::new().await;
    let mut watching = bob.another_socket(Device::Same).await;
    let bodies = |name: &'static str| (0..17).map(move |number| format!("{name} {number}"));
    tokio::join!(
        ann.send_messages(&cid, bodies("ann")),
        bob.send_messages(&cid, bodies("bob")),
        carl.send_messages(&cid, bodies("carl")),
    );
    let listed = watching.list_messages(json!({"cid": cid, "limit": 100})).await;
    assert_eq!(listed.len(), 51);
    let stamps = texts(&listed, "created_at");
    assert!(stamps.windows(2).all(|pair| pair[0] > pair[1]), "strictly decreasing: {stamps:?}");
    let oldest_first: Vec<String> = listed.iter().rev().map(|message| text(message, "body").to_owned()).collect();
    for (name, member) in [("nobody", &mut watching), ("ann", &mut ann), ("bob", &mut bob), ("carl", &mut carl)] {
        let wanted = oldest_first.iter().filter(|body| !body.starts_with(name));
        for body in wanted {
            let next = member.next().await;
            assert!(is_message(&next, body), "{name} wants {body}, got {next}");
        }
    }
}
