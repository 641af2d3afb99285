//! A graceful stop: sockets are closed with "going away", what was acknowledged is kept, the process ends well.

use std::time::Duration;

use e2e::packets::texts;
use e2e::{Closed, TestClient, TestStack};
use rustix::process::{Signal, kill_process};
use serde_json::json;

use crate::team::Pair;

/// Far below the process's own deadline of ten seconds.
const QUICKLY: Duration = Duration::from_secs(5);

#[tokio::test]
async fn sigterm_closes_every_socket_with_1001_and_ends_with_0() {
    let stack = TestStack::builder().start().await;
    let Pair { mut ann, mut bob, cid, .. } = Pair::of(stack.new_organization().await).await;
    let mut stranger = TestClient::open(&stack).await;
    let session = bob.session().clone();
    ann.send_message(&cid, "the last one").await;
    let (status, took) = stack.terminate().await;
    assert_eq!(status.code(), Some(0));
    assert!(took < QUICKLY, "{took:?}");
    for socket in [&mut ann, &mut bob, &mut stranger] {
        assert_eq!(socket.closed().await, Closed::Code(1001));
    }
    stack.restart().await;
    let listed = session.connect(&stack).await.list_messages(json!({"cid": cid})).await;
    assert_eq!(texts(&listed, "body"), ["the last one"]);
}

#[tokio::test]
async fn ctrl_c_does_the_same() {
    let stack = TestStack::builder().start().await;
    let mut stranger = TestClient::open(&stack).await;
    kill_process(stack.pid(), Signal::INT).unwrap();
    assert_eq!(stranger.closed().await, Closed::Code(1001));
    assert_eq!(stack.ended().await.code(), Some(0));
}

#[tokio::test]
async fn a_stop_under_load_keeps_what_was_acknowledged() {
    let stack = TestStack::builder().start().await;
    let Pair { mut ann, bob, cid, .. } = Pair::of(stack.new_organization().await).await;
    let session = bob.session().clone();
    for number in 0..150 {
        ann.send(json!({"message": {"id": number.to_string(), "cid": cid, "body": number.to_string()}})).await;
    }
    ann.expect("the first acknowledgement", |packet| packet["ask"]["mid"] == "0").await;
    let (status, took) = stack.terminate().await;
    assert_eq!(status.code(), Some(0));
    assert!(took < QUICKLY, "{took:?}");
    assert_eq!(ann.closed().await, Closed::Code(1001));
    let mut acknowledged = vec!["0".to_owned()];
    acknowledged.extend(ann.drain().iter().filter_map(|packet| Some(packet["ask"]["mid"].as_str()?.to_owned())));
    stack.restart().await;
    let listed = session.connect(&stack).await.list_messages(json!({"cid": cid, "limit": 100})).await;
    let stored: Vec<_> = texts(&listed, "body").into_iter().rev().collect();
    // Oldest first, and the last hundred of them at least.
    let shown = acknowledged.len().saturating_sub(100);
    for (position, body) in acknowledged.iter().enumerate().skip(shown) {
        assert!(stored.contains(&body.as_str()), "{position} of {} was acknowledged and is lost", acknowledged.len());
    }
}
