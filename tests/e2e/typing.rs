//! Typing notices. Acceptance cases 27 and 28 of the protocol's part 2. They travel apart from messages, so absence is
//! shown by a later notice.

use e2e::packets::{assert_error, integer};
use e2e::{Device, TestClient};
use serde_json::{Value, json};

use crate::team::{Pair, Team};

async fn typing_of(client: &mut TestClient, id: &str) -> Value {
    let mut packet = client.expect("a typing notice", |packet| packet["typing"]["id"] == id).await;
    packet["typing"].take()
}

#[tokio::test]
async fn typing_reaches_the_others_and_none_of_ones_own_sockets() {
    for device in Device::BOTH {
        let Team { mut ann, mut bob, mut carl, cid, .. } = Team::new().await;
        let mut second = ann.another_socket(device).await;
        ann.send(json!({"typing": {"id": "t1", "t": 1_673_288_379, "type": "start", "cid": cid}})).await;
        for member in [&mut bob, &mut carl] {
            let wanted = json!({
                "id": "t1", "t": 1_673_288_379, "type": "start", "status": "start", "cid": cid, "c_type": "g",
                "from": ann.id(),
            });
            assert_eq!(typing_of(member, "t1").await, wanted);
        }
        bob.send(json!({"typing": {"id": "t2", "cid": cid, "status": "stop"}})).await;
        for socket in [&mut ann, &mut second] {
            let before = socket.everything_until("Bob's typing", |packet| packet["typing"]["id"] == "t2").await;
            assert!(before.is_empty(), "{before:?}");
        }
        let typing = typing_of(&mut carl, "t2").await;
        assert_eq!((&typing["type"], &typing["status"]), (&json!("stop"), &json!("stop")));
        assert!(integer(&typing, "t") > 1_700_000_000);
    }
}

#[tokio::test]
async fn a_wrapped_typing_gets_no_reply_and_needs_nothing_but_the_conversation() {
    let Pair { mut ann, mut bob, cid, .. } = Pair::new().await;
    ann.send(json!({"request": {"typing": {"cid": cid}, "id": "r1"}})).await;
    let mut packet = bob.expect("typing", |packet| packet["typing"].is_object()).await;
    let typing = packet["typing"].take();
    assert_eq!(typing["from"], ann.id());
    assert_eq!(typing["c_type"], "u");
    for absent in ["type", "status", "id"] {
        assert!(typing.get(absent).is_none(), "{typing}");
    }
    // Replies come in the order of the requests, so this one would come second.
    ann.succeed("ping", json!({})).await;
    assert!(ann.drain().is_empty());
}

#[tokio::test]
async fn typing_is_not_stored() {
    let Pair { mut ann, mut bob, cid, .. } = Pair::new().await;
    ann.send(json!({"typing": {"id": "t1", "cid": cid}})).await;
    typing_of(&mut bob, "t1").await;
    assert!(bob.list_messages(json!({"cid": cid})).await.is_empty());
    assert_eq!(bob.listed_conversation(&cid).await["unread_messages_count"], 0);
}

#[tokio::test]
async fn refusals_of_typing_come_in_the_form_of_the_envelope() {
    let team = Team::new().await;
    let mut stranger = team.org.stranger().await;
    let mut dora = team.dora().await;
    let Team { mut ann, mut bob, cid, .. } = team;
    let channel = ann.create_channel(&mut [&mut bob]).await;
    refused_in_both_forms(&mut stranger, json!({"cid": cid}), 401, "not_authenticated").await;
    refused_in_both_forms(&mut dora, json!({"cid": cid}), 403, "access_denied").await;
    refused_in_both_forms(&mut bob, json!({"cid": channel}), 403, "access_denied").await;
    refused_in_both_forms(&mut ann, json!({}), 422, "cid_missing").await;
    refused_in_both_forms(&mut ann, json!({"cid": "abs"}), 404, "conversation_not_found").await;
    refused_in_both_forms(&mut ann, json!({"cid": cid, "type": "s".repeat(33)}), 422, "validation_failed").await;
    refused_in_both_forms(&mut ann, json!({"cid": cid, "t": "soon"}), 422, "validation_failed").await;
}

async fn refused_in_both_forms(client: &mut TestClient, mut typing: Value, status: u16, code: &str) {
    client.refused("typing", typing.clone(), status, code).await;
    typing["id"] = json!("t1");
    client.send(json!({"typing": typing})).await;
    let packet = client.next().await;
    assert_error(&packet["typing"], status, code);
    assert_eq!(packet["typing"]["id"], "t1");
    // A client would show somebody typing if these came back.
    assert!(packet["typing"].get("cid").is_none() && packet["typing"].get("from").is_none(), "{packet}");
}
