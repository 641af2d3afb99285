//! Several sockets of one user: who gets what, and what binding, rebinding and logging out do. Conformance points 11
//! and 13 of the protocol's part 1.

use e2e::packets::is_message;
use e2e::{Closed, Device};
use serde_json::json;

use crate::team::{Pair, Team};

#[tokio::test]
async fn two_sockets_on_one_device_and_one_on_another_all_get_the_message_once() {
    let Pair { mut ann, mut bob, cid, .. } = Pair::new().await;
    let (mut same, mut other) = (ann.another_socket(Device::Same).await, ann.another_socket(Device::Other).await);
    same.send_message(&cid, "from the newer socket").await;
    ann.expect_nothing_until_message("from the newer socket").await;
    other.expect_nothing_until_message("from the newer socket").await;
    bob.expect_message("from the newer socket").await;
    // The older one still speaks.
    ann.send_message(&cid, "from the older socket").await;
    for socket in [&mut same, &mut other, &mut bob] {
        socket.expect_nothing_until_message("from the older socket").await;
    }
    bob.send_message(&cid, "answer").await;
    for socket in [&mut ann, &mut same, &mut other] {
        socket.expect_nothing_until_message("answer").await;
    }
}

#[tokio::test]
async fn a_socket_that_connects_as_somebody_else_changes_sides_at_once() {
    let Team { mut ann, mut bob, mut carl, cid, .. } = Team::new().await;
    let mut moving = ann.another_socket(Device::Other).await;
    let private = carl.create_private(&mut bob).await;
    bob.send_message(&cid, "to ann").await;
    moving.expect_message("to ann").await;
    moving.bind(&carl.session().clone()).await;
    bob.send_message(&cid, "to both").await;
    bob.send_message(&private, "to carl alone").await;
    // Once as Carl's, not once more as Ann's.
    moving.expect_nothing_until_message("to both").await;
    moving.expect_nothing_until_message("to carl alone").await;
    moving.send_message(&private, "carl speaks").await;
    assert_eq!(bob.expect_message("carl speaks").await["from"], carl.id());
    bob.send_message(&cid, "the end").await;
    ann.expect("all of it", |packet| is_message(packet, "the end")).await;
}

#[tokio::test]
async fn a_failed_connect_leaves_the_socket_bound() {
    let Pair { mut ann, mut bob, cid, .. } = Pair::new().await;
    ann.connect_refused("garbage", "first device").await;
    ann.refused("connect", json!({"token": ann.session().token.clone()}), 422, "device_id_missing").await;
    bob.send_message(&cid, "still here?").await;
    ann.expect_message("still here?").await;
    ann.send_message(&cid, "yes").await;
}

#[tokio::test]
async fn logging_out_unbinds_every_socket_of_the_device_and_closes_none() {
    let Pair { org, mut ann, mut bob, cid } = Pair::new().await;
    let (mut same, mut other) = (ann.another_socket(Device::Same).await, ann.another_socket(Device::Other).await);
    let response = ann.succeed("user_logout", json!({})).await;
    assert_eq!(response["success"], true);
    ann.refused("user_logout", json!({}), 401, "not_authenticated").await;
    ann.assert_anonymous().await;
    ann.connect_refused(&ann.session().token.clone(), "first device").await;
    bob.send_message(&cid, "who hears me?").await;
    other.expect_message("who hears me?").await;
    // Told by an event of its own, which may come a moment after the reply to the other socket.
    e2e::eventually("the device's other socket to be unbound", async || {
        let response = same.request("conversation_list", json!({})).await;
        (response["error"]["status"] == 401).then_some(())
    })
    .await;
    same.drain();
    let dora = org.sign_up("dora").await;
    ann.bind(&dora.log_in(org.stack(), "first device").await).await;
    let private = ann.create_private(&mut bob).await;
    ann.send_message(&private, "a new face").await;
    bob.expect_message("a new face").await;
    same.assert_anonymous().await;
    assert!(same.drain().is_empty());
}

#[tokio::test]
async fn logging_out_over_http_unbinds_the_devices_sockets() {
    let Pair { org, mut ann, mut bob, cid } = Pair::new().await;
    let mut other = ann.another_socket(Device::Other).await;
    let answer = reqwest::Client::new()
        .post(format!("http://{}/logout", org.stack().gateway()))
        .bearer_auth(&ann.session().token)
        .send()
        .await
        .unwrap();
    assert_eq!(answer.status(), 200);
    e2e::eventually("the device's socket to be unbound", async || {
        let response = ann.request("conversation_list", json!({})).await;
        (response["error"]["status"] == 401).then_some(())
    })
    .await;
    bob.send_message(&cid, "who hears me?").await;
    other.expect_message("who hears me?").await;
    ann.assert_anonymous().await;
    assert!(ann.drain().is_empty());
}

#[tokio::test]
async fn the_twenty_first_socket_of_a_device_pushes_the_oldest_out() {
    let Pair { mut ann, mut bob, cid, .. } = Pair::new().await;
    let mut others = Vec::new();
    for _ in 0..20 {
        others.push(ann.another_socket(Device::Same).await);
    }
    assert_eq!(ann.closed().await, Closed::Code(4409));
    bob.send_message(&cid, "to twenty").await;
    for socket in &mut others {
        socket.expect_nothing_until_message("to twenty").await;
    }
}
