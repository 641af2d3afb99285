//! The server dies, hangs and comes back.

use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::time::Duration;

use proto::ids::ConversationId;
use tokio::task::JoinSet;

use super::{Stage, connect, event, eventually};
use crate::publish::{Publisher, PublisherParts, StreamPublisher};

/// Publishes in many conversations until told to stop; returns which events were said to be safe.
struct Load {
    senders: JoinSet<(ConversationId, Vec<u64>)>,
    stop: tokio_util::sync::CancellationToken,
}

impl Load {
    fn start(stage: &Stage, conversations: usize) -> Self {
        let (mut senders, stop) = (JoinSet::new(), tokio_util::sync::CancellationToken::new());
        for _ in 0..conversations {
            let (publisher, stamps, stop) = (stage.publisher.clone(), stage.stamps.clone(), stop.clone());
            let conversation = stage.conversation();
            senders.spawn(async move {
                let mut safe = Vec::new();
                let mut frame = 0;
                while !stop.is_cancelled() {
                    // Two at a time, so that one waits behind the other.
                    let calls = [frame, frame + 1]
                        .map(|frame| publisher.publish(event(stamps.new_id().into(), conversation, frame)));
                    for (call, frame) in calls.into_iter().zip(frame..) {
                        if call.await.is_ok() {
                            safe.push(frame);
                        }
                    }
                    frame += 2;
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
                (conversation, safe)
            });
        }
        Self { senders, stop }
    }

    async fn end(self) -> HashMap<ConversationId, Vec<u64>> {
        self.stop.cancel();
        self.senders.join_all().await.into_iter().collect()
    }
}

/// Everything that was said to be safe is in the stream, once and in order.
async fn check(stage: &Stage, safe: HashMap<ConversationId, Vec<u64>>) {
    let mut in_stream: HashMap<_, Vec<_>> = HashMap::new();
    for (conversation, frame) in stage.in_stream().await {
        in_stream.entry(conversation).or_default().push(frame);
    }
    for (conversation, safe) in safe {
        let frames = in_stream.remove(&conversation).unwrap_or_default();
        assert!(frames.is_sorted_by(|a, b| a < b), "doubled or out of order: {frames:?}");
        let lost: Vec<_> = safe.iter().filter(|frame| frames.binary_search(frame).is_err()).collect();
        assert!(lost.is_empty(), "lost: {lost:?} of {} with {} in the stream", safe.len(), frames.len());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs TEST_NATS_SERVER: run by tests/run"]
async fn a_server_killed_under_load_loses_doubles_and_reorders_nothing() {
    let mut stage = Stage::set().await;
    let load = Load::start(&stage, 12);
    for _ in 0..5 {
        tokio::time::sleep(Duration::from_millis(300)).await;
        stage.server.kill();
        let puts = stage.outbox.puts();
        eventually("events to go to the outbox", async || stage.outbox.puts() > puts + 20).await;
        stage.server.restart().unwrap();
        eventually("events to go to the stream", async || stage.publisher.is_open()).await;
    }
    let safe = load.end().await;
    stage.publisher.finish(super::PATIENCE).await;
    assert!(safe.values().map(Vec::len).sum::<usize>() > 200);
    assert_eq!(stage.outbox.len(), 0, "what has left is removed");
    check(&stage, safe).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs TEST_NATS_SERVER: run by tests/run"]
async fn a_server_that_hangs_under_load_loses_doubles_and_reorders_nothing() {
    let stage = Stage::set().await;
    let load = Load::start(&stage, 12);
    // Once shorter than the client needs to notice, once longer.
    for hang in [Duration::from_secs(2), Duration::from_secs(9)] {
        tokio::time::sleep(Duration::from_millis(300)).await;
        stage.server.freeze().unwrap();
        tokio::time::sleep(hang).await;
        stage.server.thaw().unwrap();
        eventually("events to go to the stream", async || stage.publisher.is_open()).await;
    }
    let safe = load.end().await;
    stage.publisher.finish(super::PATIENCE).await;
    assert!(stage.outbox.puts() > 100);
    check(&stage, safe).await;
}

#[tokio::test]
#[ignore = "needs TEST_NATS_SERVER: run by tests/run"]
async fn while_the_server_is_away_events_are_safe_in_the_outbox_and_leave_before_newer_ones() {
    let mut stage = Stage::set().await;
    let conversation = stage.conversation();
    stage.publisher.publish(stage.event(conversation, 0)).await.unwrap();
    stage.server.kill();
    for frame in 1..=50 {
        let begun = tokio::time::Instant::now();
        stage.publisher.publish(stage.event(conversation, frame)).await.unwrap();
        assert!(begun.elapsed() < Duration::from_millis(1_500), "{:?}", begun.elapsed());
    }
    assert_eq!(stage.outbox.len(), 50);
    stage.server.restart().unwrap();
    for frame in 51..=100 {
        stage.publisher.publish(stage.event(conversation, frame)).await.unwrap();
    }
    eventually("events to go to the stream", async || stage.publisher.is_open()).await;
    stage.publisher.publish(stage.event(conversation, 101)).await.unwrap();
    stage.publisher.finish(super::PATIENCE).await;
    assert_eq!(stage.frames_in_stream(conversation).await, (0..=101).collect::<Vec<_>>());
    assert_eq!(stage.outbox.len(), 0);
}

#[tokio::test]
#[ignore = "needs TEST_NATS_SERVER: run by tests/run"]
async fn a_bucket_of_the_outbox_is_removed_while_the_publisher_lives() {
    let mut stage = Stage::set().await;
    let conversation = stage.conversation();
    stage.server.kill();
    stage.publisher.publish(stage.event(conversation, 0)).await.unwrap();
    assert_eq!(stage.outbox.len(), 1);
    stage.server.restart().unwrap();
    stage.until_the_outbox_is_empty().await;
    assert_eq!(stage.frames_in_stream(conversation).await, [0]);
}

#[tokio::test]
#[ignore = "needs TEST_NATS_SERVER: run by tests/run"]
async fn without_stream_and_outbox_a_call_fails_and_its_event_still_leaves() {
    let mut stage = Stage::set().await;
    let conversation = stage.conversation();
    stage.server.kill();
    stage.outbox.fails.store(true, Ordering::SeqCst);
    stage.publisher.publish(stage.event(conversation, 1)).await.unwrap_err();
    stage.outbox.fails.store(false, Ordering::SeqCst);
    stage.publisher.publish(stage.event(conversation, 2)).await.unwrap();
    stage.server.restart().unwrap();
    eventually("events to go to the stream", async || stage.publisher.is_open()).await;
    stage.publisher.publish(stage.event(conversation, 3)).await.unwrap();
    stage.publisher.finish(super::PATIENCE).await;
    assert_eq!(stage.frames_in_stream(conversation).await, [1, 2, 3]);
}

#[tokio::test]
#[ignore = "needs TEST_NATS_SERVER: run by tests/run"]
async fn a_stream_that_was_lost_is_made_again() {
    let mut stage = Stage::set().await;
    let conversation = stage.conversation();
    stage.publisher.publish(stage.event(conversation, 1)).await.unwrap();
    stage.server.kill();
    eventually("the loss of the connection", async || !stage.publisher.is_open()).await;
    stage.server.lose_store().unwrap();
    stage.server.restart().unwrap();
    stage.publisher.publish(stage.event(conversation, 2)).await.unwrap();
    eventually("events to go to the stream", async || stage.publisher.is_open()).await;
    stage.publisher.publish(stage.event(conversation, 3)).await.unwrap();
    stage.publisher.finish(super::PATIENCE).await;
    assert_eq!(stage.frames_in_stream(conversation).await, [2, 3]);
}

#[tokio::test]
#[ignore = "needs TEST_NATS_SERVER: run by tests/run"]
async fn what_a_dead_process_left_in_the_outbox_leaves_through_another_once_and_in_order() {
    let mut stage = Stage::set().await;
    let conversation = stage.conversation();
    stage.publisher.publish(stage.event(conversation, 0)).await.unwrap();
    stage.server.freeze().unwrap();
    // Sent, but nobody knows whether it arrived.
    stage.publisher.publish(stage.event(conversation, 1)).await.unwrap();
    for frame in 2..10 {
        stage.publisher.publish(stage.event(conversation, frame)).await.unwrap();
    }
    // The process dies.
    stage.publisher.stop.cancel();
    stage.publisher.tasks.close();
    stage.publisher.tasks.wait().await;
    stage.server.kill();
    stage.server.restart().unwrap();

    let parts = PublisherParts {
        client: connect(&stage.server).await,
        stream: super::settings(),
        outbox: stage.outbox.clone(),
        run: stage.stamps.new_id().into(),
        stamps: stage.stamps.clone(),
        max_unpublished_bytes: 1 << 20,
    };
    let heir = StreamPublisher::start(parts).await.unwrap();
    assert_eq!(stage.outbox.len(), 9);
    heir.take_over(stage.run).await.unwrap();
    assert_eq!(stage.outbox.len(), 0);
    assert_eq!(stage.frames_in_stream(conversation).await, (0..10).collect::<Vec<_>>());
}
