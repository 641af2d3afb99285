//! The stream as core makes it, and what keeps core from starting.

use std::sync::Arc;
use std::time::Duration;

use async_nats::connection::State;
use async_nats::jetstream::stream::{Config, StorageType};
use components::{Nats, nats};
use futures_util::StreamExt;
use prost::Message as _;
use proto::ids::{IdGenerator, Timestamp, UserId};
use proto::v1;

use super::{MemoryOutbox, Stage, cell, connect, eventually, settings};
use crate::domain::clock::{Clock, Stamps, SystemClock};
use crate::domain::conversation::ConversationType;
use crate::domain::event::{NoticePublisher, Typing};
use crate::publish::nats::{StreamError, StreamSettings};
use crate::publish::notices::NatsNotices;
use crate::publish::{Publisher, PublisherParts, StreamPublisher};

async fn start(server: &Nats, stream: StreamSettings, stamps: Stamps) -> Result<StreamPublisher, StreamError> {
    let stamps = Arc::new(stamps);
    StreamPublisher::start(PublisherParts {
        client: connect(server).await,
        stream,
        outbox: Arc::new(MemoryOutbox::default()),
        run: stamps.new_id().into(),
        stamps,
        max_unpublished_bytes: 1 << 20,
    })
    .await
}

async fn config(server: &Nats) -> Config {
    let context = async_nats::jetstream::new(connect(server).await);
    let stream = context.get_stream(cell().stream()).await.unwrap();
    stream.cached_info().config.clone()
}

#[tokio::test]
#[ignore = "needs TEST_NATS_SERVER: run by tests/run"]
async fn the_stream_is_made_once_and_never_weakened() {
    let server = Nats::start().unwrap();
    let more = StreamSettings { max_bytes: 128 * 1024 * 1024, ..settings() };
    start(&server, more, Stamps::of_this_process()).await.unwrap();
    let made = config(&server).await;
    assert_eq!(made.subjects, ["test.conversation.*", "test.user.*"]);
    assert_eq!((made.storage, made.max_age), (StorageType::File, Duration::from_secs(86_400)));
    assert_eq!(made.duplicate_window, Duration::from_secs(120));
    assert!(made.deny_delete && made.deny_purge);
    assert_eq!((made.max_messages, made.max_messages_per_subject, made.max_message_size), (-1, -1, -1));

    start(&server, settings(), Stamps::of_this_process()).await.unwrap();
    assert_eq!(config(&server).await, made);
    let most = StreamSettings { max_bytes: 256 * 1024 * 1024, ..settings() };
    start(&server, most, Stamps::of_this_process()).await.unwrap();
    assert_eq!(config(&server).await, Config { max_bytes: 256 * 1024 * 1024, ..made });
}

#[tokio::test]
#[ignore = "needs TEST_NATS_SERVER: run by tests/run"]
async fn a_weaker_stream_of_another_maker_is_strengthened() {
    let server = Nats::start().unwrap();
    let context = async_nats::jetstream::new(connect(&server).await);
    let weak = Config {
        name: cell().stream(),
        subjects: vec!["test.user.*".to_owned()],
        max_age: Duration::from_secs(60),
        max_messages_per_subject: 1,
        allow_rollup: true,
        ..Config::default()
    };
    context.create_stream(weak).await.unwrap();
    start(&server, settings(), Stamps::of_this_process()).await.unwrap();
    let strong = config(&server).await;
    assert_eq!(strong.subjects, ["test.user.*", "test.conversation.*"]);
    assert_eq!((strong.max_age, strong.max_messages_per_subject), (Duration::from_secs(86_400), -1));
    assert!(strong.deny_purge && strong.deny_delete && !strong.allow_rollup);
}

#[tokio::test]
#[ignore = "needs TEST_NATS_SERVER: run by tests/run"]
async fn core_does_not_start_with_a_stream_that_could_lose_events() {
    let server = Nats::start().unwrap();
    let context = async_nats::jetstream::new(connect(&server).await);
    let memory = Config { name: cell().stream(), storage: StorageType::Memory, ..Config::default() };
    context.create_stream(memory).await.unwrap();
    let refused = start(&server, settings(), Stamps::of_this_process()).await.err().expect("it is refused");
    assert!(matches!(refused, StreamError::Unusable { .. }), "{refused}");
}

