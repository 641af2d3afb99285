//! What order events leave in, and what leaves only once.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use futures_util::future::try_join_all;
use proto::ids::{EventId, IdGenerator};

use super::{Stage, ago, cell, event, settings};
use crate::publish::Publisher;
use crate::store::StoreError;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs TEST_NATS_SERVER: run by tests/run"]
async fn events_of_each_subject_are_in_the_stream_in_order_once_and_subjects_go_side_by_side() {
    let stage = Stage::set().await;
    let conversations: Vec<_> = (0..20).map(|_| stage.conversation()).collect();
    let mut safe = Vec::new();
    for frame in 0..100 {
        for conversation in &conversations {
            safe.push(stage.publisher.publish(stage.event(*conversation, frame)));
        }
    }
    try_join_all(safe).await.unwrap();
    let mut by_conversation: HashMap<_, Vec<_>> = HashMap::new();
    let in_stream = stage.in_stream().await;
    for (conversation, frame) in &in_stream {
        by_conversation.entry(*conversation).or_default().push(*frame);
    }
    assert_eq!(by_conversation.len(), conversations.len());
    assert!(by_conversation.values().all(|frames| frames.iter().copied().eq(0..100)), "{by_conversation:?}");
    // Side by side: not one conversation after another.
    let first_hundred: std::collections::HashSet<_> = in_stream[..100].iter().map(|(about, _)| about).collect();
    assert!(first_hundred.len() > 1);
}

#[tokio::test]
#[ignore = "needs TEST_NATS_SERVER: run by tests/run"]
async fn a_dropped_call_still_leaves() {
    let stage = Stage::set().await;
    let conversation = stage.conversation();
    drop(stage.publisher.publish(stage.event(conversation, 1)));
    stage.publisher.publish(stage.event(conversation, 2)).await.unwrap();
    assert_eq!(stage.frames_in_stream(conversation).await, [1, 2]);
}

#[tokio::test]
#[ignore = "needs TEST_NATS_SERVER: run by tests/run"]
async fn what_is_published_again_within_the_window_is_in_the_stream_once() {
    let stage = Stage::set().await;
    let conversation = stage.conversation();
    let first = stage.event(conversation, 1);
    stage.publisher.publish(first.clone()).await.unwrap();
    stage.publisher.publish(stage.event(conversation, 2)).await.unwrap();
    stage.publisher.publish(first).await.unwrap();
    stage.publisher.publish(stage.event(conversation, 3)).await.unwrap();
    assert_eq!(stage.frames_in_stream(conversation).await, [1, 2, 3]);
}

#[tokio::test]
#[ignore = "needs TEST_NATS_SERVER: run by tests/run"]
async fn what_is_published_again_beyond_the_window_is_in_the_stream_once() {
    let mut settings = settings();
    settings.duplicate_window = Duration::from_millis(800);
    let stage = Stage::with(settings, 1 << 20).await;
    let conversation = stage.conversation();
    let other = stage.conversation();
    for frame in 0..1_200 {
        stage.publisher.publish(stage.event(other, frame)).await.unwrap();
    }
    let first = stage.event(conversation, 1);
    stage.publisher.publish(first.clone()).await.unwrap();
    for frame in 2..1_000 {
        stage.publisher.publish(stage.event(conversation, frame)).await.unwrap();
    }
    let last = stage.event(conversation, 1_000);
    stage.publisher.publish(last.clone()).await.unwrap();

    // The stream itself has forgotten the ids: an event sent past the publisher is in it twice.
    let context = async_nats::jetstream::new(stage.client.clone());
    let publish_bare = async |id: EventId| {
        let message = async_nats::jetstream::message::PublishMessage::build().message_id(id.to_string());
        let subject = cell().event(crate::publish::in_order::about(event(id, other, 0).subject));
        context.send_publish(subject, message).await.unwrap().await.unwrap().duplicate
    };
    let probe: EventId = stage.stamps.new_id().into();
    assert!(!publish_bare(probe).await);
    let since = Instant::now();
    assert!(publish_bare(probe).await);
    tokio::time::sleep(Duration::from_millis(1_700)).await;
    assert!(
        !publish_bare(probe).await,
        "the window of {:?} was not over after {:?}",
        settings_window(),
        since.elapsed()
    );

    stage.publisher.publish(first).await.unwrap();
    stage.publisher.publish(last).await.unwrap();
    let missing =
        event(IdGenerator::new([9; 3], 0).next(ago(&stage.stamps, Duration::from_secs(5))).into(), conversation, 7_777);
    stage.publisher.publish(missing.clone()).await.unwrap();
    stage.publisher.publish(missing).await.unwrap();
    let ids = stage.publisher.inner.link.stream.ids_since(
        crate::publish::in_order::about(crate::domain::event::Subject::Conversation(conversation)),
        ago(&stage.stamps, Duration::from_secs(60)),
    );
    assert_eq!(ids.await.unwrap().len(), 1_001);
    let context = async_nats::jetstream::new(stage.client.clone());
    let mut stream = context.get_stream(cell().stream()).await.unwrap();
    assert_eq!(stream.info().await.unwrap().state.messages, 1_200 + 1_000 + 2 + 1);
}

fn settings_window() -> Duration {
    Duration::from_millis(800)
}

#[tokio::test]
#[ignore = "needs TEST_NATS_SERVER: run by tests/run"]
async fn more_than_the_allowed_bytes_are_refused_until_the_stream_is_back() {
    let mut stage = Stage::with(settings(), 20_000).await;
    let conversation = stage.conversation();
    stage.server.kill();
    let mut accepted = 0;
    let refused = loop {
        match stage.publisher.publish(stage.event(conversation, accepted)).await {
            Ok(()) => accepted += 1,
            Err(error) => break error,
        }
    };
    assert!(matches!(refused, StoreError::Overloaded), "{refused}");
    assert!((10..40).contains(&accepted), "{accepted} events fit");
    stage.server.restart().unwrap();
    super::eventually("room for another event", async || {
        stage.publisher.publish(stage.event(conversation, accepted)).await.is_ok()
    })
    .await;
    stage.publisher.finish(super::PATIENCE).await;
    assert_eq!(stage.frames_in_stream(conversation).await, (0..=accepted).collect::<Vec<_>>());
}
