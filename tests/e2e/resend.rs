//! A message sent again: when it is the same message, and when it is another. Acceptance cases 22 to 24 of the
//! protocol's part 2; what a refusal with 503 leaves is shown in `disk`.

use e2e::packets::texts;
use e2e::{Ack, Device, TestClient};
use serde_json::{Value, json};

use crate::team::Team;

async fn bodies(client: &mut TestClient, cid: &str) -> Vec<String> {
    let listed = client.list_messages(json!({"cid": cid})).await;
    texts(&listed, "body").into_iter().rev().map(str::to_owned).collect()
}

#[tokio::test]
async fn an_acknowledged_message_sent_again_on_another_connection_is_the_same_message() {
    for device in Device::BOTH {
        let Team { mut ann, mut bob, mut carl, cid, .. } = Team::new().await;
        let mut open = ann.another_socket(device).await;
        let message = json!({
            "id": "m", "cid": cid, "body": "once", "x": {"b": 1, "a": [2.50, {"d": 1, "c": 2}]},
            "attachments": [{"file_id": "f", "file_width": 3}], "forwarded_message_id": "l",
        });
        let first = ann.send_message_with(message.clone()).await;
        open.expect_message("once").await;
        // While the first connection is open, and in both envelopes.
        assert_eq!(open.send_message_with(message.clone()).await, first);
        open.send(json!({"request": {"message": message, "id": 7}})).await;
        assert_eq!(Ack::read(&open.next().await), first);
        // After it was closed.
        let session = ann.session().clone();
        ann.close().await;
        let mut later = session.connect(bob.stack()).await;
        assert_eq!(later.send_message_with(message).await, first);
        bob.send_message(&cid, "later").await;
        for socket in [&mut open, &mut later] {
            socket.expect_nothing_until_message("later").await;
        }
        let before = carl.everything_until_message("later").await;
        assert_eq!(before.len(), 1, "{before:?}");
        assert_eq!(bodies(&mut carl, &cid).await, ["once", "later"]);
    }
}

#[tokio::test]
async fn keys_in_another_order_are_the_same_content() {
    let Team { mut ann, mut bob, cid, .. } = Team::new().await;
    let mut second = ann.another_socket(Device::Same).await;
    let text = |fields: &str| format!(r#"{{"message":{{{fields}}}}}"#);
    ann.send_text(text(&format!(r#""id":"m","cid":"{cid}","body":"b","x":{{"k":1.0,"l":{{"a":1,"b":2}}}}"#))).await;
    let first = Ack::read(&ann.next().await);
    second.expect_message("b").await;
    second.send_text(text(&format!(r#""x":{{"l":{{"b":2,"a":1}},"k":1.0}},"body":"b","id":"m","cid":"{cid}""#))).await;
    assert_eq!(Ack::read(&second.next().await), first);
    assert_eq!(bodies(&mut bob, &cid).await, ["b"]);
}

#[tokio::test]
async fn one_connection_may_use_an_id_twice() {
    let Team { mut ann, mut bob, cid, .. } = Team::new().await;
    let message = json!({"id": "m", "cid": cid, "body": "twice"});
    let first = ann.send_message_with(message.clone()).await;
    let second = ann.send_message_with(message).await;
    assert_ne!(first.server_mid, second.server_mid);
    assert_eq!(bob.expect_message("twice").await["_id"], first.server_mid.as_str());
    assert_eq!(bob.expect_message("twice").await["_id"], second.server_mid.as_str());
}

#[tokio::test]
async fn the_newest_of_several_is_repeated() {
    let Team { mut ann, mut bob, cid, .. } = Team::new().await;
    let mut second = ann.another_socket(Device::Same).await;
    let message = json!({"id": "m", "cid": cid, "body": "twice"});
    ann.send_message_with(message.clone()).await;
    let newest = ann.send_message_with(message.clone()).await;
    assert_eq!(second.send_message_with(message).await, newest);
    assert_eq!(bodies(&mut bob, &cid).await, ["twice", "twice"]);
}

#[tokio::test]
async fn any_difference_makes_another_message() {
    let Team { mut ann, mut bob, mut carl, cid, .. } = Team::new().await;
    let private = ann.create_private(&mut bob).await;
    let mut second = ann.another_socket(Device::Same).await;
    let whole = json!({
        "id": "m", "cid": cid, "body": "b", "x": {"k": 1}, "attachments": [{"file_id": "f"}], "deleted_for": ["abs"],
    });
    let first = ann.send_message_with(whole.clone()).await.server_mid;
    let with = |key: &str, value: Value| {
        let mut changed = whole.clone();
        changed[key] = value;
        changed
    };
    let changed = [
        with("body", json!("c")),
        with("cid", json!(private)),
        with("x", json!({"k": 1.0})),
        with("x", Value::Null),
        with("attachments", json!([{"file_id": "f", "file_name": "g"}])),
        with("deleted_for", json!([])),
        with("id", json!("n")),
        with("id", Value::Null),
        with("id", Value::Null),
    ];
    let mut ids = vec![first];
    for message in changed {
        ids.push(second.send_message_with(message).await.server_mid);
    }
    // The same by another user.
    ids.push(carl.send_message_with(whole).await.server_mid);
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), 11);
}

#[tokio::test]
async fn two_copies_at_the_same_moment_are_one_message() {
    let Team { mut ann, mut bob, mut carl, cid, .. } = Team::new().await;
    let (mut one, mut two) = (ann.another_socket(Device::Same).await, ann.another_socket(Device::Other).await);
    for number in 0..20 {
        let message = json!({"id": "m", "cid": cid, "body": format!("copy {number}")});
        let (first, second) = tokio::join!(one.send_message_with(message.clone()), two.send_message_with(message));
        assert_eq!(first, second);
    }
    carl.send_message(&cid, "later").await;
    for member in [&mut ann, &mut bob] {
        let before = member.everything_until_message("later").await;
        assert_eq!(before.len(), 20, "{before:?}");
    }
    // Each copy may reach the sender's other connection as an event, but at most once.
    for socket in [&mut one, &mut two] {
        let before = socket.everything_until_message("later").await;
        let mut seen: Vec<_> =
            texts(&before.iter().map(|packet| packet["message"].clone()).collect::<Vec<_>>(), "body")
                .into_iter()
                .map(str::to_owned)
                .collect();
        let got = seen.len();
        seen.dedup();
        assert_eq!(seen.len(), got);
    }
    assert_eq!(bodies(&mut bob, &cid).await.len(), 21);
}

#[tokio::test]
async fn a_resend_is_recognised_before_the_fields_of_the_conversation_are_looked_at() {
    let Team { mut ann, mut bob, cid, .. } = Team::new().await;
    let replied = bob.send_message(&cid, "first").await.server_mid;
    let message = json!({"id": "m", "cid": cid, "body": "reply", "replied_message_id": replied});
    let first = ann.send_message_with(message.clone()).await;
    let mut second = ann.another_socket(Device::Same).await;
    assert_eq!(second.send_message_with(message).await, first);
}