#[tokio::test]
#[ignore = "needs TEST_NATS_SERVER: run by tests/run"]
async fn core_does_not_start_where_messages_are_too_small() {
    let options = nats::Options { configuration: "max_payload: 65536".to_owned(), ..nats::Options::default() };
    let server = Nats::start_with(&options).unwrap();
    let refused = start(&server, settings(), Stamps::of_this_process()).await.err().expect("it is refused");
    assert!(matches!(refused, StreamError::SmallMessages { max_payload: 65_536 }), "{refused}");
}

/// A clock that is wrong by so many milliseconds.
#[derive(Debug)]
struct WrongClock(i64);

impl Clock for WrongClock {
    fn now(&self) -> Timestamp {
        SystemClock.now().plus_millis(self.0)
    }
}

#[tokio::test]
#[ignore = "needs TEST_NATS_SERVER: run by tests/run"]
async fn core_does_not_start_when_the_clocks_differ_by_more_than_two_seconds() {
    let server = Nats::start().unwrap();
    for wrong_by in [-60_000, 60_000] {
        let stamps = Stamps::new(WrongClock(wrong_by), IdGenerator::new([1, 2, 3], 0));
        let refused = start(&server, settings(), stamps).await.err().expect("it is refused");
        let StreamError::ClockSkew { skew_ms } = refused else { panic!("{refused}") };
        assert!((skew_ms + wrong_by).abs() < 5_000, "{skew_ms}");
    }
    let stamps = Stamps::new(WrongClock(500), IdGenerator::new([1, 2, 3], 0));
    assert!(start(&server, settings(), stamps).await.is_ok());
}

#[tokio::test]
#[ignore = "needs TEST_NATS_SERVER: run by tests/run"]
async fn core_starts_without_nats_and_events_leave_when_it_comes() {
    let mut server = Nats::start().unwrap();
    server.kill();
    let outbox = Arc::new(MemoryOutbox::default());
    let stamps = Arc::new(Stamps::of_this_process());
    let client = connect(&server).await;
    let publisher = StreamPublisher::start(PublisherParts {
        client: client.clone(),
        stream: settings(),
        outbox: Arc::clone(&outbox) as _,
        run: stamps.new_id().into(),
        stamps: Arc::clone(&stamps),
        max_unpublished_bytes: 1 << 20,
    })
    .await
    .unwrap();
    let stage = Stage { server, client, outbox, publisher, run: stamps.new_id().into(), stamps };
    let conversation = stage.conversation();
    stage.publisher.publish(stage.event(conversation, 1)).await.unwrap();
    assert_eq!(stage.outbox.len(), 1);
    let Stage { mut server, client, outbox, publisher, stamps, run } = stage;
    server.restart().unwrap();
    eventually("events to go to the stream", async || publisher.is_open()).await;
    let stage = Stage { server, client, outbox, publisher, stamps, run };
    stage.publisher.publish(stage.event(conversation, 2)).await.unwrap();
    stage.publisher.finish(super::PATIENCE).await;
    assert_eq!(stage.frames_in_stream(conversation).await, [1, 2]);
}

#[tokio::test]
#[ignore = "needs TEST_NATS_SERVER: run by tests/run"]
async fn notices_reach_who_listens_and_are_dropped_while_nobody_can() {
    let mut server = Nats::start().unwrap();
    let (client, listener) = (connect(&server).await, connect(&server).await);
    let mut notices = listener.subscribe(cell().all_notices()).await.unwrap();
    listener.flush().await.unwrap();
    client.flush().await.unwrap();
    let publisher = NatsNotices::new(client.clone(), cell());
    let typing = |at| Typing {
        recipients: vec![UserId::from_bytes([2; 12])],
        conversation_id: proto::ids::ConversationId::from_bytes([3; 12]),
        conversation_type: ConversationType::Private,
        from: UserId::from_bytes([1; 12]),
        at,
        client_id: None,
        state: None,
    };
    // Told until it is heard: that the listener is known there is not said, and which of the two is back first is open.
    let mut hear = async |at| {
        let mut heard = None;
        eventually("a notice", async || {
            publisher.publish_typing(typing(at));
            heard = tokio::time::timeout(Duration::from_millis(100), notices.next()).await.ok().flatten();
            let heard = heard.as_ref().map(|heard| v1::Notice::decode(heard.payload.clone()).unwrap());
            assert_ne!(heard, Some(typing(2).into()), "it was told when nobody could hear it");
            heard == Some(typing(at).into())
        })
        .await;
        heard.expect("heard above").subject
    };
    assert_eq!(hear(1).await.as_str(), "test.notice.030303030303030303030303");
    server.kill();
    eventually("the loss of the connection", async || client.connection_state() != State::Connected).await;
    publisher.publish_typing(typing(2));
    server.restart().unwrap();
    hear(3).await;
}
