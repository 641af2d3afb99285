//! Sockets that fall silent. Time itself is the matter here, so these run in the long form only; with time held by the
//! test they are shown beside the code.

use std::time::{Duration, Instant};

use e2e::TestStack;
use e2e::wire::{RawFrame, RawSocket, opcode};
use serde_json::json;

#[tokio::test]
#[ignore = "long: run by tests/run --long (waits for more than a minute, which is what it is about)"]
async fn a_client_that_answers_pings_stays_and_one_that_does_not_is_dropped() {
    let org = TestStack::organization().await;
    let mut ann = org.client("ann").await;
    let mut silent = RawSocket::open(org.stack().gateway()).await;
    silent.bind(ann.session()).await;
    let began = Instant::now();
    tokio::time::sleep(Duration::from_secs(75)).await;
    // Nothing was read, so nothing was answered.
    assert_eq!(silent.end().await.0, 0);
    ann.succeed("ping", json!({})).await;
    assert!(began.elapsed() < Duration::from_secs(100));
}

#[tokio::test]
#[ignore = "long: run by tests/run --long (waits for half a minute, which is what it is about)"]
async fn a_frame_that_is_never_finished_ends_the_socket() {
    let stack = TestStack::shared().await;
    let mut socket = RawSocket::open(stack.gateway()).await;
    socket.write(&RawFrame { claimed_bytes: Some(100), ..RawFrame::new(opcode::TEXT, "{") }).await;
    let began = Instant::now();
    tokio::time::sleep(Duration::from_secs(25)).await;
    let (texts, _) = socket.end().await;
    assert_eq!(texts, 0);
    let took = began.elapsed();
    assert!(Duration::from_secs(25) < took && took < Duration::from_secs(45), "{took:?}");
}
