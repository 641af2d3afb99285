//! The largest page there can be arrives whole: 100 messages of the largest size, 46 MB of JSON.

use e2e::TestStack;
use e2e::wire::RawSocket;
use serde_json::{Value, json};

/// A message with every field as large as it may be.
fn largest(cid: &str) -> Value {
    // Texts are limited by their characters, so those of four bytes make the largest; bodies by UTF-16 units, where a
    // character of three bytes in one unit does.
    let text = |characters: usize| "\u{1F600}".repeat(characters);
    let mut attachment = json!({
        "file_id": text(255), "file_name": text(255), "file_blur_hash": text(255), "file_content_type": text(255),
        "file_url": text(2048), "file_size": 104_857_601, "file_width": 10_000, "file_height": 10_000,
    });
    attachment["other"] = json!("o".repeat(8 * 1024 - json!({"other": ""}).to_string().len()));
    let x = "x".repeat(64 * 1024 - json!({"x": ""}).to_string().len());
    json!({
        "cid": cid, "body": "\u{20AC}".repeat(65_536), "x": {"x": x}, "attachments": vec![attachment; 10],
        "forwarded_message_id": text(64),
    })
}

#[tokio::test]
async fn a_page_of_46_mb_arrives() {
    let org = TestStack::organization().await;
    let (mut ann, bob) = tokio::join!(org.client("ann"), org.sign_up("bob"));
    let payload = json!({"type": "g", "name": "Library", "participants": [bob.id]});
    let response = ann.succeed("conversation_create", payload).await;
    let message = largest(response["conversation"]["_id"].as_str().unwrap());
    for _ in 0..100 {
        ann.send_message_with(message.clone()).await;
    }

    let mut socket = RawSocket::open(org.stack().gateway()).await;
    socket.bind(&bob.log_in(org.stack(), "d").await).await;
    socket.send(&json!({"request": {"message_list": {"cid": message["cid"], "limit": 100}, "id": "page"}})).await;
    let page = socket.text().await;
    assert!(page.len() > 46_000_000, "{} bytes", page.len());
    let page: Value = serde_json::from_str(&page).unwrap();
    let messages = page["response"]["messages"].as_array().unwrap();
    assert_eq!(messages.len(), 100);
    for listed in messages {
        for field in ["body", "x", "attachments", "forwarded_message_id"] {
            assert!(listed[field] == message[field], "{field} did not survive");
        }
    }
    // The socket goes on as ever.
    socket.send(&json!({"ping": {}, "id": 1})).await;
    assert_eq!(socket.packet().await, json!({"response": {"id": 1, "pong": {}}}));
}
